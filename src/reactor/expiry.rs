//! What the wheel asks for: a connection whose time may have run out, and timers of connections.

use crate::close::{CloseReason, Idle, TimeoutKind};
use crate::connection::{Expiry, Phase};
use crate::id::{ConnId, TimerId};
use crate::reactor::dispatch::{Dispatcher, callback};

impl Dispatcher {
    /// The wheel says that a connection must be looked at.
    pub(super) fn on_deadline(&mut self, id: ConnId) {
        if !self.engine.unfile(id) {
            return;
        }
        if self.is_overdue(id) {
            // Invariant 8: a read in the same turn beats expiry, also one that the poll had no
            // room to announce.
            self.engine.connections[id.index()].may_read = true;
            self.read(id);
        }
        let now = self.engine.now;
        let expiry = self.expiry(id);
        match expiry {
            None => {}
            Some(Expiry::Connect) => {
                // It may be up although the poll had no room to announce it.
                self.look_at_connect(id);
                if self.expiry(id) == Some(Expiry::Connect) {
                    self.engine.time_out_connect(id);
                }
            }
            Some(Expiry::Attempt) => self.engine.go_on_connecting(id),
            Some(Expiry::Timeout(kind)) => self.time_out(id, kind),
            Some(Expiry::Idle(kind)) => {
                let Self { engine, services, .. } = self;
                let verdict = callback(engine, services, id, |service, state, conn| {
                    service.idle(state, conn, kind)
                });
                match (verdict, engine.live_mut(id)) {
                    (Some(Idle::Keep), Some(connection)) => connection.keep(kind, now),
                    // A handler that closed it in its own way has said enough.
                    (Some(Idle::Close), Some(connection)) if connection.phase == Phase::Open => {
                        engine.doom(id, CloseReason::Idle);
                    }
                    _ => {}
                }
            }
        }
        if self.engine.live(id).is_some() {
            self.engine.file(id);
        }
    }

    /// What of a connection has run out by now.
    fn expiry(&self, id: ConnId) -> Option<Expiry> {
        let engine = &self.engine;
        engine.live(id)?.expired(engine.now, |stamp| engine.overruns.latest(stamp))
    }

    /// Whether a wait that input could end has run out, and input would be taken.
    fn is_overdue(&self, id: ConnId) -> bool {
        let Some(connection) = self.engine.live(id) else { return false };
        let waits_for_input = !matches!(
            self.expiry(id),
            None | Some(Expiry::Connect | Expiry::Attempt | Expiry::Timeout(TimeoutKind::User))
        );
        waits_for_input && connection.wants_read()
    }

    fn time_out(&mut self, id: ConnId, kind: TimeoutKind) {
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        if kind == TimeoutKind::Close && connection.phase == Phase::Lingering {
            // Everything was sent; that the peer does not finish is no loss.
            let reason = connection.ending.into();
            self.engine.doom(id, reason);
        } else {
            // Of output that had become impossible the cause was there before.
            let cause = connection.take_severed_by();
            let reason = cause.unwrap_or(CloseReason::Timeout(kind));
            self.engine.doom_reset(id, reason);
        }
    }

    /// A timer of a connection fired.
    pub(super) fn on_timer(&mut self, id: ConnId, timer: TimerId) {
        let Self { engine, services, .. } = self;
        let is_last = !engine.wheel.contains(timer);
        if let Some(connection) = engine.live_mut(id) {
            if is_last {
                connection.remove_timer(timer);
            }
            if matches!(connection.phase, Phase::Open) {
                callback(engine, services, id, |service, state, conn| {
                    service.timer(state, conn, timer);
                });
            }
        }
    }
}
