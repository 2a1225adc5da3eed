//! Timers, and the one entry in the wheel that watches over each connection.

use std::any::TypeId;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::connection::{Connection, Filed, Phase, after};
use crate::engine::{Due, Engine};
use crate::id::{ConnId, TimerId};
use crate::options::ticks;
use crate::profile::IdleLimits;

/// How long a new connection goes without an entry in the wheel, in ticks. Limits that could pass
/// meanwhile are filed at once.
const NURSERY_TICKS: u64 = 100;

impl Engine {
    /// Sees to it that the wheel looks at a connection no later than its next deadline.
    ///
    /// Deadlines that moved away leave the entry where it is: it fires too early once and is
    /// filed anew, so that activity costs no wheel operation.
    pub(crate) fn file(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id.index()) else {
            return;
        };
        let deadline = connection.deadline(|stamp| self.overruns.latest(stamp));
        if deadline >= connection.filed.tick {
            return;
        }
        if connection.filed.tick != u64::MAX {
            self.wheel.cancel(connection.filed.timer);
        }
        let timer = self.wheel.insert(deadline, Due::Connection(id));
        self.next_due = self.next_due.min(deadline);
        connection.filed = Filed { tick: deadline, timer };
    }

    /// A connection has just opened: files it, unless there is time to see first whether it lasts.
    #[inline]
    pub(crate) fn file_new(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id.index()) else { return };
        let shortest = connection.profile.shortest_idle;
        if !connection.is_plain || shortest <= 2 * NURSERY_TICKS {
            self.file(id);
        } else if shortest != u64::MAX {
            if self.nursery.is_empty() {
                self.wheel.insert(after(self.now, NURSERY_TICKS), Due::Nursery);
            }
            self.nursery.push(id);
        }
    }

    /// Files the connections that have lasted.
    pub(crate) fn empty_nursery(&mut self) {
        let mut nursery = std::mem::take(&mut self.nursery);
        for &id in &nursery {
            if self.live(id).is_some() {
                self.file(id);
            }
        }
        nursery.clear();
        self.nursery = nursery;
    }

    /// The entry of a connection has fired.
    pub(crate) fn unfile(&mut self, id: ConnId) -> bool {
        let Some(connection) = self.live_mut(id) else {
            return false;
        };
        connection.filed = Filed::NONE;
        true
    }

    /// Sets a timer: once, or every `wait` if `periodic`.
    pub(crate) fn set_timer(&mut self, wait: Duration, periodic: bool, due: Due) -> TimerId {
        let wait = ticks(wait).max(1);
        // The turn may have been long already.
        let deadline = after(self.clock.tick(), wait);
        let period = u32::try_from(wait).unwrap_or(u32::MAX);
        match NonZeroU32::new(period) {
            Some(period) if periodic => self.wheel.insert_periodic(deadline, period, due),
            _ => self.wheel.insert(deadline, due),
        }
    }

    /// Sets a timer of a handler. If the key is of another reactor, the id is of a timer that never
    /// fires.
    pub(crate) fn set_service_timer<H: 'static>(
        &mut self,
        service: u32,
        wait: Duration,
        periodic: bool,
    ) -> TimerId {
        let handler = self.handlers.get(service as usize);
        if handler.is_some_and(|&(_, its_type)| its_type == TypeId::of::<H>()) {
            return self.set_timer(wait, periodic, Due::Service(service));
        }
        log::error!("a timer was set with the service key of another reactor: it never fires");
        TimerId::NONE
    }

    /// Sets a timer that ends with its connection. If that has ended already, the id is of a
    /// timer that never fires.
    pub(crate) fn set_conn_timer(&mut self, id: ConnId, wait: Duration, periodic: bool) -> TimerId {
        if self.live(id).is_none() {
            return TimerId::NONE;
        }
        let timer = self.set_timer(wait, periodic, Due::Timer(id));
        let wheel = &self.wheel;
        let connection = &mut self.connections[id.index()];
        connection.add_timer(timer, |timer| wheel.contains(timer));
        timer
    }

    pub(crate) fn set_idle_limits(&mut self, id: ConnId, change: impl FnOnce(&mut IdleLimits)) {
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        let mut limits = connection.idle_limits();
        change(&mut limits);
        connection.set_idle_limits(limits);
        self.file(id);
    }

    pub(crate) fn set_user_deadline(&mut self, id: ConnId, wait: Option<Duration>) {
        if wait.is_none() && !self.live(id).is_some_and(Connection::has_user_deadline) {
            return;
        }
        let now = self.clock.tick(); // the turn may have been long already
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        connection.set_user_deadline(wait.map(|wait| after(now, ticks(wait))));
        self.file(id);
    }

    /// Reading was held back or goes on: the time of an incomplete message stops or starts.
    pub(crate) fn rewatch_message(&mut self, id: ConnId) {
        let Some(connection) = self.live(id) else { return };
        let is_incomplete = !connection.input.is_empty() || connection.is_declared_incomplete;
        self.watch_message(id, is_incomplete && connection.wants_read(), false);
    }

    /// Whether a message is incomplete, after the handler has seen what there is.
    pub(crate) fn watch_message(&mut self, id: ConnId, incomplete: bool, new: bool) {
        let now = self.now;
        let Some(connection) = self.live_mut(id) else {
            return;
        };
        if connection.profile.watches_messages && connection.phase == Phase::Open {
            connection.watch_message(incomplete, new, now);
            self.file(id);
        }
    }
}
