//! The times of a pool behind a callback that has held the loop up, as the server sees them.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::pool::{AcquireError, Handshake, Lease, Pool, PoolClient, PoolHandle, PoolOptions};
use waterwheel::sim::{Faults, HostClock, Simulation};
use waterwheel::{Closed, Conn, Context, Handler, ListenOptions, Peer, Timer};

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long the client works when a connection is up.
const WORK: Duration = Duration::from_millis(90);

type Clock = Rc<RefCell<Option<HostClock>>>;

/// When connections began and ended. The server accepts one behind the work of the client.
type Seen = Rc<RefCell<Vec<(Duration, Option<Duration>)>>>;

/// Works when a connection is up, whose handshake then fails if that is wanted. Borrows one now and
/// then, if it is to.
struct Worker {
    clock: Clock,
    work: Duration,
    fails: bool,
    borrows: bool,
}

impl PoolClient for Worker {
    type State = ();
    type Ticket = ();

    fn on_connected(&mut self, (): &mut (), _: &mut Conn<'_>) -> Handshake {
        self.clock.borrow().as_ref().expect("it is set").spend(self.work);
        if self.fails { Handshake::Failed(io::Error::other("not wanted")) } else { Handshake::Done }
    }

    fn on_acquired(
        &mut self,
        (): &mut (),
        _: &mut Conn<'_>,
        _: Lease,
        (): (),
        _: &mut PoolHandle<Self>,
    ) {
    }

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Conn<'_>,
        input: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        input.len()
    }

    fn on_refused(
        &mut self,
        (): (),
        _: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
    }

    fn on_handler_timer(&mut self, _: Timer, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        if self.borrows {
            drop(desk.try_acquire(cx));
        }
    }
}

/// Ends each connection after a while, if it is to.
struct Server {
    clock: Clock,
    ends_after: Option<Duration>,
    seen: Seen,
}

impl Server {
    fn now(&self) -> Duration {
        self.clock.borrow().as_ref().expect("it is set").now()
    }
}

impl Handler for Server {
    type State = usize;

    fn on_accept(&mut self, _: &Peer) -> Option<usize> {
        let now = self.now();
        self.seen.borrow_mut().push((now, None));
        Some(self.seen.borrow().len() - 1)
    }

    fn on_open(&mut self, _: &mut usize, conn: &mut Conn<'_>) {
        if let Some(wait) = self.ends_after {
            conn.set_timer(wait, 0);
        }
    }

    fn on_data(&mut self, _: &mut usize, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_timer(&mut self, _: &mut usize, conn: &mut Conn<'_>, _: Timer) {
        conn.abort();
    }

    fn on_close(&mut self, number: usize, _: Closed, _: &mut Context<'_>) {
        let now = self.now();
        self.seen.borrow_mut()[number].1 = Some(now);
    }
}

/// What a server sees of a pool that keeps one connection idle.
fn seen(
    work: Duration,
    fails: bool,
    ends_after: Option<Duration>,
    options: PoolOptions,
) -> Vec<(Duration, Option<Duration>)> {
    let mut sim = Simulation::new(0, Faults::none());
    sim.allow_unfinished();
    let (seen, clocks) = (Seen::default(), [Clock::default(), Clock::default()]);
    let server = Server { clock: Rc::clone(&clocks[0]), ends_after, seen: Rc::clone(&seen) };
    let (server, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(server);
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default())
        })
        .unwrap();
    *clocks[0].borrow_mut() = Some(sim.clock(server));
    let borrows = options.lifetime.is_some();
    let client = Worker { clock: Rc::clone(&clocks[1]), work, fails, borrows };
    let (host, _) = sim
        .host("pool", |reactor| {
            let options = options.min_idle(1).max_open(1).seed(Some(7));
            let pool = Pool::register(reactor, client, addr, options)?;
            // It looks often at what is to be done.
            reactor.set_periodic_timer(pool, 2 * MILLISECOND, 0);
            Ok(pool)
        })
        .unwrap();
    *clocks[1].borrow_mut() = Some(sim.clock(host));
    sim.run(Duration::from_secs(5));
    seen.borrow().clone()
}

/// How long it took from the first connection to the second, without the time that is given.
fn gap(seen: &[(Duration, Option<Duration>)], without: Duration) -> Duration {
    (seen[1].0 - seen[0].0).saturating_sub(without)
}

fn options(delay: Duration) -> PoolOptions {
    // The life of each would be shortened by chance, and each wait be another by that.
    PoolOptions::default().retry_base_delay(delay).retry_max_delay(delay).lifetime(None)
}

#[test]
fn a_dial_that_failed_is_followed_by_its_whole_wait() {
    let delay = Duration::from_millis(80);
    let options = || options(delay);
    let wait = gap(&seen(Duration::ZERO, true, None, options()), Duration::ZERO);
    assert!(wait > 20 * MILLISECOND && wait < delay, "{wait:?}, by the seed");
    let worked = gap(&seen(WORK, true, None, options()), WORK);
    assert!(worked + MILLISECOND >= wait, "{worked:?} instead of {wait:?}");
    assert!(worked <= wait + 3 * MILLISECOND, "{worked:?} instead of {wait:?}");
}

#[test]
fn a_connection_lives_its_whole_life() {
    let life = Duration::from_millis(300);
    let options = || PoolOptions::default().lifetime(Some(life));
    for work in [Duration::ZERO, WORK] {
        let seen = seen(work, false, None, options());
        let (began, ended) = seen[0];
        let lived = ended.expect("it was too old") - began;
        assert!(lived >= life * 9 / 10, "{lived:?} of {life:?}");
        assert!(lived <= life + 5 * MILLISECOND, "{lived:?} of {life:?}");
    }
}

/// A server that accepts and resets is not dialled without a pause.
#[test]
fn a_connection_is_as_young_as_it_is_behind_work() {
    let delay = Duration::from_millis(80);
    let options = || options(delay);
    let short = Duration::from_millis(20);
    let wait = gap(&seen(Duration::ZERO, false, Some(short), options()), short);
    assert!(wait > 20 * MILLISECOND && wait < delay, "{wait:?}, by the seed");
    let worked = gap(&seen(WORK, false, Some(short), options()), WORK + short);
    assert!(worked + MILLISECOND >= wait, "{worked:?} instead of {wait:?}");
}
