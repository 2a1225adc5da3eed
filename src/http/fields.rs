//! Names and values of fields: what may be sent, and lists in values.

use std::error::Error;
use std::fmt;

/// A field that cannot be sent: its name is no token, or its value has a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    name: String,
    why: &'static str,
}

impl InvalidField {
    pub(super) fn new(name: &str, why: &'static str) -> Self {
        Self { name: name.escape_debug().take(100).collect(), why }
    }
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the field {:?} cannot be sent: {}", self.name, self.why)
    }
}

impl Error for InvalidField {}

/// Fields that the server sets itself, from what the answer is.
const OWN: [&str; 5] = ["connection", "content-length", "date", "transfer-encoding", "upgrade"];

/// Whether a field frames a message, routes it or says who sent it, and so has no place behind a
/// body (RFC 9110, 6.5.1).
pub(super) fn is_framing(name: &str) -> bool {
    const REFUSED: [&str; 9] = [
        "authorization",
        "cookie",
        "host",
        "trailer",
        "te",
        "set-cookie",
        "proxy-authorization",
        "expect",
        "range",
    ];
    let starts = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
    starts || OWN.iter().chain(&REFUSED).any(|own| own.eq_ignore_ascii_case(name))
}

/// Checks a field that a handler wants to send.
pub(super) fn check(name: &str, value: &[u8]) -> Result<(), InvalidField> {
    if !is_token(name.as_bytes()) {
        return Err(InvalidField::new(name, "its name is not a token of RFC 9110, 5.6.2"));
    }
    if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(InvalidField::new(name, "the server sets it, from what the answer is"));
    }
    if !value.iter().all(|&byte| is_value_byte(byte)) {
        return Err(InvalidField::new(name, "its value has a control character"));
    }
    Ok(())
}

/// Whether a byte may stand in the value of a field: visible, space, tab, or above ASCII.
fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether it is a token (RFC 9110, 5.6.2), as names of fields and methods are.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[usize::from(byte)]
}

/// Which bytes a token may have: every field that is sent is checked.
static TOKEN_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = b'!';
    while byte < 0x7f {
        // The first range is `# $ % & '`, the second one `^ _` and the backquote.
        let is_mark = matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`');
        bytes[byte as usize] =
            byte.is_ascii_alphanumeric() || is_mark || matches!(byte, b'|' | b'~');
        byte += 1;
    }
    bytes
};

/// The members of a list, without the white space around them and without empty ones (RFC 9110,
/// 5.6.1).
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without spaces and tabs at both ends.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_39_a_field_that_would_split_the_answer_is_refused() {
        for value in ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "a\0b", "\x7f", "\x1b[2J"] {
            assert!(check("X-Name", value.as_bytes()).is_err(), "{value:?}");
        }
        for name in ["", "a b", "a:", "a\r\n", "ä", "a\0"] {
            assert!(check(name, b"x").is_err(), "{name:?}");
        }
        for name in ["Content-Length", "transfer-encoding", "CONNECTION", "Date", "Upgrade"] {
            assert!(check(name, b"1").is_err(), "{name}");
        }
        check("X-Name", "täglich\t1".as_bytes()).unwrap();
        check("!#$%&'*+-.^_`|~09azAZ", b"").unwrap();
    }

    #[test]
    fn a_list_has_no_empty_members() {
        let list: Vec<_> = members(b" close ,, \tUpgrade,\t").collect();
        assert_eq!(list, [&b"close"[..], b"Upgrade"]);
    }
}
