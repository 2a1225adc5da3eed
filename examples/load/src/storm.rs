//! The storm: connect, one exchange, close, and again, so many at a time.
//!
//! With a rate each connection has a moment when it is meant to begin, and its time counts from
//! then, as in the open loop: also if no place was free for it.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{
    CloseReason, Closed as End, Conn, Context, DeadlineKind, Handler, HandlerKey, Peer, Timer,
    TimerHandler,
};

use crate::dial::Dialer;
use crate::plan::Ending;
use crate::run::{END_PATIENCE, Maker, Phase, Run};
use crate::schedule::Schedule;
use crate::talk::{Heard, Talk};
use crate::tally::record;

pub(crate) struct Storm<T: Talk> {
    run: Run,
    talk: T,
    dialer: Dialer<Self>,
    ending: Ending,
    /// When connections are to begin, if there is a rate; `None` begins one when another has ended.
    schedule: Option<Schedule>,
}

/// One connection of the storm.
pub(crate) struct Link<E> {
    stream: u64,
    begun: Instant,
    /// What came back.
    ear: E,
    /// Messages may be sent.
    is_up: bool,
    /// The answer is complete.
    is_answered: bool,
}

fn link<E: Default>(stream: u64) -> Link<E> {
    let (begun, ear) = (Instant::now(), E::default());
    Link { stream, begun, ear, is_up: false, is_answered: false }
}

impl<T: Talk> Maker for Storm<T> {
    const TICK: Duration = Duration::from_millis(1);

    fn new(run: Run) -> Self {
        let schedule = run.plan.rate.map(|_| Schedule::new(&run.plan));
        // With a rate each tick allows some.
        let wanted = if schedule.is_some() { 0 } else { u64::MAX };
        Self {
            schedule,
            dialer: Dialer::new(&run.plan, run.addr, wanted),
            talk: T::new(&run.plan),
            ending: run.plan.ending,
            run,
        }
    }

    fn begin(&mut self, service: HandlerKey<Self>, cx: &mut Context<'_>) {
        self.run.enter(Phase::WarmUp);
        if let Some(schedule) = &mut self.schedule {
            schedule.start = Instant::now();
        }
        self.dialer.begin(service, cx, link);
    }
}

impl<T: Talk> Storm<T> {
    fn enter(&mut self, phase: Phase, cx: &mut Context<'_>) {
        if phase == Phase::Over {
            self.run.tally.unanswered = self.dialer.in_flight() as u64;
            return self.run.end(cx);
        }
        if phase == Phase::Finish {
            if let Some(schedule) = &self.schedule {
                self.run.tally.offered = self.dialer.wanted().saturating_sub(schedule.first);
                self.run.tally.left = self.dialer.begun().saturating_sub(schedule.first);
            }
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

    /// Begins what is allowed and has a place.
    fn fill(&mut self, cx: &mut Context<'_>) {
        let (schedule, tally) = (&self.schedule, &mut self.run.tally);
        self.dialer.fill(cx, |number| {
            let link = link(number);
            if let Some(schedule) = schedule.as_ref().filter(|it| it.is_measured(number)) {
                let late = link.begun.saturating_duration_since(schedule.moment(number));
                record(&mut tally.delay, late);
            }
            link
        });
    }

    /// Messages may be sent.
    fn begin_on(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        link.is_up = true;
        self.run.connected(link.begun.elapsed(), false, conn);
        self.talk.send(conn, link.stream, 0, 1);
    }

    fn count_answer(&mut self, link: &Link<T::Ear>, is_right: bool) {
        let Some(schedule) = &self.schedule else {
            return self.run.answered(link.begun.elapsed(), is_right);
        };
        let is_in_window = self.run.phase() == Phase::Measure && is_right;
        let tally = &mut self.run.tally;
        tally.answers += 1;
        tally.measured += u64::from(is_in_window);
        // What is measured is what was to begin in the window, whenever it is answered.
        if schedule.is_measured(link.stream) && is_right {
            record(&mut tally.exchange, schedule.moment(link.stream).elapsed());
        }
    }

    /// Everything came back.
    fn take_answer(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>, heard: &Heard) {
        link.is_answered = true;
        self.count_answer(link, heard.mistake.is_none());
        match self.ending {
            Ending::Fin if self.talk.bye(&mut link.ear, conn) => {
                conn.set_deadline(DeadlineKind::User, Some(END_PATIENCE));
            }
            Ending::Fin => conn.close(),
            Ending::Reset => conn.abort(),
            // Where it is not announced, it is not going to come.
            Ending::Server if !heard.is_last => conn.abort(),
            Ending::Server => conn.set_deadline(DeadlineKind::User, Some(END_PATIENCE)),
        }
    }
}

impl<T: Talk> Handler for Storm<T> {
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
        let mut used = 0;
        // What follows the answer to a handshake may be all that comes.
        while used < input.len() {
            let (so_far, rest) = ((link.stream, 1), &input[used..]);
            let heard = self.run.hear(&mut self.talk, &mut link.ear, conn, so_far, rest);
            let Some(heard) = heard else { return input.len() };
            used += heard.used;
            if heard.is_up {
                self.begin_on(link, conn);
            }
            if heard.answers > 0 {
                self.take_answer(link, conn, &heard);
            }
            if heard.used == 0 || link.is_answered {
                break; // the rest of one is to come, or nothing but the end
            }
        }
        used
    }

    fn on_eof(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        let mut heard = self.talk.hear_end(&mut link.ear);
        self.run.note(link.stream, &mut heard);
        if heard.answers > 0 {
            self.take_answer(link, conn, &heard);
        }
        conn.close();
    }

    /// One has ended, the next begins.
    fn on_close(&mut self, link: Link<T::Ear>, closed: End, cx: &mut Context<'_>) {
        if self.run.phase() == Phase::Over {
            return;
        }
        if !link.is_up {
            self.run.not_greeted(&closed, cx);
            self.dialer.settle();
            return self.end_if_calm(cx);
        }
        self.run.tally.live -= 1;
        let is_ours = matches!(closed.reason, CloseReason::Local);
        let is_late = matches!(closed.reason, CloseReason::Timeout(_));
        let cut = self.talk.cut(&link.ear);
        if (!link.is_answered || is_late || cut.is_some()) && !is_ours {
            self.run.tally.lose(&closed, cut);
        }
        self.dialer.settle();
        self.fill(cx);
        self.end_if_calm(cx);
    }

    /// The next one begins with the next tick: a server that is gone refuses at once, and would
    /// keep us busy with nothing else.
    fn on_connect_failed(&mut self, _: Link<T::Ear>, error: io::Error, cx: &mut Context<'_>) {
        self.run.refused(&error, cx);
        self.dialer.settle();
        self.end_if_calm(cx);
    }
}

impl<T: Talk> TimerHandler for Storm<T> {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.run.show(now);
        if self.run.makes_load() {
            if let Some(schedule) = &self.schedule {
                self.dialer.allow(schedule.due(now));
            }
            self.fill(cx);
        }
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
