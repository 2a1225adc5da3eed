//! A connection that has just been accepted, and may have its first bytes with it.
//!
//! ```text
//! accept ─> on_accept ─> on_open ─> read ─> on_data ─┬─> registered, armed
//!                                                    └─> over: torn down at the end of the turn
//! ```
//! The poll is not told of a connection before that. So one that ends with its first answer costs
//! neither a registration nor an event. Registered later, a socket loses no edge: the kernel looks
//! at it when it is added, and reports what is there.

use std::io;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::{Flags, Received};
use crate::stream::first_reads::Guess;

/// What became of the first read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// Something was there, and has been handled.
    Served,
    /// The socket was empty.
    Empty,
    /// The handler takes nothing yet, or has ended the connection.
    Unread,
}

impl Dispatcher {
    /// Reads a connection once that is open and not registered, and has what is there handled; then
    /// registers it, unless it has ended.
    #[inline(always)] // into `accept`
    pub(super) fn serve_first(&mut self, index: usize, id: ConnId, guess: Guess) {
        let first = self.read_first(id);
        if first == First::Empty || guess == Guess::Try {
            self.note_guess(index, first);
        }
        let Some(mut link) = self.lp.link(id) else { return };
        if link.needs_no_watch() {
            return;
        }
        if first != First::Served && link.connection.is_open() {
            link.connection.await_first_byte(link.engine.now());
        }
        link.arm_new();
        if let Err(error) = link.register() {
            self.fail_to_register(index, id, error);
        }
    }

    #[inline(always)]
    fn read_first(&mut self, id: ConnId) -> First {
        let Self { lp, buffer, .. } = self;
        let Some(connection) = lp.streams.slot_mut(id) else { return First::Unread };
        let is_plain = connection.flags.is_usual();
        // What `on_open` has given back stands before what is read.
        let may_read = connection.is_open() && connection.wants_read() && !connection.can_replay();
        if !(is_plain || may_read) {
            return First::Unread;
        }
        match connection.receive(buffer) {
            Received::Blocked => return First::Empty,
            Received::Bytes(count) if count < buffer.len() && is_plain => {
                let config = &*connection.config;
                let (state, handler, room) = (connection.state, config.service, config.cork_room);
                if lp.engine.observers.is_empty() {
                    self.deliver_fast::<false>(id, count, state, handler, room);
                } else {
                    self.deliver_fast::<true>(id, count, state, handler, room);
                }
            }
            received => self.receive_first(id, received),
        }
        First::Served
    }

    /// The first read gave something else than a short message to a connection with nothing unusual
    /// about it. What is left has its turn with the ready queue.
    #[inline(never)]
    fn receive_first(&mut self, id: ConnId, received: Received) {
        let Some(link) = self.lp.link(id) else { return };
        link.connection.flags.set(Flags::READABLE);
        self.on_received(id, received, 0);
        if let Some(mut link) = self.lp.link(id) {
            if link.connection.flags.has(Flags::READABLE) {
                link.queue_ready();
            }
            link.connection.drop_unused();
        }
    }

    #[cold]
    fn note_guess(&mut self, index: usize, first: First) {
        let Some(listener) = self.lp.streams.listener_mut(index) else { return };
        match first {
            First::Served => listener.first_reads.note_hit(),
            First::Empty => listener.first_reads.note_miss(),
            First::Unread => {}
        }
    }

    #[cold]
    fn fail_to_register(&mut self, index: usize, id: ConnId, error: io::Error) {
        self.warn(index, &error);
        if let Some(mut link) = self.lp.link(id) {
            link.mark_closed_reset(CloseReason::Io(error));
        }
    }
}
