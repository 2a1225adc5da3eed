//! Output through a layer to the socket: encoded when the socket takes it, and not before.

use std::io;
use std::mem;

use crate::base::buffer::Spares;
use crate::options::{MAX_PLAIN_BYTES, PIECE_BYTES};
use crate::stream::connection::layers::Layers;
use crate::stream::connection::{Connection, Flags, Sent};
use crate::sys::FileSink;

/// Encoded bytes up to so many leave together with the plaintext that is encoded next.
const MERGED_BYTES: usize = 4 << 10;

impl<S: FileSink> Connection<S> {
    /// Whether plaintext may go through the layer now: nothing stands before it that has to wait.
    pub(crate) fn takes_plaintext(&self) -> bool {
        let waits = self.flags.has(Flags::BLOCKED) || !self.output.is_empty() || self.has_files();
        let is_ready = |layers: &Layers| layers.is_open && layers.encoded.len() <= MERGED_BYTES;
        !waits && self.layers().is_some_and(is_ready)
    }

    /// Whether nothing stands before plaintext that goes through the layer now, and no end comes
    /// behind it.
    pub(crate) fn takes_record(&self) -> bool {
        let unusual = Flags::NOT_OPEN | Flags::WRITE_SHUT | Flags::HAS_OUTPUT | Flags::BLOCKED;
        let is_ready = |layers: &Layers| layers.is_open && layers.current.is_some();
        !self.flags.has(unusual) && self.layers().is_some_and(is_ready)
    }

    /// Sends what one callback has gathered, in one write: as
    /// [`send_plaintext`](Self::send_plaintext) does, where nothing is unusual.
    pub(crate) fn send_record(
        &mut self,
        plain: &[u8],
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        debug_assert!(self.takes_record() && plain.len() <= MAX_PLAIN_BYTES);
        let mut sent = Sent::default();
        let Some(layers) = self.cold.as_mut().and_then(|cold| cold.layers.as_deref_mut()) else {
            return sent;
        };
        let Some(layer) = &mut layers.current else { return sent };
        spares.scratch.clear(); // a layer that has panicked may have left something
        match layer.encode(plain, layers.undecoded.as_mut_slice(), &mut spares.scratch) {
            Ok(()) => {
                let bytes = spares.scratch.as_slice();
                if !bytes.is_empty() {
                    sent.count(self.stream.write(bytes), bytes.len(), short_is_full);
                }
            }
            Err(error) => sent.error = Some(error),
        }
        if sent.bytes < spares.scratch.as_slice().len() {
            spares.scratch.consume(sent.bytes);
            layers.encoded_plain = plain.len();
            layers.keep_encoded(spares);
            layers.note_sent();
            self.note_output();
        }
        sent
    }

    /// Sends `first` and then `second` past an empty queue, in at most `budget` writes; how much of
    /// them the layer has taken. If `is_all` and the connection ends behind them, so does what the
    /// layer says.
    pub(crate) fn send_plaintext(
        &mut self,
        (first, second): (&[u8], &[u8]),
        is_all: bool,
        budget: usize,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> (usize, Sent) {
        debug_assert!(self.takes_plaintext());
        let total = first.len() + second.len();
        let (mut taken, mut sent) = (0, Sent::default());
        for _ in 0..budget {
            self.begin_encoding(spares);
            let mut encoded = Ok(());
            // Unless more waits than goes in front of it.
            if self.encoded_len() == 0 {
                let left = total - taken;
                let most = if left <= MAX_PLAIN_BYTES { left } else { PIECE_BYTES };
                let of_first = &first[taken.min(first.len())..];
                let of_first = &of_first[..most.min(of_first.len())];
                let of_second = &second[taken.saturating_sub(first.len())..];
                let of_second = &of_second[..most - of_first.len()];
                taken += most;
                self.note_encoded(most, 0);
                for bytes in [of_first, of_second] {
                    if encoded.is_ok() && !bytes.is_empty() {
                        encoded = self.encode(bytes, spares);
                    }
                }
                if is_all && taken == total && encoded.is_ok() {
                    self.encode_end_behind(spares);
                }
            }
            let goes_on = self.write_encoded(encoded, &mut sent, short_is_full, spares);
            if !goes_on || taken == total {
                break;
            }
        }
        self.note_output();
        (taken, sent)
    }

    /// Sends what waits behind the layer and then queued output, in at most `budget` writes.
    pub(super) fn flush_layered(
        &mut self,
        budget: usize,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        let mut sent = Sent::default();
        for _ in 0..budget {
            self.begin_encoding(spares);
            let encoded = match self.encoded_len() {
                0 => self.encode_more(spares),
                _ => Ok(()),
            };
            if !self.write_encoded(encoded, &mut sent, short_is_full, spares) {
                break;
            }
        }
        self.note_output();
        sent
    }

    /// A little that has waited goes in front of what is encoded now.
    fn begin_encoding(&mut self, spares: &mut Spares) {
        spares.scratch.clear(); // a layer that has panicked may have left something
        let Some(layers) = self.layers_mut() else { return };
        if (1..=MERGED_BYTES).contains(&layers.encoded.len()) {
            spares.scratch.push(layers.encoded.as_slice());
            layers.encoded.clear(spares);
        }
    }

    /// Writes once what was encoded before or, if that is nothing, what was encoded now; what the
    /// socket does not take waits. Whether another write may follow.
    fn write_encoded(
        &mut self,
        encoded: io::Result<()>,
        sent: &mut Sent,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> bool {
        let Some(layers) = self.cold.as_mut().and_then(|cold| cold.layers.as_deref_mut()) else {
            return false;
        };
        if let Err(error) = encoded {
            sent.error = Some(error);
            layers.keep_encoded(spares);
            return false;
        }
        let is_kept = !layers.encoded.is_empty();
        let bytes = if is_kept { layers.encoded.as_slice() } else { spares.scratch.as_slice() };
        if bytes.is_empty() {
            return false;
        }
        let before = sent.bytes;
        sent.count(self.stream.write(bytes), bytes.len(), short_is_full);
        let count = sent.bytes - before;
        if is_kept {
            layers.encoded.consume(count, spares);
        } else {
            spares.scratch.consume(count);
            layers.keep_encoded(spares);
        }
        layers.note_sent();
        !sent.is_over()
    }

    /// Encodes what stands in front of the output: bytes, a file, and what is behind it, so that a
    /// small file leaves together with what was written before it, and the end behind all of it.
    fn encode_more(&mut self, spares: &mut Spares) -> io::Result<()> {
        let mut left = PIECE_BYTES;
        while left > 0 && self.layers().is_some_and(|layers| layers.is_open) {
            let mut bytes = self.output.take();
            if bytes.is_empty() {
                if !self.has_files() {
                    self.encode_end_behind(spares);
                    break;
                }
                let read = self.read_of_file(left, bytes.begin_fill(left, spares));
                bytes.end_fill(spares);
                read?;
                let encoded = self.encode(bytes.as_slice(), spares);
                let count = bytes.clear(spares);
                self.note_encoded(0, count);
                encoded?;
                left -= count;
            } else {
                let count = bytes.len().min(left);
                let encoded = self.encode(&bytes.as_slice()[..count], spares);
                bytes.consume(count, spares);
                spares.note_left(count);
                self.output = bytes;
                self.note_encoded(count, 0);
                encoded?;
                left -= count;
            }
        }
        Ok(())
    }

    fn encode(&mut self, plain: &[u8], spares: &mut Spares) -> io::Result<()> {
        let Some(layers) = self.layers_mut() else { return Ok(()) };
        let Some(layer) = &mut layers.current else { return Ok(()) };
        layer.encode(plain, layers.undecoded.as_mut_slice(), &mut spares.scratch)
    }

    /// So much of what was written, and of files, may wait behind the layer from now on.
    fn note_encoded(&mut self, plain: usize, of_files: usize) {
        if let Some(layers) = self.layers_mut() {
            layers.encoded_plain += plain;
            layers.encoded_file += of_files;
        }
    }

    /// All output is encoded: if the connection ends behind it, the layer says so in the same
    /// write.
    fn encode_end_behind(&mut self, spares: &mut Spares) {
        if !self.is_ending() {
            return;
        }
        let Some(layers) = self.layers_mut() else { return };
        if mem::replace(&mut layers.has_said_end, true) {
            return;
        }
        if let Some(layer) = &mut layers.current {
            layer.encode_end(layers.undecoded.as_mut_slice(), &mut spares.scratch);
        }
    }
}
