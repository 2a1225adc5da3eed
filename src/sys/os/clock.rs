//! The monotonic clock of Linux.

use nix::time::{ClockId, clock_gettime};

use crate::base::tick::nanos;

/// The monotonic clock of the operating system, read as a number.
///
/// `Instant` reads the same clock, but wants five calls of the standard library for a difference in
/// nanoseconds, and none of them is inlined. Each turn reads the clock twice.
#[derive(Debug)]
pub(crate) struct Clock {
    start: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: now() }
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        now().saturating_sub(self.start)
    }
}

#[inline]
fn now() -> u64 {
    // Only an unknown clock is an error, and `Instant` panics for it too.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    nanos(time.into())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_reading_lies_between_those_of_the_standard_library() {
        let before = Instant::now();
        let clock = Clock::new();
        let after = Instant::now();
        for _ in 0..1_000 {
            let least = after.elapsed().as_nanos();
            let nanos = u128::from(clock.nanos());
            let most = before.elapsed().as_nanos();
            assert!((least..=most).contains(&nanos), "{least} {nanos} {most}");
        }
    }
}
