//! Lengths of time by their size.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Lengths of time by their size, in buckets of which each is twice as wide as the one before:
/// bucket `n` counts what took from 2^`n` to 2^(`n` + 1) nanoseconds, and bucket 0 also what took
/// none. Every length has its bucket, so counting is four instructions and no branch; there is no
/// sum, which would be two more in each turn of a loop.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::stats::Histogram;
///
/// let mut lengths = Histogram::default();
/// for micros in [3, 3, 3, 50_000] {
///     lengths.add_nanos(micros * 1_000);
/// }
/// assert_eq!(lengths.count(), 4);
/// assert_eq!(lengths.quantile(0.5), Duration::from_nanos(4_096));
/// assert!(lengths.quantile(1.0) >= Duration::from_millis(50));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    /// As many as a number of 64 bits has lengths: no index is out of range.
    counts: [u64; 64],
}

impl Histogram {
    /// Counts a length, in nanoseconds.
    #[inline]
    pub fn add_nanos(&mut self, nanos: u64) {
        self.counts[(nanos | 1).ilog2() as usize] += 1;
    }

    /// How many lengths there are in each bucket.
    #[must_use]
    pub fn counts(&self) -> &[u64; 64] {
        &self.counts
    }

    /// How many lengths there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The end of the bucket below which this part of the lengths lies: 0.5 asks for the median,
    /// and 1.0 for the longest. The value is too great by a factor of at most two. Zero if there
    /// is no length.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = (part.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut count = 0;
        let bucket = self.counts.iter().position(|found| {
            count += found;
            count >= wanted.max(1)
        });
        bucket.map_or(Duration::ZERO, end_of)
    }
}

/// Where a bucket ends.
fn end_of(bucket: usize) -> Duration {
    Duration::from_nanos(u64::MAX >> (63 - bucket)) + Duration::from_nanos(1)
}

/// Empty.
impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; 64] }
    }
}

/// Adds the lengths of another one.
impl AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }
}

/// The buckets that are not empty: where each ends, and how many lengths there are in it.
impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        f.debug_map().entries(buckets.map(|(bucket, count)| (end_of(bucket), count))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_its_bucket() {
        let bucket = |nanos: u64| {
            let mut histogram = Histogram::default();
            histogram.add_nanos(nanos);
            histogram.counts().iter().position(|&count| count == 1).expect("it is counted")
        };
        assert_eq!([bucket(0), bucket(1), bucket(2), bucket(3), bucket(4)], [0, 0, 1, 1, 2]);
        assert_eq!([bucket(1 << 20), bucket(u64::MAX)], [20, 63]);
    }

    #[test]
    fn a_quantile_is_the_end_of_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for nanos in [0, 5, 5, 1_000] {
            histogram.add_nanos(nanos);
        }
        let ends = [-1.0, 0.25, 0.26, 0.75, 0.76, 2.0].map(|part| histogram.quantile(part));
        assert_eq!(ends, [2, 2, 8, 8, 1_024, 1_024].map(Duration::from_nanos));
        assert_eq!(format!("{histogram:?}"), "{2ns: 1, 8ns: 2, 1.024µs: 1}");
        histogram.add_nanos(u64::MAX);
        assert!(histogram.quantile(1.0) > Duration::from_nanos(u64::MAX));
        let mut twice = histogram;
        twice += histogram;
        assert_eq!((twice.count(), twice.quantile(0.4)), (10, Duration::from_nanos(8)));
    }
}
