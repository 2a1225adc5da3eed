//! Datagrams: the callbacks, and the socket lent to them.

mod sessions;
#[cfg(unix)]
pub(crate) mod unix;

use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::id::{SocketId, Timer, TimerId};
use crate::datagram::{SendStatus, ServedBy};
use crate::handler::event_loop::Loop;
use crate::handler::states::LentStates;
use crate::handler::{Context, Entry, HandlerKey};
use crate::options::Group;
use crate::sys::{Ends, Route};

pub use sessions::{Session, SessionEnd, SessionHandler};

/// The callbacks of a datagram server or client.
///
/// A handler serves many sockets, which it tells apart by their [`id`](DatagramSocket::id), and
/// each socket many peers. All callbacks run on the thread of the reactor, one at a time; nothing
/// that a callback calls runs another callback before it returns. For state per peer see
/// [`SessionHandler`](crate::udp::SessionHandler).
///
/// If a callback panics, its datagram is lost; the socket is served on.
///
/// A closure `FnMut(&mut DatagramSocket<'_>, SocketAddr, &[u8])` is a handler too: the closure is
/// `on_datagram`.
///
/// # Examples
/// Telling each peer how many datagrams there were:
/// ```
/// use std::net::SocketAddr;
/// use waterwheel::udp::{DatagramHandler, DatagramSocket, UdpOptions};
/// use waterwheel::Reactor;
///
/// struct Count(u64);
///
/// impl DatagramHandler for Count {
///     fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, _: &[u8]) {
///         self.0 += 1;
///         socket.send_to(from, self.0.to_string().as_bytes());
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let count = reactor.register(Count(0));
/// let (_, addr) = reactor.bind_udp("127.0.0.1:0", count, UdpOptions::default())?;
/// assert_ne!(addr.port(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait DatagramHandler: 'static {
    /// A datagram came in; it may be empty. `DatagramSocket::is_truncated` says whether the
    /// datagram was longer than `bytes`.
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]);

    /// All datagrams that had arrived, or as many as the budget of a turn allows, have been handed
    /// over: the place to send what was gathered from them. Default: nothing.
    fn on_batch_end(&mut self, socket: &mut DatagramSocket<'_>) {
        let _ = socket;
    }

    /// Datagrams had to wait for the kernel, or were dropped, and now no datagram waits. A
    /// [batch](crate::udp::UdpOptions::batch) that the kernel takes at once did not wait. Default:
    /// nothing.
    fn on_drain(&mut self, socket: &mut DatagramSocket<'_>) {
        let _ = socket;
    }

    /// The system reports an error. Usually it is the network's answer to a datagram that was sent
    /// before, such as `ConnectionRefused` on a connected socket whose peer does not listen; see
    /// [`peer_addr`](DatagramSocket::peer_addr). A socket that is not connected gets no such
    /// answers. The socket stays open and is served on. Default: nothing.
    fn on_error(&mut self, socket: &mut DatagramSocket<'_>, error: io::Error) {
        let _ = (socket, error);
    }

    /// A timer of the socket fired (`DatagramSocket::set_timer`). Default: nothing.
    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, timer: Timer) {
        let _ = (socket, timer);
    }

    /// The socket was closed, by its handler or because the reactor has stopped: the last
    /// callback for it. Default: nothing.
    fn on_close(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let _ = (id, cx);
    }
}

impl<F> DatagramHandler for F
where
    F: FnMut(&mut DatagramSocket<'_>, SocketAddr, &[u8]) + 'static,
{
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        self(socket, from, bytes);
    }
}

/// A datagram socket, lent to a callback.
///
/// No call blocks. After `close` every call is harmless, and sends return `Closed`.
///
/// # Examples
/// An echo server, but for those who send too much at a time:
/// ```
/// use std::net::SocketAddr;
/// use waterwheel::udp::{DatagramSocket, UdpOptions};
/// use waterwheel::Reactor;
///
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.register(|socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]| {
///     if !socket.is_truncated() {
///         socket.send_to(from, bytes);
///     }
/// });
/// let options = UdpOptions::default().max_datagram_bytes(1_472);
/// reactor.bind_udp("[::1]:0", echo, options)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct DatagramSocket<'a> {
    lp: &'a mut Loop,
    id: SocketId,
    is_truncated: bool,
    /// Of the datagram that is handed over.
    ends: Option<&'a Ends>,
    /// The states of the connections of the handler that runs.
    states: LentStates<'a>,
}

impl<'a> DatagramSocket<'a> {
    #[inline]
    pub(crate) fn new(lp: &'a mut Loop, id: SocketId, states: LentStates<'a>) -> Self {
        Self { lp, id, is_truncated: false, ends: None, states }
    }

    /// The socket whose datagram is handed over.
    #[inline]
    fn receiving(
        lp: &'a mut Loop,
        id: SocketId,
        datagram: &Incoming<'a>,
        states: LentStates<'a>,
    ) -> Self {
        let &Incoming { is_truncated, ends, .. } = datagram;
        Self { lp, id, is_truncated, ends: Some(ends), states }
    }

    /// The same socket, with the states of the connections of its handler.
    #[inline]
    fn lending<'b>(&'b mut self, states: LentStates<'b>) -> DatagramSocket<'b> {
        let Self { id, is_truncated, ends, .. } = *self;
        DatagramSocket { lp: &mut *self.lp, id, is_truncated, ends, states }
    }

    /// The local address at which the datagram arrived, if the system reports it.
    #[inline]
    fn reported_local_addr(&self) -> Option<SocketAddr> {
        self.ends?.local
    }

    #[inline]
    pub(crate) fn event_loop(&mut self) -> &mut Loop {
        self.lp
    }

    /// The socket's id. Keep it, and find the socket again with [`Context::socket`].
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// Sends a datagram to an address, at once if the kernel takes it. If others wait
    /// already, it is queued behind them.
    ///
    /// In `on_datagram`, an answer to the sender's IP address leaves from the address at which the
    /// datagram arrived ([`local_addr`](Self::local_addr)), because a client drops an answer that
    /// comes from another address. In other callbacks, and for other receivers, the kernel chooses
    /// the source address if the socket is bound to all addresses. For a later answer use
    /// [`send_from`](Self::send_from).
    ///
    /// The sender's address may be forged. With one such datagram an attacker can make two servers
    /// answer each other without end. So a server must not answer datagrams that look like answers.
    ///
    /// # Platform notes
    /// On other systems than Linux the kernel chooses the source address for such a socket. A
    /// server there binds a socket to each of its addresses.
    #[inline]
    pub fn send_to(&mut self, to: SocketAddr, bytes: &[u8]) -> SendStatus {
        let local = self.ends.and_then(|ends| ends.local_for(to));
        send_by(self.lp, self.id, &Route { to: Some(to), local }, bytes)
    }

    /// Sends a datagram to an address as [`send_to`](Self::send_to) does, from a local address of
    /// this machine: the one that [`local_addr`](Self::local_addr) returned in the callback of the
    /// question, for an answer that is given later. The port of `local` does not matter, since
    /// datagrams leave from the port of the socket. If its IP address is unspecified, the kernel
    /// chooses. A socket that is bound to one address sends from there.
    ///
    /// If `local` is not an address of this machine, or not any more, the status is `Failed` with
    /// `NetworkUnreachable` or `InvalidInput`.
    ///
    /// # Examples
    /// Answers are given at the end of a batch:
    /// ```
    /// use std::net::SocketAddr;
    /// use waterwheel::udp::{DatagramHandler, DatagramSocket, UdpOptions};
    /// use waterwheel::Reactor;
    ///
    /// #[derive(Default)]
    /// struct Later(Vec<(SocketAddr, SocketAddr)>);
    ///
    /// impl DatagramHandler for Later {
    ///     fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, _: &[u8]) {
    ///         if let Ok(local) = socket.local_addr() {
    ///             self.0.push((local, from));
    ///         }
    ///     }
    ///
    ///     fn on_batch_end(&mut self, socket: &mut DatagramSocket<'_>) {
    ///         for (local, from) in self.0.drain(..) {
    ///             socket.send_from(local, from, b"seen");
    ///         }
    ///     }
    /// }
    ///
    /// let mut reactor = Reactor::new()?;
    /// let later = reactor.register(Later::default());
    /// reactor.bind_udp("0.0.0.0:0", later, UdpOptions::default())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Platform notes
    /// On other systems than Linux `local` is not looked at.
    pub fn send_from(&mut self, local: SocketAddr, to: SocketAddr, bytes: &[u8]) -> SendStatus {
        let local = (!local.ip().to_canonical().is_unspecified()).then_some(local);
        send_by(self.lp, self.id, &Route { to: Some(to), local }, bytes)
    }

    /// Sends a datagram to the peer of a connected socket.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> SendStatus {
        send_by(self.lp, self.id, &Route::TO_PEER, bytes)
    }

    /// Whether the datagram of this `on_datagram` was longer than what is handed over.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Closes the socket: nothing more is received, and `on_close` follows. Datagrams that wait are
    /// sent if the kernel takes them at once, and dropped otherwise.
    pub fn close(&mut self) {
        if let Some(mut link) = self.lp.socket_link(self.id) {
            link.close();
        }
    }

    /// Whether the socket is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lp.datagrams.socket(self.id).is_some()
    }

    /// Where it is bound. In `on_datagram`, a socket that is bound to all addresses (`0.0.0.0` or
    /// `[::]`) returns the one at which the datagram arrived, from which
    /// [`send_to`](Self::send_to) answers.
    ///
    /// A datagram for an IPv4 multicast group or a broadcast address arrives at the address of the
    /// interface that it came in by. One for an IPv6 group does not arrive at an address: the one
    /// that the socket is bound to, `[::]`, is returned then.
    ///
    /// # Errors
    /// - `NotConnected`: the socket is closed.
    ///
    /// # Platform notes
    /// On other systems than Linux always the address that the socket is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(self.lp, self.id, self.reported_local_addr())
    }

    /// Its peer, if it has one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.lp.datagrams.socket(self.id)?.peer
    }

    /// Datagrams that wait for the kernel to take them, or for their batch to leave.
    #[must_use]
    pub fn queued_datagrams(&self) -> usize {
        self.lp
            .datagrams
            .socket(self.id)
            .map_or(0, |socket| socket.queue.len() + socket.batch_len())
    }

    /// Bytes of the datagrams that wait.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        let socket = self.lp.datagrams.socket(self.id);
        socket.map_or(0, |socket| socket.queue.bytes() + socket.batch_bytes())
    }

    /// Joins a multicast group. A socket that has joined a group gets only the datagrams of its own
    /// groups. On Linux a socket that has joined none also gets those of groups that other sockets
    /// of the machine have joined (`IP_MULTICAST_ALL` in ip(7)). With IPv6 before Linux 4.20 that
    /// is true of every socket.
    ///
    /// # Errors
    /// - `InvalidInput`: the address is not of a group, or of another family than the socket, or
    ///   the interface is named in two ways.
    /// - `Unsupported`: an IPv4 group with the index of an interface, where there is no such
    ///   thing.
    /// - `NotConnected`: the socket is closed.
    /// - The system's: the interface is not there, or the socket is in the group already.
    pub fn join(&mut self, group: &Group) -> io::Result<()> {
        self.lp.socket_link(self.id).ok_or_else(closed)?.join(group)
    }

    /// Leaves a multicast group, given as it was joined.
    ///
    /// # Errors
    /// - Those of [`join`](Self::join); the socket may not be in the group.
    pub fn leave(&mut self, group: &Group) -> io::Result<()> {
        self.lp.socket_link(self.id).ok_or_else(closed)?.leave(group)
    }

    /// Sets a timer, which is dropped when the socket is closed. `on_timer` is called once, not
    /// before the time has passed and at most 1 ms (a tick) after, plus the work of the turn. It
    /// gets the `token`, whose meaning is the handler's own.
    pub fn set_timer(&mut self, wait: Duration, token: u64) -> TimerId {
        self.lp.datagrams.set_socket_timer(&mut self.lp.engine, self.id, wait, false, token)
    }

    /// Sets a timer of this socket that fires again and again: each time counts from the last
    /// deadline, so that it does not drift; periods that were missed altogether are skipped. At
    /// least 1 ms, at most 49 days. Each call of `on_timer` gets the `token`.
    pub fn set_periodic_timer(&mut self, period: Duration, token: u64) -> TimerId {
        self.lp.datagrams.set_socket_timer(&mut self.lp.engine, self.id, period, true, token)
    }

    /// Cancels a timer. Returns `false` if it has fired already, or was cancelled before.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.lp.cancel_timer(timer)
    }

    /// The loop: connections, other sockets, timers of handlers, the clock.
    pub fn context(&mut self) -> Context<'_> {
        Context::lending(self.lp, self.states.reborrow())
    }
}

impl Ends {
    /// The local address for what is sent to this address: an answer leaves from where the
    /// question arrived, whatever the port. Other receivers may not be reached from there.
    #[inline]
    fn local_for(&self, to: SocketAddr) -> Option<SocketAddr> {
        self.local.filter(|_| host_of(self.peer) == host_of(to))
    }
}

/// The host that an address is of; an IPv4-mapped address is the IPv4 address.
#[inline]
fn host_of(addr: SocketAddr) -> (IpAddr, u32) {
    let interface = match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(addr) => addr.scope_id(),
    };
    (addr.ip().to_canonical(), interface)
}

/// Sends a datagram by a socket, which may be closed.
#[inline]
fn send_by(lp: &mut Loop, id: SocketId, route: &Route, bytes: &[u8]) -> SendStatus {
    lp.socket_link(id).map_or(SendStatus::Closed, |mut link| link.send(route, bytes))
}

/// The local address at which a datagram arrived, as reported; else where the socket is bound.
fn local_addr(lp: &Loop, id: SocketId, reported: Option<SocketAddr>) -> io::Result<SocketAddr> {
    let socket = lp.datagrams.socket(id).ok_or(io::ErrorKind::NotConnected)?;
    Ok(reported.unwrap_or(socket.addr))
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the datagram socket is closed")
}

/// A datagram that is handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) bytes: &'a [u8],
    /// There was more of it.
    pub(crate) is_truncated: bool,
    /// Between which addresses it came.
    pub(crate) ends: &'a Ends,
}

impl<'a> Incoming<'a> {
    /// What has been received, of which no more than `most` bytes are handed on.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], most: usize, ends: &'a Ends) -> Self {
        let count = bytes.len().min(most);
        Self { bytes: &bytes[..count], is_truncated: count < bytes.len(), ends }
    }
}

/// What the loop reports to the handler of a datagram socket, erased.
///
/// A face is chosen where a socket is made, by the kind of handler that the call asks for, and
/// stands beside the socket. The handler is found in its place of the table by its type, so that
/// one handler may serve sockets of several kinds, and connections.
pub(crate) trait SocketFace {
    fn datagram(&self, _: &mut Entry, _: &mut Loop, _: SocketId, _: &Incoming<'_>);
    fn batch_end(&self, _: &mut Entry, _: &mut DatagramSocket<'_>);
    fn drain(&self, _: &mut Entry, _: &mut DatagramSocket<'_>);
    fn error(&self, _: &mut Entry, _: &mut DatagramSocket<'_>, _: io::Error);
    fn timer(&self, _: &mut Entry, _: &mut DatagramSocket<'_>, _: Timer);
    fn close(&self, _: &mut Entry, _: SocketId, _: &mut Loop);
    /// A session's entry in the wheel has fired.
    fn session_due(&self, _: &mut Entry, _: &mut DatagramSocket<'_>, _place: u32) {}
    /// A callback has panicked.
    fn recover(&self, _: &mut Entry, _: &mut DatagramSocket<'_>) {}
    /// The socket is about to be torn down.
    fn end_sessions(&self, _: &mut Entry, _: &mut DatagramSocket<'_>) {}
}

/// The face of sockets whose datagrams go to a [`DatagramHandler`].
pub(in crate::handler) struct DatagramFace<H>(PhantomData<fn() -> H>);

impl<H: DatagramHandler> DatagramFace<H> {
    const FACE: &'static dyn SocketFace = &Self(PhantomData);

    /// The handler of a key serves a socket.
    pub(in crate::handler) fn of(key: HandlerKey<H>) -> ServedBy<&'static dyn SocketFace> {
        ServedBy { handler: key.index(), face: Self::FACE }
    }
}

impl<H: DatagramHandler> SocketFace for DatagramFace<H> {
    fn datagram(&self, entry: &mut Entry, lp: &mut Loop, id: SocketId, datagram: &Incoming<'_>) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        let mut socket = DatagramSocket::receiving(lp, id, datagram, states);
        handler.on_datagram(&mut socket, datagram.ends.peer, datagram.bytes);
    }

    fn batch_end(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_batch_end(&mut socket.lending(states));
    }

    fn drain(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_drain(&mut socket.lending(states));
    }

    fn error(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>, error: io::Error) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_error(&mut socket.lending(states), error);
    }

    fn timer(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>, timer: Timer) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_timer(&mut socket.lending(states), timer);
    }

    fn close(&self, entry: &mut Entry, id: SocketId, lp: &mut Loop) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_close(id, &mut Context::lending(lp, states));
    }
}
