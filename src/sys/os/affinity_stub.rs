//! Stands for `affinity.rs` where threads cannot be kept on a core.

use std::io;

/// The cores on which a thread may run: not to be known here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cores {}

impl Cores {
    /// Lets this thread run on these cores: not to be had here.
    pub(crate) fn apply(&self) -> io::Result<()> {
        match *self {}
    }
}

/// The cores on which this thread may run: not to be known here.
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    Err(cannot_pin())
}

/// Keeps this thread on one core: not to be had here.
pub(crate) fn pin_to(_: usize) -> io::Result<Cores> {
    Err(cannot_pin())
}

/// Frees a thread of the process: it is free.
pub(super) fn unpin() {}

fn cannot_pin() -> io::Error {
    let text = "option pinning: threads cannot be pinned on this platform; leave it off";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
