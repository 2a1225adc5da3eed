//! Handlers of many types in one reactor: each erased behind one indirect call an event, with the
//! states of its connections beside it.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;

use crate::base::close::{Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::event_loop::Loop;
use crate::handler::{AnyDatagrams, Conn, Context, Handler, Peer};
use crate::stream::Closed;
use crate::stream::happy_eyeballs::ConnectRetry;

/// The typed key of a registered handler.
///
/// It belongs to the reactor that gave it out; used with another one it is an error there, or
/// names the handler of the same type in the same place.
pub struct Service<H> {
    index: u32,
    /// A key neither owns nor borrows an `H`.
    handler: PhantomData<fn() -> H>,
}

impl<H> Service<H> {
    pub(crate) const fn new(index: u32) -> Self {
        Self { index, handler: PhantomData }
    }

    pub(crate) const fn index(self) -> u32 {
        self.index
    }
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Service<H> {}

impl<H> PartialEq for Service<H> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl<H> Eq for Service<H> {}

impl<H> fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.index)
    }
}

/// A handler and its states, erased. `state` is what `accept` or `place` gave. A handler of
/// datagrams has no connections, and does nothing where it is told of one.
pub(crate) trait AnyService: AnyDatagrams {
    fn accept(&mut self, _peer: &Peer) -> Option<u32> {
        None
    }
    /// Stores the state of an outgoing connection; `None` if it is of another type.
    fn place(&mut self, _state: Box<dyn Any>) -> Option<u32> {
        None
    }
    /// Drops the state of a connection that never opened.
    fn forget(&mut self, _state: u32) {}
    fn open(&mut self, _state: u32, _: &mut Conn<'_>) {}
    fn data(&mut self, _state: u32, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }
    fn drain(&mut self, _state: u32, _: &mut Conn<'_>) {}
    fn eof(&mut self, _state: u32, _: &mut Conn<'_>) {}
    fn idle(&mut self, _state: u32, _: &mut Conn<'_>, _kind: IdleKind) -> Idle {
        Idle::Close
    }
    fn timer(&mut self, _state: u32, _: &mut Conn<'_>, _timer: Timer) {}
    fn shutdown(&mut self, _state: u32, _: &mut Conn<'_>) {}
    fn close(&mut self, _state: u32, _closed: Closed, _: &mut Loop) {}
    fn connect_retry(&mut self, _state: u32, _: &mut Conn<'_>, _: &ConnectRetry) {}
    fn connect_failed(&mut self, _state: u32, _error: io::Error, _: &mut Loop) {}
    fn service_timer(&mut self, timer: Timer, lp: &mut Loop);
    /// The handler itself, for closures that know its type.
    fn handler_mut(&mut self) -> &mut dyn Any;
}

/// A handler and the states of its connections.
pub(crate) struct Registered<H: Handler> {
    handler: H,
    /// The states, by place; `None` is free. A state of `()` takes one byte.
    states: Vec<Option<H::State>>,
    /// The free places.
    free: Vec<u32>,
}

impl<H: Handler> Registered<H> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, states: Vec::new(), free: Vec::new() }
    }

    fn store(&mut self, state: H::State) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.states[place as usize] = Some(state);
                place
            }
            None => {
                self.states.push(Some(state));
                (self.states.len() - 1) as u32
            }
        }
    }

    fn take(&mut self, place: u32) -> Option<H::State> {
        let state = self.states.get_mut(place as usize)?.take();
        if state.is_some() {
            self.free.push(place);
        }
        state
    }

    /// The handler and one state, both to be changed.
    #[inline]
    fn with<R>(&mut self, place: u32, call: impl FnOnce(&mut H, &mut H::State) -> R) -> Option<R> {
        let state = self.states.get_mut(place as usize)?.as_mut()?;
        Some(call(&mut self.handler, state))
    }
}

impl<H: Handler> AnyDatagrams for Registered<H> {}

impl<H: Handler> AnyService for Registered<H> {
    fn accept(&mut self, peer: &Peer) -> Option<u32> {
        let state = self.handler.on_accept(peer)?;
        Some(self.store(state))
    }

    fn place(&mut self, state: Box<dyn Any>) -> Option<u32> {
        let state = state.downcast::<H::State>().ok()?;
        Some(self.store(*state))
    }

    fn forget(&mut self, state: u32) {
        drop(self.take(state));
    }

    fn open(&mut self, state: u32, conn: &mut Conn<'_>) {
        self.with(state, |handler, state| handler.on_open(state, conn));
    }

    #[inline]
    fn data(&mut self, state: u32, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        self.with(state, |handler, state| handler.on_data(state, conn, input)).unwrap_or(0)
    }

    fn drain(&mut self, state: u32, conn: &mut Conn<'_>) {
        self.with(state, |handler, state| handler.on_drain(state, conn));
    }

    fn eof(&mut self, state: u32, conn: &mut Conn<'_>) {
        self.with(state, |handler, state| handler.on_eof(state, conn));
    }

    fn idle(&mut self, state: u32, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        self.with(state, |handler, state| handler.on_idle(state, conn, kind)).unwrap_or(Idle::Close)
    }

    fn timer(&mut self, state: u32, conn: &mut Conn<'_>, timer: Timer) {
        self.with(state, |handler, state| handler.on_timer(state, conn, timer));
    }

    fn shutdown(&mut self, state: u32, conn: &mut Conn<'_>) {
        self.with(state, |handler, state| handler.on_shutdown(state, conn));
    }

    fn close(&mut self, state: u32, closed: Closed, lp: &mut Loop) {
        if let Some(state) = self.take(state) {
            self.handler.on_close(state, closed, &mut Context::new(lp));
        }
    }

    fn connect_retry(&mut self, state: u32, conn: &mut Conn<'_>, retry: &ConnectRetry) {
        self.with(state, |handler, state| handler.on_connect_retry(state, conn, retry));
    }

    fn connect_failed(&mut self, state: u32, error: io::Error, lp: &mut Loop) {
        if let Some(state) = self.take(state) {
            self.handler.on_connect_failed(state, error, &mut Context::new(lp));
        }
    }

    fn service_timer(&mut self, timer: Timer, lp: &mut Loop) {
        self.handler.on_service_timer(timer, &mut Context::new(lp));
    }

    fn handler_mut(&mut self) -> &mut dyn Any {
        &mut self.handler
    }
}
