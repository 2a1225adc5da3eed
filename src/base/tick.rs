//! Ticks: the time of the loop, in whole milliseconds since the reactor was made.

use std::time::Duration;

/// Nanoseconds in a tick.
pub(crate) const NANOS_PER_TICK: u64 = 1_000_000;

/// The tick that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// Lets one thing through in a second, such as a line of the log that a peer could cause again and
/// again.
#[derive(Debug, Default)]
pub(crate) struct OncePerSecond(Option<u64>);

impl OncePerSecond {
    /// Ticks between two.
    const EVERY: u64 = 1_000_000_000 / NANOS_PER_TICK;

    /// Whether one that comes at this tick goes through.
    pub(crate) fn admits(&mut self, now: u64) -> bool {
        let admits = self.0.is_none_or(|then| now >= then + Self::EVERY);
        if admits {
            self.0 = Some(now);
        }
        admits
    }
}

/// A time of the clock in nanoseconds, which runs for 584 years.
#[inline]
pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}

/// A duration in ticks, rounded up, so that nothing is ever early.
pub(crate) fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(NANOS_PER_TICK.into())).unwrap_or(u64::MAX)
}

/// The first tick that is surely `wait` whole ticks after a moment within `tick`.
pub(crate) const fn after(tick: u64, wait: u64) -> u64 {
    tick.saturating_add(wait).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_shorter_than_was_asked_for() {
        let ticks_of =
            [0, 1, 999_999, 1_000_000, 1_000_001].map(|n| ticks(Duration::from_nanos(n)));
        assert_eq!(ticks_of, [0, 1, 1, 1, 2]);
        assert_eq!(ticks(Duration::MAX), NEVER);
        // Within its tick the moment may be late, so that a wait of three ticks ends in the fourth.
        assert_eq!([after(5, 0), after(5, 3), after(5, NEVER)], [6, 9, NEVER]);
    }

    #[test]
    fn a_time_of_the_clock_is_told_in_nanoseconds() {
        assert_eq!(nanos(Duration::new(3, 7)), 3_000_000_007);
    }

    #[test]
    fn one_is_let_through_in_a_second() {
        let mut warnings = OncePerSecond::default();
        let told: Vec<u64> = (5..3_000).filter(|&now| warnings.admits(now)).collect();
        assert_eq!(told, [5, 1_005, 2_005]);
    }
}
