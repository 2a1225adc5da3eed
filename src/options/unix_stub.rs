//! Stands for `unix.rs` where there are no Unix sockets: a name of which there is no value.
//!
//! A variant without a value costs nothing: the arms of a `match` are the same on all systems, and
//! the compiler drops them here.

use std::fmt;

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UnixAddr {}

impl fmt::Display for UnixAddr {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// The socket that a text of a configuration names: none.
pub(crate) fn named(_: &str) -> Option<UnixAddr> {
    None
}
