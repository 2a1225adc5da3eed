//! A message that is delivered in parts: of the part that comes next alone is there memory.

use std::time::Duration;

use crate::ws::assembly::{Assembly, KEPT_BYTES, MessageLimits, grow};
use crate::ws::code::Fault;
use crate::ws::handler::{Kind, Message, Part};
use crate::ws::mask::{advance, copy_masked};

/// Compressed bytes that are unmasked at once.
const RAW_STEP: usize = 16 << 10;

/// What a compressed message may refer to, in bytes: kept where a last block comes amid a message.
const HISTORY: usize = 32 << 10;

/// The least room for what is inflated, in bytes.
const MIN_ROOM: usize = 16 << 10;

/// Room for what the end of a message brings, in bytes. Four bytes are at most 20 references, of
/// 258 bytes each.
const END_ROOM: usize = 8 << 10;

/// How far a message was delivered.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes of the buffer that were delivered.
    told: usize,
    /// The end of the part that is being delivered: behind it is the beginning of a character.
    ready: usize,
    /// Bytes of the message were taken, if only none.
    is_used: bool,
    /// A part was delivered.
    has_begun: bool,
    /// The first byte of the input was inflated already. Kept back, so that there is input for as
    /// long as there is output.
    is_ahead: bool,
    /// Bytes of the message so far.
    pub(super) plain: u64,
    /// Bytes of payload so far.
    payload: u64,
    /// Since when the rate counts, and the bytes of payload then.
    rated: Option<(Duration, u64)>,
}

impl Assembly {
    /// Takes bytes of the frame, as far as they fit into one part. Returns how many, and by how
    /// much the bytes before them were moved to the beginning of the buffer.
    pub(in crate::ws) fn take_some(
        &mut self,
        input: &[u8],
        limits: MessageLimits,
    ) -> Result<(usize, usize), Fault> {
        let input = &input[..self.left.min(input.len() as u64) as usize];
        let slid = self.slide();
        let begun = self.filled;
        let count = match self.inflater {
            None => self.copy_some(input),
            Some(_) => self.inflate_some(input)?,
        };
        self.left -= count as u64;
        self.key = advance(self.key, count);
        self.progress.payload += count as u64;
        self.progress.plain += (self.filled - begun) as u64;
        if limits.max_in_parts.is_some_and(|max| self.progress.plain > max) {
            return Err(Fault::too_big("a message over the limit"));
        }
        self.progress.is_used = true;
        Ok((count, slid))
    }

    /// Makes room behind what is not yet delivered, and what may be referred to. Returns by how
    /// much it was moved.
    fn slide(&mut self) -> usize {
        let kept = if self.inflater.is_some() { HISTORY } else { 0 };
        let start = self.progress.told.min(self.filled.saturating_sub(kept));
        if start == 0 || kept > 0 && self.filled + MIN_ROOM + END_ROOM <= KEPT_BYTES {
            return 0;
        }
        self.plain.copy_within(start..self.filled, 0);
        self.filled -= start;
        self.progress.told -= start;
        start
    }

    fn copy_some(&mut self, input: &[u8]) -> usize {
        let begun = self.filled;
        let piece = &input[..input.len().min(KEPT_BYTES - begun)];
        grow(&mut self.plain, begun + piece.len());
        copy_masked(&mut self.plain[begun..], piece, self.key);
        self.filled += piece.len();
        piece.len()
    }

    fn inflate_some(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let Some(inflater) = &mut self.inflater else { return Ok(0) };
        let ahead = usize::from(self.progress.is_ahead);
        let piece = &input[ahead..input.len().min(ahead + RAW_STEP)];
        grow(&mut self.raw, piece.len());
        copy_masked(&mut self.raw, piece, advance(self.key, ahead));
        grow(&mut self.plain, KEPT_BYTES);
        let (begun, room) = (self.filled, KEPT_BYTES - END_ROOM);
        let raw = &self.raw[..piece.len()];
        let (read, filled) = inflater.inflate_into(raw, &mut self.plain[..room], begun)?;
        self.filled = filled;
        let all = ahead + read;
        // A full buffer may leave output behind, which is asked for with the input that is left.
        self.progress.is_ahead = filled == room && all == input.len() && all > 0;
        let count = all - usize::from(self.progress.is_ahead);
        if self.is_last && self.left == count as u64 {
            let end = inflater.finish_into(&mut self.plain[..KEPT_BYTES], self.filled)?;
            self.filled = end;
        }
        self.inflated += self.filled - begun + inflater.take_copied();
        Ok(count)
    }

    /// Whether there may be a part to deliver.
    pub(in crate::ws) fn has_part(&self) -> bool {
        let Progress { is_used, told, .. } = self.progress;
        is_used && (self.filled > told || self.is_whole())
    }

    /// The part that is to be delivered: of a text, the characters that are whole. `None`: there
    /// is none yet.
    pub(in crate::ws) fn part(&mut self, kind: Kind) -> Result<Option<Part<'_>>, Fault> {
        let is_last = self.is_whole();
        let is_first = !self.progress.has_begun;
        let bytes = &self.plain[self.progress.told..self.filled];
        let content = match kind {
            Kind::Binary => Message::Binary(bytes),
            Kind::Text => Message::Text(whole_characters(bytes, is_last)?),
        };
        let length = content.bytes().len();
        self.progress.ready = self.progress.told + length;
        Ok((length > 0 || is_last).then_some(Part { content, is_first, is_last }))
    }

    /// The part was delivered.
    pub(in crate::ws) fn end_part(&mut self) {
        self.progress.told = self.progress.ready;
        self.progress.has_begun = true;
    }

    /// Since when the rate of the message counts, if it does.
    pub(in crate::ws) fn rated_since(&self) -> Option<Duration> {
        self.progress.rated.map(|(since, _)| since)
    }

    /// The rate counts from now on.
    pub(in crate::ws) fn rate_anew(&mut self, now: Duration) {
        self.progress.rated = Some((now, self.progress.payload));
    }

    /// Whether the message has brought fewer bytes a second than that since its rate counts.
    pub(in crate::ws) fn is_slower(&self, min_rate: u32, passed: Duration) -> bool {
        let before = self.progress.rated.map_or(0, |(_, bytes)| bytes);
        let wanted = passed.as_millis() * u128::from(min_rate);
        u128::from(self.progress.payload - before) * 1000 < wanted
    }
}

/// A text up to its last character, which may be cut unless it is the last of the text.
fn whole_characters(bytes: &[u8], is_last: bool) -> Result<&str, Fault> {
    let fault = Fault::data("a text that is not UTF-8");
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if error.error_len().is_some() || is_last => Err(fault),
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).map_err(|_| fault),
    }
}
