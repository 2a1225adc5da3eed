//! The poll and what it reports, in either world.

use std::io;
use std::time::Duration;

use super::{Listener, Readiness, Stream, not_connected, of_two_worlds, os, sim};

/// What tells when sockets are ready.
#[derive(Debug)]
pub(crate) enum Poller {
    /// Of the operating system.
    Os(os::Poller),
    /// Of a simulated world.
    Sim(sim::Poller),
}

impl Poller {
    /// Room for what one poll reports.
    pub(crate) fn events(&self, capacity: usize) -> Events {
        match self {
            Self::Os(_) => Events::Os(os::Events::with_capacity(capacity)),
            Self::Sim(poller) => poller.events(capacity),
        }
    }

    /// A waker whose events have `token`.
    pub(crate) fn waker(&self, token: usize) -> io::Result<Waker> {
        match self {
            Self::Os(poller) => os::waker(poller, token).map(Waker::Os),
            Self::Sim(poller) => poller.waker(token).map(Waker::Sim),
        }
    }

    /// Registers a connection once: for input, and for room for output if `writable`.
    pub(crate) fn add(&self, stream: &mut Stream, token: usize, writable: bool) -> io::Result<()> {
        match (self, stream) {
            (Self::Os(poller), Stream::Os(stream)) => {
                os::add_stream(poller, stream, token, writable)
            }
            (Self::Sim(poller), Stream::Sim(stream)) => poller.add(stream.key(), token, writable),
            (_, Stream::Absent) => Err(not_connected()),
            _ => Err(of_two_worlds()),
        }
    }

    /// Asks for writability, or no longer; reports what is ready anew.
    pub(crate) fn set_writable(
        &self,
        stream: &mut Stream,
        token: usize,
        writable: bool,
    ) -> io::Result<()> {
        match (self, stream) {
            (Self::Os(poller), Stream::Os(stream)) => {
                os::change_stream(poller, stream, token, writable)
            }
            (Self::Sim(poller), Stream::Sim(stream)) => {
                poller.change(stream.key(), token, writable)
            }
            (_, Stream::Absent) => Err(not_connected()),
            _ => Err(of_two_worlds()),
        }
    }

    pub(crate) fn add_listener(&self, listener: &mut Listener, token: usize) -> io::Result<()> {
        match (self, listener) {
            (Self::Os(poller), Listener::Os(listener)) => os::add(poller, listener, token, false),
            (Self::Os(poller), Listener::Local(local)) => local.add_to(poller, token),
            (Self::Sim(poller), Listener::Sim(listener)) => {
                poller.add(listener.key(), token, false)
            }
            _ => Err(of_two_worlds()),
        }
    }

    /// Watches a listener no more. Closing it would not do where another process has it open too.
    pub(crate) fn remove_listener(&self, listener: &mut Listener) -> io::Result<()> {
        match (self, listener) {
            (Self::Os(poller), Listener::Os(listener)) => os::remove(poller, listener),
            (Self::Os(poller), Listener::Local(local)) => local.remove_from(poller),
            // No other process has a simulated one.
            _ => Ok(()),
        }
    }

    /// Waits for events, at most for `timeout`; an interruption by a signal is no event and no
    /// error.
    pub(crate) fn poll(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match (self, events) {
            (Self::Os(poller), Events::Os(events)) => os::poll(poller, events, timeout),
            (Self::Sim(poller), Events::Sim(events)) => poller.poll(events, timeout),
            _ => Err(of_two_worlds()),
        }
    }
}

/// What the poll says of one socket, as the poll has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// Of the operating system.
    Os(&'a os::Event),
    /// Of a simulated world.
    Sim(sim::Event),
}

impl Event<'_> {
    /// The token that the socket was registered with.
    #[inline]
    pub(crate) fn token(self) -> usize {
        match self {
            Self::Os(event) => event.token().0,
            Self::Sim(event) => event.token(),
        }
    }

    /// There is something to read, and neither an end nor an error nor urgent data.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Self::Os(event) => {
                let is_input = event.is_readable() && !event.is_priority();
                is_input && !event.is_read_closed() && !event.is_error()
            }
            Self::Sim(event) => event.readiness().readable && !event.readiness().hung_up,
        }
    }

    /// An end or an error is reported.
    #[inline]
    pub(crate) fn is_hung_up(self) -> bool {
        match self {
            Self::Os(event) => event.is_read_closed() || event.is_error(),
            Self::Sim(event) => event.readiness().hung_up,
        }
    }

    /// What the event says, in full.
    pub(crate) fn readiness(self) -> Readiness {
        match self {
            Self::Os(event) => Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                urgent: event.is_priority(),
                hung_up: self.is_hung_up(),
                broken: event.is_error() || (os::RESETS_ARE_ENDS && event.is_write_closed()),
            },
            Self::Sim(event) => event.readiness(),
        }
    }
}

/// What one poll reported.
#[derive(Debug)]
pub(crate) enum Events {
    /// Of the operating system.
    Os(os::Events),
    /// Of a simulated world.
    Sim(sim::Events),
}

impl From<sim::Events> for Events {
    fn from(events: sim::Events) -> Self {
        Self::Sim(events)
    }
}

impl Events {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Os(events) => events.is_empty(),
            Self::Sim(events) => events.is_empty(),
        }
    }

    /// Calls `each` with every event but the first `skipped`, in the order of the poll.
    #[inline]
    pub(crate) fn for_each_from(&self, skipped: usize, mut each: impl FnMut(Event<'_>)) {
        match self {
            Self::Os(events) => {
                let mut events = events.iter();
                if skipped > 0 {
                    events.nth(skipped - 1);
                }
                for event in events {
                    each(Event::Os(event));
                }
            }
            Self::Sim(events) => events.for_each_from(skipped, |event| each(Event::Sim(event))),
        }
    }
}

/// Ends a poll from another thread.
#[derive(Debug)]
pub(crate) enum Waker {
    /// Of the operating system.
    Os(os::Waker),
    /// Of a simulated world.
    Sim(sim::Waker),
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Self::Os(waker) => waker.wake(),
            Self::Sim(waker) => waker.wake(),
        }
    }
}
