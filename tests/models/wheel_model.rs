//! What a wheel should do, as a sorted map, and the two side by side.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use waterwheel::TimerId;
use waterwheel::wheel::{LAST_TICK, Wheel};

pub(crate) fn period(ticks: u32) -> NonZeroU32 {
    NonZeroU32::new(ticks).unwrap()
}

/// One call of the wheel; deadlines and times are relative to its current tick.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Sets a timer this many ticks ahead.
    Insert(u64),
    /// Sets a timer this many ticks in the past.
    InsertPast(u64),
    /// Sets a timer this many ticks ahead, and with this period.
    InsertPeriodic(u64, u32),
    /// Cancels one of the ids handed out so far, counted back from the last.
    Cancel(usize),
    /// Puts one of the ids handed out so far, counted back from the last, off to this many ticks
    /// ahead.
    Postpone(usize, u64),
    /// Sets this many timers for one tick this many ahead.
    InsertMany(usize, u64),
    /// Cancels most of this many ids that were handed out last.
    CancelMany(usize),
    /// Pops at most this many timers this many ticks ahead.
    Pop(usize, u64),
}

/// The wheel and its model, called alike.
#[derive(Default)]
pub(crate) struct Pair {
    pub(crate) wheel: Wheel<u64>,
    model: Model,
    /// Whether the last pop returned a timer: only the next one knows whether more is due.
    is_popping: bool,
}

impl Pair {
    pub(crate) fn apply(&mut self, operation: &Operation) {
        let tick = self.model.tick;
        match *operation {
            Operation::Insert(ticks) => self.insert(tick + ticks, None),
            Operation::InsertPast(ticks) => self.insert(tick.saturating_sub(ticks), None),
            Operation::InsertPeriodic(ticks, every) => {
                self.insert(tick + ticks, Some(period(every)));
            }
            Operation::InsertMany(count, ticks) => {
                (0..count).for_each(|_| self.insert(tick + ticks, None));
            }
            Operation::Cancel(back) => {
                let issued = &self.model.issued;
                if let Some(&id) = issued.iter().rev().nth(back % issued.len().max(1)) {
                    self.cancel(id);
                }
            }
            Operation::Postpone(back, ticks) => {
                let issued = &self.model.issued;
                if let Some(&id) = issued.iter().rev().nth(back % issued.len().max(1)) {
                    let deadline = tick + ticks;
                    let is_live = self.wheel.postpone(id, deadline);
                    assert_eq!(is_live, self.model.postpone(id, deadline));
                }
            }
            Operation::CancelMany(count) => {
                let first = self.model.issued.len().saturating_sub(count);
                for i in (first..self.model.issued.len()).filter(|i| i % 5 != 0) {
                    self.cancel(self.model.issued[i]);
                }
            }
            Operation::Pop(limit, ticks) => self.pop(limit, tick + ticks),
        }
        self.check();
    }

    fn insert(&mut self, deadline: u64, period: Option<NonZeroU32>) {
        let payload = self.model.sequence;
        let id = match period {
            Some(period) => self.wheel.insert_periodic(deadline, period, payload),
            None => self.wheel.insert(deadline, payload),
        };
        assert!(!self.model.keys.contains_key(&id), "{id:?} names a live timer already");
        self.model.issued.push(id);
        let deadline = deadline.min(LAST_TICK);
        self.model.set(Timer { id, deadline, postponed_to: 0, period, payload });
    }

    fn cancel(&mut self, id: TimerId) {
        assert_eq!(self.wheel.contains(id), self.model.keys.contains_key(&id));
        assert_eq!(self.wheel.cancel(id), self.model.cancel(id));
        assert!(!self.wheel.contains(id));
    }

    pub(crate) fn pop(&mut self, limit: usize, now: u64) {
        for _ in 0..limit {
            let popped = self.wheel.pop_due(now);
            assert_eq!(popped, self.model.pop_due(now));
            self.is_popping = popped.is_some();
            self.check();
            match popped {
                Some((id, _)) => {
                    assert_eq!(self.wheel.contains(id), self.model.keys.contains_key(&id));
                }
                None => break,
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.wheel.tick(), self.model.tick);
        assert_eq!(self.wheel.len(), self.model.timers.len());
        let (next, first) = (self.wheel.next_deadline(), self.model.first_deadline());
        assert_eq!(next.is_some(), first.is_some());
        assert!(next <= first, "the wheel would sleep until {next:?}, past {first:?}");
        let is_early = self.model.cancelled || self.is_popping && next == Some(self.wheel.tick());
        assert!(is_early || next == first, "{next:?} is not {first:?}");
        assert!(next.is_none() || next >= Some(self.wheel.tick()));
    }
}

/// What a wheel should do, as a sorted map.
#[derive(Default)]
struct Model {
    /// As the wheel's current tick.
    tick: u64,
    /// Timers set again or for the first time so far.
    sequence: u64,
    /// By deadline and then by age.
    timers: BTreeMap<(u64, u64), Timer>,
    /// Where the live ids are in `timers`.
    keys: HashMap<TimerId, (u64, u64)>,
    /// Every id handed out.
    issued: Vec<TimerId>,
    /// Whether a timer was ever cancelled.
    cancelled: bool,
}

#[derive(Clone, Copy)]
struct Timer {
    id: TimerId,
    /// The deadline asked for, from which the phase of a periodic timer is counted.
    deadline: u64,
    /// The deadline to which it is put off when this one has come, if that is later.
    postponed_to: u64,
    period: Option<NonZeroU32>,
    payload: u64,
}

impl Model {
    fn set(&mut self, timer: Timer) {
        let key = (timer.deadline.max(self.tick), self.sequence);
        self.sequence += 1;
        self.timers.insert(key, timer);
        self.keys.insert(timer.id, key);
    }

    fn cancel(&mut self, id: TimerId) -> bool {
        let found = self.keys.remove(&id).and_then(|key| self.timers.remove(&key));
        self.cancelled |= found.is_some();
        found.is_some()
    }

    fn postpone(&mut self, id: TimerId, deadline: u64) -> bool {
        let timer = self.keys.get(&id).and_then(|key| self.timers.get_mut(key));
        timer.map(|timer| timer.postponed_to = deadline.min(LAST_TICK)).is_some()
    }

    fn pop_due(&mut self, now: u64) -> Option<(TimerId, u64)> {
        let now = now.min(LAST_TICK);
        let mut timer = loop {
            let due = self.timers.first_entry().filter(|first| first.key().0 <= now);
            let Some(first) = due else {
                self.tick = now;
                return None;
            };
            self.tick = first.key().0;
            let mut timer = first.remove();
            self.keys.remove(&timer.id);
            if timer.postponed_to <= timer.deadline {
                break timer;
            }
            timer.deadline = timer.postponed_to;
            self.set(timer);
        };
        let popped = (timer.id, timer.payload);
        if let Some(period) = timer.period {
            while timer.deadline <= now {
                let period = u64::from(period.get());
                // As many missed periods at once as there are, or the model takes years.
                timer.deadline += period * ((now - timer.deadline) / period).max(1);
            }
            if timer.deadline <= LAST_TICK {
                self.set(timer);
            }
        }
        Some(popped)
    }

    fn first_deadline(&self) -> Option<u64> {
        self.timers.first_key_value().map(|(&(deadline, _), _)| deadline)
    }
}
