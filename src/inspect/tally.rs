//! Sums: what has happened since the recorder was installed.

use std::time::Duration;

/// Nanoseconds, up to 584 years.
#[inline]
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}

/// How many buckets a histogram has: each is twice as wide as the one before.
pub(super) const BUCKETS: usize = 26;

/// Lengths of time by their size. Bucket `n` counts what took from 2^(n+7) to 2^(n+8)
/// nanoseconds; the first and the last one also what is shorter and longer.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram(pub(super) [u64; BUCKETS]);

impl Histogram {
    #[inline]
    pub(super) fn add(&mut self, length: u64) {
        let bucket = (length | 1).ilog2().saturating_sub(7).min(BUCKETS as u32 - 1);
        self.0[bucket as usize] += 1;
    }
}

/// A phase of the turn, by its order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PhaseSum {
    /// Time in it, in nanoseconds.
    pub(super) length: u64,
    /// Things done in it.
    pub(super) count: u64,
}

/// A handler.
#[derive(Clone, Debug, Default)]
pub(super) struct HandlerSum {
    pub(super) name: String,
    /// What the inspector itself does is left out.
    pub(super) is_ignored: bool,
    pub(super) callbacks: u64,
    /// Time in its callbacks, in nanoseconds.
    pub(super) length: u64,
    /// The longest callback, in nanoseconds.
    pub(super) longest: u64,
}

/// All sums.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) turns: u64,
    pub(super) turn_length: u64,
    pub(super) turn_lengths: Histogram,
    /// Time between the turns: in the poll.
    pub(super) poll_length: u64,
    pub(super) phases: [PhaseSum; 5],
    pub(super) callbacks: u64,
    pub(super) callback_lengths: Histogram,
    pub(super) handlers: Vec<HandlerSum>,
    pub(super) begun: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) reset: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    pub(super) timers_armed: u64,
    pub(super) timers_fired: u64,
    /// The sum and the maximum of how late timers were, in nanoseconds.
    pub(super) late: u64,
    pub(super) latest: u64,
    pub(super) woken: u64,
    pub(super) marks: u64,
    pub(super) panics: u64,
}

impl Tally {
    /// A handler, which may be one that the recorder was never told of.
    #[inline]
    pub(super) fn handler(&mut self, index: u32) -> &mut HandlerSum {
        let index = index as usize;
        if index >= self.handlers.len() {
            self.handlers.resize_with(index + 1, HandlerSum::default);
        }
        &mut self.handlers[index]
    }

    pub(super) fn is_ignored(&self, handler: u32) -> bool {
        self.handlers.get(handler as usize).is_some_and(|it| it.is_ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_its_bucket() {
        let bucket = |length: u64| {
            let mut histogram = Histogram::default();
            histogram.add(length);
            histogram.0.iter().position(|&count| count == 1).expect("it is counted")
        };
        assert_eq!(
            [bucket(0), bucket(255), bucket(256), bucket(511), bucket(512)],
            [0, 0, 1, 1, 2]
        );
        assert_eq!(bucket(1 << 20), 13, "a millisecond, nearly");
        assert_eq!([bucket(1 << 32), bucket(u64::MAX)], [BUCKETS - 1; 2]);
        assert_eq!(nanos(Duration::new(2, 5)), 2_000_000_005);
    }
}
