//! The loop's end of a channel, with the type of its messages erased.

use std::any::Any;

use crate::handler::Context;

/// Where messages of other threads come in for one handler.
///
/// Its index travels through the mailbox when it has something, and not again before all of that
/// was handed over.
pub(crate) trait ErasedReceiver {
    /// The handler's place.
    fn handler(&self) -> u32;

    /// Hands the handler its messages, at most `budget`.
    fn deliver(&mut self, handler: &mut dyn Any, cx: &mut Context<'_>, budget: usize) -> Delivery;

    /// Sends fail from now on, and those that wait are woken to fail. Drops what is left, which is
    /// the user's: when that panics, another call goes on.
    fn close(&mut self);
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Messages handed over.
    pub(crate) count: usize,
    /// What is left.
    pub(crate) rest: Rest,
}

/// What is left in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing; it will announce itself.
    Nothing,
    /// Messages that it will not announce again.
    Messages,
    /// Nothing, and nothing will come.
    Over,
}
