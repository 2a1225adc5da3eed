//! The ends of turns, against a list of them.

use quickcheck::{Gen, QuickCheck};

use crate::engine::turn_ends::{LONGEST_LIMIT, LONGEST_TURN, TurnEnds};
use crate::engine::window::WINDOW;

/// Turns as a loop makes them: each has a start, an end, and whether it is the first of its tick.
fn turns(steps: &[(u64, u64, u32)]) -> Vec<(u64, u64, bool)> {
    let (mut turns, mut now, mut last) = (Vec::new(), 0, None);
    for &(pause, length, shift) in steps {
        // Short ones are as likely as long ones.
        let start = now + ((pause % (WINDOW / 4)) >> (shift % 19));
        let end = start + ((length % (WINDOW / 4)) >> (shift % 19));
        turns.push((start, end, last != Some(start)));
        // The next turn begins where this one has ended, at the earliest.
        (now, last) = (end, Some(start));
    }
    turns
}

/// No turn is said to have ended earlier than it did, and those of the last minutes not
/// later either.
#[test]
fn ends_are_remembered() {
    fn property(steps: Vec<(u64, u64, u32)>) {
        let (mut ends, turns) = (TurnEnds::new(), turns(&steps));
        let (mut now, mut longest) = (0, 0);
        for &(start, end, is_first) in &turns {
            if end > start {
                ends.note(start, end, is_first, false);
                longest = longest.max(end - start);
            }
            now = end;
        }
        for (place, &(start, end, _)) in turns.iter().enumerate() {
            let is_last_of_its_tick = turns.get(place + 1).is_none_or(|&(next, ..)| next > start);
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

/// What a turn has stamped has moved at its end: with the stamp that it keeps, or with the one that
/// it is given. What an earlier turn of that tick has stamped is a tick younger at the most.
#[test]
fn what_has_the_stamp_of_a_turn_has_moved_at_its_end() {
    fn property(steps: Vec<(u64, u64, u32)>, is_limit_long: bool) {
        let (mut ends, turns) = (TurnEnds::new(), turns(&steps));
        ends.note_limit(LONGEST_LIMIT + u64::from(is_limit_long));
        let (mut now, mut stamps) = (0, Vec::<(u64, u64)>::new());
        for &(start, end, is_first) in &turns {
            let is_kept = end == start || ends.note(start, end, is_first, false);
            let length = end - start;
            let is_alone = is_first && stamps.last().is_none_or(|&(stamp, _)| stamp < start);
            let may_keep = is_alone && !is_limit_long && length <= LONGEST_TURN;
            assert_eq!(is_kept, length <= 1 || may_keep, "{start} to {end}");
            stamps.push((if is_kept { start } else { end }, end));
            now = end;
        }
        for (stamp, end) in stamps {
            let latest = ends.latest(stamp);
            if stamp + WINDOW > now {
                assert!((end..=end + 1).contains(&latest), "{stamp}: {end}, {latest}");
            } else {
                assert!((stamp..=end + 1).contains(&latest));
            }
        }
    }
    QuickCheck::new().tests(256).rng(Gen::new(40)).quickcheck(property as fn(_, _));
}

#[test]
fn what_no_turn_has_noted_is_as_it_is() {
    let mut ends = TurnEnds::new();
    assert_eq!((ends.of(7), ends.latest(7)), (7, 7));
    assert!(!ends.note(7, 400, true, false), "too long a turn");
    assert!(ends.note(400, 401, true, false) && ends.note(401, 403, true, false));
    assert!(!ends.note(403, 405, false, false), "a turn before it has stamped with 403 too");
    assert!(!ends.note(405, 408, true, false), "what was stamped anew has that stamp");
    let ticks = [6, 7, 8, 400, 401, 402, 403, 500];
    assert_eq!(ticks.map(|tick| ends.of(tick)), [6, 400, 8, 401, 403, 402, 405, 500]);
    assert_eq!(ticks.map(|tick| ends.latest(tick)), [6, 7, 8, 401, 403, 402, 403, 500]);
    assert!(!ends.note(410, 411, false, true), "what earlier turns have stamped stays as it is");
    assert_eq!([410, 411].map(|tick| ends.latest(tick)), [410, 411]);
    assert!(ends.note(420, 421, true, true), "no other turn has stamped with 420");
    ends.note(WINDOW + 500, WINDOW + 510, true, false);
    assert_eq!([7, 8].map(|tick| ends.of(tick)), [400, 401], "by the longest turn so far");
    assert_eq!([7, 8].map(|tick| ends.latest(tick)), [8, 9], "what is forgotten counts as noted");
    assert_eq!((ends.of(u64::MAX), ends.latest(u64::MAX)), (u64::MAX, u64::MAX));
    ends.note_limit(LONGEST_LIMIT + 1);
    assert!(!ends.note(WINDOW + 520, WINDOW + 522, true, false), "it would be forgotten too soon");
}
