//! A message that comes in: in one frame or in several, whole or in pieces, compressed or not.
//! `parts` has what is delivered before all of it has come.

mod parts;

use std::ops::Range;

use crate::ws::assembly::parts::Progress;
use crate::ws::code::Fault;
use crate::ws::deflate::{Codecs, Inflated, Inflater, Window};
use crate::ws::handler::{Kind, Message};
use crate::ws::header::{Header, MAX_CONTROL, Opcode};
use crate::ws::mask::{advance, copy_masked};
use crate::ws::utf8::Utf8;

/// Memory that is kept for the next message, in bytes for each buffer.
pub(super) const KEPT_BYTES: usize = 128 << 10;

/// What a message may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageLimits {
    /// In bytes, also when inflated.
    pub(super) max_bytes: usize,
    pub(super) max_frames: u32,
    /// In bytes, of one that is delivered in parts; `None`: messages are delivered whole.
    pub(super) max_in_parts: Option<u64>,
}

impl MessageLimits {
    /// What a message may have in compressed bytes: no more than a little over its limit, which is
    /// what blocks without compression take.
    fn max_deflated(self) -> u64 {
        let bytes = self.max_bytes as u64;
        bytes.saturating_add(bytes >> 8).saturating_add(64)
    }
}

/// Where the bytes of a whole message are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the input: it came in one frame that was neither masked nor compressed.
    Input(Range<usize>),
    /// In the assembly.
    Assembled,
}

/// The message that is coming in, with buffers that the connections of an endpoint share: one that
/// is between two messages has none.
pub(super) struct Assembly {
    /// What it is, if one has begun.
    kind: Option<Kind>,
    /// The last byte of the message is in the frame that comes in now.
    is_last: bool,
    /// Bytes of that frame that are still to come, and their key.
    left: u64,
    key: [u8; 4],
    /// Frames so far.
    frames: u32,
    /// Bytes of compressed payload so far.
    deflated: u64,
    utf8: Utf8,
    /// Of a compressed message.
    inflater: Option<Inflater>,
    /// Unmasked bytes that are to be inflated.
    raw: Vec<u8>,
    /// The message; its first `filled` bytes.
    plain: Vec<u8>,
    filled: usize,
    /// The payload of the last control frame.
    control: [u8; MAX_CONTROL],
    control_length: usize,
    /// How far it was delivered, if it is in parts.
    progress: Progress,
    /// What was inflated since the bytes came that are looked at now.
    pub(super) inflated: usize,
}

impl Default for Assembly {
    fn default() -> Self {
        Self {
            kind: None,
            is_last: false,
            left: 0,
            key: [0; 4],
            frames: 0,
            deflated: 0,
            utf8: Utf8::default(),
            inflater: None,
            raw: Vec::new(),
            plain: Vec::new(),
            filled: 0,
            control: [0; MAX_CONTROL],
            control_length: 0,
            progress: Progress::default(),
            inflated: 0,
        }
    }
}

impl Assembly {
    /// Whether a message has begun.
    #[inline]
    pub(super) fn is_begun(&self) -> bool {
        self.kind.is_some()
    }

    /// Whether the next bytes go on with what has begun.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.is_begun() || self.left > 0
    }

    /// Bytes of the frame that are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Begins a frame of data. `window` is what a compressed message may refer to; `None`: nothing
    /// may be compressed.
    pub(super) fn begin(
        &mut self,
        header: &Header,
        limits: MessageLimits,
        codecs: impl FnOnce() -> Option<Inflater>,
    ) -> Result<(), Fault> {
        let kind = match header.opcode {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            _ => None,
        };
        match (kind, self.kind) {
            (Some(_), Some(_)) => {
                return Err(Fault::protocol("a message inside another message"));
            }
            (None, None) => {
                return Err(Fault::protocol("a continuation of no message"));
            }
            (Some(kind), None) => {
                if header.is_deflated {
                    let none = Fault::protocol("a reserved bit without an extension");
                    self.inflater = Some(codecs().ok_or(none)?);
                }
                self.kind = Some(kind);
            }
            (None, Some(_)) => {}
        }
        // A message in parts may be of any number of frames, but not of those without a byte.
        self.frames += u32::from(limits.max_in_parts.is_none() || header.length == 0);
        if self.frames > limits.max_frames {
            return Err(Fault::policy("a message of too many frames"));
        }
        let (so_far, max) = match (&self.inflater, limits.max_in_parts) {
            (None, Some(max)) => (self.progress.plain, max),
            (Some(_), Some(_)) => (0, u64::MAX), // what it inflates to is looked at
            (Some(_), None) => (self.deflated, limits.max_deflated()),
            (None, None) => (self.filled as u64, limits.max_bytes as u64),
        };
        if header.length > max.saturating_sub(so_far) {
            return Err(Fault::too_big("a message over the limit"));
        }
        self.is_last = header.is_last;
        self.left = header.length;
        self.key = header.key;
        Ok(())
    }

    /// Takes bytes of the frame; returns how many.
    pub(super) fn take(&mut self, input: &[u8], limits: MessageLimits) -> Result<usize, Fault> {
        let count = self.left.min(input.len() as u64) as usize;
        let piece = &input[..count];
        let key = self.key;
        self.left -= count as u64;
        self.key = advance(key, count);
        let begun = self.filled;
        let is_whole = self.is_whole();
        match &mut self.inflater {
            None => {
                grow(&mut self.plain, begun + count);
                copy_masked(&mut self.plain[begun..], piece, key);
                self.filled += count;
            }
            Some(inflater) => {
                self.deflated += count as u64;
                grow(&mut self.raw, count);
                copy_masked(&mut self.raw, piece, key);
                let raw = &self.raw[..count];
                let limit = limits.max_bytes;
                check(inflater.inflate(raw, &mut self.plain, &mut self.filled, limit)?)?;
                if is_whole {
                    check(inflater.finish(&mut self.plain, &mut self.filled, limit)?)?;
                }
                self.inflated += self.filled - begun + inflater.take_copied();
            }
        }
        // One that came whole in one piece is checked when it is delivered.
        if self.kind == Some(Kind::Text) && !(begun == 0 && is_whole) {
            let fault = Fault::data("a text that is not UTF-8");
            self.utf8.push(&self.plain[begun..self.filled]).map_err(|_| fault)?;
        }
        Ok(count)
    }

    /// Whether all of the message is there.
    pub(super) fn is_whole(&self) -> bool {
        self.is_last && self.left == 0
    }

    /// What has come, if it is whole.
    pub(super) fn message<'a>(
        &'a self,
        kind: Kind,
        place: &Place,
        input: &'a [u8],
    ) -> Result<Message<'a>, Fault> {
        let bytes = match place {
            Place::Input(range) => &input[range.clone()],
            Place::Assembled => &self.plain[..self.filled],
        };
        match kind {
            Kind::Binary => Ok(Message::Binary(bytes)),
            Kind::Text => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Message::Text(text)),
                Err(_) => Err(Fault::data("a text that is not UTF-8")),
            },
        }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Bytes in the buffer of the message.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.plain[..self.filled]
    }

    /// The message was delivered. Returns what inflated it.
    pub(super) fn end(&mut self) -> Option<Inflater> {
        self.kind = None;
        self.is_last = false;
        self.left = 0;
        self.frames = 0;
        self.deflated = 0;
        self.utf8 = Utf8::default();
        self.filled = 0;
        self.progress = Progress::default();
        self.inflater.take()
    }

    /// Whether it was compressed.
    pub(super) fn is_inflated(&self) -> bool {
        self.inflater.is_some()
    }

    /// Begins a frame that is dropped.
    pub(super) fn skip(&mut self, header: &Header) {
        self.left = header.length;
        self.is_last = header.is_last;
    }

    /// Drops bytes of the frame, of `count` that came; returns how many.
    pub(super) fn drop_bytes(&mut self, count: usize) -> usize {
        let count = self.left.min(count as u64);
        self.left -= count;
        count as usize
    }

    /// Unmasks a whole message that came in one frame.
    #[inline]
    pub(super) fn take_whole(&mut self, payload: &[u8], key: [u8; 4]) {
        debug_assert!(!self.is_begun());
        grow(&mut self.plain, payload.len());
        copy_masked(&mut self.plain, payload, key);
        self.filled = payload.len();
    }

    /// A message that came whole in one frame was delivered.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Unmasks the payload of a control frame, beside the message that it may come within.
    pub(super) fn take_control(&mut self, payload: &[u8], key: [u8; 4]) -> &[u8] {
        copy_masked(&mut self.control, payload, key);
        self.control_length = payload.len();
        self.control()
    }

    /// The payload of the last control frame.
    pub(super) fn control(&self) -> &[u8] {
        &self.control[..self.control_length]
    }

    /// Gives back what a large message took.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.raw, &mut self.plain] {
            if buffer.len() > KEPT_BYTES {
                buffer.truncate(KEPT_BYTES);
                buffer.shrink_to(KEPT_BYTES);
            }
        }
    }
}

/// Makes a buffer at least so long. Grows by doubling: what is claimed to come is not paid for
/// before it has come.
#[inline]
fn grow(buffer: &mut Vec<u8>, length: usize) {
    #[cold]
    fn resize(buffer: &mut Vec<u8>, length: usize) {
        buffer.resize(length.max(buffer.len().saturating_mul(2)).max(1024), 0);
    }
    if buffer.len() < length {
        resize(buffer, length);
    }
}

fn check(inflated: Inflated) -> Result<(), Fault> {
    match inflated {
        Inflated::All => Ok(()),
        Inflated::TooBig => Err(Fault::too_big("a message that is over the limit inflated")),
    }
}

/// What inflates the next message of a connection.
pub(super) fn inflater_for(codecs: &mut Codecs, window: Option<&Window>) -> Inflater {
    codecs.inflater(window.map_or(&[], Window::bytes))
}
