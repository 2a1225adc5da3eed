//! One turn of the loop, in six phases.

use std::io;
use std::mem;
use std::time::Duration;

use crate::close::CloseReason;
use crate::connection::Phase;
use crate::engine::{Due, Message, Running, Stop, Target};
use crate::reactor::Reactor;
use crate::reactor::dispatch::{Dispatcher, callback, run_user};

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
        self.dispatch();
        if self.dispatcher.engine.has_ready() {
            self.dispatcher.run_ready();
        }
        self.run_mailbox();
        self.dispatcher.run_timers();
        if self.dispatcher.engine.is_stopping() {
            self.dispatcher.begin_stop();
        }
        if self.dispatcher.engine.has_endings() {
            self.dispatcher.flush_and_bury();
        }
        if self.dispatcher.engine.is_stopping() {
            self.dispatcher.end_stop();
        }
        Ok(())
    }

    /// Phase 1. Blocks only if nothing waits that no event would announce.
    fn poll(&mut self, most: Option<Duration>) -> io::Result<()> {
        let engine = &mut self.dispatcher.engine;
        let mut timeout = most;
        if engine.has_work() || !self.inbox.is_empty() {
            timeout = Some(Duration::ZERO);
        } else if let Some(tick) = engine.wheel.next_deadline() {
            // Measured from now and not from the start of the last turn, which may have been long.
            let left = Duration::from_millis(tick).saturating_sub(engine.clock.elapsed());
            timeout = Some(timeout.map_or(left, |most| most.min(left)));
        }
        if timeout != Some(Duration::ZERO) && !engine.options.busy_poll.is_zero() {
            let until = engine.clock.elapsed() + engine.options.busy_poll;
            while engine.clock.elapsed() < until && !engine.mailbox.has_messages() {
                engine.poller.poll(&mut self.events, Some(Duration::ZERO))?;
                if !self.events.is_empty() {
                    engine.now = engine.clock.tick();
                    engine.stats.turns += 1;
                    return Ok(());
                }
            }
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

    /// Phase 2. A callback that panics unwinds to here from the straight way of `on_io`: its
    /// connection is ended, and the events behind it are served on.
    fn dispatch(&mut self) {
        let Self { events, dispatcher, drain_deadline, .. } = self;
        let (mut done, drain_deadline) = (0, *drain_deadline);
        while !dispatcher.outlives(|dispatcher| {
            events.for_each_from(done, |event| {
                done += 1;
                match Target::of(event.token()) {
                    Target::Connection(token) => {
                        let id = dispatcher.engine.id_of(token);
                        dispatcher.on_io(id, event);
                    }
                    Target::Listener(index) => dispatcher.accept(index),
                    Target::Waker => {}
                    Target::Bell => dispatcher.engine.stop(Stop::Drain(drain_deadline)),
                }
            });
        }) {}
        dispatcher.engine.stats.events += done as u64;
    }

    /// Phase 4. What is posted meanwhile waits for the next turn.
    fn run_mailbox(&mut self) {
        let Self { dispatcher, inbox, .. } = self;
        let budget = dispatcher.engine.options.messages_per_turn;
        if !dispatcher.engine.posted.is_empty() {
            let posted = dispatcher.engine.posted.len().min(budget);
            for (service, task) in dispatcher.engine.posted.drain(..posted).collect::<Vec<_>>() {
                dispatcher.run_task(service, task);
            }
        }
        if dispatcher.engine.mailbox.has_messages() {
            let mut messages = Vec::new();
            dispatcher.engine.mailbox.take(&mut messages);
            inbox.extend(messages);
        }
        for _ in 0..budget.min(inbox.len()) {
            let Some(message) = inbox.pop_front() else {
                break;
            };
            dispatcher.engine.stats.messages += 1;
            dispatcher.run_message(message);
        }
    }
}

impl Dispatcher {
    /// States of outgoing connections go to their handlers, which are not running now.
    fn place_states(&mut self) {
        for (id, state) in mem::take(&mut self.engine.unplaced) {
            let Some(connection) = self.engine.connections.get_mut(id.index()) else {
                continue;
            };
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
        let listeners = mem::take(&mut self.engine.ready_listeners);
        for &index in &listeners {
            self.accept(index as usize);
        }
        let ready = mem::take(&mut self.engine.ready);
        for &id in &ready {
            self.on_ready(id);
        }
        recycle(ready, &mut self.engine.ready);
    }

    fn run_task(&mut self, service: u32, task: crate::engine::Task) {
        let Self { engine, services, .. } = self;
        let Some(service) = services.get_mut(service as usize) else {
            return log::error!("a closure was posted with the service key of another reactor");
        };
        run_user(engine, |engine| task(service.handler_mut(), engine));
    }

    fn run_message(&mut self, message: Message) {
        match message {
            Message::Write(id, bytes) => {
                self.engine.write(id, false, &bytes);
            }
            Message::Close(id) => self.engine.close(id),
            Message::Run(service, task) => self.run_task(service, task),
            Message::Stop(stop) => self.engine.stop(stop),
        }
    }

    /// Phase 5. A timer that a callback sets now is due in a later turn.
    fn run_timers(&mut self) {
        let now = self.engine.now;
        for _ in 0..self.engine.options.timers_per_turn {
            let Some((timer, due)) = self.engine.wheel.pop_due(now) else {
                return;
            };
            self.engine.stats.timers_fired += 1;
            match due {
                Due::Connection(id) => self.on_deadline(id),
                Due::Timer(id) => self.on_timer(id, timer),
                Due::Accept(index) => self.on_accept_timer(index as usize),
                Due::Drained => self.engine.stop(Stop::Now),
                Due::Service(index) => {
                    let Self { engine, services, .. } = self;
                    if let Some(service) = services.get_mut(index as usize) {
                        run_user(engine, |engine| service.service_timer(timer, engine));
                    }
                }
            }
        }
    }

    /// Phase 6. What callbacks end or queue meanwhile is for the next turn.
    fn flush_and_bury(&mut self) {
        self.place_states();
        let dirty = mem::take(&mut self.engine.dirty);
        for &id in &dirty {
            if let Some(connection) = self.engine.live_mut(id) {
                connection.is_dirty = false;
                self.flush(id);
                self.engine.settle(id);
            }
        }
        recycle(dirty, &mut self.engine.dirty);
        for (id, reason) in mem::take(&mut self.engine.dead) {
            self.bury(id, reason);
        }
        for failure in mem::take(&mut self.engine.failures) {
            self.report_failure(failure);
        }
    }

    fn report_failure(&mut self, failure: crate::engine::Failure) {
        let Self { engine, services, .. } = self;
        engine.stats.connect_failures += 1;
        let Some(service) = services.get_mut(failure.service as usize) else {
            return;
        };
        if let Some(state) = service.place(failure.state) {
            run_user(engine, |engine| service.connect_failed(state, failure.error, engine));
        }
    }

    /// A stop was asked for: the listeners close, and the connections are offered to end, or
    /// are ended.
    fn begin_stop(&mut self) {
        let Running::Asked(stop) = self.engine.running else {
            return;
        };
        self.engine.listeners.clear();
        self.engine.ready_listeners.clear();
        let ids = self.engine.ids();
        match stop {
            Stop::Now => {
                self.engine.running = Running::Stopped;
                for id in ids {
                    self.engine.doom(id, CloseReason::Shutdown);
                }
            }
            Stop::Drain(deadline) => {
                self.engine.running = Running::Draining;
                self.engine.set_timer(deadline, false, Due::Drained);
                for id in ids {
                    self.offer_shutdown(id);
                }
            }
        }
    }

    fn offer_shutdown(&mut self, id: crate::id::ConnId) {
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
        self.begin_stop();
        self.flush_and_bury();
        self.end_stop();
    }

    /// Whether a stop has come to its end. What callbacks have begun since is ended too.
    fn end_stop(&mut self) {
        if self.engine.running == Running::Draining && self.engine.connections.is_empty() {
            self.engine.running = Running::Stopped;
        }
        if self.engine.running != Running::Stopped {
            return;
        }
        // `on_close` may connect anew; a handler that does so for ever does not hold up the end.
        for _ in 0..STOP_ROUNDS {
            for id in self.engine.ids() {
                self.engine.doom(id, CloseReason::Shutdown);
            }
            if self.engine.dead.is_empty() && self.engine.failures.is_empty() {
                break;
            }
            self.flush_and_bury();
        }
    }
}

/// Rounds of callbacks after a stop.
const STOP_ROUNDS: usize = 8;

/// Gives a list its memory back, for the next turn.
fn recycle<T>(mut used: Vec<T>, list: &mut Vec<T>) {
    used.clear();
    used.append(list);
    *list = used;
}
