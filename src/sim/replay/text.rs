//! Text in HTML: nothing that a name holds ends its element.

use std::fmt::{self, Write};

/// A text in HTML, also inside quotes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in self.0.chars() {
            match it {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                it => f.write_char(it)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_element() {
        let text = "a\"b\\</script>\n<img src='x'>&";
        let escaped = "a&quot;b\\&lt;/script&gt;\n&lt;img src=&#39;x&#39;&gt;&amp;";
        assert_eq!(Escaped(text).to_string(), escaped);
    }
}
