//! The ends of turns, against a list of them.

use quickcheck::{Gen, QuickCheck};

use crate::engine::turn_ends::TurnEnds;
use crate::engine::window::WINDOW;

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
            let is_last_of_its_tick = noted.get(place + 1).is_none_or(|&(next, _)| next > start);
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
