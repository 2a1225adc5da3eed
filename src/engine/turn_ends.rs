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

#[cfg(test)]
mod tests {
    use quickcheck::{Gen, QuickCheck};

    use super::super::window::WINDOW;
    use super::*;

    /// No turn is said to have ended earlier than it did, and those of the last minutes not
    /// later either.
    #[test]
    fn ends_are_remembered() {
        fn property(turns: Vec<(u64, u64, u32)>) {
            let mut ends = TurnEnds::new();
            let (mut noted, mut now, mut longest) = (Vec::new(), 0, 0);
            for (pause, length, shift) in turns {
                // Short ones are as likely as long ones.
                let start = now + ((pause % (WINDOW / 4)) >> (shift % 18));
                let end = start + ((length % (WINDOW / 4)) >> (shift % 18));
                if end > start {
                    ends.note(start, end);
                    longest = longest.max(end - start);
                }
                // The next turn begins where this one has ended, at the earliest.
                noted.push((start, end));
                now = end;
            }
            for (place, &(start, end)) in noted.iter().enumerate() {
                let is_last_of_its_tick =
                    noted.get(place + 1).is_none_or(|&(next, _)| next > start);
                if !is_last_of_its_tick {
                    continue; // it ended in that tick
                }
                let told = ends.of(start);
                assert!(told >= end && told <= start + longest, "{start}: {end}, {told}");
                if start + WINDOW > now {
                    assert_eq!(told, end);
                }
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(40)).quickcheck(property as fn(_));
    }

    #[test]
    fn what_no_turn_has_noted_is_as_it_is() {
        let mut ends = TurnEnds::new();
        assert_eq!(ends.of(7), 7);
        ends.note(7, 400);
        ends.note(400, 401);
        assert_eq!([6, 7, 8, 400, 401, 500].map(|tick| ends.of(tick)), [6, 400, 8, 401, 401, 500]);
        ends.note(WINDOW + 500, WINDOW + 510);
        assert_eq!([7, 8].map(|tick| ends.of(tick)), [400, 401], "by the longest turn so far");
        assert_eq!(ends.of(u64::MAX), u64::MAX);
    }
}
