//! The pool against real servers: Redis and nginx, and a network of its own with a hundred ports.
//! What is not installed or not allowed is skipped, and says so.

mod child;

use std::collections::BTreeSet;
use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use child::{Server, free_addr};
use waterwheel::pool::{AcquireError, Acquired, Lease, Pool, PoolClient, PoolHandle, PoolOptions};
use waterwheel::{Closed, Conn, Context, HandlerKey, ListenOptions, Reactor};

/// No test takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether an answer is complete, and how long it is; and whether the server closes behind it.
type Parse = fn(&[u8]) -> Option<(usize, bool)>;

/// Asks the same thing again and again, so many at a time.
struct Asker {
    request: &'static [u8],
    parse: Parse,
    /// Numbers still to be asked.
    left: u64,
    next: u64,
    /// Asked, and not told what came of it.
    open: BTreeSet<u64>,
    answered: u64,
    lost: u64,
    refused: u64,
}

#[derive(Default)]
struct Borrowed {
    lease: Option<Lease>,
    number: u64,
}

impl Asker {
    fn new(request: &'static [u8], parse: Parse) -> Self {
        let open = BTreeSet::new();
        Self { request, parse, left: 0, next: 0, open, answered: 0, lost: 0, refused: 0 }
    }

    fn told(&self) -> u64 {
        self.answered + self.lost + self.refused
    }

    fn ask(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let number = self.next;
        self.next += 1;
        assert!(self.open.insert(number));
        match desk.acquire(number, cx) {
            Acquired::Now(lease, number) => {
                lease.conn(cx).expect("it lives").write(self.request);
                let state = desk.state_mut(&lease).expect("no callback of it runs");
                *state = Borrowed { lease: Some(lease), number };
            }
            Acquired::Waits(_) => {}
            Acquired::Refused(number, error) => panic!("{number}: {error}"),
        }
    }

    #[track_caller]
    fn close(&mut self, number: u64) {
        assert!(self.open.remove(&number), "{number} was told twice");
    }
}

impl PoolClient for Asker {
    type State = Borrowed;
    type Ticket = u64;

    fn on_acquired(
        &mut self,
        state: &mut Borrowed,
        conn: &mut Conn<'_>,
        lease: Lease,
        number: u64,
        _: &mut PoolHandle<Self>,
    ) {
        conn.write(self.request);
        *state = Borrowed { lease: Some(lease), number };
    }

    fn on_data(
        &mut self,
        state: &mut Borrowed,
        conn: &mut Conn<'_>,
        input: &[u8],
        desk: &mut PoolHandle<Self>,
    ) -> usize {
        let Some((len, closes)) = (self.parse)(input) else { return 0 };
        let lease = state.lease.take().expect("it is lent");
        self.close(state.number);
        self.answered += 1;
        if closes {
            lease.discard();
        }
        self.ask(desk, &mut conn.context());
        len
    }

    fn on_lost(
        &mut self,
        state: Borrowed,
        _: Closed,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        self.close(state.number);
        self.lost += 1;
        self.ask(desk, cx);
    }

    fn on_refused(
        &mut self,
        number: u64,
        _: AcquireError,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        self.close(number);
        self.refused += 1;
        self.ask(desk, cx);
    }
}

/// A reactor with a pool of eight.
struct Load {
    reactor: Reactor,
    pool: HandlerKey<Pool<Asker>>,
}

impl Load {
    fn new(addr: SocketAddr, asker: Asker) -> Self {
        Self::in_reactor(Reactor::new().expect("a reactor"), addr, asker)
    }

    fn in_reactor(mut reactor: Reactor, addr: SocketAddr, asker: Asker) -> Self {
        let options = PoolOptions::default().max_open(8);
        let pool = Pool::register(&mut reactor, asker, addr, options).expect("good options");
        Self { reactor, pool }
    }

    fn pool(&mut self) -> &mut Pool<Asker> {
        self.reactor.handler_mut(self.pool).expect("it is registered here")
    }

    fn begin(&mut self, count: u64, width: usize) {
        let pool = self.pool;
        self.reactor.context().post(pool, move |pool, cx| {
            pool.enter(cx, |asker, desk, cx| {
                asker.left += count;
                for _ in 0..width {
                    asker.ask(desk, cx);
                }
            });
        });
    }

    fn turn(&mut self) {
        self.reactor.run_once(Some(Duration::from_millis(1))).expect("turns");
        let stats = self.pool().stats();
        assert!(stats.open <= 8, "{stats:?}");
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Asker) -> bool) {
        let start = Instant::now();
        while !done(self.pool().client()) {
            let stats = self.pool().stats();
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}, {stats:?}");
            self.turn();
        }
    }

    /// Asks so often, and gives how many were answered; everybody is told.
    #[track_caller]
    fn run(&mut self, count: u64) -> u64 {
        let (answered, told) = (self.pool().client().answered, self.pool().client().told());
        self.begin(count, 20);
        self.until("all are told", |asker| asker.told() == told + count);
        assert!(self.pool().client().open.is_empty());
        assert_eq!(self.reactor.stats().panics, 0);
        self.pool().client().answered - answered
    }
}

fn pong(input: &[u8]) -> Option<(usize, bool)> {
    assert!(b"+PONG\r\n".starts_with(input) || input.starts_with(b"+PONG\r\n"));
    input.starts_with(b"+PONG\r\n").then_some((7, false))
}

fn pings() -> Asker {
    Asker::new(b"PING\r\n", pong)
}

fn response(input: &[u8]) -> Option<(usize, bool)> {
    let head = input.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&input[..head]).expect("text");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let is_whole = input[head..].starts_with(b"ok\n");
    is_whole.then_some((head + 3, text.contains("Connection: close")))
}

fn borrow_from_redis(count: u64) {
    let Some(server) = Server::redis(free_addr()) else { return };
    let mut load = Load::new(server.addr, pings());
    let start = Instant::now();
    assert_eq!(load.run(count), count);
    let stats = load.pool().stats();
    println!("{count} borrows in {:?}, {stats:?}", start.elapsed());
    assert_eq!((stats.created, stats.leases, stats.reused), (8, count, count - 8));
    assert_eq!((stats.evicted.total(), stats.idle, stats.open), (0, 8, 8));
}

#[test]
fn redis_is_borrowed_from_over_and_over() {
    borrow_from_redis(50_000);
}

#[test]
#[ignore = "slow in debug: cargo test --release --test process -- --ignored redis"]
fn redis_is_borrowed_from_a_million_times() {
    borrow_from_redis(1_000_000);
}

#[test]
fn nginx_closes_every_hundredth_time_and_nothing_is_lost() {
    let Some(server) = Server::nginx(free_addr()) else { return };
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut load = Load::new(server.addr, Asker::new(request, response));
    assert_eq!(load.run(10_000), 10_000);
    let stats = load.pool().stats();
    assert!(stats.created >= 100, "{stats:?}");
    assert!(stats.evicted.discarded >= 92, "{stats:?}");
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_used_again() {
    let Some(mut server) = Server::redis(free_addr()) else { return };
    let mut load = Load::new(server.addr, pings());
    for round in 0..6 {
        assert_eq!(load.run(500), 500, "round {round}");
        if round % 2 == 1 {
            // In the middle of it: what is under way is lost, and told.
            let told = load.pool().client().told();
            load.begin(2_000, 20);
            load.until("some answers", |asker| asker.told() > told + 50);
            server.kill();
            load.until("all are told", |asker| asker.told() == told + 2_000);
        } else {
            server.kill();
            assert_eq!(load.run(50), 0, "round {round}: nobody is there");
        }
        server = Server::redis(server.addr).expect("it was there before");
    }
    assert_eq!(load.run(500), 500);
    let asker = load.pool().client();
    assert!(asker.lost > 0 && asker.refused > 0);
    assert!(asker.open.is_empty());
}

/// A network of its own, in which a connection may come from one of a hundred ports.
#[test]
fn a_hundred_ports_suffice_for_the_pool_and_for_nobody_else() {
    let set_up = "ip link set lo up && sysctl -q -w net.ipv4.tcp_tw_reuse=0 \
                  net.ipv4.ip_local_port_range='33000 33099' && exec \"$0\" \"$@\"";
    let own = env::current_exe().expect("a path");
    let output = Command::new("unshare")
        .args(["-rn", "sh", "-c", set_up])
        .arg(own)
        .args(["--exact", "pool_servers::with_a_hundred_ports", "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            if !text.contains("running 1 test") {
                let error = String::from_utf8_lossy(&output.stderr);
                return println!("skipped: no network of its own: {}", error.trim());
            }
            assert!(output.status.success(), "{text}");
            println!("{text}");
        }
        Err(error) => println!("skipped: unshare: {error}"),
    }
}

/// Set in the network with a hundred ports.
const INSIDE: &str = "WATERWHEEL_HUNDRED_PORTS";

#[test]
#[ignore = "another test runs it, in a network of its own"]
fn with_a_hundred_ports() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    let mut reactor = Reactor::new().expect("a reactor");
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        let lines = input.iter().filter(|&&byte| byte == b'\n').count();
        for _ in 0..lines {
            conn.write(b"+PONG\r\n");
        }
        input.len()
    });
    let addr = reactor.listen("127.0.0.1:7000", echo, ListenOptions::default()).expect("a port");
    let mut load = Load::in_reactor(reactor, addr, pings());
    assert_eq!(load.run(5_000), 5_000, "the pool");
    let remote = load.reactor.remote();
    let clients = std::thread::spawn(move || {
        let failed = (0..500).filter(|_| ask_anew(addr).is_err()).count();
        remote.stop().expect("it runs");
        failed
    });
    load.reactor.run().expect("runs");
    let failed = clients.join().expect("no panic");
    println!("of 5000 requests through the pool 0 failed, of 500 on connections anew {failed}");
    assert!(failed >= 400, "{failed} of 500 failed on connections of their own");
}

/// One request on a connection of its own, which is closed afterwards.
fn ask_anew(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(b"PING\r\n")?;
    stream.read_exact(&mut [0; 7])
}
