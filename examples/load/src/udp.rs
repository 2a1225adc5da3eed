//! Echoes over UDP: how many datagrams are lost, how late they come back, in which order, and how
//! often.
//!
//! A closed loop unless there is a rate: each socket keeps so many datagrams in flight, and one
//! that has no answer within the timeout is lost and replaced, so that loss never stalls the loop.
//! With a rate datagrams leave at their moments, as in the open loop.
//!
//! A datagram is its header and a piece of the pattern:
//!
//! ```text
//! | "wwld" | number of the run | number of the socket | number of the datagram | pattern …
//! |   4    |         4         |          4           |           8            |
//! ```

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use waterwheel::udp::{DatagramHandler, DatagramSocket, SendStatus, SocketId, UdpOptions};
use waterwheel::{Context, HandlerKey, Timer, TimerHandler};

use crate::drops;
use crate::ledger::{Arrival, Ledger};
use crate::pattern::Pattern;
use crate::plan::UDP_HEADER_BYTES;
use crate::run::{Maker, Phase, Run};
use crate::schedule::Schedule;
use crate::server::with_large_buffer;
use crate::tally::{Mistake, record};

/// What each datagram of this tester begins with.
const MAGIC: [u8; 4] = *b"wwld";

/// How often it is looked for datagrams to give up.
const SWEEP_PERIOD: Duration = Duration::from_millis(10);

/// Datagrams of a schedule that leave between two looks at what has come, and those that are taken
/// of a socket then: as much of a burst as a receive buffer of a megabyte holds. A tester that only
/// sends while it is behind would lose the answers in its own buffers.
const BURST: usize = 1_024;

/// How long datagrams that are behind their schedule may still leave when the time is over.
const CATCH_UP: Duration = Duration::from_millis(500);

/// How long second answers are waited for when nothing is in flight any more.
const LINGER: Duration = Duration::from_millis(200);

pub(crate) struct Udp {
    run: Run,
    pattern: Pattern,
    lanes: Vec<Lane>,
    /// Where in the list a socket is.
    places: HashMap<SocketId, usize>,
    /// `None` in the closed loop.
    schedule: Option<Schedule>,
    /// The number of the next datagram of the schedule.
    next: u64,
    /// When the time was over.
    ended: Option<Instant>,
    /// Tells the datagrams of this run from those of others.
    run_number: [u8; 4],
    /// The datagram that is about to leave.
    datagram: Box<[u8]>,
    /// What the times of the ledgers count from.
    began: Instant,
    swept: Instant,
    /// Since when nothing is in flight, in the end.
    idle_since: Option<Instant>,
}

/// One socket.
struct Lane {
    id: SocketId,
    addr: SocketAddr,
    ledger: Ledger,
    voice: Voice,
}

/// What a socket has got so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// It has sent nothing.
    Unused,
    /// It has sent something and got no answer in time.
    Silent,
    Answered,
}

impl Maker for Udp {
    const TICK: Duration = Duration::from_millis(1);

    fn new(run: Run) -> Self {
        let now = Instant::now();
        Self {
            lanes: Vec::with_capacity(run.plan.connections()),
            places: HashMap::with_capacity(run.plan.connections()),
            schedule: run.plan.rate.map(|_| Schedule::new(&run.plan)),
            next: 0,
            ended: None,
            run_number: (RandomState::new().build_hasher().finish() as u32).to_be_bytes(),
            datagram: vec![0; run.plan.size].into_boxed_slice(),
            began: now,
            swept: now,
            idle_since: None,
            pattern: Pattern::new(run.plan.seed),
            run,
        }
    }

    fn begin(&mut self, service: HandlerKey<Self>, cx: &mut Context<'_>) {
        for lane in 0..self.run.plan.connections() {
            if let Err(error) = self.open(lane, service, cx) {
                return self.give_up(error.to_string(), cx);
            }
        }
        self.began = Instant::now();
        self.enter(Phase::WarmUp, cx);
        // The next tick would be too late for the first ones to count.
        if self.run.plan.warmup.is_zero() {
            self.enter(Phase::Measure, cx);
        }
        for lane in 0..self.lanes.len() {
            self.fill(lane, cx);
        }
    }
}

impl Udp {
    fn open(
        &mut self,
        lane: usize,
        service: HandlerKey<Self>,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        let options = UdpOptions::default().receive_budget(BURST);
        let (id, addr) =
            with_large_buffer(options, |options| cx.connect_udp(self.run.addr, service, options))?;
        let timeout = self.run.plan.timeout.as_nanos() as u64;
        let mut ledger = Ledger::new(timeout, self.run.plan.depth);
        if let Some(schedule) = &self.schedule {
            ledger.measure_from(schedule.first_of(lane));
        }
        self.places.insert(id, lane);
        self.lanes.push(Lane { id, addr, ledger, voice: Voice::Unused });
        self.run.opened();
        Ok(())
    }

    fn enter(&mut self, phase: Phase, cx: &mut Context<'_>) {
        match (phase, &mut self.schedule) {
            (Phase::WarmUp, Some(schedule)) => schedule.start = Instant::now(),
            (Phase::Measure, None) => {
                for lane in &mut self.lanes {
                    lane.ledger.measure_from(lane.ledger.next());
                }
            }
            (Phase::Finish, _) => self.ended = Some(Instant::now()),
            _ => {}
        }
        // Whoever interrupts does not want to wait; what is in flight is told.
        if phase == Phase::Over || self.run.tally.interrupted {
            return self.finish(cx);
        }
        self.run.enter(phase);
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        let lanes = self.lanes.iter();
        let told = &mut self.run.tally.datagrams;
        if let Some(schedule) = &self.schedule {
            told.offered = schedule.due(Instant::now()).saturating_sub(schedule.first);
        }
        told.in_flight = lanes.map(|lane| lane.ledger.measured_in_flight()).sum();
        let server = self.run.addr;
        let own: Vec<_> = self.lanes.iter().map(|lane| (lane.addr, server)).collect();
        told.receive_drops = drops::dropped(&own);
        if self.run.plan.target.is_none() {
            let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            told.server_receive_drops = drops::dropped(&[(server, nobody)]);
        }
        self.run.end(cx);
    }

    /// Ends without a report.
    fn give_up(&mut self, why: String, cx: &mut Context<'_>) {
        self.run.tally.hopeless.get_or_insert(why);
        self.run.end(cx);
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// Sends on a socket of the closed loop until it has as many in flight as it should have, or
    /// takes no more for now.
    fn fill(&mut self, lane: usize, cx: &mut Context<'_>) {
        if let Some(mut socket) = cx.socket(self.lanes[lane].id) {
            self.fill_socket(lane, &mut socket);
        }
    }

    fn fill_socket(&mut self, lane: usize, socket: &mut DatagramSocket<'_>) {
        if self.schedule.is_some() || !self.run.makes_load() {
            return;
        }
        let depth = self.run.plan.depth;
        while self.lanes[lane].ledger.in_flight() < depth {
            if !self.send(lane, socket, Instant::now()) {
                break;
            }
        }
    }

    /// How many datagrams of the schedule are due and may leave.
    fn due(&self, now: Instant) -> u64 {
        let may_leave = self.ended.is_none_or(|ended| now - ended < CATCH_UP);
        match &self.schedule {
            Some(schedule) if may_leave && self.run.phase() != Phase::Over => schedule.due(now),
            _ => self.next,
        }
    }

    /// Sends what has become due of the schedule since the last tick, or a burst of it.
    fn send_due(&mut self, now: Instant, cx: &mut Context<'_>) {
        let due = self.due(now).min(self.next + BURST as u64);
        while self.next < due && self.run.phase() != Phase::Over {
            let Some(schedule) = &self.schedule else { return };
            let (lane, moment) = (schedule.lane(self.next), schedule.moment(self.next));
            let is_measured = schedule.is_measured(self.next);
            self.next += 1;
            let Some(mut socket) = cx.socket(self.lanes[lane].id) else { continue };
            let now = Instant::now();
            if self.send(lane, &mut socket, now) && is_measured {
                let delay = now.saturating_duration_since(moment);
                record(&mut self.run.tally.delay, delay);
            }
        }
    }

    /// Sends one datagram; whether the system, or the queue before it, has taken it.
    #[inline]
    fn send(&mut self, lane: usize, socket: &mut DatagramSocket<'_>, now: Instant) -> bool {
        let at = self.nanos(now);
        let ledger = &mut self.lanes[lane].ledger;
        let number = ledger.next();
        let (header, body) = self.datagram.split_at_mut(UDP_HEADER_BYTES);
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&self.run_number);
        header[8..12].copy_from_slice(&(lane as u32).to_be_bytes());
        header[12..].copy_from_slice(&number.to_be_bytes());
        self.pattern.fill(lane as u64, place(number, body.len()), body);
        let told = &mut self.run.tally.datagrams;
        let status = socket.send(&self.datagram);
        if status.is_accepted() {
            told.queued += u64::from(status == SendStatus::Queued && ledger.is_measured(number));
            ledger.sent(at, &mut told.counts);
            if self.lanes[lane].voice == Voice::Unused {
                self.lanes[lane].voice = Voice::Silent;
                told.silent_sockets += 1;
            }
            return true;
        }
        ledger.dropped(at, &mut told.counts);
        self.not_sent(status, socket);
        false
    }

    #[cold]
    fn not_sent(&mut self, status: SendStatus, socket: &mut DatagramSocket<'_>) {
        let addr = self.run.addr;
        let size = self.run.plan.size;
        match status {
            SendStatus::TooLong => {
                let why = format!(
                    "datagrams of {size} bytes are too long for this system or for the way to \
                     {addr}; take a smaller --size"
                );
                self.give_up(why, &mut socket.context());
            }
            SendStatus::Failed(kind) => {
                self.run.tally.fault(format!("not sent: {kind}"), format!("to {addr}: {kind}"));
            }
            _ => self.run.tally.datagrams.overflowed += 1,
        }
    }

    /// The socket and the number that a datagram says it has; `None` if it is not of this run.
    fn header(&self, bytes: &[u8]) -> Option<(usize, u64)> {
        let (header, _) = bytes.split_first_chunk::<UDP_HEADER_BYTES>()?;
        let (magic, rest) = header.split_first_chunk::<4>()?;
        let (run_number, rest) = rest.split_first_chunk::<4>()?;
        let (lane, rest) = rest.split_first_chunk::<4>()?;
        let number = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        let is_ours = *magic == MAGIC && *run_number == self.run_number;
        is_ours.then_some((u32::from_be_bytes(*lane) as usize, number))
    }

    /// What is wrong with a datagram of this run; `None` if it is as it was sent.
    fn mistake(&self, id: SocketId, lane: usize, number: u64, bytes: &[u8]) -> Option<String> {
        let size = self.run.plan.size;
        if self.lanes.get(lane).is_none_or(|lane| lane.id != id) {
            let came = self.places.get(&id).copied().unwrap_or_default();
            return Some(format!("socket {came}: a datagram of socket {lane} came"));
        }
        if number >= self.lanes[lane].ledger.next() {
            return Some(never_sent(lane, number));
        }
        if bytes.len() != size {
            let count = bytes.len();
            return Some(format!(
                "socket {lane}, datagram {number}: {count} bytes came back for {size}"
            ));
        }
        let body = &bytes[UDP_HEADER_BYTES..];
        let at = place(number, body.len());
        let (index, wanted) = self.pattern.difference(lane as u64, at, body)?;
        let came = body[index];
        Some(format!(
            "socket {lane}, datagram {number}, byte {}: {came:#04x} came back for {wanted:#04x}",
            UDP_HEADER_BYTES + index,
        ))
    }

    #[cold]
    fn note_foreign(&mut self, from: SocketAddr, count: usize) {
        self.run.tally.datagrams.foreign += 1;
        let example = format!("{count} bytes from {from} that are not of this run");
        self.run.tally.fault("foreign datagram".to_owned(), example);
    }

    /// A datagram of this run has come back as it was sent.
    #[inline]
    fn take(&mut self, lane: usize, number: u64, now: Instant) {
        let at = self.nanos(now);
        let ledger = &mut self.lanes[lane].ledger;
        let tally = &mut self.run.tally;
        let sent = match ledger.arrived(number, at, &mut tally.datagrams.counts) {
            Arrival::Answer { sent } => sent,
            Arrival::Late | Arrival::Duplicate | Arrival::Forgotten => return,
            Arrival::NeverSent => {
                return tally.mistake(Mistake::bytes(never_sent(lane, number)));
            }
        };
        tally.answers += 1;
        if self.lanes[lane].voice == Voice::Silent {
            self.lanes[lane].voice = Voice::Answered;
            tally.datagrams.silent_sockets -= 1;
        }
        let ledger = &self.lanes[lane].ledger;
        if self.run.phase() == Phase::Measure {
            self.run.tally.measured += 1;
        }
        if ledger.is_measured(number) {
            let took = match &self.schedule {
                Some(schedule) => {
                    let moment = schedule.moment(schedule.number(lane, number));
                    now.saturating_duration_since(moment)
                }
                None => Duration::from_nanos(at - sent),
            };
            record(&mut self.run.tally.exchange, took);
        }
    }

    /// Gives up what is too old, and replaces it.
    fn sweep(&mut self, now: Instant, cx: &mut Context<'_>) {
        if now - self.swept < SWEEP_PERIOD {
            return;
        }
        self.swept = now;
        let at = self.nanos(now);
        let mut in_flight = 0;
        for lane in 0..self.lanes.len() {
            self.lanes[lane].ledger.expire(at, &mut self.run.tally.datagrams.counts);
            self.fill(lane, cx);
            in_flight += self.lanes[lane].ledger.in_flight();
        }
        if self.run.phase() != Phase::Finish {
            return;
        }
        let is_idle = in_flight == 0 && self.next >= self.due(now);
        self.idle_since = is_idle.then_some(self.idle_since.unwrap_or(now));
        let is_done = self.idle_since.is_some_and(|since| now - since >= LINGER);
        if is_done || self.run.tally.interrupted {
            self.enter(Phase::Over, cx);
        }
    }
}

fn never_sent(lane: usize, number: u64) -> String {
    format!("socket {lane}: datagram {number} came and was never sent")
}

/// Where in the stream of its socket a datagram's piece of the pattern begins.
fn place(number: u64, count: usize) -> u64 {
    number.wrapping_mul(count as u64)
}

impl DatagramHandler for Udp {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        if self.run.phase() == Phase::Over {
            return;
        }
        let now = Instant::now();
        let Some((lane, number)) = self.header(bytes) else {
            return self.note_foreign(from, bytes.len());
        };
        if let Some(mistake) = self.mistake(socket.id(), lane, number, bytes) {
            return self.run.tally.mistake(Mistake::bytes(mistake));
        }
        self.take(lane, number, now);
        self.fill_socket(lane, socket);
    }

    fn on_drain(&mut self, socket: &mut DatagramSocket<'_>) {
        if let Some(&lane) = self.places.get(&socket.id()) {
            self.fill_socket(lane, socket);
        }
    }

    /// The network answers in the server's place.
    fn on_error(&mut self, socket: &mut DatagramSocket<'_>, error: io::Error) {
        if self.run.phase() == Phase::Over {
            return;
        }
        let addr = self.run.addr;
        self.run.tally.datagrams.network_errors += 1;
        let kind = format!("told by the network: {}", error.kind());
        self.run.tally.fault(kind, format!("{addr}: {error}"));
        // Windows tells a port where nobody receives as a reset.
        let is_nobody = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
        );
        if is_nobody && self.run.tally.answers == 0 {
            let why = format!("{addr}: {error}; nobody receives datagrams there");
            self.give_up(why, &mut socket.context());
        }
    }
}

impl TimerHandler for Udp {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        if self.run.phase() == Phase::Over {
            return;
        }
        self.run.show(now);
        self.send_due(now, cx);
        self.sweep(now, cx);
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
