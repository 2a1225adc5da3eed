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

/// Most strings in a request, as many as Redis takes.
pub(crate) const MAX_STRINGS: usize = 1 << 20;

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

/// How far the array at the front of an input has been looked through. The array may come in many
/// pieces, and a look at all its strings with each piece would cost more than running it.
#[derive(Default)]
pub(crate) struct Progress {
    /// Where the next string begins; 0 before the number of strings has come.
    at: u32,
    /// Strings that are still to come.
    left: u32,
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
    /// A line is too long.
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
    /// arrived whole. `progress` is of the same front of the same input.
    pub(crate) fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        progress: &mut Progress,
    ) -> Result<Option<(usize, Request<'a>)>, ProtocolError> {
        let (taken, bytes) = match input.first() {
            None => return Ok(None),
            Some(b'*') => (self.array(input, progress)?, input),
            Some(_) => (self.line(input)?, self.words.as_slice()),
        };
        let spans = self.spans.as_slice();
        Ok(taken.map(|taken| (taken, Request { bytes, spans })))
    }

    fn array(
        &mut self,
        input: &[u8],
        progress: &mut Progress,
    ) -> Result<Option<usize>, ProtocolError> {
        if progress.at != 0 {
            let start = std::mem::take(progress);
            if self.strings(input, start, progress)?.is_none() {
                return Ok(None);
            }
            // It is whole: from the front again, for the strings of the earlier pieces.
        }
        match count(input)? {
            Some(start) => self.strings(input, start, progress),
            None => Ok(None),
        }
    }

    /// The strings of an array from a place on, and where it ends; `None` if it has not arrived
    /// whole, and `progress` says how far it has.
    #[inline]
    fn strings(
        &mut self,
        input: &[u8],
        start: Progress,
        progress: &mut Progress,
    ) -> Result<Option<usize>, ProtocolError> {
        self.spans.clear();
        let Progress { mut at, mut left } = start;
        while left > 0 {
            let Some(span) = short_string(input, at as usize) else { break };
            (at, left) = (span.end + 2, left - 1);
            self.spans.push(span);
        }
        while left > 0 {
            let Some(span) = string(input, at as usize)? else {
                *progress = Progress { at, left };
                return Ok(None);
            };
            (at, left) = (span.end + 2, left - 1);
            self.spans.push(span);
        }
        Ok(Some(at as usize))
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
        self.spans.clear();
        self.words.clear();
        let mut rest = line.trim_ascii();
        while !rest.is_empty() {
            let start = self.words.len();
            rest = self.word(rest)?.trim_ascii_start();
            self.spans.push(Span::new(start, self.words.len()));
        }
        Ok(())
    }

    /// Takes a word and returns what follows. A part in quotes, at most one, ends the word.
    fn word<'l>(&mut self, line: &'l [u8]) -> Result<&'l [u8], ProtocolError> {
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
        let end = line.iter().position(is_end).unwrap_or(line.len());
        let (plain, rest) = line.split_at(end);
        self.words.extend_from_slice(plain);
        let &[quote @ (b'"' | b'\''), ref quoted @ ..] = rest else {
            return Ok(rest);
        };
        let rest = self.quoted(quote, quoted)?;
        match rest.first().is_none_or(u8::is_ascii_whitespace) {
            true => Ok(rest),
            false => Err(ProtocolError::Quotes),
        }
    }

    /// Takes a word up to its closing quote and returns what follows. A backslash makes the next
    /// byte an ordinary one; between double quotes `\n`, `\r`, `\t`, `\a`, `\b` and `\xhh` are
    /// what they are in C.
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

/// The number of strings at the front of an array, and where the first begins; `None` if it has
/// not arrived whole.
#[inline]
fn count(input: &[u8]) -> Result<Option<Progress>, ProtocolError> {
    if let [b'*', digit @ b'0'..=b'9', b'\r', b'\n', ..] = *input {
        return Ok(Some(Progress { at: 4, left: u32::from(digit - b'0') }));
    }
    match number(input, 1).ok_or(ProtocolError::Count)? {
        None => Ok(None),
        Some((count, _)) if count > MAX_STRINGS as i64 => Err(ProtocolError::Count),
        Some((count, at)) => Ok(Some(Progress { at: at as u32, left: count.max(0) as u32 })),
    }
}

/// The string of an array that begins at a place, if it has arrived whole and its length has one
/// digit or two, as nearly all have: to read those one by one would be a third of the work of a
/// request.
#[inline]
fn short_string(input: &[u8], at: usize) -> Option<Span> {
    let &[b'$', a @ b'0'..=b'9', b, c, d, ..] = input.get(at..)? else { return None };
    let digit = |byte: u8| usize::from(byte - b'0');
    let (start, len) = match [b, c, d] {
        [b'\r', b'\n', _] => (at + 4, digit(a)),
        [b'0'..=b'9', b'\r', b'\n'] => (at + 5, 10 * digit(a) + digit(b)),
        _ => return None,
    };
    let end = start + len;
    let is_whole = input.get(end..end + 2)? == b"\r\n" && end <= MAX_REQUEST_BYTES;
    is_whole.then(|| Span::new(start, end))
}

/// The string of an array that begins at a place; `None` if it has not arrived whole.
fn string(input: &[u8], at: usize) -> Result<Option<Span>, ProtocolError> {
    match input.get(at) {
        None => return Ok(None),
        Some(b'$') => {}
        Some(&byte) => return Err(ProtocolError::Dollar(byte)),
    }
    let Some((len, start)) = number(input, at + 1).ok_or(ProtocolError::Length)? else {
        return Ok(None);
    };
    if !(0..=MAX_STRING_BYTES as i64).contains(&len) {
        return Err(ProtocolError::Length);
    }
    let end = start + len as usize;
    if end > MAX_REQUEST_BYTES {
        return Err(ProtocolError::Size);
    }
    match input.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(Span::new(start, end))),
        None | Some([] | [b'\r']) => Ok(None),
        Some(_) => Err(ProtocolError::End),
    }
}

/// The number at a place, up to its CRLF, and the place behind that. `None` if there is none,
/// `Some(None)` if it has not arrived whole.
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
        b'a' => 0x07,
        b'b' => 0x08,
        other => other,
    }
}
