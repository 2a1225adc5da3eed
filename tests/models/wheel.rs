//! The timer wheel against a model that is too simple to be wrong, and its promises by name.

use std::iter;

use quickcheck::{Gen, QuickCheck};
use waterwheel::wheel::{LAST_TICK, Wheel};

use crate::wheel_model::{Operation, Pair, period};

/// A year of milliseconds.
const YEAR: u64 = 365 * 24 * 60 * 60 * 1000;

/// All that is due at `now`, as payloads.
fn drain<T: Copy>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    iter::from_fn(|| wheel.pop_due(now)).map(|(_, payload)| payload).collect()
}

#[test]
fn an_empty_wheel_has_nothing_due() {
    let mut wheel = Wheel::<()>::new();
    assert!(wheel.is_empty());
    assert_eq!(wheel.next_deadline(), None);
    assert_eq!(wheel.pop_due(u64::MAX), None);
    assert_eq!(wheel.tick(), LAST_TICK);
}

#[test]
fn a_timer_fires_at_its_deadline_and_not_before() {
    for deadline in [1, 63, 64, 65, 4_095, 4_096, 262_143, 262_144, 40 * YEAR, LAST_TICK] {
        let mut wheel = Wheel::new();
        let id = wheel.insert(deadline, ());
        assert_eq!(wheel.next_deadline(), Some(deadline));
        assert_eq!(wheel.pop_due(deadline - 1), None, "deadline {deadline}");
        assert!(wheel.contains(id));
        assert_eq!(wheel.next_deadline(), Some(deadline));
        assert_eq!(wheel.pop_due(deadline), Some((id, ())), "deadline {deadline}");
        assert!(!wheel.contains(id));
        assert_eq!(wheel.next_deadline(), None);
    }
}

#[test]
fn equal_deadlines_fire_in_the_order_of_insertion_from_any_distance() {
    let mut wheel = Wheel::new();
    let mut expected = Vec::new();
    for now in (0..5_000).step_by(7) {
        assert_eq!(wheel.pop_due(now), None);
        wheel.insert(5_000, now);
        expected.push(now);
    }
    assert_eq!(drain(&mut wheel, 5_000), expected);
}

#[test]
fn a_jump_of_years_fires_everything_in_order() {
    let mut wheel = Wheel::new();
    let deadlines = [30 * YEAR, 5, 2 * YEAR, 70, 2 * YEAR + 1, 100 * YEAR, 5_000, 6];
    for deadline in deadlines {
        wheel.insert(deadline, deadline);
    }
    let due = drain(&mut wheel, 99 * YEAR);
    assert_eq!(due, [5, 6, 70, 5_000, 2 * YEAR, 2 * YEAR + 1, 30 * YEAR]);
    assert_eq!(wheel.tick(), 99 * YEAR);
    assert_eq!(wheel.next_deadline(), Some(100 * YEAR));
    assert_eq!(drain(&mut wheel, u64::MAX), [100 * YEAR]);
}

#[test]
fn a_deadline_beyond_the_last_tick_is_taken_as_the_last_tick() {
    let mut wheel = Wheel::new();
    wheel.insert(u64::MAX, 'a');
    assert_eq!(wheel.next_deadline(), Some(LAST_TICK));
    assert_eq!(wheel.pop_due(LAST_TICK - 1), None);
    wheel.insert(LAST_TICK, 'b');
    assert_eq!(drain(&mut wheel, LAST_TICK), ['a', 'b']);
    wheel.insert(u64::MAX, 'c');
    assert_eq!(drain(&mut wheel, u64::MAX), ['c']);
}

#[test]
fn a_past_deadline_is_due_at_the_next_pop() {
    let mut wheel = Wheel::new();
    assert_eq!(wheel.pop_due(1_000), None);
    wheel.insert(1_001, "next");
    wheel.insert(1_000, "now");
    wheel.insert(3, "past");
    assert_eq!(wheel.next_deadline(), Some(1_000));
    assert_eq!(drain(&mut wheel, 1_000), ["now", "past"]);
    assert_eq!(drain(&mut wheel, 1_001), ["next"]);
}

#[test]
fn time_does_not_run_backwards() {
    let mut wheel = Wheel::new();
    assert_eq!(wheel.pop_due(1_000), None);
    wheel.insert(1_005, ());
    assert_eq!(wheel.pop_due(0), None);
    assert_eq!(wheel.tick(), 1_000);
    assert_eq!(drain(&mut wheel, 1_005), [()]);
}

#[test]
fn a_due_timer_cancelled_before_its_pop_does_not_fire() {
    let mut wheel = Wheel::new();
    let ids = [10, 10, 10, 20].map(|deadline| wheel.insert(deadline, deadline));
    assert_eq!(wheel.pop_due(50), Some((ids[0], 10)));
    assert!(wheel.cancel(ids[1]));
    assert!(wheel.cancel(ids[3]));
    assert_eq!(wheel.pop_due(50), Some((ids[2], 10)));
    assert_eq!(wheel.pop_due(50), None);
    assert!(wheel.is_empty());
}

#[test]
fn a_timer_set_between_pops_fires_in_its_place() {
    let mut wheel = Wheel::new();
    wheel.insert(10, "first");
    wheel.insert(30, "third");
    assert!(wheel.pop_due(50).is_some());
    wheel.insert(20, "second");
    assert_eq!(drain(&mut wheel, 50), ["second", "third"]);
}

#[test]
fn a_stale_id_finds_nothing_when_its_place_is_taken_again() {
    let mut wheel = Wheel::new();
    let fired = wheel.insert(1, ());
    assert_eq!(wheel.pop_due(1), Some((fired, ())));
    let cancelled = wheel.insert(2, ());
    assert!(wheel.cancel(cancelled));
    assert!(!wheel.cancel(cancelled));
    let live = wheel.insert(3, ());
    for id in [fired, cancelled] {
        assert_ne!(id, live);
        assert!(!wheel.contains(id));
        assert!(!wheel.cancel(id));
    }
    assert_eq!(wheel.len(), 1);
    assert_eq!(wheel.pop_due(3), Some((live, ())));
}

#[test]
fn a_cancelled_timer_does_not_fire_when_its_place_is_taken_again() {
    let mut wheel = Wheel::new();
    let old = wheel.insert(100, "old");
    wheel.cancel(old);
    wheel.insert(200, "new");
    assert_eq!(wheel.pop_due(150), None);
    assert_eq!(drain(&mut wheel, 200), ["new"]);
}

#[test]
fn a_periodic_timer_keeps_its_id_and_its_phase() {
    let mut wheel = Wheel::new();
    let id = wheel.insert_periodic(7, period(10), 'p');
    for (now, next) in [(7, 17), (19, 27), (27, 37), (36, 37), (40, 47)] {
        let due = (now != 36).then_some((id, 'p'));
        assert_eq!(wheel.pop_due(now), due);
        assert_eq!(wheel.pop_due(now), None);
        assert_eq!(wheel.next_deadline(), Some(next));
    }
    assert!(wheel.contains(id));
    assert!(wheel.cancel(id));
    assert_eq!(wheel.pop_due(1_000), None);
}

#[test]
fn a_periodic_timer_skips_what_it_missed() {
    let mut wheel = Wheel::new();
    let id = wheel.insert_periodic(5, period(20), ());
    assert_eq!(wheel.pop_due(3 * YEAR), Some((id, ())));
    assert_eq!(wheel.pop_due(3 * YEAR), None);
    let next = wheel.next_deadline().unwrap();
    assert_eq!(next % 20, 5);
    assert!(next > 3 * YEAR && next <= 3 * YEAR + 20);
}

#[test]
fn a_periodic_timer_set_in_the_past_keeps_its_phase() {
    let mut wheel = Wheel::new();
    assert_eq!(wheel.pop_due(1_000), None);
    wheel.insert_periodic(993, period(10), ());
    assert_eq!(drain(&mut wheel, 1_000), [()]);
    assert_eq!(wheel.next_deadline(), Some(1_003));
}

#[test]
fn a_periodic_timer_ends_with_the_wheel() {
    let mut wheel = Wheel::new();
    let id = wheel.insert_periodic(10, period(1), ());
    assert_eq!(drain(&mut wheel, u64::MAX).len(), 1);
    assert!(!wheel.contains(id));
    assert!(wheel.is_empty());
}

#[test]
fn a_timer_that_was_put_off_fires_once_at_the_last_deadline_that_was_set() {
    let mut wheel = Wheel::new();
    let id = wheel.insert(10, 'a');
    wheel.insert(70, 'b');
    for deadline in [90, 300, 70] {
        assert!(wheel.postpone(id, deadline));
    }
    assert_eq!(wheel.pop_due(69), None);
    assert!(wheel.contains(id));
    assert_eq!(drain(&mut wheel, 70), ['b', 'a']);
    assert!(!wheel.contains(id) && !wheel.postpone(id, 500));
    assert_eq!((wheel.pop_due(1_000), wheel.len()), (None, 0));
}

#[test]
fn a_timer_put_off_is_not_due_before_it_was_and_the_next_one_of_its_place_is_not_put_off() {
    let mut wheel = Wheel::new();
    let id = wheel.insert(10, 'a');
    assert!(wheel.postpone(id, 5));
    assert_eq!((wheel.pop_due(9), wheel.pop_due(10)), (None, Some((id, 'a'))));
    let cancelled = wheel.insert(20, 'b');
    assert!(wheel.postpone(cancelled, 60) && wheel.cancel(cancelled));
    let next = wheel.insert(20, 'c');
    assert_eq!(wheel.pop_due(20), Some((next, 'c')));
}

#[test]
fn a_periodic_timer_that_was_put_off_keeps_its_new_phase() {
    let mut wheel = Wheel::new();
    let id = wheel.insert_periodic(7, period(10), 'p');
    assert!(wheel.postpone(id, 11));
    for (now, due) in [(10, false), (11, true), (20, false), (21, true), (31, true)] {
        assert_eq!(wheel.pop_due(now), due.then_some((id, 'p')), "at {now}");
    }
    assert!(wheel.postpone(id, u64::MAX));
    assert_eq!(wheel.pop_due(LAST_TICK - 1), None);
    assert_eq!(wheel.pop_due(LAST_TICK), Some((id, 'p')));
    assert!(wheel.is_empty());
}

#[test]
fn a_wheel_of_cancelled_timers_has_no_next_deadline() {
    let mut wheel = Wheel::new();
    let ids: Vec<_> = (1..=100).map(|i| wheel.insert(i * i, ())).collect();
    for id in ids {
        assert!(wheel.cancel(id));
    }
    assert_eq!(wheel.next_deadline(), None);
    assert_eq!(wheel.pop_due(10_000), None);
}

impl Operation {
    /// Reads an operation out of random bits.
    fn from_bits(bits: u64) -> Self {
        let mut draw = Draw(bits);
        match draw.below(64) {
            0..16 => Self::Insert(draw.ticks(14)),
            16..24 => Self::Insert(draw.ticks(44)),
            24..26 => Self::InsertPast(draw.ticks(20)),
            26..28 => Self::InsertPeriodic(draw.ticks(20), 1 + draw.below(100_000) as u32),
            28 => Self::InsertMany(draw.below(200) as usize, draw.ticks(20)),
            29..35 => Self::Cancel(draw.below(40) as usize),
            35..40 => Self::Cancel(draw.below(5_000) as usize),
            40..43 => Self::Postpone(draw.below(200) as usize, draw.ticks(14)),
            43 => Self::CancelMany(draw.below(800) as usize),
            44..58 => Self::Pop(draw.below(4) as usize, draw.ticks(5)),
            58..62 => Self::Pop(usize::MAX, draw.ticks(13)),
            _ => Self::Pop(draw.below(40) as usize, draw.ticks(38)),
        }
    }
}

/// Random bits to be used up.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        let drawn = self.0 % bound;
        self.0 /= bound;
        drawn
    }

    /// A distance of any magnitude up to this many bits.
    fn ticks(&mut self, bits: u64) -> u64 {
        let bits = self.below(bits + 1);
        self.below(1 << bits)
    }
}

// More than a million calls in all: 300 cases of 2,000 operations on average, of which one in
// thirty-two is hundreds of calls.
#[test]
fn the_wheel_does_what_the_model_does() {
    fn property(operations: Vec<u64>) {
        let mut pair = Pair::default();
        for bits in operations {
            pair.apply(&Operation::from_bits(bits));
        }
        pair.pop(usize::MAX, u64::MAX);
        assert!(pair.wheel.is_empty());
    }
    QuickCheck::new().tests(300).rng(Gen::new(4_000)).quickcheck(property as fn(_));
}
