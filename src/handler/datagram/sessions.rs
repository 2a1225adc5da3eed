//! Datagrams with state per peer: the callbacks, and the session lent to them.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::SocketAddr;

use crate::base::id::{SocketId, Timer};
use crate::base::tick::ticks;
use crate::datagram::{SendStatus, ServedBy, SessionKey, Sessions, Silence};
use crate::engine::Due;
use crate::handler::datagram::{Incoming, local_addr, send_by};
use crate::handler::event_loop::Loop;
use crate::handler::resolve::{first_of, without_lookup};
use crate::handler::states::LentStates;
use crate::handler::{Context, DatagramSocket, Entry, HandlerKey, SocketFace};
use crate::options::{Destination, SessionOptions, UdpOptions};
use crate::sys::{Ends, Route};

/// The callbacks of a datagram server that keeps something for each peer.
///
/// A session begins with the first datagram of an address that has none. The session ends when no
/// datagram has come for `SessionOptions::idle_timeout`, when the handler ends it, or with its
/// socket. A datagram only stores its time in the session, and touches no timer. For the other
/// callbacks see [`DatagramHandler`](crate::udp::DatagramHandler).
///
/// A callback of one session gets the state of that session only, but can send datagrams to any
/// address by [`Session::socket`]. Callbacks that belong to no single session get all [`Sessions`]:
/// to look one up, to end it, to go through all. A session callback that has work for other
/// sessions stores that work in the handler, and `on_batch_end` does it. Work that comes from a
/// timer, another handler or another thread is done in `on_timer`: set a timer of the socket
/// without a delay ([`DatagramSocket::set_timer`]).
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
/// let count = reactor.register(Count);
/// reactor.bind_sessions("127.0.0.1:0", count, options, UdpOptions::default())?;
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

    /// The session has ended: called exactly once for each session that began. Datagrams can still
    /// be sent to the peer, unless the socket is closed. The next datagram of the peer begins a new
    /// session. Default: drops the state.
    fn on_session_end(
        &mut self,
        state: Self::State,
        session: &mut Session<'_>,
        reason: SessionEnd,
    ) {
        let _ = (state, session, reason);
    }

    /// All datagrams that had arrived, or as many as the budget of a turn allows, have been handed
    /// over: the place to send what was gathered from them to others. Default: nothing.
    fn on_batch_end(
        &mut self,
        sessions: &mut Sessions<Self::State>,
        socket: &mut DatagramSocket<'_>,
    ) {
        let _ = (sessions, socket);
    }

    /// Datagrams had to wait for the kernel, or were dropped, and now no datagram waits. A
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
    /// The states of the connections of the handler that runs.
    states: LentStates<'a>,
}

impl Session<'_> {
    /// The peer's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.ends.peer
    }

    /// The local address at which the last datagram of the peer arrived, as
    /// [`DatagramSocket::local_addr`] returns it. Datagrams of the session leave from there. Other
    /// callbacks use [`DatagramSocket::send_from`] with this address, which the session's state
    /// must store.
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
        let (lp, states) = (&mut *self.lp, self.states.reborrow());
        let (id, is_truncated, ends) = (self.socket, self.is_truncated, Some(&self.ends));
        DatagramSocket { lp, id, is_truncated, ends, states }
    }

    /// The loop: connections, other sockets, timers of handlers, the clock.
    pub fn context(&mut self) -> Context<'_> {
        Context::lending(self.lp, self.states.reborrow())
    }
}

impl Context<'_> {
    /// Binds a UDP socket and serves it with a handler of sessions, as [`Reactor::bind_sessions`]
    /// does. Of several addresses the first that can be bound is used.
    ///
    /// # Errors
    /// - Those of [`Reactor::bind_sessions`]; `InvalidInput` also if the address is a name, whose
    ///   lookup would wait: see [`resolve`](Self::resolve).
    ///
    /// [`Reactor::bind_sessions`]: crate::Reactor::bind_sessions
    pub fn bind_sessions<H: SessionHandler>(
        &mut self,
        addr: impl Into<Destination>,
        handler: HandlerKey<H>,
        sessions: SessionOptions,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let lp = self.event_loop();
        lp.check_sessions(handler, sessions)?;
        let addrs = without_lookup(addr)?;
        let (by, engine) = (SessionFace::of(handler), &mut lp.engine);
        let bound = first_of(&addrs, |addr| lp.datagrams.bind_udp(engine, addr, by, options))?;
        if let Some(known) = lp.known_mut(handler) {
            known.sessions = Some(sessions);
        }
        Ok(bound)
    }
}

impl Loop {
    /// Checks the options of a handler's sessions: they are in one table, by one set of options.
    fn check_sessions<H: SessionHandler>(
        &mut self,
        key: HandlerKey<H>,
        options: SessionOptions,
    ) -> io::Result<()> {
        options.check()?;
        self.check_key(key)?;
        let first = self.known_mut(key).and_then(|known| known.sessions);
        if let Some(first) = first.filter(|&first| first != options) {
            let text = format!(
                "{key:?} has sockets with {first:?}, and this one was to have {options:?}; bind \
                 all with the same, or register another handler"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(())
    }

    /// The options of the sessions of a socket.
    fn session_options(&mut self, id: SocketId) -> SessionOptions {
        let socket = self.datagrams.slot_mut(id);
        let known = socket.and_then(|socket| self.handlers.get(socket.service as usize));
        known.and_then(|known| known.sessions).unwrap_or_default()
    }
}

/// The sessions of a handler, with states of this type.
struct SessionTable<S> {
    sessions: Sessions<S>,
    /// The session whose callback runs, or was left by a panic.
    running: Option<u32>,
}

impl<S> SessionTable<S> {
    fn new(options: SessionOptions) -> Self {
        let sessions = Sessions::new(options.max_sessions, ticks(options.idle_timeout));
        Self { sessions, running: None }
    }
}

/// A handler and its sessions, for the time of a callback.
struct Served<'a, H: SessionHandler> {
    handler: &'a mut H,
    table: &'a mut SessionTable<H::State>,
    /// The states of its connections, if it has any.
    states: LentStates<'a>,
}

impl<'a, H: SessionHandler> Served<'a, H> {
    /// The handler of this entry, with the sessions that begin when its first socket has something.
    fn of(entry: &'a mut Entry, socket: &mut DatagramSocket<'_>) -> Option<Self> {
        let Entry { handler, sessions } = entry;
        let id = socket.id();
        let table = sessions.get_or_insert_with(|| {
            let options = socket.event_loop().session_options(id);
            Box::new(SessionTable::<H::State>::new(options))
        });
        // Both are there: the key was checked when the socket was made.
        let (handler, states) = handler.parts();
        Some(Self { handler: handler.downcast_mut()?, table: table.downcast_mut()?, states })
    }

    /// Begins a session, if there is room and the handler wants it.
    fn begin(&mut self, lp: &mut Loop, key: SessionKey, bytes: &[u8]) -> Option<u32> {
        let sessions = &mut self.table.sessions;
        let state = match sessions.is_full() {
            true => None,
            false => self.handler.on_session(key.1, bytes),
        };
        let Some(state) = state else {
            lp.engine.stats.sessions_refused += 1;
            return None;
        };
        lp.engine.stats.sessions += 1;
        let (place, deadline) = sessions.begin(key, state, lp.engine.now());
        let timer = lp.engine.timers.set_at(deadline, Due::Session(key.0, place));
        sessions.set_timer(place, timer);
        Some(place)
    }

    fn receive(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        // A panic may have left something to do.
        if self.table.running.is_some() || self.table.sessions.next_over().is_some() {
            self.recover(socket);
        }
        let (id, is_truncated) = (socket.id(), socket.is_truncated());
        let local = socket.reported_local_addr();
        let lp = socket.event_loop();
        let place = match self.table.sessions.touch(&(id, from), lp.engine.now()) {
            Some(place) => place,
            None => match self.begin(lp, (id, from), bytes) {
                Some(place) => place,
                None => return,
            },
        };
        let Some(state) = self.table.sessions.receive(place, local) else { return };
        let ends = Ends { peer: from, local };
        let states = self.states.reborrow();
        let mut session = Session { lp, socket: id, ends, is_truncated, is_over: false, states };
        self.table.running = Some(place);
        self.handler.on_datagram(state, &mut session, bytes);
        let is_over = session.is_over;
        self.table.running = None;
        if is_over {
            self.end(socket.event_loop(), place, SessionEnd::Local);
        }
    }

    fn end(&mut self, lp: &mut Loop, place: u32, reason: SessionEnd) {
        let local = self.table.sessions.local(place);
        let removed = self.table.sessions.remove(place);
        let Some(((socket, peer), state, timer)) = removed else { return };
        if let Some(timer) = timer {
            lp.engine.timers.cancel(timer);
        }
        lp.engine.stats.sessions -= 1;
        lp.engine.stats.sessions_idle += u64::from(reason == SessionEnd::Idle);
        let ends = Ends { peer, local };
        let states = self.states.reborrow();
        let mut session = Session { lp, socket, ends, is_truncated: false, is_over: true, states };
        self.handler.on_session_end(state, &mut session, reason);
    }

    /// Runs a callback that is lent all sessions, and then ends those that it has ended.
    fn lend_all(
        &mut self,
        socket: &mut DatagramSocket<'_>,
        call: impl FnOnce(&mut H, &mut Sessions<H::State>, &mut DatagramSocket<'_>),
    ) {
        let states = self.states.reborrow();
        call(self.handler, &mut self.table.sessions, &mut socket.lending(states));
        self.end_those_over(socket.event_loop());
    }

    fn end_those_over(&mut self, lp: &mut Loop) {
        while let Some(place) = self.table.sessions.next_over() {
            self.end(lp, place, SessionEnd::Local);
        }
    }

    fn recover(&mut self, socket: &mut DatagramSocket<'_>) {
        if let Some(place) = mem::take(&mut self.table.running) {
            self.end(socket.event_loop(), place, SessionEnd::Panic);
        }
        self.end_those_over(socket.event_loop());
    }
}

/// The face of sockets whose datagrams go to a [`SessionHandler`].
struct SessionFace<H>(PhantomData<fn() -> H>);

impl<H: SessionHandler> SessionFace<H> {
    const FACE: &'static dyn SocketFace = &Self(PhantomData);

    /// The handler of a key serves a socket.
    fn of(key: HandlerKey<H>) -> ServedBy<&'static dyn SocketFace> {
        ServedBy { handler: key.index(), face: Self::FACE }
    }
}

impl<H: SessionHandler> SocketFace for SessionFace<H> {
    fn datagram(&self, entry: &mut Entry, lp: &mut Loop, id: SocketId, datagram: &Incoming<'_>) {
        let mut socket = DatagramSocket::receiving(lp, id, datagram, LentStates::NONE);
        if let Some(mut served) = Served::<H>::of(entry, &mut socket) {
            served.receive(&mut socket, datagram.ends.peer, datagram.bytes);
        }
    }

    fn batch_end(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        let Some(mut served) = Served::<H>::of(entry, socket) else { return };
        let end = socket.event_loop().engine.timers.clock_tick();
        served.table.sessions.restamp(end);
        served.lend_all(socket, |handler, all, socket| handler.on_batch_end(all, socket));
    }

    fn drain(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        let Some(mut served) = Served::<H>::of(entry, socket) else { return };
        served.lend_all(socket, |handler, all, socket| handler.on_drain(all, socket));
    }

    fn error(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>, error: io::Error) {
        let Some(mut served) = Served::<H>::of(entry, socket) else { return };
        served.lend_all(socket, |handler, all, socket| handler.on_error(all, socket, error));
    }

    fn timer(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>, timer: Timer) {
        let Some(mut served) = Served::<H>::of(entry, socket) else { return };
        served.lend_all(socket, |handler, all, socket| handler.on_timer(all, socket, timer));
    }

    fn session_due(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>, place: u32) {
        let Some(mut served) = Served::<H>::of(entry, socket) else { return };
        let id = socket.id();
        let lp = socket.event_loop();
        match served.table.sessions.look(place, lp.engine.now()) {
            Silence::Over => served.end(lp, place, SessionEnd::Idle),
            Silence::Until(deadline) => {
                let timer = lp.engine.timers.set_at(deadline, Due::Session(id, place));
                served.table.sessions.set_timer(place, timer);
            }
            Silence::Unknown => {}
        }
    }

    fn recover(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        if let Some(mut served) = Served::<H>::of(entry, socket) {
            served.recover(socket);
        }
    }

    fn end_sessions(&self, entry: &mut Entry, socket: &mut DatagramSocket<'_>) {
        let Some(mut served) = Served::<H>::of(entry, socket) else { return };
        for place in served.table.sessions.of_socket(socket.id()) {
            // A panic may have left one of another socket, which ends with that as its reason.
            if served.table.running == Some(place) {
                served.table.running = None;
            }
            served.end(socket.event_loop(), place, SessionEnd::Closed);
        }
    }

    fn close(&self, entry: &mut Entry, id: SocketId, lp: &mut Loop) {
        let Some((handler, states)) = entry.typed::<H>() else { return };
        handler.on_close(id, &mut Context::lending(lp, states));
    }
}
