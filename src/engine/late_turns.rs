//! Which ticks had a turn that ended in the next one.
//!
//! What moves in a turn is stamped with the tick of its start, so that a message costs no look at
//! the clock; it may have moved up to the turn's end. Turns of several ticks are rare, and what
//! they touched is stamped anew. One that only crosses into the next tick is noted here, a bit a
//! tick. A check that takes a silence for over asks here: the silence then began a tick later.

/// Ticks that are remembered: four minutes.
const WINDOW: u64 = 1 << 18;

/// Which ticks had a turn that ended in the next one.
#[derive(Debug)]
pub(crate) struct LateTurns {
    /// A bit for each tick of the window, by the low bits of the tick.
    bits: Box<[u64]>,
    /// The window ends before this tick.
    end: u64,
}

impl LateTurns {
    pub(crate) fn new() -> Self {
        Self { bits: vec![0; WINDOW as usize / 64].into_boxed_slice(), end: 0 }
    }

    fn place(tick: u64) -> (usize, u64) {
        let bit = tick % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// A turn that began in this tick has ended in the next one.
    pub(crate) fn note(&mut self, tick: u64) {
        if tick >= self.end {
            self.move_on(tick);
        }
        let (word, bit) = Self::place(tick);
        self.bits[word] |= bit;
    }

    /// Forgets what falls out of the window when it comes to end with this tick.
    #[cold]
    fn move_on(&mut self, tick: u64) {
        let first = self.end.max((tick + 1).saturating_sub(WINDOW));
        for tick in first..=tick {
            let (word, bit) = Self::place(tick);
            self.bits[word] &= !bit;
        }
        self.end = tick + 1;
    }

    /// The tick in which something surely had moved that was stamped with this one. Of what is
    /// no longer remembered it is the next, so that nothing is taken for older than it is.
    pub(crate) fn latest(&self, stamp: u64) -> u64 {
        let (word, bit) = Self::place(stamp);
        let is_forgotten = stamp + WINDOW < self.end;
        let is_noted = stamp < self.end && self.bits[word] & bit != 0;
        stamp.saturating_add(u64::from(is_forgotten || is_noted))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_window_remembers_what_was_noted(
            steps in prop::collection::vec((0u64..2 * WINDOW, 0u64..2 * WINDOW), 1..20),
        ) {
            let mut late_turns = LateTurns::new();
            let (mut noted, mut now) = (HashSet::new(), 0);
            for (ahead, back) in steps {
                // Small steps are as likely as large ones.
                now += ahead >> (back % 20);
                late_turns.note(now);
                noted.insert(now);
                let stamp = now.saturating_sub(back);
                let late = noted.contains(&stamp) || stamp + WINDOW <= now;
                prop_assert_eq!(late_turns.latest(stamp), stamp + u64::from(late));
            }
        }
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
