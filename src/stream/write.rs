//! From `write` to the kernel, and the three ways to end.

use std::io::{self, Write};

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::engine::Engine;
use crate::options::OnOverflow;
use crate::stream::connection::{Ending, Flags, Phase, Sent, WriteSide};
use crate::stream::{Link, Streams};

/// What became of a write.
///
/// # Examples
/// ```
/// use waterwheel::{Conn, Written};
/// fn send(conn: &mut Conn<'_>, bytes: &[u8]) {
///     match conn.write(bytes) {
///         Written::Below => {}                  // go on
///         Written::Above => {}                  // taken too; produce no more until `on_drain`
///         Written::Full | Written::Closed => {} // nothing was taken
///     }
///     # let _ = conn;
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Accepted whole; the queue is below the high mark.
    Below,
    /// Accepted whole; the queue has reached the high mark and not fallen to the low mark since.
    /// `on_drain` will tell when it has.
    Above,
    /// Refused whole: it would have overrun `max_output_bytes`. Unless the limits say otherwise
    /// the connection now ends with `CloseReason::Overflow`.
    Full,
    /// Refused whole: the connection is closing or closed, or its write side is.
    Closed,
}

impl Written {
    /// Whether the bytes were accepted.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Below | Self::Above)
    }
}

/// Writes of one connection's queue a turn: each is as much as the socket takes.
const FLUSH_BUDGET: usize = 8;

/// Flushes for one write that would overrun the cap. One is enough where a short write means that
/// the socket is full; elsewhere it may end with its budget.
const ROOM_TRIES: usize = 4;

impl Streams {
    /// The callback of this connection has returned: what gathered leaves. Returns how much that
    /// was if it has left in one piece, of which no observer is told here.
    #[inline]
    pub(crate) fn uncork(&mut self, engine: &mut Engine, id: ConnId) -> usize {
        if engine.cork.bytes().is_empty() {
            engine.cork.end();
            return 0;
        }
        self.uncork_gathered(engine, id)
    }

    fn uncork_gathered(&mut self, engine: &mut Engine, id: ConnId) -> usize {
        match self.slot_mut(id) {
            Some(connection) if connection.flags.has(Flags::LAYERED) => {
                Link { id, connection, engine: &mut *engine }.send_layered(&[]);
                engine.cork.end();
                0
            }
            _ => self.uncork_plain(engine, id).0,
        }
    }

    /// Does so for a connection without layers; also whether something was sent, and nothing is
    /// unusual about the connection then. Asked for by observers alone, it costs others nothing.
    #[inline(always)]
    pub(crate) fn uncork_plain(&mut self, engine: &mut Engine, id: ConnId) -> (usize, bool) {
        engine.cork.end();
        let wanted = engine.cork.bytes().len();
        if wanted == 0 {
            return (0, false);
        }
        // The slot stays until the callback has returned, and what was gathered is of a live one.
        let Some(connection) = self.connections.get_mut(id.index()) else { return (0, false) };
        let result = connection.stream.write(engine.cork.bytes());
        if matches!(result, Ok(count) if count == wanted) {
            // Only queued output is metered.
            connection.written_at = engine.now();
            engine.stats.writes += 1;
            engine.stats.bytes_written += wanted as u64;
            engine.cork.clear();
            (wanted, connection.flags.is_usual())
        } else {
            let mut sent = Sent::default();
            sent.count(result, wanted, connection.short_means_done());
            Link { id, connection, engine }.send(&[], sent);
            (0, false)
        }
    }
}

impl Link<'_> {
    /// A write for which the cork has no room, or that is not of the connection whose callback
    /// runs.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Written {
        if self.begin_output(bytes) {
            return Written::Below;
        }
        if !self.connection.takes_output() {
            return Written::Closed;
        }
        let written = if bytes.len() <= self.room() || self.make_room(bytes.len()) {
            self.accept(bytes);
            self.side_of_mark()
        } else {
            self.overflow()
        };
        self.renew_cork_room();
        written
    }

    /// If all has left, small writes of the callback that runs gather again.
    pub(super) fn renew_cork_room(&mut self) {
        if self.engine.cork.is_owner(self.id) {
            self.engine.cork.set_room(self.connection.cork_room());
        }
    }

    /// Sends what the cap has room for, or queues it.
    fn accept(&mut self, bytes: &[u8]) {
        if self.sends_at_once() {
            self.send(bytes, Sent::default());
        } else {
            self.enqueue(&[bytes]);
        }
    }

    /// Whether a write that the cork has no room for goes to the socket now: the callback of the
    /// connection runs, and nothing is queued that stands before it.
    pub(super) fn sends_at_once(&self) -> bool {
        let is_owner = self.engine.cork.is_owner(self.id);
        is_owner && self.connection.is_open() && !self.connection.has_output()
    }

    /// Bytes that the cap of the limits has room for.
    pub(super) fn room(&self) -> usize {
        self.room_under(self.connection.config.max_output)
    }

    fn room_under(&self, cap: usize) -> usize {
        let pending = self.connection.output_in_memory() + self.engine.cork.gathered(self.id);
        // Under a layer it is an upper bound, to which what the layer itself says may add.
        cap.saturating_sub(pending)
    }

    /// Whether a write of `wanted` bytes leaves no more than `cap` queued, or meets an empty queue.
    /// The socket first gets what it takes, as with the cap of the limits.
    pub(crate) fn fits_under(&mut self, cap: usize, wanted: usize) -> bool {
        let cap = cap.max(1); // with none, only an empty queue has room
        let fits = self.make_room_under(cap, wanted.clamp(1, cap));
        self.renew_cork_room();
        fits
    }

    /// Whether sending makes room for `wanted` bytes under the cap of the limits.
    pub(super) fn make_room(&mut self, wanted: usize) -> bool {
        self.make_room_under(self.connection.config.max_output, wanted)
    }

    /// Whether sending makes room under a cap. Caps are for peers that do not read: a queue is full
    /// only if its socket is.
    #[cold]
    fn make_room_under(&mut self, cap: usize, wanted: usize) -> bool {
        if wanted > cap {
            return false;
        }
        if self.engine.cork.gathered(self.id) > 0 {
            self.send(&[], Sent::default());
        }
        for _ in 0..ROOM_TRIES {
            if !self.connection.takes_output() {
                return false;
            }
            if wanted <= self.room_under(cap) {
                return true;
            }
            let is_blocked = self.connection.flags.has(Flags::BLOCKED);
            // What stands behind a file waits for the whole file.
            if is_blocked || self.connection.has_files() || !self.connection.is_open() {
                return false;
            }
            self.flush_queue();
            // What the handler is to be told of it waits for the end of the turn.
            self.queue_flush();
        }
        false
    }

    pub(super) fn side_of_mark(&self) -> Written {
        match self.connection.flags.has(Flags::ABOVE_MARK) && !self.connection.is_closed() {
            true => Written::Above,
            false => Written::Below,
        }
    }

    /// What gathered is queued: something else stands behind it.
    pub(super) fn queue_gathered(&mut self) {
        self.engine.cork.shut(self.id);
        if self.engine.cork.gathered(self.id) > 0 {
            self.connection.queue_output(self.engine.cork.bytes(), &mut self.engine.spares);
            self.engine.cork.clear();
        }
    }

    #[cold]
    pub(super) fn overflow(&mut self) -> Written {
        if !self.connection.takes_output() {
            return Written::Closed; // the socket was found broken when room was to be made
        }
        self.engine.stats.writes_refused += 1;
        if self.connection.config.on_overflow == OnOverflow::Close {
            self.mark_closed_reset(CloseReason::Overflow);
        }
        Written::Full
    }

    /// Sends what is corked and then `bytes`, of which `sent` is done; queues what the kernel does
    /// not take.
    pub(super) fn send(&mut self, bytes: &[u8], sent: Sent) {
        if self.connection.flags.has(Flags::LAYERED) {
            return self.send_layered(&[bytes]);
        }
        let Engine { cork, spares, .. } = &mut *self.engine;
        let short_is_full = self.connection.short_means_done();
        let sent = self.connection.send(cork.bytes(), bytes, sent, short_is_full, spares);
        cork.clear();
        self.after_sending(sent);
    }

    /// Queues output of a connection whose callback does not run: it leaves at the end of the
    /// turn, together with what others add.
    pub(super) fn enqueue(&mut self, parts: &[&[u8]]) {
        let was_empty = !self.connection.has_output();
        self.connection.queue_parts(parts, &mut self.engine.spares);
        self.after_queueing(was_empty);
    }

    /// Something was queued.
    pub(super) fn after_queueing(&mut self, was_empty: bool) {
        self.check_high_mark();
        if was_empty && self.connection.is_open() && self.connection.has_output() {
            // If it was not empty, it is on a list already or waits for the socket. Its rate
            // counts from the flush on, if that leaves anything.
            self.queue_flush();
        }
    }

    /// Output has grown: reading may have to wait from now on, and a message with it.
    fn check_high_mark(&mut self) {
        self.check_all_queues();
        if self.connection.crosses_high_mark() {
            self.rewatch_message();
        }
    }

    /// Accounts for what the kernel took, and sees to what it did not.
    pub(super) fn after_sending(&mut self, sent: Sent) {
        self.engine.stats.writes += sent.calls;
        self.engine.stats.bytes_written += sent.bytes as u64;
        if sent.bytes > 0 {
            let (id, count) = (self.id, sent.bytes);
            self.engine.observers.tell(|observer| observer.on_written(id, count));
            self.connection.note_sent(sent.bytes, self.engine.now());
        }
        self.connection.flags.put(Flags::BLOCKED, sent.is_blocked);
        if let Some(error) = sent.error {
            self.fail_output(CloseReason::from_error(error));
        } else if self.connection.can_flush() {
            self.after_short_sending(sent.is_blocked);
        }
    }

    fn after_short_sending(&mut self, is_blocked: bool) {
        self.check_high_mark();
        self.connection.watch_output(self.engine.now());
        self.arm();
        if is_blocked {
            self.ask_writable(true);
        } else {
            self.queue_ready();
        }
    }

    /// A write or a FIN has failed.
    fn fail_output(&mut self, cause: CloseReason) {
        if self.is_connecting_through_layers() {
            return self.cut_handshake(Some(io::Error::other(cause.to_string())));
        }
        if matches!(self.connection.phase(), Phase::Handshake) {
            return self.mark_closed(cause); // its handler knows nothing of it
        }
        if self.connection.has_layer_failure() {
            return self.mark_closed_reset(cause); // nothing that comes is for the handler
        }
        let now = self.engine.now();
        self.connection.fail_output(cause, now, &mut self.engine.spares);
        let flags = &mut self.connection.flags;
        if flags.has(Flags::MAY_LEAVE) && !flags.has(Flags::READ_CLOSED) {
            // Nothing holds back the reading any more, and no room will come. What is left is seen
            // once more, also what the callback leaves whose write has failed.
            flags.set(Flags::REPLAY);
        }
        self.engine.timers.note_active(self.id);
        self.arm();
        self.queue_ready();
    }

    /// Sends queued output, as much as the socket and the budget allow.
    pub(super) fn flush_queue(&mut self) {
        let most_of_files = self.engine.ready.share_of_files(self.engine.turn_budgets());
        let short_is_full = self.connection.short_means_done();
        let sent = self.guard_layer(|connection, spares| {
            connection.flush_all(FLUSH_BUDGET, most_of_files, short_is_full, spares)
        });
        self.engine.ready.use_room(sent.bytes);
        self.after_sending(sent);
    }

    /// Sends queued output. Whether it has thereby fallen to the low mark, and the handler is to
    /// be told.
    pub(crate) fn flush(&mut self) -> bool {
        // What was written past the cap may have been sent already, and its end not been told.
        let has_work = self.connection.flags.has(Flags::HAS_OUTPUT | Flags::ABOVE_MARK);
        if !has_work || self.connection.is_connecting() {
            return false;
        }
        self.engine.timers.note_active(self.id);
        if self.connection.has_output() {
            self.flush_queue();
        }
        if self.connection.is_closed() {
            return false;
        }
        if !self.connection.can_flush() {
            self.ask_writable(false);
        }
        if matches!(self.connection.phase(), Phase::Handshake) {
            return false;
        }
        let drained = self.connection.crosses_low_mark();
        if !self.connection.has_output() {
            let is_closing = matches!(self.connection.phase(), Phase::Closing(_));
            if is_closing || self.connection.write_side() != WriteSide::Open {
                self.queue_flush();
            }
        }
        if drained {
            self.after_draining();
        }
        drained
    }

    /// Output has fallen to the low mark: reading goes on, if it was held back.
    fn after_draining(&mut self) {
        if !self.connection.flags.has(Flags::HELD) {
            // A handler may have stopped consuming because it could not answer.
            self.connection.replay_input();
        }
        self.connection.read_at = self.engine.now(); // the silence was ours
        self.rewatch_message();
        self.arm();
        if self.connection.flags.has(Flags::READABLE | Flags::REPLAY) {
            self.queue_ready();
        }
    }

    /// `Conn::close`: flush, FIN, the peer's end.
    pub(crate) fn close(&mut self) {
        self.engine.cork.shut(self.id);
        self.connection.flags.set(Flags::CLOSED_BY_HANDLER);
        match self.connection.phase() {
            // What was written is sent first: it closes once it is up.
            Phase::Connecting | Phase::Handshake if self.connection.has_output() => {
                self.connection.set_write_side(WriteSide::FinQueued);
            }
            Phase::Connecting | Phase::Handshake => self.mark_closed(CloseReason::Local),
            Phase::Open => {
                let ending = match self.connection.flags.has(Flags::READ_CLOSED) {
                    _ if self.engine.is_stopping() => Ending::Shutdown,
                    true => Ending::Peer,
                    false => Ending::Local,
                };
                self.connection.enter(Phase::Closing(ending));
                self.connection.clear_waits();
                self.connection.clear_input(&mut self.engine.spares);
                self.queue_flush();
            }
            _ => {}
        }
    }

    /// `Conn::close_without_waiting`: flush, and the end.
    pub(crate) fn close_without_waiting(&mut self) {
        self.connection.flags.set(Flags::NO_LINGER);
        self.close();
    }

    /// `Conn::shutdown_write`: FIN behind the output.
    pub(crate) fn shutdown_write(&mut self) {
        self.engine.cork.shut(self.id);
        if self.connection.takes_output() {
            self.connection.set_write_side(WriteSide::FinQueued);
            self.queue_flush();
        }
    }

    /// `Conn::abort`: drop the queue, send RST.
    pub(crate) fn abort(&mut self) {
        self.mark_closed_reset(CloseReason::Local);
    }

    /// The next step of a connection that asked for one: send FIN, or be done. Its output has
    /// been flushed as far as the kernel takes it.
    pub(crate) fn advance_close(&mut self) {
        if self.connection.flags.has(Flags::LAYERED) {
            self.send_layer_end();
        }
        let is_sent = !self.connection.has_output();
        match self.connection.phase() {
            Phase::Open if is_sent && self.connection.write_side() == WriteSide::FinQueued => {
                self.send_fin();
                self.finish_if_both_ended();
            }
            Phase::Closing(_) if !is_sent => self.await_close(),
            Phase::Closing(ending) if self.connection.ends_without_waiting() => {
                self.mark_closed(ending.into());
            }
            Phase::Closing(ending) => self.linger(ending),
            _ => {}
        }
    }

    /// Sends FIN and waits for the peer's. Closing the socket now would answer input that is
    /// still to come with RST, and the kernel would drop what it has not sent (RFC 9112, 9.6).
    fn linger(&mut self, ending: Ending) {
        if self.connection.write_side() != WriteSide::FinSent {
            self.send_fin();
        }
        if self.connection.write_side() == WriteSide::FinSent {
            self.connection.enter(Phase::Lingering(ending));
            // The peer gets as long to finish as each part of the output got to leave.
            self.connection.clear_waits();
            self.await_close();
        }
    }

    /// Both directions have ended: nothing more can happen.
    pub(crate) fn finish_if_both_ended(&mut self) {
        let is_sent = self.connection.write_side() == WriteSide::FinSent;
        if is_sent && self.connection.is_open() && self.connection.flags.has(Flags::READ_CLOSED) {
            self.mark_closed(CloseReason::Peer);
        }
    }

    fn await_close(&mut self) {
        self.engine.timers.note_active(self.id);
        self.connection.set_close_wait(self.engine.now());
        self.arm();
        if self.connection.flags.has(Flags::READABLE) {
            self.queue_ready();
        }
    }

    /// Sends FIN; if that fails the connection is broken.
    fn send_fin(&mut self) {
        match self.connection.stream.shutdown_write() {
            Ok(()) => self.connection.set_write_side(WriteSide::FinSent),
            Err(error) => {
                self.connection.set_write_side(WriteSide::FinQueued);
                self.fail_output(CloseReason::from_error(error));
            }
        }
    }

    pub(crate) fn pause_reading(&mut self) {
        self.connection.hold_back(Flags::PAUSED);
        self.rewatch_message();
    }

    /// Reads again what came meanwhile, the unconsumed rest first.
    pub(crate) fn resume_reading(&mut self) {
        if !self.connection.flags.has(Flags::PAUSED) {
            return;
        }
        self.connection.flags.clear(Flags::PAUSED);
        self.read_again();
    }

    /// Reading is held back by one thing fewer, and goes on if that was the last.
    pub(super) fn read_again(&mut self) {
        self.connection.read_at = self.engine.now(); // the silence was ours
        let flags = &mut self.connection.flags;
        // What its own callback leaves is kept when that has returned.
        let may_leave_more = self.engine.cork.is_owner(self.id);
        flags.put(Flags::REPLAY, may_leave_more && !flags.has(Flags::READ_CLOSED));
        self.connection.replay_input();
        if self.connection.flags.has(Flags::READABLE | Flags::REPLAY) {
            self.queue_ready();
        }
        self.rewatch_message();
        self.arm();
    }
}
