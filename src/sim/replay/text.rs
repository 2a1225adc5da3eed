//! Text in JSON and in HTML: nothing that a name holds ends its string or its element.

use std::fmt::{self, Write};

/// A text as a string of JSON, with its quotes, that may stand in a script element.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for it in self.0.chars() {
            match it {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(f, "\\u{:04x}", it as u32)?,
                it if it.is_control() => write!(f, "\\u{:04x}", it as u32)?,
                it => f.write_char(it)?,
            }
        }
        f.write_char('"')
    }
}

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
    fn no_text_ends_its_string_or_its_element() {
        let text = "a\"b\\</script>\n<img src='x'>&";
        assert_eq!(
            Quoted(text).to_string(),
            r#""a\"b\\\u003c/script\u003e\u000a\u003cimg src='x'\u003e\u0026""#
        );
        let escaped = "a&quot;b\\&lt;/script&gt;\n&lt;img src=&#39;x&#39;&gt;&amp;";
        assert_eq!(Escaped(text).to_string(), escaped);
    }
}
