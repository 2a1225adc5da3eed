//! The fast path of output to another connection than that of the callback, as of a message to
//! many: it leaves at the end of the turn. A large piece that is passed on leaves at once.
//!
//! A message to ten thousand comes to connections that no cache holds any more, and twice: it is
//! queued, and it is sent. So each time the flags say whether anything else has to be looked at.

use crate::engine::{CORK_BYTES, Engine};
use crate::stream::connection::{Flags, Sent};
use crate::stream::{Link, Written};

/// A piece that is passed on is sent at once if it has this many bytes: a callback that gathers
/// sends as many in one call.
const PASSED_AT_ONCE_BYTES: usize = CORK_BYTES;

impl Link<'_> {
    /// A write of what another connection has received. If that is much, it is sent now, where
    /// nothing stands before it: a copy that waits for the end of the turn would save no call. Less
    /// than that waits, because the turn first reads from all and then writes to all, for which
    /// the processor's caches are better.
    pub(crate) fn pass_on(&mut self, bytes: &[u8]) -> Written {
        if bytes.len() < PASSED_AT_ONCE_BYTES || !self.passes_at_once(bytes.len()) {
            return self.write(bytes);
        }
        self.engine.timers.note_active(self.id);
        let short_is_full = self.connection.short_means_done();
        let Engine { spares, ready, .. } = &mut *self.engine;
        let sent = self.connection.send(bytes, &[], Sent::default(), short_is_full, spares);
        ready.use_room(sent.bytes);
        self.after_sending(sent);
        self.side_of_mark()
    }

    /// Whether a write of this length need not wait: nothing is unusual about the connection, whose
    /// callback does not run, and the phase has room for it.
    fn passes_at_once(&self, length: usize) -> bool {
        let ends = Flags::NOT_OPEN | Flags::WRITE_SHUT;
        let waits = Flags::HAS_OUTPUT | Flags::ABOVE_MARK | Flags::BLOCKED;
        let is_slow = self.connection.flags.has(ends | waits | Flags::LAYERED);
        let fits = length <= self.connection.config.max_output && self.engine.ready.has_room();
        fits && !is_slow && !self.engine.cork.is_owner(self.id)
    }

    /// Queues the first output of a connection whose callback does not run. Returns whether it did:
    /// not if anything is unusual about the connection, or the bytes reach a mark.
    #[inline]
    pub(super) fn begin_output(&mut self, bytes: &[u8]) -> bool {
        let (flags, config) = (self.connection.flags, &self.connection.config);
        let ends = Flags::NOT_OPEN | Flags::WRITE_SHUT;
        let is_slow = flags.has(ends | Flags::HAS_OUTPUT | Flags::ABOVE_MARK | Flags::HAS_COLD);
        let is_small = bytes.len() < config.high_mark && bytes.len() <= config.max_output;
        if is_slow || !is_small || bytes.is_empty() || self.engine.cork.is_owner(self.id) {
            return false;
        }
        self.connection.begin_output(bytes, &mut self.engine.spares);
        self.queue_flush();
        true
    }

    /// Sends at the end of the turn what was queued in it. Returns whether that is all that the end
    /// of the turn has to do for the connection: not if anything is unusual about it.
    #[inline]
    pub(crate) fn flush_plain(&mut self) -> bool {
        let flags = self.connection.flags;
        let ends = Flags::NOT_OPEN | Flags::WRITE_SHUT;
        let on_demand = Flags::ASKS_WRITABLE | Flags::UNIX;
        let is_slow = flags.has(ends | on_demand | Flags::ABOVE_MARK | Flags::HAS_COLD);
        if is_slow || flags.has(Flags::BLOCKED) || !flags.has(Flags::HAS_OUTPUT) {
            return false;
        }
        self.engine.timers.note_active(self.id);
        let short_is_full = self.connection.short_means_done();
        match self.connection.flush_whole(short_is_full, &mut self.engine.spares) {
            Ok(count) => {
                self.engine.stats.writes += 1;
                self.engine.stats.bytes_written += count as u64;
                self.engine.ready.use_room(count);
                self.connection.written_at = self.engine.now();
                let id = self.id;
                self.engine.observers.tell(|observer| observer.on_written(id, count));
            }
            Err(sent) => {
                self.engine.ready.use_room(sent.bytes);
                self.after_sending(sent);
            }
        }
        true
    }
}
