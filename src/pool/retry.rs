//! When to dial again after a failure, and the random numbers for it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use crate::handler::Context;

/// Failures in a row of dials that no ticket waits for, and when the next one may be.
#[derive(Debug)]
pub(super) struct Retry {
    first: Duration,
    most: Duration,
    failures: u32,
    /// The turn of the last of them.
    failed_at: Duration,
    /// No dial for so long from then on.
    wait: Duration,
    /// State of the generator.
    random: u64,
}

impl Retry {
    pub(super) fn new(first: Duration, most: Duration, seed: Option<u64>) -> Self {
        // The keys of a hasher are the standard library's only source of chance.
        let random = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let (failed_at, wait) = (Duration::ZERO, Duration::ZERO);
        Self { first, most, failures: 0, failed_at, wait, random }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.wait = Duration::ZERO;
    }

    /// No dial before this. The failure may have been at the end of its turn.
    pub(super) fn after(&self, cx: &Context<'_>) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            _ => cx.turn_end(self.failed_at).saturating_add(self.wait),
        }
    }

    /// Exponential backoff with full jitter: the wait is anything up to a limit that doubles
    /// (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    pub(super) fn failed(&mut self, now: Duration) {
        let limit = self.first.saturating_mul(1 << self.failures.min(31)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        (self.failed_at, self.wait) = (now, self.part_of(limit));
    }

    /// A random part of a time.
    pub(super) fn part_of(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.fraction()).min(time)
    }

    /// From 0 to 1: the upper 53 bits of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), with the
    /// constants of Vigna's `splitmix64.c`.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_most_and_begin_anew() {
        let mut longest = [Duration::ZERO; 40];
        for seed in 0..1_000 {
            let mut retry = Retry::new(100 * MS, 1_000 * MS, Some(seed));
            for (failures, longest) in (0..).zip(&mut longest) {
                retry.failed(Duration::ZERO);
                let limit = (100 * MS).saturating_mul(1 << failures.min(20)).min(1_000 * MS);
                assert!(retry.wait <= limit, "{:?} after {failures}", retry.wait);
                *longest = retry.wait.max(*longest);
            }
            retry.succeeded();
            assert_eq!((retry.failures, retry.wait), (0, Duration::ZERO));
            retry.failed(Duration::ZERO);
            assert!(retry.wait <= 100 * MS);
        }
        let limits = [100, 200, 400, 800, 1_000, 1_000].map(|millis| millis * MS);
        for (longest, limit) in longest.into_iter().zip(limits) {
            assert!(longest > limit.mul_f64(0.9), "{longest:?} of {limit:?}: no full jitter");
        }
    }

    #[test]
    fn pools_do_not_begin_alike() {
        let part = || Retry::new(MS, MS, None).part_of(Duration::from_secs(1_000_000));
        assert_ne!(part(), part());
    }
}
