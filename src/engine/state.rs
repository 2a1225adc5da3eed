//! How the engine stands: for those who look at it.

use super::{EndOfTurn, Engine, ReadyQueue, Timers};
use crate::engine::observer::{LoopState, WheelSlot};

/// Parts of an engine that are looked at while a turn is on.
#[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "a simulated world alone looks"))]
pub(crate) struct Parts<'a> {
    pub(crate) timers: &'a Timers,
    pub(crate) ready: &'a ReadyQueue,
    pub(crate) end_of_turn: &'a EndOfTurn,
}

/// Is shown the engine behind each callback and each phase.
pub(crate) type Tell = Box<dyn FnMut(&Parts<'_>)>;

impl Engine {
    /// Has a simulated world shown what a callback or a phase has left.
    #[inline]
    pub(crate) fn show_parts(&mut self) {
        // A simulated world is built, or nothing is.
        if crate::sys::OBSERVES_FAST_PATH {
            let Self { timers, ready, end_of_turn, observers, .. } = self;
            if let Some(tell) = observers.tell_parts() {
                tell(&Parts { timers, ready, end_of_turn });
            }
        }
    }

    /// The queues and the wheel, without the mailbox.
    pub(crate) fn state(&self) -> LoopState {
        let slots = self.timers.wheel().occupancy();
        let (flushes, closes) = (self.end_of_turn.flushes(), self.end_of_turn.closed());
        LoopState {
            tick: self.timers.now(),
            timers: self.timers.len(),
            wheel: slots.map(|(level, slot, entries)| WheelSlot { level, slot, entries }).collect(),
            deferred: self.timers.deferred().len(),
            ready: self.ready.connections().len() + self.ready.others(),
            messages: 0,
            flushes: flushes.len(),
            closes: closes.len(),
            retries: self.end_of_turn.retries(),
        }
    }
}
