//! Connects that are tried again: their pauses and their counts, in virtual time.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Faults, HostClock, Script, Seeds, Simulation};
use waterwheel::{
    Closed, Conn, ConnectOptions, ConnectRetry, Context, Destination, Handler, Peer, Reconnect,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a caller has been told.
#[derive(Default)]
struct Told {
    retries: u32,
    opened: u32,
    given_up: u32,
    /// No try begins before this.
    paused_until: Duration,
}

/// Connects, and again where it was lost; sees that no try begins within a pause.
struct Caller {
    clock: HostClock,
    told: Rc<RefCell<Told>>,
}

impl Caller {
    fn expect_no_pause(&self) {
        let (now, until) = (self.clock.now(), self.told.borrow().paused_until);
        assert!(now >= until, "a try at {now:?}, in the pause until {until:?}");
    }
}

impl Handler for Caller {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_open(&mut self, (): &mut (), _: &mut Conn<'_>) {
        self.expect_no_pause();
        self.told.borrow_mut().opened += 1;
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_connect_retry(&mut self, (): &mut (), _: &mut Conn<'_>, retry: &ConnectRetry) {
        self.expect_no_pause();
        self.told.borrow_mut().retries += 1;
        self.told.borrow_mut().paused_until = self.clock.now() + retry.pause;
    }

    fn on_close(&mut self, (): (), closed: Closed, cx: &mut Context<'_>) {
        if cx.reconnect(&closed, ()).is_err() {
            self.told.borrow_mut().given_up += 1;
        }
    }
}

/// Connects from a host of its own, which has been there for `age`; what it is told in a while.
fn call(
    sim: &mut Simulation,
    age: Duration,
    to: impl Into<Destination>,
    options: &ConnectOptions,
) -> io::Result<Rc<RefCell<Told>>> {
    let (host, ()) = sim.host("client", |_| Ok(()))?;
    sim.run(age);
    let told = Rc::<RefCell<Told>>::default();
    let caller = Caller { clock: sim.clock(host), told: Rc::clone(&told) };
    sim.with(host, |reactor| {
        let caller = reactor.register(caller);
        reactor.connect(to, caller, (), options);
    });
    sim.run(600 * SECOND);
    Ok(told)
}

/// Tries for ever, with pauses of up to 20 seconds.
fn patient() -> ConnectOptions {
    let pause = 20 * SECOND;
    let reconnect = Reconnect::default().base_delay(pause).max_delay(pause).max_attempts(None);
    ConnectOptions::default().reconnect(Some(reconnect))
}

/// The time to connect is that of one try: it does not run on in the pause after it.
#[test]
fn a_try_that_has_failed_does_not_fail_again_in_its_pause() {
    let options = patient().timeout(SECOND);
    let nobody = SocketAddr::from(([10, 9, 9, 9], 1));
    Seeds::new(20).faults(Faults::none()).run(|sim| {
        let told = call(sim, Duration::ZERO, nobody, &options)?;
        let retries = told.borrow().retries;
        assert!(retries > 20, "{retries} tries in ten minutes");
        Ok(())
    });
}

#[test]
fn an_answer_of_the_resolver_that_comes_in_a_pause_begins_no_try() {
    let options = patient().timeout(10 * MILLISECOND); // a lookup takes up to 50
    let (late, opened) = (RefCell::new(0), RefCell::new(0));
    let run = |seed| -> io::Result<()> {
        let mut sim = Simulation::new(seed, Faults::none());
        let addr = sim.listening_peer(8, Script::new());
        sim.name("db.example", &[addr.ip()]);
        let to = format!("db.example:{}", addr.port());
        let told = call(&mut sim, Duration::ZERO, to, &options)?;
        *late.borrow_mut() += told.borrow().retries;
        *opened.borrow_mut() += told.borrow().opened;
        Ok(())
    };
    (0..50).for_each(|seed| run(seed).unwrap());
    let (late, opened) = (late.into_inner(), opened.into_inner());
    assert!(late > 10 && opened > 10, "{late} late, {opened} opened");
}

/// Whether a connection has lasted is counted from when it came up, however old the reactor is.
#[test]
fn connections_that_are_lost_at_once_come_to_an_end() {
    let reconnect = Reconnect::default()
        .base_delay(100 * MILLISECOND)
        .max_delay(10 * SECOND)
        .max_attempts(Some(4));
    let options = ConnectOptions::default().reconnect(Some(reconnect));
    for age in [Duration::ZERO, 100 * SECOND] {
        let mut sim = Simulation::new(0, Faults::none());
        let addr = sim.listening_peer(8, Script::new().close());
        let told = call(&mut sim, age, addr, &options).unwrap();
        let (opened, given_up) = (told.borrow().opened, told.borrow().given_up);
        assert_eq!((opened, given_up), (4, 1), "after {age:?}");
    }
}
