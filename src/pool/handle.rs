//! The books of a pool: who has which seat, who waits, and what is due when.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::id::{ConnId, TimerId};
use crate::handler::{Conn, Context, DeadlineKind, HandlerKey};
use crate::options::Destination;
use crate::pool::account::Account;
use crate::pool::idle::IdleList;
use crate::pool::lease::{Batch, Ending, Past, Returns};
use crate::pool::retry::Retry;
use crate::pool::slot::{Phase, Seat};
use crate::pool::stats::Why;
use crate::pool::{
    AcquireError, Acquired, IdleOrder, Lease, Pool, PoolClient, PoolOptions, PoolStats, WaiterId,
};

/// The part of a pool that its client's callbacks get: here connections are acquired and released.
///
/// No method calls a callback. Connects begin, and tickets are served, when the callback that got
/// the handle has returned.
///
/// # Examples
/// Sends a request by an idle connection if there is one, or has it wait:
/// ```
/// use waterwheel::pool::{Acquired, PoolHandle, Lease, PoolClient};
/// use waterwheel::Context;
///
/// fn send<C>(request: Vec<u8>, desk: &mut PoolHandle<C>, cx: &mut Context<'_>)
/// where
///     C: PoolClient<Ticket = Vec<u8>, State = Option<Lease>>,
/// {
///     match desk.acquire(request, cx) {
///         Acquired::Now(lease, request) => {
///             if let Some(mut conn) = lease.conn(cx) {
///                 conn.write(&request);
///             }
///             if let Some(state) = desk.state_mut(&lease) {
///                 *state = Some(lease); // given back by on_data, which is lent the state
///             }
///         }
///         Acquired::Waits(_) => {} // on_acquired sends it
///         Acquired::Refused(_, error) => println!("not sent: {error}"),
///     }
/// }
/// ```
pub struct PoolHandle<C: PoolClient> {
    pub(super) handler: HandlerKey<Pool<C>>,
    pub(super) destination: Destination,
    pub(super) options: PoolOptions,
    /// Invariant: no more than `max_open`.
    pub(super) seats: Vec<Seat<C::State>>,
    /// Seats without a connection.
    pub(super) free: Vec<u32>,
    /// Idle ones, in the order in which they came back.
    pub(super) idle: IdleList,
    /// In the order of their numbers.
    pub(super) waiters: VecDeque<Waiter<C::Ticket>>,
    pub(super) next_waiter: u64,
    /// Distinguishes the ids of its waiters from those of all other pools in the process.
    number: u64,
    /// Waiters of lower numbers are refused: the reactor stops, and nothing was left to serve them.
    pub(super) cut_below: u64,
    /// Connections that came to their end before any of those who wait had them: as many of these
    /// are refused, as after failed dials, or else the next dial would follow without a pause.
    pub(super) stillborn: usize,
    pub(super) returns: Rc<Returns>,
    /// The seat whose callback runs, and how its lease has ended in it.
    pub(super) current: Option<(u32, Option<Ending>)>,
    pub(super) stats: PoolStats,
    /// What this turn has done already.
    pub(super) account: Account,
    /// The turn had no room to end all that has to go.
    pub(super) has_more: bool,
    pub(super) retry: Retry,
    /// When the next idle connection is too old, at the latest.
    pub(super) look_at: Duration,
    /// The one timer of the pool, and when it fires.
    pub(super) alarm: Option<(TimerId, Duration)>,
    pub(super) is_closed: bool,
    /// The reactor drains: nothing is kept that is not needed.
    pub(super) is_draining: bool,
}

/// How many pools have been made in this process.
static POOLS_MADE: AtomicU64 = AtomicU64::new(0);

/// A ticket that waits.
pub(super) struct Waiter<T> {
    pub(super) id: WaiterId,
    pub(super) ticket: T,
    /// The turn from whose end on it has its time.
    pub(super) since: Duration,
}

impl<C: PoolClient> PoolHandle<C> {
    pub(super) fn new(
        handler: HandlerKey<Pool<C>>,
        destination: Destination,
        options: PoolOptions,
        call: Box<dyn Fn()>,
    ) -> Self {
        let retry = Retry::new(options.retry_base_delay, options.retry_max_delay, options.seed);
        Self {
            handler,
            destination,
            seats: Vec::new(),
            free: Vec::new(),
            idle: IdleList::new(),
            waiters: VecDeque::new(),
            next_waiter: 0,
            number: POOLS_MADE.fetch_add(1, Ordering::Relaxed),
            cut_below: 0,
            stillborn: 0,
            returns: Rc::new(Returns::new(options.max_open, call)),
            current: None,
            stats: PoolStats::default(),
            account: Account::default(),
            has_more: false,
            retry,
            look_at: Duration::MAX,
            alarm: None,
            is_closed: false,
            is_draining: false,
            options,
        }
    }

    /// Takes an idle connection, or puts the ticket at the end of the queue.
    #[inline]
    pub fn acquire(&mut self, ticket: C::Ticket, cx: &mut Context<'_>) -> Acquired<C::Ticket> {
        match self.try_acquire(cx) {
            Some(lease) => Acquired::Now(lease, ticket),
            None => self.wait(ticket, cx.now()),
        }
    }

    /// Takes an idle connection, if there is one and no ticket waits. Allocates nothing.
    ///
    /// The connection may still turn out to be dead: its end may be on the way, or wait in the same
    /// batch of events.
    #[inline]
    pub fn try_acquire(&mut self, cx: &mut Context<'_>) -> Option<Lease> {
        if !self.returns.is_empty() {
            self.absorb(cx);
        }
        if self.is_closed || !self.waiters.is_empty() {
            return None;
        }
        self.lend(cx)
    }

    /// Gives a connection back at once, so that the next acquire can lend it. If the callback that
    /// runs is of this connection, it is given back when that has returned. Dropping the lease does
    /// the same at the end of the callback.
    ///
    /// A connection that has output queued, input unconsumed, reading paused or its writing side
    /// closed is ended instead, because the next borrower could get answers that are for the last
    /// one.
    #[inline]
    pub fn release(&mut self, lease: Lease, cx: &mut Context<'_>) {
        if !lease.is_of(&self.returns) {
            return; // dropped, it goes back to its own pool
        }
        let id = lease.id();
        let seat = lease.finish();
        self.end_lease(seat, id, Ending::Release, cx);
    }

    /// Removes a ticket from the queue and returns it; `None` if it has been answered, or if the id
    /// is of another pool.
    pub fn cancel(&mut self, waiter: WaiterId) -> Option<C::Ticket> {
        // Numbers of this pool are in order, and so are its ids; one of another pool equals none.
        let place = self.waiters.binary_search_by_key(&waiter, |waiter| waiter.id).ok()?;
        let waiter = self.waiters.remove(place)?;
        self.stats.cancelled += 1;
        self.forget_stillborn();
        Some(waiter.ticket)
    }

    /// The state of a leased connection; `None` if it has ended, or if its own callback runs, which
    /// has the state already.
    #[must_use]
    pub fn state_mut(&mut self, lease: &Lease) -> Option<&mut C::State> {
        if !lease.is_of(&self.returns) {
            return None;
        }
        let seat = self.seats.get_mut(lease.seat() as usize)?;
        if seat.is_lent_as(lease.id()) { seat.state.as_mut() } else { None }
    }

    /// Closes the pool: idle connections end, those who wait are refused, and leased ones end when
    /// they are released. Nothing is lent any more.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether the pool was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// What there is and what was done.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats { waiting: self.waiters.len(), ..self.stats }
    }

    /// The key of the pool, to post to it or to set timers.
    #[must_use]
    pub fn handler(&self) -> HandlerKey<Pool<C>> {
        self.handler
    }

    /// The destination of its connections.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    #[cold]
    fn wait(&mut self, ticket: C::Ticket, now: Duration) -> Acquired<C::Ticket> {
        let error = if self.is_closed {
            AcquireError::Closed
        } else if self.waiters.len() >= self.options.max_waiters {
            AcquireError::TooManyWaiters(self.options.max_waiters)
        } else {
            let id = WaiterId { number: self.next_waiter, pool: self.number };
            self.next_waiter += 1;
            self.waiters.push_back(Waiter { id, ticket, since: now });
            return Acquired::Waits(id);
        };
        self.stats.refused += 1;
        Acquired::Refused(ticket, error)
    }

    // Seats.

    #[inline]
    pub(super) fn phase(&self, seat: u32) -> Phase {
        self.seats.get(seat as usize).map_or(Phase::Free, |seat| seat.phase)
    }

    #[inline]
    pub(super) fn enter(&mut self, seat: u32, phase: Phase) {
        if let Some(seat) = self.seats.get_mut(seat as usize) {
            self.stats.pass(seat.phase, phase);
            seat.phase = phase;
        }
    }

    /// Lends the next idle connection. One that has meanwhile ended, or has been idle for too
    /// long, is passed over, as far as the turn has room for that; the next turn goes on.
    #[inline]
    pub(super) fn lend(&mut self, cx: &mut Context<'_>) -> Option<Lease> {
        let turn = cx.turn();
        loop {
            let index = match self.options.pick {
                IdleOrder::Lifo => self.idle.last()?,
                IdleOrder::Fifo => self.idle.first()?,
            };
            let now = cx.now();
            let seat = self.seats.get_mut(index as usize)?;
            let id = seat.id?;
            let is_fresh = now < seat.lasts_until(self.options.idle_timeout, cx);
            match cx.conn(id) {
                Some(conn) if conn.is_writable() && is_fresh => {
                    let is_reused = std::mem::replace(&mut seat.was_lent, true);
                    if !is_reused {
                        self.retry.succeeded();
                    }
                    let past = match is_reused {
                        true => Past::Lent,
                        false if seat.born_in == turn => Past::New,
                        false => Past::Idle,
                    };
                    seat.active_at = now;
                    self.stats.pass(seat.phase, Phase::Leased);
                    seat.phase = Phase::Leased;
                    self.idle.remove(index);
                    self.stats.leases += 1;
                    self.stats.reused += u64::from(is_reused);
                    return Some(Lease::new(&self.returns, id, index, past));
                }
                _ if !self.account.begin(turn).may_end() => {
                    self.has_more = true;
                    self.returns.call();
                    return None;
                }
                _ => self.pass_over(index, cx),
            }
        }
    }

    #[cold]
    pub(super) fn pass_over(&mut self, index: u32, cx: &mut Context<'_>) {
        let Some(seat) = self.seats.get(index as usize) else { return };
        let (id, is_old) = (seat.id, seat.is_older_than(seat.life, cx));
        let is_up = id.and_then(|id| cx.conn(id)).is_some_and(|conn| conn.is_writable());
        if !is_up {
            self.note_life(index, cx);
        }
        let why = match (is_up, is_old) {
            (false, _) => Why::Peer,
            (true, true) => Why::Lifetime,
            (true, false) => Why::IdleTimeout,
        };
        self.evict(index, why, id.and_then(|id| cx.conn(id)));
    }

    /// Ends a connection that is up. Its seat is free once it is gone.
    pub(super) fn evict(&mut self, index: u32, why: Why, conn: Option<Conn<'_>>) {
        let Some(seat) = self.seats.get_mut(index as usize) else { return };
        let state = seat.state.take();
        if self.phase(index) == Phase::Idle {
            self.idle.remove(index);
        }
        self.enter(index, Phase::Closing);
        self.account.ended += 1;
        self.stats.evicted.count(why);
        if let Some(mut conn) = conn {
            end(&mut conn, why);
        }
        drop(state); // the user's; it may hold a lease
    }

    /// A connection that ends young and was of no use to any borrower is no better than a failed
    /// dial: a server that accepts and resets would else be dialled without a pause.
    pub(super) fn note_life(&mut self, index: u32, cx: &Context<'_>) {
        let Some(seat) = self.seats.get(index as usize) else { return };
        if seat.was_lent {
            return;
        }
        if !self.waiters.is_empty() {
            self.stillborn += 1;
        }
        if seat.is_older_than(self.options.retry_max_delay, cx) {
            self.retry.succeeded();
        } else {
            self.retry.failed(cx.now());
        }
    }

    /// A lease has ended, if it is not stale.
    #[inline]
    fn end_lease(&mut self, index: u32, id: ConnId, ending: Ending, cx: &mut Context<'_>) {
        if !self.seats.get(index as usize).is_some_and(|seat| seat.is_lent_as(id)) {
            return;
        }
        match &mut self.current {
            Some((current, ended)) if *current == index => *ended = Some(ending),
            _ => self.take_back(index, ending, false, cx),
        }
    }

    /// Takes a connection back from its borrower. `is_left`: some of its input was not consumed.
    #[inline]
    pub(super) fn take_back(
        &mut self,
        index: u32,
        ending: Ending,
        is_left: bool,
        cx: &mut Context<'_>,
    ) {
        let turn = cx.turn();
        let Some(seat) = self.seats.get_mut(index as usize) else { return };
        let is_old = seat.is_older_than(seat.life, cx);
        let conn = seat.id.and_then(|id| cx.conn(id));
        let is_clean = !is_left && seat.state.is_some() && conn.as_ref().is_some_and(is_clean);
        let is_surplus = self.waiters.is_empty()
            && (self.idle.len() >= self.options.most_idle() || self.is_draining);
        let is_wanted = !is_surplus && !self.is_closed && !is_old;
        // Over the budget of the turn the sweep ends it.
        let is_fit = is_clean && ending == Ending::Release;
        if is_fit && (is_wanted || !self.account.begin(turn).may_end()) {
            if let Some(mut conn) = conn {
                conn.set_deadline(DeadlineKind::User, None);
            }
            return self.lay_idle(index);
        }
        let why = match (&conn, ending) {
            (None, _) => Why::Peer,
            (_, Ending::Discard) => Why::Discarded,
            _ if !is_clean => Why::Dirty,
            _ if self.is_closed || self.is_draining => Why::Shutdown,
            _ if is_surplus => Why::Surplus,
            _ => Why::Lifetime,
        };
        self.evict(index, why, conn);
    }

    /// A connection is ready to be lent.
    #[inline]
    fn lay_idle(&mut self, index: u32) {
        let limit = self.options.idle_timeout.unwrap_or(Duration::MAX);
        let Some(seat) = self.seats.get_mut(index as usize) else { return };
        seat.idle_until =
            seat.active_at.saturating_add(limit).min(seat.born_at.saturating_add(seat.life));
        self.look_at = self.look_at.min(seat.idle_until);
        self.enter(index, Phase::Idle);
        self.idle.push(index);
    }

    /// A seat is free again.
    pub(super) fn vacate(&mut self, index: u32) {
        if self.phase(index) == Phase::Idle {
            self.idle.remove(index);
        }
        self.enter(index, Phase::Free);
        if let Some(seat) = self.seats.get_mut(index as usize) {
            *seat = Seat::new();
            self.free.push(index);
        }
    }

    /// Deals with the leases that were dropped.
    #[cold]
    pub(super) fn absorb(&mut self, cx: &mut Context<'_>) {
        // The state of one that is ended may hold further leases.
        while !self.returns.is_empty() {
            let mut batch = Batch::take(&self.returns);
            while let Some(returned) = batch.next() {
                self.end_lease(returned.seat, returned.id, returned.ending, cx);
            }
        }
    }

    /// A new connection is up.
    pub(super) fn came_up(&mut self, index: u32, conn: &Conn<'_>) {
        self.enter(index, Phase::Greeting);
        if let Some(seat) = self.seats.get_mut(index as usize) {
            seat.id = Some(conn.id());
            seat.state = Some(C::State::default());
        }
    }

    /// Its handshake is over. It lives from now on, so that a slow handshake leaves something of a
    /// short life.
    pub(super) fn is_made(&mut self, index: u32, cx: &Context<'_>) {
        let life = self
            .options
            .lifetime
            .map_or(Duration::MAX, |lifetime| lifetime - self.retry.part_of(lifetime / 10));
        if let Some(seat) = self.seats.get_mut(index as usize) {
            (seat.born_at, seat.born_in, seat.life) = (cx.now(), cx.turn(), life);
        }
        self.stats.created += 1;
        self.lay_idle(index);
    }
}

/// Whether a connection that comes back may be lent to another borrower.
#[inline]
fn is_clean(conn: &Conn<'_>) -> bool {
    conn.is_writable()
        && conn.pending_bytes() == 0
        && conn.unconsumed_bytes() == 0
        && conn.is_reading()
}

/// How a connection is ended: by FIN as a rule. With a reset if the peer has sent, or may yet send,
/// what no borrower wants, and would else be waited for.
fn end(conn: &mut Conn<'_>, why: Why) {
    let is_over = matches!(why, Why::Stray | Why::Discarded);
    let is_unwanted = why == Why::Dirty && conn.pending_bytes() == 0;
    if (is_over || is_unwanted) && conn.is_writable() { conn.abort() } else { conn.close() }
}

impl<C: PoolClient> fmt::Debug for PoolHandle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolHandle")
            .field("destination", &self.destination)
            .field("stats", &self.stats())
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}
