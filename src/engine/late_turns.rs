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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use quickcheck::{Gen, QuickCheck};

    use super::super::window::WINDOW;
    use super::*;

    #[test]
    fn the_window_remembers_what_was_noted() {
        fn property(steps: Vec<(u64, u64)>) {
            let mut late_turns = LateTurns::new();
            let (mut noted, mut now) = (HashSet::new(), 0);
            for (ahead, back) in steps {
                let back = back % (2 * WINDOW);
                // Small steps are as likely as large ones.
                now += (ahead % (2 * WINDOW)) >> (back % 20);
                late_turns.note(now);
                noted.insert(now);
                let stamp = now.saturating_sub(back);
                let late = noted.contains(&stamp) || stamp + WINDOW <= now;
                assert_eq!(late_turns.latest(stamp), stamp + u64::from(late));
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(20)).quickcheck(property as fn(_));
    }

    #[test]
    fn nothing_is_noted_ahead() {
        let mut late_turns = LateTurns::new();
        assert_eq!(late_turns.latest(5), 5);
        late_turns.note(5);
        assert_eq!((late_turns.latest(4), late_turns.latest(5), late_turns.latest(6)), (4, 6, 6));
        late_turns.note(5 + WINDOW);
        assert_eq!(late_turns.latest(5), 6, "what is forgotten counts as noted");
        assert_eq!(late_turns.latest(6), 6);
    }
}
