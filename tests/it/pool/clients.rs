//! Clients and pools where something ends, panics or comes late in the middle of something else.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};
use waterwheel::pool::{AcquireError, Handshake, Lease, Pool, PoolClient, PoolHandle, PoolOptions};
use waterwheel::{
    Closed, Conn, ConnectOptions, Context, DeadlineKind, Handler, HandlerKey, Limits, OnPanic,
    Peer, Reactor, ReactorOptions, Reconnect, Timer, TimerHandler,
};
#[cfg(feature = "proxy-protocol")]
use waterwheel::{
    ListenOptions,
    fleet::{Balance, Fleet, FleetOptions, Spread},
    proxy_protocol::ProxyProtocol,
};

const MS: Duration = Duration::from_millis(1);

fn turns(reactor: &mut Reactor, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until && reactor.run_once(Some(MS)).unwrap() {}
}

/// A connection that is over before its handler has its state.
fn begin_and_end<H: Handler>(cx: &mut Context<'_>, service: HandlerKey<H>, state: H::State) {
    let id = cx.connect("127.0.0.1:1", service, state, &ConnectOptions::default());
    cx.conn(id).unwrap().abort();
}

#[derive(Default)]
struct Lost {
    me: Option<HandlerKey<Lost>>,
    failed: Rc<RefCell<Vec<u32>>>,
}
impl Handler for Lost {
    type State = u32;
    fn on_accept(&mut self, _: &Peer) -> Option<u32> {
        None
    }
    fn on_data(&mut self, _: &mut u32, _: &mut Conn<'_>, i: &[u8]) -> usize {
        i.len()
    }
    fn on_connect_failed(&mut self, state: u32, _: io::Error, cx: &mut Context<'_>) {
        self.failed.borrow_mut().push(state);
        if state == 1 {
            begin_and_end(cx, self.me.unwrap(), 3);
        }
    }
}
#[test]
fn a_state_is_given_back_when_stopping() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let failed = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::new().unwrap();
    let me = reactor.register_with(|s| Lost { me: Some(s), failed: Rc::clone(&failed) });
    let options = ConnectOptions::default();
    reactor.context().connect(addr, me, 1, &options);
    reactor.context().connect(addr, me, 2, &options.clone().timeout(Duration::ZERO)); // at once
    drop(reactor);
    let mut failed = failed.borrow().clone();
    failed.sort();
    assert_eq!(failed, [1, 2, 3]);
}

thread_local! { static BOMBS: Cell<u32> = const { Cell::new(0) }; }
#[derive(Default)]
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        let left = BOMBS.get();
        if left > 0 && !std::thread::panicking() {
            BOMBS.set(left - 1);
            panic!("bomb")
        }
    }
}
#[derive(Default)]
struct Keeps {
    leases: Vec<Lease>,
    refused: Vec<String>,
    hold: bool,
    deadline: bool,
    lost: Vec<String>,
    got: usize,
}
impl PoolClient for Keeps {
    type State = Bomb;
    type Ticket = u32;
    fn on_acquired(
        &mut self,
        _: &mut Bomb,
        conn: &mut Conn<'_>,
        lease: Lease,
        _: u32,
        _: &mut PoolHandle<Self>,
    ) {
        self.got += 1;
        if std::mem::take(&mut self.deadline) {
            conn.set_deadline(DeadlineKind::User, Some(100 * MS));
        }
        if self.hold {
            self.leases.push(lease)
        }
    }
    fn on_data(
        &mut self,
        _: &mut Bomb,
        _: &mut Conn<'_>,
        i: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        i.len()
    }
    fn on_lost(&mut self, _: Bomb, c: Closed, _: &mut PoolHandle<Self>, _: &mut Context<'_>) {
        self.lost.push(c.reason.to_string())
    }
    fn on_refused(
        &mut self,
        _: u32,
        e: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        self.refused.push(e.to_string())
    }
}
fn pool(options: PoolOptions) -> (Reactor, HandlerKey<Pool<Keeps>>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let survives = ReactorOptions::default().on_panic(OnPanic::CloseConnection);
    let mut reactor = Reactor::with_options(survives).unwrap();
    let addr = listener.local_addr().unwrap();
    let pool = Pool::register(&mut reactor, Keeps::default(), addr, options).unwrap();
    (reactor, pool, listener)
}
fn ask(reactor: &mut Reactor, pool: HandlerKey<Pool<Keeps>>, n: u32) {
    reactor.context().post(pool, move |pool, cx| {
        pool.request(n, cx);
    });
}
#[test]
fn leases_survive_the_drop_of_a_state_that_panics() {
    let options = PoolOptions::default()
        .max_open(2)
        .idle_timeout(None)
        .lifetime(None)
        .acquire_timeout(Some(500 * MS));
    let (mut reactor, pool, _l) = pool(options);
    reactor.handler_mut(pool).unwrap().client_mut().hold = true;
    ask(&mut reactor, pool, 1);
    ask(&mut reactor, pool, 2);
    turns(&mut reactor, 100 * MS);
    let client = reactor.handler_mut(pool).unwrap().client_mut();
    assert_eq!(client.leases.len(), 2);
    let second = client.leases.pop().unwrap();
    let first = client.leases.pop().unwrap();
    client.hold = false;
    BOMBS.set(1);
    first.discard();
    drop(second);
    ask(&mut reactor, pool, 3);
    turns(&mut reactor, 300 * MS);
    ask(&mut reactor, pool, 4);
    turns(&mut reactor, 300 * MS);
    let stats = reactor.handler_mut(pool).unwrap().stats();
    assert_eq!(stats.leased, 0, "{stats:?}");
}
#[test]
fn idle_connections_grow_old_after_a_state_s_drop_has_panicked() {
    let options = PoolOptions::default().max_open(3).idle_timeout(Some(100 * MS)).lifetime(None);
    let (mut reactor, pool, _l) = pool(options);
    reactor.handler_mut(pool).unwrap().client_mut().hold = true;
    for n in 0..3 {
        ask(&mut reactor, pool, n)
    }
    turns(&mut reactor, 50 * MS);
    reactor.handler_mut(pool).unwrap().client_mut().leases.clear();
    BOMBS.set(1);
    turns(&mut reactor, 1500 * MS);
    let stats = reactor.handler_mut(pool).unwrap().stats();
    assert_eq!((stats.idle, stats.leased), (0, 0), "{stats:?}");
}
#[test]
fn a_deadline_of_the_last_borrower_does_not_hit_the_next() {
    let options = PoolOptions::default().max_open(1);
    let (mut reactor, pool, _l) = pool(options);
    reactor.handler_mut(pool).unwrap().client_mut().deadline = true;
    ask(&mut reactor, pool, 1);
    turns(&mut reactor, 50 * MS);
    assert_eq!(reactor.handler_mut(pool).unwrap().client_mut().got, 1);
    reactor.handler_mut(pool).unwrap().client_mut().hold = true;
    ask(&mut reactor, pool, 2);
    turns(&mut reactor, 300 * MS);
    let client = reactor.handler_mut(pool).unwrap().client_mut();
    assert_eq!(client.lost, Vec::<String>::new());
}

struct Cli {
    log: Vec<String>,
}
impl Handler for Cli {
    type State = u32;
    fn on_accept(&mut self, _: &Peer) -> Option<u32> {
        None
    }
    fn on_open(&mut self, _: &mut u32, _: &mut Conn<'_>) {
        self.log.push("open".into())
    }
    fn on_data(&mut self, _: &mut u32, _: &mut Conn<'_>, i: &[u8]) -> usize {
        i.len()
    }
    fn on_close(&mut self, _: u32, closed: Closed, _: &mut Context<'_>) {
        self.log.push(format!("close {}", closed.reason));
    }
    fn on_connect_failed(&mut self, _: u32, e: io::Error, _: &mut Context<'_>) {
        self.log.push(format!("failed {e}"))
    }
}
fn cli(reactor: &mut Reactor) -> HandlerKey<Cli> {
    reactor.register(Cli { log: vec![] })
}
fn often() -> ConnectOptions {
    ConnectOptions::default()
        .reconnect(Some(Reconnect::default().base_delay(MS).max_delay(2 * MS).max_attempts(None)))
}
#[test]
fn a_close_ends_a_connection_that_never_comes_up() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // nobody
    let mut reactor = Reactor::new().unwrap();
    let me = cli(&mut reactor);
    let options = often().limits(Limits::default().close_timeout(50 * MS));
    let id = reactor.context().connect(addr, me, 1, &options);
    let mut cx = reactor.context();
    let mut conn = cx.conn(id).unwrap();
    conn.write(b"x");
    conn.close();
    turns(&mut reactor, 1_000 * MS);
    let retries = reactor.stats().connect_retries;
    assert!(!reactor.handler_mut(me).unwrap().log.is_empty(), "{retries} tries since the close");
}

#[test]
fn posted_closures_whose_drop_panics_do_not_abort() {
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            panic!("mine")
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let me = cli(&mut reactor);
    let mine = Mine;
    reactor.context().post(me, move |_, _| {
        let _ = &mine;
    });
    let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(reactor)));
    assert!(r.is_ok(), "dropping the reactor panics");
}

struct Lost2 {
    me: Option<HandlerKey<Lost2>>,
    failed: Rc<RefCell<Vec<(u32, String)>>>,
    addr: SocketAddr,
}
impl Handler for Lost2 {
    type State = u32;
    fn on_accept(&mut self, _: &Peer) -> Option<u32> {
        None
    }
    fn on_data(&mut self, _: &mut u32, _: &mut Conn<'_>, i: &[u8]) -> usize {
        i.len()
    }
    fn on_connect_failed(&mut self, state: u32, e: io::Error, cx: &mut Context<'_>) {
        self.failed.borrow_mut().push((state, e.to_string()));
        let options = ConnectOptions::default();
        if state == 1 {
            begin_and_end(cx, self.me.unwrap(), 3);
        }
        if state == 2 {
            cx.connect(self.addr, self.me.unwrap(), 4, &options);
        }
    }
}
#[test]
fn a_state_is_not_given_to_another_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let failed = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::new().unwrap();
    let me = reactor.register_with(|s| Lost2 { me: Some(s), failed: Rc::clone(&failed), addr });
    let options = ConnectOptions::default();
    let bad = options.clone().timeout(Duration::ZERO);
    reactor.context().connect(addr, me, 1, &options);
    reactor.context().connect(addr, me, 2, &bad);
    reactor.context().connect(addr, me, 5, &bad);
    drop(reactor);
    let failed = failed.borrow();
    let of = |state: u32| failed.iter().find(|(s, _)| *s == state).map(|(_, e)| e.clone());
    assert!(of(4).is_some() && of(3).unwrap().contains("closed before it was up"), "{failed:?}");
}

struct Slow;
impl TimerHandler for Slow {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {
        std::thread::sleep(400 * MS)
    }
}
#[cfg(feature = "proxy-protocol")]
#[test]
fn a_header_that_came_in_time_beats_its_deadline() {
    use std::io::Write;
    let mut reactor = Reactor::with_options(ReactorOptions::default().events_per_turn(1)).unwrap();
    let slow = reactor.register(Slow);
    let proxy = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap().header_timeout(200 * MS);
    let takes = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let addr = reactor
        .listen("127.0.0.1:0", takes, ListenOptions::default().proxy_protocol(Some(proxy)))
        .unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    turns(&mut reactor, 50 * MS);
    reactor.set_timer(slow, 2 * MS, 0);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(50 * MS); // while the callback sleeps, 100 ms before the deadline
        for client in &mut clients {
            client.write_all(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n").unwrap();
        }
        clients
    });
    turns(&mut reactor, 800 * MS);
    let _clients = writer.join().unwrap();
    let stats = reactor.stats();
    assert_eq!((stats.accepted, stats.proxy_refused), (4, 0));
}

#[test]
fn a_connect_that_is_up_in_time_beats_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut reactor = Reactor::with_options(ReactorOptions::default().events_per_turn(1)).unwrap();
    let slow = reactor.register(Slow);
    let me = cli(&mut reactor);
    reactor.context().post(slow, move |_, cx| {
        for _ in 0..3 {
            cx.connect(addr, me, 1, &ConnectOptions::default().timeout(200 * MS));
        }
        for _ in 0..3 {
            cx.connect(vec![addr, addr], me, 1, &ConnectOptions::default().timeout(200 * MS));
        }
        std::thread::sleep(400 * MS);
    });
    turns(&mut reactor, 800 * MS);
    let log = reactor.handler_mut(me).unwrap().log.clone();
    assert_eq!(log.iter().filter(|l| *l == "open").count(), 6, "{log:?}");
}

#[derive(Default)]
struct Stash {
    stash: Option<Lease>,
    refused: u32,
}
impl PoolClient for Stash {
    type State = Option<Lease>;
    type Ticket = u32;
    fn on_connected(&mut self, state: &mut Option<Lease>, _: &mut Conn<'_>) -> Handshake {
        match self.stash.take() {
            None => Handshake::Done,
            lease => {
                *state = lease;
                Handshake::Pending
            }
        }
    }
    fn on_acquired(
        &mut self,
        _: &mut Option<Lease>,
        _: &mut Conn<'_>,
        lease: Lease,
        _: u32,
        _: &mut PoolHandle<Self>,
    ) {
        self.stash = Some(lease)
    }
    fn on_data(
        &mut self,
        _: &mut Option<Lease>,
        _: &mut Conn<'_>,
        i: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        i.len()
    }
    fn on_refused(
        &mut self,
        _: u32,
        _: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        self.refused += 1
    }
}
#[test]
fn a_lease_in_a_state_comes_back_when_the_handshake_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let pool = Pool::register(
        &mut reactor,
        Stash::default(),
        listener.local_addr().unwrap(),
        PoolOptions::default().max_open(2),
    )
    .unwrap();
    for n in 0..2 {
        reactor.context().post(pool, move |pool: &mut Pool<Stash>, cx| {
            pool.request(n, cx);
        });
        turns(&mut reactor, 50 * MS);
    }
    reactor
        .context()
        .post(pool, |pool: &mut Pool<Stash>, cx| pool.enter(cx, |_, desk, _| desk.close()));
    turns(&mut reactor, 500 * MS);
    let stats = reactor.handler_mut(pool).unwrap().stats();
    assert_eq!(stats.leased, 0, "{stats:?}");
}
#[cfg(feature = "proxy-protocol")]
struct Px {
    me: usize,
}
#[cfg(feature = "proxy-protocol")]
impl Handler for Px {
    type State = ();
    fn on_accept(&mut self, p: &Peer) -> Option<()> {
        let _ = self.me;
        match p.addr.port() % 4 {
            0 => panic!("as asked"),
            1 => None,
            _ => Some(()),
        }
    }
    fn on_open(&mut self, _: &mut (), c: &mut Conn<'_>) {
        if c.peer_addr().port() % 4 == 2 {
            panic!("open")
        }
    }
    fn on_data(&mut self, _: &mut (), c: &mut Conn<'_>, i: &[u8]) -> usize {
        c.write(i);
        i.len()
    }
}
#[cfg(feature = "proxy-protocol")]
#[test]
fn headers_are_read_after_a_hand_over_and_every_client_is_told() {
    use std::io::{Read, Write};
    let addr = std::sync::Arc::new(std::sync::Mutex::new(None));
    let told = std::sync::Arc::clone(&addr);
    let options = FleetOptions::default()
        .threads(Some(2))
        .spread(Spread::HandOver(Balance::LeastConnections))
        .reactor(ReactorOptions::default().on_panic(OnPanic::CloseConnection));
    let fleet = Fleet::new(options)
        .unwrap()
        .start(move |member| {
            let me = member.index();
            let s = member.reactor().register(Px { me });
            let proxy = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap();
            let at = member.listen(
                "127.0.0.1:0",
                s,
                ListenOptions::default().max_per_source(Some(1000)).proxy_protocol(Some(proxy)),
            )?;
            *told.lock().unwrap() = Some(at);
            Ok(())
        })
        .unwrap();
    let addr = addr.lock().unwrap().unwrap();
    let mut kept = vec![];
    for port in 1..=400u32 {
        let mut c = std::net::TcpStream::connect(addr).unwrap();
        c.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        c.write_all(format!("PROXY TCP4 1.2.3.4 5.6.7.8 {port} 2\r\nhello").as_bytes()).unwrap();
        let mut b = [0; 8];
        let r = c.read(&mut b);
        if port % 4 == 3 {
            assert_eq!(r.unwrap(), 5);
            kept.push(c)
        } else {
            assert_eq!(r.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{port}")
        }
    }
    let stats = fleet.stats();
    let each: Vec<u64> = stats.members.iter().map(|m| m.connections).collect();
    assert_eq!(each, [50, 50]);
    let greeting = std::net::TcpStream::connect(addr).unwrap();
    std::thread::sleep(50 * MS);
    fleet.drain(Duration::from_secs(1));
    drop(kept);
    let end = fleet.join();
    drop(greeting);
    let t = end.stats.total;
    assert_eq!((t.connections, t.accepted, t.closed), (0, 200, 200), "{t:?}");
    assert_eq!(t.refused, 201, "{t:?}");
    assert!(end.failures.is_empty());
}
