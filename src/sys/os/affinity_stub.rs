//! Stands for `affinity.rs` where threads cannot be kept on a core.

use std::io;

/// The cores that this thread may run on: not to be known here.
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    Err(cannot_pin())
}

/// Keeps this thread on one core: not to be had here.
pub(crate) fn pin_to(_: usize) -> io::Result<()> {
    Err(cannot_pin())
}

fn cannot_pin() -> io::Error {
    let text = "option pinning: threads cannot be pinned on this platform; leave it off";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
