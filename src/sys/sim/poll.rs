//! The poll of a host.

use std::cmp::Reverse;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::chance::Fault;
use super::event::{MILLI, SECOND};
use super::process::{Event, Stage};
use super::socket::SocketStage;
use super::time::CALL_NANOS;
use super::trace::Note;
use super::world::{Rest, World};

/// What a step of a poll came to.
pub(super) enum Step {
    Return,
    Again,
    /// Another host has its turn meanwhile.
    Drive(usize, Rc<dyn Fn(usize)>),
}

impl World {
    /// A host begins to poll; returns the time at which that ends by itself.
    pub(super) fn enter_poll(&mut self, host: usize, timeout: Option<u64>) {
        self.now += CALL_NANOS;
        self.note(Some(host), Note::Poll { timeout });
        // A poll of milliseconds ends with the millisecond, and not before.
        let whole = |nanos: u64| nanos.div_ceil(MILLI) * MILLI;
        let wait = timeout.map_or(u64::MAX, whole);
        self.hosts[host].asked = (self.now, self.now.saturating_add(wait));
        if self.faults_left > 0 && self.chance.strikes(Fault::Stopped) {
            self.faults_left -= 1;
            let nanos = self.chance.spread(MILLI, 60 * SECOND);
            self.note(Some(host), Note::Fault { fault: Fault::Stopped, nanos });
            // Hosts take turns in one thread: while one stands still, so do the others.
            self.hosts.iter_mut().for_each(|host| host.stolen_nanos += nanos);
            self.stand_still(nanos);
        }
        let is_late = timeout.is_some() && self.chance.strikes(Fault::LatePoll);
        let late = if is_late { (wait / 1_000).min(100 * MILLI) } else { 0 };
        let state = &mut self.hosts[host];
        state.polls += 1;
        state.system_calls += 1;
        state.stage = Stage::Polling;
        state.has_begun = true;
        state.empty_polls = if state.calls == 0 { state.empty_polls + 1 } else { 0 };
        state.calls = 0;
        state.poll_end = self.now.saturating_add(wait).saturating_add(late);
        state.poll_skew = state.skew;
    }

    pub(super) fn leave_poll(&mut self, host: usize) {
        self.hosts[host].stage = Stage::Turning;
    }

    /// Looks whether a poll is over; if it is not, time goes on to the next thing.
    pub(super) fn poll_step(&mut self, host: usize, events: &mut Vec<Event>, most: usize) -> Step {
        self.apply_due();
        // Each has its turn, also beside one that never blocks.
        if std::mem::take(&mut self.hosts[host].has_begun) {
            if let (Some(other), Some(driver)) = (self.host_between_turns(), &self.driver) {
                return Step::Drive(other, Rc::clone(driver));
            }
        }
        if self.collect(host, events, most) {
            self.hosts[host].empty_polls = 0;
            return Step::Return;
        }
        let end = self.hosts[host].poll_end;
        if self.now >= end || self.rest != Rest::Busy {
            return Step::Return;
        }
        if self.outer_is_ready(host) || self.chance.strikes(Fault::InterruptedPoll) {
            self.hosts[host].empty_polls = 0;
            return Step::Return;
        }
        if let (Some(other), Some(driver)) = (self.host_between_turns(), &self.driver) {
            return Step::Drive(other, Rc::clone(driver));
        }
        self.pass_time()
    }

    /// Goes on to the next thing that happens, if there is one before the end.
    fn pass_time(&mut self) -> Step {
        let polling = self.hosts.iter().filter(|host| host.stage == Stage::Polling);
        let end = polling.map(|host| host.poll_end).min().unwrap_or(u64::MAX);
        let next = self.agenda.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at).min(end);
        if next == u64::MAX {
            self.rest = Rest::Quiet;
            return Step::Return;
        }
        if next > self.end {
            self.now = self.now.max(self.end);
            self.rest = Rest::Over;
            return Step::Return;
        }
        self.now = self.now.max(next);
        Step::Again
    }

    /// Whether a host below on the stack, whose poll has been waiting longer, can go on.
    fn outer_is_ready(&self, inner: usize) -> bool {
        let mut others = self
            .hosts
            .iter()
            .enumerate()
            .filter(|&(index, host)| index != inner && host.stage == Stage::Polling);
        others.any(|(_, host)| host.poll_end <= self.now || host.has_news(self.now))
    }

    fn host_between_turns(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.stage == Stage::Between)
    }

    /// Moves what a host's poll has to report into `events`; whether that is anything.
    fn collect(&mut self, host: usize, events: &mut Vec<Event>, most: usize) -> bool {
        self.collect_waker(host, events);
        if self.chance.strikes(Fault::ReorderedEvents) {
            let count = self.hosts[host].listed.len();
            let turn = self.chance.below(1 + count as u64) as usize;
            self.hosts[host].listed.rotate_left(turn % count.max(1));
        }
        let mut room = most.saturating_sub(events.len());
        if self.chance.strikes(Fault::SmallBatch) {
            room = room.min(1 + self.chance.below(3) as usize);
        }
        for _ in 0..self.hosts[host].listed.len() {
            let Some((socket, from)) = self.hosts[host].listed.pop_front() else { break };
            if from > self.now || room == 0 {
                self.hosts[host].listed.push_back((socket, from));
            } else if self.report(host, socket, events) {
                room -= 1;
            }
        }
        if !events.is_empty() {
            self.add_false_events(host, events);
        }
        !events.is_empty()
    }

    fn collect_waker(&mut self, host: usize, events: &mut Vec<Event>) {
        let Some((token, woken)) = &self.hosts[host].waker else { return };
        if woken.swap(false, Ordering::SeqCst) {
            events.push(Event::new(*token, 1));
            self.note(Some(host), Note::Event { socket: None, bits: 1 });
        }
    }

    /// Reports one socket, if it has anything to say; whether it had.
    fn report(&mut self, host: usize, socket: u32, events: &mut Vec<Event>) -> bool {
        let Some(mut registration) = self.sockets[socket as usize].registration else {
            return false;
        };
        registration.is_listed = false;
        let bits = self.readiness(socket) & registration.armed;
        if !self.hosts[host].edges_are_native {
            // Reported once, and again after a call has found the socket not ready.
            registration.armed &= !(bits & 3);
            let is_stream = self.sockets[socket as usize].stage != SocketStage::Datagrams;
            if bits & 8 != 0 && is_stream {
                registration.is_let_go = true;
            }
        }
        self.sockets[socket as usize].registration = Some(registration);
        if bits == 0 {
            return false;
        }
        events.push(Event::new(registration.token, bits));
        self.note(Some(host), Note::Event { socket: Some(socket), bits });
        if self.chance.strikes(Fault::DuplicateEvent) {
            self.list(socket);
        }
        true
    }

    /// Adds events that are not true, or that come for a socket which is closed.
    fn add_false_events(&mut self, host: usize, events: &mut Vec<Event>) {
        if self.chance.strikes(Fault::SpuriousEvent) && !self.hosts[host].registered.is_empty() {
            let count = self.hosts[host].registered.len() as u64;
            let socket = self.hosts[host].registered[self.chance.below(count) as usize];
            if let Some(registration) = self.sockets[socket as usize].registration {
                events.push(Event::new(registration.token, 3 & registration.interest));
                self.note(Some(host), Note::Event { socket: Some(socket), bits: 3 });
            }
        }
        if self.chance.strikes(Fault::StaleEvent) && !self.hosts[host].stale.is_empty() {
            let count = self.hosts[host].stale.len() as u64;
            let token = self.hosts[host].stale[self.chance.below(count) as usize];
            // A connection may have its token again, for another try; the poll has let go of the
            // socket before that.
            if self.registered(host, token).is_none() {
                events.insert(0, Event::new(token, 15));
                self.note(Some(host), Note::Fault { fault: Fault::StaleEvent, nanos: 0 });
            }
        }
    }
}
