//! The pool in a simulated world: a random client and a moody server under every fault, with the
//! books compared after every step.

mod model;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use model::{Books, Holder, Model, Moody};
use waterwheel::pool::{IdleOrder, Pool, PoolOptions};
use waterwheel::sim::{Dice, Faults, HostId, Seeds, Simulation};
use waterwheel::{ConnectOptions, HandlerKey, Limits, ListenOptions};

/// What the runs of a test came to, so that none of it is left out.
#[derive(Debug, Default)]
struct Seen {
    at_once: u64,
    after_a_wait: u64,
    refused: u64,
    lost: u64,
    cancelled: u64,
    timed_out: u64,
    failed_dials: u64,
    reused: u64,
    evicted: [u64; 8],
}

impl Seen {
    fn add(&mut self, books: &Books) {
        let stats = books.stats;
        self.at_once += books.at_once;
        self.after_a_wait += books.after_a_wait;
        self.refused += stats.refused;
        self.lost += stats.lost;
        self.cancelled += stats.cancelled;
        self.timed_out += stats.timed_out;
        self.failed_dials += stats.failed_dials;
        self.reused += stats.reused;
        let evicted = stats.evicted;
        let counts = [
            evicted.idle_timeout,
            evicted.lifetime,
            evicted.surplus,
            evicted.peer,
            evicted.stray,
            evicted.dirty,
            evicted.discarded,
            evicted.shutdown,
        ];
        for (sum, count) in self.evicted.iter_mut().zip(counts) {
            *sum += count;
        }
    }

    fn expect_all(&self) {
        let Self { at_once, after_a_wait, refused, lost, cancelled, timed_out, .. } = *self;
        let Self { failed_dials, reused, .. } = *self;
        let counts =
            [at_once, after_a_wait, refused, lost, cancelled, timed_out, failed_dials, reused];
        assert!(counts.iter().chain(&self.evicted).all(|&count| count > 0), "{self:#?}");
    }
}

/// Seeds of a run in `cargo test`; `POOL_SEEDS` in the environment asks for more.
fn seeds() -> u64 {
    std::env::var("POOL_SEEDS").map_or(500, |text| text.parse().expect("a number of seeds"))
}

#[test]
fn a_random_client_and_a_moody_server_leave_the_books_right() {
    let seen = std::sync::Mutex::new(Seen::default());
    Seeds::new(seeds()).run(|sim| {
        let books = run(sim)?;
        seen.lock().unwrap().add(&books.borrow());
        Ok(())
    });
    println!("{:#?}", seen.lock().unwrap());
    if std::env::var("WATERWHEEL_SEED").is_err() {
        seen.lock().unwrap().expect_all();
    }
}

fn some(dice: &Dice, low: u64, high: u64) -> Option<Duration> {
    dice.one_in(2).then(|| Duration::from_millis(dice.spread(low, high)))
}

fn options(dice: &Dice) -> PoolOptions {
    let most = 1 + dice.spread(1, 8) as usize;
    let most_idle = 1 + dice.below(most as u64) as usize;
    let mut limits = Limits::default()
        .pause_at_high_mark(false)
        .close_timeout(Duration::from_millis(dice.spread(1, 20_000)));
    if dice.one_in(4) {
        limits = limits.all_idle(some(dice, 1, 90_000));
    }
    let least = if dice.one_in(2) { dice.below(1 + most_idle as u64) as usize } else { 0 };
    // What is kept idle is dialled anew whenever it is too old.
    let shortest = if least > 0 { 2_000 } else { 1 };
    PoolOptions::default()
        .max_open(most)
        .max_idle(dice.one_in(2).then_some(most_idle))
        .min_idle(least)
        .idle_timeout(some(dice, shortest, 60_000))
        .lifetime(some(dice, shortest, 120_000))
        .acquire_timeout(some(dice, 1, 60_000))
        .max_waiters(dice.spread(1, 40) as usize - usize::from(dice.one_in(9)))
        .pick(if dice.one_in(2) { IdleOrder::Lifo } else { IdleOrder::Fifo })
        .retry_base_delay(Duration::from_millis(dice.spread(1, 1_000)))
        .retry_max_delay(Duration::from_millis(dice.spread(1_000, 30_000)))
        .seed(Some(dice.below(u64::MAX)))
        .connect(
            ConnectOptions::default()
                .timeout(Duration::from_millis(dice.spread(1, 30_000)))
                .limits(limits),
        )
}

type Shared = Rc<RefCell<Books>>;

/// One run, in four acts: all goes wrong; the world is healed; nobody wants anything any more; the
/// pool is closed, or the reactor drains.
fn run(sim: &mut Simulation) -> io::Result<Shared> {
    let dice = sim.dice();
    let books = Shared::default();
    let greets = dice.one_in(3);
    let (server, (moody, addr)) = sim.host("server", |reactor| {
        let moody = reactor.register(Moody::new(dice.clone()));
        let listen = ListenOptions::default();
        Ok((moody, reactor.listen("0.0.0.0:7000", moody, listen)?))
    })?;
    let options = options(&dice);
    books.borrow_mut().most_open = options.max_open;
    // What an idle limit of the connections ends, or a short timeout, is dialled with pauses.
    let is_limited = options.connect.limits.all_idle.is_some();
    let is_hasty = options.connect.timeout < Duration::from_secs(10);
    let least = if is_limited || is_hasty { 0 } else { options.min_idle };
    let period = Duration::from_millis(dice.spread(1, 2_000));
    let (host, pool) = sim.host("pool", |reactor| {
        let holder = reactor.register_with(|service| Holder::new(service, dice.clone(), &books));
        let model = Model::new(dice.clone(), &books, holder, greets);
        let pool = Pool::register(reactor, model, addr, options)?;
        reactor.set_periodic_timer(pool, period, 0);
        Ok(pool)
    })?;
    sim.run(Duration::from_secs(dice.spread(1, 300)));
    sim.heal();
    sim.with(server, |reactor| reactor.handler_mut(moody).expect("it is there").calm_down());
    sim.run(Duration::from_secs(60));
    settle(sim, host, pool, least, &books);
    match dice.below(3) {
        0 => end_by_closing(sim, host, pool, &books),
        1 => end_by_draining(sim, host, pool),
        _ => {}
    }
    sim.finish();
    let found = books.borrow();
    assert_eq!(found.states.get(), 0, "a state is left");
    assert!(found.queue.is_empty() && found.held.is_empty(), "{found:?}");
    drop(found);
    Ok(books)
}

/// Nobody wants anything any more: all are answered, and what is to be kept is there.
fn settle(
    sim: &mut Simulation,
    host: HostId,
    pool: HandlerKey<Pool<Model>>,
    least: usize,
    books: &Shared,
) {
    books.borrow_mut().is_over = true;
    sim.with(host, |reactor| {
        let mut cx = reactor.context();
        cx.post(pool, |pool, cx| pool.enter(cx, |client, _, _| client.let_all_go()));
    });
    sim.run(Duration::from_secs(900));
    // What was dropped elsewhere may be seen only when the pool next looks.
    sim.with(host, |reactor| {
        reactor.context().post(pool, |pool, cx| pool.enter(cx, |_, _, _| {}));
    });
    sim.run(Duration::from_secs(1));
    sim.with(host, |reactor| {
        let stats = reactor.handler_mut(pool).expect("it is there").stats();
        let books = books.borrow();
        assert!(books.queue.is_empty(), "{:?} wait for ever, {stats:?}", books.queue);
        assert!(books.held.is_empty(), "{:?} are held, {stats:?}", books.held);
        assert_eq!(stats.leased, 0, "a lease is lost");
        // They may just be on their way, if they live for a moment only.
        let is_kept = stats.idle + stats.dialling + stats.closing >= least;
        assert!(is_kept || books.is_closed, "{least} were to be kept, {stats:?}");
        // Only the pool has connections here.
        assert_eq!(reactor.stats().connections, stats.open as u64);
    });
}

fn end_by_closing(
    sim: &mut Simulation,
    host: HostId,
    pool: HandlerKey<Pool<Model>>,
    books: &Shared,
) {
    books.borrow_mut().is_closed = true;
    sim.with(host, |reactor| {
        reactor.context().post(pool, |pool, cx| pool.enter(cx, |_, desk, _| desk.close()));
    });
    sim.run(Duration::from_secs(600));
    sim.with(host, |reactor| {
        let stats = reactor.handler_mut(pool).expect("it is there").stats();
        assert_eq!((stats.open, stats.waiting), (0, 0), "{stats:?}");
        assert_eq!(reactor.stats().connections, 0);
    });
}

fn end_by_draining(sim: &mut Simulation, host: HostId, pool: HandlerKey<Pool<Model>>) {
    sim.with(host, |reactor| {
        reactor.context().drain(Duration::from_secs(60));
    });
    sim.run(Duration::from_secs(600));
    sim.with(host, |reactor| {
        let stats = reactor.handler_mut(pool).expect("it is there").stats();
        assert_eq!((stats.open, stats.waiting), (0, 0), "{stats:?}");
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let hash = |seed| {
        let mut sim = Simulation::new(seed, Faults::all());
        run(&mut sim).unwrap();
        sim.finish();
        sim.hash()
    };
    for seed in 0..10 {
        assert_eq!(hash(seed), hash(seed));
    }
}
