//! Frames of WebSocket (RFC 6455, section 5), as a server sends them and as a client does.

/// The head of a frame of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether the frame ends its message.
    pub(crate) is_last: bool,
    pub(crate) opcode: u8,
    /// Bytes of payload.
    pub(crate) length: u64,
    /// Bytes of the head itself.
    pub(crate) size: usize,
}

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Bytes of payload that a control frame may have.
const MOST_CONTROL_BYTES: u64 = 125;

impl Head {
    pub(crate) fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }

    /// Reads a head; `None` if it is not complete.
    #[inline]
    pub(crate) fn parse(input: &[u8]) -> Result<Option<Self>, String> {
        let &[first, second, ref rest @ ..] = input else { return Ok(None) };
        let (is_last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err("a reserved bit is set, and no extension was asked for".to_owned());
        }
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err(format!("{opcode} is no kind of frame"));
        }
        if second & 0x80 != 0 {
            return Err("a frame of a server has a mask".to_owned());
        }
        let (length, more) = match second {
            126 => match rest.first_chunk() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        let fewest = match more {
            0 => 0,
            2 => 126,
            _ => 1 << 16,
        };
        if length < fewest {
            return Err(format!("a length of {length} in {more} bytes, more than it needs"));
        }
        let head = Self { is_last, opcode, length, size: 2 + more };
        if head.is_control() && (!is_last || length > MOST_CONTROL_BYTES) {
            return Err("a control frame is in fragments or has more than 125 bytes".to_owned());
        }
        Ok(Some(head))
    }
}

/// Appends the head of a frame that is a whole message, or a control frame, of a client.
#[inline]
pub(crate) fn write_head(to: &mut Vec<u8>, opcode: u8, length: u64, key: [u8; 4]) {
    to.push(0x80 | opcode);
    match length {
        0..=125 => to.push(0x80 | length as u8),
        126..=0xffff => {
            to.push(0x80 | 126);
            to.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            to.push(0x80 | 127);
            to.extend_from_slice(&length.to_be_bytes());
        }
    }
    to.extend_from_slice(&key);
}

/// Masks bytes, of which the first is at a multiple of four in its frame.
#[inline]
pub(crate) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for eight in &mut words {
        let masked = u64::from_ne_bytes((&*eight).try_into().expect("eight bytes")) ^ word;
        eight.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}
