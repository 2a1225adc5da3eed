//! The number in front of a frame.

use std::iter::FusedIterator;
use std::ops::Deref;

#[cfg(doc)]
use super::headed;
use super::{Cursor, Found, Frame, FrameError};

/// Cuts `input` into frames of at most `max_bytes` bytes, each with its length in front of it.
///
/// The prefix is not part of the frame. For one with other bytes before it see [`headed`]. Limits
/// above `isize::MAX - 8` mean just that, as no slice
/// could hold more.
///
/// # Examples
///
/// ```
/// use waterwheel::frame::{self, LengthPrefix};
///
/// # fn main() -> Result<(), frame::FrameError> {
/// let input = b"\x00\x03one\x00\x03tw";
/// let mut frames = frame::length_prefixed(input, LengthPrefix::U16_BE, 1024);
/// assert_eq!(frames.next().transpose()?, Some(&b"one"[..]));
/// assert_eq!(frames.next(), None);
/// assert_eq!(frames.consumed(), 5);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The iterator yields, as soon as the prefix is whole,
/// - [`FrameError::TooLong`] if the frame would be longer than the limit;
/// - [`FrameError::LengthBelowPrefix`] if the length should count its own bytes but is too small;
/// - [`FrameError::PrefixTooLong`] if a prefix of varying width does not end.
pub fn length_prefixed(input: &[u8], prefix: LengthPrefix, max_bytes: usize) -> LengthPrefixed<'_> {
    let max_bytes = max_bytes.min(MAX_PAYLOAD_BYTES);
    LengthPrefixed { cursor: Cursor::new(input), prefix, max_bytes }
}

/// The widest prefix, in bytes.
const MAX_WIDTH_BYTES: usize = 8;

/// The longest payload that fits a slice together with the widest prefix; so the sum of prefix
/// and payload cannot overflow, whatever a peer claims.
const MAX_PAYLOAD_BYTES: usize = isize::MAX as usize - MAX_WIDTH_BYTES;

/// An iterator over frames with their length in front, made by [`length_prefixed`].
///
/// # Examples
///
/// ```
/// use waterwheel::frame::{self, FrameError, LengthPrefix};
///
/// // The body has not arrived, but its length has, and that is enough.
/// let mut frames = frame::length_prefixed(b"\x02ok\xff", LengthPrefix::U8, 100);
/// assert_eq!(frames.next(), Some(Ok(&b"ok"[..])));
/// assert_eq!(frames.next(), Some(Err(FrameError::TooLong { at_least: 255, limit: 100 })));
/// assert_eq!(frames.next(), None);
/// assert_eq!(frames.consumed(), 3);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an iterator does nothing until it is asked for frames"]
pub struct LengthPrefixed<'a> {
    /// What has been cut and what has not.
    cursor: Cursor<'a>,
    /// How the length is written.
    prefix: LengthPrefix,
    /// The longest frame that passes, without its prefix. Invariant: at most `MAX_PAYLOAD_BYTES`.
    max_bytes: usize,
}

impl LengthPrefixed<'_> {
    /// How many bytes the frames yielded so far took, prefixes included.
    ///
    /// # Examples
    ///
    /// ```
    /// use waterwheel::frame::{self, LengthPrefix};
    ///
    /// let mut frames = frame::length_prefixed(b"\x01a\x01", LengthPrefix::U8, 80);
    /// assert_eq!(frames.by_ref().count(), 1);
    /// assert_eq!(frames.consumed(), 2);
    /// ```
    pub fn consumed(&self) -> usize {
        self.cursor.consumed
    }
}

impl<'a> Iterator for LengthPrefixed<'a> {
    type Item = Result<&'a [u8], FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (prefix, max_bytes) = (self.prefix, self.max_bytes);
        self.cursor.cut(|rest| find_length_prefixed(rest, prefix, max_bytes))
    }
}

impl FusedIterator for LengthPrefixed<'_> {}

/// How the length in front of a frame is written: its width, its byte order, what it counts.
///
/// # Examples
///
/// Reading, with [`length_prefixed`], and writing, with [`encode`](Self::encode), share one value.
///
/// ```
/// use waterwheel::frame::{self, LengthPrefix};
///
/// /// Three bytes, the most significant first, which count themselves too.
/// const PREFIX: LengthPrefix = LengthPrefix::U24_BE.counting_itself();
///
/// # fn main() -> Result<(), frame::FrameError> {
/// let mut message = PREFIX.encode(5)?.to_vec();
/// message.extend_from_slice(b"hello");
/// assert_eq!(message, b"\x00\x00\x08hello");
///
/// let mut frames = frame::length_prefixed(&message, PREFIX, 1024);
/// assert_eq!(frames.next(), Some(Ok(&b"hello"[..])));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LengthPrefix {
    /// How many bytes the length has, at most if it varies. Invariant: 1 to `MAX_WIDTH_BYTES`.
    width_bytes: usize,
    /// How they make a number.
    form: Form,
    /// Whether the length is that of prefix and payload together.
    counts_itself: bool,
}

impl LengthPrefix {
    /// A prefix of one byte.
    pub const U8: Self = Self::new(1, Form::Big);
    /// Two bytes, the most significant first ("network order").
    pub const U16_BE: Self = Self::new(2, Form::Big);
    /// Two bytes, the least significant first.
    pub const U16_LE: Self = Self::new(2, Form::Little);
    /// Three bytes, the most significant first.
    pub const U24_BE: Self = Self::new(3, Form::Big);
    /// Three bytes, the least significant first.
    pub const U24_LE: Self = Self::new(3, Form::Little);
    /// Four bytes, the most significant first.
    pub const U32_BE: Self = Self::new(4, Form::Big);
    /// Four bytes, the least significant first.
    pub const U32_LE: Self = Self::new(4, Form::Little);
    /// Eight bytes, the most significant first.
    pub const U64_BE: Self = Self::new(8, Form::Big);
    /// Eight bytes, the least significant first.
    pub const U64_LE: Self = Self::new(8, Form::Little);

    const fn new(width_bytes: usize, form: Form) -> Self {
        Self { width_bytes, form, counts_itself: false }
    }

    /// A prefix of one to `max_width_bytes` bytes, seven bits of the length in each, the least
    /// significant first; the eighth bit says that another byte follows (LEB128). MQTT's has four
    /// bytes at most, the lengths of Protocol Buffers have five. An encoding that is longer than
    /// it must be passes.
    ///
    /// # Examples
    ///
    /// ```
    /// use waterwheel::frame::{self, LengthPrefix};
    ///
    /// const PREFIX: LengthPrefix = LengthPrefix::varint(4);
    ///
    /// # fn main() -> Result<(), frame::FrameError> {
    /// assert_eq!(*PREFIX.encode(5)?, [5]);
    /// assert_eq!(*PREFIX.encode(300)?, [0xac, 2]);
    /// let mut frames = frame::length_prefixed(b"\x02ok\x80", PREFIX, 1024);
    /// assert_eq!(frames.next(), Some(Ok(&b"ok"[..])));
    /// assert_eq!(frames.next(), None); // the next length has not arrived whole
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If the width is not 1 to 8 bytes; in a constant that is an error of the compiler.
    pub const fn varint(max_width_bytes: usize) -> Self {
        assert!(
            max_width_bytes >= 1 && max_width_bytes <= MAX_WIDTH_BYTES,
            "a length has 1 to 8 bytes"
        );
        Self::new(max_width_bytes, Form::Varint)
    }

    /// Returns this prefix with a length that counts the prefix's own bytes as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use waterwheel::frame::LengthPrefix;
    ///
    /// # fn main() -> Result<(), waterwheel::frame::FrameError> {
    /// assert_eq!(&LengthPrefix::U16_BE.encode(5)?[..], [0, 5]);
    /// assert_eq!(&LengthPrefix::U16_BE.counting_itself().encode(5)?[..], [0, 7]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn counting_itself(self) -> Self {
        Self { counts_itself: true, ..self }
    }

    /// The bytes to send in front of a payload of `payload_bytes` bytes.
    ///
    /// # Examples
    ///
    /// Prefix and payload in one buffer are accepted or refused by a `write` together.
    ///
    /// ```
    /// use waterwheel::frame::LengthPrefix;
    ///
    /// # fn main() -> Result<(), waterwheel::frame::FrameError> {
    /// let payload = b"hello";
    /// let mut message = Vec::new();
    /// message.extend_from_slice(&LengthPrefix::U32_LE.encode(payload.len())?);
    /// message.extend_from_slice(payload);
    /// assert_eq!(message, b"\x05\x00\x00\x00hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`FrameError::PrefixTooNarrow`] if the prefix cannot hold so large a number.
    pub fn encode(self, payload_bytes: usize) -> Result<EncodedLength, FrameError> {
        let (size, limit) = (payload_bytes as u64, self.largest_payload());
        if size > limit {
            return Err(FrameError::PrefixTooNarrow { size, limit });
        }
        if self.form == Form::Varint {
            return Ok(self.encode_varint(size));
        }
        let length = size + self.own_bytes(self.width_bytes);
        let mut bytes = length.to_le_bytes();
        if self.form == Form::Big {
            bytes[..self.width_bytes].reverse();
        }
        Ok(EncodedLength { bytes, width_bytes: self.width_bytes })
    }

    /// The narrowest prefix that holds the length, which may count the prefix.
    fn encode_varint(self, size: u64) -> EncodedLength {
        let holds = |&width: &usize| size + self.own_bytes(width) <= largest_varint(width);
        let width_bytes = (1..self.width_bytes).find(holds).unwrap_or(self.width_bytes);
        let mut left = size + self.own_bytes(width_bytes);
        let mut bytes = [0; MAX_WIDTH_BYTES];
        for (at, byte) in bytes[..width_bytes].iter_mut().enumerate() {
            let follows = at + 1 < width_bytes;
            *byte = (left & 0x7f) as u8 | if follows { 0x80 } else { 0 };
            left >>= 7;
        }
        EncodedLength { bytes, width_bytes }
    }

    /// The payload's size and the prefix's, in bytes, from an input that begins with a prefix;
    /// `None` if it has not arrived whole.
    pub(super) fn decode(self, input: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
        let append = |number: u64, &byte| (number << 8) | u64::from(byte);
        let widest = &input[..input.len().min(self.width_bytes)];
        let (length, width) = match self.form {
            Form::Varint => match widest.iter().position(|&byte| byte < 0x80) {
                Some(last) => {
                    let digits = widest[..=last].iter().rev();
                    let length =
                        digits.fold(0, |number: u64, &byte| (number << 7) | u64::from(byte & 0x7f));
                    (length, last + 1)
                }
                None if widest.len() < self.width_bytes => return Ok(None),
                None => return Err(FrameError::PrefixTooLong { limit: self.width_bytes as u64 }),
            },
            _ if widest.len() < self.width_bytes => return Ok(None),
            Form::Big => (widest.iter().fold(0, append), self.width_bytes),
            Form::Little => (widest.iter().rev().fold(0, append), self.width_bytes),
        };
        let minimum = self.own_bytes(width);
        let size = length.checked_sub(minimum);
        let size = size.ok_or(FrameError::LengthBelowPrefix { length, minimum })?;
        Ok(Some((size, width)))
    }

    /// How many of the bytes that the length counts are the prefix itself, of this width.
    fn own_bytes(self, width_bytes: usize) -> u64 {
        if self.counts_itself { width_bytes as u64 } else { 0 }
    }

    /// The largest payload, in bytes, whose length the prefix can hold.
    fn largest_payload(self) -> u64 {
        let largest = match self.form {
            Form::Varint => largest_varint(self.width_bytes),
            _ => u64::MAX >> (8 * (MAX_WIDTH_BYTES - self.width_bytes)),
        };
        largest - self.own_bytes(self.width_bytes)
    }
}

/// The largest number of so many groups of seven bits.
fn largest_varint(width_bytes: usize) -> u64 {
    (1 << (7 * width_bytes)) - 1
}

/// How the bytes of a length make a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    /// The most significant byte is the first.
    Big,
    /// The least significant byte is the first.
    Little,
    /// Groups of seven bits, the least significant first.
    Varint,
}

/// The bytes of one length, made by [`LengthPrefix::encode`]; it derefs to `[u8]`.
///
/// # Examples
///
/// ```
/// use waterwheel::frame::LengthPrefix;
///
/// # fn main() -> Result<(), waterwheel::frame::FrameError> {
/// let prefix = LengthPrefix::U16_LE.encode(258)?;
/// assert_eq!(*prefix, [2, 1]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncodedLength {
    /// The prefix, then zeros.
    bytes: [u8; MAX_WIDTH_BYTES],
    /// How many of `bytes` are the prefix. Invariant: at most `MAX_WIDTH_BYTES`.
    width_bytes: usize,
}

impl Deref for EncodedLength {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.width_bytes]
    }
}

impl AsRef<[u8]> for EncodedLength {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

fn find_length_prefixed(input: &[u8], prefix: LengthPrefix, max_bytes: usize) -> Found<'_> {
    let Some((size, width)) = prefix.decode(input)? else { return Ok(None) };
    let limit = max_bytes as u64;
    if size > limit {
        return Err(FrameError::TooLong { at_least: size, limit });
    }
    let size = size as usize; // at most `max_bytes`
    let payload = input[width..].get(..size);
    Ok(payload.map(|payload| Frame { payload, taken: width + size }))
}
