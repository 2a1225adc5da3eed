//! The token of a timer: it comes back with every firing, to every kind of handler.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::pool::{AcquireError, Lease, Pool, PoolClient, PoolHandle, PoolOptions};
use waterwheel::udp::{
    DatagramHandler, DatagramSocket, Session, SessionHandler, SessionOptions, Sessions, UdpOptions,
};
#[cfg(unix)]
use waterwheel::unix::{UnixAddr, UnixDatagramHandler, UnixDatagramOptions, UnixDatagramSocket};
use waterwheel::{Conn, Context, Reactor, Timer, TimerHandler, TimerId};

#[cfg(unix)]
use crate::support::scratch_path;
use crate::support::{Rig, Script, patiently};

const MS: Duration = Duration::from_millis(1);

/// What fired: of which callback, and the timer.
type Fired = Rc<RefCell<Vec<(&'static str, Timer)>>>;

/// Notes its timers, whatever it is a handler of.
#[derive(Clone, Default)]
struct Noting(Fired);

impl Noting {
    fn note(&self, callback: &'static str, timer: Timer) {
        self.0.borrow_mut().push((callback, timer));
    }

    /// What has fired of a callback, as ids with tokens.
    fn of(&self, callback: &str) -> Vec<(TimerId, u64)> {
        let fired = self.0.borrow();
        let of_it = fired.iter().filter(|(its, _)| *its == callback);
        of_it.map(|(_, timer)| (timer.id, timer.token)).collect()
    }

    /// Turns until three timers of a callback have fired: one that fires once, and twice one that
    /// goes on. A third was cancelled.
    #[track_caller]
    fn expect(&self, reactor: &mut Reactor, callback: &str, [once, again]: [TimerId; 2]) {
        patiently(callback, || {
            reactor.run_once(Some(MS)).unwrap();
            (self.of(callback).len() >= 3).then_some(())
        });
        let fired = self.of(callback);
        assert_eq!(fired.iter().filter(|fired| **fired == (once, u64::MAX)).count(), 1);
        let periodic = fired.iter().filter(|fired| **fired == (again, 7)).count();
        assert_eq!(periodic, fired.len() - 1, "{fired:?}");
    }
}

/// Sets a timer that fires once, with the largest token, one that goes on, with 7, and one that
/// is taken back.
macro_rules! set_timers {
    ($on:expr $(, $service:expr)?) => {{
        let once = $on.set_timer($($service,)? 2 * MS, u64::MAX);
        let again = $on.set_periodic_timer($($service,)? 3 * MS, 7);
        let never = $on.set_timer($($service,)? MS, 9);
        assert!($on.cancel_timer(never));
        [once, again]
    }};
}

#[test]
fn a_token_comes_back_to_a_connection_and_to_its_handler() {
    let noting = Noting::default();
    let (one, two) = (noting.clone(), noting.clone());
    let handler = Script::new()
        .timer(move |_, timer| one.note("on_timer", timer))
        .handler_timer(move |timer, _| two.note("on_handler_timer", timer));
    let mut rig = Rig::new(handler);
    let (_client, id) = rig.client();
    let mut cx = rig.reactor.context();
    let timers = set_timers!(cx.conn(id).unwrap());
    noting.expect(&mut rig.reactor, "on_timer", timers);
    let timers = set_timers!(rig.reactor.context(), rig.service);
    noting.expect(&mut rig.reactor, "on_handler_timer", timers);
    let once = rig.reactor.set_timer(rig.service, MS, 1);
    let again = rig.reactor.set_periodic_timer(rig.service, MS, 2);
    rig.until("those of the reactor", |_| {
        let fired = noting.of("on_handler_timer");
        fired.contains(&(once, 1)) && fired.contains(&(again, 2))
    });
}

#[test]
fn a_timer_that_a_callback_takes_back_comes_with_its_token_for_the_last_time() {
    let noting = Noting::default();
    let noted = noting.clone();
    let mut rig = Rig::new(Script::new().timer(move |conn, timer| {
        noted.note("on_timer", timer);
        assert_eq!(conn.cancel_timer(timer.id), timer.token == 7);
    }));
    let (_client, id) = rig.client();
    let [once, again] = set_timers!(rig.reactor.context().conn(id).unwrap());
    rig.until("both", |_| noting.of("on_timer").len() == 2);
    std::thread::sleep(7 * MS);
    rig.expect_quiet();
    let mut fired = noting.of("on_timer");
    fired.sort_unstable_by_key(|&(_, token)| token);
    assert_eq!(fired, [(again, 7), (once, u64::MAX)]);
}

impl DatagramHandler for Noting {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: SocketAddr, _: &[u8]) {}

    fn on_timer(&mut self, _: &mut DatagramSocket<'_>, timer: Timer) {
        self.note("on_timer", timer);
    }
}

impl TimerHandler for Noting {
    fn on_handler_timer(&mut self, timer: Timer, _: &mut Context<'_>) {
        self.note("on_handler_timer", timer);
    }
}

impl SessionHandler for Noting {
    type State = ();

    fn on_session(&mut self, _: SocketAddr, _: &[u8]) -> Option<()> {
        None
    }

    fn on_datagram(&mut self, (): &mut (), _: &mut Session<'_>, _: &[u8]) {}

    fn on_timer(&mut self, _: &mut Sessions<()>, _: &mut DatagramSocket<'_>, timer: Timer) {
        self.note("on_timer", timer);
    }
}

#[test]
fn a_token_comes_back_to_handlers_of_datagrams_and_of_sessions() {
    for has_sessions in [false, true] {
        let (noting, mut reactor) = (Noting::default(), Reactor::new().unwrap());
        let service = reactor.register(noting.clone());
        let (addr, options) = ("127.0.0.1:0", UdpOptions::default());
        let (id, _) = match has_sessions {
            true => reactor.bind_sessions(addr, service, SessionOptions::default(), options),
            false => reactor.bind_udp(addr, service, options),
        }
        .unwrap();
        let mut cx = reactor.context();
        let timers = set_timers!(cx.socket(id).unwrap());
        noting.expect(&mut reactor, "on_timer", timers);
        let timers = set_timers!(reactor.context(), service);
        noting.expect(&mut reactor, "on_handler_timer", timers);
    }
}

#[cfg(unix)]
impl UnixDatagramHandler for Noting {
    fn on_datagram(&mut self, _: &mut UnixDatagramSocket<'_>, _: Option<&UnixAddr>, _: &[u8]) {}

    fn on_timer(&mut self, _: &mut UnixDatagramSocket<'_>, timer: Timer) {
        self.note("on_timer", timer);
    }
}

#[cfg(unix)]
#[test]
fn a_token_comes_back_to_handlers_of_unix_datagrams() {
    let (noting, mut reactor) = (Noting::default(), Reactor::new().unwrap());
    let service = reactor.register(noting.clone());
    let options = UnixDatagramOptions::default();
    let id = reactor.bind_unix_datagrams(scratch_path(), service, options).unwrap();
    let mut cx = reactor.context();
    let timers = set_timers!(cx.unix_socket(id).unwrap());
    noting.expect(&mut reactor, "on_timer", timers);
    let timers = set_timers!(reactor.context(), service);
    noting.expect(&mut reactor, "on_handler_timer", timers);
}

/// Borrows a connection and sets timers of it.
struct Borrower {
    noting: Noting,
    set: Rc<Cell<Option<[TimerId; 2]>>>,
}

impl PoolClient for Borrower {
    type State = Option<Lease>;
    type Ticket = ();

    fn on_acquired(
        &mut self,
        state: &mut Option<Lease>,
        conn: &mut Conn<'_>,
        lease: Lease,
        (): (),
        _: &mut PoolHandle<Self>,
    ) {
        *state = Some(lease);
        self.set.set(Some(set_timers!(conn)));
    }

    fn on_data(
        &mut self,
        _: &mut Option<Lease>,
        _: &mut Conn<'_>,
        input: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        input.len()
    }

    fn on_timer(
        &mut self,
        _: &mut Option<Lease>,
        _: &mut Conn<'_>,
        timer: Timer,
        _: &mut PoolHandle<Self>,
    ) {
        self.noting.note("on_timer", timer);
    }

    fn on_refused(
        &mut self,
        (): (),
        error: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        panic!("{error}");
    }

    fn on_handler_timer(&mut self, timer: Timer, _: &mut PoolHandle<Self>, _: &mut Context<'_>) {
        self.noting.note("on_handler_timer", timer);
    }
}

#[test]
fn a_token_comes_back_to_the_client_of_a_pool() {
    let (noting, set) = (Noting::default(), Rc::default());
    let (mut reactor, listener) = (Reactor::new().unwrap(), TcpListener::bind("127.0.0.1:0"));
    let to = listener.as_ref().unwrap().local_addr().unwrap();
    let client = Borrower { noting: noting.clone(), set: Rc::clone(&set) };
    let pool = Pool::register(&mut reactor, client, to, PoolOptions::default()).unwrap();
    reactor.context().post(pool, |pool, cx| assert!(pool.request((), cx).is_some()));
    patiently("a lease", || {
        reactor.run_once(Some(MS)).unwrap();
        set.get().map(drop)
    });
    noting.expect(&mut reactor, "on_timer", set.get().unwrap());
    let timers = set_timers!(reactor.context(), pool);
    noting.expect(&mut reactor, "on_handler_timer", timers);
}
