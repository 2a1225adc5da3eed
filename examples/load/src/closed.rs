//! The closed loop: each connection keeps so many messages in flight, and an answer makes room
//! for the next.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{Closed as End, Conn, Context, Handler, HandlerKey, Peer, Timer};

use crate::dial::Dialer;
use crate::run::{Maker, Phase, Run};

pub(crate) struct Closed {
    run: Run,
    dialer: Dialer<Self>,
    size: usize,
    depth: usize,
    /// Messages on their way, on all connections.
    in_flight: u64,
}

/// One connection.
pub(crate) struct Link {
    dialled: Instant,
    /// Which stream of the pattern it sends.
    stream: u64,
    /// Bytes written.
    sent: u64,
    /// Bytes that came back.
    received: u64,
    /// When each message in flight was written: a ring, made once.
    written_at: Box<[Instant]>,
    /// Where in the ring the oldest message in flight is.
    oldest: usize,
    /// Messages in flight.
    in_flight: usize,
}

impl Link {
    fn new(stream: u64, depth: usize) -> Self {
        let now = Instant::now();
        Self {
            dialled: now,
            stream,
            sent: 0,
            received: 0,
            written_at: vec![now; depth].into_boxed_slice(),
            oldest: 0,
            in_flight: 0,
        }
    }
}

impl Maker for Closed {
    const TICK: Duration = Duration::from_millis(10);

    fn new(run: Run) -> Self {
        let wanted = run.plan.connections() as u64;
        Self {
            dialer: Dialer::new(&run.plan, run.addr, wanted),
            size: run.plan.size,
            depth: run.plan.depth,
            in_flight: 0,
            run,
        }
    }

    fn begin(&mut self, service: HandlerKey<Self>, cx: &mut Context<'_>) {
        let depth = self.depth;
        self.dialer.begin(service, cx, |stream| Link::new(stream, depth));
    }
}

impl Closed {
    fn enter(&mut self, phase: Phase, cx: &mut Context<'_>) {
        let is_over = phase == Phase::Finish && self.in_flight == 0;
        if phase == Phase::Over || is_over {
            self.run.tally.unanswered += self.in_flight;
            self.run.end(cx);
        } else {
            self.run.enter(phase);
        }
    }

    /// Dials on, or begins to warm up when all are up.
    fn dial_on(&mut self, cx: &mut Context<'_>) {
        if self.run.phase() != Phase::Dial {
            return;
        }
        self.dialer.settle();
        let depth = self.depth;
        self.dialer.fill(cx, |stream| Link::new(stream, depth));
        if self.dialer.is_done() {
            self.enter(Phase::WarmUp, cx);
        }
    }

    /// Writes `count` messages: in one call, since they lie in one stream.
    #[inline]
    fn send(&mut self, link: &mut Link, conn: &mut Conn<'_>, count: usize, now: Instant) {
        let bytes = count * self.size;
        let pattern = &self.run.pattern;
        pattern.write(conn, link.stream, link.sent, bytes);
        link.sent += bytes as u64;
        for _ in 0..count {
            let next = (link.oldest + link.in_flight) % self.depth;
            link.written_at[next] = now;
            link.in_flight += 1;
        }
        self.in_flight += count as u64;
    }

    /// Takes the oldest message out of the ring.
    #[inline]
    fn take_answer(&mut self, link: &mut Link, now: Instant) {
        self.run.answered(now - link.written_at[link.oldest]);
        link.oldest = (link.oldest + 1) % self.depth;
        link.in_flight -= 1;
        self.in_flight -= 1;
    }
}

impl Handler for Closed {
    type State = Link;

    fn on_accept(&mut self, _: &Peer) -> Option<Link> {
        None
    }

    /// Load begins with the first connection; what is measured begins when all are up and warm.
    fn on_open(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        let now = Instant::now();
        self.run.connected(now - link.dialled, conn);
        self.send(link, conn, self.depth, now);
        self.dial_on(&mut conn.context());
    }

    fn on_data(&mut self, link: &mut Link, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let run = &mut self.run;
        if !run.is_right(link.stream, link.received, link.sent, input) {
            conn.abort();
            return input.len();
        }
        // One reading of the clock for all that came and all that leaves.
        let now = Instant::now();
        let size = self.size as u64;
        let before = link.received / size;
        link.received += input.len() as u64;
        let answers = (link.received / size - before) as usize;
        for _ in 0..answers {
            self.take_answer(link, now);
        }
        if self.run.makes_load() {
            self.send(link, conn, answers, now);
        } else if self.in_flight == 0 {
            self.enter(Phase::Over, &mut conn.context());
        }
        input.len()
    }

    fn on_close(&mut self, link: Link, closed: End, cx: &mut Context<'_>) {
        self.in_flight -= link.in_flight as u64;
        self.run.tally.unanswered += link.in_flight as u64;
        self.run.closed(&closed, cx);
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
