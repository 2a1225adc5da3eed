//! Heads that come again. A client that stays sends the same fields with each request, and many
//! clients ask for the same target: what was read and checked once is not read again.
//!
//! The same bytes mean the same. So a request line and the fields of a head are kept, each with
//! what was read of it, and the input is compared with them. Whatever differs or is unusual is left
//! to [`head::parse`](super::head::parse), which alone refuses.

use super::field_list::{FieldList, FieldText, place_in};
use super::head::{Framing, Head, HeadLimits, Version};
use super::method::Method;
use super::target::Target;

/// The longest request line that is kept, in bytes.
const MAX_LINE_BYTES: usize = 1 << 10;

/// Of so many that are not known, one is kept: where each is another one, keeping them all would
/// cost more than it saves.
const KEPT_ONE_OF: u32 = 32;

/// A request line and the fields of a head that were kept, of HTTP/1.1 both.
#[derive(Debug, Default)]
pub(super) struct Known {
    line: Line,
    unknown_lines: u32,
    fields: Fields,
    unknown_fields: u32,
}

impl Known {
    /// The head at the beginning of the input, and its length, if its fields are those that are
    /// kept.
    #[inline(always)]
    pub(super) fn find<'a>(
        &'a mut self,
        input: &'a [u8],
        limits: HeadLimits,
    ) -> Option<(Head<'a>, usize)> {
        let is_known = begins_with(input, self.line.text.as_bytes());
        let line_length = match is_known {
            true => self.line.text.len(),
            false => line_length(input)?,
        };
        let (line, rest) = input.split_at_checked(line_length)?;
        let length = line_length + self.fields.text.bytes().len();
        if !begins_with(rest, self.fields.text.bytes()) || length > limits.head {
            return None;
        }
        let (method, target) = match is_known {
            true => self.line.read()?,
            false => {
                let (method, target) = read_line(line, limits)?;
                if is_due(&mut self.unknown_lines) {
                    self.line.keep(line, method, &target);
                }
                (method, target)
            }
        };
        Some((self.fields.head(method, target), length))
    }

    /// Keeps what was read of a head, which is not known.
    #[inline]
    pub(super) fn learn(&mut self, input: &[u8], head: &Head<'_>) {
        if is_due(&mut self.unknown_fields) {
            self.keep(input, head);
        }
    }

    #[inline(never)]
    fn keep(&mut self, input: &[u8], head: &Head<'_>) {
        let (FieldList::Parsed(fields), Version::Http11) = (head.fields, head.version) else {
            return;
        };
        let first = fields.first().and_then(|field| place_in(input, field.name.as_bytes()));
        let Some((line, rest)) = first.and_then(|(at, _)| input.split_at_checked(at.into())) else {
            return;
        };
        self.line.keep(line, head.method, &head.target);
        self.fields.keep(rest, fields, head);
    }
}

/// Whether this one of those that are not known is kept.
#[inline(always)]
pub(super) fn is_due(unknown: &mut u32) -> bool {
    let is_due = *unknown % KEPT_ONE_OF == 0;
    *unknown = unknown.wrapping_add(1);
    is_due
}

/// Whether two texts are the same. Texts of one length are compared whole, so that the time does
/// not tell how much of them is the same. Exception: those of fewer than eight bytes, by `==`.
#[inline]
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let is_short = other.len() < 8;
    one.len() == other.len() && (begins_with(one, other) || is_short && one == other)
}

/// Whether the input begins with a text, which has eight bytes or more: else it is none that is
/// kept. Without an early end, so that no client can measure how much of its request is the same as
/// in that of another one.
#[inline(always)]
fn begins_with(input: &[u8], text: &[u8]) -> bool {
    let Some(input) = input.get(..text.len()) else { return false };
    let (Some(&a), Some(&b)) = (input.last_chunk(), text.last_chunk()) else { return false };
    // The last word overlaps the one before, instead of bytes that are looked at one by one.
    let last = u64::from_le_bytes(a) ^ u64::from_le_bytes(b);
    words(input).zip(words(text)).fold(last, |seen, (a, b)| seen | (a ^ b)) == 0
}

/// The whole words of eight bytes in a text, of which the first one counts least.
#[inline(always)]
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = u64> {
    text.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes))
}

/// The length of the first line, with its LF. `None` if there is no whole word with an LF: then
/// there are no fields behind it.
#[inline]
fn line_length(input: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    for (place, word) in words(input).enumerate() {
        // The lowest byte that is 0 borrows from its top bit; those above it may be taken for it.
        let other = word ^ (ONES * u64::from(b'\n'));
        let found = other.wrapping_sub(ONES) & !other & (ONES << 7);
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8 + 1);
        }
    }
    None
}

/// Reads a request line that stands alone, if it is one of HTTP/1.1 with a path.
fn read_line<'a>(line: &'a [u8], limits: HeadLimits) -> Option<(Method, Target<'a>)> {
    let mut request = httparse::Request::new(&mut []);
    // The fields are to follow.
    let Ok(httparse::Status::Partial) = request.parse_with_uninit_headers(line, &mut []) else {
        return None;
    };
    let (Some(method), Some(raw), Some(1)) = (request.method, request.path, request.version) else {
        return None;
    };
    if !raw.starts_with('/') || raw.len() > limits.target || !line.ends_with(b"\r\n") {
        return None;
    }
    let method = Method::from_name(method).filter(|&method| method != Method::Connect)?;
    Some((method, Target::parse(raw, method).ok()?))
}

/// A request line whose target is a path.
#[derive(Debug)]
struct Line {
    /// All of it, with its line end. Empty: none is kept.
    text: String,
    method: Method,
    /// The target alone, because parts of a text cost a check at each end.
    target: String,
    /// Where the path within it ends.
    path_end: usize,
    is_plain: bool,
}

impl Default for Line {
    fn default() -> Self {
        let (text, target) = (String::new(), String::new());
        Self { text, method: Method::Get, target, path_end: 0, is_plain: false }
    }
}

impl Line {
    /// The method and the target.
    #[inline(always)]
    fn read(&self) -> Option<(Method, Target<'_>)> {
        let (raw, is_plain) = (self.target.as_str(), self.is_plain);
        let (path, behind) = raw.split_at_checked(self.path_end)?;
        let query = behind.get(1..);
        Some((self.method, Target { raw, path, query, authority: None, is_plain }))
    }

    fn keep(&mut self, line: &[u8], method: Method, target: &Target<'_>) {
        self.text.clear();
        let is_usual = target.raw.starts_with('/') && line.len() <= MAX_LINE_BYTES;
        let Some(text) = std::str::from_utf8(line).ok().filter(|_| is_usual) else { return };
        self.text.push_str(text);
        self.method = method;
        self.target.clear();
        self.target.push_str(target.raw);
        self.path_end = target.path.len();
        self.is_plain = target.is_plain;
    }
}

/// The fields of a head, and what they say.
#[derive(Debug)]
struct Fields {
    text: FieldText,
    host: (u16, u16),
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    is_encoded: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            text: FieldText::default(),
            host: (0, 0),
            framing: Framing::None,
            keep_alive: false,
            expects_continue: false,
            is_encoded: false,
        }
    }
}

impl Fields {
    /// The head of a request with these fields.
    #[inline(always)]
    fn head<'a>(&'a self, method: Method, target: Target<'a>) -> Head<'a> {
        Head {
            method,
            version: Version::Http11,
            target,
            host: Some(self.text.part(self.host)),
            fields: FieldList::Kept(&self.text),
            framing: self.framing,
            keep_alive: self.keep_alive,
            expects_continue: self.expects_continue,
            is_encoded: self.is_encoded,
            upgrade: None,
        }
    }

    fn keep(&mut self, text: &[u8], fields: &[httparse::Header<'_>], head: &Head<'_>) {
        // The host of one whose target has an authority is not that of its fields.
        let is_usual = head.upgrade.is_none() && head.target.authority.is_none();
        let host = head.host.and_then(|host| place_in(text, host)).filter(|_| is_usual);
        let Some(host) = host else { return self.text.clear() };
        if self.text.keep(text, fields) {
            self.host = host;
            self.framing = head.framing;
            self.keep_alive = head.keep_alive;
            self.expects_continue = head.expects_continue;
            self.is_encoded = head.is_encoded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuzzing::{LIMITS, parse_and_learn, said};
    use super::*;

    const LINES: [&str; 6] = [
        "GET / HTTP/1.1\r\n",
        "GET /a/.b?c=d&e HTTP/1.1\r\n",
        "POST /a%20b? HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET http://h/ HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
    ];

    const FIELDS: [&str; 8] = [
        "Host: h\r\n\r\n",
        "A:\r\nhost:\t h \r\nB: b\tb\r\nConnection: close\r\n\r\n",
        "Host: h\r\nContent-Length: 12\r\n\r\n",
        "Host: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\nContent-Encoding: br\r\n\r\n",
        "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Host: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "Host: h\r\nA: \u{e4}\r\n\r\n",
        "A: b\r\n\r\n",
    ];

    fn found(known: &mut Known, input: &[u8]) -> Option<(String, usize)> {
        known.find(input, LIMITS).map(|(head, length)| (said(&head), length))
    }

    #[test]
    fn what_is_known_says_what_parsing_it_does() {
        let heads = || LINES.iter().flat_map(|line| FIELDS.map(|fields| [line, fields].concat()));
        let mut hits = 0;
        for first in heads() {
            let mut known = Known::default();
            let _ = parse_and_learn(first.as_bytes(), &mut known); // some are refused
            for second in heads() {
                let bytes = [second.as_bytes(), b"GET"].concat();
                let parsed = parse_and_learn(&bytes, &mut Known::default());
                if let Some(found) = found(&mut known, &bytes) {
                    assert_eq!(parsed, Ok(Some(found)), "{first:?} {second:?}");
                    hits += 1;
                }
            }
        }
        // Six of the fields are kept, behind four of the lines, and are known behind three.
        assert_eq!(hits, 6 * 4 * 3);
    }

    #[test]
    fn the_first_line_ends_with_the_first_lf() {
        for length in 0..40 {
            for others in [0x0b, 0x09, 0x8a, 0xff, 0, b'a', b'\n'] {
                let mut input = vec![b'x'; length];
                input.push(b'\n');
                input.extend([others; 9]);
                assert_eq!(line_length(&input), Some(length + 1), "{others}");
                input[length] = 0x8a;
                let next = (others == b'\n').then_some(length + 2);
                assert_eq!(line_length(&input), next, "{others}");
            }
        }
    }

    #[test]
    fn no_byte_of_what_is_known_can_differ() {
        let head = [LINES[1], FIELDS[3]].concat();
        let mut known = Known::default();
        parse_and_learn(head.as_bytes(), &mut known).unwrap();
        assert!(found(&mut known, head.as_bytes()).is_some());
        for at in 0..head.len() {
            for byte in [0, b'\n', b'\r', b' ', b':', b'0', b'z', 0xff] {
                let mut bytes = head.clone().into_bytes();
                bytes[at] = byte;
                let parsed = parse_and_learn(&bytes, &mut Known::default());
                if let Some(found) = found(&mut known, &bytes) {
                    assert_eq!(parsed, Ok(Some(found)), "{byte} at {at}");
                }
            }
            assert_eq!(found(&mut known, &head.as_bytes()[..at]), None, "cut at {at}");
        }
        let tight = HeadLimits { head: head.len() - 1, ..LIMITS };
        assert!(known.find(head.as_bytes(), tight).is_none());
    }

    #[test]
    fn one_of_32_heads_that_are_not_known_is_kept() {
        let mut known = Known::default();
        let head = |number| format!("GET /{number} HTTP/1.1\r\nHost: {number}\r\n\r\n");
        for number in 0..70 {
            let head = head(number);
            assert_eq!(found(&mut known, head.as_bytes()), None);
            parse_and_learn(head.as_bytes(), &mut known).unwrap();
            let is_kept = found(&mut known, head.as_bytes()).is_some();
            assert_eq!(is_kept, number % 32 == 0, "{number}");
        }
        let long = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(5_000));
        let mut known = Known::default();
        parse_and_learn(long.as_bytes(), &mut known).unwrap();
        assert_eq!(found(&mut known, long.as_bytes()), None, "too long to be kept");
    }
}
