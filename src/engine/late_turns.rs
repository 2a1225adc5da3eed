//! Which ticks had a turn that ended in the next one.
//!
//! What moves in a turn is stamped with the tick of its start, so that a message costs no look at
//! the clock; it may have moved up to the turn's end. Turns of several ticks are rare, and what
//! they touched is stamped anew. One that only crosses into the next tick is noted here, a bit a
//! tick. A check that takes a silence for over asks here: the silence then began a tick later.

use super::window::Window;

/// Which ticks had a turn that ended in the next one.
#[derive(Debug)]
pub(crate) struct LateTurns(Window);

impl LateTurns {
    pub(crate) fn new() -> Self {
        Self(Window::new())
    }

    /// A turn that began in this tick has ended in the next one.
    pub(crate) fn note(&mut self, tick: u64) {
        self.0.note(tick);
    }

    /// The tick in which something surely had moved that was stamped with this one. Of what is
    /// no longer remembered it is the next, so that nothing is taken for older than it is.
    pub(crate) fn latest(&self, stamp: u64) -> u64 {
        let is_late = self.0.has(stamp).unwrap_or(true);
        stamp.saturating_add(u64::from(is_late))
    }
}
