//! Datagrams of Unix sockets: the callbacks, and the socket lent to them.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::time::Duration;

use crate::base::id::{SocketId, Timer, TimerId};
use crate::datagram::{SendStatus, ServedBy};
use crate::handler::datagram::{Incoming, send_by};
use crate::handler::event_loop::Loop;
use crate::handler::states::LentStates;
use crate::handler::{Context, DatagramSocket, Entry, HandlerKey, SocketFace};
use crate::options::{UnixAddr, UnixDatagramOptions};
use crate::sys::{Credentials, Route, UnixDatagrams};

/// The callbacks of a server or client of datagrams over Unix sockets.
///
/// A handler serves many sockets, which it tells apart by their [`id`](UnixDatagramSocket::id), and
/// each socket many senders. All callbacks run on the thread of the reactor, one at a time; nothing
/// that a callback calls runs another callback before it returns.
///
/// If a callback panics, its datagram is lost; the socket is served on.
///
/// A closure `FnMut(&mut UnixDatagramSocket<'_>, Option<&UnixAddr>, &[u8])` is a handler too: the
/// closure is `on_datagram`.
///
/// # Examples
/// A server that adds up numbers, and sends the sum to senders that have a name:
/// ```
/// use waterwheel::unix::{UnixAddr, UnixDatagramHandler, UnixDatagramOptions, UnixDatagramSocket};
/// use waterwheel::Reactor;
///
/// struct Sum(u64);
///
/// impl UnixDatagramHandler for Sum {
///     fn on_datagram(
///         &mut self,
///         socket: &mut UnixDatagramSocket<'_>,
///         from: Option<&UnixAddr>,
///         bytes: &[u8],
///     ) {
///         let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
///         self.0 = self.0.wrapping_add(number.unwrap_or(0_u64));
///         if let Some(from) = from {
///             socket.send_to(from, self.0.to_string().as_bytes());
///         }
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let sum = reactor.register(Sum(0));
/// # let path = std::env::temp_dir().join(format!("ww-doc-sum-{}.sock", std::process::id()));
/// reactor.bind_unix_datagrams(&path, sum, UnixDatagramOptions::default())?;
/// # drop(reactor);
/// # assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Platform notes
/// Unix only.
pub trait UnixDatagramHandler: 'static {
    /// A datagram came in; it may be empty. `from` is the name of the sender's socket; a sender
    /// without a name cannot be answered. `UnixDatagramSocket::is_truncated` says whether the
    /// datagram was longer than `bytes`.
    fn on_datagram(
        &mut self,
        socket: &mut UnixDatagramSocket<'_>,
        from: Option<&UnixAddr>,
        bytes: &[u8],
    );

    /// All datagrams that had arrived, or as many as the budget of a turn allows, have been handed
    /// over: the place to send what was gathered from them. Default: nothing.
    fn on_batch_end(&mut self, socket: &mut UnixDatagramSocket<'_>) {
        let _ = socket;
    }

    /// Datagrams had to wait or were dropped, and now no datagram waits. Default: nothing.
    fn on_drain(&mut self, socket: &mut UnixDatagramSocket<'_>) {
        let _ = socket;
    }

    /// The system reports an error. Usually a datagram that had to wait is lost: because its
    /// receiver has gone, or has had no room for
    /// [`queue_timeout`](crate::unix::UnixDatagramOptions::queue_timeout) (`TimedOut`). The socket
    /// stays open and is served on. Default: nothing.
    fn on_error(&mut self, socket: &mut UnixDatagramSocket<'_>, error: io::Error) {
        let _ = (socket, error);
    }

    /// A timer of the socket fired (`UnixDatagramSocket::set_timer`). Default: nothing.
    fn on_timer(&mut self, socket: &mut UnixDatagramSocket<'_>, timer: Timer) {
        let _ = (socket, timer);
    }

    /// The socket was closed, by its handler or because the reactor has stopped: the last
    /// callback for it. Default: nothing.
    fn on_close(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let _ = (id, cx);
    }
}

impl<F> UnixDatagramHandler for F
where
    F: FnMut(&mut UnixDatagramSocket<'_>, Option<&UnixAddr>, &[u8]) + 'static,
{
    fn on_datagram(
        &mut self,
        socket: &mut UnixDatagramSocket<'_>,
        from: Option<&UnixAddr>,
        bytes: &[u8],
    ) {
        self(socket, from, bytes);
    }
}

/// A Unix socket for datagrams, lent to a callback.
///
/// No call blocks. After `close` every call is harmless, and sends return `Closed`.
///
/// # Examples
/// A server that answers the processes of one user:
/// ```
/// use waterwheel::unix::{UnixAddr, UnixDatagramOptions, UnixDatagramSocket};
/// use waterwheel::Reactor;
///
/// let mut reactor = Reactor::new()?;
/// let user = 1000;
/// let echo = reactor.register(
///     move |socket: &mut UnixDatagramSocket<'_>, from: Option<&UnixAddr>, bytes: &[u8]| {
///         let is_user = socket.credentials().is_some_and(|who| who.uid == user);
///         if let (Some(from), true) = (from, is_user) {
///             socket.send_to(from, bytes);
///         }
///     },
/// );
/// # let path = std::env::temp_dir().join(format!("ww-doc-user-{}.sock", std::process::id()));
/// # if cfg!(target_os = "linux") {
/// let options = UnixDatagramOptions::default().mode(Some(0o666)).credentials(true);
/// reactor.bind_unix_datagrams(&path, echo, options)?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixDatagramSocket<'a> {
    lp: &'a mut Loop,
    id: SocketId,
    is_truncated: bool,
    credentials: Option<Credentials>,
    /// The states of the connections of the handler that runs.
    states: LentStates<'a>,
}

impl<'a> UnixDatagramSocket<'a> {
    fn new(lp: &'a mut Loop, id: SocketId, states: LentStates<'a>) -> Self {
        Self { lp, id, is_truncated: false, credentials: None, states }
    }

    fn unix(&self) -> Option<&UnixDatagrams> {
        self.lp.datagrams.socket(self.id)?.inner.unix()
    }

    /// The socket's id. Keep it, and find the socket again with [`Context::unix_socket`].
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// Sends a datagram to a name, at once if its receiver has room. Otherwise the datagram waits.
    /// Datagrams for one receiver keep their order, and do not hold up those for other receivers.
    /// If a receiver has no room for
    /// [`queue_timeout`](crate::unix::UnixDatagramOptions::queue_timeout), all that waits for it is
    /// dropped.
    ///
    /// `Failed(ConnectionRefused)` and `Failed(NotFound)` mean that there is no receiver with this
    /// name. `Failed(PermissionDenied)` means that the mode of the receiver's file forbids it, or
    /// that the receiver is connected to another peer.
    ///
    /// # Platform notes
    /// No system reports when a receiver has room again. So a timer tries again: after 1 ms, and
    /// then after twice as long each time, up to 64 ms.
    ///
    /// On Linux all datagrams that receivers have not read yet take room in the sender's own buffer
    /// (212,992 bytes unless `send_buffer_bytes` sets it). A few large datagrams to a receiver that
    /// does not read fill this buffer. Then datagrams to all receivers wait, because the system
    /// does not report which receiver is slow.
    #[inline]
    pub fn send_to(&mut self, to: &UnixAddr, bytes: &[u8]) -> SendStatus {
        let link = self.lp.socket_link(self.id);
        link.map_or(SendStatus::Closed, |mut link| link.send_to_unix(to, bytes))
    }

    /// Sends a datagram to the peer of a connected socket. If the peer has gone, each further send
    /// connects to its name again, so a peer that was restarted gets the datagram. What arrived
    /// before that may be of any sender, and is thrown away.
    ///
    /// # Platform notes
    /// Linux reports when the peer has room again. Other systems return an error (`ENOBUFS`) if the
    /// peer has no room, so the datagram is `Dropped`.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> SendStatus {
        send_by(self.lp, self.id, &Route::TO_PEER, bytes)
    }

    /// Whether the datagram of this `on_datagram` was longer than what is handed over.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The process and user that sent the datagram of this `on_datagram`, as the kernel reports
    /// them; `None` unless the option [`credentials`](UnixDatagramOptions::credentials) is set.
    #[must_use]
    pub fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// Closes the socket: nothing more is received, its file is removed, and `on_close` follows.
    /// Datagrams that wait are sent if their receivers take them at once, and dropped otherwise.
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

    /// The name of this socket, if it has one and is open.
    #[must_use]
    pub fn local_addr(&self) -> Option<UnixAddr> {
        self.unix()?.name().cloned()
    }

    /// The name of its peer, if it is connected to one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<UnixAddr> {
        self.unix()?.peer().cloned()
    }

    /// Datagrams that wait for their receivers to have room.
    #[must_use]
    pub fn queued_datagrams(&self) -> usize {
        self.lp.datagrams.socket(self.id).map_or(0, |socket| socket.queue.len())
    }

    /// Bytes of the datagrams that wait.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lp.datagrams.socket(self.id).map_or(0, |socket| socket.queue.bytes())
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

impl Context<'_> {
    /// A Unix socket for datagrams, if it has not been closed.
    ///
    /// # Platform notes
    /// Unix only.
    #[must_use]
    pub fn unix_socket(&mut self, id: SocketId) -> Option<UnixDatagramSocket<'_>> {
        let (lp, states) = self.parts();
        lp.datagrams.socket(id)?.inner.unix()?;
        Some(UnixDatagramSocket::new(lp, id, states))
    }

    /// Binds a Unix socket for datagrams, as [`Reactor::bind_unix_datagrams`] does.
    ///
    /// # Errors
    /// - Those of [`Reactor::bind_unix_datagrams`].
    ///
    /// # Platform notes
    /// Unix only.
    ///
    /// [`Reactor::bind_unix_datagrams`]: crate::Reactor::bind_unix_datagrams
    pub fn bind_unix_datagrams<H: UnixDatagramHandler>(
        &mut self,
        addr: impl Into<UnixAddr>,
        handler: HandlerKey<H>,
        options: &UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        let lp = self.event_loop();
        lp.check_key(handler)?;
        let (by, engine) = (UnixDatagramFace::of(handler), &mut lp.engine);
        lp.datagrams.bind_unix_datagrams(engine, &addr.into(), by, options)
    }

    /// Makes a Unix socket for datagrams with one peer, as [`Reactor::connect_unix_datagrams`]
    /// does.
    ///
    /// # Errors
    /// - Those of [`Reactor::connect_unix_datagrams`].
    ///
    /// # Platform notes
    /// Unix only.
    ///
    /// [`Reactor::connect_unix_datagrams`]: crate::Reactor::connect_unix_datagrams
    pub fn connect_unix_datagrams<H: UnixDatagramHandler>(
        &mut self,
        to: impl Into<UnixAddr>,
        handler: HandlerKey<H>,
        options: &UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        let lp = self.event_loop();
        lp.check_key(handler)?;
        let (by, engine) = (UnixDatagramFace::of(handler), &mut lp.engine);
        lp.datagrams.connect_unix_datagrams(engine, &to.into(), by, options)
    }
}

/// What is lent to a handler.
fn lent<'a>(socket: &'a mut DatagramSocket<'_>, states: LentStates<'a>) -> UnixDatagramSocket<'a> {
    let id = socket.id();
    UnixDatagramSocket::new(socket.event_loop(), id, states)
}

/// The face of Unix sockets for datagrams. The loop knows such a socket as it knows any socket for
/// datagrams; here it becomes what it is.
struct UnixDatagramFace<H>(PhantomData<fn() -> H>);

impl<H: UnixDatagramHandler> UnixDatagramFace<H> {
    const FACE: &'static dyn SocketFace = &Self(PhantomData);

    /// The handler of a key serves a socket.
    fn of(key: HandlerKey<H>) -> ServedBy<&'static dyn SocketFace> {
        ServedBy { handler: key.index(), face: Self::FACE }
    }
}

impl<H: UnixDatagramHandler> SocketFace for UnixDatagramFace<H> {
    fn datagram(&self, entry: &mut Entry, lp: &mut Loop, id: SocketId, datagram: &Incoming<'_>) {
        let Some(socket) = lp.datagrams.slot_mut(id) else { return };
        let Some(unix) = socket.inner.unix_mut() else { return };
        let sender = mem::take(unix.sender_mut());
        let credentials = sender.credentials;
        let Some((handler, states)) = entry.typed::<H>() else { return };
        let &Incoming { bytes, is_truncated, .. } = datagram;
        let mut socket = UnixDatagramSocket { lp, id, is_truncated, credentials, states };
        handler.on_datagram(&mut socket, sender.name.as_ref(), bytes);
        // A closed socket is still there; its end is a callback of its own.
        let Some(socket) = socket.lp.datagrams.slot_mut(id) else { return };
        if let Some(unix) = socket.inner.unix_mut() {
            *unix.sender_mut() = sender;
        }
    }

    fn batch_end(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_batch_end(&mut lent(socket, states));
    }

    fn drain(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_drain(&mut lent(socket, states));
    }

    fn error(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>, error: io::Error) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_error(&mut lent(socket, states), error);
    }

    fn timer(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>, timer: Timer) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_timer(&mut lent(socket, states), timer);
    }

    fn close(&self, entry: &mut Entry, id: SocketId, lp: &mut Loop) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_close(id, &mut Context::lending(lp, states));
    }
}
