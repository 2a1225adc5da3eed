//! Requests, cut out of an input where they lie.
//!
//! A request is an array of strings, `*2 $3 GET $1 a` with CRLF in place of the spaces, or a line
//! of words as a person would type it. Everything is bounded before it is kept: a length that is
//! too large ends the connection when it is announced, not when its bytes have come.

use std::fmt;

use waterwheel::frame;

/// Most bytes of a request.
pub(crate) const MAX_REQUEST_BYTES: usize = 2 << 20;

/// Most bytes of one string in a request.
pub(crate) const MAX_STRING_BYTES: usize = 1 << 20;

/// Most strings in a request. A request that comes in pieces is parsed anew with each piece, so
/// this also bounds that work, to a few microseconds.
pub(crate) const MAX_STRINGS: usize = 1_024;

/// Most bytes of a request that is a line.
pub(crate) const MAX_LINE_BYTES: usize = 16 << 10;

/// Most digits of a length: more than any that passes.
const MAX_DIGITS: usize = 10;

/// Cuts requests out of an input; keeps nothing but memory from one to the next.
#[derive(Default)]
pub(crate) struct Parser {
    /// Where the strings of the request lie.
    spans: Vec<Span>,
    /// The words of a line, one after the other, without their quotes.
    words: Vec<u8>,
}

/// The strings of one request; none, if it was an empty line or array.
pub(crate) struct Request<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

/// Where a string begins and ends.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// Why an input is no sequence of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    /// The number of strings is none, or too large.
    Count,
    /// The length of a string is none, or too large.
    Length,
    /// All strings together are too long.
    Size,
    /// A string does not begin with its length.
    Dollar(u8),
    /// A string does not end where its length says.
    End,
    /// A line is too long, or has too many words.
    Line,
    /// A quote in a line does not end, or not at the end of a word.
    Quotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "invalid multibulk length",
            Self::Length => "invalid bulk length",
            Self::Size => "too big request",
            Self::Dollar(byte) => {
                return write!(f, "expected '$', got '{}'", byte.escape_ascii());
            }
            Self::End => "expected CRLF after a bulk string",
            Self::Line => "too big inline request",
            Self::Quotes => "unbalanced quotes in request",
        })
    }
}

impl<'a> Request<'a> {
    /// How many strings it has; the first is the command.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// A string; an empty one if it has not so many.
    pub(crate) fn get(&self, at: usize) -> &'a [u8] {
        self.spans.get(at).map_or(&[], |span| self.cut(span))
    }

    /// The strings from one on.
    pub(crate) fn from(&self, at: usize) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().skip(at).map(|span| self.cut(span))
    }

    fn cut(&self, span: &Span) -> &'a [u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }
}

impl Parser {
    /// The request at the front of an input and how many bytes it takes; `None` if it has not
    /// arrived whole.
    pub(crate) fn next<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<Option<(usize, Request<'a>)>, ProtocolError> {
        self.spans.clear();
        let (taken, bytes) = match input.first() {
            None => return Ok(None),
            Some(b'*') => (self.array(input)?, input),
            Some(_) => (self.line(input)?, self.words.as_slice()),
        };
        let spans = self.spans.as_slice();
        Ok(taken.map(|taken| (taken, Request { bytes, spans })))
    }

    fn array(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some((count, mut at)) = number(input, 1).ok_or(ProtocolError::Count)? else {
            return Ok(None);
        };
        if count > MAX_STRINGS as i64 {
            return Err(ProtocolError::Count);
        }
        for _ in 0..count {
            match input.get(at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(&byte) => return Err(ProtocolError::Dollar(byte)),
            }
            let Some((len, start)) = number(input, at + 1).ok_or(ProtocolError::Length)? else {
                return Ok(None);
            };
            let len = usize::try_from(len).map_err(|_| ProtocolError::Length)?;
            if len > MAX_STRING_BYTES {
                return Err(ProtocolError::Length);
            }
            let end = start + len;
            if end > MAX_REQUEST_BYTES {
                return Err(ProtocolError::Size);
            }
            match (input.get(end), input.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => {}
                (None, _) | (Some(b'\r'), None) => return Ok(None),
                _ => return Err(ProtocolError::End),
            }
            self.spans.push(Span::new(start, end));
            at = end + 2;
        }
        Ok(Some(at))
    }

    fn line(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        match lines.next() {
            None => Ok(None),
            Some(Err(_)) => Err(ProtocolError::Line),
            Some(Ok(line)) => {
                self.words(line)?;
                Ok(Some(lines.consumed()))
            }
        }
    }

    /// Splits a line at its spaces, except those in quotes.
    fn words(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        self.words.clear();
        let mut rest = line.trim_ascii();
        while let Some(&first) = rest.first() {
            let start = self.words.len();
            let is_quoted = matches!(first, b'"' | b'\'');
            rest = if is_quoted {
                self.quoted(first, &rest[1..])?
            } else {
                let end = rest.iter().position(u8::is_ascii_whitespace);
                let (word, rest) = rest.split_at(end.unwrap_or(rest.len()));
                self.words.extend_from_slice(word);
                rest
            };
            if is_quoted && !rest.first().is_none_or(u8::is_ascii_whitespace) {
                return Err(ProtocolError::Quotes);
            }
            if self.spans.len() == MAX_STRINGS {
                return Err(ProtocolError::Line);
            }
            self.spans.push(Span::new(start, self.words.len()));
            rest = rest.trim_ascii_start();
        }
        Ok(())
    }

    /// Takes a word up to its closing quote and gives what follows. A backslash makes the next
    /// byte an ordinary one; between double quotes it also writes `\n`, `\r`, `\t` and `\xhh`.
    fn quoted<'l>(&mut self, quote: u8, line: &'l [u8]) -> Result<&'l [u8], ProtocolError> {
        let mut rest = line;
        loop {
            let (byte, after) = match *rest {
                [] => return Err(ProtocolError::Quotes),
                [byte, ref after @ ..] if byte == quote => return Ok(after),
                [b'\\', b'x', high, low, ref after @ ..] if quote == b'"' && is_hex(high, low) => {
                    (hex(high) << 4 | hex(low), after)
                }
                [b'\\', escaped, ref after @ ..] if quote == b'"' => (unescape(escaped), after),
                [b'\\', b'\'', ref after @ ..] => (b'\'', after),
                [byte, ref after @ ..] => (byte, after),
            };
            self.words.push(byte);
            rest = after;
        }
    }
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        debug_assert!(end <= MAX_REQUEST_BYTES);
        let (start, end) = (start as u32, end as u32);
        Self { start, end }
    }
}

/// The number at a place, up to its CRLF, and the place behind that. `None` if there is none,
/// `Some(None)` if it has not arrived whole.
#[inline]
fn number(input: &[u8], start: usize) -> Option<Option<(i64, usize)>> {
    let is_negative = input.get(start) == Some(&b'-');
    let first = start + usize::from(is_negative);
    let mut at = first;
    let mut value = 0;
    loop {
        match input.get(at) {
            None => return Some(None),
            Some(byte @ b'0'..=b'9') if at - first < MAX_DIGITS => {
                value = value * 10 + i64::from(byte - b'0');
                at += 1;
            }
            Some(b'\r') if at > first => break,
            Some(_) => return None,
        }
    }
    let value = if is_negative { -value } else { value };
    match input.get(at + 1) {
        None => Some(None),
        Some(b'\n') => Some(Some((value, at + 2))),
        Some(_) => None,
    }
}

fn is_hex(high: u8, low: u8) -> bool {
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}
