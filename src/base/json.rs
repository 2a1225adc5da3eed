//! Text in JSON: nothing that a name holds ends its string, or a script element around it.

use std::fmt::{self, Write};

/// A text as a string of JSON, with its quotes.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for it in self.0.chars() {
            match it {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                // The last two end a line in older scripts.
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(f, "\\u{:04x}", it as u32)?,
                it if it.is_control() => write!(f, "\\u{:04x}", it as u32)?,
                it => f.write_char(it)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_string() {
        let quoted = Quoted("a\"b\\c\n</script>\u{7f}\u{2028}ä&").to_string();
        let expected = r#""a\"b\\c\u000a\u003c/script\u003e\u007f\u2028ä\u0026""#;
        assert_eq!(quoted, expected);
    }
}
