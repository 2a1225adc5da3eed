//! Connections whose handshakes come before the handler: a time in which they hold a slot, count
//! against the caps and have a deadline, and nothing of the handler exists.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::engine::observer::What;
use crate::handler::Peer;
use crate::options::{HandshakeFailure, LayerFactory};
use crate::reactor::callback::Who;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::config::ConnConfig;
use crate::stream::connection::{Connection, Flags, Phase};
use crate::stream::listener::PerSourceLimit;
use crate::sys::Stream;

impl Dispatcher {
    /// Takes a connection in that must begin with a handshake.
    pub(super) fn begin_handshake(&mut self, index: usize, stream: Stream, socket: SocketAddr) {
        let Some(listener) = self.lp.streams.listener(index) else { return };
        let config = Rc::clone(&listener.config);
        let sources = listener.sources.as_ref();
        let is_known = !config.flags.has(Flags::SOURCE_UNKNOWN);
        if is_known && sources.is_some_and(|sources| !sources.admits(socket.ip())) {
            return self.refuse(stream);
        }
        let Some(factory) = config.layers.first() else { return };
        let layer = match factory.layer(socket) {
            Ok(layer) => layer,
            Err(text) => {
                self.refuse(stream);
                let failure = HandshakeFailure::NoLayer(&text);
                return self.count_failure(&config, factory, socket, &failure);
            }
        };
        let admitted =
            self.lp.streams.admit(&mut self.lp.engine, stream, &socket, Rc::clone(&config), false);
        let id = match admitted {
            Ok(mut link) => {
                link.begin_layers(layer);
                link.id
            }
            Err(error) => {
                self.lp.engine.stats.refused += 1;
                return self.warn(index, &error);
            }
        };
        let Some(listener) = self.lp.streams.listener_mut(index) else { return };
        listener.limit.enter();
        if let (Some(sources), true) = (&mut listener.sources, is_known) {
            sources.enter(socket.ip());
        }
        log::trace!("{id}: {socket} on {}: its handshake begins", listener.display_name());
        self.enter_handshake_slot(id);
    }

    /// A connection takes one of the places for handshakes; another may have to give its own up.
    pub(super) fn enter_handshake_slot(&mut self, id: ConnId) {
        let Some(connection) = self.lp.streams.get(id) else { return };
        let (index, source) = (connection.config.listener, connection.handshake_source());
        let (Some(index), Some(source)) = (index, source) else { return };
        let listener = self.lp.streams.listener_mut(index as usize);
        let slots = listener.and_then(|listener| listener.handshakes.as_mut());
        if let Some(victim) = slots.and_then(|slots| slots.enter(source, id)) {
            let Some(link) = self.lp.link(victim) else { return };
            // One that has failed, and waits for its peer's end, was counted then.
            if link.connection.phase() == Phase::Handshake {
                self.count_refused_handshake(victim, &HandshakeFailure::CrowdedOut);
            }
            if let Some(mut link) = self.lp.link(victim) {
                link.abort();
            }
        }
    }

    /// The handshakes of an accepted connection are done: the handler decides. Whether it is open.
    pub(super) fn accept_handshaken(&mut self, id: ConnId) -> bool {
        let Some(link) = self.lp.link(id) else { return false };
        let (config, addr) = (Rc::clone(&link.connection.config), link.connection.peer());
        // Now: who holds the place is written in the layers, which a refusal with words drops.
        self.leave_handshake_slot(id, &config);
        let Some(link) = self.lp.link(id) else { return false };
        let proxied = link.connection.proxied();
        let is_unix = config.is_unix();
        let credentials = if is_unix { link.connection.stream.credentials() } else { None };
        let peer = Peer {
            addr,
            listener: config.listen_addr,
            proxy: proxied.map(|(socket, _)| socket),
            destination: proxied.and_then(|(_, destination)| destination),
            is_unix,
            credentials,
        };
        let (who, handler) = (Who::Connection(id), config.service);
        self.lp.engine.cork.begin(id, 0); // a panic is its own
        let what = || What::Accept { peer: addr };
        let mut is_told = false;
        let state = self.callbacks.enter(&mut self.lp, who, handler, what, |entry, lp| {
            entry.handler.accept(&peer, &mut |words| {
                if let Some(mut link) = lp.link(id) {
                    link.end_refused(words);
                    is_told = true;
                }
            })
        });
        self.lp.streams.uncork(&mut self.lp.engine, id);
        let Some(state) = state.flatten() else {
            if is_told {
                self.lp.engine.stats.refused += 1;
            } else {
                self.refuse_accepted(id);
            }
            return false;
        };
        let Some(link) = self.lp.link(id) else { return false };
        let (connection, now) = (link.connection, link.engine.now());
        connection.state = state;
        connection.flags.clear(Flags::MUST_RESET);
        connection.finish_layers(&mut link.engine.spares);
        connection.open(now);
        connection.replay_input();
        if connection.has_input() {
            connection.note_received(connection.input().len(), now);
        }
        link.engine.stats.accepted += 1;
        link.engine.observers.tell(|observer| observer.on_accepted(id, addr));
        log::debug!("{id}: accepted {addr}");
        self.open(id);
        true
    }

    fn leave_handshake_slot(&mut self, id: ConnId, config: &ConnConfig) {
        let Some(index) = config.listener else { return };
        let source = self.lp.streams.get(id).and_then(|connection| connection.handshake_source());
        let listener = self.lp.streams.listener_mut(index as usize);
        let slots = listener.and_then(|listener| listener.handshakes.as_mut());
        if let (Some(slots), Some(source)) = (slots, source) {
            slots.leave(source, id);
        }
    }

    /// A layer is done and removes itself: the next one follows. Whether the connection goes on.
    pub(super) fn finish_layer(
        &mut self,
        id: ConnId,
        found: Option<(SocketAddr, SocketAddr)>,
    ) -> bool {
        let Some(link) = self.lp.link(id) else { return false };
        let config = Rc::clone(&link.connection.config);
        let socket = link.connection.peer();
        if link.connection.flags.has(Flags::SOURCE_UNKNOWN) {
            let peer = found.map_or(socket, |(client, _)| client);
            link.connection.set_proxied(socket, found.map(|(_, destination)| destination));
            link.connection.set_peer(&peer);
            let sources = self.sources_of(&config);
            if sources.as_ref().is_some_and(|sources| !sources.admits(peer.ip())) {
                self.refuse_accepted(id);
                return false;
            }
            if let Some(sources) = sources {
                sources.enter(peer.ip());
            }
            self.name_source(id, peer);
        }
        let Some(link) = self.lp.link(id) else { return false };
        let place = link.connection.layer_place() + 1;
        let Some(factory) = config.layers.get(place) else {
            link.connection.replace_layer(None);
            return true;
        };
        let peer = link.connection.peer();
        match factory.layer(peer) {
            Ok(layer) => {
                if let Some(mut link) = self.lp.link(id) {
                    link.next_layer(layer);
                }
                true
            }
            Err(text) => {
                self.refuse_handshake(id, &HandshakeFailure::NoLayer(&text));
                false
            }
        }
    }

    /// For whom the peer speaks is known from now on.
    fn name_source(&mut self, id: ConnId, peer: SocketAddr) {
        let Some(link) = self.lp.link(id) else { return };
        link.connection.flags.clear(Flags::SOURCE_UNKNOWN);
        let config = Rc::clone(&link.connection.config);
        self.leave_handshake_slot(id, &config);
        if let Some(link) = self.lp.link(id) {
            link.connection.set_handshake_source(peer.ip());
        }
        self.enter_handshake_slot(id);
    }

    /// The handler or a cap refuses: told by a reset, as without a handshake.
    fn refuse_accepted(&mut self, id: ConnId) {
        self.lp.engine.stats.refused += 1;
        if let Some(mut link) = self.lp.link(id) {
            link.abort();
        }
    }

    /// The handshake of an accepted connection has failed, or may not go on.
    pub(super) fn refuse_handshake(&mut self, id: ConnId, failure: &HandshakeFailure<'_>) {
        self.count_refused_handshake(id, failure);
        if let Some(mut link) = self.lp.link(id) {
            link.end_handshake();
        }
    }

    fn count_refused_handshake(&mut self, id: ConnId, failure: &HandshakeFailure<'_>) {
        let Some(link) = self.lp.link(id) else { return };
        let (config, socket) = (Rc::clone(&link.connection.config), link.connection.peer());
        let place = link.connection.layer_place();
        self.lp.engine.stats.refused += 1;
        if let Some(factory) = config.layers.get(place) {
            self.count_failure(&config, factory, socket, failure);
        }
    }

    /// A layer has failed.
    pub(super) fn fail_layer(&mut self, id: ConnId, error: io::Error) {
        let Some(mut link) = self.lp.link(id) else { return };
        let is_accepting = link.connection.phase() == Phase::Handshake
            && link.connection.config.listener.is_some();
        if is_accepting {
            self.refuse_handshake(id, &HandshakeFailure::Layer(&error));
        } else {
            log::debug!("{id}: {error}");
            link.fail_layer(error);
        }
    }

    /// The end of one that the handler has never known. What was refused has been counted.
    pub(super) fn tear_down_unaccepted(
        &mut self,
        connection: Connection<Stream>,
        id: ConnId,
        reason: CloseReason,
    ) {
        let (config, socket) = (Rc::clone(&connection.config), connection.peer());
        let flags = connection.flags;
        let has_begun = flags.has(Flags::MUST_RESET);
        let is_late = matches!(&reason,
            CloseReason::Io(error) if error.kind() == io::ErrorKind::TimedOut);
        // What a failed layer had to say was sent, and its end stands behind it.
        let is_counted = matches!(reason, CloseReason::Local);
        let is_told = is_counted && flags.has(Flags::CLOSED_BY_HANDLER);
        let is_fin = flags.has(Flags::READ_CLOSED) && matches!(reason, CloseReason::Reset);
        if has_begun || is_late || !(is_told || matches!(reason, CloseReason::Reset)) {
            // A failure means that the socket is broken already.
            let _ = connection.stream.reset_on_close();
        }
        let factory = config.layers.get(connection.layer_place());
        drop(connection);
        let told = if is_fin { &CloseReason::Peer } else { &reason };
        log::debug!("{id}: {socket} {told}, before its handshake was done");
        let failure = match &reason {
            _ if flags.has(Flags::CLOSED_BY_HANDLER) || is_counted => return,
            CloseReason::Panic | CloseReason::Shutdown => {
                self.lp.engine.stats.refused += 1;
                return;
            }
            _ if is_late => HandshakeFailure::Late,
            _ if has_begun => HandshakeFailure::Ended,
            // A health check that only connects.
            _ => return,
        };
        self.lp.engine.stats.refused += 1;
        if let Some(factory) = factory {
            self.count_failure(&config, factory, socket, &failure);
        }
    }

    /// Counts and logs a handshake that has failed. A peer could cause it again and again: one in a
    /// second is a warning.
    fn count_failure(
        &mut self,
        config: &ConnConfig,
        factory: &Arc<dyn LayerFactory>,
        socket: SocketAddr,
        failure: &HandshakeFailure<'_>,
    ) {
        *factory.failures(&mut self.lp.engine.stats) += 1;
        factory.note_failure(failure);
        let Some(index) = config.listener else { return };
        let now = self.lp.engine.now();
        let Some(listener) = self.lp.streams.listener_mut(index as usize) else { return };
        let name = listener.display_name();
        log::debug!("{name}: refused {socket}: {failure}");
        if listener.may_warn(now) {
            let demand = factory.demand();
            log::warn!(
                "{name}: refused {socket}: {failure}; {demand} (one such line a second; all are \
                 logged at debug)"
            );
        }
    }

    /// The count of each client; `None` without a cap, and once the reactor drains, when the
    /// listener is gone.
    fn sources_of(&mut self, config: &ConnConfig) -> Option<&mut PerSourceLimit> {
        self.lp.streams.listener_mut(config.listener? as usize)?.sources.as_mut()
    }
}
