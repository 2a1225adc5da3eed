//! Messages of connections that are observed.

use crate::base::id::ConnId;
use crate::engine::observer::{Callback, ConnFacts, Outcome, What};
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::{Flags, Received};

/// How a connection stands of which no flag but that of the observers is set.
const USUAL: ConnFacts = ConnFacts {
    is_reading: true,
    is_paused: false,
    is_layered: false,
    input_bytes: 0,
    output_bytes: 0,
};

impl Dispatcher {
    /// A message for a connection with nothing unusual about it but its observers: the fast path
    /// once more (`on_io`, `deliver_fast`), with a word to them at each step.
    #[inline(never)]
    pub(super) fn on_observed_message(&mut self, id: ConnId) {
        let Self { lp, callbacks, buffer, .. } = self;
        let Some(connection) = lp.streams.slot_mut(id) else { return };
        let received = connection.receive(buffer);
        let count = match received {
            Received::Bytes(count)
                if connection.stream.short_means_done() && count < buffer.len() =>
            {
                count
            }
            received => {
                connection.flags.set(Flags::READABLE);
                return self.continue_reading(id, received);
            }
        };
        connection.read_at = lp.engine.now();
        let config = &*connection.config;
        let (state, handler, room) = (connection.state, config.service, config.cork_room);
        lp.engine.count_read(count);
        lp.engine.observers.tell(|observer| observer.on_read(id, count));
        let Some(entry) = callbacks.handlers.get_mut(handler as usize) else { return };
        let input = &buffer[..count];
        let mut callback = Callback::new(handler, What::Data { id, input }, Some(USUAL));
        lp.engine.cork.begin(id, room);
        lp.engine.begin_observed_callback(&callback);
        let consumed = entry.handler.data(state, lp, input);
        let written = lp.streams.uncork_plain(&mut lp.engine, id);
        if written > 0 {
            lp.engine.observers.tell(|observer| observer.on_written(id, written));
        }
        if !lp.streams.slot(id).is_some_and(|connection| connection.flags == Flags::OBSERVED) {
            callback.conn = lp.streams.facts(id);
        }
        lp.engine.end_observed_callback(&callback, Outcome::Consumed(consumed));
        if consumed < count {
            self.keep(id, consumed, count);
        }
    }
}
