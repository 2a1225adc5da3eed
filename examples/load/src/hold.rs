//! Holding: many idle connections, a few active ones among them, and a roll call at the end.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{Closed as End, Conn, ConnId, Context, Handler, HandlerKey, Peer, Timer};

use crate::dial::Dialer;
use crate::run::{Maker, Phase, Run};
use crate::tally::record;

pub(crate) struct Hold {
    run: Run,
    dialer: Dialer<Self>,
    size: usize,
    /// The first so many connections are active.
    active: u64,
    /// The others, to be asked in the end.
    idle: Vec<ConnId>,
    /// How many of them were asked.
    asked: usize,
    /// How many of these have neither answered nor ended.
    awaited: usize,
    /// Messages of the active ones on their way.
    in_flight: usize,
    most_awaited: usize,
}

/// One connection.
pub(crate) struct Link {
    stream: u64,
    /// Where in the list of the idle it is; of no meaning for an active one.
    place: usize,
    dialled: Instant,
    /// When the last message was written.
    written_at: Instant,
    /// Bytes written.
    sent: u64,
    /// Bytes that came back.
    received: u64,
}

fn link(stream: u64) -> Link {
    let now = Instant::now();
    Link { stream, place: 0, dialled: now, written_at: now, sent: 0, received: 0 }
}

impl Maker for Hold {
    const TICK: Duration = Duration::from_millis(10);

    fn new(run: Run) -> Self {
        let wanted = run.plan.connections() as u64;
        Self {
            dialer: Dialer::new(&run.plan, run.addr, wanted),
            size: run.plan.size,
            active: run.plan.active() as u64,
            idle: Vec::with_capacity(run.plan.connections()),
            asked: 0,
            awaited: 0,
            in_flight: 0,
            most_awaited: run.plan.in_flight,
            run,
        }
    }

    fn begin(&mut self, service: HandlerKey<Self>, cx: &mut Context<'_>) {
        self.dialer.begin(service, cx, link);
    }
}

impl Hold {
    fn enter(&mut self, phase: Phase, cx: &mut Context<'_>) {
        match phase {
            Phase::Finish => {
                self.run.enter(Phase::Finish);
                self.ask(cx);
            }
            Phase::Over => {
                let never_asked = self.idle.len() - self.asked;
                let unanswered = self.awaited + never_asked + self.in_flight;
                self.run.tally.unanswered = unanswered as u64;
                self.run.end(cx);
            }
            _ => self.run.enter(phase),
        }
    }

    fn dial_on(&mut self, cx: &mut Context<'_>) {
        if self.run.phase() != Phase::Dial {
            return;
        }
        self.dialer.settle();
        self.dialer.fill(cx, link);
        if self.dialer.is_done() {
            self.enter(Phase::Measure, cx);
        }
    }

    fn is_active(&self, link: &Link) -> bool {
        link.stream < self.active
    }

    fn send(&self, link: &mut Link, conn: &mut Conn<'_>) {
        link.written_at = Instant::now();
        let pattern = &self.run.pattern;
        pattern.write(conn, link.stream, link.sent, self.size);
        link.sent += self.size as u64;
    }

    /// Asks as many of the idle as may be awaited at a time. It is done by a timer of each, which
    /// comes with the connection's state; from here there would be only the connection.
    fn ask(&mut self, cx: &mut Context<'_>) {
        while self.awaited < self.most_awaited && self.asked < self.idle.len() {
            let id = self.idle[self.asked];
            self.asked += 1;
            if let Some(mut conn) = cx.conn(id) {
                conn.set_timer(Duration::ZERO, 0);
                self.awaited += 1;
            }
        }
        self.end_if_all_answered(cx);
    }

    fn end_if_all_answered(&mut self, cx: &mut Context<'_>) {
        let is_idle = self.awaited == 0 && self.in_flight == 0;
        if is_idle && self.run.phase() == Phase::Finish {
            self.enter(Phase::Over, cx);
        }
    }

    /// An idle one that was asked has answered, or ended.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.awaited -= 1;
        self.ask(cx);
    }
}

impl Handler for Hold {
    type State = Link;

    fn on_accept(&mut self, _: &Peer) -> Option<Link> {
        None
    }

    fn on_open(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        self.run.connected(link.dialled.elapsed(), conn);
        if self.is_active(link) {
            self.in_flight += 1;
            self.send(link, conn);
        } else {
            link.place = self.idle.len();
            self.idle.push(conn.id());
        }
        self.dial_on(&mut conn.context());
    }

    /// An idle one is asked.
    fn on_timer(&mut self, link: &mut Link, conn: &mut Conn<'_>, _: Timer) {
        self.send(link, conn);
    }

    fn on_data(&mut self, link: &mut Link, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let run = &mut self.run;
        if !run.is_right(link.stream, link.received, link.sent, input) {
            conn.abort();
            return input.len();
        }
        link.received += input.len() as u64;
        if link.received < link.sent {
            return input.len();
        }
        let took = link.written_at.elapsed();
        if !self.is_active(link) {
            record(&mut self.run.tally.wake, took);
            self.run.tally.woken += 1;
            self.settle(&mut conn.context());
            return input.len();
        }
        self.run.answered(took);
        if self.run.makes_load() {
            self.send(link, conn);
        } else {
            self.in_flight -= 1;
            self.end_if_all_answered(&mut conn.context());
        }
        input.len()
    }

    fn on_close(&mut self, link: Link, closed: End, cx: &mut Context<'_>) {
        self.run.closed(&closed, cx);
        if self.is_active(&link) {
            self.in_flight -= usize::from(link.received < link.sent);
            return self.end_if_all_answered(cx);
        }
        let was_asked = self.run.phase() == Phase::Finish && link.place < self.asked;
        if was_asked && link.received < self.size as u64 {
            self.settle(cx);
        }
    }

    fn on_connect_failed(&mut self, _: Link, error: io::Error, cx: &mut Context<'_>) {
        self.run.refused(&error, cx);
        self.dial_on(cx);
    }

    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.run.show(now);
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
