//! How many descriptors are in use, and how many there may be.

/// Descriptors in use and their limit, if nine in ten are used.
///
/// The system is asked only if the connections alone take half of the limit: each look is a system
/// call for the directory of descriptors.
#[cfg(target_os = "linux")]
pub(super) fn nearly_used_up(connections: usize) -> Option<(usize, usize)> {
    if connections < 64 {
        return None;
    }
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit: usize = line.split_whitespace().next()?.parse().ok()?;
    if connections < limit / 2 {
        return None;
    }
    let used = std::fs::read_dir("/proc/self/fd").ok()?.count();
    (used >= limit / 10 * 9).then_some((used, limit))
}

/// Nothing is known elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn nearly_used_up(_connections: usize) -> Option<(usize, usize)> {
    None
}
