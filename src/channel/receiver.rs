//! The loop's end of a channel.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::queue::Taken;
use super::{Receive, Shared};
use crate::handler::{Context, Delivery, ErasedReceiver, HandlerKey, Rest};

/// Takes batches from the queue and hands them to the handler.
pub(super) struct ChannelReceiver<T, H> {
    shared: Arc<Shared<T>>,
    handler: HandlerKey<H>,
    /// Messages taken and not handed over.
    batch: VecDeque<T>,
    /// Messages handed over since room was last given back.
    unreleased: usize,
    /// The handler has been told, or is being told, that no sender is left.
    is_told: bool,
}

impl<T, H> ChannelReceiver<T, H> {
    pub(super) fn new(handler: HandlerKey<H>, shared: Arc<Shared<T>>) -> Self {
        Self { shared, handler, batch: VecDeque::new(), unreleased: 0, is_told: false }
    }
}

impl<T: Send + 'static, H: Receive<T>> ErasedReceiver for ChannelReceiver<T, H> {
    fn handler(&self) -> u32 {
        self.handler.index()
    }

    fn deliver(&mut self, handler: &mut dyn Any, cx: &mut Context<'_>, budget: usize) -> Delivery {
        let Some(handler) = handler.downcast_mut::<H>() else {
            log::error!("a channel was made with the key of another reactor");
            return Delivery { count: 0, rest: Rest::Over };
        };
        let mut count = 0;
        let rest = loop {
            if self.batch.is_empty() {
                self.unreleased = 0;
                match self.shared.queue.take(&mut self.batch) {
                    Taken::Messages => {}
                    Taken::Nothing => break Rest::Nothing,
                    Taken::Gone => {
                        self.tell_end(handler, cx);
                        break Rest::Over;
                    }
                }
            }
            if count == budget || cx.event_loop().engine.is_over() {
                break Rest::Messages;
            }
            count += self.hand_over(handler, cx, budget - count);
        };
        Delivery { count, rest }
    }

    fn close(&mut self) {
        let messages = self.shared.queue.close();
        self.batch.extend(messages);
        while let Some(message) = self.batch.pop_front() {
            drop(message);
        }
    }
}

impl<T, H: Receive<T>> ChannelReceiver<T, H> {
    /// Hands over what there is of the batch, at most `most`; how many they were.
    #[inline]
    fn hand_over(&mut self, handler: &mut H, cx: &mut Context<'_>, most: usize) -> usize {
        let step = self.shared.queue.step();
        let mut count = 0;
        while count < most && !cx.event_loop().engine.is_over() {
            let Some(message) = self.batch.pop_front() else { break };
            count += 1;
            // Before the callback, which may panic.
            self.unreleased += 1;
            cx.event_loop().engine.stats.messages += 1;
            handler.on_message(message, cx);
            if self.unreleased >= step {
                self.shared.queue.release(mem::take(&mut self.unreleased));
            }
        }
        count
    }

    fn tell_end(&mut self, handler: &mut H, cx: &mut Context<'_>) {
        if !mem::replace(&mut self.is_told, true) {
            handler.on_senders_gone(cx);
        }
    }
}
