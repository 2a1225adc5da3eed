//! One turn of the loop, in six phases.

use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

use crate::base::id::{ConnId, Timer, TimerId};
use crate::base::memory::GiveBack;
use crate::base::tick::{NANOS_PER_TICK, NEVER};
use crate::base::wheel::Step;
use crate::engine::observer::{Phase, What};
use crate::engine::{Due, Engine, Owner, Queued, Stop, Target, due_of};
use crate::handler::{Context, Loop, Message, Posted, PostedCall};
use crate::reactor::Reactor;
use crate::reactor::callback::Who;
use crate::reactor::dispatch::Dispatcher;
use crate::sys::Events;

/// Timers that the wheel may move within its levels in a turn, for each that may fire: as many as
/// take about the same time. So a cascade of many does not hold up all others.
const MOVES_PER_TIMER: usize = 8;

/// How far a turn has come, so that it can be resumed after a panic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// Events that have been taken off the list of the poll, which reports each once.
    event: usize,
    /// The last phase that has begun.
    phase: u8,
    /// Steps of costly handshakes that it has made.
    pub(super) costly_steps: usize,
}

impl Cursor {
    /// Whether the ready queue is still to have its turn.
    pub(super) fn is_before_ready_queue(&self) -> bool {
        self.phase < 3
    }

    /// The stop follows phase 5: a panic in it brings none of the phases before it back.
    pub(super) fn reach_stop(&mut self) {
        self.phase = self.phase.max(5);
    }
}

impl Reactor {
    /// A turn:
    ///
    /// | | phase | after a panic |
    /// |---|---|---|
    /// | 1 | poll, and sample the clock | runs no callback |
    /// | 2 | the events: output before input | goes on with the next event |
    /// | 3 | the ready queue: one more budget for each | leaves the rest to the next turn |
    /// | 4 | the mailbox: what was posted when the phase began | likewise |
    /// | 5 | the timers that are due | likewise |
    /// | 6 | flush what was queued, tear down what has ended | likewise |
    pub(super) fn turn(&mut self, max_wait: Option<Duration>) -> io::Result<()> {
        if self.dispatcher.lp.streams.has_states() {
            self.dispatcher.place_states();
        }
        if let Err(error) = self.poll(max_wait) {
            self.is_stamped = true; // there is no turn that could end
            return Err(error);
        }
        self.is_stamped = false;
        let Self { events, dispatcher, .. } = self;
        dispatcher.cursor = Cursor::default();
        if !dispatcher.catch_panic(|dispatcher| dispatcher.run_phases(events)) {
            dispatcher.finish_cut(events);
        }
        let events = dispatcher.cursor.event;
        dispatcher.count_events(events);
        Ok(())
    }

    /// Phase 1. Blocks only if nothing waits that no event would announce.
    fn poll(&mut self, max_wait: Option<Duration>) -> io::Result<()> {
        let lp = &mut self.dispatcher.lp;
        let mut timeout = max_wait.map(|wait| wait.min(MAX_WAIT));
        let next_due = lp.engine.timers.look_ahead();
        if next_due != NEVER {
            // From now, and not from the start of the last turn, which may have been long.
            let now = lp.engine.timers.clock_nanos();
            let due = next_due.saturating_mul(NANOS_PER_TICK);
            let left = shortened(Duration::from_nanos(due.saturating_sub(now)));
            timeout = Some(timeout.map_or(left, |wait| wait.min(left)));
            if !self.is_stamped {
                end_turn(lp, &self.events, now);
            }
        } else if !lp.engine.observers.is_empty() && !self.is_stamped {
            let now = lp.engine.timers.clock_nanos();
            end_turn(lp, &self.events, now);
        }
        lp.engine.timers.clear_active();
        if lp.has_work() || !self.dispatcher.inbox.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        if timeout != Some(Duration::ZERO) && !lp.engine.options().busy_poll.is_zero() {
            match busy_poll(lp, &mut self.events, timeout)? {
                Some(left) => timeout = left,
                None => return Ok(()),
            }
        }
        let mailbox = &lp.posts.mailbox;
        if timeout == Some(Duration::ZERO) || !mailbox.fall_asleep() {
            lp.engine.io.poller_mut().poll(&mut self.events, Some(Duration::ZERO))?;
        } else {
            let result = lp.engine.io.poller_mut().poll(&mut self.events, timeout);
            mailbox.awake();
            result?;
        }
        begin(lp);
        Ok(())
    }
}

/// The poll is done.
#[inline]
fn begin(lp: &mut Loop) {
    lp.engine.timers.sample_clock();
    lp.engine.stats.turns += 1;
}

/// Polls without blocking for as long as the options say; `None` if it has found events, and else
/// what is left of the time to wait.
#[cold]
fn busy_poll(
    lp: &mut Loop,
    events: &mut Events,
    timeout: Option<Duration>,
) -> io::Result<Option<Option<Duration>>> {
    let spin = timeout.unwrap_or(Duration::MAX).min(lp.engine.options().busy_poll);
    let start = lp.engine.timers.clock_nanos();
    let until = start + spin.as_nanos() as u64;
    while lp.engine.timers.clock_nanos() < until && !lp.posts.mailbox.has_messages() {
        lp.engine.io.poller_mut().poll(events, Some(Duration::ZERO))?;
        if !events.is_empty() {
            begin(lp);
            return Ok(None);
        }
    }
    let spent = Duration::from_nanos(lp.engine.timers.clock_nanos() - start);
    Ok(Some(timeout.map(|timeout| timeout.saturating_sub(spent))))
}

/// Waits longer than this are made in two.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// A wait that surely ends in time. Linux lets a wait end late by a thousandth of its length, or
/// by a two-hundredth if the process has a lowered priority, to wake for several things at once
/// (`select_estimate_accuracy` in fs/select.c): a minute may take 60 ms or 300 ms more. The rest
/// of a long one is waited for apart.
fn shortened(wait: Duration) -> Duration {
    if wait > LONG_WAIT { (wait - wait / 128).min(MAX_WAIT) } else { wait }
}

/// No wait is longer: a poll takes its time in 32 bits of milliseconds on some systems, which are
/// 25 days, and not every version of what stands between clamps them.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The last turn has ended, at this time in nanoseconds.
#[inline]
pub(super) fn end_turn(lp: &mut Loop, events: &Events, end: u64) {
    // The clock does not go back.
    lp.engine.stats.turn_times.add_nanos(end.wrapping_sub(lp.engine.timers.sampled()));
    refresh_activity(lp, events, end / NANOS_PER_TICK);
}

/// If the last turn was long, what moved in it may have moved at its end, and what began in it may
/// have begun there: no limit must pass early.
#[inline]
fn refresh_activity(lp: &mut Loop, events: &Events, end: u64) {
    let now = lp.engine.now();
    if end > now {
        if end >= now + SLOW_TURN {
            tell_slow(lp, events, end);
        }
        if !lp.engine.timers.note_turn_end(end) {
            refresh_all(lp, events, end);
        }
    }
}

/// A turn of so many ticks is told of. Most programs give their loop less than a tenth of that.
const SLOW_TURN: u64 = 100;

/// A turn was slow. Which callback made it so is not known: the clock is read once a turn. The last
/// connection that was called for is a good guess if the turn has done little else.
#[cold]
fn tell_slow(lp: &mut Loop, events: &Events, end: u64) {
    if !lp.engine.count_slow_turn(end) {
        return;
    }
    let mut last = lp.engine.timers.last_active();
    if last.is_none() {
        events.for_each_from(0, |event| {
            if let Target::Connection(token) = Target::of(event.token()) {
                last = Some(lp.streams.id_of(token));
            }
        });
    }
    let length = end - lp.engine.now();
    let count = lp.engine.timers.moved();
    let whose = last.map_or("no connection was called for".to_owned(), |id| {
        let connection = lp.streams.get(id);
        let name = connection.and_then(|it| lp.engine.observers.handler_name(it.config.service));
        let of = name.map_or(String::new(), |name| format!(" of {name}"));
        format!("the last connection that was called for was {id}{of}")
    });
    log::warn!(
        "a turn of the loop took {length} ms: all others waited. {whose}; {count} were served. \
         Move work that blocks to an `offload`, or do it in pieces; an observer, such as the \
         recorder of the feature `inspect`, names the callback (one such line a second; \
         Stats::slow_turns counts all)"
    );
}

/// Stamps what the turn has stamped with its end.
#[cold]
fn refresh_all(lp: &mut Loop, events: &Events, end: u64) {
    events.for_each_from(0, |event| {
        // "Writable" alone has moved nothing, unless there was output to flush.
        if let (Target::Connection(token), true) =
            (Target::of(event.token()), event.readiness().readable)
        {
            let id = lp.streams.id_of(token);
            refresh_one(lp, id, end);
        }
    });
    let active = lp.engine.timers.take_active();
    for &id in &active {
        refresh_one(lp, id, end);
    }
    lp.engine.timers.give_back_active(active);
}

fn refresh_one(lp: &mut Loop, id: ConnId, end: u64) {
    let Some(link) = lp.link(id) else { return };
    link.connection.refresh(link.engine.now(), end);
}

impl Dispatcher {
    /// Phases 2 to 6, as far as they have not begun in this turn.
    #[inline]
    fn run_phases(&mut self, events: &Events) {
        if self.lp.engine.observers.is_empty() {
            self.run_table::<false>(events);
        } else {
            self.run_observed(events);
        }
    }

    /// Runs phases 2 to 6 and reports them to observers. Kept out of the way of a turn without
    /// observers.
    #[cold]
    #[inline(never)]
    fn run_observed(&mut self, events: &Events) {
        self.lp.engine.begin_observed_turn();
        self.run_table::<true>(events);
        self.lp.engine.end_observed_turn();
    }

    /// The phases in order. Each takes its work off a list before it does it, so that nothing is
    /// done twice when a panic has cut it short.
    #[inline(always)]
    fn run_table<const IS_OBSERVED: bool>(&mut self, events: &Events) {
        self.run_phase::<IS_OBSERVED>(Phase::Events, |it| it.run_events::<IS_OBSERVED>(events));
        if self.cursor.phase < 3 && !self.lp.engine.ready.is_empty() {
            self.cursor.phase = 3;
            self.run_phase::<IS_OBSERVED>(Phase::Ready, Self::run_ready);
        }
        if self.cursor.phase < 4 && self.has_messages() {
            self.cursor.phase = 4;
            self.run_phase::<IS_OBSERVED>(Phase::Mailbox, Self::run_mailbox);
        }
        if self.cursor.phase < 5 && self.lp.engine.timers.may_be_due() {
            self.cursor.phase = 5;
            self.run_phase::<IS_OBSERVED>(Phase::Timers, Self::run_timers);
        }
        if self.lp.engine.is_stopping() {
            self.begin_stop();
        }
        if self.cursor.phase < 6 && self.lp.has_endings() {
            self.cursor.phase = 6;
            self.run_phase::<IS_OBSERVED>(Phase::FlushAndClose, Self::flush_and_close);
        }
        if self.lp.engine.is_stopping() {
            self.end_stop();
        }
    }

    /// Runs a phase; `run` returns how many things it has done.
    #[inline(always)]
    fn run_phase<const IS_OBSERVED: bool>(
        &mut self,
        phase: Phase,
        run: impl FnOnce(&mut Self) -> usize,
    ) {
        if IS_OBSERVED {
            self.lp.engine.begin_observed_phase(phase);
        }
        let count = run(self);
        if IS_OBSERVED {
            self.lp.engine.end_observed_phase(phase, count);
        }
    }

    /// The rest of a turn that a panic has cut. Then the panic goes on if the options ask for that.
    #[cold]
    #[inline(never)]
    fn finish_cut(&mut self, events: &Events) {
        while !self.catch_panic(|dispatcher| dispatcher.run_phases(events)) {}
        self.end_phases();
        if let Some(panic) = self.panic.take() {
            self.count_events(self.cursor.event);
            resume_unwind(panic);
        }
    }

    /// What the phases do at their ends, one of which the panic has cut off.
    fn end_phases(&mut self) {
        self.lp.streams.recall_others(&mut self.lp.engine);
        self.lp.engine.ready.give_back();
        self.lp.posts.calls.give_back();
        self.inbox.give_back();
        self.lp.engine.end_of_turn.give_back();
        self.lp.streams.give_back();
    }

    #[inline]
    fn count_events(&mut self, count: usize) {
        self.lp.engine.timers.set_reported(count);
        self.lp.engine.stats.events += count as u64;
    }

    /// Phase 2. Epoll reports an edge once: an event is taken off the list before it is handled,
    /// and the next turn does not see it again.
    #[inline(always)]
    fn run_events<const IS_OBSERVED: bool>(&mut self, events: &Events) -> usize {
        let first = self.cursor.event;
        self.lp.engine.renew_room();
        events.for_each_from(self.cursor.event, |event| {
            self.cursor.event += 1;
            match Target::of(event.token()) {
                Target::Connection(token) => {
                    let id = self.lp.streams.id_of(token);
                    self.on_io::<IS_OBSERVED>(id, event);
                }
                Target::Listener(index) => self.accept(index),
                Target::Attempt(slot) => self.on_attempt(slot),
                Target::Socket(slot) => self.on_socket(slot, event.readiness()),
                Target::Waker => self.lp.engine.observers.tell(|observer| observer.on_woken()),
                Target::Drain => self.lp.engine.stop(Stop::Drain(self.drain_deadline)),
            }
        });
        self.cursor.event - first
    }

    #[inline]
    pub(super) fn has_messages(&self) -> bool {
        self.lp.posts.mailbox.has_messages()
            || !self.lp.posts.calls.is_empty()
            || !self.inbox.is_empty()
    }

    /// Phase 3: one more budget for each, as long as there is room for their output. The rest keep
    /// their places.
    fn run_ready(&mut self) -> usize {
        let others = self.lp.engine.ready.others();
        for _ in 0..others {
            match self.lp.engine.ready.pop_other() {
                Some(Queued::Listener(index)) => self.on_ready_listener(index as usize),
                Some(Queued::Socket(id)) => self.on_ready_socket(id),
                None => break,
            }
        }
        self.lp.streams.recall_others(&mut self.lp.engine);
        self.lp.engine.renew_room();
        let connections = self.lp.engine.ready.connections().len();
        let mut served = 0;
        while served < connections && self.lp.engine.ready.has_room() {
            let Some(id) = self.lp.engine.ready.pop() else { break };
            served += 1;
            self.on_ready(id);
        }
        self.lp.engine.ready.give_back();
        others + served
    }

    /// Phase 4. What is posted meanwhile waits for the next turn.
    fn run_mailbox(&mut self) -> usize {
        let budget = self.lp.engine.options().messages_per_turn;
        let calls = budget.min(self.lp.posts.calls.len());
        for _ in 0..calls {
            let Some(Posted { handler, call, .. }) = self.lp.posts.calls.pop_front() else { break };
            self.run_call(handler, call);
        }
        if self.lp.posts.mailbox.has_messages() {
            self.lp.posts.mailbox.take(&mut self.inbox);
        }
        let mut left = budget;
        for _ in 0..budget.min(self.inbox.len()) {
            if self.lp.engine.is_over() || left == 0 {
                break; // what was posted after the stop is not run
            }
            let Some(message) = self.inbox.pop_front() else { break };
            left = left.saturating_sub(self.run_message(message, left).max(1));
        }
        self.lp.posts.calls.give_back();
        self.inbox.give_back();
        calls + budget - left
    }

    pub(super) fn run_call(&mut self, handler: u32, call: PostedCall) {
        let who = Who::Posted(handler);
        let what = || What::Posted;
        let ran = self.callbacks.enter(&mut self.lp, who, handler, what, |entry, lp| {
            let (handler, states) = entry.handler.parts();
            call(handler, &mut Context::lending(lp, states));
        });
        if ran.is_none() {
            log::error!("a closure was posted with the key of another reactor");
        }
    }

    /// Runs a message, or as many of a channel as `budget` has room for; how many it were.
    fn run_message(&mut self, message: Message, budget: usize) -> usize {
        let is_whole = !matches!(message, Message::Deliver(_));
        self.lp.engine.stats.messages += u64::from(is_whole);
        match message {
            Message::Write(id, bytes) => {
                if let Some(mut link) = self.lp.link(id) {
                    link.write(&bytes);
                }
            }
            Message::Close(id) => {
                if let Some(mut link) = self.lp.link(id) {
                    link.close();
                }
            }
            Message::Resolved(id, result) => {
                if let Some(mut link) = self.lp.link(id) {
                    link.on_resolved(result);
                }
            }
            Message::Run(handler, call) => self.run_call(handler, call),
            Message::Stop(stop) => self.lp.engine.stop(stop),
            Message::Deliver(index) => return self.deliver_channel(index, budget),
            Message::HandOver(handover) => self.receive_handover(*handover),
            Message::Query(query) => query(&mut self.lp),
        }
        1
    }

    /// Phase 5. A timer that a callback sets now is due in a later turn.
    fn run_timers(&mut self) -> usize {
        let budget = self.lp.engine.options().timers_per_turn;
        let (mut fired, mut moved) = (0, 0);
        while fired < budget && moved / MOVES_PER_TIMER < budget {
            match self.lp.engine.timers.step() {
                Step::Fired(named) => {
                    fired += 1;
                    self.on_fired(due_of(named));
                }
                Step::Moved(count) => moved += count,
                Step::Idle => break,
            }
        }
        fired
    }

    fn on_fired(&mut self, (timer, due): (TimerId, Due)) {
        self.lp.engine.stats.timers_fired += 1;
        let Engine { observers, timers, .. } = &mut self.lp.engine;
        observers.tell(|it| it.on_timer_fired(Duration::from_millis(timers.lateness())));
        match due {
            Due::Connection(slot) => self.on_deadline(self.lp.streams.id_at(slot)),
            Due::User(owner, token) => self.on_user_timer(owner, timer, token),
            Due::Accept(index) => self.on_accept_timer(index as usize),
            Due::Receive(id) => self.on_receive_timer(id),
            #[cfg(unix)]
            Due::Resend(id, place) => {
                if let Some(mut link) = self.lp.socket_link(id) {
                    link.on_retry_timer(place, timer);
                }
            }
            Due::Session(id, place) => self.on_session_timer(id, place),
            Due::Deferred => self.lp.streams.arm_deferred(&mut self.lp.engine),
            Due::Drained => self.lp.engine.stop(Stop::Now),
            #[cfg(all(feature = "systemd", unix))]
            Due::Watchdog => self.on_watchdog(),
        }
    }

    fn on_user_timer(&mut self, owner: Owner, id: TimerId, token: u64) {
        let fired = self.lp.engine.timers.user_fired(id, token);
        match owner {
            Owner::Connection(id) => self.on_timer(id, fired),
            Owner::Socket(id) => self.on_socket_timer(id, fired.timer),
            Owner::Handler(handler) => self.on_handler_timer(handler, fired.timer),
        }
    }

    fn on_handler_timer(&mut self, handler: u32, timer: Timer) {
        let (who, what) = (Who::Timer(handler), || What::HandlerTimer { timer: timer.id });
        let known = self.lp.handlers.get(handler as usize);
        let Some(tell) = known.and_then(|known| known.timer) else { return };
        self.callbacks.enter(&mut self.lp, who, handler, what, |entry, lp| {
            let (handler, states) = entry.handler.parts();
            tell(handler, timer, &mut Context::lending(lp, states));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// 30 days are more milliseconds than 31 bits hold: cast to them, they are less than 0, which
    /// is a wait without end.
    #[test]
    fn a_wait_of_many_days_is_made_in_pieces_that_every_poll_can_take() {
        for days in [2, 25, 30, 50, 36_500] {
            let wait = shortened(days * DAY);
            assert!(wait <= DAY && wait > DAY / 2, "{days} days: {wait:?}");
        }
        let longest = shortened(Duration::from_nanos(u64::MAX));
        assert!(i32::try_from(longest.as_millis()).is_ok(), "{longest:?}");
    }

    #[test]
    fn an_ordinary_wait_is_left_or_a_little_shorter() {
        for millis in [0, 1, 30, 1_000] {
            let wait = Duration::from_millis(millis);
            assert_eq!(shortened(wait), wait);
        }
        let minute = Duration::from_secs(60);
        let wait = shortened(minute);
        assert!(wait < minute && wait > minute - Duration::from_secs(1), "{wait:?}");
    }
}
