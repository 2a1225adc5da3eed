//! The storm: connect, one exchange, close, and again, so many at a time.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{CloseReason, Closed as End, Conn, Context, Handler, HandlerKey, Peer, Timer};

use crate::dial::Dialer;
use crate::plan::Ending;
use crate::run::{Maker, Phase, Run};

pub(crate) struct Storm {
    run: Run,
    dialer: Dialer<Self>,
    size: usize,
    ending: Ending,
    /// Connections to begin a second; `None` begins one when another has ended.
    rate: Option<u32>,
    start: Instant,
}

/// One connection of the storm.
pub(crate) struct Link {
    stream: u64,
    begun: Instant,
    /// Bytes that came back.
    received: u64,
    /// All came back, and all of it right.
    is_answered: bool,
}

fn link(stream: u64) -> Link {
    Link { stream, begun: Instant::now(), received: 0, is_answered: false }
}

impl Maker for Storm {
    const TICK: Duration = Duration::from_millis(1);

    fn new(run: Run) -> Self {
        let rate = run.plan.rate;
        // With a rate each tick allows some.
        let wanted = if rate.is_some() { 0 } else { u64::MAX };
        Self {
            rate,
            start: Instant::now(),
            dialer: Dialer::new(&run.plan, run.addr, wanted),
            size: run.plan.size,
            ending: run.plan.ending,
            run,
        }
    }

    fn begin(&mut self, service: HandlerKey<Self>, cx: &mut Context<'_>) {
        self.run.enter(Phase::WarmUp);
        self.start = Instant::now();
        self.dialer.begin(service, cx, link);
    }
}

impl Storm {
    fn enter(&mut self, phase: Phase, cx: &mut Context<'_>) {
        if phase == Phase::Over {
            self.run.tally.unanswered = self.dialer.in_flight() as u64;
            return self.run.end(cx);
        }
        if phase == Phase::Finish {
            self.dialer.stop();
        }
        self.run.enter(phase);
        self.end_if_calm(cx);
    }

    fn end_if_calm(&mut self, cx: &mut Context<'_>) {
        if self.run.phase() == Phase::Finish && self.dialer.in_flight() == 0 {
            self.run.end(cx);
        }
    }

    /// Everything came back.
    fn take_answer(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        link.is_answered = true;
        self.run.answered(link.begun.elapsed());
        match self.ending {
            Ending::Fin => conn.close(),
            Ending::Reset => conn.abort(),
        }
    }
}

impl Handler for Storm {
    type State = Link;

    fn on_accept(&mut self, _: &Peer) -> Option<Link> {
        None
    }

    fn on_open(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        self.run.connected(link.begun.elapsed(), conn);
        self.run.pattern.write(conn, link.stream, 0, self.size);
    }

    fn on_data(&mut self, link: &mut Link, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let size = self.size as u64;
        if !self.run.is_right(link.stream, link.received, size, input) {
            conn.abort();
            return input.len();
        }
        link.received += input.len() as u64;
        if link.received == size {
            self.take_answer(link, conn);
        }
        input.len()
    }

    /// One has ended, the next begins.
    fn on_close(&mut self, link: Link, closed: End, cx: &mut Context<'_>) {
        if self.run.phase() == Phase::Over {
            return;
        }
        self.run.tally.live -= 1;
        let is_ours = matches!(closed.reason, CloseReason::Local);
        if !link.is_answered && !is_ours {
            self.run.tally.lose(&closed);
        }
        self.dialer.settle();
        self.dialer.fill(cx, self::link);
        self.end_if_calm(cx);
    }

    /// The next one begins with the next tick: a server that is gone refuses at once, and would
    /// keep us busy with nothing else.
    fn on_connect_failed(&mut self, _: Link, error: io::Error, cx: &mut Context<'_>) {
        self.run.refused(&error, cx);
        self.dialer.settle();
        self.end_if_calm(cx);
    }

    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.run.show(now);
        if self.run.makes_load() {
            if let Some(rate) = self.rate {
                let due = (now - self.start).as_secs_f64() * f64::from(rate);
                self.dialer.allow(due as u64);
            }
            self.dialer.fill(cx, link);
        }
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
