//! Accepting, within a budget and within the caps.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::engine::Due;
use crate::handler::Peer;
use crate::listener::{Failed, Handed, reset};
use crate::options::AtCapacity;
use crate::reactor::dispatch::Dispatcher;
use crate::sys::{Loose, Stream};

/// Whether to go on accepting.
#[derive(PartialEq, Eq)]
enum Next {
    Accept,
    Stop,
}

/// A connection that is not taken in yet. Dropped, by a panic of `on_accept` too, it is reset, so
/// that the client knows.
struct Arrival(Option<Stream>);

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            reset(stream);
        }
    }
}

impl Dispatcher {
    /// Accepts until the queue is empty, the budget is used up or there is no room.
    pub(super) fn accept(&mut self, index: usize) {
        let Some(listener) = self.engine.listeners.get_mut(index) else {
            return;
        };
        if listener.is_backing_off || listener.is_queued {
            return;
        }
        let mut budget = listener.budget;
        self.accepting = Some(index);
        while budget > 0 && self.accept_one(index) == Next::Accept {
            budget -= 1;
        }
        self.accepting = None;
        if budget == 0 {
            self.engine.queue_ready_listener(index);
        }
    }

    /// One that used up its budget has another.
    pub(super) fn on_ready_listener(&mut self, index: usize) {
        if let Some(listener) = self.engine.listeners.get_mut(index) {
            listener.is_queued = false;
            self.accept(index);
        }
    }

    #[inline]
    fn accept_one(&mut self, index: usize) -> Next {
        let engine = &mut self.engine;
        let listener = &mut engine.listeners[index];
        let has_room = engine.gate.admits() & listener.gate.admits();
        if !has_room && listener.at_capacity == AtCapacity::Wait {
            // `Engine::remove` brings it back.
            listener.is_waiting = true;
            engine.waiting_listeners = true;
            return Next::Stop;
        }
        match listener.accept() {
            Ok((stream, _)) if !has_room => self.refuse(stream),
            Ok((stream, peer)) => self.welcome(index, stream, peer),
            Err(Failed::Empty) => return Next::Stop,
            Err(Failed::Lost(error)) => log::debug!("{}: lost one: {error}", listener.title()),
            Err(Failed::NoDescriptor(error)) => return self.accept_with_spare(index, &error),
            Err(Failed::Other(error)) => {
                self.warn(index, &error);
                return self.back_off(index);
            }
        }
        Next::Accept
    }

    /// Tells the client at once.
    pub(super) fn refuse(&mut self, stream: Stream) {
        self.engine.stats.refused += 1;
        drop(Arrival(Some(stream)));
    }

    /// Takes a connection in, if its source and its handler agree.
    fn welcome(&mut self, index: usize, stream: Stream, peer: SocketAddr) {
        let listener = &self.engine.listeners[index];
        if listener.route.is_some() {
            return self.pass_on(index, stream, peer);
        }
        let profile = Rc::clone(&listener.profile);
        #[cfg(feature = "proxy-protocol")]
        if profile.greeting.is_some() {
            return self.greet(index, stream, peer);
        }
        let asks = Peer {
            addr: peer,
            listener: listener.addr,
            is_unix: profile.is_unix,
            proxy: None,
            destination: None,
            credentials: if profile.is_unix { stream.credentials() } else { None },
        };
        if listener.sources.as_ref().is_some_and(|sources| !sources.admits(peer.ip())) {
            return self.refuse(stream);
        }
        let Some(service) = self.services.get_mut(profile.service as usize) else { return };
        let mut arrival = Arrival(Some(stream));
        let state = service.accept(&asks);
        let Some(state) = state else {
            self.engine.stats.refused += 1;
            return; // and the arrival is refused
        };
        let Some(stream) = arrival.0.take() else { return };
        let id = match self.engine.admit(stream, peer, profile) {
            Ok(id) => id,
            Err(error) => {
                service.forget(state);
                self.engine.stats.refused += 1;
                return self.warn(index, &error);
            }
        };
        let now = self.engine.now;
        let listener = &mut self.engine.listeners[index];
        listener.gate.enter();
        if let Some(sources) = &mut listener.sources {
            sources.enter(peer.ip());
        }
        let connection = &mut self.engine.connections[id.index()];
        connection.state = state;
        connection.open(now);
        self.engine.stats.accepted += 1;
        log::debug!("{id}: accepted {peer} on {}", listener.title());
        self.open(id);
    }

    /// Hands a connection over to the reactor that will serve it.
    fn pass_on(&mut self, index: usize, stream: Stream, peer: SocketAddr) {
        let route = &mut self.engine.listeners[index].route;
        let (Some(route), Some(stream)) = (route, Loose::new(stream)) else { return };
        if route.hand_over(stream, peer) {
            self.engine.stats.handed_over += 1;
        } else {
            self.engine.stats.refused += 1;
        }
    }

    /// Takes in a connection that another reactor has accepted, under the caps of this one.
    pub(super) fn take_in(&mut self, handed: Handed) {
        let (index, peer) = (handed.listener as usize, handed.peer);
        let engine = &mut self.engine;
        let Some(listener) = engine.listeners.get_mut(index) else { return };
        let has_room = engine.gate.admits() & listener.gate.admits();
        let Some((stream, ticket)) = handed.take() else { return };
        if !has_room {
            return self.refuse(stream.into_stream());
        }
        engine.ticket = Some(ticket);
        self.accepting = Some(index);
        self.welcome(index, stream.into_stream(), peer);
        self.accepting = None;
        self.engine.ticket = None; // unless somebody has kept it
    }

    /// No descriptor is left, and the event is used up while the connection still queues: gives
    /// up the spare one to take it. If the spare can be had again at once, there was one after
    /// all and the client is served; else it is told by a reset instead of being left to wait.
    fn accept_with_spare(&mut self, index: usize, error: &io::Error) -> Next {
        self.warn(index, error);
        if self.engine.spare_file.take().is_none() {
            self.engine.spare_file = self.engine.world.spare();
            return self.back_off(index);
        }
        let accepted = self.engine.listeners[index].accept();
        self.engine.spare_file = self.engine.world.spare();
        match accepted {
            Ok((stream, peer)) if self.engine.spare_file.is_some() => {
                self.welcome(index, stream, peer);
                Next::Accept
            }
            Ok((stream, _)) => {
                self.refuse(stream);
                self.engine.spare_file = self.engine.world.spare();
                Next::Accept
            }
            Err(Failed::Empty) => Next::Stop,
            Err(Failed::Lost(_)) => Next::Accept,
            Err(Failed::NoDescriptor(_) | Failed::Other(_)) => self.back_off(index),
        }
    }

    /// Comes back by timer.
    fn back_off(&mut self, index: usize) -> Next {
        let listener = &mut self.engine.listeners[index];
        listener.is_backing_off = true;
        let wait = Duration::from_millis(listener.back_off());
        self.engine.set_timer(wait, false, Due::Accept(index as u32));
        Next::Stop
    }

    /// The timer of a listener that backed off.
    pub(super) fn on_accept_timer(&mut self, index: usize) {
        if let Some(listener) = self.engine.listeners.get_mut(index) {
            listener.is_backing_off = false;
            self.accept(index);
        }
    }

    pub(super) fn warn(&mut self, index: usize, error: &io::Error) {
        self.engine.stats.accept_errors += 1;
        let now = self.engine.now;
        let listener = &mut self.engine.listeners[index];
        if listener.may_warn(now) {
            log::warn!(
                "{}: cannot accept: {error}; raise the open-file limit or lower max_connections",
                listener.title()
            );
        }
    }
}
