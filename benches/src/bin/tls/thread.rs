//! A thread's processor: which one, and how long it was used.

use std::error::Error;
use std::fs;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Stays on one of the processors that the program may use, by its place among them.
pub(crate) fn stay_on(place: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    // As they were before the first thread was moved: a thread begins where its parent stays.
    static ALLOWED: OnceLock<CpuSet> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| sched_getaffinity(None).unwrap_or_default());
    let mut processors = (0..CpuSet::MAX_CPU).filter(|&at| allowed.is_set(at)).cycle();
    let mut set = CpuSet::new();
    set.set(processors.nth(place).ok_or("no processor")?);
    sched_setaffinity(None, &set)?;
    Ok(())
}

/// Nanoseconds that this thread has run.
pub(crate) fn time_used() -> Result<u64, Box<dyn Error + Send + Sync>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?)
}
