//! Ticks: the time of the loop, in whole milliseconds since the reactor was made.

use std::time::Duration;

/// Nanoseconds in a tick.
pub(crate) const NANOS_PER_TICK: u64 = 1_000_000;

/// The tick that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// A duration in ticks, rounded up, so that nothing is ever early.
pub(crate) fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(NANOS_PER_TICK.into())).unwrap_or(u64::MAX)
}

/// The first tick that is surely `wait` whole ticks after a moment within `tick`.
pub(crate) const fn after(tick: u64, wait: u64) -> u64 {
    tick.saturating_add(wait).saturating_add(1)
}
