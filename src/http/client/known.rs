//! Heads of answers that come again: what was read and checked once is not read again.
//!
//! The same bytes mean the same. So the head of an answer is kept with what was read of it, and the
//! input is compared with it. All others are left to [`head::parse`](super::head::parse), which
//! alone refuses.

use super::head::{AnswerHead, Framing};
use crate::http::field_list::{FieldList, FieldText};
use crate::http::head::Version;
use crate::http::known::is_due;
use crate::http::method::Method;

/// The head of an answer that was kept. An answer to HEAD has no body, whatever its head says: none
/// is kept, and none is known.
#[derive(Debug)]
pub(super) struct KnownAnswer {
    /// All of it, with its empty line.
    text: FieldText,
    /// Where the lines of the fields begin.
    lines: usize,
    status: u16,
    version: Version,
    length: Option<u64>,
    framing: Framing,
    keep_alive: bool,
    /// How many were not known.
    unknown: u32,
}

impl Default for KnownAnswer {
    fn default() -> Self {
        Self {
            text: FieldText::default(),
            lines: 0,
            status: 0,
            version: Version::Http11,
            length: None,
            framing: Framing::UntilEnd,
            keep_alive: false,
            unknown: 0,
        }
    }
}

impl KnownAnswer {
    /// Whether the input begins with the head that is kept, in answer to this method.
    #[inline]
    pub(super) fn begins(&self, input: &[u8], method: Method) -> bool {
        let text = self.text.bytes();
        !text.is_empty() && method != Method::Head && input.starts_with(text)
    }

    /// The head that the input begins with, and its length.
    #[inline]
    pub(super) fn head<'a>(&'a self, input: &'a [u8]) -> (AnswerHead<'a>, usize) {
        let length = self.text.bytes().len();
        let head = AnswerHead {
            status: self.status,
            version: self.version,
            lines: input.get(self.lines..length - 2).unwrap_or_default(),
            fields: FieldList::Kept(&self.text),
            length: self.length,
            framing: self.framing,
            keep_alive: self.keep_alive,
        };
        (head, length)
    }

    /// Keeps what was read of a head, which is not known.
    pub(super) fn learn(&mut self, input: &[u8], head: &AnswerHead<'_>, method: Method) {
        let is_final = head.status >= 200 && method != Method::Head;
        if is_final && is_due(&mut self.unknown) {
            self.keep(input, head);
        }
    }

    #[inline(never)]
    fn keep(&mut self, input: &[u8], head: &AnswerHead<'_>) {
        let FieldList::Parsed(fields) = head.fields else { return };
        if self.text.keep(input, fields) {
            self.lines = input.len() - 2 - head.lines.len();
            self.status = head.status;
            self.version = head.version;
            self.length = head.length;
            self.framing = head.framing;
            self.keep_alive = head.keep_alive;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::http::client::head::parse;
    use crate::http::head::MAX_FIELDS;

    const HEADS: [&str; 8] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nA:\t b \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nA: b\r\n\r\n",
        "HTTP/1.1 204 \r\n\r\n",
        "HTTP/1.1 304 N\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \u{e4}\r\nContent-Length: 0\r\n\r\n",
    ];

    /// What a head says; also told to what is known.
    fn parsed(input: &[u8], method: Method, known: &mut KnownAnswer) -> Option<String> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let (head, length) = parse(input, method, &mut slots).ok()??;
        known.learn(&input[..length], &head, method);
        Some(said(&head, length))
    }

    fn said(head: &AnswerHead<'_>, length: usize) -> String {
        let AnswerHead { status, version, lines, length: field, framing, keep_alive, .. } = *head;
        let fields: Vec<_> = head.fields.iter().collect();
        format!(
            "{length} {status} {version:?} {lines:?} {field:?} {framing:?} {keep_alive} {fields:?}"
        )
    }

    fn found(known: &KnownAnswer, input: &[u8], method: Method) -> Option<String> {
        let is_known = known.begins(input, method);
        is_known.then(|| known.head(input)).map(|(head, length)| said(&head, length))
    }

    #[test]
    fn what_is_known_says_what_parsing_it_does() {
        let methods = [Method::Get, Method::Head, Method::Post];
        let mut hits = 0;
        for first in HEADS {
            for method in methods {
                let mut known = KnownAnswer::default();
                parsed(first.as_bytes(), method, &mut known).unwrap();
                for (second, asked) in HEADS.iter().flat_map(|head| methods.map(|it| (head, it))) {
                    let input = [second.as_bytes(), b"12345"].concat();
                    if let Some(found) = found(&known, &input, asked) {
                        let parsed = parsed(&input, asked, &mut KnownAnswer::default());
                        assert_eq!(parsed, Some(found), "{first:?} {second:?}");
                        hits += 1;
                    }
                }
            }
        }
        // All but the interim one, kept and found for the two methods whose answers have bodies.
        assert_eq!(hits, 7 * 2 * 2);
    }

    #[test]
    fn no_byte_of_what_is_known_can_differ() {
        let head = HEADS[0];
        let mut known = KnownAnswer::default();
        parsed(head.as_bytes(), Method::Get, &mut known).unwrap();
        assert!(found(&known, head.as_bytes(), Method::Get).is_some());
        for at in 0..head.len() {
            for byte in [0, b'\n', b'\r', b' ', b':', b'0', b'z', 0xff] {
                let mut input = head.as_bytes().to_vec();
                input[at] = byte;
                let is_same = input == head.as_bytes();
                assert_eq!(known.begins(&input, Method::Get), is_same, "{byte} at {at}");
            }
            assert!(!known.begins(&head.as_bytes()[..at], Method::Get), "cut at {at}");
        }
    }
}
