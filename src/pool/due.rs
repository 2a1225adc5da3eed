//! What is due: dials that are wanted, idle connections that have to go, the alarm.

use std::io;
use std::time::Duration;

use crate::handler::Context;
use crate::pool::handle::Waiter;
use crate::pool::slot::{Phase, Seat};
use crate::pool::stats::Why;
use crate::pool::{PoolClient, PoolHandle, PoolStats, SeatNumber};

impl<C: PoolClient> PoolHandle<C> {
    /// Whether there is nothing to do behind a callback: the case of nearly every one.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        let alarm_at = self.alarm.map_or(Duration::MAX, |(_, at)| at);
        self.waiters.is_empty()
            && self.returns.is_empty()
            && !(self.is_closed || self.is_draining || self.has_more)
            && self.look_at >= alarm_at
            && self.idle.len() <= self.options.most_idle()
            && self.options.min_idle <= self.stats.idle + self.stats.dialling
    }

    /// The reactor stops: tickets that wait are refused, unless a connection is left that may come
    /// to them. A ticket that comes later has another one dialled, as long as the loop goes on.
    pub(super) fn cut_waiters(&mut self) {
        let PoolStats { idle, leased, dialling, .. } = self.stats;
        if idle + leased + dialling == 0 {
            self.cut_below = self.next_waiter;
        }
    }

    /// Whether the waiter in front is one of those.
    pub(super) fn is_cut(&self) -> bool {
        self.waiters.front().is_some_and(|waiter| waiter.id.number < self.cut_below)
    }

    /// Those for whom a connection was dialled that has ended may have gone another way.
    pub(super) fn forget_stillborn(&mut self) {
        self.stillborn = self.stillborn.min(self.waiters.len());
    }

    /// Whether the waiter in front can be answered now.
    pub(super) fn owes_answer(&self, cx: &Context<'_>) -> bool {
        let is_due = |waiter: &Waiter<C::Ticket>| self.deadline_of(waiter, cx) <= cx.now();
        let can_be = self.is_closed || self.is_cut() || self.stillborn > 0 || !self.idle.is_empty();
        self.waiters.front().is_some_and(|waiter| can_be || is_due(waiter))
    }

    /// When a waiter has had its whole time.
    pub(super) fn deadline_of(&self, waiter: &Waiter<C::Ticket>, cx: &Context<'_>) -> Duration {
        match self.options.acquire_timeout {
            Some(limit) => cx.turn_end(waiter.since).saturating_add(limit),
            None => Duration::MAX,
        }
    }

    /// Begins as many connections as are wanted and allowed.
    pub(super) fn dial(&mut self, cx: &mut Context<'_>) {
        while self.wants_dial(cx) {
            let account = self.account.begin(cx.turn());
            if !account.may_dial() {
                return self.returns.call();
            }
            account.dialled += 1;
            let index = self.free.pop().unwrap_or_else(|| {
                self.seats.push(Seat::new());
                (self.seats.len() - 1) as u32
            });
            debug_assert!(self.seats.len() <= self.options.max_open);
            self.enter(index, Phase::Dialling);
            let id = cx.connect(
                &self.destination,
                self.handler,
                SeatNumber(index),
                &self.options.connect,
            );
            self.seats[index as usize].id = Some(id);
        }
    }

    /// Whether another connection is wanted, for a ticket that waits or to be kept idle.
    pub(super) fn wants_dial(&self, cx: &Context<'_>) -> bool {
        let to_come = self.stats.idle + self.stats.dialling;
        let may_keep = self.keeps_idle() && cx.now() >= self.retry.after(cx);
        let kept = if may_keep { self.options.min_idle } else { 0 };
        !self.is_closed
            && self.stats.open < self.options.max_open
            && (self.waiters.len() + kept).saturating_sub(self.stillborn) > to_come
    }

    fn keeps_idle(&self) -> bool {
        !(self.is_closed || self.is_draining)
    }

    /// A dial has failed, and with it its handshake.
    pub(super) fn dial_failed(&mut self, error: &io::Error, now: Duration) {
        log::debug!("a pooled connection failed: {error}");
        self.stats.failed_dials += 1;
        self.retry.failed(now);
    }

    /// Ends what is idle and has to go: everything, or what has been idle for too long, or what the
    /// ticket that it was meant for did not take. What is over the budget of the turn goes in the
    /// next.
    pub(super) fn sweep(&mut self, cx: &mut Context<'_>) {
        self.has_more = !(self.account.begin(cx.turn()).may_end()
            && self.trim(cx)
            && self.sweep_idle(cx)
            && self.stop_dialling(cx));
        if self.has_more {
            self.returns.call();
        }
    }

    /// Ends idle connections whose time is over, or all; whether it was all that have to go.
    fn sweep_idle(&mut self, cx: &mut Context<'_>) -> bool {
        let now = cx.now();
        let ends_all = self.is_closed || (self.is_draining && self.waiters.is_empty());
        if !ends_all && now < self.look_at {
            return true;
        }
        let mut look_at = Duration::MAX; // noted at the end: the drop of a state may panic
        let mut next = self.idle.first();
        while let Some(index) = next {
            next = self.idle.behind(index);
            let Some(seat) = self.seats.get(index as usize) else { continue };
            let idle_until = seat.lasts_until(self.options.idle_timeout, cx);
            if !ends_all && now < idle_until {
                look_at = look_at.min(idle_until);
                continue;
            }
            if !self.account.may_end() {
                return false;
            }
            if ends_all {
                let conn = seat.id.and_then(|id| cx.conn(id));
                self.evict(index, Why::Shutdown, conn);
            } else {
                self.pass_over(index, cx);
            }
        }
        self.look_at = look_at;
        true
    }

    /// Ends the surplus of idle connections: tickets that waited for them may have been cancelled,
    /// or served by others. Whether all of it has ended.
    fn trim(&mut self, cx: &mut Context<'_>) -> bool {
        while self.waiters.is_empty() && self.idle.len() > self.options.most_idle() {
            if !self.account.may_end() {
                return false;
            }
            let Some(index) = self.idle.first() else { break };
            let conn = self.seats[index as usize].id.and_then(|id| cx.conn(id));
            self.evict(index, Why::Surplus, conn);
        }
        true
    }

    /// Ends what is being dialled, if the pool is closed; whether nothing is any more.
    fn stop_dialling(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.is_closed || self.stats.dialling == 0 {
            return true;
        }
        for index in 0..self.seats.len() as u32 {
            if !matches!(self.phase(index), Phase::Dialling | Phase::Greeting) {
                continue;
            }
            if !self.account.may_end() {
                return false;
            }
            self.account.ended += 1;
            self.enter(index, Phase::Closing);
            let id = self.seats[index as usize].id;
            if let Some(mut conn) = id.and_then(|id| cx.conn(id)) {
                conn.abort();
            }
        }
        true
    }

    /// Sets the timer, if it would fire too late or not at all.
    pub(super) fn set_alarm(&mut self, cx: &mut Context<'_>) {
        let mut wanted = if self.has_more { Duration::MAX } else { self.look_at };
        if let Some(waiter) = self.waiters.front() {
            wanted = wanted.min(self.deadline_of(waiter, cx));
        }
        let lacks = self.options.min_idle > self.stats.idle + self.stats.dialling;
        if lacks && self.keeps_idle() {
            let after = self.retry.after(cx);
            wanted = wanted.min(if after > cx.now() { after } else { wanted });
        }
        if wanted == Duration::MAX || self.alarm.is_some_and(|(_, at)| at <= wanted) {
            return;
        }
        if let Some((timer, _)) = self.alarm.take() {
            cx.cancel_timer(timer);
        }
        let timer = cx.set_timer(self.handler, wanted.saturating_sub(cx.now()), 0);
        self.alarm = Some((timer, wanted));
    }

    /// Tells the leases when their drop is to call the pool.
    #[inline]
    pub(super) fn expect_returns(&self) {
        let expires = self.options.idle_timeout.is_some() || self.options.lifetime.is_some();
        let must_call = !self.waiters.is_empty()
            || self.is_closed
            || self.is_draining
            || (expires && self.alarm.is_none());
        self.returns.expect(must_call, self.options.most_idle().saturating_sub(self.idle.len()));
    }
}
