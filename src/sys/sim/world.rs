//! The state of a simulated world: time, what is to happen, the hosts, and the weather.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Event;
use super::chance::{Chance, Fault, Faults};
use super::datagram::Post;
use super::faults::Link;
use super::peer::Peer;
use super::socket::{Owner, Socket, SocketStage};
use super::trace::{Note, Trace};
use crate::sys::Readiness;

/// Nanoseconds of a microsecond, a millisecond, a second.
pub(super) const MICRO: u64 = 1_000;
pub(super) const MILLI: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// What a system call takes.
const CALL_NANOS: u64 = 700;

/// Strokes of weather in one run: after them it stays fine, so that every run comes to its end.
const STROKES: u32 = 12;

/// Everything there is.
pub(crate) struct World {
    /// Nanoseconds since the beginning.
    pub(crate) now: u64,
    /// What is to happen, by time and then by order of arrangement.
    agenda: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    /// The number of the next arrangement.
    arranged: u64,
    /// When the run is over.
    pub(crate) end: u64,
    /// How the run stands.
    pub(crate) rest: Rest,
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    /// All sockets that ever were; their numbers are not used again.
    pub(crate) sockets: Vec<Socket>,
    pub(crate) hosts: Vec<HostState>,
    pub(crate) peers: Vec<Peer>,
    pub(super) post: Post,
    /// What names stand for.
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
    /// What other threads do, and is not done yet.
    calls: Vec<Option<Box<dyn FnOnce()>>>,
    /// What broke a rule that the world itself watches.
    pub(crate) violations: Vec<String>,
    /// Runs one turn of a host that is not in its poll.
    pub(crate) driver: Option<Rc<dyn Fn(usize)>>,
    /// Strokes of weather left.
    pub(super) strokes: u32,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Something is to happen.
    Busy,
    /// Nothing will ever happen again.
    Quiet,
    /// The end of the run has come.
    Over,
}

/// Something to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// The next segment reaches a socket.
    Arrive(u32),
    /// A SYN reaches its address, for the n-th time.
    Syn(u32, u8),
    /// A connect has come to its end.
    Established(u32),
    /// The last packet of a handshake reaches a listener, for one of its connections.
    Acknowledged(u32, u32),
    /// A connect is refused.
    Refused(u32),
    /// A connect is given up by the system.
    TimedOut(u32),
    /// A writer has room again.
    Room(u32),
    /// The network breaks a connection.
    Break(u32),
    /// A datagram arrives, by its number.
    Datagram(u32),
    /// So many bytes of datagrams have left the machine of a socket.
    Left(u32, u32),
    /// The poll of a host has an event that was held back.
    Held,
    /// A script goes on.
    Peer(u32),
    /// Another thread does something.
    Call(u32),
    /// Descriptors come back.
    Descriptors(u32),
    /// Something befalls a host or a link.
    Weather,
}

/// One process with a reactor.
#[derive(Debug)]
pub(crate) struct HostState {
    pub(crate) name: String,
    /// How far its clock is ahead of the world.
    pub(crate) skew: u64,
    /// The same when its last poll began.
    pub(crate) poll_skew: u64,
    /// Most descriptors, how many it has, and how many are taken from it for now.
    pub(crate) files: u64,
    pub(crate) used: u64,
    pub(super) taken: u64,
    /// Sockets with news for its poll, each not before a time.
    pub(super) listed: VecDeque<(u32, u64)>,
    /// Its waker: the token, and whether it was woken.
    pub(crate) waker: Option<(usize, Arc<AtomicBool>)>,
    /// Tokens of closed sockets, for events that come too late.
    stale: Vec<usize>,
    pub(crate) edges_are_native: bool,
    pub(crate) stage: Stage,
    /// Its poll has just begun.
    has_begun: bool,
    /// When its poll ends by itself, while it polls.
    poll_end: u64,
    /// System calls since the last poll, and polls in a row without any or an event.
    calls: u32,
    pub(crate) empty_polls: u32,
    /// Sockets that the poll can report.
    pub(super) registered: Vec<u32>,
    pub(super) link: Link,
    /// Time that faults took from it: jumps and standstills.
    pub(crate) stolen_nanos: u64,
    /// When its last poll began, and was asked to end at the latest.
    pub(crate) asked: (u64, u64),
    pub(crate) polls: u64,
    pub(crate) system_calls: u64,
}

/// What a host is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody drives it.
    Idle,
    /// It is between two turns.
    Between,
    /// It is in a turn, and not in its poll.
    Turning,
    /// It is in its poll.
    Polling,
}

/// What a step of a poll came to.
pub(super) enum Step {
    Return,
    Again,
    /// Another host has its turn meanwhile.
    Drive(usize, Rc<dyn Fn(usize)>),
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut world = Self {
            now: 0,
            agenda: BinaryHeap::new(),
            arranged: 0,
            end: u64::MAX,
            rest: Rest::Busy,
            chance: Chance::new(seed, faults),
            trace: Trace::new(),
            sockets: Vec::new(),
            hosts: Vec::new(),
            peers: Vec::new(),
            post: Post::default(),
            names: BTreeMap::new(),
            calls: Vec::new(),
            violations: Vec::new(),
            driver: None,
            strokes: STROKES,
        };
        world.arrange_weather();
        world
    }

    /// Adds a host and gives its number.
    pub(crate) fn add_host(&mut self, name: &str, files: u64) -> usize {
        let link = self.draw_link();
        let is_emulated = self.chance.is_on(Fault::EmulatedEdges) && self.chance.one_in(2);
        self.chance.struck[Fault::EmulatedEdges as usize] += u64::from(is_emulated);
        self.hosts.push(HostState {
            name: name.to_owned(),
            skew: 0,
            poll_skew: 0,
            files,
            used: 0,
            taken: 0,
            listed: VecDeque::new(),
            waker: None,
            stale: Vec::new(),
            edges_are_native: !is_emulated,
            stage: Stage::Idle,
            has_begun: false,
            poll_end: 0,
            calls: 0,
            empty_polls: 0,
            registered: Vec::new(),
            link,
            stolen_nanos: 0,
            asked: (0, 0),
            polls: 0,
            system_calls: 0,
        });
        self.hosts.len() - 1
    }

    /// The address of a host.
    pub(crate) fn ip_of(host: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + host as u32))
    }

    /// What a name stands for, if it is known.
    pub(super) fn addresses(&self, name: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let ips = self.names.get(name)?;
        Some(ips.iter().map(|&ip| SocketAddr::new(ip, port)).collect())
    }

    pub(super) fn arrange(&mut self, at: u64, happening: Happening) {
        self.arranged += 1;
        self.agenda.push(Reverse((at.max(self.now), self.arranged, happening)));
    }

    /// Has another thread do something at a time.
    pub(crate) fn arrange_call(&mut self, at: u64, call: Box<dyn FnOnce()>) {
        self.calls.push(Some(call));
        self.arrange(at, Happening::Call(self.calls.len() as u32 - 1));
    }

    pub(crate) fn note(&mut self, host: Option<usize>, note: Note) {
        self.trace.note(self.now, host.map(|host| host as u32), note);
    }

    pub(crate) fn violate(&mut self, text: String) {
        if self.violations.len() < 20 {
            self.violations.push(text);
        }
    }

    /// What the clock of a host shows.
    pub(crate) fn clock(&self, host: usize) -> u64 {
        self.now + self.hosts[host].skew
    }

    /// The same for whoever owns a socket; peers go by the world's clock.
    pub(super) fn clock_of(&self, owner: Owner) -> u64 {
        match owner {
            Owner::Host(host) => self.clock(host as usize),
            _ => self.now,
        }
    }

    /// A host makes a system call: it takes time, and things happen meanwhile.
    pub(super) fn enter(&mut self, host: usize) {
        self.hosts[host].calls += 1;
        self.hosts[host].system_calls += 1;
        self.now += CALL_NANOS;
        if self.strokes > 0 && self.chance.strikes(Fault::ClockJump) {
            self.strokes -= 1;
            let nanos = self.chance.spread(MILLI, 60 * SECOND);
            self.hosts[host].skew += nanos;
            self.hosts[host].stolen_nanos += nanos;
            self.note(Some(host), Note::Fault { fault: Fault::ClockJump, nanos });
        }
        self.apply_due();
    }

    /// Everything whose time has come happens.
    pub(super) fn apply_due(&mut self) {
        while let Some(&Reverse((at, _, happening))) = self.agenda.peek() {
            if at > self.now {
                return;
            }
            self.agenda.pop();
            self.apply(happening);
        }
    }

    fn apply(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(socket) => self.arrive(socket),
            Happening::Syn(socket, tries) => self.knock(socket, tries),
            Happening::Established(socket) => self.establish(socket),
            Happening::Acknowledged(listener, child) => self.queue_child(listener, child),
            Happening::Refused(socket) => self.fail_connect(socket, ErrorKind::ConnectionRefused),
            Happening::TimedOut(socket) => self.fail_connect(socket, ErrorKind::TimedOut),
            Happening::Room(socket) => self.make_room(socket),
            Happening::Break(socket) => self.break_connection(socket),
            Happening::Datagram(number) => self.deliver(number),
            Happening::Left(socket, bytes) => self.leave(socket, bytes),
            Happening::Held => {}
            Happening::Peer(peer) => self.go_on(peer as usize),
            Happening::Call(index) => {
                if let Some(call) = self.calls[index as usize].take() {
                    call();
                }
            }
            Happening::Descriptors(host) => self.hosts[host as usize].taken = 0,
            Happening::Weather => self.strike(),
        }
    }

    // Descriptors.

    /// Takes a descriptor of a host; `false` if there is none.
    pub(super) fn open_file(&mut self, host: usize) -> bool {
        let host = &mut self.hosts[host];
        let has_one = host.used + host.taken < host.files;
        host.used += u64::from(has_one);
        has_one
    }

    pub(super) fn close_file(&mut self, host: usize) {
        self.hosts[host].used -= 1;
    }

    // The poll.

    /// A host begins to poll; gives the time at which that ends by itself.
    pub(super) fn enter_poll(&mut self, host: usize, timeout: Option<u64>) {
        self.now += CALL_NANOS;
        self.note(Some(host), Note::Poll { timeout });
        // A poll of milliseconds ends with the millisecond, and not before.
        let whole = |nanos: u64| nanos.div_ceil(MILLI) * MILLI;
        let wait = timeout.map_or(u64::MAX, whole);
        self.hosts[host].asked = (self.now, self.now.saturating_add(wait));
        if self.strokes > 0 && self.chance.strikes(Fault::Stopped) {
            self.strokes -= 1;
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

    /// The world goes on without this process.
    pub(crate) fn stand_still(&mut self, nanos: u64) {
        let until = self.now + nanos;
        self.pass_until(until);
        self.now = until;
    }

    /// Everything happens that is to happen before the end of the run, without any host.
    pub(crate) fn pass_all(&mut self) {
        self.pass_until(self.end);
        if self.agenda.is_empty() {
            self.rest = Rest::Quiet;
        } else {
            self.now = self.now.max(self.end);
            self.rest = Rest::Over;
        }
    }

    fn pass_until(&mut self, until: u64) {
        while let Some(&Reverse((at, _, _))) = self.agenda.peek() {
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.apply_due();
        }
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

    /// Puts a socket on the list of its host's poll.
    pub(super) fn list(&mut self, socket: u32) {
        let entry = &self.sockets[socket as usize];
        let (Owner::Host(host), Some(registration)) = (entry.owner, entry.registration) else {
            return;
        };
        if registration.is_listed {
            return;
        }
        let mut from = self.now;
        if self.chance.strikes(Fault::DelayedEvent) {
            from += self.chance.spread(MICRO, 20 * MILLI);
            self.arrange(from, Happening::Held);
        }
        if let Some(registration) = &mut self.sockets[socket as usize].registration {
            registration.is_listed = true;
        }
        self.hosts[host as usize].listed.push_back((socket, from));
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

    /// Events that say what is not so, or come for somebody who is gone.
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
            events.insert(0, Event::new(token, 15));
            self.note(Some(host), Note::Fault { fault: Fault::StaleEvent, nanos: 0 });
        }
    }

    /// A registered socket was closed.
    pub(super) fn forget_token(&mut self, host: usize, socket: u32, token: usize) {
        let host = &mut self.hosts[host];
        if let Some(place) = host.registered.iter().position(|&entry| entry == socket) {
            host.registered.swap_remove(place);
        }
        if host.stale.len() == 16 {
            host.stale.remove(0);
        }
        host.stale.push(token);
    }

    /// Whether the poll of a host has this socket on its list still.
    pub(crate) fn is_listed(&self, socket: u32) -> bool {
        let socket = &self.sockets[socket as usize];
        socket.registration.is_some_and(|registration| registration.is_listed)
    }
}

impl HostState {
    /// Whether its poll would return.
    fn has_news(&self, now: u64) -> bool {
        self.listed.iter().any(|&(_, from)| from <= now)
            || self.waker.as_ref().is_some_and(|(_, woken)| woken.load(Ordering::SeqCst))
    }
}

impl Event {
    fn new(token: usize, bits: u8) -> Self {
        let readiness = Readiness {
            readable: bits & 1 != 0,
            writable: bits & 2 != 0,
            hung_up: bits & 4 != 0,
            broken: bits & 8 != 0,
        };
        Self { token, readiness }
    }
}
