//! What a panic of the client costs: one connection, whose end is told once, with its state.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::pool::{AcquireError, Lease, Pool, PoolClient, PoolHandle, PoolOptions, PoolStats};
use waterwheel::{
    Closed, Conn, Context, Deadline, DeadlineKind, HandlerKey, OnPanic, Reactor, ReactorOptions,
    Timer,
};

use crate::support::{Client, End, patiently};

/// Where the client panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Acquired,
    Data,
    Eof,
    Timer,
    Deadline,
    Shutdown,
    Lost,
    Refused,
}

/// Where the lease is then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    State,
    Stack,
    Client,
    Released,
    Discarded,
}

/// A ticket whose lease the client keeps.
const KEPT: u32 = 7;

#[derive(Default)]
struct State {
    ticket: Option<u32>,
    lease: Option<Lease>,
}

/// Panics in one of its callbacks, for the ticket 0.
struct Guilty {
    place: Where,
    with: With,
    kept: Vec<Lease>,
    acquired: Vec<u32>,
    lost: Vec<(Option<u32>, String)>,
    refused: Rc<RefCell<Vec<u32>>>,
}

impl Guilty {
    fn look(
        &mut self,
        here: Where,
        state: &mut State,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        if here != self.place || state.ticket != Some(0) {
            return;
        }
        let Some(lease) = state.lease.take() else { panic!("on purpose") };
        match self.with {
            With::State => state.lease = Some(lease),
            With::Client => self.kept.push(lease),
            With::Released => desk.release(lease, cx),
            With::Discarded => lease.discard(),
            With::Stack => {
                let _lease = lease;
                panic!("on purpose");
            }
        }
        assert!(desk.try_acquire(cx).is_none()); // the desk sees what was dropped
        panic!("on purpose");
    }
}

impl PoolClient for Guilty {
    type State = State;
    type Ticket = u32;

    fn on_acquired(
        &mut self,
        state: &mut State,
        conn: &mut Conn<'_>,
        lease: Lease,
        ticket: u32,
        desk: &mut PoolHandle<Self>,
    ) {
        self.acquired.push(ticket);
        assert!(state.ticket.is_none() && state.lease.is_none(), "of another borrower");
        match ticket {
            KEPT => self.kept.push(lease),
            _ => *state = State { ticket: Some(ticket), lease: Some(lease) },
        }
        conn.write(b"?");
        let at_once = Some(Duration::from_millis(1));
        match self.place {
            Where::Timer => drop(conn.set_timer(Duration::from_millis(1), 0)),
            Where::Deadline => conn.set_deadline(DeadlineKind::User, at_once),
            _ => {}
        }
        self.look(Where::Acquired, state, desk, &mut conn.context());
    }

    fn on_data(
        &mut self,
        state: &mut State,
        conn: &mut Conn<'_>,
        input: &[u8],
        desk: &mut PoolHandle<Self>,
    ) -> usize {
        self.look(Where::Data, state, desk, &mut conn.context());
        input.len()
    }

    fn on_eof(&mut self, state: &mut State, conn: &mut Conn<'_>, desk: &mut PoolHandle<Self>) {
        self.look(Where::Eof, state, desk, &mut conn.context());
    }

    fn on_timer(
        &mut self,
        state: &mut State,
        conn: &mut Conn<'_>,
        _: Timer,
        desk: &mut PoolHandle<Self>,
    ) {
        self.look(Where::Timer, state, desk, &mut conn.context());
    }

    fn on_deadline(
        &mut self,
        state: &mut State,
        conn: &mut Conn<'_>,
        _: DeadlineKind,
        desk: &mut PoolHandle<Self>,
    ) -> Deadline {
        self.look(Where::Deadline, state, desk, &mut conn.context());
        Deadline::Reset
    }

    fn on_shutdown(&mut self, state: &mut State, conn: &mut Conn<'_>, desk: &mut PoolHandle<Self>) {
        self.look(Where::Shutdown, state, desk, &mut conn.context());
    }

    fn on_lost(
        &mut self,
        state: State,
        closed: Closed,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        self.lost.push((state.ticket, closed.reason.to_string()));
        assert!(self.place != Where::Lost, "on purpose");
    }

    fn on_refused(
        &mut self,
        ticket: u32,
        _: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        self.refused.borrow_mut().push(ticket);
        assert!(self.place != Where::Refused, "on purpose");
    }
}

struct Rig {
    reactor: Reactor,
    pool: HandlerKey<Pool<Guilty>>,
    listener: TcpListener,
}

impl Rig {
    fn new(place: Where, with: With, max_open: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let survives = ReactorOptions::default().on_panic(OnPanic::CloseConnection);
        let mut reactor = Reactor::with_options(survives).unwrap();
        let (kept, acquired) = (Vec::new(), Vec::new());
        let (lost, refused) = (Vec::new(), Rc::default());
        let client = Guilty { place, with, kept, acquired, lost, refused };
        let options = PoolOptions::default().max_open(max_open).seed(Some(1));
        let to = listener.local_addr().unwrap();
        let pool = Pool::register(&mut reactor, client, to, options).unwrap();
        Self { reactor, pool, listener }
    }

    fn ask(&mut self, ticket: u32) {
        self.reactor.context().post(self.pool, move |pool, cx| {
            pool.request(ticket, cx);
        });
    }

    fn pool(&mut self) -> &mut Pool<Guilty> {
        self.reactor.handler_mut(self.pool).unwrap()
    }

    fn stats(&mut self) -> PoolStats {
        self.pool().stats()
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&mut Pool<Guilty>) -> bool) {
        patiently(what, || {
            self.reactor.run_once(Some(Duration::from_millis(1))).unwrap();
            let stats = self.stats();
            assert_eq!(stats.open, stats.idle + stats.leased + stats.dialling + stats.closing);
            done(self.pool()).then_some(())
        });
    }

    fn accept(&mut self) -> Client {
        Client::from(self.listener.accept().unwrap().0)
    }
}

#[test]
fn a_leased_connection_that_a_panic_ends_is_told_once_with_its_state() {
    use Where::{Acquired, Data, Deadline, Eof, Lost, Refused, Shutdown, Timer};
    for place in [Acquired, Data, Eof, Timer, Deadline, Shutdown] {
        for with in [With::State, With::Stack, With::Client, With::Released, With::Discarded] {
            let mut rig = Rig::new(place, with, 1);
            rig.ask(0);
            rig.until("it is lent", |pool| pool.client().acquired == [0]);
            let mut peer = rig.accept();
            if place != Shutdown {
                rig.ask(1); // waits until the place is free
            }
            match place {
                Data => peer.send(b"!"),
                Eof => peer.finish(),
                Shutdown => rig.reactor.context().drain(Duration::from_secs(60)),
                Acquired | Timer | Deadline | Lost | Refused => {}
            }
            rig.until("it is told", |pool| !pool.client().lost.is_empty());
            let _next = (place != Shutdown).then(|| {
                rig.until("the next is lent", |pool| pool.client().acquired == [0, 1]);
                rig.accept()
            });
            rig.pool().client_mut().kept.clear(); // a lease that has outlived its connection
            for _ in 0..3 {
                rig.reactor.run_once(Some(Duration::ZERO)).unwrap();
            }
            let stats = rig.stats();
            let leased = usize::from(place != Shutdown);
            let now = (stats.open, stats.leased, stats.waiting, stats.lost);
            assert_eq!(now, (leased, leased, 0, 1), "{place:?} {with:?} {stats:?}");
            let lost = &rig.pool().client().lost;
            assert_eq!(lost.len(), 1, "{place:?} {with:?}");
            assert_eq!(lost[0].0, Some(0), "{place:?} {with:?}");
            assert!(lost[0].1.contains("panic"), "{place:?} {with:?} {lost:?}");
            assert_eq!(rig.reactor.stats().panics, 1, "{place:?} {with:?}");
        }
    }
}

/// Nothing calls the pool once the last connection has ended.
#[test]
fn tickets_that_wait_at_a_stop_are_told_although_the_last_callbacks_panic() {
    for place in [Where::Lost, Where::Refused] {
        for end in ["stop", "drain", "drop"] {
            let mut rig = Rig::new(place, With::State, 1);
            (0..5).for_each(|ticket| rig.ask(ticket));
            rig.until("it is lent", |pool| pool.client().acquired == [0]);
            rig.until("they wait", |pool| pool.stats().waiting == 4);
            let refused = Rc::clone(&rig.pool().client().refused);
            let peer = rig.accept();
            let Rig { mut reactor, .. } = rig;
            match end {
                "stop" => reactor.context().stop(),
                "drain" => reactor.context().drain(Duration::from_secs(60)),
                _ => {}
            }
            if end == "drop" {
                drop(reactor);
            } else {
                drop(peer); // a drain waits for the one that is lent
                reactor.run().unwrap();
                let panics = if place == Where::Lost { 1 } else { 4 };
                assert_eq!(reactor.stats().panics, panics, "{place:?} {end}");
            }
            assert_eq!(*refused.borrow(), [1, 2, 3, 4], "{place:?} {end}");
        }
    }
}

/// Answers to what was sent would be taken for those of the next borrower.
#[test]
fn a_lease_that_a_panic_drops_is_not_lent_again() {
    let mut rig = Rig::new(Where::Data, With::State, 1);
    rig.ask(KEPT);
    rig.until("it is lent", |pool| pool.client().acquired == [KEPT]);
    let mut peer = rig.accept();
    peer.expect(b"?");
    rig.reactor.context().post(rig.pool, |pool, cx| {
        pool.enter(cx, |client, desk, cx| {
            desk.release(client.kept.pop().expect("it is kept"), cx);
            let lease = desk.try_acquire(cx).expect("it is idle");
            lease.conn(cx).expect("it lives").write(b"ask");
            panic!("on purpose");
        });
    });
    rig.until("it has panicked", |pool| pool.stats().leased == 0);
    rig.until("its place is free", |pool| pool.stats().open == 0);
    let stats = rig.stats();
    assert_eq!((stats.leases, stats.evicted.discarded), (2, 1), "{stats:?}");
    let end = patiently("the end", || peer.try_read(9).err());
    assert_eq!(end, End::Reset);
}
