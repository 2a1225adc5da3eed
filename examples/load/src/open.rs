//! The open loop: messages leave at a fixed rate, whatever the answers do.
//!
//! A tester that waits for an answer before it sends on asks least when the server is slowest,
//! and so hardly sees its worst moments ("coordinated omission"). Here each message has a moment
//! when it is meant to leave, evenly spread over time, and its latency counts from that moment,
//! also if it could not leave then. The wheel ticks every millisecond, so messages leave in small
//! bursts; what that adds is told as the delay. Where a connection may not have more in flight, as
//! with HTTP, messages wait for the answers before them, and that counts too.

use std::io;
use std::time::{Duration, Instant};

use waterwheel::{
    Closed as End, Conn, ConnId, Context, DeadlineKind, Handler, HandlerKey, Peer, Timer,
    TimerHandler, Written,
};

use crate::dial::Dialer;
use crate::run::{END_PATIENCE, Maker, Phase, Run, is_orderly};
use crate::schedule::Schedule;
use crate::talk::{Heard, Talk};
use crate::tally::record;

pub(crate) struct Open<T: Talk> {
    run: Run,
    talk: T,
    dialer: Dialer<Self>,
    /// Messages that may be in flight on a connection.
    most_in_flight: u64,
    /// Wrong answers to messages that are measured.
    wrong: u64,
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
    /// Messages written; those without an answer are written again when a connection takes the
    /// place of one that has ended in order.
    written: u64,
    /// Messages written at least once.
    left: u64,
    /// Messages answered.
    answered: u64,
    /// It has more queued than the socket takes.
    is_full: bool,
}

/// The receiving side.
pub(crate) struct Link<E> {
    dialled: Instant,
    lane: usize,
    /// What came back.
    ear: E,
    /// Messages of the lane that were answered before this connection.
    before: u64,
    /// Messages may be sent.
    is_up: bool,
    /// It has taken the place of another.
    is_again: bool,
    /// The server has announced its end.
    is_ending: bool,
}

impl<T: Talk> Maker for Open<T> {
    const TICK: Duration = Duration::from_millis(1);

    fn new(run: Run) -> Self {
        let lanes = run.plan.connections();
        Self {
            dialer: Dialer::new(&run.plan, run.addr, lanes as u64),
            talk: T::new(&run.plan),
            most_in_flight: T::most_in_flight(&run.plan),
            wrong: 0,
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

fn link<E: Default>(number: u64) -> Link<E> {
    Link {
        dialled: Instant::now(),
        lane: number as usize,
        ear: E::default(),
        before: 0,
        is_up: false,
        is_again: false,
        is_ending: false,
    }
}

impl<T: Talk> Open<T> {
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
        self.offered().saturating_sub(self.run.tally.exchange.len() + self.wrong)
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

    /// Messages may be sent.
    fn begin_on(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        link.is_up = true;
        self.run.connected(link.dialled.elapsed(), link.is_again, conn);
        self.lanes[link.lane].id = Some(conn.id());
        match link.is_again {
            true => self.send(link.lane, conn, Instant::now()),
            false => self.dial_on(&mut conn.context()),
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
        while lane.written < lane.due
            && !lane.is_full
            && lane.written - lane.answered < self.most_in_flight
        {
            match self.talk.send(conn, index as u64, lane.written, 1) {
                Written::Below => {}
                Written::Above => lane.is_full = true,
                // It is ending, and `on_close` follows.
                _ => return,
            }
            let number = self.schedule.number(index, lane.written);
            lane.written += 1;
            if lane.written <= lane.left {
                continue;
            }
            lane.left = lane.written;
            if self.schedule.is_measured(number) {
                let moment = self.schedule.moment(number);
                record(&mut self.run.tally.delay, now.saturating_duration_since(moment));
                self.run.tally.left += 1;
            }
        }
    }

    /// The next messages of a lane have been answered.
    #[inline]
    fn take_answers(&mut self, link: &mut Link<T::Ear>, heard: &Heard, now: Instant) {
        let is_right = heard.mistake.is_none();
        let is_in_window = self.run.phase() == Phase::Measure && is_right;
        let tally = &mut self.run.tally;
        let lane = &mut self.lanes[link.lane];
        for _ in 0..heard.answers {
            let number = self.schedule.number(link.lane, lane.answered);
            lane.answered += 1;
            tally.answers += 1;
            tally.measured += u64::from(is_in_window);
            match (self.schedule.is_measured(number), is_right) {
                (true, true) => {
                    let moment = self.schedule.moment(number);
                    record(&mut tally.exchange, now.saturating_duration_since(moment));
                }
                (true, false) => self.wrong += 1,
                (false, _) => {}
            }
        }
        if heard.is_last {
            link.is_ending = true;
            lane.id = None;
        }
    }

    /// A connection has ended that was announced to: another takes its place, and what is not
    /// answered is sent there.
    fn come_again(&mut self, old: &Link<T::Ear>, cx: &mut Context<'_>) {
        let lane = &mut self.lanes[old.lane];
        lane.written = lane.answered;
        lane.is_full = false;
        self.run.tally.reconnects += 1;
        let fresh = Link { before: lane.answered, is_again: true, ..link(old.lane as u64) };
        self.dialer.redial(old.lane as u64, fresh, cx);
    }
}

impl<T: Talk> Handler for Open<T> {
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
        let now = Instant::now();
        let mut used = 0;
        while used < input.len() {
            let sent = self.lanes[link.lane].written - link.before;
            let (so_far, rest) = ((link.lane as u64, sent), &input[used..]);
            let heard = self.run.hear(&mut self.talk, &mut link.ear, conn, so_far, rest);
            let Some(heard) = heard else { return input.len() };
            self.take_answers(link, &heard, now);
            used += heard.used;
            if heard.is_up {
                self.begin_on(link, conn);
                continue;
            }
            if heard.answers == 0 {
                break; // the rest of one is to come
            }
        }
        match link.is_ending {
            true => conn.set_deadline(DeadlineKind::User, Some(END_PATIENCE)),
            false if link.is_up => self.send(link.lane, conn, now),
            false => {}
        }
        self.finish_if_all_answered(&mut conn.context());
        used
    }

    fn on_drain(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        self.lanes[link.lane].is_full = false;
        if !link.is_ending {
            self.send(link.lane, conn, Instant::now());
        }
    }

    fn on_eof(&mut self, link: &mut Link<T::Ear>, conn: &mut Conn<'_>) {
        let mut heard = self.talk.hear_end(&mut link.ear);
        self.run.note(link.lane as u64, &mut heard);
        self.take_answers(link, &heard, Instant::now());
        self.finish_if_all_answered(&mut conn.context());
        conn.close();
    }

    fn on_close(&mut self, link: Link<T::Ear>, closed: End, cx: &mut Context<'_>) {
        self.lanes[link.lane].id = None;
        if link.is_ending && is_orderly(&closed) && self.run.phase() < Phase::Over {
            return self.come_again(&link, cx);
        }
        if !link.is_up && !link.is_again {
            self.run.not_greeted(&closed, cx);
            return self.dial_on(cx);
        }
        // If it was the last one, the run ends here.
        self.count();
        self.run.closed(&closed, self.talk.cut(&link.ear), cx);
    }

    fn on_connect_failed(&mut self, link: Link<T::Ear>, error: io::Error, cx: &mut Context<'_>) {
        self.run.refused(&error, cx);
        if !link.is_again {
            return self.dial_on(cx);
        }
        self.count();
        self.run.leave(cx);
    }
}

impl<T: Talk> TimerHandler for Open<T> {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.run.show(now);
        self.send_due(now, cx);
        if let Some(next) = self.run.due(now) {
            self.enter(next, cx);
        }
    }
}
