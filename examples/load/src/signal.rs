//! SIGINT and SIGTERM, noticed by the ticker: no thread, and nothing to wake.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A flag that the first signal sets; the second one ends the process at once. A page at the limit
/// of a file's size (SIGXFSZ) is an error of the write.
#[cfg(unix)]
pub(crate) fn flag() -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;

    flag::register(SIGXFSZ, Arc::default())?;
    let is_set = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_set))?;
        flag::register(signal, Arc::clone(&is_set))?;
    }
    Ok(is_set)
}

/// The same through a thread, which the system starts anyway.
#[cfg(windows)]
pub(crate) fn flag() -> io::Result<Arc<AtomicBool>> {
    use std::sync::atomic::Ordering;

    let is_set = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_set);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(io::Error::other)?;
    Ok(is_set)
}
