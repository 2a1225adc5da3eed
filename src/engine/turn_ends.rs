//! When turns ended, for what counts from a stamp of their start.
//!
//! The clock is read once a turn, so what begins in a turn is stamped with the tick of its start,
//! however long a callback has held the loop up before. What the loop itself stamps is stamped anew
//! after a long turn. What programs and protocols have stamped it does not know: they ask here when
//! a time seems to be over, which is seldom, and a turn within its tick has nothing to note.

use super::window::Window;

/// When the turns of the last minutes ended that did not end in the tick of their start.
#[derive(Debug)]
pub(crate) struct TurnEnds {
    /// The ticks in which such turns began. Of two that begin in one tick the first ends in it.
    begun: Window,
    /// The ticks in which they ended.
    ended: Window,
    /// The longest of them, in ticks.
    longest: u64,
}

impl TurnEnds {
    pub(crate) fn new() -> Self {
        Self { begun: Window::new(), ended: Window::new(), longest: 0 }
    }

    /// A turn has ended in a later tick than it began in.
    pub(crate) fn note(&mut self, start: u64, end: u64) {
        debug_assert!(start < end);
        self.begun.note(start);
        self.ended.note(end);
        self.longest = self.longest.max(end - start);
    }

    /// The tick in which the turn ended that began in this one. Of a turn that is not remembered
    /// any more it is the latest that it can have been.
    pub(crate) fn of(&self, start: u64) -> u64 {
        match (self.begun.has(start), self.ended.has(start)) {
            (Some(true), Some(_)) => self.ended.next(start).unwrap_or(start),
            (Some(false), Some(_)) => start,
            _ => start.saturating_add(self.longest),
        }
    }
}
