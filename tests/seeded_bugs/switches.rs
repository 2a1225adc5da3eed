//! Bugs on purpose, of which one at most is on. This module is in a copy of the library only.

use std::cell::Cell;

thread_local! {
    static ON: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Switches a bug on in the reactors of this thread, and the one that was on off; or only that.
pub fn switch(bug: Option<&'static str>) {
    ON.set(bug);
}

/// Whether this bug is on.
pub(crate) fn is(bug: &str) -> bool {
    ON.get() == Some(bug)
}
