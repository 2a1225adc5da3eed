//! Holding: many idle connections, a few active ones among them, and a roll call at the end.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{
    Closed as End, Conn, ConnId, Context, Handler, HandlerKey, Peer, Timer, TimerHandler,
};

use crate::dial::Dialer;
use crate::run::{Maker, Phase, Run};
use crate::talk::Talk;
use crate::tally::record;

pub(crate) struct Hold<T: Talk> {
    run: Run,
    talk: T,
    dialer: Dialer<Self>,
    /// The first so many connections are active.
    active: u64,
    /// The others, to be asked in the end.
    idle: Vec<Idle>,
    /// How many of them were asked.
    asked: usize,
    /// How many of these have neither answered nor ended.
    /// Invariant: so many of `idle` are awaited.
    awaited: usize,
    /// Messages of the active ones on their way.
    in_flight: usize,
    most_awaited: usize,
}

/// An idle connection.
struct Idle {
    id: ConnId,
    /// Was asked, and has neither answered nor ended.
    is_awaited: bool,
}

/// One connection.
pub(crate) struct Link<E> {
    stream: u64,
    /// Where in the list of the idle it is; of no meaning for an active one.
    place: usize,
    dialled: Instant,
    /// When the last message was written.
    written_at: Instant,
    /// Messages written.
    sent: u64,
    /// Messages answered.
    answered: u64,
    /// Messages may be sent.
    is_up: bool,
    /// What came back.
    ear: E,
    /// An idle one that was asked in the end.
    is_asked: bool,
}

fn link<E: Default>(stream: u64) -> Link<E> {
    let now = Instant::now();
    Link {
        stream,
        place: 0,
        dialled: now,
        written_at: now,
        sent: 0,
        answered: 0,
        is_up: false,
        ear: E::default(),
        is_asked: false,
    }
}

impl<T: Talk> Maker for Hold<T> {
    const TICK: Duration = Duration::from_millis(10);

    fn new(run: Run) -> Self {
        let wanted = run.plan.connections() as u64;
        Self {
            dialer: Dialer::new(&run.plan, run.addr, wanted),
            talk: T::new(&run.plan),
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

impl<T: Talk> Hold<T> {
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

    /// Messages may be sent.
    fn begin_on(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        link.is_up = true;
        self.run.connected(link.dialled.elapsed(), false, conn);
        if self.is_active(link) {
            self.in_flight += 1;
            self.send(link, conn);
        } else {
            link.place = self.idle.len();
            self.idle.push(Idle { id: conn.id(), is_awaited: false });
            if T::GREETS {
                self.send(link, conn);
            }
        }
        self.dial_on(&mut conn.context());
    }

    fn is_active(&self, link: &Link<T::Ear>) -> bool {
        link.stream < self.active
    }

    fn send(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        link.written_at = Instant::now();
        self.talk.send(conn, link.stream, link.sent, 1);
        link.sent += 1;
    }

    /// An answer is complete.
    fn take_answer(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>, is_right: bool) {
        link.answered += 1;
        let took = link.written_at.elapsed();
        if !self.is_active(link) {
            if link.is_asked {
                if is_right {
                    record(&mut self.run.tally.wake, took);
                    self.run.tally.woken += 1;
                }
                self.settle(link.place, &mut conn.context());
            }
            return;
        }
        self.run.answered(took, is_right);
        if self.run.makes_load() {
            self.send(link, conn);
        } else {
            self.in_flight -= 1;
            self.end_if_all_answered(&mut conn.context());
        }
    }

    /// Asks as many of the idle as may be awaited at a time. It is done by a timer of each, which
    /// comes with the connection's state; from here there would be only the connection.
    fn ask(&mut self, cx: &mut Context<'_>) {
        while self.awaited < self.most_awaited && self.asked < self.idle.len() {
            let idle = &mut self.idle[self.asked];
            self.asked += 1;
            // Not found is also one whose end is marked and whose `on_close` is still to come.
            if let Some(mut conn) = cx.conn(idle.id) {
                conn.set_timer(Duration::ZERO, 0);
                idle.is_awaited = true;
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

    /// An idle one has answered, or ended: if it was awaited, there is room for another.
    fn settle(&mut self, place: usize, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.idle[place].is_awaited) {
            self.awaited -= 1;
            self.ask(cx);
        }
    }
}

impl<T: Talk> Handler for Hold<T> {
    type State = Link<T::Ear>;

    fn on_accept(&mut self, _: &Peer) -> Option<Link<T::Ear>> {
        None
    }

    fn on_open(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        if !self.run.greet(&mut self.talk, conn) {
            self.begin_on(link, conn);
        }
    }

    /// An idle one is asked.
    fn on_timer(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>, _: Timer) {
        link.is_asked = true;
        // The first exchange of one that came up late may still be under way.
        if link.answered == link.sent {
            self.send(link, conn);
        }
    }

    fn on_data(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut used = 0;
        // What follows an answer, or that of the handshake, may be all that comes.
        while used < input.len() {
            let (so_far, rest) = ((link.stream, link.sent), &input[used..]);
            let heard = self.run.hear(&mut self.talk, &mut link.ear, conn, so_far, rest);
            let Some(heard) = heard else { return input.len() };
            used += heard.used;
            if heard.is_up {
                self.begin_on(link, conn);
            }
            if heard.answers > 0 {
                self.take_answer(link, conn, heard.mistake.is_none());
            }
            if heard.used == 0 {
                break; // the rest of one is to come
            }
        }
        used
    }

    fn on_close(&mut self, link: Link<T::Ear>, closed: End, cx: &mut Context<'_>) {
        if !link.is_up {
            self.run.not_greeted(&closed, cx);
            return self.dial_on(cx);
        }
        self.run.closed(&closed, self.talk.cut(&link.ear), cx);
        if self.is_active(&link) {
            self.in_flight -= usize::from(link.answered < link.sent);
            return self.end_if_all_answered(cx);
        }
        self.settle(link.place, cx);
    }

    fn on_connect_failed(&mut self, _: Link<T::Ear>, error: io::Error, cx: &mut Context<'_>) {
        self.run.refused(&error, cx);
        self.dial_on(cx);
    }
}

impl<T: Talk> TimerHandler for Hold<T> {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.run.show(now);
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
