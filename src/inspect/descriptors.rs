//! How many descriptors are in use, and how many there may be.

use std::fs;

/// Where Linux shows the descriptors of this process.
const DIRECTORY: &str = "/proc/self/fd";

/// The directory is listed at most so often, in nanoseconds.
const LIST_INTERVAL: u64 = 60_000_000_000;

/// Asks the system about descriptors.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// When the directory may be listed again, in nanoseconds.
    list_at: u64,
}

impl Descriptors {
    /// Descriptors in use and their limit, if nine in ten are used. Nothing is known on systems
    /// other than Linux.
    ///
    /// The system is asked only if the connections alone take half of the limit: a look is some
    /// system calls.
    pub(super) fn nearly_used_up(
        &mut self,
        connections: usize,
        now: u64,
    ) -> Option<(usize, usize)> {
        if cfg!(not(target_os = "linux")) || connections < 64 {
            return None;
        }
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let limit: usize = line.split_whitespace().next()?.parse().ok()?;
        if connections < limit / 2 {
            return None;
        }
        let size = fs::metadata(DIRECTORY).ok()?.len();
        let used = self.used(size as usize, now)?;
        (used >= limit / 10 * 9).then_some((used, limit))
    }

    /// How many are in use: the size of the directory, since Linux 6.2. Before, the size is 0. To
    /// list them takes the loop some microseconds for each, so that is done seldom.
    fn used(&mut self, size: usize, now: u64) -> Option<usize> {
        if size > 0 {
            return Some(size);
        }
        if now < self.list_at {
            return None;
        }
        self.list_at = now + LIST_INTERVAL;
        // The listing itself has one.
        Some(fs::read_dir(DIRECTORY).ok()?.count().saturating_sub(1))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_listed_only_without_a_size_and_once_a_minute() {
        let mut descriptors = Descriptors::default();
        assert_eq!([descriptors.used(5, 0), descriptors.used(7, 0)], [Some(5), Some(7)]);
        assert!(descriptors.used(0, 10).is_some_and(|used| used > 2));
        assert_eq!(descriptors.used(0, 9 + LIST_INTERVAL), None);
        assert_eq!(descriptors.used(9, 9 + LIST_INTERVAL), Some(9));
        assert!(descriptors.used(0, 10 + LIST_INTERVAL).is_some());
    }
}
