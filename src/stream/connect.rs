//! Connections go out: to one address in one step, or by names, several addresses and rounds.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::close::CloseReason;
use crate::base::id::{ConnId, NO_INDEX};
use crate::base::tick::{NEVER, after, ticks};
use crate::engine::{Engine, MAX_SLOTS, Target};
use crate::options::{ConnectOptions, Destination, Place};
use crate::stream::config::{ConnConfig, Dial};
use crate::stream::connection::{Flags, Phase};
use crate::stream::happy_eyeballs::{Attempt, ConnectRetry, Connector, Stage};
use crate::stream::{ConnectFailure, Link, Streams};
use crate::sys::{NO_ADDR, Stream};

/// Looks a name up and has the answer come back to a connection.
pub(crate) type Resolve<'a> = &'a dyn Fn(&Engine, ConnId, &str, u16);

impl Streams {
    /// Begins a connection. Whatever goes wrong is told by `on_connect_failed`, later.
    pub(crate) fn connect(
        &mut self,
        engine: &mut Engine,
        to: Destination,
        service: u32,
        state: Box<dyn Any>,
        options: &ConnectOptions,
        resolve: Resolve<'_>,
    ) -> ConnId {
        let checked = options
            .check()
            .and_then(|()| to.check())
            .and_then(|()| options.check_destination(&to))
            .and_then(|()| self.check_slots());
        let begun = checked.and_then(|()| match to.place() {
            Place::Addr(addr) if options.reconnect.is_none() => {
                self.begin_direct(engine, *addr, service, options)
            }
            _ => {
                let dial = Arc::new(Dial {
                    destination: to.clone(),
                    options: options.clone(),
                    service,
                    state_type: state.as_ref().type_id(),
                    failed: AtomicU32::new(0),
                    forgotten: AtomicU32::new(0),
                    up_at: AtomicU64::new(0),
                });
                let mut link = self.begin_dial(engine, &dial);
                link.begin_round(resolve);
                Ok(link.id)
            }
        });
        match begun {
            Ok(id) => {
                self.keep_state(id, state);
                id
            }
            Err(error) => {
                let error = explain_connect(&to, error);
                self.push_failure(ConnectFailure { service, state, error });
                // An id like any other of a connection that has ended.
                ConnId::new(NO_INDEX, engine.io.draw_generation())
            }
        }
    }

    /// Connects again, after a pause, where a connection was lost.
    pub(crate) fn reconnect(
        &mut self,
        engine: &mut Engine,
        dial: &Arc<Dial>,
        state: Box<dyn Any>,
    ) -> ConnId {
        let mut link = self.begin_dial(engine, dial);
        link.pause_connecting(dial.count_failure().unwrap_or_default());
        let id = link.id;
        self.keep_state(id, state);
        id
    }

    fn check_slots(&self) -> io::Result<()> {
        if self.has_slots() {
            return Ok(());
        }
        let text = format!("the reactor has {MAX_SLOTS} connections, and can have no more");
        Err(io::Error::other(text))
    }

    /// Nearly every connection: one address, one try.
    fn begin_direct(
        &mut self,
        engine: &mut Engine,
        addr: SocketAddr,
        service: u32,
        options: &ConnectOptions,
    ) -> io::Result<ConnId> {
        let mut stream = engine.io.world().connect(addr, options)?;
        let id = self.next_id(engine);
        engine.io.poller_mut().add(&mut stream, Target::token(id), true)?;
        let mut config = ConnConfig::new(&options.limits, service);
        config.layers = options.layers();
        config.keepalive = options.tcp.keepalive;
        engine.timers.note_limit(config.longest_limit());
        let config = Rc::new(config);
        let mut link = self.insert(engine, id, stream, &addr, config, Phase::Connecting);
        link.note_watched();
        let now = link.engine.timers.clock_tick();
        link.connection.set_connect_wait(now, ticks(options.timeout));
        link.arm();
        Ok(id)
    }

    /// A connection with a connector, which has not begun yet. Its first attempt takes the first
    /// descriptor, so that a lack of them is a failure like any other.
    fn begin_dial<'a>(&'a mut self, engine: &'a mut Engine, dial: &Arc<Dial>) -> Link<'a> {
        let mut config = ConnConfig::new(&dial.options.limits, dial.service);
        config.dial = Some(Arc::clone(dial));
        config.layers = dial.options.layers();
        let peer = match dial.destination.place() {
            Place::Addr(addr) => *addr,
            Place::Name { port, .. } => SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)),
            _ => NO_ADDR,
        };
        config.flags.put(Flags::UNIX, dial.is_unix());
        config.keepalive = dial.options.tcp.keepalive.filter(|_| !dial.is_unix());
        engine.timers.note_limit(config.longest_limit());
        let id = self.next_id(engine);
        let config = Rc::new(config);
        let link = self.insert(engine, id, Stream::Absent, &peer, config, Phase::Connecting);
        link.connection.set_connector(Connector::new());
        link
    }
}

impl Link<'_> {
    /// The connector of a connection that is not up yet, with what it goes by.
    fn connector(&mut self) -> Option<(&mut Connector<Stream>, Arc<Dial>)> {
        let dial = self.connection.config.dial.clone()?;
        Some((self.connection.connector_mut()?, dial))
    }

    /// A round: one deadline, the lookup, and all addresses.
    fn begin_round(&mut self, resolve: Resolve<'_>) {
        let now = self.engine.timers.clock_tick();
        let Some((connector, dial)) = self.connector() else { return };
        connector.begin_round();
        self.connection.set_connect_wait(now, ticks(dial.options.timeout));
        match dial.destination.place() {
            Place::Addr(addr) => self.try_addresses(&[*addr]),
            Place::Addrs(addrs) => self.try_addresses(addrs),
            Place::Name { host, port } => {
                resolve(self.engine, self.id, host, *port);
                self.arm();
            }
            Place::Unix(addr) => self.try_unix(addr, &dial.options),
            // It was checked before it began.
            Place::Unclear(_) => {}
        }
    }

    /// A lookup has been answered.
    pub(crate) fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>) {
        let Some((connector, _)) = self.connector() else { return };
        if connector.stage != Stage::Resolving {
            return; // it came too late; for a later round it would be as good
        }
        match result {
            Ok(addrs) => self.try_addresses(&addrs),
            Err(error) => {
                connector.note(None, error);
                self.end_round();
            }
        }
    }

    fn try_addresses(&mut self, addrs: &[SocketAddr]) {
        let Some((connector, dial)) = self.connector() else { return };
        connector.set_addresses(addrs, dial.options.source);
        self.try_next();
    }

    /// Begins with the next address that the system takes; ends the round if nothing is left.
    fn try_next(&mut self) {
        let now = self.engine.timers.clock_tick();
        while let Some((connector, dial)) = self.connector() {
            connector.next_at = NEVER;
            let Some(addr) = connector.untried.pop_front() else {
                if connector.attempts.is_empty() {
                    self.end_round();
                }
                return;
            };
            let attempt = dial.options.check_addr(addr);
            let attempt = attempt.and_then(|()| self.attempt(addr, &dial.options));
            let Some(connector) = self.connection.connector_mut() else { return };
            match attempt {
                Ok(attempt) => {
                    connector.attempts.push(attempt);
                    // A port of its own is taken while this one is under way.
                    let waits = dial.options.source.is_some_and(|source| source.port() != 0);
                    if !(connector.untried.is_empty() || waits) {
                        connector.next_at = after(now, ticks(dial.options.attempt_delay));
                    }
                    return self.arm();
                }
                Err(error) => connector.note(Some(addr), error),
            }
        }
    }

    fn attempt(
        &mut self,
        addr: SocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<Attempt<Stream>> {
        log::debug!("{}: connecting to {addr}", self.id);
        let mut stream = self.engine.io.world().connect(addr, options)?;
        let slot = self.engine.io.add_attempt(self.id, &mut stream)?;
        Ok(Attempt { addr, stream, slot })
    }

    /// An event of one of the attempts: whether the connection is up.
    pub(crate) fn look_at_attempts(&mut self) -> bool {
        let Some(connector) = self.connection.connector_mut() else { return false };
        let (mut index, mut failed, mut winner) = (0, Vec::new(), None);
        while let Some(attempt) = connector.attempts.get(index) {
            match attempt.stream.connected() {
                None => index += 1,
                Some(Err(error)) => failed.push((connector.attempts.swap_remove(index), error)),
                Some(Ok(())) if attempt.stream.is_its_own_peer(attempt.addr) => {
                    // Its port is free again at once, for the server that is awaited.
                    let _ = attempt.stream.reset_on_close();
                    failed.push((connector.attempts.swap_remove(index), own_peer()));
                }
                Some(Ok(())) => {
                    winner = Some(connector.attempts.swap_remove(index));
                    break;
                }
            }
        }
        let has_failed = !failed.is_empty();
        for (attempt, error) in failed {
            self.note_attempt(&attempt, error);
        }
        if let Some(winner) = winner {
            return self.take_up(winner);
        }
        if has_failed {
            self.try_next();
        }
        false
    }

    fn note_attempt(&mut self, attempt: &Attempt<Stream>, error: io::Error) {
        self.engine.io.remove_attempt(attempt.slot);
        if let Some(connector) = self.connection.connector_mut() {
            connector.note(Some(attempt.addr), error);
        }
    }

    /// An attempt is up: it becomes the connection, and the others are given up.
    fn take_up(&mut self, mut winner: Attempt<Stream>) -> bool {
        // From now on its events are the connection's; what has happened is reported anew.
        let (token, poller) = (Target::token(self.id), self.engine.io.poller_mut());
        if let Err(error) = poller.set_writable(&mut winner.stream, token, true) {
            self.note_attempt(&winner, error);
            self.try_next();
            return false;
        }
        self.engine.io.remove_attempt(winner.slot);
        if let Some(dial) = &self.connection.config.dial {
            dial.up_at.store(self.engine.now(), Relaxed);
        }
        let connector = self.connection.take_connector();
        self.connection.stream = winner.stream;
        self.connection.set_peer(&winner.addr);
        self.note_watched();
        for attempt in connector.into_iter().flat_map(|connector| connector.attempts) {
            self.engine.io.remove_attempt(attempt.slot);
        }
        true
    }

    /// Nothing of a round is left.
    pub(super) fn end_round(&mut self) {
        let is_closed_by_handler = self.connection.flags.has(Flags::CLOSED_BY_HANDLER);
        let ends = self.engine.is_stopping() || is_closed_by_handler;
        let Some((connector, dial)) = self.connector() else { return };
        let is_known = matches!(dial.destination.place(), Place::Addr(_)) || dial.is_unix();
        let error = connector.take_error(is_known);
        let Some(max_delay) = dial.count_failure().filter(|_| !ends) else {
            return self.mark_closed(CloseReason::Io(error));
        };
        let error = explain_dial(&dial, error);
        log::debug!("{}: {error}; trying again", self.id);
        self.engine.stats.connect_retries += 1;
        let pause = self.pause_connecting(max_delay);
        let tries = dial.failed.load(Relaxed);
        if let Some(connector) = self.connection.connector_mut() {
            connector.retries.push_back(ConnectRetry { tries, error, pause });
            self.engine.end_of_turn.push_retry(self.id);
        }
    }

    /// Waits for a random time up to `max_delay`, and then for a new round. Returns the time.
    fn pause_connecting(&mut self, max_delay: Duration) -> Duration {
        let ticks = self.engine.io.world().random() % (ticks(max_delay) + 1);
        let next_at = after(self.engine.timers.clock_tick(), ticks);
        self.connection.clear_wait();
        if let Some(connector) = self.connection.connector_mut() {
            connector.stage = Stage::Pausing;
            connector.next_at = next_at;
        }
        self.arm();
        Duration::from_millis(ticks)
    }

    /// The pause of a connector is over.
    pub(crate) fn continue_connecting(&mut self, resolve: Resolve<'_>) {
        let Some((connector, dial)) = self.connector() else { return };
        match (connector.stage, dial.destination.place()) {
            (Stage::Pausing, _) => self.begin_round(resolve),
            (Stage::Trying, Place::Unix(addr)) => self.try_unix(addr, &dial.options),
            (Stage::Trying, _) => self.try_next(),
            (Stage::Resolving, _) => {}
        }
    }

    /// A connect was not done in time.
    pub(crate) fn time_out_connect(&mut self) {
        if self.is_connecting_through_layers() {
            let text = "the handshake was not done in time";
            return self.fail_handshake(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let Some((connector, dial)) = self.connector() else {
            return self.mark_closed(CloseReason::Io(io::ErrorKind::TimedOut.into()));
        };
        connector.time_out(dial.options.timeout);
        for attempt in std::mem::take(&mut connector.attempts) {
            self.engine.io.remove_attempt(attempt.slot);
        }
        self.end_round();
    }

    /// A connection to one address has an event: whether it is up now.
    pub(crate) fn look_at_connect(&mut self) -> bool {
        if self.connection.connector().is_some() {
            return false; // its attempts have events of their own
        }
        match self.connection.stream.connected() {
            None => {}
            Some(Err(error)) => self.mark_closed(CloseReason::Io(error)),
            Some(Ok(())) if self.connection.stream.is_its_own_peer(self.connection.peer()) => {
                self.mark_closed_reset(CloseReason::Io(own_peer()));
            }
            Some(Ok(())) => return true,
        }
        false
    }

    /// An outgoing connection is up.
    pub(crate) fn come_up(&mut self) {
        self.connection.open(self.engine.now());
        self.engine.stats.connected += 1;
        log::debug!("{}: connected to {}", self.id, self.connection.peer());
        let has_output = self.connection.has_output();
        self.ask_writable(has_output);
        if has_output || self.connection.flags.has(Flags::WRITE_SHUT) {
            self.queue_flush();
        }
        if self.connection.config.keepalive.is_some() {
            self.engine.timers.defer(self.id);
        }
    }
}

/// Why a socket that has connected to itself is not up. TCP allows it (RFC 9293, 3.5, a
/// simultaneous open) where the kernel happens to choose the port of the destination as that of
/// this end: no server exists.
fn own_peer() -> io::Error {
    let text = "no server listens there: the socket was connected to itself";
    io::Error::new(io::ErrorKind::ConnectionRefused, text)
}

/// What a failed connect is told: where to, what happened, and how often.
#[derive(Debug)]
struct ConnectError {
    to: Destination,
    tries: u32,
    source: io::Error,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.to, self.source)?;
        if self.tries > 1 {
            write!(f, ", at try {} in a row", self.tries)?;
        }
        Ok(())
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Adds the destination to an error; its source still has the system's code.
pub(crate) fn explain_connect(to: &Destination, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), ConnectError { to: to.clone(), tries: 1, source })
}

/// Adds the destination to an error of a connection that may have been tried several times.
pub(crate) fn explain_dial(dial: &Dial, source: io::Error) -> io::Error {
    let tries = dial.failed.load(Relaxed);
    io::Error::new(source.kind(), ConnectError { to: dial.destination.clone(), tries, source })
}
