//! Turns that were late, against a set of their ticks.

use std::collections::HashSet;

use quickcheck::{Gen, QuickCheck};

use crate::engine::late_turns::LateTurns;
use crate::engine::window::WINDOW;

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
