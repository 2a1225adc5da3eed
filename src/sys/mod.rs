//! The outside world, in one room: sockets, the poll, the waker, the clock, the open-file limit.
//!
//! Each type is an enum with one variant per world, so that the rest of the crate needs no
//! generics and another world can be added without touching it. With one variant the `match`
//! costs nothing.

mod os;

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::options::{ConnectOptions, ListenOptions, TcpOptions};

pub use os::raise_open_file_limit;
pub(crate) use os::{Spare, open_file_limit};

/// Whether a read that returns less than was asked for has emptied the socket, so that the next
/// one may wait for the next event: true for TCP under edge-triggered epoll and kqueue (see
/// epoll(7), questions and answers, 9). mio emulates edges elsewhere and wants `WouldBlock` first.
///
/// A read also stops short at TCP urgent data: what a peer sends behind it is read with what it
/// sends next.
pub(crate) const SHORT_MEANS_DONE: bool = os::EDGES_ARE_NATIVE;

/// Whether writability is asked for only while output waits. Where edges are emulated a standing
/// interest would report "writable" after every read.
pub(crate) const WRITABLE_ON_DEMAND: bool = !os::EDGES_ARE_NATIVE;

/// Whether accepted sockets have the options of their listener.
pub(crate) const OPTIONS_ARE_INHERITED: bool = os::OPTIONS_ARE_INHERITED;

/// A TCP connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Of the operating system.
    Os(os::Stream),
}

impl Stream {
    /// Begins to connect; the poll tells when that has ended.
    pub(crate) fn connect(addr: SocketAddr, options: &ConnectOptions) -> io::Result<Self> {
        os::connect(addr, options).map(Self::Os)
    }

    /// Whether a connection that was begun is up: `None` while that is still open.
    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        match self {
            Self::Os(stream) => os::connected(stream),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(stream) => stream.local_addr(),
        }
    }

    /// Sends FIN behind what was written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Os(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }

    /// Makes the coming close send RST, so that the peer cannot take a cut stream for a whole one.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        match self {
            Self::Os(stream) => os::reset_on_close(stream),
        }
    }

    pub(crate) fn set_options(&self, options: &TcpOptions) -> io::Result<()> {
        match self {
            Self::Os(stream) => os::set_options(stream, options),
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::receive(stream, buffer),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::send(stream, bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::send_vectored(stream, parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A listening TCP socket.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Of the operating system.
    Os(os::Listener),
}

impl Listener {
    /// Binds and listens; gives the backlog too, as asked for and as the system will have it.
    pub(crate) fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<(Self, Backlog)> {
        os::bind(addr, options).map(|(listener, backlog)| (Self::Os(listener), backlog))
    }

    /// Takes over a socket that somebody else has bound and set to listen.
    pub(crate) fn adopt(
        listener: std::net::TcpListener,
        options: &ListenOptions,
    ) -> io::Result<Self> {
        os::adopt(listener, options).map(Self::Os)
    }

    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Os(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Os(stream), peer))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(listener) => listener.local_addr(),
        }
    }
}

/// How many connections the kernel queues for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// What the options ask for; `None` for as many as the system takes.
    pub(crate) asked: Option<u32>,
    /// What the system takes at the most, where that can be known.
    pub(crate) system_most: Option<u32>,
}

/// What the poll says of one socket, as the poll has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// Of the operating system.
    Os(&'a os::Event),
}

/// What an event says, in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    /// There is something to read, or the end.
    pub(crate) readable: bool,
    /// Output may be taken again.
    pub(crate) writable: bool,
    /// The peer has sent FIN or the connection is broken: reads must go on to the end.
    pub(crate) hung_up: bool,
    /// The connection is broken.
    pub(crate) broken: bool,
}

impl Event<'_> {
    /// The token that the socket was registered with.
    #[inline]
    pub(crate) fn token(self) -> usize {
        match self {
            Self::Os(event) => event.token().0,
        }
    }

    /// There is something to read, and neither an end nor an error.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Self::Os(event) => event.is_readable() && !event.is_read_closed() && !event.is_error(),
        }
    }

    pub(crate) fn readiness(self) -> Readiness {
        match self {
            Self::Os(event) => Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                hung_up: event.is_read_closed() || event.is_error(),
                broken: event.is_error(),
            },
        }
    }
}

/// What one poll reported.
#[derive(Debug)]
pub(crate) enum Events {
    /// Of the operating system.
    Os(os::Events),
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self::Os(os::Events::with_capacity(capacity))
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Os(events) => events.is_empty(),
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
        }
    }
}

/// What tells when sockets are ready.
#[derive(Debug)]
pub(crate) enum Poller {
    /// Of the operating system.
    Os(os::Poller),
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        os::Poller::new().map(Self::Os)
    }

    /// A waker whose events have `token`.
    pub(crate) fn waker(&self, token: usize) -> io::Result<Waker> {
        match self {
            Self::Os(poller) => os::waker(poller, token).map(Waker::Os),
        }
    }

    /// Registers a connection once, for both directions (see [`WRITABLE_ON_DEMAND`]).
    pub(crate) fn add(&self, stream: &mut Stream, token: usize, writable: bool) -> io::Result<()> {
        match (self, stream) {
            (Self::Os(poller), Stream::Os(stream)) => os::add(poller, stream, token, writable),
        }
    }

    /// Asks for writability, or no longer.
    pub(crate) fn set_writable(
        &self,
        stream: &mut Stream,
        token: usize,
        writable: bool,
    ) -> io::Result<()> {
        match (self, stream) {
            (Self::Os(poller), Stream::Os(stream)) => os::change(poller, stream, token, writable),
        }
    }

    pub(crate) fn add_listener(&self, listener: &mut Listener, token: usize) -> io::Result<()> {
        match (self, listener) {
            (Self::Os(poller), Listener::Os(listener)) => os::add(poller, listener, token, false),
        }
    }

    /// Watches a descriptor of any kind for something to read.
    #[cfg(unix)]
    pub(crate) fn add_fd(&self, fd: &std::os::fd::OwnedFd, token: usize) -> io::Result<()> {
        match self {
            Self::Os(poller) => os::add_fd(poller, fd, token),
        }
    }

    /// Watches a descriptor no more.
    #[cfg(unix)]
    pub(crate) fn remove_fd(&self, fd: &std::os::fd::OwnedFd) -> io::Result<()> {
        match self {
            Self::Os(poller) => os::remove_fd(poller, fd),
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
        }
    }
}

/// Ends a poll from another thread.
#[derive(Debug)]
pub(crate) enum Waker {
    /// Of the operating system.
    Os(os::Waker),
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match self {
            Self::Os(waker) => waker.wake(),
        }
    }
}

/// Monotonic time since the clock was made.
#[derive(Debug)]
pub(crate) enum Clock {
    /// Of the operating system.
    Os(os::Clock),
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self::Os(os::Clock::new())
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        match self {
            Self::Os(clock) => {
                let elapsed = clock.elapsed();
                elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
            }
        }
    }

    /// Whole milliseconds since the clock was made.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        self.nanos() / NANOS_PER_TICK
    }
}

/// A tick of the wheel is a millisecond.
pub(crate) const NANOS_PER_TICK: u64 = 1_000_000;

/// What an accept that failed lacked, as far as `io::ErrorKind` has no word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Nothing: the connection itself was broken.
    Connection,
    /// A descriptor, of the process or the system.
    Descriptors,
    /// Memory, or something else.
    Other,
}
