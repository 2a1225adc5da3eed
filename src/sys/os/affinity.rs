//! Which cores a thread runs on: Linux and Android.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this thread may run on, by number.
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Keeps this thread on one core.
pub(crate) fn pin_to(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core); // one over it leaves the set empty, which is refused
    }
    sched_setaffinity(None, &set).map_err(|error| {
        let error = io::Error::from(error);
        let text = format!(
            "cannot keep the thread on core {core}: {error}; it must be one that the process may \
             run on (taskset, cgroups)"
        );
        io::Error::new(error.kind(), text)
    })
}
