//! Which processor a thread has.

/// The sender's.
pub(crate) const SENDER: usize = 0;

/// The loop's.
pub(crate) const LOOP: usize = 1;

/// Moves this thread to a processor, unless there is none or the process may not use it.
pub(crate) fn run_on(processor: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        use std::sync::OnceLock;

        // As it was before the first thread was moved.
        static ALLOWED: OnceLock<CpuSet> = OnceLock::new();
        let allowed = ALLOWED.get_or_init(|| sched_getaffinity(None).unwrap_or_default());
        if allowed.is_set(processor) {
            let mut set = CpuSet::new();
            set.set(processor);
            let _ = sched_setaffinity(None, &set);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processor;
}
