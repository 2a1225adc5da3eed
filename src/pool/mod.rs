//! Outgoing connections that are kept and lent: a pool.
//!
//! A [`Pool`] is a handler around a smaller one of yours, the [`PoolClient`]. The pool connects,
//! keeps idle connections, and lends them. [`PoolHandle::acquire`] returns a [`Lease`] at once if a
//! connection is idle. Otherwise your ticket waits in a queue. To give a connection back, drop the
//! lease.
//!
//! # Guarantees
//! - There are never more connections than [`PoolOptions::max_open`], including those that are
//!   connecting or closing. A failed connect frees its place.
//! - Every ticket is answered once: by a lease, by a refusal, or by its return when it is
//!   cancelled. Tickets that wait when the reactor stops are refused when its last connection has
//!   ended. Later tickets are dropped with the pool.
//! - Tickets are served in their order. If a connect fails, or its connection ends before it can be
//!   lent, the first ticket of the queue is refused with the error.
//! - `on_acquired` never runs within a callback of another connection. It runs after that has
//!   returned, usually in the same turn.
//! - If a callback of a leased connection panics, only its own connection ends, and
//!   [`PoolClient::on_lost`] tells so, with the state.
//! - A connection is lent to one borrower at a time. If output is unsent or input unread when it
//!   comes back, it is closed and not lent again.
//! - The loop watches idle connections, so no probes are needed. If one ends, or a byte comes in
//!   that no borrower has asked for, it is removed at once. A connection that is known to be dead
//!   is never lent. But its end may still be on the way, or wait in the same batch of events; the
//!   borrower then learns of it by [`PoolClient::on_lost`].
//! - In one turn the pool ends at most 64 connections, begins at most 64 and serves at most 64
//!   tickets; the rest follows in the next turns.
//! - The pool itself sends no bytes, and repeats no request.
//! - To acquire and to release an idle connection allocates nothing and touches no timer: one timer
//!   of the pool looks at idle ones when the first of them may be too old.
//!
//! # From elsewhere
//! Another handler reaches the pool by `cx.post(pool, |pool, cx| ...)`, and another thread by
//! [`Remote::with`](crate::Remote::with). In the closure call [`Pool::request`], which always
//! answers by a callback, or [`Pool::enter`], which lends you the client and the [`PoolHandle`].
//!
//! # When it ends
//! [`PoolHandle::close`] ends idle connections, refuses tickets that wait, and ends leased
//! connections when they come back. When the reactor drains, idle connections end, and leased ones
//! may finish. Tickets are still served by leased connections that come back, but no connection is
//! kept, or dialled to be kept. A drain cuts connects that are under way: tickets for which no
//! other connection can come are refused.
//!
//! # Examples
//! See [`PoolClient`], and `examples/pool`.

mod account;
mod client;
mod due;
mod handle;
mod idle;
mod lease;
mod lent;
mod maintain;
mod options;
mod retry;
mod slot;
mod stats;

use std::fmt;
use std::io;

use crate::base::close::{CloseReason, Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::{Conn, Context, DeadlineKind, Handler, HandlerKey, Peer, TimerHandler};
use crate::options::Destination;
use crate::reactor::Reactor;
use crate::stream::Closed;
use lease::Attending;
use slot::Phase;
use stats::Why;

pub use client::{AcquireError, Acquired, Handshake, PoolClient, WaiterId};
pub use handle::PoolHandle;
pub use lease::Lease;
pub use options::{IdleOrder, PoolOptions};
pub use stats::{Evicted, PoolStats};

/// A pool of connections to one [`Destination`]: a handler around the user's [`PoolClient`].
///
/// See the [module](self) for what it promises.
pub struct Pool<C: PoolClient> {
    client: C,
    desk: PoolHandle<C>,
}

impl<C: PoolClient> Pool<C> {
    /// Registers a pool of connections `to` an address or `"host:port"`, and dials what is to be
    /// kept idle when the reactor runs.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, or the text is no destination.
    pub fn register(
        reactor: &mut Reactor,
        client: C,
        to: impl Into<Destination>,
        options: PoolOptions,
    ) -> io::Result<HandlerKey<Self>> {
        options.check()?;
        let destination = to.into();
        destination.check().map_err(|error| {
            let text = format!("cannot make a pool of connections to {destination}: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let remote = reactor.remote();
        let service = reactor.register_with(|service: HandlerKey<Self>| {
            let call = move || {
                // A reactor that has stopped needs no pool.
                let _ = remote.with(service, Self::answer);
            };
            Self { client, desk: PoolHandle::new(service, destination, options, Box::new(call)) }
        });
        reactor.context().post(service, |pool, cx| pool.enter(cx, |_, _, _| {}));
        Ok(service)
    }

    /// Acquires for a ticket that may not be answered at once otherwise: `on_acquired` or
    /// `on_refused` follows, perhaps before this returns. For closures that are posted to the pool;
    /// returns what [`PoolHandle::cancel`] takes, if the ticket waits.
    pub fn request(&mut self, ticket: C::Ticket, cx: &mut Context<'_>) -> Option<WaiterId> {
        let _attending = self.attend(cx);
        let waiter = match self.desk.acquire(ticket, cx) {
            Acquired::Now(lease, ticket) => {
                self.hand_over(lease, ticket, cx);
                None
            }
            Acquired::Waits(waiter) => Some(waiter),
            Acquired::Refused(ticket, error) => {
                self.client.on_refused(ticket, error, &mut self.desk, cx);
                None
            }
        };
        self.tend(cx);
        waiter
    }

    /// Lends the client and the desk, as callbacks have them. For closures that are posted to the
    /// pool.
    ///
    /// # Examples
    /// Closing a pool from outside of its callbacks:
    /// ```
    /// use waterwheel::{TimerHandler, Context, HandlerKey};
    /// use waterwheel::pool::{Pool, PoolClient};
    /// fn close<C: PoolClient>(pool: HandlerKey<Pool<C>>, cx: &mut Context<'_>) {
    ///     cx.post(pool, |pool, cx| pool.enter(cx, |_client, desk, _cx| desk.close()));
    /// }
    /// ```
    pub fn enter<R>(
        &mut self,
        cx: &mut Context<'_>,
        run: impl FnOnce(&mut C, &mut PoolHandle<C>, &mut Context<'_>) -> R,
    ) -> R {
        let _attending = self.attend(cx);
        let result = run(&mut self.client, &mut self.desk, cx);
        self.tend(cx);
        result
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &C {
        &self.client
    }

    /// The client, to be changed.
    #[must_use]
    pub fn client_mut(&mut self) -> &mut C {
        &mut self.client
    }

    /// What there is and what was done.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.desk.stats()
    }

    /// The pool's code begins to run: first it looks at what was dropped elsewhere.
    #[inline]
    fn attend(&mut self, cx: &mut Context<'_>) -> Attending {
        let attending = self.desk.returns.attend();
        self.desk.wake();
        if !self.desk.returns.is_empty() {
            self.desk.absorb(cx);
        }
        attending
    }

    /// Runs a callback of a leased connection and what follows from it; `None` if it is not leased.
    #[inline]
    fn lent<R>(
        &mut self,
        seat: u32,
        conn: &mut Conn<'_>,
        call: impl FnOnce(&mut C, &mut C::State, &mut Conn<'_>, &mut PoolHandle<C>) -> R,
    ) -> Option<R> {
        let _attending = self.attend(&mut conn.context());
        let is_leased = self.desk.phase(seat) == Phase::Leased;
        let result = is_leased.then(|| self.call(seat, conn, call));
        self.tend(&mut conn.context());
        result
    }

    /// Runs a callback of a connection that has its state; it leaves no input.
    fn call<R>(
        &mut self,
        seat: u32,
        conn: &mut Conn<'_>,
        call: impl FnOnce(&mut C, &mut C::State, &mut Conn<'_>, &mut PoolHandle<C>) -> R,
    ) -> R {
        let mut lent = self.desk.begin(seat, conn.context().now());
        let (state, desk) = lent.parts();
        let result = call(&mut self.client, state, conn, desk);
        lent.end(false, &mut conn.context());
        result
    }

    /// Bytes for the borrower.
    #[inline]
    fn deliver(&mut self, seat: u32, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lent = self.desk.begin(seat, conn.context().now());
        let (state, desk) = lent.parts();
        let consumed = self.client.on_data(state, conn, input, desk);
        lent.end(consumed < input.len(), &mut conn.context());
        consumed
    }

    /// Bytes of a handshake.
    fn greet(&mut self, seat: u32, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lent = self.desk.begin(seat, conn.context().now());
        let (consumed, mut handshake) = self.client.on_handshake(lent.parts().0, conn, input);
        lent.end(false, &mut conn.context());
        if consumed < input.len() && matches!(handshake, Handshake::Done) {
            let text = format!("{} bytes behind the handshake", input.len() - consumed);
            handshake = Handshake::Failed(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.go_on_greeting(seat, conn, handshake);
        consumed
    }

    fn go_on_greeting(&mut self, seat: u32, conn: &mut Conn<'_>, handshake: Handshake) {
        match handshake {
            Handshake::Done if conn.is_writable() => {
                conn.set_deadline(DeadlineKind::User, None);
                self.desk.is_made(seat, &conn.context());
            }
            Handshake::Pending => {}
            Handshake::Done => self.give_up(seat, conn, closed_in_handshake()),
            Handshake::Failed(error) => self.give_up(seat, conn, error),
        }
    }

    /// A handshake has failed.
    fn give_up(&mut self, seat: u32, conn: &mut Conn<'_>, error: io::Error) {
        self.desk.enter(seat, Phase::Closing);
        conn.abort();
        self.fail_dial(error, &mut conn.context());
    }

    /// A connection that was up has ended: its seat is free, and its borrower is told.
    fn close_seat(&mut self, seat: u32, closed: Closed, cx: &mut Context<'_>) {
        let phase = self.desk.phase(seat);
        let state = self.desk.seats.get_mut(seat as usize).and_then(|seat| seat.state.take());
        if phase == Phase::Idle {
            self.desk.note_life(seat, cx);
        }
        self.desk.vacate(seat);
        match phase {
            Phase::Leased | Phase::Lost => {
                self.desk.stats.lost += 1;
                self.client.on_lost(state.unwrap_or_default(), closed, &mut self.desk, cx);
            }
            Phase::Greeting => {
                drop(state);
                self.fail_dial(handshake_error(closed), cx);
            }
            Phase::Idle => {
                let is_ours = matches!(closed.reason, CloseReason::Shutdown);
                self.desk.stats.evicted.count(if is_ours { Why::Shutdown } else { Why::Peer });
                drop(state);
            }
            _ => drop(state), // the user's; it may hold a lease
        }
    }

    /// A dial has failed: the waiter in front is refused.
    fn fail_dial(&mut self, error: io::Error, cx: &mut Context<'_>) {
        self.desk.dial_failed(&error, cx.now());
        if let Some(waiter) = self.desk.waiters.pop_front() {
            self.desk.stats.refused += 1;
            let error = AcquireError::Connect(error);
            self.client.on_refused(waiter.ticket, error, &mut self.desk, cx);
        }
    }
}

fn closed_in_handshake() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "it was closed in its handshake")
}

/// What a pool keeps for each of its connections: the place of what belongs to it. Only the pool
/// makes one and looks into it.
#[derive(Debug)]
pub struct SeatNumber(u32);

impl<C: PoolClient> Handler for Pool<C> {
    type State = SeatNumber;

    fn on_accept(&mut self, _: &Peer) -> Option<SeatNumber> {
        None // a pool has only outgoing connections
    }

    fn on_open(&mut self, &mut SeatNumber(seat): &mut SeatNumber, conn: &mut Conn<'_>) {
        let _attending = self.attend(&mut conn.context());
        if self.desk.phase(seat) != Phase::Dialling {
            return conn.abort();
        }
        self.desk.came_up(seat, conn);
        let handshake =
            self.call(seat, conn, |client, state, conn, _| client.on_connected(state, conn));
        if matches!(handshake, Handshake::Pending) {
            let limit = self.desk.options.connect.timeout;
            conn.set_deadline(DeadlineKind::User, Some(limit));
        }
        self.go_on_greeting(seat, conn, handshake);
        self.tend(&mut conn.context());
    }

    #[inline]
    fn on_data(
        &mut self,
        &mut SeatNumber(seat): &mut SeatNumber,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> usize {
        let _attending = self.attend(&mut conn.context());
        let consumed = match self.desk.phase(seat) {
            Phase::Leased => self.deliver(seat, conn, input),
            Phase::Greeting => self.greet(seat, conn, input),
            Phase::Idle => {
                let id = conn.id();
                log::debug!("{id}: {} bytes while idle in a pool", input.len());
                self.desk.note_life(seat, &conn.context());
                self.desk.evict(seat, Why::Stray, conn.other_conn(id));
                input.len()
            }
            _ => input.len(),
        };
        self.tend(&mut conn.context());
        consumed
    }

    fn on_drain(&mut self, &mut SeatNumber(seat): &mut SeatNumber, conn: &mut Conn<'_>) {
        self.lent(seat, conn, |client, state, conn, desk| client.on_drain(state, conn, desk));
    }

    fn on_eof(&mut self, &mut SeatNumber(seat): &mut SeatNumber, conn: &mut Conn<'_>) {
        let call = |client: &mut C, state: &mut _, conn: &mut Conn<'_>, desk: &mut _| {
            client.on_eof(state, conn, desk);
        };
        if self.lent(seat, conn, call).is_some() {
            return;
        }
        match self.desk.phase(seat) {
            Phase::Idle => {
                self.desk.note_life(seat, &conn.context());
                self.desk.evict(seat, Why::Peer, conn.other_conn(conn.id()));
            }
            _ => conn.close(),
        }
        self.revisit(&mut conn.context());
    }

    fn on_idle(
        &mut self,
        &mut SeatNumber(seat): &mut SeatNumber,
        conn: &mut Conn<'_>,
        kind: IdleKind,
    ) -> Idle {
        let verdict = self
            .lent(seat, conn, |client, state, conn, desk| client.on_idle(state, conn, kind, desk));
        if verdict.is_none() && self.desk.phase(seat) == Phase::Idle {
            self.desk.note_life(seat, &conn.context());
            self.desk.evict(seat, Why::IdleTimeout, conn.other_conn(conn.id()));
            self.revisit(&mut conn.context());
        }
        verdict.unwrap_or(Idle::Close)
    }

    fn on_deadline(
        &mut self,
        &mut SeatNumber(seat): &mut SeatNumber,
        conn: &mut Conn<'_>,
        kind: DeadlineKind,
    ) -> Deadline {
        let verdict = self.lent(seat, conn, |client, state, conn, desk| {
            client.on_deadline(state, conn, kind, desk)
        });
        verdict.unwrap_or(Deadline::Reset) // of a handshake
    }

    fn on_timer(
        &mut self,
        &mut SeatNumber(seat): &mut SeatNumber,
        conn: &mut Conn<'_>,
        timer: Timer,
    ) {
        self.lent(seat, conn, |client, state, conn, desk| {
            client.on_timer(state, conn, timer, desk);
        });
    }

    fn on_shutdown(&mut self, &mut SeatNumber(seat): &mut SeatNumber, conn: &mut Conn<'_>) {
        self.desk.is_draining = true;
        let called = self.lent(seat, conn, |client, state, conn, desk| {
            client.on_shutdown(state, conn, desk);
        });
        let is_unwanted = called.is_none() && self.desk.waiters.is_empty();
        if is_unwanted && self.desk.phase(seat) == Phase::Greeting {
            self.desk.enter(seat, Phase::Closing);
            conn.close();
        }
    }

    fn on_close(&mut self, SeatNumber(seat): SeatNumber, closed: Closed, cx: &mut Context<'_>) {
        self.end(cx, |pool, cx| pool.close_seat(seat, closed, cx));
    }

    fn on_connect_failed(
        &mut self,
        SeatNumber(seat): SeatNumber,
        error: io::Error,
        cx: &mut Context<'_>,
    ) {
        self.end(cx, |pool, cx| {
            let phase = pool.desk.phase(seat);
            pool.desk.vacate(seat);
            if phase == Phase::Dialling {
                pool.fail_dial(error, cx);
            }
        });
    }
}

impl<C: PoolClient> TimerHandler for Pool<C> {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        let _attending = self.attend(cx);
        if self.desk.alarm.is_some_and(|(alarm, _)| alarm == timer.id) {
            self.desk.alarm = None;
        } else {
            self.client.on_handler_timer(timer, &mut self.desk, cx);
        }
        self.tend(cx);
    }
}

/// Why a handshake has failed whose connection has ended.
fn handshake_error(closed: Closed) -> io::Error {
    let (kind, text) = match closed.reason {
        CloseReason::Io(error) => return error,
        CloseReason::Timeout(_) => (io::ErrorKind::TimedOut, "not over in time".to_owned()),
        reason => (io::ErrorKind::ConnectionAborted, reason.to_string()),
    };
    io::Error::new(kind, format!("the handshake failed: {text}"))
}

impl<C: PoolClient> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("desk", &self.desk).finish_non_exhaustive()
    }
}
