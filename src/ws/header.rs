//! The head of a frame (RFC 6455, section 5.2).

use crate::ws::code::Fault;

/// The bytes of the longest head.
pub(super) const MAX_HEADER: usize = 14;

/// Payload that a control frame may have, in bytes.
pub(super) const MAX_CONTROL: usize = 125;

/// The bit of the last frame of a message.
pub(super) const FIN: u8 = 0x80;

/// The bit of a message that is compressed.
pub(super) const RSV1: u8 = 0x40;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn new(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The head of a frame that has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether it ends its message.
    pub(super) is_last: bool,
    /// Whether it says that its message is compressed.
    pub(super) is_deflated: bool,
    pub(super) opcode: Opcode,
    /// The key; zeros where nothing is masked.
    pub(super) key: [u8; 4],
    /// Bytes of payload.
    pub(super) length: u64,
    /// Bytes of the head itself.
    pub(super) size: usize,
}

/// Reads the head of a frame. `None`: it is not complete.
///
/// What is wrong is told from the first bytes that show it. Whether the frame fits those before it
/// is for the caller.
pub(super) fn parse(input: &[u8], is_masked: bool) -> Result<Option<Header>, Fault> {
    let &[first, second, ref rest @ ..] = input else {
        if let [first] = input {
            check_first(*first)?;
        }
        return Ok(None);
    };
    let opcode = check_first(first)?;
    if (second & 0x80 != 0) != is_masked {
        let text = if is_masked { "a frame without a mask" } else { "a frame with a mask" };
        return Err(Fault::protocol(text));
    }
    let short = second & 0x7f;
    if opcode.is_control() && short > 125 {
        return Err(Fault::protocol("a control frame of more than 125 bytes"));
    }
    let (length, rest) = match short {
        126 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    if short == 126 && length < 126 || short == 127 && length <= u64::from(u16::MAX) {
        return Err(Fault::protocol("a length in more bytes than it needs"));
    }
    if length >> 63 != 0 {
        return Err(Fault::protocol("a length with its top bit set"));
    }
    let (key, rest) = match (is_masked, rest.split_first_chunk()) {
        (false, _) => ([0; 4], rest),
        (true, Some((key, rest))) => (*key, rest),
        (true, None) => return Ok(None),
    };
    Ok(Some(Header {
        is_last: first & FIN != 0,
        is_deflated: first & RSV1 != 0,
        opcode,
        key,
        length,
        size: input.len() - rest.len(),
    }))
}

/// Checks what the first byte alone shows.
fn check_first(first: u8) -> Result<Opcode, Fault> {
    if first & 0x30 != 0 {
        return Err(Fault::protocol("a reserved bit without an extension"));
    }
    let opcode = Opcode::new(first & 0x0f).ok_or(Fault::protocol("an unknown kind of frame"))?;
    if opcode.is_control() && first & FIN == 0 {
        return Err(Fault::protocol("a control frame in fragments"));
    }
    if first & RSV1 != 0 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(Fault::protocol("a reserved bit on a frame that cannot be compressed"));
    }
    Ok(opcode)
}

/// A head to send.
#[derive(Clone, Copy)]
pub(super) struct Built {
    bytes: [u8; MAX_HEADER],
    size: u8,
}

impl Built {
    /// The head of a frame whose first byte is `first`, with the fewest bytes.
    pub(super) fn new(first: u8, length: usize, key: Option<[u8; 4]>) -> Self {
        let masked = if key.is_some() { 0x80 } else { 0 };
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = first;
        let mut size = match length {
            0..=125 => {
                bytes[1] = length as u8 | masked;
                2
            }
            126..=0xffff => {
                bytes[1] = 126 | masked;
                bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127 | masked;
                bytes[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                10
            }
        };
        if let Some(key) = key {
            bytes[size..size + 4].copy_from_slice(&key);
            size += 4;
        }
        Self { bytes, size: size as u8 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::QuickCheck;

    use super::*;

    #[test]
    fn every_pair_of_first_bytes_has_its_verdict() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let bits = first & 0x0f;
                let control = bits >= 8;
                let known = matches!(bits, 0 | 1 | 2 | 8 | 9 | 10);
                let good = first & 0x30 == 0
                    && known
                    && !(control && first & FIN == 0)
                    && (first & RSV1 == 0 || matches!(bits, 1 | 2))
                    && second & 0x80 != 0
                    && !(control && second & 0x7f > 125);
                let found = parse(&[first, second], true);
                assert_eq!(found.is_ok(), good, "{first:#x} {second:#x}: {found:?}");
                assert_eq!(good, !matches!(found, Err(fault) if fault.code.get() == 1002));
            }
        }
    }

    #[test]
    fn a_length_that_is_not_minimal_is_refused() {
        for length in [0_u16, 1, 125] {
            let [high, low] = length.to_be_bytes();
            assert!(parse(&[0x82, 126, high, low], false).is_err());
        }
        for length in [0_u64, 125, 126, 0xffff, 1 << 63, u64::MAX] {
            let mut head = vec![0x82, 127];
            head.extend(length.to_be_bytes());
            assert!(parse(&head, false).is_err(), "{length}");
        }
    }

    /// What is built is read back, and no part of it is taken for the whole.
    #[test]
    fn there_and_back() {
        fn property(kind: u8, length: u32, key: Option<[u8; 4]>, is_last: bool) {
            let length = match kind % 3 {
                0 => length % 300,
                1 => 65_000 + length % 1000,
                _ => length,
            } as usize;
            let first = Opcode::Binary as u8 | if is_last { FIN } else { 0 };
            let built = Built::new(first, length, key);
            let bytes = built.as_slice();
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end], key.is_some()), Ok(None));
            }
            let header = parse(bytes, key.is_some()).unwrap().unwrap();
            assert_eq!(header.length, length as u64);
            assert_eq!(header.size, bytes.len());
            assert_eq!(header.key, key.unwrap_or_default());
            assert_eq!((header.is_last, header.is_deflated), (is_last, false));
        }
        QuickCheck::new().tests(256).quickcheck(property as fn(_, _, _, _));
    }
}
