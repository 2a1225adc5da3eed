//! One turn of the loop, in six phases.

use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

use crate::close::CloseReason;
use crate::connection::Phase;
use crate::engine::{Due, Engine, Failure, Message, Queued, Running, Stop, Target, Task};
use crate::id::{ConnId, TimerId};
use crate::reactor::Reactor;
use crate::reactor::dispatch::{Dispatcher, callback};
use crate::sys::{Events, NANOS_PER_TICK};

impl Reactor {
    /// One turn:
    /// 1. poll, and sample the clock;
    /// 2. the events: output before input;
    /// 3. the ready queue: those that used up a budget;
    /// 4. the mailbox: what was posted when the phase began;
    /// 5. the timers that are due;
    /// 6. flush what was queued, and take down what has ended.
    pub(super) fn turn(&mut self, most: Option<Duration>) -> io::Result<()> {
        if !self.dispatcher.engine.unplaced.is_empty() {
            self.dispatcher.place_states();
        }
        self.poll(most)?;
        let Self { events, dispatcher, .. } = self;
        let (mut done, mut phase) = (0, 3);
        // A panic ends the phase that it happens in. The events are gone on with; what is left of
        // another phase stays on its list, for the next turn.
        let whole = dispatcher.outlives(|dispatcher| {
            dispatcher.run_phases(events, &mut done, &mut phase);
        });
        if !whole {
            dispatcher.finish_cut(events, &mut done, &mut phase);
        }
        dispatcher.engine.count_events(done);
        Ok(())
    }

    /// Phase 1. Blocks only if nothing waits that no event would announce.
    fn poll(&mut self, most: Option<Duration>) -> io::Result<()> {
        let engine = &mut self.dispatcher.engine;
        let mut timeout = most;
        engine.next_due = engine.wheel.next_deadline().unwrap_or(u64::MAX);
        if engine.next_due != u64::MAX {
            // From now, and not from the start of the last turn, which may have been long.
            let now = engine.clock.nanos();
            let due = engine.next_due.saturating_mul(NANOS_PER_TICK);
            let left = shortened(Duration::from_nanos(due.saturating_sub(now)));
            timeout = Some(timeout.map_or(left, |most| most.min(left)));
            if !self.is_stamped {
                restamp(engine, &self.events, now / NANOS_PER_TICK);
            }
        }
        self.is_stamped = false;
        engine.touched.clear();
        if engine.has_work() || !self.dispatcher.inbox.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        if timeout != Some(Duration::ZERO) && !engine.options.busy_poll.is_zero() {
            let spin = timeout.unwrap_or(Duration::MAX).min(engine.options.busy_poll);
            let start = engine.clock.nanos();
            let until = start + spin.as_nanos() as u64;
            while engine.clock.nanos() < until && !engine.mailbox.has_messages() {
                engine.poller.poll(&mut self.events, Some(Duration::ZERO))?;
                if !self.events.is_empty() {
                    engine.now = engine.clock.tick();
                    engine.stats.turns += 1;
                    return Ok(());
                }
            }
            let spent = Duration::from_nanos(engine.clock.nanos() - start);
            timeout = timeout.map(|timeout| timeout.saturating_sub(spent));
        }
        if timeout == Some(Duration::ZERO) || !engine.mailbox.fall_asleep() {
            engine.poller.poll(&mut self.events, Some(Duration::ZERO))?;
        } else {
            let result = engine.poller.poll(&mut self.events, timeout);
            engine.mailbox.awake();
            result?;
        }
        engine.now = engine.clock.tick();
        engine.stats.turns += 1;
        Ok(())
    }
}

/// Waits longer than this are made in two.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// A wait that surely ends in time. Linux lets a wait end late by a thousandth of its length, or
/// by a two-hundredth if the process has a lowered priority, to wake for several things at once
/// (`select_estimate_accuracy` in fs/select.c): a minute may take 60 ms or 300 ms more. The rest
/// of a long one is waited for apart.
fn shortened(wait: Duration) -> Duration {
    if wait > LONG_WAIT { (wait - wait / 128).min(LONGEST_WAIT) } else { wait }
}

/// No wait is longer: a poll takes its time in 32 bits of milliseconds on some systems, which are
/// 25 days, and not every version of what stands between clamps them.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// If the last turn was long, what moved in it may have moved at its end, and an idle limit must
/// not pass early.
#[inline]
pub(super) fn restamp(engine: &mut Engine, events: &Events, end: u64) {
    if end > engine.now {
        let moved = engine.reported + engine.touched.len();
        if end > engine.now + 1 || moved <= FEW {
            restamp_all(engine, events, end);
        } else {
            engine.overruns.note(engine.now);
        }
    }
}

/// So many connections are stamped anew when a turn crosses into the next tick; if it served more,
/// the tick is noted for all who have its stamp. A turn of so few seldom crosses.
const FEW: usize = 16;

#[cold]
fn restamp_all(engine: &mut Engine, events: &Events, end: u64) {
    events.for_each_from(0, |event| {
        // "Writable" alone has moved nothing, unless there was output to flush.
        if let (Target::Connection(token), true) =
            (Target::of(event.token()), event.readiness().readable)
        {
            let id = engine.id_of(token);
            restamp_one(engine, id, end);
        }
    });
    for id in std::mem::take(&mut engine.touched) {
        restamp_one(engine, id, end);
    }
}

fn restamp_one(engine: &mut Engine, id: ConnId, end: u64) {
    let start = engine.now;
    let Some(connection) = engine.live_mut(id) else { return };
    for stamp in [&mut connection.read_at, &mut connection.written_at] {
        if *stamp == start {
            *stamp = end;
        }
    }
}

impl Dispatcher {
    /// Phases 2 to 6, of the later ones those from `phase` on. Each takes its work off a list
    /// before it does it, so that nothing is done twice when a panic has cut it short.
    #[inline]
    fn run_phases(&mut self, events: &Events, done: &mut usize, phase: &mut u8) {
        events.for_each_from(*done, |event| {
            *done += 1;
            match Target::of(event.token()) {
                Target::Connection(token) => {
                    let id = self.engine.id_of(token);
                    self.on_io(id, event);
                }
                Target::Listener(index) => self.accept(index),
                Target::Attempt(slot) => self.on_attempt(slot),
                Target::Socket(slot) => self.on_socket(slot, event.readiness()),
                Target::Waker => {}
                Target::Bell => self.engine.stop(Stop::Drain(self.bell_deadline)),
            }
        });
        if begins(phase, 3) && self.engine.has_ready() {
            self.run_ready();
        }
        if begins(phase, 4) && self.has_messages() {
            self.run_mailbox();
        }
        if begins(phase, 5) && self.engine.now >= self.engine.next_due {
            self.run_timers();
        }
        if self.engine.is_stopping() {
            self.begin_stop();
        }
        if begins(phase, 6) && self.engine.has_endings() {
            self.flush_and_bury();
        }
        if self.engine.is_stopping() {
            self.end_stop();
        }
    }

    /// The rest of a turn that a panic has cut. Then the panic goes on if the options ask for that.
    #[cold]
    #[inline(never)]
    fn finish_cut(&mut self, events: &Events, done: &mut usize, phase: &mut u8) {
        while !self.outlives(|dispatcher| dispatcher.run_phases(events, done, phase)) {}
        if let Some(thrown) = self.thrown.take() {
            self.engine.count_events(*done);
            resume_unwind(thrown);
        }
    }

    fn has_messages(&self) -> bool {
        self.engine.mailbox.has_messages()
            || !self.engine.posted.is_empty()
            || !self.inbox.is_empty()
    }

    /// States of outgoing connections go to their handlers, which are not running now.
    fn place_states(&mut self) {
        while let Some((id, state)) = self.engine.unplaced.pop() {
            let connection = self.engine.connections.get_mut(id.index());
            let of_id = connection.filter(|connection| connection.generation == id.generation());
            let Some(connection) = of_id else { continue };
            let service = self.services.get_mut(connection.profile.service as usize);
            match service.and_then(|service| service.place(state)) {
                Some(place) => connection.state = place,
                None => {
                    log::error!("{id}: connected with the service key of another reactor");
                    self.engine.doom(id, CloseReason::Local);
                }
            }
        }
    }

    /// Phase 3: one more budget for each.
    fn run_ready(&mut self) {
        for _ in 0..self.engine.ready_others.len() {
            match self.engine.ready_others.pop_front() {
                Some(Queued::Listener(index)) => self.on_ready_listener(index as usize),
                Some(Queued::Socket(slot)) => self.on_ready_socket(slot as usize),
                None => break,
            }
        }
        for _ in 0..self.engine.ready.len() {
            let Some(id) = self.engine.ready.pop_front() else { break };
            self.on_ready(id);
        }
    }

    /// Phase 4. What is posted meanwhile waits for the next turn.
    fn run_mailbox(&mut self) {
        let budget = self.engine.options.messages_per_turn;
        for _ in 0..budget.min(self.engine.posted.len()) {
            let Some((service, task)) = self.engine.posted.pop_front() else { break };
            self.run_task(service, task);
        }
        if self.engine.mailbox.has_messages() {
            self.engine.mailbox.take(&mut self.inbox);
        }
        let mut left = budget;
        for _ in 0..budget.min(self.inbox.len()) {
            if self.engine.is_over() || left == 0 {
                return; // what was posted after the stop is not run
            }
            let Some(message) = self.inbox.pop_front() else { break };
            left = left.saturating_sub(self.run_message(message, left).max(1));
        }
    }

    fn run_task(&mut self, service: u32, task: Task) {
        match self.services.get_mut(service as usize) {
            Some(service) => task(service.handler_mut(), &mut self.engine),
            None => log::error!("a closure was posted with the service key of another reactor"),
        }
    }

    /// Runs a message, or as many of a channel as `budget` has room for; how many it were.
    fn run_message(&mut self, message: Message, budget: usize) -> usize {
        let is_whole = !matches!(message, Message::Deliver(_));
        self.engine.stats.messages += u64::from(is_whole);
        match message {
            Message::Write(id, bytes) => {
                self.engine.write(id, false, &bytes);
            }
            Message::Close(id) => self.engine.close(id),
            Message::Resolved(id, result) => self.engine.on_resolved(id, result),
            Message::Run(service, task) => self.run_task(service, task),
            Message::Stop(stop) => self.engine.stop(stop),
            Message::Deliver(index) => return self.deliver_channel(index, budget),
            Message::HandOver(handed) => self.take_in(*handed),
            Message::Look(look) => look(&mut self.engine),
        }
        1
    }

    /// Phase 5. A timer that a callback sets now is due in a later turn.
    fn run_timers(&mut self) {
        let now = self.engine.now;
        for _ in 0..self.engine.options.timers_per_turn {
            let Some((timer, due)) = self.engine.wheel.pop_due(now) else { return };
            self.engine.stats.timers_fired += 1;
            match due {
                Due::Connection(id) => self.on_deadline(id),
                Due::Timer(id) => self.on_timer(id, timer),
                Due::Accept(index) => self.on_accept_timer(index as usize),
                Due::Socket(id) => self.on_socket_timer(id, timer),
                Due::Receive(id) => self.on_receive_timer(id),
                #[cfg(unix)]
                Due::Resend(id, place) => self.engine.on_lane_timer(id, place, timer),
                Due::Session(id, place) => self.on_session_timer(id, place),
                Due::Nursery => self.engine.empty_nursery(),
                Due::Drained => self.engine.stop(Stop::Now),
                Due::Service(index) => self.on_service_timer(index, timer),
            }
        }
    }

    fn on_service_timer(&mut self, index: u32, timer: TimerId) {
        self.timed = Some(index);
        if let Some(service) = self.services.get_mut(index as usize) {
            service.service_timer(timer, &mut self.engine);
        }
        self.timed = None;
    }

    /// Phase 6. What callbacks end or queue meanwhile is for the next turn.
    fn flush_and_bury(&mut self) {
        self.engine.send_all_gathered();
        self.place_states();
        for _ in 0..self.engine.dirty.len() {
            let Some(id) = self.engine.dirty.pop_front() else { break };
            if let Some(connection) = self.engine.live_mut(id) {
                connection.is_dirty = false;
                self.flush(id);
                self.engine.settle(id);
            }
        }
        if !self.engine.retries.is_empty() {
            self.report_retries();
        }
        // Connections that were begun and ended meanwhile have states to give back.
        self.place_states();
        for _ in 0..self.engine.dead.len() {
            let Some((id, reason)) = self.engine.dead.pop_front() else { break };
            self.bury(id, reason);
        }
        for _ in 0..self.engine.failures.len() {
            let Some(failure) = self.engine.failures.pop_front() else { break };
            self.report_failure(failure);
        }
    }

    /// Tells of connects that have failed and are tried again, unless that has ended meanwhile.
    #[cold]
    fn report_retries(&mut self) {
        self.place_states();
        for _ in 0..self.engine.retries.len() {
            let Some((id, retry)) = self.engine.retries.pop_front() else { break };
            if self.engine.live(id).is_some_and(|it| it.phase == Phase::Connecting) {
                let Self { engine, services, .. } = self;
                callback(engine, services, id, |service, state, conn| {
                    service.connect_retry(state, conn, &retry);
                });
            }
        }
    }

    fn report_failure(&mut self, failure: Failure) {
        self.engine.stats.connect_failures += 1;
        let Some(service) = self.services.get_mut(failure.service as usize) else { return };
        if let Some(state) = service.place(failure.state) {
            service.connect_failed(state, failure.error, &mut self.engine);
        }
    }

    /// A stop was asked for: the listeners close, and the connections are offered to end, or
    /// are ended.
    fn begin_stop(&mut self) {
        if let Running::Asked(stop) = self.engine.running {
            self.engine.close_listeners();
            match stop {
                Stop::Now => self.engine.running = Running::Stopped,
                Stop::Drain(deadline) => {
                    self.engine.running = Running::Draining;
                    self.engine.set_timer(deadline, false, Due::Drained);
                    self.offers = self.engine.ids();
                }
            }
        }
        while let Some(id) = self.offers.pop() {
            self.offer_shutdown(id);
        }
    }

    fn offer_shutdown(&mut self, id: ConnId) {
        let Self { engine, services, .. } = self;
        match engine.live(id).map(|connection| connection.phase) {
            Some(Phase::Open) => {
                callback(engine, services, id, |service, state, conn| {
                    service.shutdown(state, conn);
                });
            }
            Some(Phase::Connecting) => engine.doom(id, CloseReason::Shutdown),
            _ => {}
        }
    }

    /// The whole stop in one go, without a turn.
    pub(super) fn stop_at_once(&mut self) {
        self.engine.stop(Stop::Now);
        self.stop_rounds = 0;
        while !self.outlives(|dispatcher| {
            dispatcher.begin_stop();
            dispatcher.end_stop();
        }) {}
    }

    /// Whether a stop has come to its end; then everything ends.
    fn end_stop(&mut self) {
        if self.engine.running == Running::Draining && self.engine.is_drained() {
            self.engine.running = Running::Stopped;
        }
        if self.engine.running != Running::Stopped {
            return;
        }
        self.close_sockets();
        // `on_close` may connect anew; a handler that does so for ever does not hold up the end.
        while self.stop_rounds < STOP_ROUNDS {
            if self.stop_left == 0 {
                for id in self.engine.ids() {
                    self.engine.doom(id, CloseReason::Shutdown);
                }
                self.place_states();
                self.stop_left = self.engine.dead.len() + self.engine.failures.len();
                self.stop_rounds += 1;
            }
            if self.stop_left == 0 {
                return;
            }
            while self.stop_left > 0 {
                self.stop_left -= 1;
                // Whoever is begun and ended by a last callback may be taken down in this round.
                self.place_states();
                self.end_one();
            }
        }
    }

    /// The last callback of one that has ended or failed.
    fn end_one(&mut self) {
        if let Some((id, reason)) = self.engine.dead.pop_front() {
            self.bury(id, reason);
        } else if let Some(failure) = self.engine.failures.pop_front() {
            self.report_failure(failure);
        }
    }
}

/// Whether a phase has not begun in this turn; then it has.
fn begins(phase: &mut u8, which: u8) -> bool {
    let begins = *phase <= which;
    *phase = (*phase).max(which + 1);
    begins
}

/// Rounds of callbacks after a stop.
const STOP_ROUNDS: usize = 8;
