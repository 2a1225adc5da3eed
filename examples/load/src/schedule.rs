//! When each message of an open loop is to leave, or each connection of a storm with a rate.

use std::time::{Duration, Instant};

use crate::plan::Plan;

/// When each message is to leave, and on which connection: message `k` leaves `k` intervals after
/// the start, on connection `k` modulo the number of connections. So nothing needs to be stored
/// for a message.
pub(crate) struct Schedule {
    pub(crate) start: Instant,
    interval_nanos: f64,
    lanes: u64,
    /// The first message that is measured.
    pub(crate) first: u64,
    /// The first one that is not any more.
    end: u64,
}

impl Schedule {
    /// It starts now, unless that is changed.
    pub(crate) fn new(plan: &Plan) -> Self {
        let rate = f64::from(plan.rate());
        let first = (plan.warmup.as_secs_f64() * rate).ceil();
        let window = (plan.duration.as_secs_f64() * rate).ceil().max(1.0);
        Self {
            start: Instant::now(),
            interval_nanos: 1e9 / rate,
            lanes: plan.connections() as u64,
            first: first as u64,
            end: (first + window) as u64,
        }
    }

    /// When message `number` is to leave.
    #[inline]
    pub(crate) fn moment(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos((number as f64 * self.interval_nanos) as u64)
    }

    /// How many messages are due.
    pub(crate) fn due(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start).as_nanos() as f64;
        ((passed / self.interval_nanos) as u64 + 1).min(self.end)
    }

    /// The lane of a message.
    #[inline]
    pub(crate) fn lane(&self, number: u64) -> usize {
        (number % self.lanes) as usize
    }

    /// The number of a lane's message.
    #[inline]
    pub(crate) fn number(&self, lane: usize, index: u64) -> u64 {
        lane as u64 + index * self.lanes
    }

    /// The first of a lane's messages that is measured.
    pub(crate) fn first_of(&self, lane: usize) -> u64 {
        self.first.saturating_sub(lane as u64).div_ceil(self.lanes)
    }

    pub(crate) fn is_measured(&self, number: u64) -> bool {
        number >= self.first
    }
}
