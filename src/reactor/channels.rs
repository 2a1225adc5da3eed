//! Channels: their messages to the handlers, and their end.

use std::mem;

use crate::base::panics::run_quietly;
use crate::engine::observer::What;
use crate::handler::{Context, Delivery, ErasedReceiver, Message, Rest};
use crate::reactor::callback::Who;
use crate::reactor::dispatch::Dispatcher;

impl Dispatcher {
    /// Hands over what a channel has announced, at most `budget` messages; how many it were. What
    /// is left has its turn after the messages that wait now.
    pub(super) fn deliver_channel(&mut self, index: u32, budget: usize) -> usize {
        let channel = self.lp.posts.channels.get_mut(index as usize);
        let Some(receiver) = channel.and_then(Option::take) else { return 0 };
        let receiver = self.delivering.insert(receiver);
        let (who, handler) = (Who::Channel(index), receiver.handler());
        let what = || What::Messages;
        let delivery = self.callbacks.enter(&mut self.lp, who, handler, what, |entry, lp| {
            let (handler, states) = entry.handler.parts();
            receiver.deliver(handler, &mut Context::lending(lp, states), budget)
        });
        let delivery = delivery.unwrap_or_else(|| {
            log::error!("a channel was made with the key of another reactor");
            Delivery { count: 0, rest: Rest::Over }
        });
        self.put_back(index, delivery.rest);
        delivery.count
    }

    /// A panic has cut a delivery short: the rest of the messages follows in the next turn.
    pub(super) fn resume_delivery(&mut self, index: u32) {
        self.put_back(index, Rest::Messages);
    }

    /// The channel that was being delivered goes back to its place.
    fn put_back(&mut self, index: u32, rest: Rest) {
        let Some(receiver) = self.delivering.take() else { return };
        if rest == Rest::Over {
            self.lp.posts.channels.remove(index as usize);
            return close(receiver);
        }
        if rest == Rest::Messages {
            self.inbox.push_back(Message::Deliver(index));
        }
        if let Some(place) = self.lp.posts.channels.get_mut(index as usize) {
            *place = Some(receiver);
        }
    }

    /// The loop has ended: senders get an error.
    pub(super) fn close_channels(&mut self) {
        let channels = mem::take(&mut self.lp.posts.channels);
        for receiver in channels.into_iter().filter_map(|(_, receiver)| receiver) {
            close(receiver);
        }
    }
}

/// Messages that no handler takes are dropped, whatever their `Drop` does.
fn close(mut receiver: Box<dyn ErasedReceiver>) {
    while !run_quietly(|| receiver.close()) {}
}
