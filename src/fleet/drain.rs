//! A descriptor that asks a whole fleet to drain, and signals that do.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Fleet;
use crate::reactor::Reactor;
use crate::sys::has_input;

/// A descriptor that asks to drain by becoming readable, and the deadline.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
    deadline: Duration,
}

impl Bell {
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether it asks to drain. Nothing is read from it, so it asks for ever.
    pub(super) fn has_rung(&self) -> bool {
        has_input(&self.fd)
    }

    /// Has a reactor of the fleet watch it.
    pub(super) fn watch(&self, reactor: &mut Reactor) -> io::Result<()> {
        reactor.drain_when_readable(self.fd.try_clone()?, self.deadline)
    }
}

impl Fleet {
    /// Drains the whole fleet when a descriptor has something to read, as
    /// [`Reactor::drain_when_readable`] does for one reactor. It takes no thread: each reactor
    /// watches it.
    ///
    /// # Platform notes
    /// Unix only; elsewhere a handler of the system's events can call
    /// [`FleetRemote::drain`](super::FleetRemote::drain).
    pub fn drain_when_readable(&mut self, fd: OwnedFd, deadline: Duration) {
        self.bell = Some(Bell { fd, deadline });
    }

    /// Drains the whole fleet when the process is asked to end, as
    /// [`Reactor::drain_on_signals`] does for one reactor.
    ///
    /// # Errors
    /// - The system's, if it has no descriptor left or refuses the handler.
    ///
    /// # Platform notes
    /// Unix only, with the feature `signals`.
    #[cfg(feature = "signals")]
    pub fn drain_on_signals(&mut self, deadline: Duration) -> io::Result<()> {
        self.drain_when_readable(crate::sys::end_bell()?, deadline);
        Ok(())
    }
}
