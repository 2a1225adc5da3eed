//! All connections that hold a slot, all listeners, and what is counted of them.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use crate::base::id::ConnId;
use crate::base::memory::GiveBack;
use crate::engine::observer::ConnFacts;
use crate::engine::{Engine, MAX_SLOTS, Queued, Target};
use crate::stream::Link;
use crate::stream::config::ConnConfig;
use crate::stream::connection::{Connection, Flags, Phase};
use crate::stream::handover::{Load, LoadGuard};
use crate::stream::listener::{ConnLimit, Listener};
use crate::stream::room::Line;
use crate::sys::Stream;

/// An outgoing connection that failed before it had a socket.
pub(crate) struct ConnectFailure {
    /// The handler's place.
    pub(crate) service: u32,
    /// What `connect` was given.
    pub(crate) state: Box<dyn Any>,
    /// Why.
    pub(crate) error: io::Error,
}

/// All stream sockets of a reactor.
pub(crate) struct Streams {
    /// All connections that hold a slot.
    pub(super) connections: Slab<Connection<Stream>>,
    /// All listeners.
    pub(super) listeners: Slab<Listener>,
    /// The cap on connections.
    pub(super) limit: ConnLimit,
    /// Listeners that wait for its places.
    pub(super) line: Line,
    /// How many connections there are, for others to see; `None` if no acceptor looks.
    load: Option<Arc<Load>>,
    /// What the connection that is being taken in counts by already.
    handed_over: Option<LoadGuard>,
    /// States of outgoing connections that their handler has not got yet.
    unplaced: Vec<(ConnId, Box<dyn Any>)>,
    /// Outgoing connections that failed at once.
    failures: VecDeque<ConnectFailure>,
}

/// Slots made ready at the start: their memory is touched only when they are used.
const SLOTS_AT_START: usize = 1 << 16;

impl Streams {
    /// No connection yet, and at most so many.
    pub(crate) fn new(max_connections: usize) -> Self {
        let max_connections = max_connections.min(MAX_SLOTS);
        Self {
            connections: Slab::with_capacity(max_connections.min(SLOTS_AT_START)),
            listeners: Slab::new(),
            limit: ConnLimit::new(max_connections),
            line: Line::default(),
            load: None,
            handed_over: None,
            unplaced: Vec::new(),
            failures: VecDeque::new(),
        }
    }

    // Connections.

    /// A connection that has not ended.
    #[inline]
    pub(crate) fn get(&self, id: ConnId) -> Option<&Connection<Stream>> {
        let connection = self.connections.get(id.index())?;
        let lives = connection.generation == id.generation() && !connection.is_closed();
        lives.then_some(connection)
    }

    /// A connection that has its slot, and may have ended in this turn.
    #[inline]
    pub(crate) fn slot_mut(&mut self, id: ConnId) -> Option<&mut Connection<Stream>> {
        let connection = self.connections.get_mut(id.index())?;
        (connection.generation == id.generation()).then_some(connection)
    }

    /// A connection that has its slot, as long as a callback may be lent it.
    pub(crate) fn slot(&self, id: ConnId) -> Option<&Connection<Stream>> {
        let connection = self.connections.get(id.index())?;
        (connection.generation == id.generation()).then_some(connection)
    }

    /// A connection that has not ended, with the engine.
    #[inline]
    pub(crate) fn link<'a>(&'a mut self, engine: &'a mut Engine, id: ConnId) -> Option<Link<'a>> {
        let connection = self.slot_mut(id)?;
        if connection.is_closed() {
            return None;
        }
        Some(Link { id, connection, engine })
    }

    /// The connection that a token is of; it may have ended.
    #[inline]
    pub(crate) fn id_of(&self, token: usize) -> ConnId {
        Target::id(token, |index| {
            self.connections.get(index).map_or(0, |connection| connection.generation)
        })
    }

    /// The connection in a slot; it may have ended.
    pub(crate) fn id_at(&self, slot: u32) -> ConnId {
        self.connections
            .get(slot as usize)
            .map_or(ConnId::NONE, |it| ConnId::new(slot, it.generation))
    }

    /// Slots that are taken.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether a further connection would have a token.
    pub(crate) fn has_slots(&self) -> bool {
        self.len() < MAX_SLOTS
    }

    /// All connections that have not ended.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let live = self.iter().filter(|(_, connection)| !connection.is_closed());
        live.map(|(id, _)| id).collect()
    }

    /// How a connection stands that has not ended, for an observer.
    pub(crate) fn facts(&self, id: ConnId) -> Option<ConnFacts> {
        let it = self.get(id)?;
        if it.flags.is_usual() {
            return Some(ConnFacts::USUAL);
        }
        Some(ConnFacts {
            is_reading: it.wants_read(),
            is_paused: it.flags.has(Flags::PAUSED),
            is_layered: it.flags.has(Flags::LAYERED),
            input_bytes: it.input().len(),
            output_bytes: it.output_left(),
        })
    }

    /// Whether nothing is unusual about a connection behind its callback: its facts are the usual
    /// ones.
    #[inline]
    pub(crate) fn is_usual(&self, id: ConnId) -> bool {
        // The slot stays until the callback has returned.
        let connection = self.connections.get(id.index());
        connection.is_some_and(|connection| connection.flags.is_usual())
    }

    /// All that hold a slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Connection<Stream>)> {
        let connections = self.connections.iter();
        connections.map(|(index, it)| (ConnId::new(index as u32, it.generation), it))
    }

    /// The id of the connection that is inserted next.
    #[inline]
    pub(super) fn next_id(&self, engine: &mut Engine) -> ConnId {
        ConnId::new(self.connections.vacant_key() as u32, engine.io.draw_generation())
    }

    /// Gives a connection its slot.
    #[inline(always)] // else it is moved there, by a call
    pub(super) fn insert<'a>(
        &'a mut self,
        engine: &'a mut Engine,
        id: ConnId,
        stream: Stream,
        peer: &SocketAddr,
        config: Rc<ConnConfig>,
        phase: Phase,
    ) -> Link<'a> {
        self.limit.enter();
        if let Some(load) = &self.load {
            match self.handed_over.take() {
                Some(guard) => guard.keep(),
                None => load.enter(),
            }
        }
        engine.stats.connections += 1;
        engine.stats.connections_peak = engine.stats.connections_peak.max(engine.stats.connections);
        debug_assert_eq!(self.connections.vacant_key(), id.index());
        let now = engine.now();
        let slot = self.connections.vacant_entry();
        let connection =
            slot.insert(Connection::new(stream, id.generation(), peer, config, phase, now));
        Link { id, connection, engine }
    }

    /// Takes a connection's slot, timers and places back, unless it has none or `last_look` finds
    /// that it must not go. The socket goes with the value; who waits for its place is still to be
    /// told.
    #[inline(always)] // as above
    pub(crate) fn remove<T>(
        &mut self,
        engine: &mut Engine,
        id: ConnId,
        last_look: impl FnOnce(&Connection<Stream>) -> Option<T>,
    ) -> Option<(T, Connection<Stream>)> {
        let connection = self.connections.get_mut(id.index())?;
        if connection.generation != id.generation() {
            return None;
        }
        let seen = last_look(connection)?;
        engine.timers.disarm(id, connection.armed);
        if connection.flags.has(Flags::HAS_COLD) {
            cancel_all(engine, connection);
        }
        engine.stats.connections -= 1;
        self.limit.leave();
        if let Some(load) = &self.load {
            load.leave();
        }
        let index = connection.config.listener;
        if let Some(listener) = index.and_then(|index| self.listeners.get_mut(index as usize)) {
            listener.note_end(id, connection);
        }
        // Last, and nothing is done with the value here: else it is moved once more.
        Some((seen, self.connections.remove(id.index())))
    }

    // Listeners.

    pub(crate) fn listener(&self, index: usize) -> Option<&Listener> {
        self.listeners.get(index)
    }

    pub(crate) fn listener_mut(&mut self, index: usize) -> Option<&mut Listener> {
        self.listeners.get_mut(index)
    }

    /// The listeners, by place.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (usize, &Listener)> {
        self.listeners.iter()
    }

    /// The place of the next listener.
    pub(super) fn next_listener(&self) -> usize {
        self.listeners.vacant_key()
    }

    pub(super) fn insert_listener(&mut self, listener: Listener) -> &mut Listener {
        self.listeners.vacant_entry().insert(listener)
    }

    /// Closes the listening sockets. Those without one stay: what another reactor has accepted for
    /// them may be on its way.
    pub(crate) fn close_listeners(&mut self, engine: &mut Engine) {
        if let Some(load) = &self.load {
            load.close();
        }
        let poller = engine.io.poller();
        self.listeners.retain(|_, listener| {
            let name = listener.display_name();
            let Some(socket) = listener.socket_mut() else { return true };
            if let Err(error) = poller.remove_listener(socket) {
                log::warn!("{name}: cannot be taken off the poll: {error}");
            }
            false
        });
        engine.ready.forget_listeners();
    }

    /// A listener that stopped before its queue was empty has another budget.
    pub(crate) fn queue_listener(&mut self, engine: &mut Engine, index: usize) {
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if !std::mem::replace(&mut listener.is_queued, true) {
            engine.ready.push_other(Queued::Listener(index as u32));
        }
    }

    // Members of a fleet.

    /// Has others see how many connections there are.
    pub(crate) fn set_load(&mut self, load: Arc<Load>) {
        self.load = Some(load);
    }

    /// The connection that is taken in next counts already.
    pub(crate) fn set_handed_over(&mut self, guard: Option<LoadGuard>) {
        self.handed_over = guard;
    }

    // Outgoing connections before their handlers know of them.

    /// Keeps the state of an outgoing connection until its handler can be given it.
    pub(super) fn keep_state(&mut self, id: ConnId, state: Box<dyn Any>) {
        self.unplaced.push((id, state));
    }

    pub(crate) fn pop_state(&mut self) -> Option<(ConnId, Box<dyn Any>)> {
        let state = self.unplaced.pop();
        if state.is_none() {
            self.unplaced.give_back();
        }
        state
    }

    pub(crate) fn has_states(&self) -> bool {
        !self.unplaced.is_empty()
    }

    pub(super) fn push_failure(&mut self, failure: ConnectFailure) {
        self.failures.push_back(failure);
    }

    pub(crate) fn pop_failure(&mut self) -> Option<ConnectFailure> {
        self.failures.pop_front()
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures.len()
    }

    /// Whether the end of the turn has anything to do for outgoing connections.
    #[inline]
    pub(crate) fn has_endings(&self) -> bool {
        !(self.unplaced.is_empty() && self.failures.is_empty())
    }

    /// The list of failures has been worked off: gives back what a burst took.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        self.failures.give_back();
    }

    /// Entries for which the lists have room.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.unplaced.capacity().max(self.failures.capacity())
    }

    /// Connections that the cap counts.
    pub(crate) fn counted(&self) -> usize {
        self.limit.inside()
    }
}

/// Cancels the timers of a connection, and forgets what it has tried to come up.
fn cancel_all(engine: &mut Engine, connection: &mut Connection<Stream>) {
    for timer in connection.take_timers() {
        engine.timers.cancel_user(timer);
    }
    for attempt in connection.take_connector().into_iter().flat_map(|it| it.attempts) {
        engine.io.remove_attempt(attempt.slot);
    }
}
