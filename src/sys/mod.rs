//! The outside world, in one room: sockets, the poll, the waker, the clock, the open-file limit.
//!
//! Each type is an enum with one variant per world, so that the rest of the crate needs no
//! generics and another world can be added without touching it. With one variant the `match`
//! costs nothing. A [`World`] makes them; what they are asked afterwards stays in their world.

mod batch;
mod datagram;
mod listener;
mod os;
#[cfg_attr(not(feature = "sim"), path = "sim_stub.rs")]
pub(crate) mod sim;

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::id::Generations;
use crate::options::{ConnectOptions, ListenOptions, TcpOptions};

pub(crate) use batch::{BATCH, BATCHES_ARE_CALLS, Inbound, Outbound};
pub(crate) use datagram::{DatagramSocket, SendFault, is_let_go};
pub(crate) use listener::{Backlog, Listener, NO_ADDR};
#[cfg(unix)]
pub(crate) use os::UnixDatagrams;
#[cfg(feature = "activation")]
pub use os::activated_listeners;
pub(crate) use os::{Answer, FileSink, Loose, allowed_cores, pin_to, range_of};
pub use os::{Credentials, raise_open_file_limit};
#[cfg(unix)]
pub use os::{receive_listeners, send_listeners};

/// Where a reactor lives: what its sockets, its poll and its clock are of.
#[derive(Debug)]
pub(crate) enum World {
    /// The operating system.
    Os,
    /// A simulated world, as one of its hosts.
    Sim(sim::Host),
}

impl From<sim::Host> for World {
    fn from(host: sim::Host) -> Self {
        Self::Sim(host)
    }
}

impl World {
    pub(crate) fn poller(&self) -> io::Result<Poller> {
        match self {
            Self::Os => os::Poller::new().map(Poller::Os),
            Self::Sim(host) => host.poller().map(Poller::Sim),
        }
    }

    /// A clock that begins now.
    pub(crate) fn clock(&self) -> Clock {
        match self {
            Self::Os => Clock::Os(os::Clock::new()),
            Self::Sim(host) => host.clock(),
        }
    }

    /// Begins to connect; the poll tells when that has ended.
    pub(crate) fn connect(&self, addr: SocketAddr, options: &ConnectOptions) -> io::Result<Stream> {
        match self {
            Self::Os => os::connect(addr, options).map(Stream::Os),
            Self::Sim(host) => host.connect(addr, options.source).map(Stream::Sim),
        }
    }

    /// Looks a name up without blocking; `answer` is called on another thread.
    pub(crate) fn resolve(&self, host: &str, port: u16, answer: Answer) {
        match self {
            Self::Os => os::resolve(host, port, answer),
            Self::Sim(sim) => sim.look_up(host, port, answer),
        }
    }

    /// A number that nobody can foretell, to spread what would else happen at once.
    pub(crate) fn random(&self) -> u64 {
        match self {
            Self::Os => os::random(),
            Self::Sim(host) => host.random(),
        }
    }

    /// Binds and listens; gives the backlog too, as asked for and as the system will have it.
    pub(crate) fn bind(
        &self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(Listener, Backlog)> {
        match self {
            Self::Os => {
                os::bind(addr, options).map(|(listener, backlog)| (Listener::Os(listener), backlog))
            }
            Self::Sim(host) => host
                .bind(addr, options.backlog)
                .map(|(listener, backlog)| (Listener::Sim(listener), backlog)),
        }
    }

    /// Takes over a socket that somebody else has bound and set to listen.
    pub(crate) fn adopt(
        &self,
        listener: std::net::TcpListener,
        options: &ListenOptions,
    ) -> io::Result<Listener> {
        match self {
            Self::Os => os::adopt(listener, options).map(Listener::Os),
            Self::Sim(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated world has no sockets of the operating system; listen in it instead",
            )),
        }
    }

    /// A descriptor in reserve, if there is one to be had.
    pub(crate) fn spare(&self) -> Option<Spare> {
        match self {
            Self::Os => os::Spare::open().map(Spare::Os),
            Self::Sim(host) => host.spare().map(Spare::Sim),
        }
    }

    /// How many descriptors may be open; `None` where there is no such limit.
    pub(crate) fn open_file_limit(&self) -> Option<u64> {
        match self {
            Self::Os => os::open_file_limit(),
            Self::Sim(host) => Some(host.open_file_limit()),
        }
    }

    /// The generations of its connections.
    pub(crate) fn generations(&self) -> Generations {
        match self {
            Self::Os => Generations::new(),
            Self::Sim(host) => host.generations(),
        }
    }

    /// Whether accepted sockets have the options of their listener.
    pub(crate) fn inherits_options(&self) -> bool {
        match self {
            Self::Os => os::OPTIONS_ARE_INHERITED,
            Self::Sim(_) => true,
        }
    }

    /// Whether writability is asked for only while output waits. Where edges are emulated a
    /// standing interest would report "writable" after every read.
    #[inline]
    pub(crate) fn asks_writable_on_demand(&self) -> bool {
        match self {
            Self::Os => !os::EDGES_ARE_NATIVE,
            Self::Sim(host) => !host.edges_are_native(),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Of the operating system: TCP, or a Unix socket, which goes by the same calls.
    Os(os::Stream),
    /// Of a simulated world.
    Sim(sim::Stream),
    /// Still to come: it holds the place of one that is to be connected, and takes no descriptor.
    Absent,
}

impl Stream {
    /// Whether a read that returns less than was asked for has emptied the socket, so that the
    /// next one may wait for the next event, and likewise for writes: true for TCP under
    /// edge-triggered epoll and kqueue (see epoll(7), questions and answers, 9). mio emulates
    /// edges elsewhere and wants `WouldBlock` first.
    ///
    /// A Unix socket's [`Profile`](crate::stream::config::Profile) says otherwise. The answer is for a
    /// TCP connection, so that it is none at run time.
    ///
    /// A read also stops short at TCP urgent data: what a peer sends behind it is read with what
    /// it sends next.
    #[inline]
    pub(crate) fn short_means_done(&self) -> bool {
        match self {
            Self::Os(_) | Self::Absent => os::EDGES_ARE_NATIVE,
            Self::Sim(stream) => stream.edges_are_native(),
        }
    }

    /// Whether a connection that was begun is up: `None` while that is still open.
    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        match self {
            Self::Os(stream) => os::connected(stream),
            Self::Sim(stream) => stream.connected(),
            Self::Absent => None,
        }
    }

    /// The socket, if it is of the operating system.
    #[cfg(unix)]
    fn of_os(&self) -> Option<&os::Stream> {
        match self {
            Self::Os(stream) => Some(stream),
            Self::Sim(_) => None,
            Self::Absent => None,
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(stream) => stream.local_addr(),
            Self::Sim(stream) => Ok(stream.local_addr()),
            Self::Absent => Ok(NO_ADDR),
        }
    }

    /// Whether both ends of a TCP connection to `peer` are this socket.
    pub(crate) fn is_its_own_peer(&self, peer: SocketAddr) -> bool {
        let here = |local: SocketAddr| (local.ip(), local.port()) == (peer.ip(), peer.port());
        peer != NO_ADDR && self.local_addr().is_ok_and(here)
    }

    /// Sends FIN behind what was written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Os(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Sim(stream) => stream.shutdown_write(),
            Self::Absent => Err(not_connected()),
        }
    }

    /// Makes the coming close send RST, so that the peer cannot take a cut stream for a whole one.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        match self {
            Self::Os(stream) => os::reset_on_close(stream),
            Self::Sim(stream) => stream.reset_on_close(),
            Self::Absent => Ok(()),
        }
    }

    pub(crate) fn set_options(&self, options: &TcpOptions) -> io::Result<()> {
        match self {
            Self::Os(stream) => os::set_options(stream, options),
            Self::Sim(_) => Ok(()),
            Self::Absent => Ok(()),
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::receive(stream, buffer),
            Self::Sim(stream) => stream.receive(buffer),
            Self::Absent => Err(not_connected()),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::send(stream, bytes),
            Self::Sim(stream) => stream.send(&[bytes]),
            Self::Absent => Err(not_connected()),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::send_vectored(stream, parts),
            Self::Sim(stream) => stream.send(parts),
            Self::Absent => Err(not_connected()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cold]
fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// What the poll says of one socket, as the poll has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// Of the operating system.
    Os(&'a os::Event),
    /// Of a simulated world.
    Sim(sim::Event),
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
            Self::Sim(event) => event.token(),
        }
    }

    /// There is something to read, and neither an end nor an error.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Self::Os(event) => event.is_readable() && !event.is_read_closed() && !event.is_error(),
            Self::Sim(event) => event.readiness().readable && !event.readiness().hung_up,
        }
    }

    /// What it says. Windows tells a reset as the end of both ways: an error is a connect that has
    /// failed there.
    pub(crate) fn readiness(self) -> Readiness {
        match self {
            Self::Os(event) => Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                hung_up: event.is_read_closed() || event.is_error(),
                broken: event.is_error() || (cfg!(windows) && event.is_write_closed()),
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

    /// Registers a connection once, for both directions.
    pub(crate) fn add(&self, stream: &mut Stream, token: usize, writable: bool) -> io::Result<()> {
        match (self, stream) {
            (Self::Os(poller), Stream::Os(stream)) => os::add(poller, stream, token, writable),
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
            (Self::Os(poller), Stream::Os(stream)) => os::change(poller, stream, token, writable),
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
            #[cfg(unix)]
            (Self::Os(poller), Listener::Local(local)) => local.add_to(poller, token),
            (Self::Sim(poller), Listener::Sim(listener)) => {
                poller.add(listener.key(), token, false)
            }
            _ => Err(of_two_worlds()),
        }
    }

    /// Watches a listener no more. Closing it would not do if somebody else has it open too.
    pub(crate) fn remove_listener(&self, listener: &mut Listener) -> io::Result<()> {
        match (self, listener) {
            (Self::Os(poller), Listener::Os(listener)) => os::remove(poller, listener),
            #[cfg(unix)]
            (Self::Os(poller), Listener::Local(local)) => local.remove_from(poller),
            // There nobody else has it.
            _ => Ok(()),
        }
    }

    /// Watches a descriptor of any kind for something to read.
    #[cfg(unix)]
    pub(crate) fn add_fd(&self, fd: &std::os::fd::OwnedFd, token: usize) -> io::Result<()> {
        match self {
            Self::Os(poller) => os::add_fd(poller, fd, token),
            Self::Sim(_) => Err(of_two_worlds()),
        }
    }

    /// Watches a descriptor no more.
    #[cfg(unix)]
    pub(crate) fn remove_fd(&self, fd: &std::os::fd::OwnedFd) -> io::Result<()> {
        match self {
            Self::Os(poller) => os::remove_fd(poller, fd),
            Self::Sim(_) => Err(of_two_worlds()),
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

/// Monotonic time since the clock was made.
#[derive(Debug)]
pub(crate) enum Clock {
    /// Of the operating system.
    Os(os::Clock),
    /// Of a simulated world.
    Sim(sim::Clock),
}

impl From<sim::Clock> for Clock {
    fn from(clock: sim::Clock) -> Self {
        Self::Sim(clock)
    }
}

impl Clock {
    /// Nanoseconds since the clock was made.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        match self {
            Self::Os(clock) => {
                let elapsed = clock.elapsed();
                elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
            }
            Self::Sim(clock) => clock.nanos(),
        }
    }

    /// Whole milliseconds since the clock was made.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        self.nanos() / NANOS_PER_TICK
    }
}

/// A descriptor in reserve, to be given up when none is left for accept.
#[derive(Debug)]
pub(crate) enum Spare {
    /// Of the operating system.
    Os(#[expect(dead_code, reason = "it is held, not used")] os::Spare),
    /// Of a simulated world.
    Sim(#[allow(dead_code, reason = "held, not used; without `sim` it has no value")] sim::Spare),
}

#[cold]
fn of_two_worlds() -> io::Error {
    let text = "the socket or descriptor is of another world than the poll";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// A tick of the wheel is a millisecond.
pub(crate) const NANOS_PER_TICK: u64 = 1_000_000;

/// What an accept that failed lacked, as far as `io::ErrorKind` has no word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Nothing: the connection itself was broken. Windows tells that by the error's kind.
    #[cfg_attr(not(unix), expect(dead_code, reason = "no error number says so there"))]
    Connection,
    /// A descriptor, of the process or the system.
    Descriptors,
    /// Memory, or something else.
    Other,
}
