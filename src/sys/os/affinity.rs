//! Which cores a thread runs on: Linux and Android.

use std::io;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores on which a thread may run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores(CpuSet);

/// The cores of the first thread that was pinned, before it was.
static BEFORE_PINNING: OnceLock<Cores> = OnceLock::new();

impl Cores {
    fn of_this_thread() -> io::Result<Self> {
        Ok(Self(sched_getaffinity(None)?))
    }

    /// Lets this thread run on these cores.
    pub(crate) fn apply(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.0)?)
    }
}

/// The cores on which this thread may run, by number.
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    let Cores(set) = Cores::of_this_thread()?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Keeps this thread on one core. Returns the cores on which it might run before.
pub(crate) fn pin_to(core: usize) -> io::Result<Cores> {
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core); // one over it leaves the set empty, which is refused
    }
    let before = Cores::of_this_thread()?;
    Cores(set).apply().map_err(|error| {
        let text = format!(
            "cannot keep the thread on core {core}: {error}; it must be one that the process may \
             run on (taskset, cgroups)"
        );
        io::Error::new(error.kind(), text)
    })?;
    BEFORE_PINNING.get_or_init(|| before);
    Ok(before)
}

/// Frees a thread of the process, not of a reactor: Linux gives a new thread the cores of the
/// thread that starts it, which may be pinned.
pub(super) fn unpin() {
    if let Some(Err(error)) = BEFORE_PINNING.get().map(Cores::apply) {
        log::debug!("a thread keeps to the core of the thread that has started it: {error}");
    }
}
