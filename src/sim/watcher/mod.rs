//! The rules, watched: at every callback, and between the turns.

mod callbacks;
mod datagrams;
mod turns;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::coverage::{Landmark, Landmarks};
use crate::base::close::IdleKind;
use crate::base::id::ConnId;
use crate::base::tick::NANOS_PER_TICK;
use crate::engine::Running;
use crate::handler::Loop;
use crate::stream::connection::{Connection, Flags, Phase, Watch, WriteSide};
use crate::stream::room::Wait;
use crate::sys::Stream;
use crate::sys::sim::World;

pub(super) use callbacks::Told;
use turns::{Sending, Waiting};

/// What is known of one open connection.
#[derive(Debug)]
struct Life {
    socket: u32,
    has_ended: bool,
    /// A layer stands before its handler, which is lent other bytes than were read.
    is_layered: bool,
    /// What its handler left unconsumed.
    rest: Vec<u8>,
    /// What it has given back since, which stands before that.
    given_back: Vec<u8>,
    /// That is to be lent again before the end: reading was held back when it was left, or had no
    /// room when what it is the rest of was left, and either the connection was not broken yet, or
    /// the handler had consumed something then.
    is_owed: bool,
    /// What came with a balancer's header, if `on_open` holds reading back, until `on_data` has
    /// seen it.
    held: usize,
    /// When each kind of silence began at the latest: opened, kept although idle, or, for that of
    /// the peer, reading was held back.
    silent_since: [u64; 3],
    /// Its output was over the high mark when the last turn ended.
    was_backed_up: bool,
    /// Whether `on_drain` has been called since.
    has_drained: bool,
    /// A deadline had passed when the last turn ended.
    was_overdue: bool,
    /// Its output waits for its place on a list of the loop.
    waiting: Option<Waiting>,
    /// Bytes that its socket has taken, as far as the loop has told of them.
    sent: u64,
}

/// Watches one host.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) world: Rc<RefCell<World>>,
    host: usize,
    lives: HashMap<ConnId, Life>,
    /// A callback is running.
    is_in_callback: bool,
    /// What the first callback said that panicked.
    panic_texts: Vec<String>,
    /// Accepted or begun connections whose states are alive.
    states: i64,
    pub(super) landmarks: Landmarks,
    /// When the wheel wanted to be looked at, by the end of the last turn; in ticks.
    due: Option<u64>,
    /// Timers and messages that have been run.
    work: (u64, u64),
    /// Callbacks that have panicked, and timers that have fired.
    panics: u64,
    timers_fired: u64,
    /// Turns so far.
    turn: usize,
    /// The nanosecond of the host's clock at which the reactor was made.
    start: u64,
    /// What the phase that is on has sent.
    sending: Sending,
    /// Bytes that sockets have taken, as far as the loop has told of them.
    sent: u64,
}

/// Polls in a row with nothing to do before the loop counts as spinning.
const SPIN_POLLS: u32 = 100;

/// Connections that are looked at after each turn, on average.
const LOOKS_PER_TURN: usize = 32;

/// What a wait of a poll may exceed a deadline by: its millisecond, and the call itself.
const SLACK_NANOS: u64 = 2 * NANOS_PER_TICK;

impl Watcher {
    pub(super) fn new(world: &Rc<RefCell<World>>, host: usize) -> Self {
        let start = world.borrow().clock(host);
        Self {
            world: Rc::clone(world),
            host,
            lives: HashMap::new(),
            is_in_callback: false,
            panic_texts: Vec::new(),
            states: 0,
            landmarks: Landmarks::default(),
            due: None,
            work: (0, 0),
            panics: 0,
            timers_fired: 0,
            turn: 0,
            start,
            sending: Sending::default(),
            sent: 0,
        }
    }

    /// What callbacks said that have panicked since this was asked.
    pub(super) fn take_panic_texts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.panic_texts)
    }

    fn violate(&self, id: Option<ConnId>, rule: &str) {
        let mut world = self.world.borrow_mut();
        let host = world.hosts[self.host].name.clone();
        let who = id.map_or_else(String::new, |id| format!(" {id}:"));
        world.violate(format!("{host}:{who} {rule}"));
    }

    /// While reading is held back it is not the peer who is silent.
    fn note_pause(&mut self, id: ConnId, connection: &Connection<Stream>) {
        if connection.wants_read() {
            return;
        }
        let now = self.world.borrow().clock(self.host);
        if let Some(life) = self.lives.get_mut(&id) {
            life.silent_since[IdleKind::Read as usize] = now;
        }
    }

    /// What has passed at the end of a turn has been dealt with at the end of the next, unless a
    /// panic or their budget has cut the timers of that short.
    fn check_deadline(&mut self, lp: &Loop, id: ConnId, connection: &Connection<Stream>) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let deadline = connection.deadline(|stamp| lp.engine.timers.latest(stamp));
        let is_overdue = deadline <= lp.engine.now() && !connection.flags.has(Flags::ERROR);
        let was_overdue = std::mem::replace(&mut life.was_overdue, is_overdue);
        let fired = lp.engine.stats.timers_fired - self.timers_fired;
        let is_behind = lp.engine.timers.next_deadline().is_some_and(|due| due <= lp.engine.now());
        let is_cut = fired >= lp.engine.options().timers_per_turn as u64 || is_behind;
        if is_overdue && was_overdue && !is_cut && lp.engine.stats.panics == self.panics {
            self.violate(Some(id), "its deadline has passed");
        }
    }

    /// Output that fell to the low mark is told of.
    fn check_drain(&mut self, id: ConnId, connection: &Connection<Stream>) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let has_fallen = life.was_backed_up && !connection.flags.has(Flags::ABOVE_MARK);
        let is_missed = has_fallen && !life.has_drained && connection.takes_output();
        (life.was_backed_up, life.has_drained) = (connection.flags.has(Flags::ABOVE_MARK), false);
        if is_missed && connection.is_open() {
            self.violate(Some(id), "output has drained without on_drain");
        }
    }

    // Between the turns.

    /// The rules that hold whenever no turn is on.
    pub(super) fn check(&mut self, lp: &Loop) {
        self.check_wheel(lp);
        self.check_room(lp);
        // A look at a thousand connections would cost far more than the turn.
        self.turn += 1;
        if self.turn % (1 + lp.streams.len() / LOOKS_PER_TURN) > 0 {
            return;
        }
        for (id, connection) in lp.streams.iter() {
            self.look_at(connection);
            self.note_pause(id, connection);
            self.check_drain(id, connection);
            self.check_deadline(lp, id, connection);
            self.check_place(lp, id, connection);
            self.check_sent(id, connection);
            let rule = self.broken_rule(lp, id, connection);
            if let Some(rule) = rule.or_else(|| Self::held_rule(connection)) {
                self.violate(Some(id), rule);
            }
        }
        self.panics = lp.engine.stats.panics;
        self.timers_fired = lp.engine.stats.timers_fired;
        self.check_listeners(lp);
        self.check_sockets(lp);
        self.check_counts(lp);
    }

    fn look_at(&mut self, connection: &Connection<Stream>) {
        let marks = [
            (Landmark::Connecting, connection.is_connecting()),
            (Landmark::Closing, matches!(connection.phase(), Phase::Closing(_))),
            (Landmark::Lingering, matches!(connection.phase(), Phase::Lingering(_))),
            (Landmark::Severed, matches!(connection.phase(), Phase::OutputFailed)),
            (Landmark::Plain, connection.flags.is_usual()),
            (Landmark::Ready, connection.flags.has(Flags::IN_READY_QUEUE)),
            (Landmark::Dirty, connection.flags.has(Flags::IN_FLUSH_LIST)),
            (Landmark::Paused, connection.flags.has(Flags::PAUSED)),
            (Landmark::BackedUp, connection.flags.has(Flags::ABOVE_MARK)),
            (Landmark::Unconsumed, connection.has_input()),
            (
                Landmark::HalfClosed,
                connection.is_open() && connection.write_side() == WriteSide::FinSent,
            ),
            (Landmark::PeerEnded, connection.is_open() && connection.flags.has(Flags::READ_CLOSED)),
            (Landmark::EmulatedEdges, !connection.stream.short_means_done()),
            (Landmark::Handshake, matches!(connection.phase(), Phase::Handshake)),
            (Landmark::Layered, connection.flags.has(Flags::LAYERED)),
            (Landmark::Truncated, connection.is_truncated()),
            (Landmark::EndHeldBack, connection.has_unreported_end()),
        ];
        for (landmark, is_so) in marks {
            if is_so {
                self.landmarks.reach(landmark);
            }
        }
    }

    fn broken_rule(
        &self,
        lp: &Loop,
        id: ConnId,
        connection: &Connection<Stream>,
    ) -> Option<&'static str> {
        let is_dead = connection.is_closed();
        let (held, given_back) =
            self.lives.get(&id).map_or((0, 0), |life| (life.held, life.given_back.len()));
        let rules = [
            (
                is_dead && !lp.engine.end_of_turn.closed().iter().any(|&(it, _)| it == id),
                "dead and not buried",
            ),
            (
                !is_dead
                    && connection.flags.has(Flags::IN_READY_QUEUE)
                    && !lp.engine.ready.connections().contains(&id),
                "marked ready and not on the queue",
            ),
            (
                !is_dead
                    && connection.flags.has(Flags::IN_FLUSH_LIST)
                    && !lp.engine.end_of_turn.flushes().contains(&id),
                "marked dirty and not on the list",
            ),
            (
                !is_dead
                    && connection.watch == Watch::Nothing
                    && !connection.flags.has(Flags::UNOPENED | Flags::IN_FLUSH_LIST),
                "no poll watches it",
            ),
            (
                connection.output_in_memory() > connection.config.max_output,
                "more output queued than the cap",
            ),
            (
                !is_dead
                    && connection.input().len()
                        > connection.config.max_input.max(held) + given_back,
                "more input kept than the cap",
            ),
            (
                !connection.flags.has(Flags::UNOPENED) && !self.lives.contains_key(&id),
                "open, and its handler does not know it",
            ),
            (
                // A broken one is read to its end at once, whatever its limits say.
                !is_dead
                    && !connection.flags.has(Flags::ERROR)
                    && connection.deadline(|stamp| lp.engine.timers.latest(stamp))
                        < connection.armed.tick()
                    && !lp.engine.timers.deferred().contains(&id),
                "its deadline is not in the wheel",
            ),
        ];
        let broken = rules.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, rule)| rule);
        broken.or_else(|| if is_dead { None } else { self.stuck_rule(connection) })
    }

    /// With as many requests outstanding as may be nothing is read, and with half as many it is
    /// again, unless something else holds reading back.
    fn held_rule(connection: &Connection<Stream>) -> Option<&'static str> {
        let flags = connection.flags;
        if !connection.is_open() || flags.has(Flags::ERROR) {
            return None;
        }
        let (requests, max) = (connection.requests(), connection.config.max_requests);
        if requests >= max && connection.wants_read() {
            return Some("as many requests are outstanding as may be, and it is read");
        }
        let is_backed_up = flags.has(Flags::ABOVE_MARK) && connection.config.pause_at_high_mark;
        let others = Flags::PAUSED | Flags::CLOSED_BY_HANDLER | Flags::READ_CLOSED;
        let is_free = requests <= max / 2 && !flags.has(others) && !is_backed_up;
        if is_free && !connection.wants_read() {
            return Some("its requests are answered, and it is not read");
        }
        let is_queued = flags.has(Flags::IN_READY_QUEUE | Flags::IN_FLUSH_LIST);
        if is_free && connection.can_replay() && !is_queued {
            return Some("what was left is to be seen again, and has no place in the queue");
        }
        None
    }

    /// Invariant 7: no connection waits for an event that does not come.
    fn stuck_rule(&self, connection: &Connection<Stream>) -> Option<&'static str> {
        let key = connection.stream.simulated()?;
        let world = self.world.borrow();
        // Of an outgoing one it may be an earlier try that has broken.
        let is_accepted = connection.config.listener.is_some();
        let is_broken = world.sockets[key as usize].is_broken();
        if is_accepted && connection.flags.has(Flags::ERROR) && !is_broken {
            return Some("it is marked as broken, and its socket is not");
        }
        let is_awaited = world.is_listed(key) || connection.is_connecting();
        if is_awaited || connection.flags.has(Flags::IN_READY_QUEUE | Flags::IN_FLUSH_LIST) {
            return None;
        }
        let socket = &world.sockets[key as usize];
        if connection.wants_read() && connection.has_unreported_end() {
            return Some("the end of a layer's peer waits, and no event for it will come");
        }
        // One that is said to be broken is looked at again, and may have no more than its end.
        let knows_all = connection.flags.has(Flags::READ_CLOSED) && socket.has_its_end_alone();
        if connection.wants_read() && socket.is_readable() && !knows_all {
            return Some("there is input, and no event for it will come");
        }
        let waits = connection.can_flush() && !socket.wants_room;
        if waits && world.is_writable(key) {
            return Some("there is output and room for it, and no event for it will come");
        }
        None
    }

    fn check_listeners(&mut self, lp: &Loop) {
        for (_, listener) in lp.streams.listeners() {
            let marks = [
                (Landmark::ListenerReady, listener.is_queued),
                (Landmark::BackingOff, listener.is_backing_off),
                (Landmark::Waiting, listener.wait != Wait::No),
            ];
            for (landmark, is_so) in marks {
                if is_so {
                    self.landmarks.reach(landmark);
                }
            }
            let Some(key) = listener.socket().and_then(|it| it.simulated()) else { continue };
            let world = self.world.borrow();
            let queues = world.sockets[key as usize].is_readable() && !world.is_listed(key);
            drop(world);
            if queues && !marks.iter().any(|&(_, is_so)| is_so) {
                self.violate(None, "connections queue, and the listener will not look");
            }
        }
    }

    fn check_counts(&mut self, lp: &Loop) {
        let queued: usize = lp.streams.iter().map(|(_, it)| it.plain_in_memory()).sum();
        if queued != lp.engine.spares.output() {
            self.violate(None, "the count of queued output is not the sum of the queues");
        }
        if lp.engine.stats.bytes_written != self.sent {
            self.violate(None, "the count of bytes written is not what was told of");
        }
        let slots = lp.streams.len();
        if lp.engine.stats.connections != slots as u64 {
            self.violate(None, "the count of connections is not that of the slots");
        }
        let opened = lp.streams.iter().filter(|(_, it)| !it.flags.has(Flags::UNOPENED));
        if opened.count() != self.lives.len() {
            self.violate(None, "connections have gone without on_close");
        }
        let connectors = lp.streams.iter().filter_map(|(_, it)| it.connector());
        let attempts: usize = connectors.map(|connector| connector.attempts.len()).sum();
        if attempts != lp.engine.io.attempts() {
            self.violate(None, "an attempt to connect is not a connection's");
        }
        if attempts > 1 {
            self.landmarks.reach(Landmark::Race);
        }
        if lp.engine.stats.connect_retries > 0 {
            self.landmarks.reach(Landmark::Retry);
        }
        let work = (lp.engine.stats.timers_fired, lp.engine.stats.messages);
        let mut world = self.world.borrow_mut();
        let host = &mut world.hosts[self.host];
        if work != self.work || !lp.engine.options().busy_poll.is_zero() {
            host.empty_polls = 0;
        }
        let spins = host.empty_polls > SPIN_POLLS;
        drop(world);
        self.work = work;
        if spins {
            self.violate(None, "the loop spins: it polls and does nothing");
        }
        if lp.engine.stats.accept_errors > 0 {
            self.landmarks.reach(Landmark::AcceptFailed);
        }
        if lp.engine.stats.refused > 0 {
            self.landmarks.reach(Landmark::Refused);
        }
        if lp.engine.stats.messages > 0 {
            self.landmarks.reach(Landmark::Messages);
        }
        if !lp.engine.timers.deferred().is_empty() {
            self.landmarks.reach(Landmark::Nursery);
        }
    }

    /// The poll may not sleep past what the wheel wants.
    fn check_wheel(&mut self, lp: &Loop) {
        let due = lp.engine.timers.next_deadline();
        if let Some(due) = self.due {
            let world = self.world.borrow();
            let host = &world.hosts[self.host];
            let wanted = (self.start + due * NANOS_PER_TICK).saturating_sub(host.poll_skew);
            let (began, end) = host.asked;
            drop(world);
            if end > wanted.max(began) + SLACK_NANOS {
                self.violate(None, "the poll would have slept past a deadline");
            }
        }
        self.due = due;
    }

    /// What was set from outside a turn may have moved the deadlines.
    pub(super) fn forget_due(&mut self) {
        self.due = None;
    }

    /// Nothing will ever happen again: nothing may be left to do.
    pub(super) fn check_quiet(&mut self, lp: &Loop) {
        if lp.posts.mailbox.has_messages() && !lp.engine.is_stopping() {
            self.violate(None, "messages wait, and nobody wakes the loop");
        }
        if lp.has_work() && lp.engine.running() != Running::Stopped {
            self.violate(None, "the loop sleeps over work that it has");
        }
    }

    /// A reactor has been stopped: everything it held is given back.
    pub(super) fn check_stopped(&mut self, lp: &Loop) {
        if lp.engine.running() != Running::Stopped {
            self.violate(None, "the reactor has not stopped in time");
        }
        let (slots, listeners) = (lp.streams.len(), lp.streams.listeners().count());
        let sockets = lp.datagrams.iter().count();
        if sockets > 0 {
            self.violate(None, &format!("{sockets} datagram sockets are left"));
        }
        if slots + listeners > 0 {
            self.violate(None, &format!("{slots} slots and {listeners} listeners are left"));
        }
        if lp.streams.counted() > 0 {
            self.violate(None, "the cap counts connections that are gone");
        }
    }

    /// At the end, when the reactor is gone.
    pub(super) fn check_end(&mut self) {
        let left = self.lives.len();
        if left > 0 {
            self.violate(None, &format!("{left} connections ended without on_close"));
        }
        if self.states != 0 {
            let states = self.states;
            self.violate(None, &format!("{states} states were not given back"));
        }
        let files = self.world.borrow().hosts[self.host].used;
        if files > 0 {
            self.violate(None, &format!("{files} descriptors are left open"));
        }
    }
}
