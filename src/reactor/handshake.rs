//! Connections that a balancer begins with a header: a time before `on_accept` in which they hold
//! a slot, count against the caps and have a deadline, and nothing of the handler exists.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::close::CloseReason;
use crate::connection::{Connection, Phase};
use crate::engine::Engine;
use crate::handler::Peer;
use crate::id::ConnId;
use crate::listener::Sources;
use crate::profile::Profile;
use crate::proxy_protocol::{self, Header};
use crate::reactor::dispatch::Dispatcher;
use crate::sys::Stream;

impl Dispatcher {
    /// Takes a connection in that must begin with a header.
    pub(super) fn greet(&mut self, index: usize, stream: Stream, socket: SocketAddr) {
        let profile = Rc::clone(&self.engine.listeners[index].profile);
        let Some(greeting) = &profile.greeting else { return };
        if !greeting.options.trusts(socket.ip()) {
            self.engine.stats.proxy_refused += 1;
            self.refuse(stream);
            return self.tell(&profile, socket, "its source is not trusted");
        }
        let (ticks, listener) = (greeting.ticks, greeting.listener);
        let id = match self.engine.admit(stream, socket, Rc::clone(&profile)) {
            Ok(id) => id,
            Err(error) => {
                self.engine.stats.refused += 1;
                return self.warn(index, &error);
            }
        };
        self.engine.listeners[index].gate.enter();
        let now = self.engine.clock.tick();
        let connection = &mut self.engine.connections[id.index()];
        connection.enter(Phase::Greeting);
        connection.set_connect_wait(now, ticks);
        self.engine.file(id);
        log::trace!("{id}: {listener} waits for the header of {socket}");
    }

    /// Bytes of one that the handler does not know yet.
    pub(super) fn hear(&mut self, id: ConnId, count: usize) {
        let Self { engine, buffer, .. } = self;
        let Some(connection) = engine.live_mut(id) else { return };
        if connection.phase != Phase::Greeting {
            return;
        }
        let connection = &mut engine.connections[id.index()];
        connection.keep_input(&buffer[..count], &mut engine.spares);
        // Whoever breaks off in the middle has no whole stream to end.
        connection.must_reset = true;
        match proxy_protocol::parse(connection.input.as_slice()) {
            Ok(None) => {}
            Ok(Some(header)) => self.accept_greeted(id, header),
            Err(text) => self.refuse_greeted(id, text),
        }
    }

    /// The header is complete: the handler decides.
    fn accept_greeted(&mut self, id: ConnId, header: Header) {
        let Self { engine, services, .. } = self;
        let connection = &mut engine.connections[id.index()];
        let profile = Rc::clone(&connection.profile);
        let Some(greeting) = &profile.greeting else { return };
        let mut peer = Peer {
            addr: connection.peer,
            listener: greeting.listener,
            proxy: Some(connection.peer),
            destination: None,
            is_unix: false,
            credentials: None,
        };
        if let Some((client, destination)) = header.addresses {
            (peer.addr, peer.destination) = (client, Some(destination));
        }
        let source = peer.addr.ip();
        if sources_of(engine, &profile).is_some_and(|sources| !sources.admits(source)) {
            return self.turn_away(id);
        }
        let Some(service) = services.get_mut(profile.service as usize) else { return };
        engine.cork(id, 0); // a panic is its own
        let state = service.accept(&peer);
        engine.uncork(id);
        let Some(state) = state else { return self.turn_away(id) };
        if let Some(sources) = sources_of(engine, &profile) {
            sources.enter(source);
        }
        let now = engine.now;
        let connection = &mut engine.connections[id.index()];
        (connection.state, connection.peer) = (state, peer.addr);
        connection.must_reset = false;
        connection.input.consume(header.bytes, &mut engine.spares);
        connection.open(now);
        let rest = connection.input.len();
        connection.must_redeliver = rest > 0;
        if rest > 0 {
            connection.note_received(rest, now);
        }
        engine.stats.accepted += 1;
        log::debug!("{id}: accepted {} through {}", peer.addr, peer.proxy.unwrap_or(peer.addr));
        self.open(id);
        if let Some(connection) = self.engine.live_mut(id) {
            // A reset lets nobody wait, not even who paused in `on_open`.
            connection.must_redeliver |= connection.is_broken && !connection.input.is_empty();
        }
        self.redeliver(id);
    }

    /// The handler or a cap refuses: told by a reset, as without a balancer.
    fn turn_away(&mut self, id: ConnId) {
        self.engine.stats.refused += 1;
        self.engine.abort(id);
    }

    /// The header is none.
    fn refuse_greeted(&mut self, id: ConnId, text: &str) {
        self.engine.stats.refused += 1;
        self.engine.stats.proxy_refused += 1;
        let Some(connection) = self.engine.live(id) else { return };
        let (profile, socket) = (Rc::clone(&connection.profile), connection.peer);
        self.engine.abort(id);
        self.tell(&profile, socket, text);
    }

    /// The end of one that the handler has never known. What was refused has been counted.
    pub(super) fn bury_unaccepted(
        &mut self,
        id: ConnId,
        connection: Connection<Stream>,
        reason: CloseReason,
    ) {
        let (profile, socket) = (Rc::clone(&connection.profile), connection.peer);
        let has_begun = connection.must_reset;
        let is_late = matches!(&reason,
            CloseReason::Io(error) if error.kind() == io::ErrorKind::TimedOut);
        let is_counted = matches!(reason, CloseReason::Local);
        let is_fin = connection.is_ended && matches!(reason, CloseReason::Reset);
        if has_begun || is_late || !matches!(reason, CloseReason::Reset) {
            // A failure means that the socket is broken already.
            let _ = connection.stream.reset_on_close();
        }
        drop(connection);
        let told = if is_fin { &CloseReason::Peer } else { &reason };
        log::debug!("{id}: {socket} {told}, before its header was complete");
        let text = match reason {
            CloseReason::Panic | CloseReason::Shutdown => {
                self.engine.stats.refused += 1;
                return;
            }
            _ if is_counted => return,
            _ if is_late => "its header is late",
            _ if has_begun => "it ended within the header",
            // A health check that only connects.
            _ => return,
        };
        self.engine.stats.refused += 1;
        self.engine.stats.proxy_refused += 1;
        self.tell(&profile, socket, text);
    }

    /// A peer could cause it again and again: one in a second is a warning.
    fn tell(&mut self, profile: &Profile, socket: SocketAddr, text: &str) {
        let (Some(greeting), Some(index)) = (&profile.greeting, profile.listener) else { return };
        let (engine, listener) = (&mut self.engine, greeting.listener);
        log::debug!("{listener}: refused {socket}: {text}");
        let now = engine.now;
        if engine.listeners.get_mut(index as usize).is_some_and(|found| found.may_warn(now)) {
            log::warn!(
                "{listener}: refused {socket}: {text}; the listener wants the PROXY protocol from \
                 trusted networks (one such line a second; all are logged at debug)"
            );
        }
    }
}

/// The count of each client; `None` without a cap, and once the reactor drains, when the listener
/// is gone.
fn sources_of<'a>(engine: &'a mut Engine, profile: &Profile) -> Option<&'a mut Sources> {
    engine.listeners.get_mut(profile.listener? as usize)?.sources.as_mut()
}
