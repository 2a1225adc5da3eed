//! Channels: their messages to the handlers, and their end.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::{Delivery, Inlet, Message, Rest};
use crate::reactor::dispatch::Dispatcher;

impl Dispatcher {
    /// Hands over what a channel has announced, at most `budget` messages; how many it were. What
    /// is left has its turn after the messages that wait now.
    pub(super) fn deliver_channel(&mut self, index: u32, budget: usize) -> usize {
        let inlet = self.engine.inlets.get_mut(index as usize).and_then(Option::take);
        let Some(inlet) = inlet else { return 0 };
        let (_, inlet) = self.delivering.insert((index, inlet));
        let delivery = match self.services.get_mut(inlet.service() as usize) {
            Some(service) => inlet.deliver(service.handler_mut(), &mut self.engine, budget),
            None => {
                log::error!("a channel was made with the service key of another reactor");
                Delivery { count: 0, rest: Rest::Over }
            }
        };
        self.put_back(delivery.rest);
        delivery.count
    }

    /// A panic has cut a delivery short: the rest of the messages follows in the next turn.
    pub(super) fn resume_delivery(&mut self) {
        self.put_back(Rest::Messages);
    }

    /// The channel that was being delivered goes back to its place.
    fn put_back(&mut self, rest: Rest) {
        let Some((index, inlet)) = self.delivering.take() else { return };
        if rest == Rest::Over {
            self.engine.inlets.remove(index as usize);
            return close(inlet);
        }
        if rest == Rest::Messages {
            self.inbox.push_back(Message::Deliver(index));
        }
        if let Some(place) = self.engine.inlets.get_mut(index as usize) {
            *place = Some(inlet);
        }
    }

    /// The loop has ended: whoever sends is told.
    pub(super) fn close_inlets(&mut self) {
        for inlet in mem::take(&mut self.engine.inlets).into_iter().filter_map(|(_, inlet)| inlet) {
            close(inlet);
        }
    }
}

/// Messages that nobody takes are dropped, whatever their `Drop` does.
fn close(mut inlet: Box<dyn Inlet>) {
    while let Err(payload) = catch_unwind(AssertUnwindSafe(|| inlet.close())) {
        // Its own `Drop` may panic in turn, and so for ever.
        mem::forget(payload);
    }
}
