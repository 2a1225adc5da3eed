//! Datagrams with state per peer: the callbacks, and the session lent to them.

use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;

use crate::base::id::{SocketId, Timer};
use crate::base::tick::ticks;
use crate::datagram::SendStatus;
use crate::datagram::{SessionKey, Sessions, Silence};
use crate::engine::Due;
use crate::handler::datagram::{local_addr, send_by};
use crate::handler::event_loop::{Loop, Role};
use crate::handler::states::LentStates;
use crate::handler::{AnyDatagrams, AnyHandler, Context, DatagramSocket};
use crate::options::SessionOptions;
use crate::sys::{Ends, Route};

/// The callbacks of a datagram server that keeps something for each peer.
///
/// A session begins with the first datagram of an address that has none, and ends when nothing has
/// come for `SessionOptions::idle_timeout`, when the handler ends it, or with its socket. A
/// datagram stamps its session; it costs no timer. For the other callbacks see
/// [`DatagramHandler`](crate::udp::DatagramHandler).
///
/// A callback of one session has its state. The other sessions are out of its reach, but datagrams
/// can be sent to any address by [`Session::socket`]. Callbacks that belong to no single session
/// are lent all [`Sessions`]: to look one up, to end it, to go through all. A session callback that
/// has work for other sessions stores it in the handler. After datagrams the work is done in
/// `on_batch_end`; after anything else, also what comes from other handlers or threads, in a
/// zero-delay timer of the handler (`Context::set_timer`).
///
/// A callback that panics ends its session, with [`SessionEnd::Panic`].
///
/// # Examples
/// A counter for each peer, and no more than a hundred of them:
/// ```
/// use std::net::SocketAddr;
/// use waterwheel::udp::{Session, SessionHandler, SessionOptions, UdpOptions};
/// use waterwheel::Reactor;
///
/// struct Count;
///
/// impl SessionHandler for Count {
///     type State = u64;
///
///     fn on_session(&mut self, peer: SocketAddr, _: &[u8]) -> Option<u64> {
///         peer.ip().is_loopback().then_some(0)
///     }
///
///     fn on_datagram(&mut self, count: &mut u64, session: &mut Session<'_>, bytes: &[u8]) {
///         *count += 1;
///         session.send(count.to_string().as_bytes());
///         if bytes == b"bye" {
///             session.end();
///         }
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let options = SessionOptions::default().max_sessions(100);
/// let count = reactor.register_sessions(Count, options)?;
/// reactor.bind_udp("127.0.0.1:0", count, UdpOptions::default())?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait SessionHandler: 'static {
    /// What each session keeps.
    type State: 'static;

    /// A datagram came from a peer that has no session: makes its state, or refuses it with
    /// `None`, which drops the datagram. `on_datagram` follows with the same datagram.
    fn on_session(&mut self, peer: SocketAddr, first: &[u8]) -> Option<Self::State>;

    /// A datagram came in; it may be empty.
    fn on_datagram(&mut self, state: &mut Self::State, session: &mut Session<'_>, bytes: &[u8]);

    /// The session has ended: exactly once for each that began. Datagrams can still be sent to
    /// the peer, unless the socket is closed; one that comes begins anew. Default: drops the
    /// state.
    fn on_session_end(
        &mut self,
        state: Self::State,
        session: &mut Session<'_>,
        reason: SessionEnd,
    ) {
        let _ = (state, session, reason);
    }

    /// All datagrams that there were for now, or a budget of them, have been handed over: the
    /// place to send to others what was gathered from them. Default: nothing.
    fn on_batch_end(
        &mut self,
        sessions: &mut Sessions<Self::State>,
        socket: &mut DatagramSocket<'_>,
    ) {
        let _ = (sessions, socket);
    }

    /// Datagrams had to wait for the kernel or were dropped, and now none waits any more. A
    /// [batch](crate::udp::UdpOptions::batch) that the kernel takes at once did not wait. Default:
    /// nothing.
    fn on_drain(&mut self, sessions: &mut Sessions<Self::State>, socket: &mut DatagramSocket<'_>) {
        let _ = (sessions, socket);
    }

    /// The system reports an error; the socket is served on. Default: nothing.
    fn on_error(
        &mut self,
        sessions: &mut Sessions<Self::State>,
        socket: &mut DatagramSocket<'_>,
        error: io::Error,
    ) {
        let _ = (sessions, socket, error);
    }

    /// A timer of the socket fired (`DatagramSocket::set_timer`). Default: nothing.
    fn on_timer(
        &mut self,
        sessions: &mut Sessions<Self::State>,
        socket: &mut DatagramSocket<'_>,
        timer: Timer,
    ) {
        let _ = (sessions, socket, timer);
    }

    /// The socket was closed; its sessions have ended. Default: nothing.
    fn on_close(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let _ = (id, cx);
    }

    /// A timer of the handler fired (`Context::set_timer`). Default: nothing.
    fn on_handler_timer(
        &mut self,
        sessions: &mut Sessions<Self::State>,
        timer: Timer,
        cx: &mut Context<'_>,
    ) {
        let _ = (sessions, timer, cx);
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// Nothing came from the peer for `idle_timeout`.
    Idle,
    /// The handler ended it.
    Local,
    /// A callback of it panicked.
    Panic,
    /// Its socket was closed, or the reactor has stopped.
    Closed,
}

/// A session, lent to a callback.
#[derive(Debug)]
pub struct Session<'a> {
    lp: &'a mut Loop,
    socket: SocketId,
    /// Of the last datagram.
    ends: Ends,
    is_truncated: bool,
    is_over: bool,
}

impl Session<'_> {
    /// Whose session it is.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.ends.peer
    }

    /// Where the last datagram of the peer arrived, as [`DatagramSocket::local_addr`] has it.
    /// Datagrams of the session leave from there. Those that are sent by other callbacks do so by
    /// [`DatagramSocket::send_from`] with this address, kept in the session's state.
    ///
    /// # Errors
    /// - `NotConnected`: the socket is closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(self.lp, self.socket, self.ends.local)
    }

    /// Sends a datagram to the peer, as [`DatagramSocket::send_to`] does: from the address at which
    /// the last datagram of the peer arrived, also when the session ends.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> SendStatus {
        let route = Route { to: Some(self.ends.peer), local: self.ends.local };
        send_by(self.lp, self.socket, &route, bytes)
    }

    /// Ends the session when this callback has returned.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// Whether the datagram was longer than what is handed over.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The socket that it came by.
    pub fn socket(&mut self) -> DatagramSocket<'_> {
        DatagramSocket::receiving(self.lp, self.socket, &self.ends, self.is_truncated)
    }

    /// The loop: connections, other sockets, timers of handlers, the clock.
    pub fn context(&mut self) -> Context<'_> {
        Context::new(self.lp)
    }
}

/// A handler of datagrams with its sessions.
pub(crate) struct RegisteredSessions<H: SessionHandler> {
    handler: H,
    sessions: Sessions<H::State>,
    /// The session whose callback runs, or was left by a panic.
    running: Option<u32>,
}

impl<H: SessionHandler> RegisteredSessions<H> {
    pub(crate) fn new(handler: H, options: SessionOptions) -> io::Result<Self> {
        options.check()?;
        let sessions = Sessions::new(options.max_sessions, ticks(options.idle_timeout));
        Ok(Self { handler, sessions, running: None })
    }

    /// Begins a session, if there is room and the handler wants it.
    fn begin(&mut self, lp: &mut Loop, key: SessionKey, bytes: &[u8]) -> Option<u32> {
        let state = match self.sessions.is_full() {
            true => None,
            false => self.handler.on_session(key.1, bytes),
        };
        let Some(state) = state else {
            lp.engine.stats.sessions_refused += 1;
            return None;
        };
        lp.engine.stats.sessions += 1;
        let (place, deadline) = self.sessions.begin(key, state, lp.engine.now());
        let timer = lp.engine.timers.set_at(deadline, Due::Session(key.0, place));
        self.sessions.set_timer(place, timer);
        Some(place)
    }

    fn end(&mut self, lp: &mut Loop, place: u32, reason: SessionEnd) {
        let local = self.sessions.local(place);
        let Some(((socket, peer), state, timer)) = self.sessions.remove(place) else { return };
        if let Some(timer) = timer {
            lp.engine.timers.cancel(timer);
        }
        lp.engine.stats.sessions -= 1;
        lp.engine.stats.sessions_idle += u64::from(reason == SessionEnd::Idle);
        let ends = Ends { peer, local };
        let mut session = Session { lp, socket, ends, is_truncated: false, is_over: true };
        self.handler.on_session_end(state, &mut session, reason);
    }

    /// Ends those that the handler has ended in a callback that was lent all.
    fn end_those_over(&mut self, lp: &mut Loop) {
        while let Some(place) = self.sessions.next_over() {
            self.end(lp, place, SessionEnd::Local);
        }
    }
}

impl<H: SessionHandler> AnyDatagrams for RegisteredSessions<H> {
    fn datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        // A panic may have left something to do.
        if self.running.is_some() || self.sessions.next_over().is_some() {
            self.recover(socket);
        }
        let (id, is_truncated) = (socket.id(), socket.is_truncated());
        let local = socket.reported_local_addr();
        let lp = socket.event_loop();
        let place = match self.sessions.touch(&(id, from), lp.engine.now()) {
            Some(place) => place,
            None => match self.begin(lp, (id, from), bytes) {
                Some(place) => place,
                None => return,
            },
        };
        let Some(state) = self.sessions.receive(place, local) else { return };
        let ends = Ends { peer: from, local };
        let mut session = Session { lp, socket: id, ends, is_truncated, is_over: false };
        self.running = Some(place);
        self.handler.on_datagram(state, &mut session, bytes);
        let is_over = session.is_over;
        self.running = None;
        if is_over {
            self.end(socket.event_loop(), place, SessionEnd::Local);
        }
    }

    fn batch_end(&mut self, socket: &mut DatagramSocket<'_>) {
        let end = socket.event_loop().engine.timers.clock_tick();
        self.sessions.restamp(end);
        self.handler.on_batch_end(&mut self.sessions, socket);
        self.end_those_over(socket.event_loop());
    }

    fn socket_drain(&mut self, socket: &mut DatagramSocket<'_>) {
        self.handler.on_drain(&mut self.sessions, socket);
        self.end_those_over(socket.event_loop());
    }

    fn socket_error(&mut self, socket: &mut DatagramSocket<'_>, error: io::Error) {
        self.handler.on_error(&mut self.sessions, socket, error);
        self.end_those_over(socket.event_loop());
    }

    fn socket_timer(&mut self, socket: &mut DatagramSocket<'_>, timer: Timer) {
        self.handler.on_timer(&mut self.sessions, socket, timer);
        self.end_those_over(socket.event_loop());
    }

    fn session_due(&mut self, socket: &mut DatagramSocket<'_>, place: u32) {
        let id = socket.id();
        let lp = socket.event_loop();
        match self.sessions.look(place, lp.engine.now()) {
            Silence::Over => self.end(lp, place, SessionEnd::Idle),
            Silence::Until(deadline) => {
                let timer = lp.engine.timers.set_at(deadline, Due::Session(id, place));
                self.sessions.set_timer(place, timer);
            }
            Silence::Unknown => {}
        }
    }

    fn recover(&mut self, socket: &mut DatagramSocket<'_>) {
        if let Some(place) = mem::take(&mut self.running) {
            self.end(socket.event_loop(), place, SessionEnd::Panic);
        }
        self.end_those_over(socket.event_loop());
    }

    fn end_sessions(&mut self, socket: &mut DatagramSocket<'_>) {
        for place in self.sessions.of_socket(socket.id()) {
            // A panic may have left one of another socket, which ends with that as its reason.
            if self.running == Some(place) {
                self.running = None;
            }
            self.end(socket.event_loop(), place, SessionEnd::Closed);
        }
    }

    fn socket_close(&mut self, id: SocketId, lp: &mut Loop) {
        self.handler.on_close(id, &mut Context::new(lp));
    }

    fn role(&self) -> Role {
        Role::Datagrams
    }
}

impl<H: SessionHandler> AnyHandler for RegisteredSessions<H> {
    fn handler_timer(&mut self, timer: Timer, lp: &mut Loop) {
        self.handler.on_handler_timer(&mut self.sessions, timer, &mut Context::new(lp));
        self.end_those_over(lp);
    }

    fn parts(&mut self) -> (&mut dyn Any, LentStates<'_>) {
        (&mut self.handler, LentStates::NONE)
    }
}

impl<H: SessionHandler> fmt::Debug for RegisteredSessions<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredSessions").finish_non_exhaustive()
    }
}
