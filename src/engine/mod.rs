//! What a turn works on and callbacks may touch: the slab, the wheel, the poll and the queues.
//!
//! It runs no user code. Whatever a callback asks for is done here at once as far as it concerns
//! the kernel, and noted for the reactor as far as it concerns other callbacks.

#[path = "../datagram/send.rs"]
mod datagrams;
#[path = "../stream/connect.rs"]
mod dial;
#[path = "../stream/send_file.rs"]
mod files;
#[path = "../handler/receiver.rs"]
mod inlet;
#[path = "../stream/listen.rs"]
mod link;
#[path = "../stream/write.rs"]
mod output;
#[path = "late_turns.rs"]
mod overruns;
#[path = "../stream/timers.rs"]
mod timing;
#[path = "../stream/unix.rs"]
mod unix;
#[cfg(unix)]
#[path = "../datagram/unix.rs"]
mod unix_datagrams;

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::buffer::Spares;
use crate::close::CloseReason;
use crate::connection::{Connection, Phase};
use crate::connector::ConnectRetry;
use crate::datagram::Datagrams;
#[cfg(target_pointer_width = "64")]
use crate::id::INDEX_BITS;
use crate::id::{ConnId, Generations, SocketId};
use crate::listener::{Gate, Handed, Listener, Load, Ticket};
use crate::mailbox::Mailbox;
use crate::options::{FILE_RESERVE, ReactorOptions};
use crate::profile::Profile;
use crate::stats::Stats;
use crate::sys::{Clock, Poller, Spare, Stream, World};
use crate::wheel::Wheel;

pub use datagrams::SendStatus;
pub(crate) use dial::{explain_connect, explain_dial, own_peer};
pub(crate) use inlet::{Delivery, Inlet, Rest};
pub(crate) use output::Cork;
pub use output::Written;
pub(crate) use overruns::Overruns;

/// A closure to run on the loop's thread with one handler.
pub(crate) type Task = Box<dyn FnOnce(&mut dyn Any, &mut Engine)>;

/// The same, posted from another thread.
pub(crate) type RemoteTask = Box<dyn FnOnce(&mut dyn Any, &mut Engine) + Send>;

/// A look at the loop, for another thread.
pub(crate) type Look = Box<dyn FnOnce(&mut Engine) + Send>;

/// What other threads may ask for.
pub(crate) enum Message {
    /// Write to a connection.
    Write(ConnId, Box<[u8]>),
    /// Close a connection.
    Close(ConnId),
    /// A name has been looked up for a connection.
    Resolved(ConnId, io::Result<Vec<SocketAddr>>),
    /// Run a closure with the handler at this place.
    Run(u32, RemoteTask),
    /// The channel of this index has messages, or its end.
    Deliver(u32),
    /// Stop at once, or after draining for so long.
    Stop(Stop),
    /// Serve a connection that another reactor has accepted.
    HandOver(Box<Handed>),
    /// Look at what there is.
    Look(Look),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write(..) => "Write",
            Self::Close(_) => "Close",
            Self::Resolved(..) => "Resolved",
            Self::Run(..) => "Run",
            Self::Deliver(_) => "Deliver",
            Self::Stop(_) => "Stop",
            Self::HandOver(_) => "HandOver",
            Self::Look(_) => "Look",
        })
    }
}

/// How the reactor was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At once.
    Now,
    /// Once every connection has ended, or after so long.
    Drain(Duration),
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    /// No stop was asked for.
    On,
    /// A stop was asked for and not begun.
    Asked(Stop),
    /// The listeners are closed and connections end; a timer cuts the rest.
    Draining,
    /// It is over.
    Stopped,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A connection must be looked at: silence, a deadline.
    Connection(ConnId),
    /// A connection's timer.
    Timer(ConnId),
    /// A handler's timer.
    Service(u32),
    /// A listener that failed to accept tries again.
    Accept(u32),
    /// A datagram socket's timer.
    Socket(SocketId),
    /// A datagram socket that failed to receive tries again.
    Receive(SocketId),
    /// Datagrams that wait for a receiver of a Unix socket, by their place, are tried again.
    #[cfg(unix)]
    Resend(SocketId, u32),
    /// A session of a datagram socket, by its place, may have fallen silent.
    Session(SocketId, u32),
    /// The nursery is emptied.
    Nursery,
    /// The end of draining.
    Drained,
}

/// What a handler is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Connections.
    Connections,
    /// Datagrams of UDP.
    Datagrams,
    /// Datagrams of Unix sockets.
    #[cfg(unix)]
    UnixDatagrams,
}

impl Role {
    /// What such handlers are of, and how one is registered.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Connections => ("connections", "register"),
            Self::Datagrams => ("UDP datagrams", "register_datagrams or register_sessions"),
            #[cfg(unix)]
            Self::UnixDatagrams => ("Unix datagrams", "register_unix_datagrams"),
        }
    }
}

/// Who is on the ready queue beside connections, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// A listener.
    Listener(u32),
    /// A datagram socket.
    Socket(u32),
}

/// An outgoing connection that failed before it had a socket.
pub(crate) struct Failure {
    /// The handler's place.
    pub(crate) service: u32,
    /// What `connect` was given.
    pub(crate) state: Box<dyn Any>,
    /// Why.
    pub(crate) error: io::Error,
}

/// Everything of the reactor but the handlers and what only the turn needs.
pub(crate) struct Engine {
    /// Where it lives.
    pub(crate) world: World,
    /// Tells what is ready.
    pub(crate) poller: Poller,
    /// Asked once a turn.
    pub(crate) clock: Clock,
    /// The turn's tick of 1 ms.
    pub(crate) now: u64,
    /// All connections that hold a slot.
    pub(crate) connections: Slab<Connection<Stream>>,
    /// Deals out their generations.
    pub(crate) generations: Generations,
    /// Addresses that are being connected to beside others, by whose connection they may become.
    pub(crate) attempts: Slab<ConnId>,
    /// All listeners.
    pub(crate) listeners: Slab<Listener>,
    /// All datagram sockets.
    pub(crate) sockets: Slab<Datagrams>,
    /// Slots of those that have gathered something in this turn; some have sent it since.
    pub(crate) gathering: Vec<u32>,
    /// What each handler is called for, by its place in the reactor, and its type: a key of
    /// another reactor may be of another one.
    pub(crate) handlers: Vec<(Role, TypeId)>,
    /// The cap on connections.
    pub(crate) gate: Gate,
    /// All timers.
    pub(crate) wheel: Wheel<Due>,
    /// No timer is due before this tick, except user timers that were set in this turn, which are
    /// due after it.
    pub(crate) next_due: u64,
    /// Who stopped before the kernel was done. A turn with any polls with timeout zero.
    pub(crate) ready: VecDeque<ConnId>,
    /// Listeners and datagram sockets that stopped before theirs was empty, or that have ended.
    pub(crate) ready_others: VecDeque<Queued>,
    /// Whether a listener waits for room.
    pub(crate) waiting_listeners: bool,
    /// Who wants a flush, or the next step of a close, at the end of the turn.
    pub(crate) dirty: VecDeque<ConnId>,
    /// Who has ended and is taken down at the end of the turn, in order.
    pub(crate) dead: VecDeque<(ConnId, CloseReason)>,
    /// New connections that have idle limits and no entry in the wheel yet. Most short-lived ones
    /// end before they get one.
    pub(crate) nursery: Vec<ConnId>,
    /// Whose bytes may have moved in this turn, beside those that the poll reported.
    pub(crate) touched: Vec<ConnId>,
    /// Events of this turn, or of the last one while the next is prepared.
    pub(crate) reported: usize,
    /// Which ticks had a turn that ended in the next one.
    pub(crate) overruns: Overruns,
    /// Closures to run in the next mailbox phase, with the place of their handler.
    pub(crate) posted: VecDeque<(u32, Task)>,
    /// States of outgoing connections that their handler has not got yet.
    pub(crate) unplaced: Vec<(ConnId, Box<dyn Any>)>,
    /// Outgoing connections that failed at once.
    pub(crate) failures: VecDeque<Failure>,
    /// Outgoing connections that failed to come up and try again, of which their handlers are to
    /// be told.
    pub(crate) retries: VecDeque<(ConnId, ConnectRetry)>,
    /// Gathers the small writes of one callback.
    pub(crate) cork: Cork,
    /// Empty buffers.
    pub(crate) spares: Spares,
    /// The door from other threads.
    pub(crate) mailbox: Arc<Mailbox<Message>>,
    /// Channels, by index; `None` while one is being delivered.
    pub(crate) inlets: Slab<Option<Box<dyn Inlet>>>,
    /// How many connections it has, for others to see; `None` if nobody looks.
    pub(crate) load: Option<Arc<Load>>,
    /// What the connection that is being taken in counts by already.
    pub(crate) ticket: Option<Ticket>,
    /// Given up to accept and refuse when no descriptor is left.
    pub(crate) spare_file: Option<Spare>,
    /// Whether the loop goes on.
    pub(crate) running: Running,
    /// Counters.
    pub(crate) stats: Stats,
    /// The socket of the connection that was taken down last, and whether its handler had closed
    /// it: for whoever watches a simulated world.
    #[cfg(feature = "sim")]
    pub(crate) taken_down: Option<(u32, bool)>,
    /// What the first callback said that panicked, likewise.
    #[cfg(feature = "sim")]
    pub(crate) panic_text: Option<String>,
    /// As given.
    pub(crate) options: ReactorOptions,
}

/// Tokens of connections are their ids, whose generation is never 0: so one in which all other
/// bits are 0 stands for something else.
#[cfg(target_pointer_width = "64")]
const TOKEN_INDEX_BITS: u32 = INDEX_BITS;
/// Half of a small word: 65,536 connections, and 16 bits of generation in the tokens. Ids are
/// whole everywhere.
#[cfg(not(target_pointer_width = "64"))]
const TOKEN_INDEX_BITS: u32 = 16;

/// The token of the waker: no connection and no listener has so large an index.
pub(crate) const WAKER_TOKEN: usize = (1 << TOKEN_INDEX_BITS) - 1;

/// The token of the descriptor whose readability asks to drain.
pub(crate) const BELL_TOKEN: usize = WAKER_TOKEN - 1;

/// The tokens of attempts to connect begin here: no listener has so large an index either.
const ATTEMPT_TOKENS: usize = 1 << (TOKEN_INDEX_BITS - 1);

/// The tokens of datagram sockets begin here, below those of attempts.
const SOCKET_TOKENS: usize = ATTEMPT_TOKENS / 2;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A connection, by its token.
    Connection(usize),
    /// One of several addresses that are being connected to, by slot.
    Attempt(usize),
    /// A listener, by slot.
    Listener(usize),
    /// A datagram socket, by slot.
    Socket(usize),
    /// The waker.
    Waker,
    /// The descriptor whose readability asks to drain.
    Bell,
}

impl Target {
    #[inline]
    pub(crate) const fn of(token: usize) -> Self {
        // Nearly always.
        if token > WAKER_TOKEN {
            return Self::Connection(token);
        }
        match token {
            WAKER_TOKEN => Self::Waker,
            BELL_TOKEN => Self::Bell,
            0..SOCKET_TOKENS => Self::Listener(token),
            SOCKET_TOKENS..ATTEMPT_TOKENS => Self::Socket(token - SOCKET_TOKENS),
            _ => Self::Attempt(token - ATTEMPT_TOKENS),
        }
    }

    /// The token of an attempt to connect.
    pub(crate) const fn attempt_token(slot: usize) -> usize {
        ATTEMPT_TOKENS + slot
    }

    /// The token of a datagram socket.
    pub(crate) const fn socket_token(slot: usize) -> usize {
        SOCKET_TOKENS + slot
    }

    /// The token of a connection.
    #[cfg(target_pointer_width = "64")]
    pub(crate) const fn token(id: ConnId) -> usize {
        id.word() as usize
    }

    /// The token of a connection: as much of the generation as fits, but not 0.
    #[cfg(not(target_pointer_width = "64"))]
    pub(crate) const fn token(id: ConnId) -> usize {
        let short = id.generation() as usize & WAKER_TOKEN;
        (if short == 0 { 1 } else { short }) << TOKEN_INDEX_BITS | id.index()
    }
}

/// Connections at one time: so many slots have a token.
pub(crate) const MAX_SLOTS: usize = WAKER_TOKEN;

/// Slots made ready at the start: their memory is touched only when they are used.
const SLOTS_AT_START: usize = 1 << 16;

impl Engine {
    pub(crate) fn new(world: World, options: ReactorOptions) -> io::Result<Self> {
        let poller = world.poller()?;
        let mailbox = Mailbox::new(poller.waker(WAKER_TOKEN)?);
        let most = options.max_connections.unwrap_or_else(|| default_max_connections(&world, 1));
        let generations = world.generations();
        let (clock, spare_file) = (world.clock(), world.spare());
        Ok(Self {
            world,
            poller,
            clock,
            now: 0,
            connections: Slab::with_capacity(most.min(SLOTS_AT_START)),
            generations,
            attempts: Slab::new(),
            listeners: Slab::new(),
            sockets: Slab::new(),
            gathering: Vec::new(),
            handlers: Vec::new(),
            gate: Gate::new(most.min(MAX_SLOTS)),
            wheel: Wheel::new(),
            next_due: 0,
            ready: VecDeque::new(),
            ready_others: VecDeque::new(),
            waiting_listeners: false,
            dirty: VecDeque::new(),
            dead: VecDeque::new(),
            nursery: Vec::new(),
            touched: Vec::new(),
            reported: 0,
            overruns: Overruns::new(),
            posted: VecDeque::new(),
            unplaced: Vec::new(),
            failures: VecDeque::new(),
            retries: VecDeque::new(),
            cork: Cork::new(),
            spares: Spares::default(),
            mailbox,
            inlets: Slab::new(),
            load: None,
            ticket: None,
            spare_file,
            running: Running::On,
            stats: Stats::default(),
            #[cfg(feature = "sim")]
            taken_down: None,
            #[cfg(feature = "sim")]
            panic_text: None,
            options,
        })
    }

    /// A handler that is called for something else would not be called.
    pub(crate) fn check_role(&self, service: u32, wanted: Role) -> io::Result<()> {
        match self.handlers.get(service as usize) {
            Some(&(role, _)) if role != wanted => {
                let ((of, _), (_, register)) = (role.words(), wanted.words());
                let text = format!(
                    "Service({service}) is of a handler of {of}; register one with {register}"
                );
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
            _ => Ok(()),
        }
    }

    /// The connection that a token is of; it may have ended.
    #[cfg(target_pointer_width = "64")]
    #[inline]
    pub(crate) fn id_of(&self, token: usize) -> ConnId {
        ConnId::from_word(token as u64)
    }

    /// The connection that a token is of; it may have ended.
    #[cfg(not(target_pointer_width = "64"))]
    pub(crate) fn id_of(&self, token: usize) -> ConnId {
        let index = token & WAKER_TOKEN;
        let generation = self.connections.get(index).map_or(0, |connection| connection.generation);
        let id = ConnId::new(index as u32, generation);
        if Target::token(id) == token { id } else { ConnId::new(index as u32, 0) }
    }

    /// A connection that has not ended.
    #[inline]
    pub(crate) fn live(&self, id: ConnId) -> Option<&Connection<Stream>> {
        let connection = self.connections.get(id.index())?;
        let lives = connection.generation == id.generation() && connection.phase != Phase::Dead;
        lives.then_some(connection)
    }

    /// A connection that has not ended.
    #[inline]
    pub(crate) fn live_mut(&mut self, id: ConnId) -> Option<&mut Connection<Stream>> {
        let connection = self.connections.get_mut(id.index())?;
        let lives = connection.generation == id.generation() && connection.phase != Phase::Dead;
        lives.then_some(connection)
    }

    /// A turn has seen to so many events.
    #[inline]
    pub(crate) fn count_events(&mut self, count: usize) {
        self.reported = count;
        self.stats.events += count as u64;
    }

    #[inline]
    pub(crate) fn count_read(&mut self, bytes: usize) {
        self.stats.reads += 1;
        self.stats.bytes_read += bytes as u64;
    }

    /// Gives a connection its slot and its id.
    pub(crate) fn insert(
        &mut self,
        stream: Stream,
        peer: SocketAddr,
        profile: Rc<Profile>,
        phase: Phase,
    ) -> ConnId {
        let generation = self.generations.draw();
        let connection = Connection::new(stream, generation, peer, profile, phase, self.now);
        let index = self.connections.insert(connection);
        self.enter_gate();
        self.stats.connections += 1;
        self.stats.connections_peak = self.stats.connections_peak.max(self.stats.connections);
        ConnId::new(index as u32, generation)
    }

    fn enter_gate(&mut self) {
        self.gate.enter();
        if let Some(load) = &self.load {
            match self.ticket.take() {
                Some(ticket) => ticket.keep(),
                None => load.enter(),
            }
        }
    }

    fn leave_gate(&mut self) {
        self.gate.leave();
        if let Some(load) = &self.load {
            load.leave();
        }
    }

    /// All connections that have not ended.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let ids = self.connections.iter();
        let ids = ids.map(|(index, connection)| ConnId::new(index as u32, connection.generation));
        ids.filter(|&id| self.live(id).is_some()).collect()
    }

    /// Takes a connection's slot, timers and places back. The socket goes with the value.
    pub(crate) fn remove(&mut self, id: ConnId) -> Connection<Stream> {
        let mut connection = self.connections.remove(id.index());
        self.drop_attempts(&mut connection);
        if connection.filed.tick != u64::MAX {
            self.wheel.cancel(connection.filed.timer);
        }
        for timer in connection.take_timers() {
            self.wheel.cancel(timer);
        }
        self.leave_gate();
        self.stats.connections -= 1;
        if let Some(index) = connection.profile.listener {
            if let Some(listener) = self.listeners.get_mut(index as usize) {
                listener.gate.leave();
                // Before it is open, a balancer has not said yet for whom it connects.
                if let (Some(sources), true) = (&mut listener.sources, connection.was_open) {
                    sources.leave(connection.peer.ip());
                }
            }
        }
        #[cfg(feature = "sim")]
        {
            let socket = connection.stream.simulated();
            self.taken_down = socket.map(|socket| (socket, connection.is_let_go));
        }
        if mem::take(&mut self.waiting_listeners) {
            self.recall_listeners();
        }
        connection
    }

    /// There is room again: those that left connections in the backlog look whether it is enough.
    fn recall_listeners(&mut self) {
        for index in 0..self.listeners.capacity() {
            let Some(listener) = self.listeners.get_mut(index) else {
                continue;
            };
            if mem::take(&mut listener.is_waiting) {
                self.queue_ready_listener(index);
            }
        }
    }

    /// Invariant 7: whoever stops before `WouldBlock` comes here, and only here.
    #[inline]
    pub(crate) fn queue_ready(&mut self, id: ConnId) {
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        if !connection.is_ready {
            connection.is_ready = true;
            self.ready.push_back(id);
        }
    }

    /// The same for a listener.
    pub(crate) fn queue_ready_listener(&mut self, index: usize) {
        let Some(listener) = self.listeners.get_mut(index) else {
            return;
        };
        if !listener.is_queued {
            listener.is_queued = true;
            self.ready_others.push_back(Queued::Listener(index as u32));
        }
    }

    /// A flush, or the next step of a close, is due at the end of the turn.
    pub(crate) fn mark_dirty(&mut self, id: ConnId) {
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Invariant 4: marked closed at once, taken down at the end of the turn.
    pub(crate) fn doom(&mut self, id: ConnId, reason: CloseReason) {
        let mut lost = self.cork.take_back(id);
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        if connection.generation != id.generation() || connection.phase == Phase::Dead {
            return;
        }
        debug_assert!(!connection.is_plain || connection.looks_plain());
        if !connection.is_plain {
            lost = lost.saturating_add(connection.clear_output(&mut self.spares));
            connection.input.clear(&mut self.spares);
        }
        connection.add_unsent(lost);
        connection.enter(Phase::Dead);
        self.dead.push_back((id, reason));
    }

    /// Whether anybody is on a ready queue.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        !(self.ready.is_empty() && self.ready_others.is_empty())
    }

    /// Whether the end of the turn has anything to do.
    #[inline]
    pub(crate) fn has_endings(&self) -> bool {
        !(self.dirty.is_empty()
            && self.dead.is_empty()
            && self.unplaced.is_empty()
            && self.gathering.is_empty()
            && self.failures.is_empty()
            && self.retries.is_empty())
    }

    /// Whether there is work that no event will announce.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.has_ready()
            || self.has_endings()
            || !self.posted.is_empty()
            || matches!(self.running, Running::Asked(_))
    }

    /// Asks the loop to stop; a stop at once overrides one that drains.
    pub(crate) fn stop(&mut self, stop: Stop) {
        match (self.running, stop) {
            (Running::On, _) | (Running::Asked(_) | Running::Draining, Stop::Now) => {
                self.running = Running::Asked(stop);
            }
            _ => {}
        }
    }

    /// Whether connections end because the reactor stops.
    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.running != Running::On
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("connections", &self.connections.len())
            .field("listeners", &self.listeners.len())
            .field("timers", &self.wheel.len())
            .finish_non_exhaustive()
    }
}

/// The open-file limit less a reserve, in equal parts for so many reactors; where there is none,
/// as many as a slab index can name.
pub(crate) fn default_max_connections(world: &World, reactors: usize) -> usize {
    let limit = world.open_file_limit().unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_SLOTS);
    let reserve = FILE_RESERVE.saturating_add(FILES_EACH.saturating_mul(reactors - 1));
    // A tiny limit is shared, so that a reserve does not eat all of it.
    ((limit - reserve.min(limit / 2)) / reactors).max(1)
}

/// Descriptors that a further reactor takes for itself: the poll, the waker, the spare one, and a
/// few listeners.
const FILES_EACH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_their_targets_apart() {
        assert_eq!(Target::of(WAKER_TOKEN), Target::Waker);
        assert_eq!(Target::of(BELL_TOKEN), Target::Bell);
        assert_eq!(Target::of(3), Target::Listener(3));
        assert_eq!(Target::of(Target::attempt_token(3)), Target::Attempt(3));
        assert_eq!(Target::of(Target::socket_token(3)), Target::Socket(3));
        for generation in [1, 2, 65_536, u64::MAX >> INDEX_BITS] {
            let token = Target::token(ConnId::new(7, generation));
            assert_eq!(Target::of(token), Target::Connection(token));
        }
    }
}
