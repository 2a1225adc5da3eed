//! Timers that a program has set, and when each must fire.

use std::time::Duration;

use waterwheel::TimerId;
use waterwheel::sim::HostClock;

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
    /// Sets a timer, not before the clock was looked at.
    pub(crate) fn new(
        wait: Duration,
        is_periodic: bool,
        clock: &HostClock,
        set: impl FnOnce() -> TimerId,
    ) -> Self {
        let (set_at, stolen) = (clock.now(), clock.stolen());
        let timer = set();
        Self { timer, set_at, wait, is_periodic, fired: 0, stolen: [stolen; 2] }
    }

    /// It fires now: neither early nor late.
    pub(crate) fn check(&mut self, clock: &HostClock) {
        self.fired += 1;
        let (now, stolen) = (clock.now(), clock.stolen());
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
