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
    fn one_is_let_through_in_a_second() {
        let mut warnings = OncePerSecond::default();
        let told: Vec<u64> = (5..3_000).filter(|&now| warnings.admits(now)).collect();
        assert_eq!(told, [5, 1_005, 2_005]);
    }
}
