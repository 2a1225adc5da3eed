//! The handler of the program: in each callback it does what the tape says, and checks what it is
//! told.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use waterwheel::sim::{HostClock, TestLayer};
use waterwheel::{
    Closed, Conn, ConnId, Context, Deadline, DeadlineKind, Handler, HandlerKey, Idle, IdleKind,
    Peer, Receive, Timer, TimerHandler, Written,
};

use super::alarm::{Alarm, Now};
use super::books::{Account, Books, FIRST_OF_HOSTS, is_in_place, keyed, stretch};
use super::datagrams::{Datagrams, use_datagrams};
use super::options::connect_options;
use super::tape::Tape;

/// What it says when it panics on purpose.
pub(super) const ON_PURPOSE: &str = "on purpose";

/// Connections that hosts begin in a run at the most.
const MOST_CONNECTS: u8 = 6;

/// What a callback works for at the most.
const LONGEST_WORK: Duration = Duration::from_millis(500);

/// Timers of a connection at the most.
const MOST_ALARMS: usize = 4;

pub(super) struct Actor {
    pub(super) key: HandlerKey<Self>,
    pub(super) datagrams: HandlerKey<Datagrams>,
    pub(super) tape: Tape,
    pub(super) books: Rc<Books>,
    /// Of the host, set before the first turn.
    pub(super) clock: Rc<RefCell<Option<HostClock>>>,
    pub(super) alarms: Vec<Alarm>,
}

/// What is kept for a connection.
pub(super) struct Life {
    /// What its first byte said, or says if it was begun here.
    key: Option<u8>,
    is_ours: bool,
    consumed: usize,
    written: Account,
    alarms: Vec<Alarm>,
    has_ended: bool,
    _counted: Rc<()>,
}

impl Actor {
    fn clock(&self) -> HostClock {
        self.clock.borrow().clone().expect("the clock is set before the first turn")
    }

    fn now(&self) -> Now {
        let Now { time, stolen } = Now::of(&self.clock());
        Now { time, stolen: stolen + self.books.spent.get() }
    }

    /// Works for so long.
    fn spend(&self, time: Duration) {
        self.books.spent.set(self.books.spent.get() + time);
        self.clock().spend(time);
    }

    fn life(&self, key: Option<u8>) -> Life {
        Life {
            key,
            is_ours: key.is_some(),
            consumed: 0,
            written: Account::default(),
            alarms: Vec::new(),
            has_ended: false,
            _counted: Rc::clone(&self.books.states),
        }
    }

    /// The next bytes of a connection's stream.
    fn next_bytes(life: &Life, count: usize) -> Vec<u8> {
        let place = life.written.accepted.get();
        match life.key {
            Some(key) if life.is_ours => keyed(key, place, count),
            _ => stretch(place, count),
        }
    }

    fn note(life: &Life, written: Written, count: usize) {
        if written.is_accepted() {
            life.written.accepted.set(life.written.accepted.get() + count);
        }
    }

    fn write(life: &Life, conn: &mut Conn<'_>, count: usize) {
        let bytes = Self::next_bytes(life, count);
        Self::note(life, conn.write(&bytes), count);
    }

    fn write_parts(life: &Life, conn: &mut Conn<'_>, count: usize) {
        let bytes = Self::next_bytes(life, count);
        let (first, second) = bytes.split_at(count / 3);
        Self::note(life, conn.write_vectored(&[first, b"", second]), count);
    }

    /// Sends the next bytes from a file, which may be cut short before they have left.
    fn send_file(&self, life: &Life, conn: &mut Conn<'_>) {
        let (count, before) = (self.tape.count(), usize::from(self.tape.below(8)));
        let mut bytes = vec![255; before];
        bytes.extend(Self::next_bytes(life, count));
        let file = Arc::new(scratch_file(&bytes).expect("a small file can be written"));
        let (start, end) = (before as u64, (before + count) as u64);
        let written = conn.send_file(Arc::clone(&file), start..end).expect("the file is there");
        Self::note(life, written, count);
        match self.tape.below(4) {
            0 => file.set_len(start + count as u64 / 2).expect("a file can be cut"),
            1 => file.set_len(2 * end + 9).expect("a file can grow"),
            _ => {}
        }
    }

    /// Does what the tape says, which is nothing when it is used up.
    fn act(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        let tape = self.tape.clone();
        match tape.below(36) {
            1..=3 => Self::write(life, conn, tape.count()),
            4 => (0..tape.below(32)).for_each(|_| Self::write(life, conn, 5)),
            5 => Self::write_parts(life, conn, tape.count()),
            6 => self.send_file(life, conn),
            7 => conn.close(),
            8 => conn.shutdown_write(),
            9 => conn.abort(),
            10 => conn.close_without_waiting(),
            11 | 12 => conn.pause_reading(),
            13 => conn.resume_reading(),
            14..=16 => self.set_alarm(life, conn, tape.flag()),
            17 => self.cancel_alarm(life, conn),
            18 => self.set_limit(conn),
            19 => conn.declare_incomplete(tape.flag()),
            20 => conn.set_deadline(DeadlineKind::User, tape.some_time()),
            21 | 22 => self.connect(&mut conn.context()),
            23..=25 => self.reach_another(conn),
            26 => self.post(&mut conn.context()),
            27 => self.set_own_alarm(&mut conn.context()),
            28 => resume_unwind(Box::new(ON_PURPOSE)),
            29 => self.spend(tape.time().min(LONGEST_WORK)),
            30 => use_datagrams(self.datagrams, &self.tape, &self.books, &mut conn.context()),
            31 => self.end_reactor(&mut conn.context()),
            32 => self.write_and_close_from_elsewhere(conn),
            _ => {}
        }
    }

    fn set_alarm(&self, life: &mut Life, conn: &mut Conn<'_>, is_periodic: bool) {
        let (id, wait) = (conn.id(), self.tape.time());
        if life.alarms.len() >= MOST_ALARMS || conn.other_conn(id).is_none() {
            return; // one that was aborted just now has no timers
        }
        let now = self.now();
        let timer =
            if is_periodic { conn.set_periodic_timer(wait, 0) } else { conn.set_timer(wait, 0) };
        life.alarms.push(Alarm::new(wait, is_periodic, now, timer));
    }

    fn cancel_alarm(&self, life: &mut Life, conn: &mut Conn<'_>) {
        let id = conn.id();
        if conn.other_conn(id).is_none() {
            return;
        }
        if let Some(alarm) = life.alarms.pop() {
            // Once its output has failed, it is told of input and of its end only.
            let is_there = conn.cancel_timer(alarm.timer) || !conn.is_writable();
            assert!(is_there, "a timer that was to fire is gone");
            assert!(!conn.cancel_timer(alarm.timer), "a timer was cancelled twice");
        }
    }

    pub(super) fn set_own_alarm(&mut self, cx: &mut Context<'_>) {
        let (wait, is_periodic) = (self.tape.time(), self.tape.flag());
        if self.alarms.len() < MOST_ALARMS {
            let (key, now) = (self.key, self.now());
            let timer = match is_periodic {
                true => cx.set_periodic_timer(key, wait, 0),
                false => cx.set_timer(key, wait, 0),
            };
            self.alarms.push(Alarm::new(wait, is_periodic, now, timer));
        }
    }

    fn set_limit(&self, conn: &mut Conn<'_>) {
        let (which, limit) = (self.tape.below(3), self.tape.time());
        let kind = [IdleKind::Read, IdleKind::Write, IdleKind::All][usize::from(which)];
        conn.set_idle_timeout(kind, Some(limit)).expect("a limit within bounds");
    }

    pub(super) fn connect(&self, cx: &mut Context<'_>) {
        let count = self.books.connects.get();
        let place = self.tape.pick(&self.books.places.borrow());
        let (Some((addr, is_layered)), true) = (place, count < MOST_CONNECTS) else { return };
        self.books.connects.set(count + 1);
        let mut options = connect_options(&self.tape);
        if is_layered {
            options = TestLayer::new().connect(options);
        }
        let key = FIRST_OF_HOSTS + count;
        let life = self.life(Some(key));
        let account = life.written.clone();
        self.books.up.borrow_mut().insert(key, account.clone());
        let early = self.tape.count();
        let nowhere = SocketAddr::from(([10, 9, 9, 9], 80));
        let id = match self.tape.below(4) {
            1 => cx.connect(vec![nowhere, addr], self.key, life, &options),
            2 => cx.connect(format!("place:{}", addr.port()), self.key, life, &options),
            _ => cx.connect(addr, self.key, life, &options),
        };
        if let Some(mut conn) = cx.conn(id) {
            if early > 0 && conn.write(&keyed(key, 0, early)).is_accepted() {
                account.accepted.set(early);
            }
            match self.tape.below(16) {
                1 => conn.close(),
                2 => conn.abort(),
                3 => conn.shutdown_write(),
                4 => conn.pause_reading(),
                _ => {}
            }
        }
    }

    /// Does something to another connection, or to this one by its id.
    fn reach_another(&self, conn: &mut Conn<'_>) {
        let Some(id) = self.tape.pick(&self.books.known.borrow()) else { return };
        if let Some(other) = conn.other_conn(id) {
            act_from_elsewhere(&self.tape, other);
        }
    }

    /// Writes to another connection with its state.
    pub(super) fn write_to(&self, id: ConnId, cx: &mut Context<'_>) {
        let (count, key) = (self.tape.count(), self.key);
        cx.with(key, id, |life, conn| Self::write(life, conn, count));
    }

    fn write_and_close_from_elsewhere(&self, conn: &mut Conn<'_>) {
        let known = self.tape.pick(&self.books.known.borrow());
        if let Some(id) = known.filter(|&id| id != conn.id()) {
            self.write_to(id, &mut conn.context());
        }
    }

    fn post(&self, cx: &mut Context<'_>) {
        let (books, key) = (Rc::clone(&self.books), self.key);
        books.posted.set(books.posted.get() + 1);
        cx.post(key, |actor, cx| actor.on_post(cx));
    }

    /// A closure from elsewhere.
    pub(super) fn on_post(&mut self, cx: &mut Context<'_>) {
        self.books.run.set(self.books.run.get() + 1);
        self.check_ended(cx);
        let known = self.tape.pick(&self.books.known.borrow());
        match (self.tape.below(8), known) {
            (1 | 2, Some(id)) => self.write_to(id, cx),
            (3 | 4, Some(id)) => {
                if let Some(conn) = cx.conn(id) {
                    act_from_elsewhere(&self.tape, conn);
                }
            }
            (5, _) => self.connect(cx),
            (6, _) => use_datagrams(self.datagrams, &self.tape, &self.books, cx),
            (7, _) => resume_unwind(Box::new(ON_PURPOSE)),
            _ => {}
        }
    }

    fn end_reactor(&self, cx: &mut Context<'_>) {
        self.books.is_stopped.set(true);
        if self.tape.flag() { cx.drain(self.tape.time()) } else { cx.stop() }
    }

    /// Ids of those that have ended find nothing.
    fn check_ended(&self, cx: &mut Context<'_>) {
        for &id in self.books.ended.borrow().iter().rev().take(4) {
            assert!(cx.conn(id).is_none(), "{id} finds a connection after its end");
        }
    }

    /// Checks input, and returns how much of it is consumed.
    fn take(&self, life: &mut Life, input: &[u8]) -> usize {
        assert!(!input.is_empty() && !life.has_ended, "input behind the end, or none");
        if life.key.is_none() {
            life.key = Some(input[0]);
            self.books.down.borrow_mut().insert(input[0], life.written.clone());
        }
        let rest = if life.is_ours || life.consumed > 0 { input } else { &input[1..] };
        let place = life.consumed + input.len() - rest.len();
        let key = life.key;
        assert!(is_in_place(place, rest), "bytes from {place} on of {key:?} are other ones");
        let left = match self.tape.byte() {
            small @ 240.. => usize::from(small - 239) * 5,
            _ => 0,
        };
        // The first byte is the key: what is left behind must not begin with it again.
        let least = usize::from(life.consumed == 0);
        let taken = input.len().saturating_sub(left).max(least);
        life.consumed += taken;
        taken
    }

    fn fire(alarms: &mut Vec<Alarm>, timer: Timer, now: Now) {
        let place = alarms.iter().position(|alarm| alarm.timer == timer.id);
        let place = place.expect("a timer fires that was not set, or was cancelled");
        alarms[place].check(now);
        if !alarms[place].is_periodic {
            alarms.remove(place);
        }
    }
}

/// Fired so often, a periodic timer is cancelled: a run comes to its end.
const MOST_FIRINGS: u32 = 20;

impl Handler for Actor {
    type State = Life;

    fn on_accept(&mut self, _: &Peer) -> Option<Life> {
        (self.tape.byte() < 250).then(|| self.life(None))
    }

    fn on_refuse(&mut self, _: &Peer) -> &[u8] {
        b""
    }

    fn on_open(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        self.books.known.borrow_mut().push(conn.id());
        if life.is_ours && life.written.accepted.get() == 0 {
            Self::write(life, conn, 1 + self.tape.count());
        }
        self.act(life, conn);
    }

    fn on_data(&mut self, life: &mut Life, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let taken = self.take(life, input);
        self.act(life, conn);
        if self.tape.byte() > 200 {
            self.act(life, conn);
        }
        taken
    }

    fn on_drain(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        self.act(life, conn);
    }

    fn on_eof(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        assert!(!std::mem::replace(&mut life.has_ended, true), "the end is told twice");
        if let (Some(key), false) = (life.key, conn.is_truncated()) {
            let received = life.consumed + conn.unconsumed_bytes();
            self.books.check_eof(key, received, life.is_ours);
        }
        self.act(life, conn);
        if self.tape.byte() < 240 {
            conn.close();
        }
    }

    fn on_idle(&mut self, life: &mut Life, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        self.act(life, conn);
        if self.tape.byte() > 200 { Idle::Keep } else { Idle::Close }
    }

    fn on_deadline(&mut self, life: &mut Life, conn: &mut Conn<'_>, _: DeadlineKind) -> Deadline {
        self.act(life, conn);
        match self.tape.below(3) {
            0 => Deadline::Close,
            1 => Deadline::Reset,
            _ => Deadline::Keep(self.tape.time()),
        }
    }

    fn on_timer(&mut self, life: &mut Life, conn: &mut Conn<'_>, timer: Timer) {
        Self::fire(&mut life.alarms, timer, self.now());
        let over = life.alarms.iter().position(|alarm| alarm.fired >= MOST_FIRINGS);
        if let Some(place) = over {
            conn.cancel_timer(life.alarms.remove(place).timer);
        }
        conn.resume_reading();
        self.act(life, conn);
    }

    fn on_shutdown(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        self.act(life, conn);
        conn.close();
    }

    fn on_close(&mut self, life: Life, closed: Closed, cx: &mut Context<'_>) {
        life.written.unsent.set(Some(closed.unsent_bytes));
        self.books.ended.borrow_mut().push(closed.id);
        self.check_ended(cx);
        for alarm in &life.alarms {
            assert!(!cx.cancel_timer(alarm.timer), "a timer outlives its connection");
        }
        let count = self.books.connects.get();
        if life.is_ours && count < MOST_CONNECTS && self.tape.flag() {
            self.books.connects.set(count + 1);
            let key = FIRST_OF_HOSTS + count;
            let next = self.life(Some(key));
            self.books.up.borrow_mut().insert(key, next.written.clone());
            // Without a policy the state comes back, and that is that.
            let _ = cx.reconnect(&closed, next);
        }
    }

    fn on_connect_failed(&mut self, life: Life, error: io::Error, cx: &mut Context<'_>) {
        assert!(life.is_ours && !error.to_string().is_empty());
        self.check_ended(cx);
    }
}

impl TimerHandler for Actor {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        let now = self.now();
        Self::fire(&mut self.alarms, timer, now);
        let over = self.alarms.iter().position(|alarm| alarm.fired >= MOST_FIRINGS);
        if let Some(place) = over {
            let alarm = self.alarms.remove(place);
            assert!(cx.cancel_timer(alarm.timer), "a periodic timer goes on until it is cancelled");
        }
        self.post(cx);
    }
}

impl Receive<u8> for Actor {
    fn on_message(&mut self, _: u8, cx: &mut Context<'_>) {
        self.on_post(cx);
    }
}

/// What any code may do to a connection by its id.
pub(super) fn act_from_elsewhere(tape: &Tape, mut conn: Conn<'_>) {
    match tape.below(8) {
        0 => conn.resume_reading(),
        1 => conn.pause_reading(),
        2 => conn.close(),
        3 => conn.abort(),
        4 => conn.shutdown_write(),
        5 => conn.close_without_waiting(),
        _ => conn.declare_incomplete(tape.flag()),
    }
}

/// A file with this in it, which is gone when it is closed.
fn scratch_file(bytes: &[u8]) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("waterwheel-program-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    // Where an open file cannot be removed it stays.
    let _ = std::fs::remove_file(&path);
    file.write_all(bytes)?;
    Ok(file)
}
