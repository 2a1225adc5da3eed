//! Timers that a program has set, and when each must fire.

use std::time::Duration;

use waterwheel::TimerId;
use waterwheel::sim::HostClock;

/// A moment of a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// What its clock shows.
    pub(crate) time: Duration,
    /// What standstills and slow callbacks have taken so far: an excuse to be late.
    pub(crate) stolen: Duration,
}

impl Now {
    pub(crate) fn of(clock: &HostClock) -> Self {
        Self { time: clock.now(), stolen: clock.stolen() }
    }
}

/// A timer that was set, and when it must fire.
#[derive(Clone, Debug)]
pub(crate) struct Alarm {
    pub(crate) timer: TimerId,
    set_at: Duration,
    wait: Duration,
    pub(crate) is_periodic: bool,
    pub(crate) fired: u32,
    /// Time stolen when it fired last, and the time before: a jump within a turn is felt in the
    /// next one.
    stolen: [Duration; 2],
}

/// What a timer may be late by, beside what was stolen: its tick, the poll's millisecond, the
/// turn.
const LATE: Duration = Duration::from_millis(4);

impl Alarm {
    /// A timer that is set now.
    pub(crate) fn new(wait: Duration, is_periodic: bool, now: Now, timer: TimerId) -> Self {
        let Now { time, stolen } = now;
        Self { timer, set_at: time, wait, is_periodic, fired: 0, stolen: [stolen; 2] }
    }

    /// It fires now: neither early nor late.
    pub(crate) fn check(&mut self, now: Now) {
        self.fired += 1;
        let Now { time: now, stolen } = now;
        let times = if self.is_periodic { self.fired } else { 1 };
        let due = self.set_at + self.wait * times;
        assert!(now >= due, "a timer of {:?} fires {:?} early", self.wait, due - now);
        let late = if self.is_periodic {
            let past = (now - self.set_at).as_nanos() % self.wait.as_nanos();
            Duration::from_nanos(past as u64)
        } else {
            now - due
        };
        let excuse = LATE + (stolen - self.stolen[0]);
        assert!(
            late <= excuse || (self.is_periodic && excuse >= self.wait),
            "a timer of {:?} is {late:?} late",
            self.wait
        );
        self.stolen = [self.stolen[1], stolen];
    }
}
