//! Which cores a thread runs on.

use std::io;

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this thread may run on, by number.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Keeps this thread on one core.
#[cfg(any(target_os = "linux", target_os = "android"))]
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

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    Err(cannot_pin())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn pin_to(_: usize) -> io::Result<()> {
    Err(cannot_pin())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn cannot_pin() -> io::Error {
    let text = "option pinning: threads cannot be pinned on this platform; leave it off";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
