//! The rules for callbacks, watched as an observer of the reactor.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::{Life, Watcher};
use crate::base::close::{CloseReason, IdleKind, TimeoutKind};
use crate::base::id::ConnId;
use crate::engine::Target;
use crate::engine::observer::{Callback, ConnEnd, ConnFacts, Observer, Outcome, Phase, Span, What};
use crate::sim::coverage::Landmark;
use crate::sys::sim::Note;

/// What the reactor of a host tells its watcher.
pub(in crate::sim) struct Told(pub(in crate::sim) Rc<RefCell<Watcher>>);

impl Observer for Told {
    fn on_phase_begin(&mut self, phase: Phase, _: Duration) {
        self.0.borrow_mut().phase_begins(phase);
    }

    fn on_phase_end(&mut self, _: Phase, _: usize, _: Duration) {
        self.0.borrow_mut().phase_ends();
    }

    fn on_written(&mut self, id: ConnId, count: usize) {
        self.0.borrow_mut().written(id, count);
    }

    fn on_given_back(&mut self, id: ConnId, input: &[u8]) {
        self.0.borrow_mut().given_back(id, input);
    }

    fn on_callback_begin(&mut self, callback: &Callback<'_>, _: Duration) {
        self.0.borrow_mut().begin(callback);
    }

    fn on_callback_end(&mut self, callback: &Callback<'_>, outcome: Outcome, _: Span) {
        self.0.borrow_mut().end(callback, outcome);
    }

    fn on_connecting(&mut self, _: ConnId) {
        self.0.borrow_mut().states += 1;
    }

    fn on_closed(&mut self, id: ConnId, end: &ConnEnd<'_>) {
        self.0.borrow_mut().closed(id, end);
    }

    fn on_panic(&mut self, _: Option<u32>, text: &str) {
        let mut watcher = self.0.borrow_mut();
        watcher.is_in_callback = false;
        watcher.panic_texts.push(text.to_owned());
    }
}

impl Watcher {
    fn begin(&mut self, callback: &Callback<'_>) {
        if std::mem::replace(&mut self.is_in_callback, true) {
            self.violate(callback.what.conn_id(), "callbacks are nested");
        }
        let name = callback.what.name();
        let facts = callback.conn;
        match callback.what {
            What::Accept { .. } => self.enter(name, None, 0, Landmark::Accept),
            What::Open { id } => self.opened(id, facts),
            What::Data { id, input } => {
                self.enter_open(name, id, input.len() as u64, Landmark::Data);
                // Once its output has failed, what is left to read is read, as after a reset.
                let is_held = facts.is_some_and(|it| it.is_paused && !it.is_reading);
                self.check_input(id, input, is_held);
            }
            What::Drain { id } => {
                self.enter_open(name, id, 0, Landmark::Drain);
                self.drained(id);
            }
            What::Eof { id } => {
                self.enter_open(name, id, 0, Landmark::Eof);
                self.ended(id);
            }
            What::Idle { id, kind, limit } => {
                self.enter_open(name, id, kind as u64, landmark_of_idle(kind));
                self.check_idle(id, kind, limit, facts);
            }
            What::Deadline { id } => self.enter_open(name, id, 0, Landmark::Deadline),
            What::Timer { id, .. } => self.enter_open(name, id, 0, Landmark::Timer),
            What::Shutdown { id } => self.enter_open(name, id, 0, Landmark::Shutdown),
            What::Close { id, unsent_bytes } => {
                self.note(name, Some(id), unsent_bytes as u64);
                if facts.is_some() {
                    self.violate(Some(id), "its id still finds it");
                }
                self.states -= 1;
            }
            What::ConnectRetry { id, tries } => self.retried(name, id, tries),
            What::ConnectFailed { id } => {
                // One that failed at once has no state that was counted.
                self.states -= i64::from(id.is_some());
                self.enter(name, None, 0, Landmark::ConnectFailed);
            }
            What::DropState => self.states -= 1,
            What::HandlerTimer { .. } => self.enter(name, None, 0, Landmark::HandlerTimer),
            // The others have no rule but that they do not nest.
            _ => {}
        }
    }

    fn end(&mut self, callback: &Callback<'_>, outcome: Outcome) {
        self.is_in_callback = false;
        match (callback.what, outcome) {
            (What::Accept { .. }, Outcome::Accepted(true)) => self.states += 1,
            (What::Open { id }, _) => self.note_held(id, callback.conn),
            (What::Data { id, input }, Outcome::Consumed(count)) => {
                self.note_consumed(id, input, count, callback.conn);
            }
            (What::Idle { id, kind, .. }, _) => self.kept(id, kind),
            _ => {}
        }
    }

    fn note(&self, name: &'static str, id: Option<ConnId>, value: u64) {
        let slot = id.map_or(u32::MAX, |id| id.index() as u32);
        self.world.borrow_mut().note(Some(self.host), Note::Callback { name, slot, value });
    }

    fn enter(&mut self, name: &'static str, id: Option<ConnId>, value: u64, at: Landmark) {
        self.note(name, id, value);
        self.landmarks.reach(at);
    }

    /// A callback of a connection that must be open.
    fn enter_open(&mut self, name: &'static str, id: ConnId, value: u64, at: Landmark) {
        if !self.lives.contains_key(&id) {
            self.violate(Some(id), &format!("{name} before on_open or after on_close"));
        }
        self.enter(name, Some(id), value, at);
    }

    /// A connection has not come up, and is tried again.
    fn retried(&mut self, name: &'static str, id: ConnId, tries: u32) {
        if self.lives.contains_key(&id) {
            self.violate(Some(id), "on_connect_retry after on_open");
        }
        self.enter(name, Some(id), tries.into(), Landmark::ConnectRetry);
    }

    fn opened(&mut self, id: ConnId, facts: Option<ConnFacts>) {
        let kept = facts.map_or(0, |facts| facts.input_bytes);
        let is_layered = facts.is_some_and(|facts| facts.is_layered);
        let mut world = self.world.borrow_mut();
        // One that was accepted a moment ago may be read before the poll is told of it.
        let watched = world.registered(self.host, Target::token(id));
        let Some(socket) = watched.or_else(|| world.accepted(self.host)) else {
            drop(world);
            return self.violate(Some(id), "on_open of a connection that the poll does not watch");
        };
        let now = world.clock(self.host);
        // A balancer's header has been read and belongs to no message.
        let tap = &mut world.sockets[socket as usize].tap;
        tap.drain(..tap.len().saturating_sub(kept));
        let sent = world.sockets[socket as usize].bytes_written;
        drop(world);
        let life = Life {
            socket,
            has_ended: false,
            is_layered,
            rest: Vec::new(),
            given_back: Vec::new(),
            is_owed: false,
            held: kept,
            silent_since: [now; 3],
            was_backed_up: false,
            has_drained: false,
            was_overdue: false,
            waiting: None,
            sent,
        };
        if self.lives.insert(id, life).is_some() {
            self.violate(Some(id), "on_open twice");
        }
        self.enter("on_open", Some(id), 0, Landmark::Open);
    }

    /// Who does not want to read leaves what came with a header, like what is in the kernel still.
    fn note_held(&mut self, id: ConnId, facts: Option<ConnFacts>) {
        let is_reading = facts.is_some_and(|facts| facts.is_reading);
        if let (Some(life), true) = (self.lives.get_mut(&id), is_reading) {
            life.held = 0;
        }
    }

    /// The bytes lent must be what was left, and behind it what was read since.
    fn check_input(&mut self, id: ConnId, input: &[u8], is_paused: bool) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.rest.splice(..0, life.given_back.drain(..));
        let mut world = self.world.borrow_mut();
        if world.accepted(self.host) == Some(life.socket) {
            self.landmarks.reach(Landmark::FirstRead);
        }
        let socket = &mut world.sockets[life.socket as usize];
        let left = life.rest.len();
        let is_held = is_paused && !socket.is_broken();
        let tap = &mut socket.tap;
        // Which plaintext was read the layer alone knows; the sender's own check finds its faults.
        let is_new = life.is_layered || input[left.min(input.len())..] == tap[..];
        let is_right = input.starts_with(&life.rest) && is_new;
        if tap.is_empty() && is_right {
            self.landmarks.reach(Landmark::Redelivered);
        }
        tap.clear();
        let has_ended = life.has_ended;
        drop(world);
        if !is_right {
            self.violate(Some(id), "on_data is not lent what was left and read, in order");
        }
        if has_ended {
            self.violate(Some(id), "on_data after on_eof");
        }
        if is_held {
            self.violate(Some(id), "on_data while reading is paused");
        }
        if input.is_empty() {
            self.violate(Some(id), "on_data without data");
        }
    }

    fn note_consumed(
        &mut self,
        id: ConnId,
        input: &[u8],
        consumed: usize,
        facts: Option<ConnFacts>,
    ) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.rest.clear();
            life.held = 0;
            life.rest.extend_from_slice(&input[consumed.min(input.len())..]);
            let is_broken = self.world.borrow().sockets[life.socket as usize].is_broken();
            let is_held = facts.is_some_and(|it| it.is_paused || !it.is_reading);
            // For want of room, and a failed write has dropped the output that took it.
            let was_owed = life.is_owed && life.was_backed_up && is_broken;
            life.is_owed =
                !life.rest.is_empty() && (is_held || was_owed) && (consumed > 0 || !is_broken);
        }
    }

    /// The end that was told before is told again, too.
    fn given_back(&mut self, id: ConnId, input: &[u8]) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.given_back.splice(..0, input.iter().copied());
            if !input.is_empty() {
                self.landmarks.reach(Landmark::GivenBack);
            }
            if std::mem::replace(&mut life.has_ended, false) {
                self.landmarks.reach(Landmark::EndGivenBack);
            }
        }
    }

    fn drained(&mut self, id: ConnId) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.has_drained = true;
        }
    }

    fn ended(&mut self, id: ConnId) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let is_overtaking = !life.given_back.is_empty();
        if std::mem::replace(&mut life.has_ended, true) {
            self.violate(Some(id), "on_eof twice");
        }
        if is_overtaking {
            self.violate(Some(id), "on_eof before what was given back");
        }
    }

    /// An idle limit has passed: not before no byte has moved for so long.
    fn check_idle(
        &mut self,
        id: ConnId,
        kind: IdleKind,
        limit: Option<Duration>,
        facts: Option<ConnFacts>,
    ) {
        let Some(life) = self.lives.get(&id) else { return };
        let world = self.world.borrow();
        let socket = &world.sockets[life.socket as usize];
        let moved = match kind {
            IdleKind::Read => socket.read_at,
            IdleKind::Write => socket.written_at,
            IdleKind::All => socket.read_at.max(socket.written_at),
        };
        let since = moved.max(life.silent_since[kind as usize]);
        let now = world.clock(self.host);
        let is_reading = facts.is_some_and(|facts| facts.is_reading);
        let is_unread = socket.is_readable() && !socket.has_lied && is_reading;
        drop(world);
        if is_unread && kind != IdleKind::Write {
            self.violate(Some(id), "on_idle while there is something to read");
        }
        let limit = limit.and_then(|limit| u64::try_from(limit.as_nanos()).ok());
        let limit = limit.unwrap_or(u64::MAX);
        if now < since.saturating_add(limit) {
            let early = since.saturating_add(limit) - now;
            self.violate(Some(id), &format!("on_idle({kind:?}) {early} ns early"));
        }
    }

    fn kept(&mut self, id: ConnId, kind: IdleKind) {
        let now = self.world.borrow().clock(self.host);
        if let Some(life) = self.lives.get_mut(&id) {
            life.silent_since[kind as usize] = now;
        }
    }

    fn closed(&mut self, id: ConnId, closed: &ConnEnd<'_>) {
        self.landmarks.reach(landmark_of(closed.reason));
        if closed.unsent_bytes > 0 {
            self.landmarks.reach(Landmark::LostOutput);
        }
        let Some(life) = self.lives.remove(&id) else {
            return self.violate(Some(id), "on_close without on_open, or twice");
        };
        self.check_reset(id, life.socket, closed);
        if closed.is_by_handler {
            return;
        }
        let world = self.world.borrow();
        let socket = &world.sockets[life.socket as usize];
        let of_layer = if life.is_layered { socket.tap.len() } else { 0 };
        let (kept_back, unread) = (socket.tap.len() - of_layer, socket.unread_at_close);
        // A read may have said that there was nothing.
        let has_lied = socket.has_lied;
        drop(world);
        let is_broken = match closed.reason {
            // Its output had failed, and the peer sent for as long as a close may take.
            _ if closed.must_reset => false,
            CloseReason::Reset => true,
            // One whose file failed, which is told in words, is not broken: more may come in
            // between its last read and its end.
            CloseReason::Io(error) => error.get_ref().is_none(),
            _ => false,
        };
        if kept_back > life.held
            && !matches!(closed.reason, CloseReason::Local | CloseReason::Panic)
        {
            self.violate(Some(id), &format!("{kept_back} bytes were read and never delivered"));
        }
        let is_unseen = life.is_owed && !(life.rest.is_empty() || life.has_ended);
        if is_broken && is_unseen {
            self.violate(Some(id), "what was left in a pause was not lent again at the end");
        }
        let is_at_end = is_broken || matches!(closed.reason, CloseReason::Peer);
        if is_at_end && !life.given_back.is_empty() {
            self.violate(Some(id), "what was given back was not lent again");
        }
        let is_timed = matches!(closed.reason, CloseReason::Timeout(TimeoutKind::ReceiveRate));
        if closed.is_paused && is_timed {
            self.violate(Some(id), "its peer was timed while reading was paused");
        }
        // Behind the end that a layer's peer has said nothing is for the handler.
        let is_all = life.is_layered && life.has_ended;
        if is_broken && unread > 0 && !has_lied && !is_all {
            self.violate(Some(id), &format!("closed with {unread} bytes still to be read"));
        }
    }

    /// Invariant 6: what the wire says agrees with what the handler is told. The socket has been
    /// closed; unless it was broken before, that has sent FIN or a reset.
    fn check_reset(&self, id: ConnId, socket: u32, closed: &ConnEnd<'_>) {
        let must_reset = closed.must_reset || closed.unsent_bytes > 0 || is_cut(closed.reason);
        if must_reset && !self.world.borrow().sockets[socket as usize].is_broken() {
            let rule = format!("its peer sees FIN and no reset: {}", closed.reason);
            self.violate(Some(id), &rule);
        }
    }
}

/// Why a connection ended whose peer must see a reset, although it may have had every byte.
fn is_cut(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Timeout(_) | CloseReason::Overflow | CloseReason::Panic)
}

fn landmark_of_idle(kind: IdleKind) -> Landmark {
    match kind {
        IdleKind::Read => Landmark::IdleRead,
        IdleKind::Write => Landmark::IdleWrite,
        IdleKind::All => Landmark::IdleAll,
    }
}

fn landmark_of(reason: &CloseReason) -> Landmark {
    match reason {
        CloseReason::Peer => Landmark::ClosedPeer,
        CloseReason::Reset => Landmark::ClosedReset,
        CloseReason::Idle => Landmark::ClosedIdle,
        CloseReason::Timeout(TimeoutKind::Close) => Landmark::Lingering,
        CloseReason::Timeout(_) => Landmark::ClosedTimeout,
        CloseReason::Overflow => Landmark::ClosedOverflow,
        CloseReason::Io(_) => Landmark::ClosedIo,
        CloseReason::Shutdown => Landmark::ClosedShutdown,
        CloseReason::Local | CloseReason::Panic => Landmark::ClosedLocal,
    }
}
