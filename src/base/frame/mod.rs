//! Frames: where one message ends and the next begins.
//!
//! TCP carries bytes, not messages: what one `write` sent may arrive in two reads, or together
//! with the next. The functions here cut the `input` of `on_data` into the messages that a
//! protocol put on the wire:
//!
//! | function | a frame is | example |
//! |---|---|---|
//! | [`lines`] | what stands before LF or CRLF | SMTP, Redis inline, chat |
//! | [`delimited`] | what stands before a byte string | multipart bodies, NUL-terminated text |
//! | [`fixed`] | `N` bytes | sensor records, ticks |
//! | [`length_prefixed`] | as long as the number in front of it says | most binary protocols |
//! | [`headed`] | the same, with `N` bytes before the number | MQTT, memcached, AMQP |
//! | [`by_rule`] | as long as a function of yours says | all other formats |
//!
//! Each returns an iterator that borrows its frames from the input and copies nothing. It stops
//! at the first frame that has not arrived whole; `consumed()` then says how many bytes the
//! frames took, which is what `on_data` returns. The rest comes back in front of the next bytes.
//!
//! # Examples
//!
//! ```
//! use waterwheel::frame;
//!
//! const MAX_LINE_BYTES: usize = 512;
//!
//! /// The heart of an `on_data`: returns how many bytes it took, or why the peer must go.
//! fn serve(input: &[u8], replies: &mut Vec<u8>) -> Result<usize, frame::FrameError> {
//!     let mut lines = frame::lines(input, MAX_LINE_BYTES);
//!     for line in lines.by_ref() {
//!         replies.extend_from_slice(line?);
//!         replies.push(b'!');
//!     }
//!     Ok(lines.consumed())
//! }
//!
//! # fn main() -> Result<(), frame::FrameError> {
//! let mut replies = Vec::new();
//! assert_eq!(serve(b"one\r\ntwo\nthr", &mut replies)?, 9); // "thr" comes again
//! assert_eq!(replies, b"one!two!");
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! A peer decides how long its frames are. So each function takes a limit, unless the length is
//! fixed. The limit counts the bytes that the iterator would yield, without terminator or prefix,
//! and a frame of exactly that size passes. A limit of zero lets only empty frames pass.
//! `Limits::max_input_bytes` must leave room for the largest frame *with* its terminator or prefix,
//! or the connection ends before the frame is complete.
//!
//! The frames, and an error, depend only on the bytes, and not on how the network split them. An
//! error is returned as soon as the bytes so far make it certain: for a line before its end is
//! seen, for a prefixed frame before its body arrives. After an error the iterator is at its end,
//! and `consumed()` does not count the bad frame. The start of the next frame cannot be found, so
//! close the connection.
//!
//! # Cost
//!
//! The search looks at 16 bytes at a time and never looks beyond the limit. If a frame arrives in
//! many pieces, each piece makes the search begin again at the start of the frame. The limit bounds
//! that work: for a line of 64 KiB it is about 2 µs a piece. A delimiter of several bytes is
//! compared at each occurrence of its first byte, about 5 ns each. A peer may send nothing but that
//! byte, so keep the limit of such frames to a few KiB.

mod prefix;
mod rule;

use std::error::Error;
use std::fmt;
use std::iter::FusedIterator;

pub use prefix::{EncodedLength, LengthPrefix, LengthPrefixed, length_prefixed};
pub use rule::{ByRule, Headed, by_rule, headed};

/// Cuts `input` into lines of at most `max_bytes` bytes.
///
/// A line ends with LF or CRLF, which is not part of it. A CR elsewhere is an ordinary byte.
/// What follows the last LF is not a line yet.
///
/// # Examples
///
/// ```
/// use waterwheel::frame;
///
/// # fn main() -> Result<(), frame::FrameError> {
/// let input = b"HELO there\r\n\nQUI";
/// let mut lines = frame::lines(input, 512);
/// let found = lines.by_ref().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(found, [&b"HELO there"[..], b""]);
/// assert_eq!(&input[lines.consumed()..], b"QUI");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The iterator yields [`FrameError::TooLong`] once a line can no longer end within the limit.
pub fn lines(input: &[u8], max_bytes: usize) -> Lines<'_> {
    Lines { cursor: Cursor::new(input), max_bytes }
}

/// Cuts `input` into frames of at most `max_bytes` bytes, each ended by `delimiter`.
///
/// The delimiter is not part of the frame. The first one found counts: `"aab"` ended by `"ab"` is
/// the frame `"a"`.
///
/// # Examples
///
/// ```
/// use waterwheel::frame;
///
/// # fn main() -> Result<(), frame::FrameError> {
/// let mut heads = frame::delimited(b"GET /\r\nHost: a\r\n\r\nGET", b"\r\n\r\n", 8192);
/// assert_eq!(heads.next().transpose()?, Some(&b"GET /\r\nHost: a"[..]));
/// assert_eq!(heads.next(), None);
/// assert_eq!(heads.consumed(), 18);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The iterator yields [`FrameError::TooLong`] once a frame can no longer end within the limit.
///
/// # Panics
///
/// If `delimiter` is empty.
#[track_caller]
pub fn delimited<'a, 'd>(
    input: &'a [u8],
    delimiter: &'d [u8],
    max_bytes: usize,
) -> Delimited<'a, 'd> {
    assert!(!delimiter.is_empty(), "the delimiter of a frame must not be empty");
    Delimited { cursor: Cursor::new(input), delimiter, max_bytes }
}

/// Cuts `input` into frames of `N` bytes each.
///
/// Nothing can be wrong with such a frame, so the items are arrays and not results. A size of
/// zero does not compile. If the size is known only at run time, [`slice::chunks_exact`] does the
/// same.
///
/// # Examples
///
/// ```
/// use waterwheel::frame;
///
/// let mut samples = frame::fixed(&[0, 1, 0, 2, 0]);
/// let sum: u16 = samples.by_ref().map(|sample| u16::from_be_bytes(*sample)).sum();
/// assert_eq!(sum, 3);
/// assert_eq!(samples.consumed(), 4);
/// ```
///
/// ```compile_fail
/// waterwheel::frame::fixed::<0>(b"");
/// ```
pub fn fixed<const N: usize>(input: &[u8]) -> Fixed<'_, N> {
    const { assert!(N > 0, "a frame of fixed size has at least one byte") };
    Fixed { rest: input, consumed: 0 }
}

/// An iterator over the lines of an input, made by [`lines`].
///
/// # Examples
///
/// A handler may stop early; the lines it has not seen stay in the input.
///
/// ```
/// use waterwheel::frame;
///
/// let input = b"STARTTLS\r\n\x16\x03\x01";
/// let mut lines = frame::lines(input, 512);
/// assert_eq!(lines.next(), Some(Ok(&b"STARTTLS"[..])));
/// assert_eq!(&input[lines.consumed()..], b"\x16\x03\x01"); // no longer lines
/// ```
#[derive(Debug, Clone)]
#[must_use = "an iterator does nothing until it is asked for frames"]
pub struct Lines<'a> {
    /// What has been cut and what has not.
    cursor: Cursor<'a>,
    /// The longest line that passes, without its terminator.
    max_bytes: usize,
}

impl Lines<'_> {
    /// How many bytes the lines yielded so far took, terminators included.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut lines = waterwheel::frame::lines(b"a\r\nb", 80);
    /// assert_eq!(lines.by_ref().count(), 1);
    /// assert_eq!(lines.consumed(), 3);
    /// ```
    pub fn consumed(&self) -> usize {
        self.cursor.consumed
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let max_bytes = self.max_bytes;
        self.cursor.cut(|rest| find_line(rest, max_bytes))
    }
}

impl FusedIterator for Lines<'_> {}

/// An iterator over frames that end with a delimiter, made by [`delimited`].
///
/// # Examples
///
/// ```
/// let mut words = waterwheel::frame::delimited(b"one\0two\0", b"\0", 16);
/// assert_eq!(words.by_ref().flatten().count(), 2);
/// assert_eq!(words.consumed(), 8);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an iterator does nothing until it is asked for frames"]
pub struct Delimited<'a, 'd> {
    /// What has been cut and what has not.
    cursor: Cursor<'a>,
    /// What ends a frame. Invariant: not empty.
    delimiter: &'d [u8],
    /// The longest frame that passes, without its delimiter.
    max_bytes: usize,
}

impl Delimited<'_, '_> {
    /// How many bytes the frames yielded so far took, delimiters included.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut words = waterwheel::frame::delimited(b"a--b-", b"--", 80);
    /// assert_eq!(words.by_ref().count(), 1);
    /// assert_eq!(words.consumed(), 3);
    /// ```
    pub fn consumed(&self) -> usize {
        self.cursor.consumed
    }
}

impl<'a> Iterator for Delimited<'a, '_> {
    type Item = Result<&'a [u8], FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (delimiter, max_bytes) = (self.delimiter, self.max_bytes);
        self.cursor.cut(|rest| find_delimited(rest, delimiter, max_bytes))
    }
}

impl FusedIterator for Delimited<'_, '_> {}

/// An iterator over frames of `N` bytes, made by [`fixed`].
///
/// # Examples
///
/// ```
/// let mut pairs = waterwheel::frame::fixed::<2>(b"abcde");
/// assert_eq!(pairs.by_ref().collect::<Vec<_>>(), [b"ab", b"cd"]);
/// assert_eq!(pairs.consumed(), 4);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an iterator does nothing until it is asked for frames"]
pub struct Fixed<'a, const N: usize> {
    /// What has not been cut.
    rest: &'a [u8],
    /// The bytes before `rest`. Invariant: a multiple of `N`.
    consumed: usize,
}

impl<const N: usize> Fixed<'_, N> {
    /// How many bytes the frames yielded so far took: a multiple of `N`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut triples = waterwheel::frame::fixed::<3>(b"abcd");
    /// assert_eq!(triples.by_ref().count(), 1);
    /// assert_eq!(triples.consumed(), 3);
    /// ```
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a, const N: usize> Iterator for Fixed<'a, N> {
    type Item = &'a [u8; N];

    fn next(&mut self) -> Option<Self::Item> {
        let (frame, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.consumed += N;
        Some(frame)
    }
}

impl<const N: usize> FusedIterator for Fixed<'_, N> {}

/// Why an input cannot be cut into frames, or a length not be written.
///
/// # Examples
///
/// ```
/// use waterwheel::frame::{self, FrameError};
///
/// let mut lines = frame::lines(b"far too long", 3);
/// let error = lines.next().unwrap().unwrap_err();
/// assert_eq!(error, FrameError::TooLong { at_least: 4, limit: 3 });
/// assert_eq!(
///     error.to_string(),
///     "a frame has at least 4 bytes, the limit is 3: close the connection or raise the limit",
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than the limit.
    TooLong {
        /// The frame's size in bytes. Of a frame that is ended by a terminator only this much is
        /// certain: it is one more than the limit.
        at_least: u64,
        /// The limit that the frame breaks, in bytes.
        limit: u64,
    },
    /// The length should count the bytes of its own prefix, and is less than these alone.
    LengthBelowPrefix {
        /// The length received, in bytes.
        length: u64,
        /// The width of the prefix, in bytes.
        minimum: u64,
    },
    /// A prefix of varying width goes on beyond its last byte.
    PrefixTooLong {
        /// The widest prefix that passes, in bytes.
        limit: u64,
    },
    /// The rule of [`by_rule`] refuses the frame, and says why.
    Malformed(&'static str),
    /// The payload is too long for its length to be written in the prefix.
    PrefixTooNarrow {
        /// The payload's size in bytes.
        size: u64,
        /// The largest payload that the prefix allows, in bytes.
        limit: u64,
    },
}

impl FrameError {
    fn unterminated(max_bytes: usize) -> Self {
        let limit = max_bytes as u64;
        Self::TooLong { at_least: limit.saturating_add(1), limit }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { at_least, limit } => write!(
                f,
                "a frame has at least {at_least} bytes, the limit is {limit}: \
                 close the connection or raise the limit"
            ),
            Self::LengthBelowPrefix { length, minimum } => write!(
                f,
                "a frame's length is {length} though its prefix alone has {minimum} bytes: \
                 close the connection, or check whether the peer counts the prefix"
            ),
            Self::PrefixTooLong { limit } => {
                write!(f, "the length of a frame goes on after {limit} bytes: close the connection")
            }
            Self::Malformed(why) => {
                write!(f, "a frame is malformed: {why}: close the connection")
            }
            Self::PrefixTooNarrow { size, limit } => write!(
                f,
                "a payload has {size} bytes, the limit of its length prefix is {limit}: \
                 split the payload or use a wider prefix"
            ),
        }
    }
}

impl Error for FrameError {}

/// Where an iterator stands in its input.
#[derive(Debug, Clone)]
struct Cursor<'a> {
    /// What has not been cut.
    rest: &'a [u8],
    /// The bytes before `rest`.
    consumed: usize,
    /// Whether a frame was found incomplete or bad. Nothing follows it, and to look again would
    /// be to search the same bytes again.
    ended: bool,
}

/// A frame at the front of an input.
struct Frame<P> {
    payload: P,
    /// The size with terminator or prefix, in bytes.
    taken: usize,
}

/// What stands at the front of an input: a frame, the beginning of one, or an error.
type Found<'a> = Result<Option<Frame<&'a [u8]>>, FrameError>;

impl<'a> Cursor<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { rest: input, consumed: 0, ended: false }
    }

    /// Cuts off the frame that `find` finds, or ends.
    fn cut<P>(
        &mut self,
        find: impl FnOnce(&'a [u8]) -> Result<Option<Frame<P>>, FrameError>,
    ) -> Option<Result<P, FrameError>> {
        if self.ended {
            return None;
        }
        match find(self.rest) {
            Ok(Some(frame)) => {
                self.rest = &self.rest[frame.taken..];
                self.consumed += frame.taken;
                return Some(Ok(frame.payload));
            }
            Ok(None) => self.ended = true,
            Err(error) => {
                self.ended = true;
                return Some(Err(error));
            }
        }
        None
    }
}

fn find_line(rest: &[u8], max_bytes: usize) -> Found<'_> {
    let window = first(rest, max_bytes.saturating_add(b"\r\n".len()));
    let end = position_of_byte(window, b'\n');
    let line = &window[..end.unwrap_or(window.len())];
    // Without an LF in sight a CR at the end may still turn out to be part of the terminator, so
    // it is given the same benefit as one before an LF.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > max_bytes {
        return Err(FrameError::unterminated(max_bytes));
    }
    Ok(end.map(|end| Frame { payload: line, taken: end + 1 }))
}

fn find_delimited<'a>(rest: &'a [u8], delimiter: &[u8], max_bytes: usize) -> Found<'a> {
    let window = first(rest, max_bytes.saturating_add(delimiter.len()));
    if let Some(end) = position_of(window, delimiter) {
        return Ok(Some(Frame { payload: &window[..end], taken: end + delimiter.len() }));
    }
    if earliest_end(window, delimiter) > max_bytes {
        return Err(FrameError::unterminated(max_bytes));
    }
    Ok(None)
}

/// The first `len` bytes, or all there are.
fn first(bytes: &[u8], len: usize) -> &[u8] {
    &bytes[..bytes.len().min(len)]
}

/// Where a frame ends at the earliest whose delimiter has not arrived whole: where the tail of
/// `window` may be the delimiter's beginning, else at the end.
fn earliest_end(window: &[u8], delimiter: &[u8]) -> usize {
    let from = window.len().saturating_sub(delimiter.len() - 1);
    (from..window.len()).find(|&at| delimiter.starts_with(&window[at..])).unwrap_or(window.len())
}

fn position_of(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(skipped) = position_of_byte(&haystack[from..], needle[0]) {
        let at = from + skipped;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// `position` looks at one byte at a time because it may stop at any. To ask of a whole chunk
/// whether it holds the byte compiles to vector instructions: over ten times as fast where the
/// byte is far away. Where it is near it is looked for in words.
fn position_of_byte(haystack: &[u8], needle: u8) -> Option<usize> {
    const CHUNK_BYTES: usize = 16;
    let holds = |chunk: &[u8]| chunk.iter().fold(false, |any, &byte| any | (byte == needle));
    let chunks = haystack.chunks_exact(CHUNK_BYTES);
    let skipped = chunks.take_while(|chunk| !holds(chunk)).count() * CHUNK_BYTES;
    let mut at = skipped;
    while let Some(word) = haystack[at..].first_chunk() {
        // A byte is zero where the needle is. The lowest mark is that of the first such byte.
        let unlike = u64::from_le_bytes(*word) ^ u64::from_le_bytes([needle; 8]);
        let marks = unlike.wrapping_sub(LOW_BITS) & !unlike & (LOW_BITS << 7);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += word.len();
    }
    haystack[at..].iter().position(|&byte| byte == needle).map(|behind| at + behind)
}

/// The lowest bit of each byte of a word.
const LOW_BITS: u64 = u64::from_le_bytes([1; 8]);
