//! The open loop: messages leave at a fixed rate, whatever the answers do.
//!
//! A tester that waits for an answer before it sends on asks least when the server is slowest,
//! and so hardly sees its worst moments ("coordinated omission"). Here each message has a moment
//! when it is meant to leave, evenly spread over time, and its latency counts from that moment,
//! also if it could not leave then. The wheel ticks every millisecond, so messages leave in small
//! bursts; what that adds is told as the delay.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{Closed as End, Conn, ConnId, Context, Handler, HandlerKey, Peer, Timer, Written};

use crate::dial::Dialer;
use crate::run::{Maker, Phase, Run};
use crate::schedule::Schedule;
use crate::tally::record;

pub(crate) struct Open {
    run: Run,
    dialer: Dialer<Self>,
    size: usize,
    /// What the ticker needs of each connection. It cannot be in their `State`, which only the
    /// callbacks of that connection see.
    lanes: Vec<Lane>,
    schedule: Schedule,
    /// The number of the next message to become due.
    next: u64,
}

/// The sending side of a connection.
#[derive(Default)]
struct Lane {
    /// `None` before it is up and after it has ended.
    id: Option<ConnId>,
    /// Messages that are due.
    due: u64,
    /// Messages written.
    written: u64,
    /// It has more queued than the socket takes.
    is_full: bool,
}

/// The receiving side.
pub(crate) struct Link {
    dialled: Instant,
    lane: usize,
    /// Bytes that came back.
    received: u64,
}

impl Maker for Open {
    const TICK: Duration = Duration::from_millis(1);

    fn new(run: Run) -> Self {
        let lanes = run.plan.connections();
        Self {
            dialer: Dialer::new(&run.plan, run.addr, lanes as u64),
            size: run.plan.size,
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            schedule: Schedule::new(&run.plan),
            next: 0,
            run,
        }
    }

    fn begin(&mut self, service: HandlerKey<Self>, cx: &mut Context<'_>) {
        self.dialer.begin(service, cx, link);
    }
}

fn link(number: u64) -> Link {
    Link { dialled: Instant::now(), lane: number as usize, received: 0 }
}

impl Open {
    fn enter(&mut self, phase: Phase, cx: &mut Context<'_>) {
        match phase {
            Phase::WarmUp => self.schedule.start = Instant::now(),
            // What became due since the last tick belongs to the window.
            Phase::Finish => self.send_due(Instant::now(), cx),
            _ => {}
        }
        if phase == Phase::Over {
            return self.finish(cx);
        }
        self.run.enter(phase);
        self.finish_if_all_answered(cx);
    }

    fn finish_if_all_answered(&mut self, cx: &mut Context<'_>) {
        if self.run.phase() == Phase::Finish && self.unanswered() == 0 {
            self.finish(cx);
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        self.count();
        self.run.end(cx);
    }

    fn count(&mut self) {
        self.run.tally.offered = self.offered();
        self.run.tally.unanswered = self.unanswered();
    }

    /// Messages that were due and are measured.
    fn offered(&self) -> u64 {
        self.next.saturating_sub(self.schedule.first)
    }

    /// Of these, those without an answer.
    fn unanswered(&self) -> u64 {
        self.offered().saturating_sub(self.run.tally.exchange.len())
    }

    fn dial_on(&mut self, cx: &mut Context<'_>) {
        if self.run.phase() != Phase::Dial {
            return;
        }
        self.dialer.settle();
        self.dialer.fill(cx, link);
        if self.dialer.is_done() {
            self.enter(Phase::WarmUp, cx);
        }
    }

    /// Sends what has become due since the last tick.
    fn send_due(&mut self, now: Instant, cx: &mut Context<'_>) {
        if !matches!(self.run.phase(), Phase::WarmUp | Phase::Measure) {
            return;
        }
        let due = self.schedule.due(now);
        for number in self.next..due {
            let lane = self.schedule.lane(number);
            self.lanes[lane].due += 1;
            let id = self.lanes[lane].id;
            if let Some(mut conn) = id.and_then(|id| cx.conn(id)) {
                self.send(lane, &mut conn, now);
            }
        }
        self.next = self.next.max(due);
    }

    /// Writes what is due on a lane, until it is full.
    fn send(&mut self, index: usize, conn: &mut Conn<'_>, now: Instant) {
        let lane = &mut self.lanes[index];
        while lane.written < lane.due && !lane.is_full {
            let at = lane.written * self.size as u64;
            let written = self.run.pattern.write(conn, index as u64, at, self.size);
            match written {
                Written::Below => {}
                Written::Above => lane.is_full = true,
                // It is ending, and `on_close` follows.
                _ => return,
            }
            let number = self.schedule.number(index, lane.written);
            lane.written += 1;
            if self.schedule.is_measured(number) {
                let moment = self.schedule.moment(number);
                record(&mut self.run.tally.delay, now.saturating_duration_since(moment));
                self.run.tally.left += 1;
            }
        }
    }

    /// Messages of a lane, from one to another, have been answered.
    #[inline]
    fn take_answers(&mut self, lane: usize, answers: std::ops::Range<u64>, now: Instant) {
        let is_in_window = self.run.phase() == Phase::Measure;
        let tally = &mut self.run.tally;
        for index in answers {
            let number = self.schedule.number(lane, index);
            tally.answers += 1;
            tally.measured += u64::from(is_in_window);
            if self.schedule.is_measured(number) {
                let moment = self.schedule.moment(number);
                record(&mut tally.exchange, now.saturating_duration_since(moment));
            }
        }
    }
}

impl Handler for Open {
    type State = Link;

    fn on_accept(&mut self, _: &Peer) -> Option<Link> {
        None
    }

    fn on_open(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        self.run.connected(link.dialled.elapsed(), conn);
        self.lanes[link.lane].id = Some(conn.id());
        self.dial_on(&mut conn.context());
    }

    fn on_data(&mut self, link: &mut Link, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let size = self.size as u64;
        let sent = self.lanes[link.lane].written * size;
        if !self.run.is_right(link.lane as u64, link.received, sent, input) {
            conn.abort();
            return input.len();
        }
        let before = link.received / size;
        link.received += input.len() as u64;
        self.take_answers(link.lane, before..link.received / size, Instant::now());
        self.finish_if_all_answered(&mut conn.context());
        input.len()
    }

    fn on_drain(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        self.lanes[link.lane].is_full = false;
        self.send(link.lane, conn, Instant::now());
    }

    fn on_close(&mut self, link: Link, closed: End, cx: &mut Context<'_>) {
        self.lanes[link.lane].id = None;
        // If it was the last one, the run ends here.
        self.count();
        self.run.closed(&closed, cx);
    }

    fn on_connect_failed(&mut self, _: Link, error: io::Error, cx: &mut Context<'_>) {
        self.run.refused(&error, cx);
        self.dial_on(cx);
    }

    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.run.show(now);
        self.send_due(now, cx);
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
