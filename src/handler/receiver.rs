//! The loop's end of a channel, with the type of its messages erased.

use std::any::Any;

use super::{Engine, Running, Stop};

/// Where messages of other threads come in for one handler.
///
/// Its index travels through the mailbox when it has something, and not again before all of that
/// was handed over.
pub(crate) trait Inlet {
    /// The handler's place.
    fn service(&self) -> u32;

    /// Hands the handler its messages, at most `budget`.
    fn deliver(&mut self, handler: &mut dyn Any, engine: &mut Engine, budget: usize) -> Delivery;

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

impl Engine {
    /// Whether a stop at once was asked for: messages are not run any more.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.running == Running::Asked(Stop::Now)
    }
}
