//! A handler that does everything it may, by chance, and checks what it is told.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use waterwheel::sim::{Dice, TestLayer};
use waterwheel::{
    CloseReason, Closed, Conn, ConnId, Context, DeadlineKind, Destination, Handler, HandlerKey,
    Idle, IdleKind, Peer, Receive, Timer, TimerHandler, TimerId, Written,
};

use super::alarm::{Alarm, Now};
use super::ledger::{KEY_BYTES, byte, stream};
use super::{Clock, Shared, connect_options, layered};

/// The handler.
pub(crate) struct Chaos {
    service: HandlerKey<Self>,
    dice: Dice,
    ledger: Shared,
    clock: Clock,
    /// Cap of the output of accepted connections, to write up to it and one more.
    max_output: usize,
    /// Connections that live or have lived.
    known: Vec<ConnId>,
    ended: Vec<ConnId>,
    /// Connections whose end was begun here: how, the first time.
    begun_ends: HashMap<ConnId, End>,
    ticks: Option<Alarm>,
    /// No message will come through the channel any more.
    senders_are_gone: bool,
    /// Connections that it may still begin: a run comes to its end.
    connects_left: u32,
    reconnects_left: u32,
    /// Its callbacks panic now and then.
    panics: bool,
}

/// What it says when it panics on purpose.
pub(super) const ON_PURPOSE: &str = "on purpose";

/// Bytes that are given back at a time, at the most.
const MAX_GIVEN_BACK: usize = 300;

/// How a handler ends a connection.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Close,
    CloseWithoutWaiting,
    ShutdownWrite,
    Abort,
}

/// What is kept for a connection.
pub(crate) struct Life {
    /// Known once its first bytes have come; its own if it was begun here.
    key: Option<u64>,
    /// How much of the peer's stream has been consumed, and how much of ours written.
    consumed: usize,
    written: usize,
    alarms: Vec<Alarm>,
    /// Ends it, if nothing else does.
    deadline: Option<TimerId>,
    is_ours: bool,
}

impl Life {
    /// What the peer's stream follows from.
    fn peers_key(&self) -> u64 {
        let key = self.key.unwrap_or(0);
        if self.is_ours { !key } else { key }
    }
}

impl Chaos {
    pub(super) fn new(
        service: HandlerKey<Self>,
        dice: Dice,
        ledger: Shared,
        clock: Clock,
        max_output: usize,
    ) -> Self {
        let connects_left = if dice.one_in(2) { 4 } else { 0 };
        let panics = dice.one_in(4);
        Self {
            service,
            dice,
            ledger,
            clock,
            max_output,
            known: Vec::new(),
            ended: Vec::new(),
            begun_ends: HashMap::new(),
            ticks: None,
            senders_are_gone: false,
            connects_left,
            reconnects_left: 4,
            panics,
        }
    }

    /// Panics, now and then. `panic!` would be told by a hook, each time.
    fn may_panic(&self) {
        if self.panics && self.dice.one_in(12) {
            resume_unwind(Box::new(ON_PURPOSE));
        }
    }

    fn now(&self) -> Now {
        Now::of(self.clock.borrow().as_ref().expect("the clock is set before the first turn"))
    }

    /// A periodic timer was set just now.
    pub(super) fn expect_ticks(&mut self, timer: TimerId, wait: Duration) {
        self.ticks = Some(Alarm::new(wait, true, self.now(), timer));
    }

    pub(super) fn on_post(&mut self, thread: usize, number: usize, cx: &mut Context<'_>) {
        self.ledger.borrow_mut().ran(thread, number);
        self.check_ended(cx);
        if self.dice.one_in(3) && !self.known.is_empty() {
            let id = self.known[self.dice.below(self.known.len() as u64) as usize];
            if let Some(mut conn) = cx.conn(id) {
                match self.dice.below(3) {
                    0 => self.end(&mut conn, End::Close),
                    1 => self.end(&mut conn, End::Abort),
                    _ => conn.resume_reading(),
                }
            }
        }
    }

    /// The ids of those who have ended find nobody.
    fn check_ended(&self, cx: &mut Context<'_>) {
        for &id in self.ended.iter().rev().take(4) {
            assert!(cx.conn(id).is_none(), "{id} finds somebody after its end");
        }
    }

    fn life(key: Option<u64>) -> Life {
        Life {
            key,
            consumed: 0,
            written: 0,
            alarms: Vec::new(),
            deadline: None,
            is_ours: key.is_some(),
        }
    }

    /// Writes the next bytes of the stream of a connection.
    fn write(&self, life: &mut Life, conn: &mut Conn<'_>, count: usize) {
        let Some(key) = life.key else { return };
        let key = if life.is_ours { key } else { !key };
        let room = self.room(conn);
        let bytes = stream(key, life.written, count);
        match conn.write(&bytes) {
            Written::Below | Written::Above => {
                // What a full queue has no room for may have been made room for by sending.
                let held = self.held(conn);
                assert!(life.is_ours || count <= self.max_output, "{count} bytes taken");
                assert!(life.is_ours || held <= self.max_output, "{held} bytes are held");
                life.written += count;
                if !life.is_ours {
                    self.ledger.borrow_mut().accepted(!key, count);
                }
            }
            Written::Full => {
                assert!(life.is_ours || count > room, "room for {room}: {count} refused")
            }
            Written::Closed => {}
        }
    }

    /// How much may be written: what is in files lies in no buffer.
    fn room(&self, conn: &Conn<'_>) -> usize {
        self.max_output.saturating_sub(self.held(conn))
    }

    /// Output that is held in memory.
    fn held(&self, conn: &Conn<'_>) -> usize {
        conn.pending_bytes() - conn.pending_file_bytes() as usize
    }

    /// Sends the next bytes of the stream from a file, which may be cut short too soon.
    fn send_file(&self, life: &mut Life, conn: &mut Conn<'_>) {
        let Some(key) = life.key else { return };
        let key = if life.is_ours { key } else { !key };
        let (before, count) = (self.dice.below(50), self.dice.below(60_000));
        let mut bytes = vec![0; before as usize];
        bytes.extend(stream(key, life.written, count as usize));
        let file = Arc::new(scratch_file(&bytes).expect("a small file can be written"));
        let range = before..before + count;
        let written = conn.send_file(Arc::clone(&file), range).expect("the file is there");
        assert!(written != Written::Full, "a few files are taken");
        if written.is_accepted() {
            life.written += count as usize;
            if !life.is_ours {
                self.ledger.borrow_mut().accepted(!key, count as usize);
            }
            if self.dice.one_in(8) {
                file.set_len(before + count / 2).expect("a file can be cut");
            }
        }
    }

    /// Does something, or nothing.
    fn act(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        let dice = self.dice.clone();
        match dice.below(40) {
            0..10 => self.write(life, conn, dice.spread(1, 9_000) as usize),
            10 => self.write(life, conn, dice.spread(1, 300_000) as usize),
            11 => {
                let room = self.room(conn);
                self.write(life, conn, room + dice.below(2) as usize);
            }
            12 if dice.one_in(3) => self.end(conn, End::CloseWithoutWaiting),
            12 => self.end(conn, End::Close),
            13 => self.end(conn, End::ShutdownWrite),
            14 if dice.one_in(3) => self.end(conn, End::Abort),
            15 | 16 => {
                conn.pause_reading();
                self.set_alarm(life, conn, false);
            }
            17 => conn.resume_reading(),
            18..21 => self.set_alarm(life, conn, dice.one_in(4)),
            21 => self.set_limits(conn),
            22 => conn.declare_incomplete(dice.one_in(2)),
            23 | 24 => self.connect(conn),
            25 | 26 => self.reach_another(conn),
            27 => {
                let service = self.service;
                conn.context().post(service, |chaos, cx| chaos.check_ended(cx));
            }
            28 => {
                let id = conn.id();
                if let (Some(alarm), true) = (life.alarms.pop(), conn.other_conn(id).is_some()) {
                    // Once its output has failed, it is told of input and of its end only.
                    let is_there = conn.cancel_timer(alarm.timer) || !conn.is_writable();
                    assert!(is_there, "a timer that was to fire is gone");
                }
            }
            29 => {
                let wait = Duration::from_millis(dice.spread(1, 60_000));
                conn.set_deadline(DeadlineKind::User, Some(wait));
            }
            30 if dice.one_in(2) => self.send_file(life, conn),
            31 => self.tell_others(conn),
            32 | 33 => {
                conn.begin_request();
                self.set_alarm(life, conn, false); // answers it
            }
            34 => self.give_back(life, conn),
            _ => {}
        }
    }

    /// Gives back some of what was consumed, and with it the end, if that was told.
    fn give_back(&self, life: &mut Life, conn: &mut Conn<'_>) {
        let count = self.dice.below(1 + life.consumed.min(MAX_GIVEN_BACK) as u64) as usize;
        life.consumed -= count;
        conn.give_back(&stream(life.peers_key(), life.consumed, count));
    }

    /// Writes to all others, as a message to many does.
    fn tell_others(&self, conn: &mut Conn<'_>) {
        let mut cx = conn.context();
        for &id in &self.known {
            let count = self.dice.spread(1, 2_000) as usize;
            cx.with(self.service, id, |life, other| self.write(life, other, count));
        }
    }

    fn end(&mut self, conn: &mut Conn<'_>, end: End) {
        // A layer that has failed has begun an end in order before: its peer may have had all of
        // that, FIN included.
        let first = if conn.is_writable() { end } else { End::Close };
        self.begun_ends.entry(conn.id()).or_insert(first);
        match end {
            End::Close => conn.close(),
            End::CloseWithoutWaiting => conn.close_without_waiting(),
            End::ShutdownWrite => conn.shutdown_write(),
            End::Abort => conn.abort(),
        }
    }

    /// Whether a peer must see a reset, and no FIN before it: its connection was aborted, or ended
    /// as no end that was begun in order.
    fn is_cut(&mut self, closed: &Closed) -> bool {
        match self.begun_ends.remove(&closed.id) {
            Some(end) => end == End::Abort,
            None => matches!(
                closed.reason,
                CloseReason::Timeout(_) | CloseReason::Overflow | CloseReason::Panic
            ),
        }
    }

    fn set_alarm(&self, life: &mut Life, conn: &mut Conn<'_>, is_periodic: bool) {
        let wait = Duration::from_millis(self.dice.spread(1, 30_000));
        let id = conn.id();
        if life.alarms.len() > 3 || conn.other_conn(id).is_none() {
            return; // one that was aborted just now has no timers
        }
        let now = self.now();
        let timer =
            if is_periodic { conn.set_periodic_timer(wait, 0) } else { conn.set_timer(wait, 0) };
        life.alarms.push(Alarm::new(wait, is_periodic, now, timer));
    }

    fn set_limits(&self, conn: &mut Conn<'_>) {
        for kind in [IdleKind::Read, IdleKind::Write, IdleKind::All] {
            let limit = Duration::from_millis(self.dice.spread(1, 60_000));
            let is_last = kind == IdleKind::All;
            let limit = (is_last || self.dice.one_in(2)).then_some(limit);
            conn.set_idle_timeout(kind, limit).expect("a limit within bounds");
        }
    }

    fn connect(&mut self, conn: &mut Conn<'_>) {
        if self.connects_left == 0 {
            return;
        }
        self.connects_left -= 1;
        let upstream = self.destination();
        let key = (1 << 32) + self.dice.below(1 << 31);
        let mut life = Self::life(Some(key));
        let is_layered = self.ledger.borrow().is_layered(&upstream);
        let options = match is_layered {
            true => TestLayer::new().connect(connect_options(&self.dice)),
            false => connect_options(&self.dice),
        };
        let early = self.dice.one_in(2).then(|| stream(key, 0, KEY_BYTES + 100));
        life.written = early.as_ref().map_or(0, Vec::len);
        let mut cx = conn.context();
        let id = cx.connect(upstream, self.service, life, &options);
        if let (Some(bytes), Some(mut conn)) = (early, cx.conn(id)) {
            if !conn.write(&bytes).is_accepted() {
                conn.close(); // its cap is lower than that
            }
        }
        if self.dice.one_in(6) {
            if let Some(mut conn) = cx.conn(id) {
                conn.close();
            }
        }
    }

    /// An address, a name, or several addresses of which some lead nowhere.
    fn destination(&self) -> Destination {
        let ledger = self.ledger.borrow();
        let place = self.dice.below(ledger.upstreams.len() as u64) as usize;
        let addr = ledger.upstreams[place];
        let nowhere = |last: u8| SocketAddr::from(([10, 9, 9, last], addr.port()));
        match self.dice.below(6) {
            0 => format!("upstream-{place}:{}", addr.port()).into(),
            1 => "unknown:80".into(),
            2 => vec![nowhere(1), addr, nowhere(2)].into(),
            3 => vec![addr, ledger.upstreams[0]].into(),
            _ => addr.into(),
        }
    }

    fn reach_another(&mut self, conn: &mut Conn<'_>) {
        if self.known.is_empty() {
            return;
        }
        let id = self.known[self.dice.below(self.known.len() as u64) as usize];
        let Some(mut other) = conn.other_conn(id) else { return };
        match self.dice.below(4) {
            0 => self.end(&mut other, End::Close),
            1 => other.resume_reading(),
            2 => self.end(&mut other, End::Abort),
            _ => self.end(&mut other, End::ShutdownWrite),
        }
    }

    /// Checks input, and gives back how much of it is taken.
    fn take(&self, life: &mut Life, input: &[u8]) -> usize {
        if life.key.is_none() {
            let Some(key) = input.first_chunk::<KEY_BYTES>() else { return 0 };
            let key = u64::from_le_bytes(*key);
            life.key = Some(key);
            self.ledger.borrow_mut().met(key);
        }
        let key = life.peers_key();
        for (place, &found) in input.iter().enumerate() {
            let place = life.consumed + place;
            assert_eq!(found, byte(key, place), "byte {place} of stream {key} is another one");
        }
        let left = if self.dice.one_in(6) { self.dice.below(60) as usize } else { 0 };
        let taken = input.len().saturating_sub(left);
        life.consumed += taken;
        taken
    }
}

/// A file with this in it, which is gone when it is closed.
fn scratch_file(bytes: &[u8]) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("waterwheel-simulate-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    // Where an open file cannot be removed it stays.
    let _ = fs::remove_file(&path);
    file.write_all(bytes)?;
    Ok(file)
}

impl Receive<(usize, usize)> for Chaos {
    fn on_message(&mut self, (thread, number): (usize, usize), cx: &mut Context<'_>) {
        assert!(!self.senders_are_gone, "a message from nobody");
        self.on_post(thread, number, cx);
    }

    fn on_senders_gone(&mut self, _: &mut Context<'_>) {
        assert!(!self.senders_are_gone, "the end of the senders is told twice");
        self.senders_are_gone = true;
    }
}

impl Handler for Chaos {
    type State = Life;

    fn on_accept(&mut self, _: &Peer) -> Option<Life> {
        self.may_panic();
        (!self.dice.one_in(50)).then(|| Self::life(None))
    }

    fn on_open(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        self.known.push(conn.id());
        if self.dice.one_in(2) {
            life.deadline = Some(conn.set_timer(Duration::from_secs(self.dice.spread(60, 900)), 0));
        }
        if life.is_ours && life.written == 0 {
            self.write(life, conn, KEY_BYTES + 50);
        }
        self.act(life, conn);
    }

    fn on_data(&mut self, life: &mut Life, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        self.may_panic();
        let taken = self.take(life, input);
        for _ in 0..1 + self.dice.below(3) {
            self.act(life, conn);
        }
        taken
    }

    fn on_drain(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        self.act(life, conn);
    }

    fn on_eof(&mut self, life: &mut Life, conn: &mut Conn<'_>) {
        self.act(life, conn);
        if life.deadline.is_none() || self.dice.one_in(2) {
            self.end(conn, End::Close);
        }
    }

    fn on_idle(&mut self, life: &mut Life, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        self.act(life, conn);
        if self.dice.one_in(3) { Idle::Keep } else { Idle::Close }
    }

    fn on_timer(&mut self, life: &mut Life, conn: &mut Conn<'_>, timer: Timer) {
        if life.deadline == Some(timer.id) {
            return self.end(conn, End::Close);
        }
        self.may_panic();
        let now = self.now();
        let place = life.alarms.iter().position(|alarm| alarm.timer == timer.id);
        let place = place.expect("a timer fires that was not set, or was cancelled");
        life.alarms[place].check(now);
        if !life.alarms[place].is_periodic {
            life.alarms.remove(place);
        }
        conn.resume_reading();
        if conn.outstanding_requests() > 0 {
            conn.end_request();
        }
        self.act(life, conn);
    }

    fn on_shutdown(&mut self, _: &mut Life, conn: &mut Conn<'_>) {
        self.end(conn, End::Close);
    }

    fn on_close(&mut self, life: Life, closed: Closed, cx: &mut Context<'_>) {
        let is_cut = self.is_cut(&closed);
        if let (Some(key), false) = (life.key, life.is_ours) {
            self.ledger.borrow_mut().closed(key, closed.unsent_bytes, is_cut);
        }
        if let CloseReason::Io(error) = &closed.reason {
            layered::check_error(error, self.ledger.borrow().is_faulty(life.key));
        }
        self.ended.push(closed.id);
        self.known.retain(|&id| id != closed.id);
        self.check_ended(cx);
        for alarm in &life.alarms {
            assert!(!cx.cancel_timer(alarm.timer), "a timer outlives its connection");
        }
        if life.is_ours && self.reconnects_left > 0 {
            self.reconnects_left -= 1;
            // Without a policy it gives the state back, and that is that.
            let key = (1 << 32) + self.dice.below(1 << 31);
            let _ = cx.reconnect(&closed, Self::life(Some(key)));
        }
    }

    fn on_connect_failed(&mut self, _: Life, error: io::Error, cx: &mut Context<'_>) {
        layered::check_error(&error, false);
        self.check_ended(cx);
    }
}

impl TimerHandler for Chaos {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        let now = self.now();
        let mut ticks = self.ticks.take().expect("a timer that was not set");
        assert_eq!(ticks.timer, timer.id);
        ticks.check(now);
        if ticks.fired < 40 {
            self.ticks = Some(ticks);
        } else {
            assert!(cx.cancel_timer(timer.id), "a periodic timer goes on until it is cancelled");
        }
    }
}
