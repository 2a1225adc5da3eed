//! Frames with bytes before their length, and frames whose length a rule of the user's tells.

use std::fmt;
use std::iter::FusedIterator;

use super::{Cursor, Frame, FrameError, LengthPrefix};

/// Cuts `input` into frames that begin with `N` bytes of a header, followed by the length of the
/// payload, followed by at most `max_bytes` bytes of payload.
///
/// Yields header and payload, without the length. Bytes between the length and the payload belong
/// to the payload, if the length counts them; if it does not, [`by_rule`] is the way.
///
/// # Examples
///
/// A packet of MQTT has a byte for its type and flags, and a varint:
///
/// ```
/// use waterwheel::frame::{self, LengthPrefix};
///
/// # fn main() -> Result<(), frame::FrameError> {
/// let input = b"\xc0\x00\x32\x04\x00\x01a!\x30";
/// let mut packets = frame::headed(input, LengthPrefix::varint(4), 1024);
/// for packet in packets.by_ref() {
///     let (&[first], body) = packet?;
///     println!("type {}, {} bytes", first >> 4, body.len());
/// }
/// assert_eq!(packets.consumed(), 8);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`length_prefixed`](super::length_prefixed), as soon as the length is whole. A limit
/// counts the payload.
pub fn headed<const N: usize>(
    input: &[u8],
    prefix: LengthPrefix,
    max_bytes: usize,
) -> Headed<'_, N> {
    Headed { cursor: Cursor::new(input), prefix, max_bytes }
}

/// Cuts `input` into frames of at most `max_bytes` bytes, each as long as `rule` says.
///
/// The rule is asked with the input from the beginning of a frame on. It returns the size of the
/// whole frame in bytes, what stands before its length included, or `None` if it must see more to
/// tell. It should look at as few bytes as it can: it is asked again when more have come. A frame
/// is yielded whole, and counts whole against the limit.
///
/// # Examples
///
/// A request of memcached's binary protocol has a header of 24 bytes, with a number of four at
/// place 8 that counts what follows the header, and begins with 0x80:
///
/// ```
/// use waterwheel::frame::{self, FrameError};
///
/// fn size(input: &[u8]) -> Result<Option<u64>, FrameError> {
///     if input.first().is_some_and(|&magic| magic != 0x80) {
///         return Err(FrameError::Malformed("a request begins with 0x80"));
///     }
///     let length = input.get(8..12).and_then(|bytes| bytes.try_into().ok());
///     Ok(length.map(|length| 24 + u64::from(u32::from_be_bytes(length))))
/// }
///
/// let mut input = [0; 30];
/// (input[0], input[11]) = (0x80, 3);
/// let mut requests = frame::by_rule(&input, 1024, size);
/// assert_eq!(requests.next().unwrap()?.len(), 27);
/// assert!(requests.next().unwrap().is_err()); // what follows begins with zero
/// assert_eq!(requests.consumed(), 27);
/// # Ok::<(), FrameError>(())
/// ```
///
/// # Errors
///
/// The iterator yields
/// - what the rule returns, [`FrameError::Malformed`] with a text of its own for example;
/// - [`FrameError::TooLong`] if the size is over the limit;
/// - [`FrameError::Malformed`] if the size is zero: such frames would never end.
pub fn by_rule<R>(input: &[u8], max_bytes: usize, rule: R) -> ByRule<'_, R>
where
    R: FnMut(&[u8]) -> Result<Option<u64>, FrameError>,
{
    ByRule { cursor: Cursor::new(input), max_bytes, rule }
}

/// An iterator over frames with a header, made by [`headed`].
#[derive(Debug, Clone)]
#[must_use = "an iterator does nothing until it is asked for frames"]
pub struct Headed<'a, const N: usize> {
    /// What has been cut and what has not.
    cursor: Cursor<'a>,
    /// How the length is written.
    prefix: LengthPrefix,
    /// The longest payload that passes.
    max_bytes: usize,
}

impl<const N: usize> Headed<'_, N> {
    /// How many bytes the frames yielded so far took, headers and lengths included.
    pub fn consumed(&self) -> usize {
        self.cursor.consumed
    }
}

impl<'a, const N: usize> Iterator for Headed<'a, N> {
    type Item = Result<(&'a [u8; N], &'a [u8]), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (prefix, limit) = (self.prefix, self.max_bytes as u64);
        self.cursor.cut(|rest| {
            let Some((header, rest)) = rest.split_first_chunk::<N>() else { return Ok(None) };
            let Some((size, width)) = prefix.decode(rest)? else { return Ok(None) };
            if size > limit {
                return Err(FrameError::TooLong { at_least: size, limit });
            }
            let size = size as usize; // at most `max_bytes`
            let payload = rest[width..].get(..size);
            Ok(payload.map(|payload| Frame { payload: (header, payload), taken: N + width + size }))
        })
    }
}

impl<const N: usize> FusedIterator for Headed<'_, N> {}

/// An iterator over frames whose length a rule returns, made by [`by_rule`].
#[derive(Clone)]
#[must_use = "an iterator does nothing until it is asked for frames"]
pub struct ByRule<'a, R> {
    /// What has been cut and what has not.
    cursor: Cursor<'a>,
    /// The longest frame that passes.
    max_bytes: usize,
    /// Tells how long a frame is.
    rule: R,
}

impl<R> ByRule<'_, R> {
    /// How many bytes the frames yielded so far took.
    pub fn consumed(&self) -> usize {
        self.cursor.consumed
    }
}

impl<'a, R> Iterator for ByRule<'a, R>
where
    R: FnMut(&[u8]) -> Result<Option<u64>, FrameError>,
{
    type Item = Result<&'a [u8], FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (rule, limit) = (&mut self.rule, self.max_bytes as u64);
        self.cursor.cut(|rest| {
            // There is nothing to say of an input without a byte.
            let size = if rest.is_empty() { None } else { rule(rest)? };
            let Some(size) = size else { return Ok(None) };
            if size == 0 {
                return Err(FrameError::Malformed("the rule says that it has no byte"));
            }
            if size > limit {
                return Err(FrameError::TooLong { at_least: size, limit });
            }
            let size = size as usize; // at most `max_bytes`
            Ok(rest.get(..size).map(|payload| Frame { payload, taken: size }))
        })
    }
}

impl<R> FusedIterator for ByRule<'_, R> where R: FnMut(&[u8]) -> Result<Option<u64>, FrameError> {}

impl<R> fmt::Debug for ByRule<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByRule")
            .field("cursor", &self.cursor)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
