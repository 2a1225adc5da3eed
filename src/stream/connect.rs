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

use crate::close::CloseReason;
use crate::connection::{Connection, Phase, after};
use crate::connector::{Attempt, ConnectRetry, Connector, Stage};
use crate::engine::{Engine, Failure, MAX_SLOTS, Message, Target};
use crate::id::{ConnId, NO_INDEX};
use crate::options::{ConnectOptions, Destination, Place, ticks};
use crate::profile::{Dial, Profile};
use crate::sys::{NO_ADDR, Stream};

impl Engine {
    /// Begins a connection. Whatever goes wrong is told by `on_connect_failed`, later.
    pub(crate) fn connect(
        &mut self,
        to: Destination,
        service: u32,
        state: Box<dyn Any>,
        options: &ConnectOptions,
    ) -> ConnId {
        let checked = options.check().and_then(|()| to.check()).and_then(|()| self.check_slots());
        let begun = checked.and_then(|()| match to.place() {
            Place::Addr(addr) if options.reconnect.is_none() => {
                self.begin_straight(*addr, service, options)
            }
            _ => Ok(self.begin_dial(&Arc::new(Dial {
                destination: to.clone(),
                options: options.clone(),
                service,
                failed: AtomicU32::new(0),
                up_at: AtomicU64::new(0),
            }))),
        });
        match begun {
            Ok(id) => {
                self.unplaced.push((id, state));
                self.begin_round(id);
                id
            }
            Err(error) => {
                let error = explain_connect(&to, error);
                self.fail_at_once(service, state, error)
            }
        }
    }

    /// Connects again, after a pause, where a connection was lost.
    pub(crate) fn reconnect(&mut self, dial: &Arc<Dial>, state: Box<dyn Any>) -> ConnId {
        let id = self.begin_dial(dial);
        self.unplaced.push((id, state));
        self.pause(id, dial.count_failure().unwrap_or_default());
        id
    }

    /// Whether a further connection would have a token.
    pub(crate) fn has_slots(&self) -> bool {
        self.connections.len() < MAX_SLOTS
    }

    fn check_slots(&self) -> io::Result<()> {
        if self.has_slots() {
            return Ok(());
        }
        let text = format!("the reactor has {MAX_SLOTS} connections, and can have no more");
        Err(io::Error::other(text))
    }

    fn fail_at_once(&mut self, service: u32, state: Box<dyn Any>, error: io::Error) -> ConnId {
        self.failures.push_back(Failure { service, state, error });
        // An id like any other of a connection that has ended.
        ConnId::new(NO_INDEX, self.generations.draw())
    }

    /// Nearly every connection: one address, one try.
    fn begin_straight(
        &mut self,
        addr: SocketAddr,
        service: u32,
        options: &ConnectOptions,
    ) -> io::Result<ConnId> {
        let stream = self.world.connect(addr, options)?;
        let profile = Rc::new(Profile::new(&options.limits, service));
        let id = self.insert(stream, addr, profile, Phase::Connecting);
        let (now, wait) = (self.clock.tick(), ticks(options.timeout));
        let connection = &mut self.connections[id.index()];
        connection.asks_writable = true;
        if let Err(error) = self.poller.add(&mut connection.stream, Target::token(id), true) {
            self.release(id);
            return Err(error);
        }
        connection.set_connect_wait(now, wait);
        self.file(id);
        Ok(id)
    }

    /// A connection with a connector, which has not begun yet. Its first attempt takes the first
    /// descriptor, so that a lack of them is a failure like any other.
    fn begin_dial(&mut self, dial: &Arc<Dial>) -> ConnId {
        let mut profile = Profile::new(&dial.options.limits, dial.service);
        profile.dial = Some(Arc::clone(dial));
        let peer = match dial.destination.place() {
            Place::Addr(addr) => *addr,
            Place::Name { port, .. } => SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)),
            _ => NO_ADDR,
        };
        profile.is_unix = dial.is_unix();
        let id = self.insert(Stream::Absent, peer, Rc::new(profile), Phase::Connecting);
        self.connections[id.index()].set_connector(Connector::new());
        id
    }

    /// The connector of a connection that is not up yet, with what it goes by.
    pub(super) fn connector(&mut self, id: ConnId) -> Option<(&mut Connector<Stream>, Arc<Dial>)> {
        let connection = self.live_mut(id)?;
        let dial = connection.profile.dial.clone()?;
        Some((connection.connector_mut()?, dial))
    }

    /// A round: one deadline, the lookup, and all addresses. One without a connector has begun.
    fn begin_round(&mut self, id: ConnId) {
        let now = self.clock.tick();
        let Some((connector, dial)) = self.connector(id) else { return };
        connector.begin_round();
        self.connections[id.index()].set_connect_wait(now, ticks(dial.options.timeout));
        match dial.destination.place() {
            Place::Addr(addr) => self.try_addresses(id, &[*addr]),
            Place::Addrs(addrs) => self.try_addresses(id, addrs),
            Place::Name { host, port } => {
                let mailbox = Arc::clone(&self.mailbox);
                let answer = move |result| {
                    // A reactor that is gone waits for nothing.
                    mailbox.post(Message::Resolved(id, result));
                };
                self.world.resolve(host, *port, Box::new(answer));
                self.file(id);
            }
            #[cfg(unix)]
            Place::Unix(addr) => self.try_unix(id, addr, &dial.options),
            // It was checked before it began.
            Place::Unclear(_) => {}
        }
    }

    /// A lookup has been answered.
    pub(crate) fn on_resolved(&mut self, id: ConnId, result: io::Result<Vec<SocketAddr>>) {
        let Some((connector, _)) = self.connector(id) else { return };
        if connector.stage != Stage::Resolving {
            return; // it came too late; for a later round it would be as good
        }
        match result {
            Ok(addrs) => self.try_addresses(id, &addrs),
            Err(error) => {
                connector.note(None, error);
                self.end_round(id);
            }
        }
    }

    fn try_addresses(&mut self, id: ConnId, addrs: &[SocketAddr]) {
        let Some((connector, dial)) = self.connector(id) else { return };
        connector.set_addresses(addrs, dial.options.source);
        self.try_next(id);
    }

    /// Begins with the next address that the system takes; ends the round if nothing is left.
    fn try_next(&mut self, id: ConnId) {
        let now = self.clock.tick();
        loop {
            let Some((connector, dial)) = self.connector(id) else { return };
            connector.next_at = u64::MAX;
            let Some(addr) = connector.untried.pop_front() else {
                if connector.attempts.is_empty() {
                    self.end_round(id);
                }
                return;
            };
            let attempt = self.attempt(id, addr, &dial.options);
            let Some((connector, _)) = self.connector(id) else { return };
            match attempt {
                Ok(attempt) => {
                    connector.attempts.push(attempt);
                    // A port of its own is taken while this one is under way.
                    let waits = dial.options.source.is_some_and(|source| source.port() != 0);
                    if !(connector.untried.is_empty() || waits) {
                        connector.next_at = after(now, ticks(dial.options.attempt_delay));
                    }
                    return self.file(id);
                }
                Err(error) => connector.note(Some(addr), error),
            }
        }
    }

    fn attempt(
        &mut self,
        id: ConnId,
        addr: SocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<Attempt<Stream>> {
        log::debug!("{id}: connecting to {addr}");
        let mut stream = self.world.connect(addr, options)?;
        let slot = self.attempts.vacant_key();
        self.poller.add(&mut stream, Target::attempt_token(slot), true)?;
        self.attempts.insert(id);
        Ok(Attempt { addr, stream, slot })
    }

    /// An event of one of the attempts: whether its connection is up.
    pub(crate) fn look_at_attempts(&mut self, id: ConnId) -> bool {
        let Some((connector, _)) = self.connector(id) else { return false };
        let (mut index, mut failed) = (0, Vec::new());
        let mut winner = None;
        while index < connector.attempts.len() {
            match connector.attempts[index].stream.connected() {
                None => index += 1,
                Some(Err(error)) => failed.push((connector.attempts.swap_remove(index), error)),
                Some(Ok(())) if is_its_own_peer(&connector.attempts[index]) => {
                    let attempt = connector.attempts.swap_remove(index);
                    // Its port is free again at once, for the server that is awaited.
                    let _ = attempt.stream.reset_on_close();
                    failed.push((attempt, own_peer()));
                }
                Some(Ok(())) => {
                    winner = Some(connector.attempts.swap_remove(index));
                    break;
                }
            }
        }
        let has_failed = !failed.is_empty();
        for (attempt, error) in failed {
            self.note_attempt(id, &attempt, error);
        }
        match winner.map(|winner| self.take_up(id, winner)) {
            Some(is_up) => is_up,
            None => {
                if has_failed {
                    self.try_next(id);
                }
                false
            }
        }
    }

    fn note_attempt(&mut self, id: ConnId, attempt: &Attempt<Stream>, error: io::Error) {
        self.attempts.remove(attempt.slot);
        if let Some((connector, _)) = self.connector(id) {
            connector.note(Some(attempt.addr), error);
        }
    }

    /// An attempt is up: it becomes the connection, and the others are given up.
    fn take_up(&mut self, id: ConnId, mut winner: Attempt<Stream>) -> bool {
        // From now on its events are the connection's; what has happened is reported anew.
        if let Err(error) = self.poller.set_writable(&mut winner.stream, Target::token(id), true) {
            self.note_attempt(id, &winner, error);
            self.try_next(id);
            return false;
        }
        self.attempts.remove(winner.slot);
        let (now, Some(connection)) = (self.now, self.connections.get_mut(id.index())) else {
            return false;
        };
        if let Some(dial) = &connection.profile.dial {
            dial.up_at.store(now, Relaxed);
        }
        let connector = connection.take_connector();
        connection.stream = winner.stream;
        connection.peer = winner.addr;
        connection.asks_writable = true;
        for attempt in connector.into_iter().flat_map(|connector| connector.attempts) {
            self.attempts.remove(attempt.slot);
        }
        true
    }

    /// Nothing of a round is left.
    pub(super) fn end_round(&mut self, id: ConnId) {
        let Some((connector, dial)) = self.connector(id) else { return };
        let is_known = matches!(dial.destination.place(), Place::Addr(_)) || dial.is_unix();
        let error = connector.take_error(is_known);
        let is_let_go = self.connections[id.index()].is_let_go;
        let pause = dial.count_failure().filter(|_| !(self.is_stopping() || is_let_go));
        let Some(longest) = pause else {
            return self.doom(id, CloseReason::Io(error));
        };
        let error = explain_dial(&dial, error);
        log::debug!("{id}: {error}; trying again");
        self.stats.connect_retries += 1;
        let pause = self.pause(id, longest);
        let tries = dial.failed.load(Relaxed);
        self.retries.push_back((id, ConnectRetry { tries, error, pause }));
    }

    /// Waits for a random time up to `longest`, and then for a new round. Gives the time.
    fn pause(&mut self, id: ConnId, longest: Duration) -> Duration {
        let ticks = self.world.random() % (ticks(longest) + 1);
        let next_at = after(self.clock.tick(), ticks);
        if let Some(connection) = self.live_mut(id) {
            connection.clear_connect_wait();
            if let Some(connector) = connection.connector_mut() {
                connector.stage = Stage::Pausing;
                connector.next_at = next_at;
            }
            self.file(id);
        }
        Duration::from_millis(ticks)
    }

    /// The pause of a connector is over.
    pub(crate) fn go_on_connecting(&mut self, id: ConnId) {
        match self.connector(id).map(|(connector, _)| connector.stage) {
            Some(Stage::Pausing) => self.begin_round(id),
            #[cfg(unix)]
            Some(Stage::Trying) if self.try_unix_again(id) => {}
            Some(Stage::Trying) => self.try_next(id),
            Some(Stage::Resolving) | None => {}
        }
    }

    /// A connect was not done in time.
    pub(crate) fn time_out_connect(&mut self, id: ConnId) {
        let Some((connector, dial)) = self.connector(id) else {
            return self.doom(id, CloseReason::Io(io::ErrorKind::TimedOut.into()));
        };
        connector.time_out(dial.options.timeout);
        for attempt in std::mem::take(&mut connector.attempts) {
            self.attempts.remove(attempt.slot);
        }
        self.end_round(id);
    }

    /// A connection goes that may be connecting still.
    pub(super) fn drop_attempts(&mut self, connection: &mut Connection<Stream>) {
        for attempt in connection.take_connector().into_iter().flat_map(|it| it.attempts) {
            self.attempts.remove(attempt.slot);
        }
    }
}

fn is_its_own_peer(attempt: &Attempt<Stream>) -> bool {
    attempt.stream.is_its_own_peer(attempt.addr)
}

/// Why a socket that has connected to itself is not up. TCP allows it (RFC 9293, 3.5, a
/// simultaneous open) where the kernel happens to choose the port of the destination as that of
/// this end: no server exists.
pub(crate) fn own_peer() -> io::Error {
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

/// The same for a connection that may have been tried several times.
pub(crate) fn explain_dial(dial: &Dial, source: io::Error) -> io::Error {
    let tries = dial.failed.load(Relaxed);
    io::Error::new(source.kind(), ConnectError { to: dial.destination.clone(), tries, source })
}
