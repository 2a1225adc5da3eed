//! Room for the descriptors of tests with very many connections.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds the turn of a test that opens hundreds of descriptors: raises the limit of the process as
/// far as it goes, and keeps the others that do so waiting meanwhile. All tests of a program share
/// the limit.
pub(crate) fn many_descriptors() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    waterwheel::raise_open_file_limit().expect("the limit can be raised");
    turn
}
