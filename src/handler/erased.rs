//! Handlers of many types in one table: each erased behind one indirect call an event, with the
//! states of its connections beside it.
//!
//! ```text
//! register            listen, connect               bind_udp, bind_sessions, …
//! Bare<H>      ->     Registered<H>                 a face beside the socket, which finds
//! a place only        with states, by AnyHandler    the handler in the table by its type
//! ```
//! The kind of a handler is the trait that the call asks for, and the call knows the type: so the
//! face for connections is made by the first `listen` or `connect`, and no message pays for it.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;

use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::event_loop::Loop;
use crate::handler::states::{LentStates, StateTable};
use crate::handler::{Conn, Context, DeadlineKind, Handler, Peer};
use crate::stream::happy_eyeballs::ConnectRetry;
use crate::stream::{Closed, MAX_REFUSAL_BYTES};

/// The typed key of a registered handler: the one key for all that the handler is called for.
///
/// What that is says the trait which a call asks for: [`listen`](crate::Reactor::listen) and
/// [`connect`](crate::Reactor::connect) a [`Handler`], [`bind_udp`](crate::Reactor::bind_udp) a
/// [`DatagramHandler`](crate::udp::DatagramHandler), [`set_timer`](crate::Reactor::set_timer) a
/// [`TimerHandler`](crate::TimerHandler). A type that implements several of them serves all with
/// one value.
///
/// A key belongs to the reactor that returned it. It holds the place of the handler in the order of
/// registration, and its type. Used with another reactor, it names the handler in the same place
/// there if that has the same type; otherwise the call fails or does nothing, and an error is
/// logged. So the members of a fleet, which register the same handlers in the same order, have the
/// same keys.
pub struct HandlerKey<H> {
    index: u32,
    /// A key neither owns nor borrows an `H`.
    handler: PhantomData<fn() -> H>,
}

impl<H> HandlerKey<H> {
    pub(crate) const fn new(index: u32) -> Self {
        Self { index, handler: PhantomData }
    }

    /// The place of the handler in its reactor, by the order of registration: the number that
    /// observers are told ([`Callback::handler`](crate::observer::Callback::handler)).
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }
}

impl<H> Clone for HandlerKey<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for HandlerKey<H> {}

impl<H> PartialEq for HandlerKey<H> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl<H> Eq for HandlerKey<H> {}

impl<H> fmt::Debug for HandlerKey<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerKey({})", self.index)
    }
}

/// A registered handler, as the table has it.
pub(crate) struct Entry {
    /// The handler. Behind its face for connections from the first call on that serves some.
    pub(crate) handler: Box<dyn AnyHandler>,
    /// The sessions of its datagram sockets, if they have had any. Only the face of such a socket
    /// knows their type.
    pub(super) sessions: Option<Box<dyn Any>>,
}

impl Entry {
    pub(crate) fn new<H: 'static>(handler: H) -> Self {
        Self { handler: Box::new(Bare::Kept(handler)), sessions: None }
    }

    /// The handler, with the states of its connections. `None` if it is of another type, as it may
    /// be where the key was not checked.
    #[inline]
    pub(crate) fn typed<H: 'static>(&mut self) -> Option<(&mut H, LentStates<'_>)> {
        let (handler, states) = self.handler.parts();
        Some((handler.downcast_mut()?, states))
    }
}

/// Puts the handler at a place of the table behind its face for connections, unless it is there.
pub(crate) type StreamFace = fn(&mut Entry, u32);

/// The [`StreamFace`] of handlers of this type.
pub(super) fn put_behind_streams<H: Handler>(entry: &mut Entry, place: u32) {
    let bare = entry.handler.bare().and_then(|bare| bare.downcast_mut::<Bare<H>>());
    if let Some(Bare::Kept(handler)) = bare.map(|bare| mem::replace(bare, Bare::Moved)) {
        entry.handler = Box::new(Registered::new(handler, place));
    }
}

/// A handler and its states, erased. `state` is what `accept` or `place` gave; the connection is
/// the one that the cork has for its owner. A handler that serves no connections does nothing
/// where it is told of one.
pub(crate) trait AnyHandler {
    /// Has a connection accepted, or else `refuse` called with what its peer is told, if anything.
    fn accept(&mut self, _peer: &Peer, _refuse: &mut dyn FnMut(&[u8])) -> Option<u32> {
        None
    }
    /// Stores the state of an outgoing connection; `None` if it is of another type.
    fn place(&mut self, _state: Box<dyn Any>) -> Option<u32> {
        None
    }
    /// Drops the state of a connection that never opened.
    fn forget(&mut self, _state: u32) {}
    fn open(&mut self, _state: u32, _: &mut Loop) {}
    fn data(&mut self, _state: u32, _: &mut Loop, input: &[u8]) -> usize {
        input.len()
    }
    fn drain(&mut self, _state: u32, _: &mut Loop) {}
    fn eof(&mut self, _state: u32, _: &mut Loop) {}
    fn idle(&mut self, _state: u32, _: &mut Loop, _kind: IdleKind) -> Idle {
        Idle::Close
    }
    fn deadline(&mut self, _state: u32, _: &mut Loop, _kind: DeadlineKind) -> Deadline {
        Deadline::Reset
    }
    fn timer(&mut self, _state: u32, _: &mut Loop, _timer: Timer) {}
    fn shutdown(&mut self, _state: u32, _: &mut Loop) {}
    fn close(&mut self, _state: u32, _closed: Closed, _: &mut Loop) {}
    fn connect_retry(&mut self, _state: u32, _: &mut Loop, _: &ConnectRetry) {}
    fn connect_failed(&mut self, _state: u32, _error: io::Error, _: &mut Loop) {}
    /// The handler itself, for code that knows its type, and the states of its connections.
    fn parts(&mut self) -> (&mut dyn Any, LentStates<'_>);
    /// The handler as it was registered, if it serves no connections: a [`Bare`].
    fn bare(&mut self) -> Option<&mut dyn Any> {
        None
    }
}

/// A handler as it was registered: it keeps its place, and is found by its type.
enum Bare<H> {
    Kept(H),
    /// On its way behind its face for connections. No callback sees this.
    Moved,
}

impl<H: 'static> AnyHandler for Bare<H> {
    fn parts(&mut self) -> (&mut dyn Any, LentStates<'_>) {
        match self {
            Self::Kept(handler) => (handler, LentStates::NONE),
            Self::Moved => (self, LentStates::NONE),
        }
    }

    fn bare(&mut self) -> Option<&mut dyn Any> {
        Some(self)
    }
}

/// A handler and the states of its connections.
struct Registered<H: Handler> {
    handler: H,
    states: StateTable<H::State>,
}

impl<H: Handler> Registered<H> {
    /// A handler that gets this place in its reactor.
    fn new(handler: H, place: u32) -> Self {
        Self { handler, states: StateTable::new(place) }
    }

    /// The handler, one state, and the connection whose it is, to which all other states are lent.
    ///
    /// The `Conn` is made here, behind the indirect call, and not by the caller: where the
    /// callback is inlined, what it does not use of it is not even stored.
    #[inline]
    fn with<R>(
        &mut self,
        place: u32,
        lp: &mut Loop,
        call: impl FnOnce(&mut H, &mut H::State, &mut Conn<'_>) -> R,
    ) -> Option<R> {
        let (state, mut others) = self.states.split(place)?;
        let mut conn = Conn::current(lp, LentStates::new(&mut others));
        Some(call(&mut self.handler, state, &mut conn))
    }

    /// The handler, and a context to which all states are lent.
    fn with_context(&mut self, lp: &mut Loop, call: impl FnOnce(&mut H, &mut Context<'_>)) {
        call(&mut self.handler, &mut Context::lending(lp, LentStates::new(&mut self.states)));
    }
}

impl<H: Handler> AnyHandler for Registered<H> {
    fn accept(&mut self, peer: &Peer, refuse: &mut dyn FnMut(&[u8])) -> Option<u32> {
        if let Some(state) = self.handler.on_accept(peer) {
            return Some(self.states.store(state));
        }
        let words = self.handler.on_refuse(peer);
        if words.len() > MAX_REFUSAL_BYTES {
            log::debug!("{}: reset, a refusal of {} bytes is too long", peer.addr, words.len());
        } else if !words.is_empty() {
            refuse(words);
        }
        None
    }

    fn place(&mut self, state: Box<dyn Any>) -> Option<u32> {
        let state = state.downcast::<H::State>().ok()?;
        Some(self.states.store(*state))
    }

    fn forget(&mut self, state: u32) {
        drop(self.states.take(state));
    }

    fn open(&mut self, state: u32, lp: &mut Loop) {
        self.with(state, lp, |handler, state, conn| handler.on_open(state, conn));
    }

    #[inline]
    fn data(&mut self, state: u32, lp: &mut Loop, input: &[u8]) -> usize {
        self.with(state, lp, |handler, state, conn| handler.on_data(state, conn, input))
            .unwrap_or(0)
    }

    fn drain(&mut self, state: u32, lp: &mut Loop) {
        self.with(state, lp, |handler, state, conn| handler.on_drain(state, conn));
    }

    fn eof(&mut self, state: u32, lp: &mut Loop) {
        self.with(state, lp, |handler, state, conn| handler.on_eof(state, conn));
    }

    fn idle(&mut self, state: u32, lp: &mut Loop, kind: IdleKind) -> Idle {
        self.with(state, lp, |handler, state, conn| handler.on_idle(state, conn, kind))
            .unwrap_or(Idle::Close)
    }

    fn deadline(&mut self, state: u32, lp: &mut Loop, kind: DeadlineKind) -> Deadline {
        self.with(state, lp, |handler, state, conn| handler.on_deadline(state, conn, kind))
            .unwrap_or(Deadline::Reset)
    }

    fn timer(&mut self, state: u32, lp: &mut Loop, timer: Timer) {
        self.with(state, lp, |handler, state, conn| handler.on_timer(state, conn, timer));
    }

    fn shutdown(&mut self, state: u32, lp: &mut Loop) {
        self.with(state, lp, |handler, state, conn| handler.on_shutdown(state, conn));
    }

    fn close(&mut self, state: u32, closed: Closed, lp: &mut Loop) {
        if let Some(state) = self.states.take(state) {
            self.with_context(lp, |handler, cx| handler.on_close(state, closed, cx));
        }
    }

    fn connect_retry(&mut self, state: u32, lp: &mut Loop, retry: &ConnectRetry) {
        self.with(state, lp, |handler, state, conn| handler.on_connect_retry(state, conn, retry));
    }

    fn connect_failed(&mut self, state: u32, error: io::Error, lp: &mut Loop) {
        if let Some(state) = self.states.take(state) {
            self.with_context(lp, |handler, cx| handler.on_connect_failed(state, error, cx));
        }
    }

    fn parts(&mut self) -> (&mut dyn Any, LentStates<'_>) {
        (&mut self.handler, LentStates::new(&mut self.states))
    }
}
