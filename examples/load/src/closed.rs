//! The closed loop: each connection keeps so many messages in flight, and an answer makes room
//! for the next. A connection whose end the server announces is made again.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{
    Closed as End, Conn, Context, DeadlineKind, Handler, HandlerKey, Peer, Timer, TimerHandler,
};

use crate::dial::Dialer;
use crate::run::{END_PATIENCE, Maker, Phase, Run, is_orderly};
use crate::talk::{Heard, Talk};

pub(crate) struct Closed<T: Talk> {
    run: Run,
    talk: T,
    dialer: Dialer<Self>,
    depth: usize,
    /// Messages on their way, on all connections.
    in_flight: u64,
}

/// One connection.
pub(crate) struct Link<E> {
    dialled: Instant,
    /// Its number, which is that of its stream.
    stream: u64,
    /// Messages written since it came up.
    sent: u64,
    /// What came back since then.
    ear: E,
    /// Messages may be sent.
    is_up: bool,
    /// It was up before.
    is_again: bool,
    /// The server has announced its end.
    is_ending: bool,
    /// When each message in flight was written: a ring, made once.
    written_at: Box<[Instant]>,
    /// Where in the ring the oldest message in flight is.
    oldest: usize,
    /// Messages in flight.
    in_flight: usize,
}

impl<E: Default> Link<E> {
    fn new(stream: u64, depth: usize) -> Self {
        let now = Instant::now();
        Self {
            dialled: now,
            stream,
            sent: 0,
            ear: E::default(),
            is_up: false,
            is_again: false,
            is_ending: false,
            written_at: vec![now; depth].into_boxed_slice(),
            oldest: 0,
            in_flight: 0,
        }
    }

    /// The same for a connection that takes its place; what is in flight is sent again there.
    fn renewed(self) -> Self {
        Self {
            dialled: Instant::now(),
            sent: 0,
            ear: E::default(),
            is_up: false,
            is_again: true,
            is_ending: false,
            ..self
        }
    }
}

/// A place in a ring of `length`, counted on from its end at most once: a division takes longer
/// than all else that is done with it.
#[inline]
fn in_ring(place: usize, length: usize) -> usize {
    if place < length { place } else { place - length }
}

impl<T: Talk> Maker for Closed<T> {
    const TICK: Duration = Duration::from_millis(10);

    fn new(run: Run) -> Self {
        let wanted = run.plan.connections() as u64;
        Self {
            dialer: Dialer::new(&run.plan, run.addr, wanted),
            talk: T::new(&run.plan),
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

impl<T: Talk> Closed<T> {
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

    /// Messages may be sent: load begins with the first connection; what is measured begins when
    /// all are up and warm.
    fn begin_on(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        link.is_up = true;
        let now = Instant::now();
        self.run.connected(now - link.dialled, link.is_again, conn);
        if link.is_again {
            let again = link.in_flight;
            self.talk.send(conn, link.stream, 0, again);
            link.sent = again as u64;
            return self.go_on(link, conn, self.depth - again, now);
        }
        self.send(link, conn, self.depth, now);
        self.dial_on(&mut conn.context());
    }

    /// Writes `count` messages.
    #[inline]
    fn send(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>, count: usize, now: Instant) {
        self.talk.send(conn, link.stream, link.sent, count);
        link.sent += count as u64;
        for _ in 0..count {
            let next = in_ring(link.oldest + link.in_flight, self.depth);
            link.written_at[next] = now;
            link.in_flight += 1;
        }
        self.in_flight += count as u64;
    }

    /// Takes the oldest messages out of the ring.
    #[inline]
    fn take_answers(&mut self, link: &mut Link<T::Ear>, heard: &Heard, now: Instant) {
        for _ in 0..heard.answers {
            let took = now - link.written_at[link.oldest];
            self.run.answered(took, heard.mistake.is_none());
            link.oldest = in_ring(link.oldest + 1, self.depth);
        }
        link.in_flight -= heard.answers;
        self.in_flight -= heard.answers as u64;
        link.is_ending |= heard.is_last;
    }

    /// So many answers have made room for messages.
    #[inline]
    fn go_on(
        &mut self,
        link: &mut Link<T::Ear>,
        conn: &mut Conn<'_>,
        answers: usize,
        now: Instant,
    ) {
        if link.is_ending {
            conn.set_deadline(DeadlineKind::User, Some(END_PATIENCE));
        }
        if !self.run.makes_load() {
            if self.in_flight == 0 {
                self.enter(Phase::Over, &mut conn.context());
            }
        } else if !link.is_ending && answers > 0 {
            self.send(link, conn, answers, now);
        }
    }

    /// A connection has ended that was announced to: it is made again if it has work.
    fn come_again(&mut self, link: Link<T::Ear>, cx: &mut Context<'_>) {
        if self.run.makes_load() || link.in_flight > 0 {
            self.run.tally.reconnects += 1;
            self.dialer.redial(link.stream, link.renewed(), cx);
        } else {
            self.run.leave(cx);
            if self.in_flight == 0 {
                self.enter(Phase::Over, cx);
            }
        }
    }
}

impl<T: Talk> Handler for Closed<T> {
    type State = Link<T::Ear>;

    fn on_accept(&mut self, _: &Peer) -> Option<Link<T::Ear>> {
        None
    }

    fn on_open(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        if !self.run.greet(&mut self.talk, conn) {
            self.begin_on(link, conn);
        }
    }

    fn on_data(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let (mut used, mut answers) = (0, 0);
        // One reading of the clock for all that came and all that leaves.
        let now = Instant::now();
        while used < input.len() {
            let (so_far, rest) = ((link.stream, link.sent), &input[used..]);
            let heard = self.run.hear(&mut self.talk, &mut link.ear, conn, so_far, rest);
            let Some(heard) = heard else { return input.len() };
            self.take_answers(link, &heard, now);
            used += heard.used;
            answers += heard.answers;
            if heard.is_up {
                self.begin_on(link, conn);
                continue;
            }
            if heard.answers == 0 {
                break; // the rest of one is to come
            }
        }
        if link.is_up {
            self.go_on(link, conn, answers, now);
        }
        used
    }

    fn on_eof(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        let mut heard = self.talk.hear_end(&mut link.ear);
        self.run.note(link.stream, &mut heard);
        self.take_answers(link, &heard, Instant::now());
        conn.close();
    }

    fn on_close(&mut self, link: Link<T::Ear>, closed: End, cx: &mut Context<'_>) {
        if link.is_ending && is_orderly(&closed) && self.run.phase() < Phase::Over {
            return self.come_again(link, cx);
        }
        if !link.is_up && !link.is_again {
            self.run.not_greeted(&closed, cx);
            return self.dial_on(cx);
        }
        self.in_flight -= link.in_flight as u64;
        self.run.tally.unanswered += link.in_flight as u64;
        self.run.closed(&closed, self.talk.cut(&link.ear), cx);
    }

    fn on_connect_failed(&mut self, link: Link<T::Ear>, error: io::Error, cx: &mut Context<'_>) {
        self.run.refused(&error, cx);
        if !link.is_again {
            return self.dial_on(cx);
        }
        self.in_flight -= link.in_flight as u64;
        self.run.tally.unanswered += link.in_flight as u64;
        self.run.leave(cx);
    }
}

impl<T: Talk> TimerHandler for Closed<T> {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.run.show(now);
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
