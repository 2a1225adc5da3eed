//! Accepting, within a budget and within the caps.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::engine::Due;
use crate::engine::observer::What;
use crate::handler::Peer;
use crate::reactor::callback::{Callee, Who};
use crate::reactor::dispatch::Dispatcher;
use crate::stream::config::ConnConfig;
use crate::stream::first_reads::Guess;
use crate::stream::listener::AcceptError;
use crate::stream::{Admission, Handover, refuse_with, reset};
use crate::sys::{Loose, Stream};

/// Whether to go on accepting.
#[derive(PartialEq, Eq)]
enum Next {
    Accept,
    Stop,
}

/// A connection that is not taken in yet. Dropped, by a panic of `on_accept` too, it is reset, so
/// that the client knows.
struct ResetOnDrop(Option<Stream>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            reset(stream);
        }
    }
}

impl Dispatcher {
    /// Accepts until the queue is empty, the budget is used up or there is no room.
    pub(super) fn accept(&mut self, index: usize) {
        let Some(listener) = self.lp.streams.listener_mut(index) else { return };
        if listener.is_backing_off || listener.is_queued {
            return;
        }
        // More than a turn tears down have ended: those that come would only make it more.
        let closed = self.lp.engine.end_of_turn.closed().len();
        let is_behind = closed > self.lp.engine.turn_budgets().closes;
        let budget = if is_behind { 0 } else { listener.budget };
        for _ in 0..budget {
            if self.accept_one(index) == Next::Stop {
                return;
            }
        }
        self.lp.streams.queue_listener(&mut self.lp.engine, index);
    }

    /// Accepts again on a listener that used up its budget.
    pub(super) fn on_ready_listener(&mut self, index: usize) {
        if let Some(listener) = self.lp.streams.listener_mut(index) {
            listener.is_queued = false;
            self.accept(index);
        }
    }

    #[inline]
    fn accept_one(&mut self, index: usize) -> Next {
        let Some((listener, has_room)) = self.lp.streams.with_room(index) else {
            return Next::Stop;
        };
        if !has_room {
            return self.accept_at_capacity(index);
        }
        match listener.accept() {
            Ok((stream, peer)) => {
                self.take_in(index, stream, peer);
                Next::Accept
            }
            Err(error) => self.on_accept_error(index, error),
        }
    }

    /// A cap is reached.
    #[cold]
    fn accept_at_capacity(&mut self, index: usize) -> Next {
        let admission = self.lp.streams.admits(index);
        if admission == Admission::Wait {
            return Next::Stop;
        }
        if self.waits_for_ends(index) {
            return Next::Stop;
        }
        let Some(listener) = self.lp.streams.listener_mut(index) else { return Next::Stop };
        match listener.accept() {
            Ok((stream, _)) => {
                self.refuse(stream);
                Next::Accept
            }
            Err(error) => self.on_accept_error(index, error),
        }
    }

    #[inline(never)]
    fn on_accept_error(&mut self, index: usize, error: AcceptError) -> Next {
        match error {
            AcceptError::Empty => Next::Stop,
            AcceptError::Lost(error) => {
                if let Some(listener) = self.lp.streams.listener(index) {
                    log::debug!("{}: lost one: {error}", listener.display_name());
                }
                Next::Accept
            }
            AcceptError::NoDescriptor(error) => self.accept_with_spare(index, &error),
            AcceptError::Other(error) => {
                self.warn(index, &error);
                self.back_off(index)
            }
        }
    }

    /// Some have ended and are not torn down: their places are about to be free, and nobody is
    /// refused meanwhile. The listener has its turn again then.
    #[cold]
    fn waits_for_ends(&mut self, index: usize) -> bool {
        let waits = !self.lp.engine.end_of_turn.closed().is_empty();
        if waits {
            self.lp.streams.queue_listener(&mut self.lp.engine, index);
        }
        waits
    }

    /// Tells the client at once.
    pub(super) fn refuse(&mut self, stream: Stream) {
        self.lp.engine.stats.refused += 1;
        reset(stream);
    }

    /// Takes a connection in, if its source and its handler agree.
    #[inline(always)] // into `accept_one`: else the socket and the address are moved there
    fn take_in(&mut self, index: usize, stream: Stream, peer: SocketAddr) {
        let Some(listener) = self.lp.streams.listener_mut(index) else { return };
        if listener.route.is_some() {
            return self.hand_over(index, stream, peer);
        }
        let config = Rc::clone(&listener.config);
        if !config.layers.is_empty() {
            return self.begin_handshake(index, stream, peer);
        }
        let guess = listener.first_reads.guess();
        let mut asks = Peer {
            addr: peer,
            listener: listener.addr,
            is_unix: config.is_unix(),
            proxy: None,
            destination: None,
            credentials: None,
        };
        if asks.is_unix {
            asks.credentials = stream.credentials();
        }
        if listener.sources.as_ref().is_some_and(|sources| !sources.admits(peer.ip())) {
            return self.refuse(stream);
        }
        let mut stream = ResetOnDrop(Some(stream));
        let (who, what) = (Who::Accept(index), || What::Accept { peer: asks.addr });
        let Self { lp, callbacks, buffer, .. } = self;
        let state = callbacks.enter(lp, who, config.service, what, |entry, _| {
            entry.handler.accept(&asks, &mut |words| {
                if let Some(stream) = stream.0.take() {
                    refuse_with(stream, words, buffer);
                }
            })
        });
        let Some(state) = state.flatten() else {
            self.lp.engine.stats.refused += 1;
            return; // and the stream is reset, unless it has gone with words
        };
        let Some(stream) = stream.0.take() else { return };
        // The address stays where the handler has seen it: else it is taken apart and stored again.
        self.admit(index, stream, &asks.addr, config, (state, guess));
    }

    #[inline(never)]
    fn take_in_apart(&mut self, index: usize, stream: Stream, peer: SocketAddr) {
        self.take_in(index, stream, peer);
    }

    /// The handler has accepted a connection, and given it its state.
    #[inline(always)] // else the socket, the address and what it goes by are moved there
    fn admit(
        &mut self,
        index: usize,
        stream: Stream,
        peer: &SocketAddr,
        config: Rc<ConnConfig>,
        (state, guess): (u32, Guess),
    ) {
        let handler = config.service;
        let is_read = guess != Guess::Wait;
        let engine = &mut self.lp.engine;
        let (id, room) = match self.lp.streams.admit(engine, stream, peer, config, is_read) {
            Ok(mut link) => {
                link.connection.state = state;
                link.connection.open_at_once();
                if !is_read {
                    link.connection.await_first_byte(link.engine.now());
                    link.arm_new();
                }
                link.engine.stats.accepted += 1;
                let id = link.id;
                link.engine.observers.tell(|observer| observer.on_accepted(id, *peer));
                (id, link.connection.cork_room())
            }
            Err(error) => {
                let (who, what) = (Who::Closed, || What::DropState);
                self.callbacks.enter(&mut self.lp, who, handler, what, |entry, _| {
                    entry.handler.forget(state);
                });
                self.lp.engine.stats.refused += 1;
                return self.warn(index, &error);
            }
        };
        if let Some(listener) = self.lp.streams.listener_mut(index) {
            listener.limit.enter();
            if let Some(sources) = &mut listener.sources {
                sources.enter(peer.ip());
            }
            log::debug!("{id}: accepted {peer} on {}", listener.display_name());
        }
        self.tell_open(id, Callee { handler, state, room });
        if is_read {
            self.serve_first(index, id, guess);
        }
    }

    /// Hands a connection over to the reactor that will serve it.
    fn hand_over(&mut self, index: usize, stream: Stream, peer: SocketAddr) {
        let Some(listener) = self.lp.streams.listener_mut(index) else { return };
        let (Some(route), Some(stream)) = (&mut listener.route, Loose::new(stream)) else { return };
        if route.hand_over(stream, peer) {
            self.lp.engine.stats.handed_over += 1;
        } else {
            self.lp.engine.stats.refused += 1;
        }
    }

    /// Takes in a connection that another reactor has accepted, under the caps of this one.
    pub(super) fn receive_handover(&mut self, handover: Handover) {
        let (index, peer) = (handover.listener as usize, handover.peer);
        if self.lp.streams.listener(index).is_none() {
            return;
        }
        let has_room = self.lp.streams.has_room(index);
        let Some((stream, guard)) = handover.take() else { return };
        if !has_room {
            return self.refuse(stream.into_stream());
        }
        self.lp.streams.set_handed_over(Some(guard));
        self.take_in_apart(index, stream.into_stream(), peer);
        self.lp.streams.set_handed_over(None); // unless the connection has kept it
    }

    /// No descriptor is left, and the event is used up while a connection may still queue: gives
    /// up the spare one to take it. If the spare descriptor can be reopened, the client is served;
    /// otherwise it is reset at once instead of waiting.
    fn accept_with_spare(&mut self, index: usize, error: &io::Error) -> Next {
        if self.waits_for_ends(index) {
            return Next::Stop;
        }
        if !self.lp.engine.io.give_up_spare() {
            self.warn(index, error);
            self.lp.engine.io.renew_spare();
            return self.back_off(index);
        }
        let Some(listener) = self.lp.streams.listener_mut(index) else { return Next::Stop };
        let accepted = listener.accept();
        let has_spare = self.lp.engine.io.renew_spare();
        // Linux takes a descriptor before it looks whether a client waits at all.
        if !matches!(accepted, Err(AcceptError::Empty)) {
            self.warn(index, error);
        }
        match accepted {
            Ok((stream, peer)) if has_spare => {
                self.take_in_apart(index, stream, peer);
                Next::Accept
            }
            Ok((stream, _)) => {
                self.refuse(stream);
                self.lp.engine.io.renew_spare();
                Next::Accept
            }
            Err(AcceptError::Empty) => Next::Stop,
            Err(AcceptError::Lost(_)) => Next::Accept,
            Err(AcceptError::NoDescriptor(_) | AcceptError::Other(_)) => self.back_off(index),
        }
    }

    /// Comes back by timer.
    fn back_off(&mut self, index: usize) -> Next {
        if let Some(listener) = self.lp.streams.listener_mut(index) {
            listener.is_backing_off = true;
            let wait = Duration::from_millis(listener.back_off());
            self.lp.engine.timers.set(wait, Due::Accept(index as u32));
        }
        Next::Stop
    }

    /// The timer of a listener that backed off.
    pub(super) fn on_accept_timer(&mut self, index: usize) {
        if let Some(listener) = self.lp.streams.listener_mut(index) {
            listener.is_backing_off = false;
            self.accept(index);
        }
    }

    pub(super) fn warn(&mut self, index: usize, error: &io::Error) {
        self.lp.engine.stats.accept_errors += 1;
        let now = self.lp.engine.now();
        let Some(listener) = self.lp.streams.listener_mut(index) else { return };
        if listener.may_warn(now) {
            log::warn!(
                "{}: cannot accept: {error}; raise the open-file limit or lower max_connections",
                listener.display_name()
            );
        }
    }
}
