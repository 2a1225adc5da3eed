//! A connection that is lent, and the way back.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::base::id::ConnId;
use crate::handler::{Conn, Context};

/// A connection that is lent: only the holder of the lease may use it.
///
/// Dropping a lease gives the connection back, wherever that happens: in a callback of the pool's
/// client, of another handler, or with the value that keeps it. The next borrower gets the
/// connection when the callback has returned, or soon after if that was not a callback of the pool.
/// A lease that is dropped by a panic is [discarded](Self::discard), because answers to what was
/// sent may still come.
///
/// A lease may outlive its connection: [`conn`](Self::conn) then finds nothing,
/// [`on_lost`](super::PoolClient::on_lost) was called, and dropping the lease does nothing.
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    returns: Rc<Returns>,
    id: ConnId,
    seat: u32,
    past: Past,
    /// What its end says.
    ending: Ending,
}

/// What a connection was before it is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// The connection has come up in this turn.
    New,
    /// The connection was idle, and has not been lent before.
    Idle,
    /// The connection has been lent before.
    Lent,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The connection may be lent again.
    Release,
    /// The connection may not be lent again.
    Discard,
    /// The desk has it back already.
    Done,
}

impl Lease {
    pub(super) fn new(returns: &Rc<Returns>, id: ConnId, seat: u32, past: Past) -> Self {
        Self { returns: Rc::clone(returns), id, seat, past, ending: Ending::Release }
    }

    /// The connection.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// The connection itself, unless it has ended.
    #[must_use]
    pub fn conn<'a>(&self, cx: &'a mut Context<'_>) -> Option<Conn<'a>> {
        cx.conn(self.id)
    }

    /// Whether the connection has been lent before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.past == Past::Lent
    }

    /// Whether the connection may have been idle: it has been lent before, or came up before this
    /// turn, as one of [`min_idle`](crate::pool::PoolOptions::min_idle) does. A server may close an
    /// idle connection just when a request is sent. If such a request is lost without an answer,
    /// try it again, unless it must not be done twice. The pool never sends anything a second time.
    #[must_use]
    pub fn was_idle(&self) -> bool {
        self.past != Past::New
    }

    /// Gives the connection back and ends it with a reset, because its next bytes may be anything:
    /// for example if the answer to a request was not awaited.
    ///
    /// To end it with FIN instead, close the connection and drop the lease.
    pub fn discard(mut self) {
        self.ending = Ending::Discard;
    }

    pub(super) fn seat(&self) -> u32 {
        self.seat
    }

    pub(super) fn is_of(&self, returns: &Rc<Returns>) -> bool {
        Rc::ptr_eq(&self.returns, returns)
    }

    /// The desk takes it back at once: its drop does nothing more.
    pub(super) fn finish(mut self) -> u32 {
        self.ending = Ending::Done;
        self.seat
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.ending == Ending::Release && std::thread::panicking() {
            // What was asked on it, and not answered, is known to nobody any more.
            self.ending = Ending::Discard;
        }
        if self.ending != Ending::Done {
            self.returns.put(Returned { seat: self.seat, id: self.id, ending: self.ending });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.id)
            .field("is_reused", &self.is_reused())
            .finish_non_exhaustive()
    }
}

/// A lease that was dropped and that the desk has not seen yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned {
    pub(super) seat: u32,
    /// A stale one names a connection that its seat has no more.
    pub(super) id: ConnId,
    pub(super) ending: Ending,
}

/// Where dropped leases wait for the desk: shared by the desk and its leases, which are all on one
/// thread.
pub(super) struct Returns {
    /// In the order of their drops.
    list: Cell<Vec<Returned>>,
    /// How many there are.
    count: Cell<usize>,
    /// The pool's code runs, and looks at the list before it returns.
    is_attended: Cell<bool>,
    /// The pool has been called and has not come yet.
    is_called: Cell<bool>,
    /// The pool is to be called for any lease: a ticket waits, for example.
    must_call: Cell<bool>,
    /// Leases that the list may hold before the pool is called: more could not stay idle.
    room: Cell<usize>,
    /// Has the pool look at the list, soon.
    call: Box<dyn Fn()>,
}

impl Returns {
    pub(super) fn new(most: usize, call: Box<dyn Fn()>) -> Self {
        Self {
            list: Cell::new(Vec::with_capacity(most.min(RESERVED))),
            count: Cell::new(0),
            is_attended: Cell::new(false),
            is_called: Cell::new(false),
            must_call: Cell::new(false),
            room: Cell::new(0),
            call,
        }
    }

    fn put(&self, returned: Returned) {
        let mut list = self.list.take();
        list.push(returned);
        let count = list.len();
        self.list.set(list);
        self.count.set(count);
        if !self.is_attended.get() && (self.must_call.get() || count > self.room.get()) {
            self.call();
        }
    }

    /// Has the pool come soon.
    pub(super) fn call(&self) {
        if !self.is_called.replace(true) {
            (self.call)();
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// Takes the whole list; to be given back emptied.
    fn take(&self) -> Vec<Returned> {
        self.count.set(0);
        self.list.take()
    }

    /// A list that was taken, with what is left of it, and its memory for the next drops. What was
    /// dropped meanwhile comes behind.
    fn give_back(&self, mut list: Vec<Returned>) {
        list.extend(self.list.take());
        self.count.set(list.len());
        self.list.set(list);
    }

    /// The pool's code begins to run.
    pub(super) fn attend(self: &Rc<Self>) -> Attending {
        self.is_attended.set(true);
        Attending(Rc::clone(self))
    }

    /// The call was heard.
    pub(super) fn answer(&self) {
        self.is_called.set(false);
    }

    /// When the pool wants to be called until it next runs.
    #[inline]
    pub(super) fn expect(&self, must_call: bool, room: usize) {
        self.must_call.set(must_call);
        self.room.set(room);
    }
}

/// Dropped leases that the desk deals with. What a panic leaves goes back.
pub(super) struct Batch {
    returns: Rc<Returns>,
    list: Vec<Returned>,
    done: usize,
}

impl Batch {
    pub(super) fn take(returns: &Rc<Returns>) -> Self {
        Self { returns: Rc::clone(returns), list: returns.take(), done: 0 }
    }

    pub(super) fn next(&mut self) -> Option<Returned> {
        let next = self.list.get(self.done).copied()?;
        self.done += 1;
        Some(next)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut list = std::mem::take(&mut self.list);
        list.drain(..self.done);
        self.returns.give_back(list);
    }
}

/// Leases for which there is memory from the start.
const RESERVED: usize = 256;

/// The pool's code runs until this is dropped.
pub(super) struct Attending(Rc<Returns>);

impl Drop for Attending {
    fn drop(&mut self) {
        self.0.is_attended.set(false);
        if std::thread::panicking() {
            // What was to be done behind the callback is still to be done.
            self.0.call();
        }
    }
}
