//! One connection and the engine, borrowed together.

use std::io;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::engine::Engine;
use crate::stream::connection::{Connection, Flags, Phase};
use crate::sys::Stream;

/// A connection that has not ended, and what it needs of the loop.
///
/// A callback ends the borrow. So code that goes on behind one takes a new link, and finds out that
/// way whether the connection still lives.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    /// The connection's id.
    pub(crate) id: ConnId,
    pub(crate) connection: &'a mut Connection<Stream>,
    pub(crate) engine: &'a mut Engine,
}

impl Link<'_> {
    /// Invariant 7: a read or write that stops before `WouldBlock` queues its connection here, and
    /// only here.
    #[inline]
    pub(crate) fn queue_ready(&mut self) {
        let flags = &mut self.connection.flags;
        if !flags.has(Flags::IN_READY_QUEUE) && !self.connection.is_closed() {
            self.connection.flags.set(Flags::IN_READY_QUEUE);
            self.engine.ready.push(self.id);
        }
    }

    /// A flush, or the next step of a close, is due at the end of the turn.
    pub(crate) fn queue_flush(&mut self) {
        let flags = &mut self.connection.flags;
        if !flags.has(Flags::IN_FLUSH_LIST) && !self.connection.is_closed() {
            self.connection.flags.set(Flags::IN_FLUSH_LIST);
            self.engine.end_of_turn.push_flush(self.id);
        }
    }

    /// Invariant 4: marked closed at once, torn down at the end of the turn.
    pub(crate) fn mark_closed(&mut self, mut reason: CloseReason) {
        if self.connection.is_closed() {
            return;
        }
        if self.connection.flags.has(Flags::LAYERED) {
            if let Some(error) = self.connection.take_layer_failure() {
                reason = CloseReason::Io(error);
            }
        }
        let holds = Flags::LAYERED | Flags::HAS_OUTPUT | Flags::HAS_INPUT;
        if self.connection.flags.has(holds) || self.engine.cork.is_owner(self.id) {
            self.let_go(!reason.is_failure());
        }
        self.mark_closed_plain(reason);
    }

    /// The same of a connection about which nothing is unusual, while no callback runs: nothing is
    /// queued or gathered.
    #[inline]
    pub(crate) fn mark_closed_plain(&mut self, reason: CloseReason) {
        self.connection.enter(Phase::Closed);
        self.engine.end_of_turn.push_closed(self.id, reason);
    }

    /// A read has failed: nothing will come any more.
    pub(crate) fn break_off(&mut self, error: io::Error) {
        if self.is_connecting_through_layers() {
            return self.cut_handshake(Some(error));
        }
        let cause = self.connection.take_output_failure();
        self.mark_closed(cause.unwrap_or_else(|| CloseReason::from_error(error)));
    }

    /// Drops what is queued or gathered; if the connection ends in order, its layer says so first.
    fn let_go(&mut self, is_in_order: bool) {
        let is_orderly = is_in_order && !self.connection.flags.has(Flags::MUST_RESET);
        if self.connection.flags.has(Flags::LAYERED) && is_orderly {
            self.send_last_layer_end();
        }
        let mut unsent = self.engine.cork.take_back(self.id);
        let spares = &mut self.engine.spares;
        if self.connection.has_output() {
            unsent = unsent.saturating_add(self.connection.clear_output(spares));
        }
        if self.connection.has_input() {
            self.connection.clear_input(spares);
        }
        self.connection.add_unsent(unsent);
    }

    /// Marks it closed, to end with RST whatever was sent: what the peer has is not the whole.
    pub(crate) fn mark_closed_reset(&mut self, reason: CloseReason) {
        self.connection.flags.set(Flags::MUST_RESET);
        self.mark_closed(reason);
    }

    /// Whether writability is asked for only while output waits: where edges are emulated, and of
    /// Unix sockets. Linux tells of room in one whenever its peer has read something
    /// (`unix_write_space` in net/unix/af_unix.c), whether or not it had been full: a second event
    /// for each message.
    pub(super) fn asks_writable_on_demand(&self) -> bool {
        self.connection.config.is_unix() || self.engine.io.world().asks_writable_on_demand()
    }
}

impl Connection<Stream> {
    /// Whether a read or a write that is short has emptied or filled the socket. The peer of a
    /// Unix socket can send descriptors along, and a read stops at each.
    #[inline]
    pub(crate) fn short_means_done(&self) -> bool {
        self.stream.short_means_done() && !self.flags.has(Flags::UNIX)
    }
}
