//! What one connection waits for and until when, against an account of it without short cuts.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::buffer::Spares;
use crate::base::close::{CloseReason, IdleKind, TimeoutKind};
use crate::base::id::TimerId;
use crate::base::tick::{NEVER, after};
use crate::options::{Limits, MinRate};
use crate::stream::config::{ConnConfig, IdleLimits, Rate};
use crate::stream::connection::{Connection, Ending, Expiry, Flags, Phase};
use crate::tests::check_flags;
use crate::tests::fuzzing::input::Input;

/// When it began, with no bytes, and what has moved since: the tick and the bytes.
type Meter = Option<Vec<(u64, usize)>>;

/// The phases, as far as they are told apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Open,
    Closing,
    OutputFailed,
    Closed,
}

/// A connection and what should be true of it.
struct Pair {
    connection: Connection<()>,
    spares: Spares,
    now: u64,
    stage: Stage,
    /// Stays true once it is closed.
    has_failed: bool,
    wait: Option<(u64, Expiry)>,
    user_deadline: Option<u64>,
    sending: Meter,
    receiving: Meter,
    idle: IdleLimits,
    has_own_idle: bool,
    read_at: u64,
    written_at: u64,
    queued: usize,
    is_above: bool,
    is_paused: bool,
    is_ended: bool,
    unsent: usize,
    timers: Vec<TimerId>,
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut pair = Pair::new(&mut input);
    pair.check(&mut input);
    while !input.is_empty() && pair.stage != Stage::Closed {
        pair.step(&mut input);
        pair.check(&mut input);
    }
    pair.finish();
}

fn limits(input: &mut Input<'_>) -> Limits {
    let set = input.byte();
    let mut wait = |bit: u8| {
        let is_set = set >> bit & 1 == 1;
        is_set.then(|| Duration::from_millis(1 + input.number(12)))
    };
    let limits = Limits::default()
        .read_idle(wait(0))
        .write_idle(wait(1))
        .all_idle(wait(2))
        .first_byte_timeout(wait(3))
        .message_timeout(wait(4));
    let rate = wait(5).map(|grace| MinRate::new(1 + input.number(12) as u32, grace));
    let limits = limits
        .min_receive_rate(rate.filter(|_| set >> 6 & 1 == 1))
        .min_send_rate(rate.filter(|_| set >> 7 & 1 == 1));
    let high = 1 + usize::from(input.below(64));
    let low = usize::from(input.byte()) % high;
    limits.low_mark_bytes(low).high_mark_bytes(high).pause_at_high_mark(input.flag())
}

impl Pair {
    fn new(input: &mut Input<'_>) -> Self {
        let limits = limits(input);
        limits.check().unwrap();
        let config = Rc::new(ConnConfig::new(&limits, 0));
        let is_open = input.flag();
        let (stage, phase) = if is_open {
            (Stage::Open, Phase::Open)
        } else {
            (Stage::Connecting, Phase::Connecting)
        };
        let now = input.number(16);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut connection = Connection::new((), 1, &peer, config, phase, now);
        // Of one that is open the handler was told long ago.
        connection.flags.put(Flags::UNOPENED, !is_open);
        let wait = (!is_open).then_some((after(now, 50), Expiry::Connect));
        if wait.is_some() {
            connection.set_connect_wait(now, 50);
        }
        Self {
            idle: connection.config.idle,
            has_own_idle: false,
            connection,
            spares: Spares::default(),
            now,
            stage,
            has_failed: false,
            wait,
            user_deadline: None,
            sending: None,
            receiving: None,
            read_at: now,
            written_at: now,
            queued: 0,
            is_above: false,
            is_paused: false,
            is_ended: false,
            unsent: 0,
            timers: Vec::new(),
        }
    }

    /// Does a thing that the loop or a handler does, in phases in which it may.
    fn step(&mut self, input: &mut Input<'_>) {
        let is_open = self.stage == Stage::Open;
        match input.below(20) {
            0..3 => self.now += input.number(14),
            3 if self.stage == Stage::Connecting => self.open(),
            4 | 5 => self.receive(input.number(10) as usize),
            6 | 7 if self.connection.takes_output() => self.queue(input.below(32).into()),
            8 | 9 if is_open => self.send(input.below(32).into()),
            10 if is_open => self.watch_message(input.flag(), input.flag()),
            11 => self.set_user_deadline(input),
            12 => self.set_idle_limits(input),
            13 => self.pause_or_resume(),
            14 if is_open => {
                self.connection.flags.set(Flags::READ_CLOSED);
                self.is_ended = true;
            }
            15 => self.end(input),
            16 if is_open => self.keep(input),
            17 | 18 => self.drop_unused(),
            19 => self.set_timer(input),
            _ => {}
        }
    }

    fn open(&mut self) {
        self.connection.open(self.now);
        self.stage = Stage::Open;
        (self.read_at, self.written_at) = (self.now, self.now);
        let first_byte = self.connection.config.first_byte;
        let expiry = Expiry::Timeout(TimeoutKind::FirstByte);
        self.wait = first_byte.map(|limit| (after(self.now, limit), expiry));
        if self.queued > 0 && self.connection.config.send_rate.is_some() {
            self.sending.get_or_insert(vec![(self.now, 0)]);
        }
    }

    fn receive(&mut self, count: usize) {
        if self.connection.flags.is_usual() {
            self.connection.read_at = self.now; // the fast path
        } else {
            self.connection.note_received(count, self.now);
        }
        self.read_at = self.now;
        if matches!(self.wait, Some((_, Expiry::Timeout(TimeoutKind::FirstByte)))) {
            self.wait = None;
        }
        if let Some(moved) = &mut self.receiving {
            moved.push((self.now, count));
        }
    }

    fn queue(&mut self, count: usize) {
        self.connection.queue_output(&[7; 32][..count], &mut self.spares);
        self.queued += count;
        let crosses = !self.is_above && self.queued >= self.connection.config.high_mark;
        assert_eq!(self.connection.crosses_high_mark(), crosses);
        self.is_above |= crosses;
        if self.stage == Stage::Open && self.queued > 0 {
            self.connection.watch_output(self.now);
            if self.connection.config.send_rate.is_some() {
                self.sending.get_or_insert(vec![(self.now, 0)]);
            }
        }
    }

    fn send(&mut self, count: usize) {
        let count = count.min(self.queued);
        if count == 0 {
            return;
        }
        self.connection.consume_output(count, &mut self.spares);
        self.queued -= count;
        self.connection.note_sent(count, self.now);
        self.written_at = self.now;
        if let (Stage::Closing, Some((tick, Expiry::Timeout(TimeoutKind::Close)))) =
            (self.stage, &mut self.wait)
        {
            *tick = after(self.now, self.connection.config.close);
        }
        if let Some(moved) = &mut self.sending {
            moved.push((self.now, count));
        }
        if self.queued == 0 {
            self.sending = None;
        }
        let crosses = self.is_above && self.queued <= self.connection.config.low_mark;
        assert_eq!(self.connection.crosses_low_mark(), crosses);
        self.is_above &= !crosses;
    }

    fn watch_message(&mut self, incomplete: bool, new: bool) {
        if !self.connection.config.watches_messages() {
            return;
        }
        self.connection.watch_message(incomplete, new, self.now);
        let expiry = Expiry::Timeout(TimeoutKind::Message);
        if !incomplete || new {
            self.receiving = None;
            self.wait = self.wait.filter(|&(_, kind)| kind != expiry);
        }
        if incomplete {
            if self.connection.config.receive_rate.is_some() {
                self.receiving.get_or_insert(vec![(self.now, 0)]);
            }
            if let (None, Some(limit)) = (self.wait, self.connection.config.message) {
                self.wait = Some((after(self.now, limit), expiry));
            }
        }
    }

    fn set_user_deadline(&mut self, input: &mut Input<'_>) {
        let wait = input.flag().then(|| input.number(12));
        self.user_deadline = wait.map(|wait| after(self.now, wait));
        self.connection.set_user_deadline(self.user_deadline.unwrap_or(NEVER));
    }

    fn set_idle_limits(&mut self, input: &mut Input<'_>) {
        let mut limit = || input.flag().then(|| 1 + input.number(12));
        self.idle = IdleLimits { read: limit(), write: limit(), all: limit() };
        self.connection.set_idle_limits(self.idle);
        self.has_own_idle = true;
    }

    fn pause_or_resume(&mut self) {
        self.is_paused = !self.is_paused;
        self.connection.flags.put(Flags::PAUSED, self.is_paused);
        if !self.is_paused {
            self.connection.read_at = self.now;
            self.read_at = self.now;
        }
    }

    /// Closing, output that fails, the end.
    fn end(&mut self, input: &mut Input<'_>) {
        let close = Expiry::Timeout(TimeoutKind::Close);
        match (input.below(4), self.stage) {
            (0 | 1, Stage::Open) => {
                self.connection.enter(Phase::Closing(Ending::Local));
                self.connection.clear_waits();
                self.clear_waits(Stage::Closing);
            }
            (0 | 1, Stage::Closing) => {
                self.connection.set_close_wait(self.now);
                let limit = self.connection.config.close;
                self.wait.get_or_insert((after(self.now, limit), close));
            }
            (2, Stage::Open | Stage::Closing) => {
                self.connection.fail_output(CloseReason::Reset, self.now, &mut self.spares);
                self.clear_waits(Stage::OutputFailed);
                self.has_failed = true;
                self.wait = Some((after(self.now, self.connection.config.close), close));
                self.unsent += std::mem::take(&mut self.queued);
                self.sending = None;
            }
            (3, _) => {
                self.connection.enter(Phase::Closed);
                self.stage = Stage::Closed;
            }
            _ => {}
        }
    }

    fn clear_waits(&mut self, next: Stage) {
        self.stage = next;
        (self.wait, self.receiving, self.user_deadline) = (None, None, None);
    }

    /// Puts away what is not needed: with nothing unusual left the fast path is open again.
    fn drop_unused(&mut self) {
        self.connection.drop_unused();
        assert_eq!(self.connection.has_cold(), self.needs_cold());
        assert_eq!(self.connection.flags.is_usual(), self.is_usual());
    }

    fn keep(&mut self, input: &mut Input<'_>) {
        let kind = [IdleKind::Read, IdleKind::Write, IdleKind::All][usize::from(input.below(3))];
        self.connection.keep(kind, self.now);
        if kind != IdleKind::Write {
            self.read_at = self.now;
        }
        if kind != IdleKind::Read {
            self.written_at = self.now;
        }
    }

    fn set_timer(&mut self, input: &mut Input<'_>) {
        let timer = TimerId::new(input.below(8).into(), 1, 1);
        if let Some(at) = self.timers.iter().position(|&known| known == timer) {
            self.connection.remove_timer(timer);
            self.timers.remove(at);
        } else {
            // All are live, so none may be forgotten.
            self.connection.add_timer(timer, |_| true);
            self.timers.push(timer);
        }
    }

    fn needs_cold(&self) -> bool {
        self.wait.is_some()
            || self.sending.is_some()
            || self.receiving.is_some()
            || self.has_own_idle
            || self.unsent > 0
            || !self.timers.is_empty()
    }

    /// Whether there is nothing that a message would have to look at.
    fn is_usual(&self) -> bool {
        self.stage == Stage::Open
            && self.queued == 0
            && !(self.is_above || self.is_paused || self.is_ended)
            && !self.needs_cold()
    }

    fn wants_read(&self) -> bool {
        let is_held = self.is_above && self.connection.config.pause_at_high_mark;
        match self.stage {
            Stage::Open => !(self.is_ended || self.is_paused || is_held),
            Stage::Closing => !self.is_ended,
            Stage::OutputFailed => true,
            Stage::Connecting | Stage::Closed => false,
        }
    }

    /// All that the connection waits for, by definition.
    fn waits(&self) -> Vec<(u64, Expiry)> {
        let mut waits = Vec::new();
        if self.stage == Stage::Closed {
            return waits;
        }
        let wants_read = self.wants_read();
        let is_for_input = |expiry: Expiry| {
            let kinds = [TimeoutKind::FirstByte, TimeoutKind::Message];
            kinds.iter().any(|&kind| expiry == Expiry::Timeout(kind))
        };
        waits.extend(self.wait.filter(|&(_, expiry)| wants_read || !is_for_input(expiry)));
        let config = &*self.connection.config;
        let met = |meter: &Meter, rate: Option<Rate>, kind| {
            let (moved, rate) = meter.as_ref().zip(rate)?;
            let per_second = u128::from(rate.bytes_per_second);
            let most = |tick| u128::from(after(tick, rate.grace)) * per_second;
            let until = moved.iter().fold(u128::MAX / 2, |until, &(tick, bytes)| {
                (until + bytes as u128 * 1_000).min(most(tick))
            });
            Some(((until / per_second) as u64, Expiry::Timeout(kind)))
        };
        waits.extend(met(&self.sending, config.send_rate, TimeoutKind::SendRate));
        if self.stage == Stage::Open {
            waits.extend(met(&self.receiving, config.receive_rate, TimeoutKind::ReceiveRate));
            let user = Expiry::Timeout(TimeoutKind::User);
            waits.extend(self.user_deadline.map(|tick| (tick, user)));
            let any_at = self.read_at.max(self.written_at);
            let idle = |limit: Option<u64>, since, kind| {
                limit.map(|limit| (after(since, limit), Expiry::Idle(kind)))
            };
            let read = self.idle.read.filter(|_| wants_read);
            waits.extend(idle(read, self.read_at, IdleKind::Read));
            waits.extend(idle(self.idle.write, self.written_at, IdleKind::Write));
            waits.extend(idle(self.idle.all, any_at, IdleKind::All));
        }
        waits
    }

    fn check(&self, input: &mut Input<'_>) {
        let connection = &self.connection;
        check_flags(connection);
        assert!(!connection.flags.is_usual() || self.is_usual(), "not for the fast path");
        assert_eq!(connection.flags.has(Flags::ABOVE_MARK), self.is_above);
        assert_eq!(connection.wants_read(), self.wants_read());
        assert_eq!((connection.output_left(), connection.unsent()), (self.queued, self.unsent));
        let waits = self.waits();
        let first = waits.iter().map(|&(tick, _)| tick).min();
        assert_eq!(connection.deadline(|stamp| stamp), first.unwrap_or(NEVER), "{waits:?}");
        let deadline = first.unwrap_or(self.now);
        for tick in [deadline.saturating_sub(1), deadline, deadline + input.number(10)] {
            let expired = connection.expired(tick, |stamp| stamp);
            assert_eq!(expired.is_some(), first.is_some_and(|first| first <= tick));
            if let Some(expiry) = expired {
                assert!(waits.contains(&(deadline, expiry)), "{expiry:?} is not the first");
            }
        }
    }

    /// Nothing is left of what it kept: the first cause, the timers.
    fn finish(&mut self) {
        let cause = self.connection.take_output_failure();
        assert!(if self.has_failed {
            matches!(cause, Some(CloseReason::Reset))
        } else {
            cause.is_none()
        });
        assert!(self.connection.take_output_failure().is_none());
        let kept = self.connection.take_timers();
        assert_eq!(kept.len(), self.timers.len());
        assert!(self.timers.iter().all(|timer| kept.contains(timer)), "{kept:?}");
        check_flags(&self.connection);
    }
}
