//! The fast path of a message of a Unix socket. `unix_message_stub.rs` stands for it where a read
//! does not tell whether it has emptied the socket.

use crate::base::id::ConnId;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::{Flags, Received};

impl Dispatcher {
    /// Whether an event is a message for a Unix socket with nothing else unusual about it.
    fn is_unix_message(&self, id: ConnId) -> bool {
        // Where edges are emulated mio must see each read.
        self.lp.streams.get(id).is_some_and(|connection| {
            let flags = connection.flags;
            let is_usual = flags.has(Flags::UNIX) && !flags.has_other(Flags::UNIX | Flags::WATCHED);
            is_usual && connection.stream.short_means_done()
        })
    }

    /// Runs one read, one callback and one write, if an event is such a message; returns whether.
    pub(super) fn on_unix_message(&mut self, id: ConnId) -> bool {
        if !self.is_unix_message(id) {
            return false;
        }
        self.read_unix_message(id);
        true
    }

    fn read_unix_message(&mut self, id: ConnId) {
        let Some(link) = self.lp.link(id) else { return };
        let connection = link.connection;
        let (count, is_cut) = match connection.stream.receive_noting(&mut self.buffer) {
            Ok((count, is_cut)) => (Ok(count), is_cut),
            Err(error) => (Err(error), true),
        };
        match Received::of(count) {
            Some(Received::Bytes(count)) if count < self.buffer.len() && !is_cut => {
                connection.read_at = link.engine.now();
                let config = &*connection.config;
                let (state, handler, room) = (connection.state, config.service, config.cork_room);
                if self.lp.engine.observers.is_empty() {
                    self.deliver_fast::<false>(id, count, state, handler, room);
                } else {
                    self.deliver_fast::<true>(id, count, state, handler, room);
                }
            }
            Some(received) => {
                connection.flags.set(Flags::READABLE);
                self.continue_reading(id, received);
            }
            None => {
                connection.flags.set(Flags::READABLE);
                self.read(id);
            }
        }
    }
}
