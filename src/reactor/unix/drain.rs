//! A descriptor that asks to drain, and signals that do.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::engine::DRAIN_TOKEN;
use crate::reactor::Reactor;

impl Reactor {
    /// Drains, as [`Remote::drain`](crate::Remote::drain) does, when a descriptor has something to
    /// read: the reading end of a pipe that a signal handler writes to, for example. That takes no
    /// thread, and a process with one thread has cheaper system calls. Replaces an earlier one;
    /// nothing is read from it.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    /// use signal_hook::consts::{SIGINT, SIGTERM};
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// let (bell, rope) = UnixStream::pair()?;
    /// for signal in [SIGINT, SIGTERM] {
    ///     signal_hook::low_level::pipe::register(signal, rope.try_clone()?)?;
    /// }
    /// reactor.drain_when_readable(bell.into(), Duration::from_secs(5))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - The system's, if the descriptor cannot be polled, as regular files cannot.
    ///
    /// # Platform notes
    /// Unix only; elsewhere a handler of the system's events can call
    /// [`Remote::drain`](crate::Remote::drain).
    pub fn drain_when_readable(&mut self, fd: OwnedFd, deadline: Duration) -> io::Result<()> {
        let poller = self.dispatcher.lp.engine.io.poller();
        poller.add_fd(&fd, DRAIN_TOKEN)?;
        if let Some(old) = self.drain_fd.replace(fd) {
            // Closing it would not do if it is open elsewhere too.
            poller.remove_fd(&old)?;
        }
        self.dispatcher.drain_deadline = deadline;
        Ok(())
    }

    /// Drains, as [`Remote::drain`](crate::Remote::drain) does, when the process is asked to end by
    /// SIGINT or SIGTERM. What is left after `deadline` is cut. A second signal ends the process at
    /// once, with exit code 1. There is no thread for it: the poll watches a descriptor, by
    /// [`drain_when_readable`](Self::drain_when_readable).
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// reactor.drain_on_signals(Duration::from_secs(5))?;
    /// reactor.run()?; // returns after the drain
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - The system's, if it has no descriptor left or refuses the handler.
    ///
    /// # Platform notes
    /// Unix only, with the feature `signals`.
    #[cfg(feature = "signals")]
    pub fn drain_on_signals(&mut self, deadline: Duration) -> io::Result<()> {
        self.drain_when_readable(crate::sys::end_bell()?, deadline)
    }
}
