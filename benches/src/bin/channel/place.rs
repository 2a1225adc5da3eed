//! Which processor a thread has.

/// The sender's.
pub(crate) const SENDER: usize = 0;

/// The loop's.
pub(crate) const LOOP: usize = 1;

/// Moves this thread to a processor; if there is no such one, it stays where it is.
pub(crate) fn run_on(processor: usize) {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        set.set(processor);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processor;
}
