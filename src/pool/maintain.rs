//! What a pool does behind a callback: serves and refuses who waits, ends what is too old, dials.

use std::io;
use std::mem;

use crate::base::memory::GiveBack;
use crate::handler::Context;
use crate::pool::lease::Lease;
use crate::pool::{AcquireError, Pool, PoolClient, PoolStats};

impl<C: PoolClient> Pool<C> {
    /// Does what has become due. Waiters are not served or refused inside another connection's
    /// callback, because a panic of theirs would close that connection. The pool is called for
    /// them, and comes when the callback has returned, in the same turn as a rule.
    #[inline]
    pub(super) fn tend(&mut self, cx: &mut Context<'_>) {
        if !self.desk.is_settled() {
            self.desk.is_draining |= cx.is_stopping();
            if cx.is_in_callback() {
                self.desk.absorb(cx);
                if self.desk.owes_answer(cx) {
                    self.desk.returns.call();
                }
                self.desk.sweep(cx);
            } else {
                self.tend_to_all(cx);
            }
            self.desk.dial(cx);
            self.desk.set_alarm(cx);
        }
        self.desk.expect_returns();
    }

    /// Does what has become due behind the end of a connection, when the reactor may be stopping:
    /// dials are begun when the loop goes on. The loop may not go on, so tickets that have no
    /// connection left to wait for are refused now.
    pub(super) fn tend_later(&mut self, cx: &mut Context<'_>) {
        if !self.desk.is_settled() {
            if cx.is_stopping() {
                self.desk.is_draining = true;
                self.desk.cut_waiters();
            }
            self.tend_to_all(cx);
            if self.desk.wants_dial(cx) {
                self.desk.returns.call();
            }
            self.desk.set_alarm(cx);
        }
        self.desk.expect_returns();
    }

    /// Runs what the end of a connection calls, and then what has become due by it.
    pub(super) fn end(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Self, &mut Context<'_>),
    ) {
        let _attending = self.attend(cx);
        let end = End { pool: self, cx };
        call(end.pool, end.cx);
        end.pool.tend_later(end.cx);
        mem::forget(end);
    }

    /// The pool has been called.
    pub(super) fn answer(&mut self, cx: &mut Context<'_>) {
        self.desk.returns.answer();
        self.enter(cx, |_, _, _| {});
    }

    /// Looks once more, outside of the callbacks of the client.
    pub(super) fn revisit(&mut self, cx: &mut Context<'_>) {
        self.enter(cx, |_, _, _| {});
    }

    /// A lease for a ticket that was promised a callback, which is one of the connection's own.
    pub(super) fn hand_over(&mut self, lease: Lease, ticket: C::Ticket, cx: &mut Context<'_>) {
        let (id, seat) = (lease.id(), lease.seat());
        // It was found by its id when it was lent, and nothing has run since.
        cx.call(id, |conn| {
            self.call(seat, conn, |client, state, conn, desk| {
                client.on_acquired(state, conn, lease, ticket, desk);
            });
        });
    }

    fn tend_to_all(&mut self, cx: &mut Context<'_>) {
        loop {
            self.desk.absorb(cx);
            if !self.desk.account.begin(cx.turn()).may_call() && !self.desk.is_cut() {
                if self.desk.owes_answer(cx) {
                    self.desk.returns.call();
                }
                break;
            }
            // One that is passed over, because it has ended, may have the waiter refused.
            if self.refuse_next(cx) || self.serve_next(cx) || self.refuse_next(cx) {
                self.desk.account.called += 1;
            } else {
                break;
            }
        }
        self.desk.forget_stillborn();
        self.desk.waiters.give_back();
        self.desk.sweep(cx);
    }

    /// Refuses the waiter in front, if its time is over, its connection has ended before it had it,
    /// the pool is closed or the reactor stops.
    fn refuse_next(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(waiter) = self.desk.waiters.front() else { return false };
        let error = if self.desk.is_closed {
            self.desk.stats.refused += 1;
            AcquireError::Closed
        } else if self.desk.is_cut() {
            self.desk.stats.refused += 1;
            AcquireError::Stopping
        } else if self.desk.stillborn > 0 {
            self.desk.stillborn -= 1;
            self.desk.stats.refused += 1;
            AcquireError::Connect(ended_at_once())
        } else if self.desk.deadline_of(waiter, cx) <= cx.now() {
            self.desk.stats.timed_out += 1;
            let PoolStats { leased, dialling, .. } = self.desk.stats();
            let limit = self.desk.options.acquire_timeout.unwrap_or_default();
            AcquireError::TimedOut { limit, leased, dialling }
        } else {
            return false;
        };
        let Some(waiter) = self.desk.waiters.pop_front() else { return false };
        self.client.on_refused(waiter.ticket, error, &mut self.desk, cx);
        true
    }

    /// Lends to the waiter in front, if a connection is idle.
    fn serve_next(&mut self, cx: &mut Context<'_>) -> bool {
        if self.desk.waiters.is_empty() {
            return false;
        }
        let Some(lease) = self.desk.lend(cx) else { return false };
        let Some(waiter) = self.desk.waiters.pop_front() else { return false };
        self.hand_over(lease, waiter.ticket, cx);
        true
    }
}

/// The end of a connection. If a callback of the client panics in it, the reactor may be stopping,
/// so that nothing else calls the pool: what follows is posted.
struct End<'a, 'b, C: PoolClient> {
    pool: &'a mut Pool<C>,
    cx: &'a mut Context<'b>,
}

impl<C: PoolClient> Drop for End<'_, '_, C> {
    #[cold]
    fn drop(&mut self) {
        self.cx.post(self.pool.desk.handler, |pool, cx| pool.end(cx, |_, _| {}));
    }
}

/// Why nobody had a connection that was up.
fn ended_at_once() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection ended as soon as it was up")
}
