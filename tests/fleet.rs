//! Several reactors that serve the same addresses: how connections spread, how a fleet stops, and
//! what happens when one of its reactors fails.

mod support;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::{Client, End, PATIENCE, patiently};
use waterwheel::{
    AtCapacity, Balance, Conn, Fleet, FleetHandle, FleetOptions, Handler, ListenOptions, Member,
    OnFailure, OnPanic, Peer, Pinning, ReactorOptions, Service, Spread,
};

const HOUR: Duration = Duration::from_secs(3_600);

const SPREADS: [Spread; 5] = [
    Spread::Shared,
    Spread::ReusePort,
    Spread::HandOver(Balance::LeastConnections),
    Spread::HandOver(Balance::RoundRobin),
    Spread::HandOver(Balance::SourceAddress),
];

/// Says which reactor it is in, then echoes; what it reads may make it panic.
struct Tell {
    index: u8,
    /// Who is refused.
    refuses: Option<IpAddr>,
    /// Whether it goes on when the reactor drains.
    lingers: bool,
}

impl Tell {
    fn new(member: &Member<'_>) -> Self {
        Self { index: member.index() as u8, refuses: None, lingers: false }
    }
}

impl Handler for Tell {
    type State = ();

    fn on_accept(&mut self, peer: &Peer) -> Option<()> {
        (self.refuses != Some(peer.addr.ip())).then_some(())
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        conn.write(&[self.index]);
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        assert!(input != b"boom", "on purpose");
        conn.write(input);
        input.len()
    }

    fn on_shutdown(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        if !self.lingers {
            conn.close();
        }
    }
}

/// Ends the fleet when the test is over, also when it has failed.
struct Running {
    fleet: Option<FleetHandle>,
    addr: SocketAddr,
}

impl Running {
    fn fleet(&self) -> &FleetHandle {
        self.fleet.as_ref().unwrap()
    }

    fn connections(&self) -> Vec<u64> {
        self.fleet().stats().members.iter().map(|stats| stats.connections).collect()
    }

    fn accepted(&self) -> Vec<u64> {
        self.fleet().stats().members.iter().map(|stats| stats.accepted).collect()
    }

    /// Which reactor serves a new client.
    fn client(&self) -> (Client, u8) {
        served(Client::connect(self.addr))
    }

    fn stop(mut self) -> waterwheel::FleetEnd {
        let fleet = self.fleet.take().unwrap();
        fleet.stop();
        fleet.join()
    }

    /// Waits for an end that something else has brought about.
    fn join(mut self) -> waterwheel::FleetEnd {
        self.fleet.take().unwrap().join()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(fleet) = self.fleet.take() {
            fleet.stop();
            let _ = fleet.join();
        }
    }
}

#[track_caller]
fn served(mut client: Client) -> (Client, u8) {
    let mut index = [0];
    io::Read::read_exact(&mut client.stream, &mut index).expect("it is served");
    (client, index[0])
}

fn options(threads: usize, spread: Spread) -> FleetOptions {
    FleetOptions::default().threads(Some(threads)).spread(spread)
}

fn start_with(
    options: FleetOptions,
    listen: ListenOptions,
    change: impl Fn(&mut Tell) + Send + Sync + 'static,
) -> Running {
    let (send, receive) = channel();
    let fleet = Fleet::new(options).unwrap();
    let fleet = fleet.start(move |member| {
        let mut tell = Tell::new(member);
        change(&mut tell);
        let service = member.reactor().register(tell);
        let addr = member.listen("127.0.0.1:0", service, listen.clone())?;
        let _ = send.send(addr);
        Ok(())
    });
    let addrs: HashSet<SocketAddr> = receive.iter().collect();
    assert_eq!(addrs.len(), 1, "all listen on the same port");
    Running { fleet: Some(fleet.unwrap()), addr: *addrs.iter().next().unwrap() }
}

fn start(threads: usize, spread: Spread) -> Running {
    start_with(options(threads, spread), ListenOptions::default(), |_| {})
}

fn expect_refused(addr: SocketAddr) {
    let error = TcpStream::connect_timeout(&addr, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// A client that is reset at once may find that out while it still connects.
#[track_caller]
fn expect_reset(addr: SocketAddr) {
    match TcpStream::connect(addr) {
        Ok(stream) => Client::from(stream).expect_end(End::Reset),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

// How connections spread.

#[test]
fn every_spread_serves_and_counts_everybody() {
    for spread in SPREADS {
        let running = start(3, spread);
        let mut clients: Vec<_> = (0..60).map(|_| running.client()).collect();
        let mut counts = [0; 3];
        for (client, index) in &mut clients {
            counts[usize::from(*index)] += 1;
            client.send(b"hello");
            client.expect(b"hello");
        }
        let stats = running.fleet().stats();
        let found: Vec<u64> = stats.members.iter().map(|stats| stats.connections).collect();
        assert_eq!(found, counts, "{spread}");
        assert_eq!((stats.total.accepted, stats.total.connections), (60, 60), "{spread}");
        assert_eq!((stats.total.bytes_read, stats.total.bytes_written), (300, 360), "{spread}");
        let handed = stats.acceptor.map(|stats| (stats.handed_over, stats.accepted));
        let is_handed = matches!(spread, Spread::HandOver(_));
        assert_eq!(handed, is_handed.then_some((60, 0)), "{spread}");
        if spread == Spread::ReusePort {
            // That chance leaves one out: 3 * (2/3)^60.
            assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
        }
        drop(clients);
        let end = running.stop();
        assert!(end.failures.is_empty());
        assert_eq!(end.stats.total.accepted, 60, "{spread}");
    }
}

#[test]
fn one_after_the_other_is_exactly_even() {
    let running = start(3, Spread::HandOver(Balance::RoundRobin));
    let clients: Vec<_> = (0..30).map(|_| running.client()).collect();
    let order: Vec<u8> = clients.iter().map(|(_, index)| *index).collect();
    assert_eq!(order, [0, 1, 2].repeat(10));
    assert_eq!(running.accepted(), [10, 10, 10]);
}

/// Also of those that are accepted in one turn, before any of them has arrived.
#[test]
fn the_fewest_connections_are_even_within_one() {
    let running = start(3, Spread::HandOver(Balance::LeastConnections));
    let clients: Vec<_> = (0..50).map(|_| Client::connect(running.addr)).collect();
    let clients: Vec<_> = clients.into_iter().map(served).collect();
    let mut counts = running.connections();
    counts.sort_unstable();
    assert_eq!(counts, [16, 17, 17]);
    // Those of one reactor go, and the next ones come to it.
    let (gone, mut stay): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(_, at)| *at == 1);
    let count = gone.len();
    drop(gone);
    patiently("they are gone", || (running.connections()[1] == 0).then_some(()));
    let rest = count - 1;
    for _ in 0..rest {
        let (client, index) = running.client();
        assert_eq!(index, 1);
        stay.push((client, index));
    }
}

#[test]
fn an_address_always_comes_to_the_same_reactor() {
    let running = start(3, Spread::HandOver(Balance::SourceAddress));
    let from = |last: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&source.into()).unwrap();
        socket.connect(&running.addr.into()).unwrap();
        served(Client::from(TcpStream::from(socket)))
    };
    let mut found = HashSet::new();
    let mut clients = Vec::new();
    for last in 1..=30 {
        let indexes: HashSet<u8> = (0..4)
            .map(|_| {
                let (client, index) = from(last);
                clients.push(client);
                index
            })
            .collect();
        assert_eq!(indexes.len(), 1, "127.0.0.{last}");
        found.extend(indexes);
    }
    assert_eq!(found.len(), 3, "a reactor has none of 30 addresses");
}

#[test]
fn a_reactor_that_stops_or_drains_is_passed_over() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::SourceAddress] {
        let running =
            start_with(options(3, Spread::HandOver(balance)), ListenOptions::default(), |tell| {
                tell.lingers = true
            });
        let mut clients: Vec<_> = (0..9).map(|_| running.client()).collect();
        let target = clients[0].1; // by address there is only one
        running.fleet().remotes()[usize::from(target)].drain(HOUR).unwrap();
        // It has begun to when it answers in the turn after.
        running.fleet().stats();
        running.fleet().stats();
        for _ in 0..9 {
            let (client, index) = running.client();
            assert_ne!(index, target, "{balance:?}");
            clients.push((client, index));
        }
        // What it has it serves.
        for (client, _) in &mut clients {
            client.send(b"on");
            client.expect(b"on");
        }
        let other = usize::from((target + 1) % 3);
        let stopped = &running.fleet().remotes()[other];
        patiently("its mailbox is closed", || stopped.stop().err());
        for _ in 0..9 {
            let (client, index) = running.client();
            assert!(![usize::from(target), other].contains(&usize::from(index)), "{balance:?}");
            clients.push((client, index));
        }
    }
}

#[test]
fn the_caps_of_a_listener_hold_where_connections_arrive() {
    let listen = ListenOptions::default().max_connections(Some(2));
    let running = start_with(options(2, Spread::HandOver(Balance::RoundRobin)), listen, |_| {});
    let mut clients: Vec<_> = (0..4).map(|_| running.client()).collect();
    for _ in 0..2 {
        expect_reset(running.addr);
    }
    assert_eq!(running.fleet().stats().total.refused, 2);
    // Another place for the one whose turn it is.
    let gone = clients.remove(0);
    drop(gone);
    patiently("it is gone", || (running.connections() == [1, 2]).then_some(()));
    assert_eq!(running.client().1, 0);
}

#[test]
fn the_cap_of_an_address_and_of_a_reactor_hold_too() {
    let listen = ListenOptions::default().max_per_source(Some(1));
    let running = start_with(options(2, Spread::HandOver(Balance::RoundRobin)), listen, |_| {});
    let _clients = [running.client(), running.client()];
    expect_reset(running.addr);

    let reactor = ReactorOptions::default().max_connections(Some(1));
    let capped = options(2, Spread::HandOver(Balance::LeastConnections)).reactor(reactor);
    let running = start_with(capped, ListenOptions::default(), |_| {});
    let _clients = [running.client(), running.client()];
    expect_reset(running.addr);
    let stats = running.fleet().stats();
    assert_eq!((stats.total.accepted, stats.total.refused), (2, 1));
    assert_eq!(stats.acceptor.map(|stats| stats.handed_over), Some(3));
}

#[test]
fn a_handler_refuses_what_was_handed_over_and_the_count_is_right() {
    let local = IpAddr::from([127, 0, 0, 1]);
    let spread = Spread::HandOver(Balance::LeastConnections);
    let running = start_with(options(2, spread), ListenOptions::default(), move |tell| {
        tell.refuses = (tell.index == 0).then_some(local);
    });
    // A refused one has left no trace: else the other would be chosen for ever.
    let mut clients = Vec::new();
    for _ in 0..3 {
        expect_reset(running.addr);
        clients.push(running.client());
        assert_eq!(clients.last().unwrap().1, 1);
        drop(clients.pop());
        patiently("it is gone", || (running.connections() == [0, 0]).then_some(()));
    }
    assert_eq!(running.fleet().stats().total.refused, 3);
}

// How it stops.

#[test]
fn a_stop_ends_every_connection() {
    for spread in SPREADS {
        let running = start(2, spread);
        let clients: Vec<_> = (0..10).map(|_| running.client()).collect();
        let addr = running.addr;
        let end = running.stop();
        assert!(end.failures.is_empty(), "{spread}");
        assert_eq!((end.stats.total.closed, end.stats.total.connections), (10, 0), "{spread}");
        for (mut client, _) in clients {
            client.expect_end(End::Fin);
        }
        expect_refused(addr);
    }
}

#[test]
fn a_drain_ends_all_and_serves_those_who_linger_until_they_go() {
    for spread in SPREADS {
        let running =
            start_with(options(2, spread), ListenOptions::default(), |tell| tell.lingers = true);
        let mut clients: Vec<_> = (0..10).map(|_| running.client()).collect();
        running.fleet().drain(HOUR);
        patiently("it listens no more", || TcpStream::connect(running.addr).err());
        for (client, _) in &mut clients {
            client.send(b"still?");
            client.expect(b"still?");
        }
        drop(clients);
        let end = running.join();
        assert!(end.failures.is_empty(), "{spread}");
        let total = end.stats.total;
        assert_eq!((total.closed, total.connections), (total.accepted, 0), "{spread}");
    }
}

#[test]
fn the_deadline_of_a_drain_is_one_for_all() {
    for spread in [Spread::Shared, Spread::HandOver(Balance::RoundRobin)] {
        let running =
            start_with(options(2, spread), ListenOptions::default(), |tell| tell.lingers = true);
        let clients: Vec<_> = (0..10).map(|_| running.client()).collect();
        running.fleet().drain(Duration::from_millis(50));
        assert_eq!(running.join().stats.total.closed, 10);
        drop(clients);
    }
}

#[cfg(unix)]
#[test]
fn a_descriptor_that_becomes_readable_drains_all() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    for spread in SPREADS {
        let (mut bell, end) = UnixStream::pair().unwrap();
        let mut fleet = Fleet::new(options(3, spread)).unwrap();
        fleet.drain_when_readable(end.into(), HOUR);
        let (send, receive) = channel();
        let fleet = fleet.start(move |member| {
            let tell = Tell::new(member);
            let service = member.reactor().register(tell);
            let addr = member.listen("127.0.0.1:0", service, ListenOptions::default())?;
            send.send(addr).unwrap();
            Ok(())
        });
        let running = Running { fleet: Some(fleet.unwrap()), addr: receive.recv().unwrap() };
        let clients: Vec<_> = (0..9).map(|_| running.client()).collect();
        bell.write_all(b"!").unwrap();
        for (mut client, _) in clients {
            client.expect_end(End::Fin);
        }
        assert!(running.join().failures.is_empty(), "{spread}");
    }
}

/// Whatever the acceptor has taken is served, though all drain at once.
#[test]
fn what_was_handed_over_before_a_drain_is_served() {
    for _ in 0..20 {
        let spread = Spread::HandOver(Balance::RoundRobin);
        let running =
            start_with(options(2, spread), ListenOptions::default(), |tell| tell.lingers = true);
        let keeps = running.fleet().listeners().unwrap();
        let clients: Vec<_> = (0..20).map(|_| Client::connect(running.addr)).collect();
        running.fleet().drain(HOUR);
        let handed = patiently("the acceptor has ended", || {
            let stats = running.fleet().stats();
            let known = stats.acceptor.unwrap().handed_over;
            (stats.total.accepted == known).then_some(known)
        });
        // The rest still queues, since the socket is kept.
        for client in clients.into_iter().take(handed as usize) {
            drop(served(client));
        }
        drop(keeps);
    }
}

// What goes wrong.

/// What a fleet says that does not start.
#[track_caller]
fn start_error(
    options: FleetOptions,
    set_up: impl Fn(&mut Member<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> io::Error {
    Fleet::new(options).unwrap().start(set_up).expect_err("it starts")
}

fn register(member: &mut Member<'_>) -> Service<Tell> {
    let tell = Tell::new(member);
    member.reactor().register(tell)
}

#[test]
fn an_error_of_one_set_up_names_its_thread_and_leaves_nothing_running() {
    for spread in SPREADS {
        let addr = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&addr);
        let error = start_error(options(3, spread).name("crew".to_owned()), move |member| {
            let service = register(member);
            let bound = member.listen("127.0.0.1:0", service, ListenOptions::default())?;
            *seen.lock().unwrap() = Some(bound);
            match member.index() {
                1 => Err(io::Error::new(io::ErrorKind::NotFound, "no such table")),
                _ => Ok(()),
            }
        });
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "crew-1 cannot start: no such table");
        expect_refused(addr.lock().unwrap().unwrap());
    }
}

#[test]
fn a_panic_of_one_set_up_is_told() {
    let error = start_error(options(2, Spread::Shared), |member| {
        assert!(member.index() != 1, "on purpose");
        Ok(())
    });
    assert_eq!(error.to_string(), "wheel-1 cannot start: it panicked: on purpose");
}

#[test]
fn reactors_that_do_not_listen_alike_are_told() {
    let error = start_error(options(2, Spread::Shared), |member| {
        let service = register(member);
        let addr = format!("127.0.0.{}:0", member.index() + 1);
        member.listen(addr, service, ListenOptions::default()).map(drop)
    });
    assert!(error.to_string().contains("127.0.0.1:0"), "{error}");
    assert!(error.to_string().contains("127.0.0.2:0"), "{error}");
    let error = start_error(options(2, Spread::ReusePort), |member| {
        let service = register(member);
        if member.index() == 0 {
            member.listen("127.0.0.1:0", service, ListenOptions::default())?;
        }
        Ok(())
    });
    assert!(error.to_string().starts_with("only 1 of 2 reactors listen on 127.0.0.1:"), "{error}");
}

#[test]
fn an_address_in_use_and_a_wait_that_cannot_be_are_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for spread in SPREADS {
        let error = start_error(options(2, spread), move |member| {
            let service = register(member);
            member.listen(addr, service, ListenOptions::default()).map(drop)
        });
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
    }
    let error = start_error(options(2, Spread::HandOver(Balance::RoundRobin)), |member| {
        let service = register(member);
        let listen = ListenOptions::default().at_capacity(AtCapacity::Wait);
        member.listen("127.0.0.1:0", service, listen).map(drop)
    });
    assert!(error.to_string().contains("at_capacity"), "{error}");
}

#[test]
fn bad_options_are_named() {
    let bad = [
        (FleetOptions::default().threads(Some(0)), "option threads is 0"),
        (FleetOptions::default().threads(Some(2_000)), "option threads is 2000"),
        (FleetOptions::default().pinning(Pinning::To(Vec::new())), "option pinning"),
        (FleetOptions::default().name("a\0b".to_owned()), "option name"),
        (
            FleetOptions::default().reactor(ReactorOptions::default().reads_per_turn(0)),
            "option reads_per_turn is 0",
        ),
    ];
    for (options, expected) in bad {
        let error = Fleet::new(options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    assert!("sometimes".parse::<Spread>().unwrap_err().to_string().contains("least-connections"));
    for spread in SPREADS {
        assert_eq!(spread.to_string().parse::<Spread>().unwrap(), spread);
    }
}

fn fragile(on_failure: OnFailure) -> Running {
    let reactor = ReactorOptions::default().on_panic(OnPanic::Unwind);
    let spread = Spread::HandOver(Balance::RoundRobin);
    let options = options(2, spread).reactor(reactor).on_failure(on_failure);
    start_with(options, ListenOptions::default(), |_| {})
}

#[track_caller]
fn expect_one_failure(end: &waterwheel::FleetEnd, thread: &str) {
    let texts: Vec<String> = end.failures.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [format!("{thread} failed: it panicked: on purpose")]);
}

#[test]
fn a_thread_that_panics_is_told_and_the_rest_go_on() {
    let running = fragile(OnFailure::GoOn);
    let (mut first, _) = running.client();
    let (mut second, _) = running.client();
    first.send(b"boom");
    first.expect_end(End::Reset);
    // What was handed to it until then is reset.
    let gone = &running.fleet().remotes()[0];
    patiently("its mailbox is closed", || gone.stop().err());
    for _ in 0..4 {
        assert_eq!(running.client().1, 1);
    }
    second.send(b"still?");
    second.expect(b"still?");
    let end = running.stop();
    expect_one_failure(&end, "wheel-0");
    assert_eq!(end.stats.members[0].panics, 1);
    let error = end.into_result().unwrap_err();
    assert_eq!(error.to_string(), "wheel-0 failed: it panicked: on purpose");
}

#[test]
fn a_thread_that_panics_is_told_and_the_rest_stop_or_drain() {
    for on_failure in [OnFailure::Stop, OnFailure::Drain(HOUR)] {
        let running = fragile(on_failure);
        let (first, _) = running.client();
        let (mut second, _) = running.client();
        second.send(b"boom");
        second.expect_end(End::Reset);
        let addr = running.addr;
        drop(first); // a drain waits for it
        expect_one_failure(&running.join(), "wheel-1");
        expect_refused(addr);
    }
}

// One, and what a thread is.

/// A fleet of one is a reactor on the caller's thread.
#[test]
fn a_fleet_of_one_runs_in_place() {
    let here = thread::current().id();
    let (send, receive) = channel::<SocketAddr>();
    let client = thread::spawn(move || {
        let (mut client, index) = served(Client::connect(receive.recv().unwrap()));
        client.send(b"x");
        client.expect(b"x");
        (client, index)
    });
    let threads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&threads);
    let fleet = Fleet::new(options(1, Spread::Shared)).unwrap();
    let stats = fleet.run(move |member| {
        seen.lock().unwrap().push(thread::current().id());
        let service = register(member);
        send.send(member.listen("127.0.0.1:0", service, ListenOptions::default())?).unwrap();
        let fleet = member.fleet();
        let ender = member.reactor().register(Ender(fleet));
        member.reactor().set_periodic_timer(ender, Duration::from_millis(1));
        Ok(())
    });
    let (_client, index) = client.join().unwrap();
    assert_eq!(index, 0);
    assert_eq!(*threads.lock().unwrap(), [here]);
    let stats = stats.unwrap();
    assert_eq!((stats.members.len(), stats.total.bytes_read), (1, 1));
}

/// Stops the fleet once something was read.
struct Ender(waterwheel::FleetRemote);

impl Handler for Ender {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_service_timer(&mut self, _: waterwheel::TimerId, cx: &mut waterwheel::Context<'_>) {
        // The fleet cannot answer while it asks, and says what it knows.
        assert_eq!(self.0.stats().total.bytes_read, 0);
        if cx.stats().bytes_written == 2 {
            self.0.stop();
        }
    }
}

#[test]
fn a_panic_in_a_fleet_of_one_is_an_error_of_its_run() {
    let reactor = ReactorOptions::default().on_panic(OnPanic::Unwind);
    let (send, receive) = channel();
    let client = thread::spawn(move || {
        let (mut client, _) = served(Client::connect(receive.recv().unwrap()));
        client.send(b"boom");
        client.expect_end(End::Reset);
    });
    let fleet = Fleet::new(options(1, Spread::Shared).reactor(reactor)).unwrap();
    let error = fleet.run(move |member| {
        let service = register(member);
        send.send(member.listen("127.0.0.1:0", service, ListenOptions::default())?).unwrap();
        Ok(())
    });
    assert_eq!(error.unwrap_err().to_string(), "wheel-0 failed: it panicked: on purpose");
    client.join().unwrap();
}

/// The names of the threads, and the cores that each may run on, as they see it.
#[cfg(target_os = "linux")]
fn cores_of(options: FleetOptions) -> io::Result<Vec<(String, Vec<usize>)>> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let (send, receive) = channel();
    let report = move |member: &mut Member<'_>, send: &Sender<_>| {
        let set = sched_getaffinity(None).unwrap();
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
        let name = thread::current().name().unwrap().to_owned();
        send.send((member.index(), (name, cores))).unwrap();
    };
    let fleet = Fleet::new(options)?.start(move |member| {
        report(member, &send);
        Ok(())
    })?;
    fleet.stop();
    let _ = fleet.join();
    let mut found: Vec<_> = receive.iter().collect();
    found.sort();
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

#[cfg(target_os = "linux")]
#[test]
fn threads_are_named_and_pinned() {
    let named = options(3, Spread::Shared).name("crew".to_owned());
    let free = cores_of(named.clone()).unwrap();
    let names: Vec<&str> = free.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["crew-0", "crew-1", "crew-2"]);
    let all = free[0].1.clone();
    let pinned = cores_of(named.clone().pinning(Pinning::Cores)).unwrap();
    for (index, (_, cores)) in pinned.iter().enumerate() {
        assert_eq!(*cores, [all[index % all.len()]]);
    }
    let last = *all.last().unwrap();
    let pinned = cores_of(named.clone().pinning(Pinning::To(vec![last]))).unwrap();
    assert!(pinned.iter().all(|(_, cores)| *cores == [last]), "{pinned:?}");
    for core in [1_000, 1_000_000] {
        let error = cores_of(named.clone().pinning(Pinning::To(vec![core]))).unwrap_err();
        let text = format!("cannot start: cannot keep the thread on core {core}: ");
        assert!(error.to_string().contains(&text), "{error}");
    }
}

#[test]
fn what_one_listens_on_by_itself_is_its_own() {
    let (send, receive) = channel();
    let fleet = Fleet::new(options(2, Spread::Shared)).unwrap();
    let fleet = fleet.start(move |member| {
        let service = register(member);
        let addr = member.listen("127.0.0.1:0", service, ListenOptions::default())?;
        if member.index() == 1 {
            let own = member.reactor().listen("127.0.0.1:0", service, ListenOptions::default())?;
            send.send((addr, own)).unwrap();
        }
        Ok(())
    });
    let (addr, own) = receive.recv().unwrap();
    let running = Running { fleet: Some(fleet.unwrap()), addr };
    for _ in 0..5 {
        assert_eq!(served(Client::connect(own)).1, 1);
    }
    assert_eq!(running.fleet().listeners().unwrap().len(), 1);
}
