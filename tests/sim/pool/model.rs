//! A client that does everything it may, by chance, and keeps its own books; a server that answers
//! as a rule; and somebody else who holds leases.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::pool::{
    AcquireError, Acquired, Handshake, Lease, PoolClient, PoolHandle, PoolStats, WaiterId,
};
use waterwheel::sim::Dice;
use waterwheel::{
    Closed, Conn, ConnId, Context, Handler, HandlerKey, Idle, IdleKind, Peer, Timer, TimerHandler,
    TimerId, frame,
};

/// Tickets of a run.
const MOST_TICKETS: u64 = 1_000;

/// What the client knows.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) most_open: usize,
    next_ticket: u64,
    /// Tickets that wait, in order.
    pub(crate) queue: VecDeque<(u64, WaiterId)>,
    /// Connections that are lent, and whether an answer is to come on them.
    pub(crate) held: BTreeMap<ConnId, bool>,
    /// Connections that may never be lent again.
    gone: BTreeSet<ConnId>,
    /// Connections that were lent, at some time.
    lent: BTreeSet<ConnId>,
    pub(crate) at_once: u64,
    pub(crate) after_a_wait: u64,
    pub(crate) is_closed: bool,
    /// Nobody wants anything any more.
    pub(crate) is_over: bool,
    /// States that are alive.
    pub(crate) states: Rc<Cell<i64>>,
    /// The pool's own books, at the last look.
    pub(crate) stats: PoolStats,
}

impl Books {
    /// A connection is lent.
    fn lend(&mut self, lease: &Lease, cx: &mut Context<'_>) {
        let id = lease.id();
        assert!(!self.gone.contains(&id), "{id} was ended, and is lent");
        assert!(self.held.insert(id, false).is_none(), "{id} is lent twice");
        assert_eq!(lease.is_reused(), !self.lent.insert(id), "{id} is new, or is not");
        let conn = lease.conn(cx).expect("a dead one is lent");
        assert!(conn.is_writable(), "one is lent that takes no output");
        assert_eq!(conn.unconsumed_bytes() + conn.pending_bytes(), 0, "a dirty one is lent");
    }

    /// It is on its way back, by any way; `is_last`: for good.
    fn give_back(&mut self, id: ConnId, is_last: bool) {
        // Unless it is lost.
        if self.held.remove(&id).is_some() && is_last {
            self.gone.insert(id);
        }
    }

    /// The books agree.
    fn compare(&mut self, stats: PoolStats, cx: &Context<'_>) {
        self.stats = stats;
        let parts = stats.idle + stats.leased + stats.dialling + stats.closing;
        assert_eq!(stats.open, parts, "a slot is lost: {stats:?}");
        assert!(stats.open <= self.most_open, "over the cap: {stats:?}");
        assert_eq!(stats.waiting, self.queue.len(), "{stats:?}");
        assert!(stats.leased >= self.held.len(), "{stats:?}, held {:?}", self.held);
        let ended = stats.evicted.total() + stats.lost;
        let living = (stats.idle + stats.leased) as u64;
        assert_eq!(stats.created, ended + living, "one has vanished: {stats:?}");
        assert_eq!(stats.leases, self.at_once + self.after_a_wait, "{stats:?}");
        // Only the pool has connections on this host. One that could not be begun has no socket.
        assert!(cx.stats().connections <= stats.open as u64, "{stats:?}");
    }
}

/// What each connection keeps; counts itself.
#[derive(Debug, Default)]
pub(crate) struct Keeps {
    is_counted: Option<Rc<Cell<i64>>>,
    id: Option<ConnId>,
    /// The ticket whose answer is to come.
    ticket: Option<u64>,
    lease: Option<Lease>,
    /// The server has said what it was not asked.
    is_confused: bool,
    /// Ends the wait for an answer.
    patience: Option<TimerId>,
}

impl Drop for Keeps {
    fn drop(&mut self) {
        if let Some(count) = &self.is_counted {
            count.set(count.get() - 1);
        }
    }
}

pub(crate) struct Model {
    dice: Dice,
    books: Rc<RefCell<Books>>,
    /// Holds leases too.
    holder: HandlerKey<Holder>,
    /// Leases that no connection's state keeps.
    hand: Vec<Lease>,
    greets: bool,
    /// How often it still acts of its own accord.
    ticks_left: u32,
}

impl Model {
    pub(crate) fn new(
        dice: Dice,
        books: &Rc<RefCell<Books>>,
        holder: HandlerKey<Holder>,
        greets: bool,
    ) -> Self {
        Self { dice, books: Rc::clone(books), holder, hand: Vec::new(), greets, ticks_left: 1_000 }
    }

    fn compare(&self, desk: &PoolHandle<Self>, cx: &Context<'_>) {
        self.books.borrow_mut().compare(desk.stats(), cx);
    }

    /// Does something, or nothing. `own` is the connection whose callback runs, with its state.
    fn act(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        self.compare(desk, cx);
        for _ in 0..self.dice.spread(1, 8) {
            self.act_once(desk, cx);
            self.compare(desk, cx);
        }
    }

    fn act_once(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        if self.books.borrow().is_over {
            return self.let_all_go();
        }
        // One who asks again whenever a dial fails would dial for ever.
        let wants_more = self.books.borrow().next_ticket < MOST_TICKETS;
        match self.dice.below(24) {
            0..6 if wants_more => self.acquire(desk, cx),
            6 => {
                if let Some(lease) = desk.try_acquire(cx) {
                    assert!(self.books.borrow().queue.is_empty(), "somebody waits in front");
                    self.got(lease, cx);
                }
            }
            7..10 => self.give_back(desk, cx),
            10 | 11 => self.send(desk, cx),
            12 => self.cancel(desk),
            13 => self.soil(desk, cx),
            14 if self.dice.one_in(400) => {
                self.books.borrow_mut().is_closed = true;
                desk.close();
            }
            15 | 16 => self.pass_on(cx),
            _ => {}
        }
    }

    fn got(&mut self, lease: Lease, cx: &mut Context<'_>) {
        self.books.borrow_mut().at_once += 1;
        self.books.borrow_mut().lend(&lease, cx);
        self.hand.push(lease);
    }

    fn acquire(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        let number = self.books.borrow().next_ticket;
        self.books.borrow_mut().next_ticket += 1;
        let answer = desk.acquire(number, cx);
        match answer {
            Acquired::Now(lease, ticket) => {
                assert_eq!(ticket, number);
                assert!(self.books.borrow().queue.is_empty(), "somebody waits in front");
                self.got(lease, cx);
            }
            Acquired::Waits(waiter) => {
                let queue = &mut self.books.borrow_mut().queue;
                let is_first = queue.is_empty();
                assert!(!is_first || desk.stats().idle == 0, "one is idle, and somebody waits");
                queue.push_back((number, waiter));
            }
            Acquired::Refused(ticket, error) => {
                assert_eq!(ticket, number);
                assert!(!matches!(error, AcquireError::TimedOut { .. } | AcquireError::Connect(_)));
                assert_eq!(matches!(error, AcquireError::Closed), self.books.borrow().is_closed);
            }
        }
    }

    fn take(&mut self) -> Option<Lease> {
        if self.hand.is_empty() {
            return None;
        }
        let at = self.dice.below(self.hand.len() as u64) as usize;
        Some(self.hand.swap_remove(at))
    }

    /// By one of the ways there are.
    fn give_back(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        let Some(lease) = self.take() else { return };
        let id = lease.id();
        let is_awaited = self.books.borrow().held.get(&id).copied().unwrap_or(false);
        let way = if is_awaited { 2 } else { self.dice.below(6) };
        self.books.borrow_mut().give_back(id, way == 2);
        match way {
            0 | 1 => drop(lease),
            2 => lease.discard(),
            _ => desk.release(lease, cx),
        }
    }

    /// Sends a request on a connection, whose answer its state awaits with the lease.
    fn send(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        let Some(lease) = self.take() else { return };
        let ticket = self.books.borrow().next_ticket;
        self.books.borrow_mut().next_ticket += 1;
        let is_awaited = self.books.borrow().held.get(&lease.id()) != Some(&false);
        let Some(state) = desk.state_mut(&lease).filter(|_| !is_awaited) else {
            return self.hand.push(lease); // lost, or busy
        };
        assert!(state.id == Some(lease.id()) && state.ticket.is_none(), "whose state is it");
        let id = lease.id();
        self.books.borrow_mut().held.insert(id, true);
        if let Some(mut conn) = cx.conn(id) {
            self.ask(state, &mut conn, ticket, lease);
        } else {
            state.lease = Some(lease);
        }
    }

    /// Sends a request, and waits for its answer for a while.
    fn ask(&self, state: &mut Keeps, conn: &mut Conn<'_>, ticket: u64, lease: Lease) {
        conn.write(format!("{ticket}\n").as_bytes());
        let patience = Duration::from_millis(self.dice.spread(1, 60_000));
        state.patience = Some(conn.set_timer(patience, 0));
        state.ticket = Some(ticket);
        state.lease = Some(lease);
    }

    fn cancel(&mut self, desk: &mut PoolHandle<Self>) {
        let count = self.books.borrow().queue.len() as u64;
        if count == 0 {
            return;
        }
        let at = self.dice.below(count) as usize;
        let (number, waiter) = self.books.borrow_mut().queue.remove(at).expect("it waits");
        assert_eq!(desk.cancel(waiter), Some(number));
        assert_eq!(desk.cancel(waiter), None);
    }

    /// Gives one back that may not be lent again, without saying so.
    fn soil(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        let Some(lease) = self.take() else { return };
        if let Some(mut conn) = lease.conn(cx) {
            match self.dice.below(5) {
                0 => conn.pause_reading(),
                1 => conn.close(),
                2 => conn.abort(),
                3 => conn.shutdown_write(),
                _ => {
                    conn.write(b"unheard\n");
                    // Otherwise it may have left before the pool looks.
                    self.books.borrow_mut().give_back(lease.id(), true);
                    return desk.release(lease, cx);
                }
            }
        }
        self.books.borrow_mut().give_back(lease.id(), true);
        if self.dice.one_in(2) {
            desk.release(lease, cx);
        }
    }

    /// Somebody else holds it from now on.
    fn pass_on(&mut self, cx: &mut Context<'_>) {
        let Some(lease) = self.take() else { return };
        cx.post(self.holder, move |holder, cx| holder.keep(lease, cx));
    }

    /// Nobody wants anything any more.
    pub(crate) fn let_all_go(&mut self) {
        for lease in self.hand.drain(..) {
            let mut books = self.books.borrow_mut();
            let is_awaited = books.held.get(&lease.id()).copied().unwrap_or(false);
            books.give_back(lease.id(), is_awaited);
            drop(books);
            if is_awaited {
                lease.discard();
            }
        }
    }

    /// The next line of an answer.
    fn answered(
        &mut self,
        state: &mut Keeps,
        conn: &mut Conn<'_>,
        line: &[u8],
        desk: &mut PoolHandle<Self>,
    ) {
        let id = conn.id();
        let text = std::str::from_utf8(line).expect("text");
        let expected = state.ticket.take();
        if text == "?" {
            // Unasked for: from now on nobody knows whose answers they are.
            self.books.borrow_mut().held.insert(id, true);
            state.is_confused = true;
        } else if !state.is_confused {
            let expected = expected.map(|ticket| ticket.to_string());
            assert_eq!(Some(text), expected.as_deref(), "the answer of another, on {id}");
            self.books.borrow_mut().held.insert(id, false);
        }
        if let Some(lease) = state.lease.take() {
            self.hand.push(lease);
        }
        self.act(desk, &mut conn.context());
    }
}

impl PoolClient for Model {
    type State = Keeps;
    type Ticket = u64;

    fn on_connected(&mut self, state: &mut Keeps, conn: &mut Conn<'_>) -> Handshake {
        assert!(state.id.is_none(), "the state of another");
        state.id = Some(conn.id());
        let count = Rc::clone(&self.books.borrow().states);
        count.set(count.get() + 1);
        state.is_counted = Some(count);
        if !self.greets {
            return Handshake::Done;
        }
        conn.write(b"hi\n");
        Handshake::Pending
    }

    fn on_handshake(
        &mut self,
        state: &mut Keeps,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> (usize, Handshake) {
        assert_eq!(state.id, Some(conn.id()));
        match input {
            b"hi\n" => (3, Handshake::Done),
            [b'h', ..] if input.len() < 3 => (0, Handshake::Pending),
            [b'h', ..] => (3, Handshake::Done), // and something behind it
            _ => (0, Handshake::Failed(io::Error::other("another answer"))),
        }
    }

    fn on_acquired(
        &mut self,
        state: &mut Keeps,
        conn: &mut Conn<'_>,
        lease: Lease,
        ticket: u64,
        desk: &mut PoolHandle<Self>,
    ) {
        let front = self.books.borrow_mut().queue.pop_front();
        assert_eq!(front.map(|(number, _)| number), Some(ticket), "out of order");
        self.books.borrow_mut().after_a_wait += 1;
        self.books.borrow_mut().lend(&lease, &mut conn.context());
        assert_eq!((state.id, lease.id()), (Some(conn.id()), conn.id()));
        assert!(state.ticket.is_none() && state.lease.is_none());
        if self.dice.one_in(2) {
            self.books.borrow_mut().held.insert(conn.id(), true);
            self.ask(state, conn, ticket, lease);
        } else {
            self.hand.push(lease);
        }
        self.act(desk, &mut conn.context());
    }

    fn on_data(
        &mut self,
        state: &mut Keeps,
        conn: &mut Conn<'_>,
        input: &[u8],
        desk: &mut PoolHandle<Self>,
    ) -> usize {
        let id = conn.id();
        assert!(self.books.borrow().held.contains_key(&id), "on_data of one that is not lent");
        assert_eq!(state.id, Some(id));
        if state.lease.is_some() && self.dice.one_in(40) {
            // Leaves everything and lets go.
            state.ticket = None;
            self.books.borrow_mut().give_back(id, true);
            state.lease = None;
            return 0;
        }
        let mut lines = frame::lines(input, 100);
        while self.books.borrow().held.contains_key(&id) {
            let Some(line) = lines.next() else { break };
            self.answered(state, conn, line.expect("short"), desk);
        }
        if lines.consumed() < input.len() && !self.books.borrow().held.contains_key(&id) {
            self.books.borrow_mut().gone.insert(id);
        }
        lines.consumed()
    }

    fn on_idle(
        &mut self,
        _: &mut Keeps,
        conn: &mut Conn<'_>,
        _: IdleKind,
        desk: &mut PoolHandle<Self>,
    ) -> Idle {
        assert!(self.books.borrow().held.contains_key(&conn.id()));
        self.act(desk, &mut conn.context());
        if self.dice.one_in(2) { Idle::Close } else { Idle::Keep }
    }

    fn on_timer(
        &mut self,
        state: &mut Keeps,
        conn: &mut Conn<'_>,
        timer: Timer,
        desk: &mut PoolHandle<Self>,
    ) {
        assert!(self.books.borrow().held.contains_key(&conn.id()));
        if state.patience == Some(timer.id) && state.ticket.take().is_some() {
            self.books.borrow_mut().give_back(conn.id(), true);
            state.lease.take().expect("it waits").discard();
        }
        self.act(desk, &mut conn.context());
    }

    fn on_lost(
        &mut self,
        state: Keeps,
        closed: Closed,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        assert_eq!(state.id, Some(closed.id));
        assert!(self.books.borrow_mut().held.remove(&closed.id).is_some(), "nobody had it");
        self.books.borrow_mut().gone.insert(closed.id);
        drop(state); // with its lease, perhaps
        self.act(desk, cx);
    }

    fn on_refused(
        &mut self,
        ticket: u64,
        error: AcquireError,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        let front = self.books.borrow_mut().queue.pop_front();
        assert_eq!(front.map(|(number, _)| number), Some(ticket), "out of order");
        assert!(!matches!(error, AcquireError::TooManyWaiters(_)));
        assert_eq!(matches!(error, AcquireError::Closed), self.books.borrow().is_closed);
        self.act(desk, cx);
    }

    fn on_handler_timer(
        &mut self,
        timer: Timer,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        self.act(desk, cx);
        self.ticks_left = self.ticks_left.saturating_sub(1);
        if self.books.borrow().is_over || self.ticks_left == 0 {
            assert!(cx.cancel_timer(timer.id));
        }
    }
}

/// Holds leases in another handler for a while.
pub(crate) struct Holder {
    service: HandlerKey<Self>,
    dice: Dice,
    books: Rc<RefCell<Books>>,
    leases: Vec<Lease>,
}

impl Holder {
    pub(crate) fn new(service: HandlerKey<Self>, dice: Dice, books: &Rc<RefCell<Books>>) -> Self {
        Self { service, dice, books: Rc::clone(books), leases: Vec::new() }
    }

    fn keep(&mut self, lease: Lease, cx: &mut Context<'_>) {
        self.leases.push(lease);
        cx.set_timer(self.service, Duration::from_millis(self.dice.spread(1, 5_000)), 0);
    }
}

impl TimerHandler for Holder {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {
        let lease = self.leases.pop().expect("a timer for each");
        let is_awaited = self.books.borrow().held.get(&lease.id()).copied().unwrap_or(false);
        let is_last = is_awaited || self.dice.one_in(4);
        self.books.borrow_mut().give_back(lease.id(), is_last);
        if is_last {
            lease.discard();
        }
    }
}

/// Sends back every line, unless it does something else.
pub(crate) struct Moody {
    dice: Dice,
    is_calm: bool,
}

impl Moody {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { dice, is_calm: false }
    }

    pub(crate) fn calm_down(&mut self) {
        self.is_calm = true;
    }

    fn is_moody(&self, once_in: u64) -> bool {
        self.dice.one_in(once_in) && !self.is_calm
    }

    fn misbehave(&self, conn: &mut Conn<'_>) {
        match self.dice.below(5) {
            0 => conn.close(),
            1 => conn.abort(),
            2 => conn.shutdown_write(),
            3 => drop(conn.write(b"?\n")),
            _ => conn.pause_reading(),
        }
    }
}

impl Handler for Moody {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        (!self.is_moody(10)).then_some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        if self.is_moody(20) {
            self.misbehave(conn);
        }
        if self.is_moody(2) {
            conn.set_timer(Duration::from_millis(self.dice.spread(1, 20_000)), 0);
        }
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if self.is_moody(20) {
            self.misbehave(conn);
        }
        if input.ends_with(b"\n") && self.is_moody(20) {
            return input.len(); // without an answer
        }
        let mut lines = frame::lines(input, 100);
        for line in lines.by_ref().flatten() {
            conn.write(line);
            conn.write(b"\n");
        }
        lines.consumed()
    }

    fn on_timer(&mut self, (): &mut (), conn: &mut Conn<'_>, _: Timer) {
        self.misbehave(conn);
    }
}
