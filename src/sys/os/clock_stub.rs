//! The monotonic clock where it is read through the standard library.

use std::time::Instant;

use crate::base::tick::nanos;

/// The monotonic clock of the operating system.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the clock was made.
    pub(crate) fn nanos(&self) -> u64 {
        nanos(self.0.elapsed())
    }
}
