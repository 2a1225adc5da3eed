//! The rules for what a turn leaves behind: no phase sends more than it has room for, and what
//! waits for that has its turn in order.

use super::{LOOKS_PER_TURN, Life, Watcher};
use crate::base::id::ConnId;
use crate::engine::observer::Phase;
use crate::handler::Loop;
use crate::options::ReactorOptions;
use crate::sim::coverage::Landmark;
use crate::stream::connection::Connection;
use crate::sys::Stream;

/// What the phase that is on has sent of queued output.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// It has a room of its own.
    is_metered: bool,
    /// Layers may speak in it whatever room there is.
    hears_layers: bool,
    bytes: usize,
    last: Option<ConnId>,
    /// In this turn another has sent behind those who have used all of the room.
    overrun: Option<ConnId>,
}

/// Output for which its socket has room waits on a list of the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// How often the connection had tried to send when the wait began.
    sends: u64,
    /// The turn in which its place comes.
    last_turn: usize,
}

impl Watcher {
    pub(super) fn phase_begins(&mut self, phase: Phase) {
        let is_metered = matches!(phase, Phase::Events | Phase::Ready | Phase::FlushAndClose);
        let hears_layers = phase != Phase::FlushAndClose;
        let overrun = self.sending.overrun;
        self.sending = Sending { is_metered, hears_layers, overrun, ..Sending::default() };
    }

    pub(super) fn phase_ends(&mut self) {
        self.sending.is_metered = false;
    }

    /// The room of a phase is for queued output. What a callback writes for its own connection does
    /// not count, nor does what a layer answers by itself.
    pub(super) fn written(&mut self, id: ConnId, count: usize) {
        self.sent += count as u64;
        if let Some(life) = self.lives.get_mut(&id) {
            life.sent += count as u64;
        }
        if self.is_in_callback || !self.sending.is_metered {
            return;
        }
        let room = self.world.borrow().hosts[self.host].budgets.room_bytes;
        let hears_layers = self.sending.hears_layers;
        let is_queued = |life: &Life| !(life.is_layered && hears_layers);
        let is_bound = self.lives.get(&id).is_some_and(is_queued);
        let sending = &mut self.sending;
        if sending.bytes >= room && sending.last != Some(id) && is_bound {
            sending.overrun.get_or_insert(id);
        }
        sending.bytes += count;
        sending.last = Some(id);
        if sending.bytes >= room {
            self.landmarks.reach(Landmark::OutOfRoom);
        }
    }

    /// All that a socket has taken is told of, however a write was split. The last words of a layer
    /// are not, behind which its connection is closed.
    pub(super) fn check_sent(&self, id: ConnId, connection: &Connection<Stream>) {
        let Some(key) = connection.stream.simulated().filter(|_| !connection.is_closed()) else {
            return;
        };
        let taken = self.world.borrow().sockets[key as usize].bytes_written;
        if self.lives.get(&id).is_some_and(|life| life.sent != taken) {
            self.violate(Some(id), "its socket has taken other bytes than were told of");
        }
    }

    /// Only what is over the cap of the reactor, and the last turn, go beyond the room of a phase.
    pub(super) fn check_room(&mut self, lp: &Loop) {
        let Some(id) = self.sending.overrun.take() else { return };
        let usual = ReactorOptions::default().max_queued_bytes;
        if !lp.engine.ends_all() && lp.engine.options().max_queued_bytes >= usual {
            self.violate(Some(id), "its output is sent in a phase that has no room left");
        }
    }

    /// Each turn reaches one of the ready queue at least, and one of those to be flushed. So a
    /// connection whose socket takes output tries it when its place comes, and no turn later.
    pub(super) fn check_place(&mut self, lp: &Loop, id: ConnId, connection: &Connection<Stream>) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        // A panic leaves the rest of its phase to the next turn.
        let is_cut = lp.engine.stats.panics != self.panics;
        let before = life.waiting.take().filter(|_| !is_cut);
        let Some(key) = connection.stream.simulated() else { return };
        let world = self.world.borrow();
        let socket = &world.sockets[key as usize];
        // An event is to come: it may tell of another time at which the socket takes output.
        let has_room = world.is_writable(key) && !socket.wants_room && !world.is_listed(key);
        let is_seen_each_turn = lp.streams.len() < LOOKS_PER_TURN;
        if !is_seen_each_turn || !has_room || connection.is_closed() || !connection.can_flush() {
            return;
        }
        let sends = socket.sends;
        drop(world);
        match before.filter(|waiting| waiting.sends == sends) {
            Some(waiting) if waiting.last_turn <= self.turn => {
                self.violate(Some(id), "its output waits longer than for its place");
            }
            Some(waiting) => life.waiting = Some(waiting),
            None => {
                let ready = lp.engine.ready.connections().iter().position(|&it| it == id);
                let flush = lp.engine.end_of_turn.flushes().iter().position(|&it| it == id);
                let place = ready.into_iter().chain(flush).min();
                let last_turn = place.map(|place| self.turn + place + 1);
                life.waiting = last_turn.map(|last_turn| Waiting { sends, last_turn });
            }
        }
    }
}
