//! Names and values of fields: what may be sent, and lists in values.

use std::error::Error;
use std::fmt;

use super::known::words;

/// A header field that cannot be sent: its name is not a token, its value has a control character,
/// or the server sets it itself. Or a malformed target of a [`Call`](super::Call). The text names
/// the field or the target, and says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// What is invalid: a field, or the target of a request.
    what: &'static str,
    name: String,
    why: &'static str,
}

impl InvalidField {
    pub(super) fn new(name: &str, why: &'static str) -> Self {
        Self::of("field", name, why)
    }

    pub(super) fn target(target: &str, why: &'static str) -> Self {
        Self::of("target", target, why)
    }

    fn of(what: &'static str, name: &str, why: &'static str) -> Self {
        Self { what, name: name.escape_debug().take(100).collect(), why }
    }
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} \"{}\" cannot be sent: {}", self.what, self.name, self.why)
    }
}

impl Error for InvalidField {}

/// Header fields that were checked: made once and sent with many messages, or passed on from one
/// message to another.
///
/// Fields that frame a message, or say where it goes, are never part of it: `Connection`,
/// `Content-Length`, `Date`, `Expect`, `Host`, `Transfer-Encoding`, `Upgrade`. `{:?}` shows only
/// the length, because fields may hold secrets.
///
/// # Examples
/// ```
/// use waterwheel::http::{Fields, Router};
///
/// let mut policy = Fields::new();
/// policy.add("Content-Security-Policy", "default-src 'self'")?;
/// policy.add("X-Content-Type-Options", "nosniff")?;
/// let routes: Router<()> = Router::new().get("/", move |_, _, res| {
///     res.fields(&policy).text("hello\n");
/// });
/// # let _ = routes;
/// # Ok::<(), waterwheel::http::InvalidField>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// As they are sent.
    lines: Vec<u8>,
}

/// Bytes for which there is room with the first field: as much as most messages have.
const ROOM_BYTES: usize = 512;

impl Fields {
    /// No fields so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field behind those that are there. Of two fields of one name both are sent.
    ///
    /// # Errors
    /// - The name is not a token (RFC 9110, 5.6.2), or is one of the seven that [`Fields`] lists.
    /// - The value has a control character other than a tab.
    ///
    /// After an error the fields are as they were.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        if is_addressing(name) {
            return Err(InvalidField::new(name, "it belongs to one message alone"));
        }
        check(name, value.as_ref())?;
        self.push(name, value.as_ref());
        Ok(())
    }

    /// The fields of a message that was read, as far as they pass: its parser has checked them.
    pub(super) fn of<'a>(
        read: impl Iterator<Item = (&'a str, &'a [u8])>,
        mut passes: impl FnMut(&str, &[u8]) -> bool,
    ) -> Self {
        let mut fields = Self::new();
        for (name, value) in read {
            if !(is_own(name) || is_addressing(name)) && passes(name, value) {
                fields.push(name, value);
            }
        }
        fields
    }

    /// Adds a field that was checked.
    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        if self.lines.capacity() == 0 {
            self.lines = Vec::with_capacity(ROOM_BYTES);
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
    }

    /// Adds others behind those that are there.
    pub(super) fn append(&mut self, others: Self) {
        if self.lines.is_empty() {
            self.lines = others.lines;
        } else {
            self.lines.extend_from_slice(&others.lines);
        }
    }

    /// The lines, as they are sent.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Leaves out those whose names are not wanted.
    pub(super) fn remove(&mut self, is_unwanted: impl Fn(&str) -> bool) {
        let lines = self.lines.split_inclusive(|&byte| byte == b'\n');
        let kept = lines.filter(|line| {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            !std::str::from_utf8(name).is_ok_and(&is_unwanted)
        });
        self.lines = kept.flatten().copied().collect();
    }
}

/// Fields may hold secrets, so only their length is shown.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.lines.len())
    }
}

/// Whether a field says where a request goes, or what is expected there.
#[inline]
fn is_addressing(name: &str) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case("host"),
        6 => name.eq_ignore_ascii_case("expect"),
        _ => false,
    }
}

/// Whether the server sets a field itself, from what the answer is.
#[inline]
fn is_own(name: &str) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case("date"),
        7 => name.eq_ignore_ascii_case("upgrade"),
        10 => name.eq_ignore_ascii_case("connection"),
        14 => name.eq_ignore_ascii_case("content-length"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

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
    starts || is_own(name) || REFUSED.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Checks a field that a handler wants to send.
pub(super) fn check(name: &str, value: &[u8]) -> Result<(), InvalidField> {
    if !is_token(name.as_bytes()) {
        return Err(InvalidField::new(name, "its name is not a token of RFC 9110, 5.6.2"));
    }
    if is_own(name) {
        return Err(InvalidField::new(name, "the library sets it, from what the message is"));
    }
    if !is_value(value) {
        return Err(InvalidField::new(name, "its value has a control character"));
    }
    Ok(())
}

/// Whether it may stand as the value of a field. Looked at in words of eight bytes, of which the
/// last one overlaps the one before.
fn is_value(value: &[u8]) -> bool {
    let is_plain = value.last_chunk().is_some_and(|&last| {
        let last = suspects(u64::from_le_bytes(last));
        words(value).fold(last, |found, word| found | suspects(word)) == 0
    });
    is_plain || value.iter().all(|&byte| is_value_byte(byte))
}

/// 0 if no byte of a word is below a space or DEL.
#[inline]
fn suspects(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let has_below = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word;
    (has_below(word, b' ') | has_below(word ^ (ONES * 0x7f), 1)) & (ONES << 7)
}

/// Whether a byte may stand in the value of a field: visible, space, tab, or above ASCII.
fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether it is a token (RFC 9110, 5.6.2), as names of fields and methods are.
pub(super) fn is_token(text: &[u8]) -> bool {
    // Nearly every text is one: without an early end the loop is shorter.
    !text.is_empty() && text.iter().fold(true, |is, &byte| is & is_token_byte(byte))
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
    fn each_byte_of_a_value_is_looked_at() {
        for length in 1..30 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'a'; length];
                    value[at] = byte;
                    assert_eq!(is_value(&value), is_value_byte(byte), "{byte} at {at} of {length}");
                }
            }
        }
        assert!(is_value(b""));
    }

    #[test]
    fn fields_that_belong_to_one_message_are_in_no_set() {
        let mut fields = Fields::new();
        for name in ["Host", "expect", "Connection", "DATE", "content-length"] {
            assert!(fields.add(name, "1").is_err(), "{name}");
        }
        assert!(fields.add("a b", "1").is_err() && fields.add("a", "1\r\n").is_err());
        fields.add("A", "1").unwrap();
        let read = [("Host", &b"h"[..]), ("B", b"2"), ("c", b""), ("Upgrade", b"x"), ("A", b"3")];
        let passing = Fields::of(read.into_iter(), |name, _| name != "A");
        assert_eq!(passing.lines(), b"B: 2\r\nc: \r\n");
        fields.append(passing);
        assert_eq!(fields.lines(), b"A: 1\r\nB: 2\r\nc: \r\n");
        fields.remove(|name| name == "B");
        assert_eq!(fields.lines(), b"A: 1\r\nc: \r\n");
    }

    #[test]
    fn a_list_has_no_empty_members() {
        let list: Vec<_> = members(b" close ,, \tUpgrade,\t").collect();
        assert_eq!(list, [&b"close"[..], b"Upgrade"]);
    }
}
