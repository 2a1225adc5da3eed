//! Connections that a balancer begins with a header: a time before `on_accept` in which they hold
//! a slot, count against the caps and have a deadline, and nothing of the handler exists.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::base::proxy_protocol::{self, Header};
use crate::engine::observer::What;
use crate::handler::Peer;
use crate::reactor::callback::Who;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::config::ConnConfig;
use crate::stream::connection::{Connection, Flags, Phase};
use crate::stream::listener::PerSourceLimit;
use crate::sys::Stream;

impl Dispatcher {
    /// Takes a connection in that must begin with a header.
    pub(super) fn begin_handshake(&mut self, index: usize, stream: Stream, socket: SocketAddr) {
        let Some(listener) = self.lp.streams.listener(index) else { return };
        let config = Rc::clone(&listener.config);
        let Some(handshake) = &config.handshake else { return };
        if !handshake.options.trusts(socket.ip()) {
            self.lp.engine.stats.proxy_refused += 1;
            self.refuse(stream);
            return self.warn_refused(&config, socket, "its source is not trusted");
        }
        let admitted =
            self.lp.streams.admit(&mut self.lp.engine, stream, socket, Rc::clone(&config));
        match admitted {
            Ok(mut link) => {
                link.connection.enter(Phase::Handshake);
                let now = link.engine.timers.clock_tick();
                link.connection.set_connect_wait(now, handshake.ticks);
                link.arm();
                log::trace!("{}: {} waits for the header of {socket}", link.id, handshake.listener);
            }
            Err(error) => {
                self.lp.engine.stats.refused += 1;
                return self.warn(index, &error);
            }
        }
        if let Some(listener) = self.lp.streams.listener_mut(index) {
            listener.limit.enter();
        }
    }

    /// Bytes of one that the handler does not know yet.
    pub(super) fn on_header_bytes(&mut self, id: ConnId, count: usize) {
        let Some(link) = self.lp.link(id) else { return };
        if !matches!(link.connection.phase(), Phase::Handshake) {
            return;
        }
        link.connection.keep_input(&self.buffer[..count], &mut link.engine.spares);
        // A client that breaks off in the middle has no whole stream to end.
        link.connection.flags.set(Flags::MUST_RESET);
        match proxy_protocol::parse(link.connection.input()) {
            Ok(None) => {}
            Ok(Some(header)) => self.on_header(id, header),
            Err(text) => self.refuse_header(id, text),
        }
    }

    /// The header is complete: the handler decides.
    fn on_header(&mut self, id: ConnId, header: Header) {
        let Some(link) = self.lp.link(id) else { return };
        let (config, socket) = (Rc::clone(&link.connection.config), link.connection.peer);
        let Some(handshake) = &config.handshake else { return };
        let mut peer = Peer {
            addr: socket,
            listener: handshake.listener,
            proxy: Some(socket),
            destination: None,
            is_unix: false,
            credentials: None,
        };
        if let Some((client, destination)) = header.addresses {
            (peer.addr, peer.destination) = (client, Some(destination));
        }
        let source = peer.addr.ip();
        let sources = self.sources_of(&config);
        if sources.is_some_and(|sources| !sources.admits(source)) {
            return self.refuse_accepted(id);
        }
        let (who, handler) = (Who::Connection(id), config.service);
        self.lp.engine.cork.begin(id, 0); // a panic is its own
        let what = What::Accept { peer: peer.addr };
        let state =
            self.callbacks.enter(&mut self.lp, who, handler, what, |it, _| it.accept(&peer));
        self.lp.streams.uncork(&mut self.lp.engine, id);
        let Some(state) = state.flatten() else { return self.refuse_accepted(id) };
        if let Some(sources) = self.sources_of(&config) {
            sources.enter(source);
        }
        let Some(link) = self.lp.link(id) else { return };
        let (connection, now) = (link.connection, link.engine.now());
        (connection.state, connection.peer) = (state, peer.addr);
        connection.flags.clear(Flags::MUST_RESET);
        connection.consume_input(header.bytes, &mut link.engine.spares);
        connection.open(now);
        connection.replay_input();
        if connection.has_input() {
            connection.note_received(connection.input().len(), now);
        }
        link.engine.stats.accepted += 1;
        link.engine.observers.tell(|observer| observer.on_accepted(id, peer.addr));
        log::debug!("{id}: accepted {} through {socket}", peer.addr);
        self.open(id);
        if let Some(link) = self.lp.link(id) {
            // After a reset nothing is held back, not even if `on_open` paused reading.
            if link.connection.flags.has(Flags::ERROR) {
                link.connection.replay_input();
            }
        }
        self.replay(id);
    }

    /// The handler or a cap refuses: told by a reset, as without a balancer.
    fn refuse_accepted(&mut self, id: ConnId) {
        self.lp.engine.stats.refused += 1;
        if let Some(mut link) = self.lp.link(id) {
            link.abort();
        }
    }

    /// The header is none.
    fn refuse_header(&mut self, id: ConnId, text: &str) {
        self.lp.engine.stats.proxy_refused += 1;
        let Some(link) = self.lp.link(id) else { return };
        let (config, socket) = (Rc::clone(&link.connection.config), link.connection.peer);
        self.refuse_accepted(id);
        self.warn_refused(&config, socket, text);
    }

    /// The end of one that the handler has never known. What was refused has been counted.
    pub(super) fn tear_down_unaccepted(
        &mut self,
        id: ConnId,
        connection: Connection<Stream>,
        reason: CloseReason,
    ) {
        let (config, socket) = (Rc::clone(&connection.config), connection.peer);
        let has_begun = connection.flags.has(Flags::MUST_RESET);
        let is_late = matches!(&reason,
            CloseReason::Io(error) if error.kind() == io::ErrorKind::TimedOut);
        let is_counted = matches!(reason, CloseReason::Local);
        let is_end = connection.flags.has(Flags::READ_CLOSED);
        let is_fin = is_end && matches!(reason, CloseReason::Reset);
        if has_begun || is_late || !matches!(reason, CloseReason::Reset) {
            // A failure means that the socket is broken already.
            let _ = connection.stream.reset_on_close();
        }
        drop(connection);
        let told = if is_fin { &CloseReason::Peer } else { &reason };
        log::debug!("{id}: {socket} {told}, before its header was complete");
        let text = match reason {
            CloseReason::Panic | CloseReason::Shutdown => {
                self.lp.engine.stats.refused += 1;
                return;
            }
            _ if is_counted => return,
            _ if is_late => "its header is late",
            _ if has_begun => "it ended within the header",
            // A health check that only connects.
            _ => return,
        };
        self.lp.engine.stats.refused += 1;
        self.lp.engine.stats.proxy_refused += 1;
        self.warn_refused(&config, socket, text);
    }

    /// A peer could cause it again and again: one in a second is a warning.
    fn warn_refused(&mut self, config: &ConnConfig, socket: SocketAddr, text: &str) {
        let (Some(handshake), Some(index)) = (&config.handshake, config.listener) else { return };
        let listener = handshake.listener;
        log::debug!("{listener}: refused {socket}: {text}");
        let now = self.lp.engine.now();
        let found = self.lp.streams.listener_mut(index as usize);
        if found.is_some_and(|found| found.may_warn(now)) {
            log::warn!(
                "{listener}: refused {socket}: {text}; the listener wants the PROXY protocol from \
                 trusted networks (one such line a second; all are logged at debug)"
            );
        }
    }

    /// The count of each client; `None` without a cap, and once the reactor drains, when the
    /// listener is gone.
    fn sources_of(&mut self, config: &ConnConfig) -> Option<&mut PerSourceLimit> {
        self.lp.streams.listener_mut(config.listener? as usize)?.sources.as_mut()
    }
}
