//! The stop: at once, or after every connection was offered to end in its own way.

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::base::panics::drop_quietly;
use crate::engine::observer::What;
use crate::engine::{Running, Stop};
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::Phase;

/// How far a stop has come.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    /// Connections that are still to be offered `on_shutdown`.
    offers: Vec<ConnId>,
    /// Rounds of last callbacks since the stop.
    rounds: usize,
    /// How many are left of this round.
    left: usize,
    /// What panics have left that was run since the stop.
    rests: usize,
}

/// Rounds of callbacks after a stop.
const STOP_ROUNDS: usize = 8;

/// Closures of panics that are run after a stop: more are of a callback that panics for ever.
const STOP_RESTS: usize = 4_096;

impl Stopping {
    /// A connection has come up while the reactor drains.
    pub(super) fn offer(&mut self, id: ConnId) {
        self.offers.push(id);
    }
}

impl Dispatcher {
    /// A stop was asked for: the listeners close, and the connections are offered to end, or
    /// are ended.
    #[cold]
    pub(super) fn begin_stop(&mut self) {
        self.cursor.reach_stop();
        if let Running::Asked(stop) = self.lp.engine.running() {
            if let Some(notifier) = &mut self.notifier {
                notifier.tell_stopping();
            }
            self.lp.streams.close_listeners(&mut self.lp.engine);
            match stop {
                Stop::Now => self.lp.engine.set_running(Running::Stopped),
                Stop::Drain(wait) => {
                    let draining = self.lp.engine.begin_draining(wait);
                    self.lp.engine.set_running(draining);
                    self.stopping.offers = self.lp.streams.ids();
                }
            }
        }
        while let Some(id) = self.stopping.offers.pop() {
            self.offer_shutdown(id);
        }
    }

    fn offer_shutdown(&mut self, id: ConnId) {
        let Some(mut link) = self.lp.link(id) else { return };
        match link.connection.phase() {
            Phase::Open => {
                let what = || What::Shutdown { id };
                self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                    handler.shutdown(state, lp);
                });
            }
            Phase::Handshake if link.connection.config.listener.is_none() => {
                link.mark_closed(CloseReason::Shutdown);
            }
            Phase::Connecting => link.mark_closed(CloseReason::Shutdown),
            _ => {}
        }
    }

    /// The whole stop in one go, without a turn.
    pub(super) fn stop_at_once(&mut self) {
        self.lp.engine.stop(Stop::Now);
        self.stopping.rounds = 0;
        while !self.catch_panic(|dispatcher| {
            dispatcher.flush_queued();
            dispatcher.begin_stop();
            dispatcher.end_stop();
        }) {}
    }

    /// Whether a stop has come to its end; then everything ends.
    #[cold]
    pub(super) fn end_stop(&mut self) {
        if self.lp.engine.is_draining() && self.lp.is_drained() {
            self.lp.engine.set_running(Running::Stopped);
        }
        if self.lp.engine.running() != Running::Stopped {
            return;
        }
        self.close_sockets();
        if self.stopping.rounds == 0 {
            self.flush_ready();
            // What a panic has cut, and what `on_drain` has written.
            self.flush_queued();
        }
        loop {
            while self.stopping.left > 0 {
                self.stopping.left -= 1;
                // A connection that a last callback begins and ends may be torn down in this round.
                self.place_states();
                self.end_one();
            }
            self.run_rests();
            // A handler whose `on_close` connects anew for ever does not hold up the end.
            if self.stopping.rounds == STOP_ROUNDS {
                return;
            }
            self.begin_round();
            if self.stopping.left == 0 {
                return;
            }
        }
    }

    /// Runs what callbacks that have panicked had still to do. Nothing else that was posted is run
    /// any more.
    fn run_rests(&mut self) {
        for _ in 0..self.lp.posts.calls.len() {
            let Some(posted) = self.lp.posts.calls.pop_front() else { return };
            if posted.is_rest && self.stopping.rests < STOP_RESTS {
                self.stopping.rests += 1;
                self.run_call(posted.handler, posted.call);
            } else {
                drop_quietly(posted);
            }
        }
    }

    /// All that live end, and have their last callbacks in this round.
    fn begin_round(&mut self) {
        for id in self.lp.streams.ids() {
            if let Some(mut link) = self.lp.link(id) {
                link.mark_closed(CloseReason::Shutdown);
            }
        }
        self.place_states();
        self.stopping.left = self.lp.engine.end_of_turn.closed().len() + self.lp.streams.failures();
        self.stopping.rounds += 1;
    }

    /// The last callback of one that has ended or failed.
    fn end_one(&mut self) {
        if let Some((id, reason)) = self.lp.engine.end_of_turn.pop_closed() {
            self.tear_down(id, reason);
        } else if let Some(failure) = self.lp.streams.pop_failure() {
            self.report_failure(failure);
        }
    }
}
