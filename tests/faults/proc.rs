//! What Linux tells of a process, this one or another, under /proc.

use std::fs;
use std::time::Duration;

/// Its open descriptors, with the one that counts them if it is this process; 0 if it has ended.
pub(crate) fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// Its resident memory, in bytes, all of it: none may hide a leak. It is counted page by page,
/// since the figure in `status` is allowed to lag behind by hundreds of kilobytes.
pub(crate) fn resident_bytes(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("it runs");
    bytes_after(&text, "Rss:")
}

/// A size in kB in a file of /proc, in bytes.
pub(crate) fn bytes_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes << 10
}

/// Time that its threads have spent on a processor.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let nanos = tasks.map_while(Result::ok).map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next();
        first.and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}
