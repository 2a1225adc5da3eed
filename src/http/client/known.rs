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
