//! From `write` to the kernel, and the three ways to end.

use std::io::{self, Write};

use crate::close::CloseReason;
use crate::connection::{Connection, Ending, Phase, Sent};
use crate::engine::Engine;
use crate::id::{ConnId, NO_INDEX};
use crate::options::OnOverflow;
use crate::profile::CORK_BYTES;

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

/// Gathers the small writes of one callback to its own connection, so that they leave in one
/// write(2) when it returns.
#[derive(Debug)]
pub(crate) struct Cork {
    /// Whose callback runs; [`NOBODY`] between callbacks.
    owner: ConnId,
    /// Bytes that the owner may write without a further look at it.
    ///
    /// Invariant: 0 unless `owner` takes output and has none queued.
    room: usize,
    /// What it wrote.
    ///
    /// Invariant: empty unless `owner` is a live connection that has no output queued.
    bytes: Vec<u8>,
}

/// No connection has the generation 0.
const NOBODY: ConnId = ConnId::new(NO_INDEX, 0);

impl Cork {
    pub(crate) fn new() -> Self {
        Self { owner: NOBODY, room: 0, bytes: Vec::with_capacity(CORK_BYTES) }
    }

    /// The owner takes no more output.
    fn shut(&mut self, id: ConnId) {
        if self.owner == id {
            self.room = 0;
        }
    }

    /// What was gathered for a connection that cannot send it any more: how much is lost.
    pub(crate) fn take_back(&mut self, id: ConnId) -> usize {
        if self.owner != id {
            return 0;
        }
        let lost = self.bytes.len();
        self.bytes.clear();
        self.room = 0;
        lost
    }

    /// What was gathered for a connection and not sent yet.
    fn gathered(&self, id: ConnId) -> usize {
        if self.owner == id { self.bytes.len() } else { 0 }
    }
}

/// Writes of one connection's queue a turn: each is as much as the socket takes.
const FLUSH_BUDGET: usize = 8;

/// Flushes for one write that would overrun the cap. One is enough where a short write means that
/// the socket is full; elsewhere, and behind files, it may end with its budget.
const ROOM_TRIES: usize = 4;

impl Engine {
    /// A callback of this connection begins: its small writes gather, as many as there is `room`
    /// for.
    #[inline]
    pub(crate) fn cork(&mut self, id: ConnId, room: usize) {
        debug_assert!(self.cork.bytes.is_empty());
        self.cork.owner = id;
        self.cork.room = room;
    }

    /// The connection whose callback runs, or was left by a panic.
    pub(crate) fn current(&self) -> Option<ConnId> {
        (self.cork.owner != NOBODY).then_some(self.cork.owner)
    }

    /// A callback of this connection has panicked: what it had to say may be cut in the middle.
    pub(crate) fn doom_panicked(&mut self, id: ConnId) {
        self.doom_reset(id, CloseReason::Panic);
    }

    /// Ends a connection with RST, whatever was sent: what the peer has is not the whole.
    pub(crate) fn doom_reset(&mut self, id: ConnId, reason: CloseReason) {
        if let Some(connection) = self.live_mut(id) {
            connection.must_reset = true;
        }
        self.doom(id, reason);
    }

    /// Whether a callback of this connection runs.
    pub(crate) fn is_current(&self, id: ConnId) -> bool {
        self.cork.owner == id
    }

    /// The callback has returned: what gathered leaves.
    #[inline(always)]
    pub(crate) fn uncork(&mut self, id: ConnId) {
        self.cork.owner = NOBODY;
        self.cork.room = 0;
        let wanted = self.cork.bytes.len();
        if wanted == 0 {
            return;
        }
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        let result = connection.stream.write(&self.cork.bytes);
        if matches!(result, Ok(count) if count == wanted) {
            // Only queued output is metered.
            connection.written_at = self.now;
            self.stats.writes += 1;
            self.stats.bytes_written += wanted as u64;
            self.cork.bytes.clear();
        } else {
            let mut sent = Sent::default();
            sent.count(result, wanted, connection.short_means_done());
            self.send(id, &[], sent);
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, id: ConnId, is_current: bool, bytes: &[u8]) -> Written {
        debug_assert_eq!(is_current, self.is_current(id));
        if is_current && bytes.len() < self.cork.room {
            self.cork.room -= bytes.len();
            self.cork.bytes.extend_from_slice(bytes);
            return Written::Below;
        }
        self.write_past_cork(id, bytes)
    }

    fn write_past_cork(&mut self, id: ConnId, bytes: &[u8]) -> Written {
        let is_owner = self.cork.owner == id;
        let Some(connection) = self.live(id) else {
            return Written::Closed;
        };
        if !connection.takes_output() {
            return Written::Closed;
        }
        let pending = connection.output_in_memory() + self.cork.gathered(id);
        if bytes.len() > connection.profile.max_output - pending
            && !self.makes_room(id, bytes.len())
        {
            return self.overflow(id);
        }
        let Some(connection) = self.live(id) else { return Written::Closed };
        let is_up = connection.phase != Phase::Connecting;
        if is_owner && is_up && !connection.has_output() {
            self.send(id, bytes, Sent::default());
            // If all has left, small writes gather again.
            self.cork.room = self.live(id).map_or(0, Connection::cork_room);
        } else {
            self.enqueue(id, bytes);
        }
        self.side_of_mark(id)
    }

    /// Whether sending makes room for `wanted` bytes under the cap. The cap is for peers that do
    /// not read: a queue is full only if its socket is.
    #[cold]
    fn makes_room(&mut self, id: ConnId, wanted: usize) -> bool {
        if self.cork.gathered(id) > 0 {
            self.send(id, &[], Sent::default());
        }
        for _ in 0..ROOM_TRIES {
            let Some(connection) = self.live(id).filter(|it| it.takes_output()) else { break };
            if wanted <= connection.profile.max_output - connection.output_in_memory() {
                return true;
            }
            let is_stuck = connection.is_blocked || connection.phase == Phase::Connecting;
            if is_stuck || !connection.has_output() {
                return false;
            }
            self.flush_some(id);
            // What the handler is to be told of it waits for the end of the turn.
            self.mark_dirty(id);
        }
        false
    }

    /// Bytes written and not taken by the kernel.
    pub(crate) fn pending_bytes(&self, id: ConnId) -> usize {
        let gathered = self.cork.gathered(id);
        self.live(id).map_or(0, |connection| connection.output_left().saturating_add(gathered))
    }

    pub(super) fn side_of_mark(&self, id: ConnId) -> Written {
        match self.live(id) {
            Some(connection) if connection.is_backed_up => Written::Above,
            _ => Written::Below,
        }
    }

    /// What gathered is queued: something else stands behind it.
    pub(super) fn queue_gathered(&mut self, id: ConnId) {
        self.cork.shut(id);
        if self.cork.gathered(id) == 0 {
            return;
        }
        if let Some(connection) = self.connections.get_mut(id.index()) {
            connection.queue_output(&self.cork.bytes, &mut self.spares);
            self.cork.bytes.clear();
        }
    }

    #[cold]
    pub(super) fn overflow(&mut self, id: ConnId) -> Written {
        self.stats.writes_refused += 1;
        let Some(connection) = self.live(id) else {
            return Written::Closed;
        };
        if connection.profile.on_overflow == OnOverflow::Close {
            // The peer must not take what it has for the whole.
            self.doom_reset(id, CloseReason::Overflow);
        }
        Written::Full
    }

    /// Sends what is corked and then `bytes`, of which `sent` is done; queues what the kernel does
    /// not take.
    fn send(&mut self, id: ConnId, bytes: &[u8], sent: Sent) {
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        let corked = &self.cork.bytes;
        let short_is_full = connection.short_means_done();
        let sent = connection.send(corked, bytes, sent, short_is_full, &mut self.spares);
        self.cork.bytes.clear();
        self.after_sending(id, sent);
    }

    /// Queues output of a connection whose callback does not run: it leaves at the end of the
    /// turn, together with what others add.
    fn enqueue(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        let was_empty = !connection.has_output();
        connection.queue_output(bytes, &mut self.spares);
        self.after_queueing(id, was_empty);
    }

    /// Something was queued.
    pub(super) fn after_queueing(&mut self, id: ConnId, was_empty: bool) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        let is_held = connection.crosses_high_mark();
        let is_up = connection.phase == Phase::Open;
        if is_held {
            self.rewatch_message(id);
        }
        let Some(connection) = self.connections.get_mut(id.index()) else { return };
        if was_empty && is_up && connection.has_output() {
            // If it was not empty, it is on a list already or waits for the socket.
            let is_metered = connection.profile.send_rate.is_some();
            if is_metered {
                connection.watch_output(now);
                self.file(id);
            }
            self.mark_dirty(id);
        }
    }

    /// Accounts for what the kernel took, and sees to what it did not.
    fn after_sending(&mut self, id: ConnId, sent: Sent) {
        let now = self.now;
        self.stats.writes += sent.calls;
        self.stats.bytes_written += sent.bytes as u64;
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        if sent.bytes > 0 {
            connection.note_sent(sent.bytes, now);
        }
        if !connection.has_output() && sent.error.is_none() {
            connection.is_blocked = false;
            return;
        }
        self.after_short_sending(id, sent);
    }

    fn after_short_sending(&mut self, id: ConnId, sent: Sent) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        connection.is_blocked = sent.is_blocked;
        if let Some(error) = sent.error {
            let lost = connection.clear_output(&mut self.spares);
            connection.sever(CloseReason::from_error(error), lost, now);
            self.file(id);
            self.queue_ready(id);
            return;
        }
        let is_held = connection.crosses_high_mark();
        connection.watch_output(now);
        if is_held {
            self.rewatch_message(id);
        }
        self.file(id);
        if sent.is_blocked {
            self.ask_writable(id, true);
        } else {
            self.queue_ready(id);
        }
    }

    /// Where it is asked for on demand, writability is asked for while output waits, and only then.
    pub(crate) fn ask_writable(&mut self, id: ConnId, wanted: bool) {
        if !self.asks_writable_on_demand(id) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        if connection.asks_writable == wanted {
            return;
        }
        connection.asks_writable = wanted;
        let token = super::Target::token(id);
        match self.poller.set_writable(&mut connection.stream, token, wanted) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The poll has let go of a broken socket; reading finds out how it ended.
                connection.is_broken = true;
                connection.may_read = true;
                self.queue_ready(id);
            }
            Err(error) => self.doom(id, CloseReason::Io(error)),
        }
    }

    /// Sends queued output. Whether it has thereby fallen to the low mark, and the handler is to
    /// be told.
    pub(crate) fn flush(&mut self, id: ConnId) -> bool {
        let now = self.now;
        let Some(connection) = self.live(id) else {
            return false;
        };
        if connection.phase == Phase::Connecting {
            return false;
        }
        if connection.has_output() {
            self.flush_some(id);
        } else if !connection.is_backed_up {
            return false;
        }
        let Some(connection) = self.live_mut(id) else {
            return false;
        };
        let drained = connection.crosses_low_mark();
        if drained && !connection.is_paused && !connection.is_ended {
            // A handler may have stopped consuming because it could not answer.
            connection.must_redeliver |= !connection.input.is_empty();
        }
        if drained {
            connection.read_at = now; // the silence was ours, if reading was held back
        }
        let may_read = connection.may_read || connection.must_redeliver;
        let is_sent = !connection.has_output();
        let is_ending = connection.phase == Phase::Closing || connection.wants_fin;
        if is_sent {
            self.ask_writable(id, false);
            if is_ending {
                self.mark_dirty(id);
            }
        }
        if drained {
            self.rewatch_message(id);
            self.file(id);
            if may_read {
                self.queue_ready(id);
            }
        }
        drained
    }

    /// Sends queued output, as much as the socket and the budget allow.
    fn flush_some(&mut self, id: ConnId) {
        let others = self.ready.len();
        let Some(connection) = self.connections.get_mut(id.index()) else { return };
        let short_is_full = connection.short_means_done();
        let sent = connection.flush_all(FLUSH_BUDGET, others, short_is_full, &mut self.spares);
        self.after_sending(id, sent);
    }

    /// `Conn::close`: flush, FIN, the peer's end.
    pub(crate) fn close(&mut self, id: ConnId) {
        self.cork.shut(id);
        let is_stopping = self.is_stopping();
        let Some(connection) = self.live_mut(id) else { return };
        connection.is_let_go = true;
        match connection.phase {
            // What was written is sent first: it closes once it is up.
            Phase::Connecting if connection.has_output() => connection.wants_fin = true,
            Phase::Connecting => self.doom(id, CloseReason::Local),
            Phase::Open => {
                connection.enter(Phase::Closing);
                connection.ending = match connection.is_ended {
                    _ if is_stopping => Ending::Shutdown,
                    true => Ending::Peer,
                    false => Ending::Local,
                };
                connection.clear_waits();
                let connection = &mut self.connections[id.index()];
                connection.input.clear(&mut self.spares);
                self.mark_dirty(id);
            }
            _ => {}
        }
    }

    /// `Conn::shutdown_write`: FIN behind the output.
    pub(crate) fn shutdown_write(&mut self, id: ConnId) {
        self.cork.shut(id);
        let Some(connection) = self.live_mut(id) else { return };
        if connection.takes_output() {
            connection.wants_fin = true;
            connection.is_plain = false;
            self.mark_dirty(id);
        }
    }

    /// `Conn::abort`: drop the queue, send RST.
    pub(crate) fn abort(&mut self, id: ConnId) {
        self.doom_reset(id, CloseReason::Local);
    }

    /// The next step of a connection that asked for one: send FIN, or be done. Its output has
    /// been flushed as far as the kernel takes it.
    pub(crate) fn settle(&mut self, id: ConnId) {
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        let is_sent = !connection.has_output();
        match connection.phase {
            Phase::Open if connection.wants_fin && is_sent && !connection.fin_sent => {
                self.send_fin(id);
                self.finish_if_both_ended(id);
            }
            Phase::Closing if !is_sent => self.await_close(id),
            Phase::Closing if connection.is_ended => {
                let reason = connection.ending.into();
                self.doom(id, reason);
            }
            Phase::Closing => self.linger(id),
            _ => {}
        }
    }

    /// Sends FIN and waits for the peer's. Closing the socket now would answer input that is
    /// still to come with RST, and the kernel would drop what it has not sent (RFC 9112, 9.6).
    fn linger(&mut self, id: ConnId) {
        if !self.connections[id.index()].fin_sent {
            self.send_fin(id);
        }
        let connection = &mut self.connections[id.index()];
        if connection.fin_sent {
            connection.enter(Phase::Lingering);
            // The peer gets as long to finish as each part of the output got to leave.
            connection.clear_waits();
            self.await_close(id);
        }
    }

    /// Both directions have ended: nothing more can happen.
    pub(crate) fn finish_if_both_ended(&mut self, id: ConnId) {
        let Some(connection) = self.live(id) else {
            return;
        };
        if connection.phase == Phase::Open && connection.is_ended && connection.fin_sent {
            self.doom(id, CloseReason::Peer);
        }
    }

    fn await_close(&mut self, id: ConnId) {
        let now = self.now;
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        let ticks = connection.profile.close;
        connection.set_close_wait(now, ticks);
        let may_read = connection.may_read;
        self.file(id);
        if may_read {
            self.queue_ready(id);
        }
    }

    /// Sends FIN; if that fails the connection is broken.
    fn send_fin(&mut self, id: ConnId) {
        let now = self.now;
        let Some(connection) = self.live_mut(id) else { return };
        connection.wants_fin = true;
        match connection.stream.shutdown_write() {
            Ok(()) => connection.fin_sent = true,
            Err(error) => {
                connection.sever(CloseReason::from_error(error), 0, now);
                self.file(id);
                self.queue_ready(id);
            }
        }
    }

    pub(crate) fn pause_reading(&mut self, id: ConnId) {
        if let Some(connection) = self.live_mut(id) {
            connection.is_paused = true;
            connection.must_redeliver = false;
            connection.is_plain = false;
            self.rewatch_message(id);
        }
    }

    /// Reads again what came meanwhile, the unconsumed rest first.
    pub(crate) fn resume_reading(&mut self, id: ConnId) {
        let now = self.now;
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        if !connection.is_paused {
            return;
        }
        connection.is_paused = false;
        connection.read_at = now; // the silence was ours
        connection.must_redeliver = !connection.input.is_empty() && !connection.is_ended;
        if connection.may_read || connection.must_redeliver {
            self.queue_ready(id);
        }
        self.rewatch_message(id);
        self.file(id);
    }
}
