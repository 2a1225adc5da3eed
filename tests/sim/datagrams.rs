//! Datagrams in simulated worlds: a network that loses, doubles and reorders them, send buffers
//! that are full, and an account of every one.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Dice, Fault, Faults, Seeds, Simulation};
use waterwheel::udp::{
    DatagramHandler, DatagramSocket, SendStatus, Session, SessionEnd, SessionHandler,
    SessionOptions, Sessions, SocketId, UdpOptions,
};
use waterwheel::{Context, HandlerKey, Reactor, ReactorOptions, Stats, Timer};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What the handlers of a run have seen.
#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    queued: u64,
    dropped: u64,
    received: u64,
    drains: u64,
    errors: u64,
    begun: u64,
    ended: u64,
    idle: u64,
    opened: u64,
    closed: u64,
}

impl Seen {
    fn note(&mut self, status: SendStatus) {
        match status {
            SendStatus::Sent => self.sent += 1,
            SendStatus::Queued | SendStatus::Batched => self.queued += 1,
            SendStatus::Dropped => self.dropped += 1,
            _ => {}
        }
    }
}

type Shared = Rc<RefCell<Seen>>;

/// A number, and bytes that follow from it.
fn datagram(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..length.max(8)).map(|at| (number as usize * 31 + at) as u8));
    bytes
}

#[track_caller]
fn expect_whole(bytes: &[u8]) {
    let number = u64::from_le_bytes(bytes[..8].try_into().expect("a number"));
    assert!(bytes == datagram(number, bytes.len()), "datagram {number} was changed");
}

/// Sends back what comes, and keeps a session for each peer.
struct Server {
    seen: Shared,
    dice: Dice,
}

impl SessionHandler for Server {
    type State = u64;

    fn on_session(&mut self, _: SocketAddr, _: &[u8]) -> Option<u64> {
        let begins = !self.dice.one_in(8);
        self.seen.borrow_mut().begun += u64::from(begins);
        begins.then_some(0)
    }

    fn on_datagram(&mut self, count: &mut u64, session: &mut Session<'_>, bytes: &[u8]) {
        expect_whole(bytes);
        *count += 1;
        let mut seen = self.seen.borrow_mut();
        seen.received += 1;
        seen.note(session.send(bytes));
        if self.dice.one_in(50) {
            session.end();
        }
    }

    fn on_session_end(&mut self, _: u64, _: &mut Session<'_>, reason: SessionEnd) {
        let mut seen = self.seen.borrow_mut();
        seen.ended += 1;
        seen.idle += u64::from(reason == SessionEnd::Idle);
    }

    fn on_drain(&mut self, _: &mut Sessions<u64>, _: &mut DatagramSocket<'_>) {
        self.seen.borrow_mut().drains += 1;
    }

    fn on_close(&mut self, _: SocketId, _: &mut Context<'_>) {
        self.seen.borrow_mut().closed += 1;
    }
}

/// Sends bursts, opens and closes sockets.
struct Client {
    service: HandlerKey<Client>,
    seen: Shared,
    dice: Dice,
    servers: Vec<SocketAddr>,
    next: u64,
    left: u64,
}

impl Client {
    fn burst(&mut self, socket: &mut DatagramSocket<'_>) {
        for _ in 0..self.dice.spread(1, 100).min(self.left) {
            self.left -= 1;
            self.next += 1;
            let bytes = datagram(self.next, self.dice.spread(8, 4_000) as usize);
            let status = if socket.peer_addr().is_some() {
                socket.send(&bytes)
            } else {
                let at = self.dice.below(self.servers.len() as u64) as usize;
                socket.send_to(self.servers[at], &bytes)
            };
            self.seen.borrow_mut().note(status);
        }
        if self.left > 0 {
            socket.set_timer(Duration::from_millis(self.dice.spread(1, 500)), 0);
        }
    }

    fn open(&self, cx: &mut Context<'_>) {
        let options = udp_options(&self.dice);
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let at = self.dice.below(self.servers.len() as u64) as usize;
        let opened = if self.dice.one_in(2) {
            cx.bind_udp(any, self.service, &options)
        } else {
            cx.connect_udp(self.servers[at], self.service, &options)
        };
        // There may be no descriptor.
        if let Ok((id, _)) = opened {
            self.seen.borrow_mut().opened += 1;
            cx.socket(id).expect("it is open").set_timer(MILLISECOND, 0);
        }
    }
}

impl DatagramHandler for Client {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, _: SocketAddr, bytes: &[u8]) {
        if !socket.is_truncated() {
            expect_whole(bytes);
        }
        self.seen.borrow_mut().received += 1;
        if self.dice.one_in(200) {
            socket.close();
            self.open(&mut socket.context());
        }
    }

    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, _: Timer) {
        self.burst(socket);
    }

    fn on_drain(&mut self, _: &mut DatagramSocket<'_>) {
        self.seen.borrow_mut().drains += 1;
    }

    fn on_error(&mut self, _: &mut DatagramSocket<'_>, error: io::Error) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        self.seen.borrow_mut().errors += 1;
    }

    fn on_close(&mut self, _: SocketId, _: &mut Context<'_>) {
        self.seen.borrow_mut().closed += 1;
    }
}

fn udp_options(dice: &Dice) -> UdpOptions {
    UdpOptions::default()
        .receive_budget(dice.spread(1, 64) as usize)
        .max_queued_datagrams(dice.spread(1, 50) as usize)
        .max_queued_bytes(dice.spread(1, 50_000) as usize)
        .batch(dice.one_in(2))
        .max_datagram_bytes(if dice.one_in(4) { 1_000 } else { 65_535 })
}

/// Sums of what the reactors have counted.
#[derive(Debug, Default)]
struct Sums {
    sent: u64,
    received: u64,
    dropped: u64,
    sessions: u64,
    errors: u64,
}

impl Sums {
    fn add(&mut self, stats: &Stats) {
        self.sent += stats.datagrams_sent;
        self.received += stats.datagrams_received;
        self.dropped += stats.datagrams_dropped;
        self.sessions += stats.sessions;
        self.errors += stats.datagram_errors;
    }
}

/// Servers and clients in one world; every datagram is accounted for at the end.
fn account(sim: &mut Simulation, most: u64, total: &RefCell<Seen>) -> io::Result<()> {
    let dice = sim.dice();
    let seen = Shared::default();
    let nowhere = SocketAddr::from(([10, 0, 0, 1], 9));
    let mut servers = vec![nowhere];
    let mut hosts = Vec::new();
    for index in 0..1 + dice.below(2) {
        let server = Server { seen: Rc::clone(&seen), dice: sim.dice() };
        let idle = Duration::from_millis(dice.spread(1, 10_000));
        let sessions = SessionOptions::default().idle_timeout(idle);
        let sessions = sessions.max_sessions(dice.spread(1, 10) as usize);
        // What was cut would not be what was sent.
        let options = udp_options(&dice).max_datagram_bytes(65_535);
        let (host, addr) = sim.host(&format!("server{index}"), |reactor| {
            let service = reactor.register(server);
            Ok(reactor.bind_sessions("0.0.0.0:7000", service, sessions, options)?.1)
        })?;
        seen.borrow_mut().opened += 1;
        servers.push(addr);
        hosts.push(host);
    }
    let its_dice = sim.dice();
    let client = |service| Client {
        service,
        seen: Rc::clone(&seen),
        dice: its_dice,
        servers: servers.clone(),
        next: 0,
        left: most,
    };
    let files = if dice.one_in(4) { 5 } else { 64 };
    let mut client = Some(client);
    let set_up = |reactor: &mut Reactor| {
        let client = client.take().expect("one client");
        let service = reactor.register_with(client);
        let count = 1 + dice.below(4);
        reactor.context().post(service, move |client: &mut Client, cx| {
            (0..count).for_each(|_| client.open(cx));
        });
        Ok(())
    };
    let options = ReactorOptions::default();
    hosts.push(sim.host_with("client", options, files, set_up)?.0);
    sim.run(Duration::from_secs(600));
    sim.heal();
    sim.run(Duration::from_secs(600));
    for &host in &hosts {
        sim.with(host, |reactor| reactor.context().drain(Duration::from_secs(1)));
    }
    sim.run(Duration::from_secs(60));
    let mut sums = Sums::default();
    for &host in &hosts {
        sim.with(host, |reactor| sums.add(&reactor.stats()));
    }
    check(sim, &seen.borrow(), &sums);
    let (seen, mut total) = (seen.borrow(), total.borrow_mut());
    total.sent += sums.sent;
    total.drains += seen.drains;
    total.dropped += seen.dropped;
    total.errors += seen.errors;
    total.idle += seen.idle;
    Ok(())
}

#[track_caller]
fn check(sim: &Simulation, seen: &Seen, sums: &Sums) {
    let world = sim.datagrams();
    let gone = world.lost + world.overflowed + world.unclaimed + world.unread;
    assert_eq!(world.sent + world.doubled, world.received + gone, "{world:?}");
    assert_eq!(sums.sent, world.sent, "{sums:?}, {world:?}");
    assert_eq!(sums.received, world.received, "{sums:?}, {world:?}");
    // What a send said is what became of it.
    let taken = seen.sent + seen.queued + seen.dropped;
    assert_eq!(taken, sums.sent + sums.dropped, "{seen:?}, {sums:?}");
    assert_eq!(seen.errors, sums.errors);
    assert_eq!((seen.begun, sums.sessions), (seen.ended, 0));
    assert_eq!(seen.opened, seen.closed);
}

#[test]
fn every_datagram_is_accounted_for() {
    let total = std::sync::Mutex::new(Seen::default());
    let report = Seeds::new(300).run(|sim| {
        let seen = RefCell::default();
        account(sim, 200, &seen)?;
        let (seen, mut total) = (seen.into_inner(), total.lock().unwrap());
        total.sent += seen.sent;
        total.drains += seen.drains;
        total.dropped += seen.dropped;
        total.errors += seen.errors;
        total.idle += seen.idle;
        Ok(())
    });
    for (fault, struck) in Fault::ALL.into_iter().zip(&report.struck) {
        assert!(*struck > 0 || !fault.is_of_datagrams(), "no {fault}");
    }
    let total = total.into_inner().unwrap();
    let reached = [total.sent, total.drains, total.dropped, total.errors, total.idle];
    assert!(reached.iter().all(|&count| count > 0), "{total:?}");
    println!("{total:?}");
}

/// Ten million of them: minutes, in a release build.
#[test]
#[ignore = "takes minutes"]
fn ten_million_datagrams_are_accounted_for() {
    const WANTED: u64 = 10_000_000;
    let sent = std::sync::atomic::AtomicU64::new(0);
    let mut from = 1_000_000;
    while sent.load(std::sync::atomic::Ordering::Relaxed) < WANTED {
        Seeds::new(100).from(from).run(|sim| {
            let seen = RefCell::default();
            account(sim, 5_000, &seen)?;
            sent.fetch_add(seen.into_inner().sent, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        });
        from += 100;
    }
    println!("{sent:?} datagrams under {} seeds", from - 1_000_000);
}

#[test]
fn without_faults_all_that_fit_arrive_in_order() {
    Seeds::new(50).faults(Faults::none()).run(|sim| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&log);
        let (_, addr) = sim.host("server", |reactor| {
            let service =
                reactor.register(move |_: &mut DatagramSocket<'_>, _: SocketAddr, bytes: &[u8]| {
                    seen.borrow_mut().push(bytes.to_vec());
                });
            Ok(reactor.bind_udp("0.0.0.0:7000", service, UdpOptions::default())?.1)
        })?;
        sim.host("client", |reactor| {
            let quiet = |_: &mut DatagramSocket<'_>, _: SocketAddr, _: &[u8]| {};
            let service = reactor.register(quiet);
            let (id, _) = reactor.connect_udp(addr, service, UdpOptions::default())?;
            let mut context = reactor.context();
            let mut socket = context.socket(id).expect("it is open");
            for number in 0..5_u8 {
                assert!(socket.send(&[number]).is_accepted());
            }
            assert_eq!(socket.send(&[0; 65_508]), SendStatus::TooLong);
            Ok(())
        })?;
        sim.run(Duration::from_secs(1));
        assert_eq!(*log.borrow(), (0..5_u8).map(|number| vec![number]).collect::<Vec<_>>());
        Ok(())
    });
}

/// A client that is connected to the second address of a host takes its answers from there only.
#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let answers = std::sync::Mutex::new([0_u64; 2]);
    Seeds::new(100).run(|sim| {
        let dice = sim.dice();
        let local = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&local);
        let options = udp_options(&dice).max_datagram_bytes(65_535);
        let (server, addr) = sim.host("server", |reactor| {
            let service = reactor.register(
                move |socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]| {
                    seen.borrow_mut().push(socket.local_addr().expect("it is open"));
                    // Some have to wait for room, and leave from there all the same.
                    (0..20).for_each(|_| _ = socket.send_to(from, bytes));
                },
            );
            Ok(reactor.bind_udp("0.0.0.0:7000", service, options)?.1)
        })?;
        let asked = sim.ips_of(server).map(|ip| SocketAddr::new(ip, addr.port()));
        let count = Rc::new(RefCell::new([0; 2]));
        let seen = Rc::clone(&count);
        sim.host("client", |reactor| {
            let service = reactor.register(
                move |socket: &mut DatagramSocket<'_>, from: SocketAddr, _: &[u8]| {
                    assert_eq!(socket.peer_addr(), Some(from));
                    seen.borrow_mut()[usize::from(from == asked[1])] += 1;
                },
            );
            for asked in asked {
                let (id, _) = reactor.connect_udp(asked, service, UdpOptions::default())?;
                let mut context = reactor.context();
                let mut socket = context.socket(id).expect("it is open");
                (0..10).for_each(|_| _ = socket.send(&[7; 500]));
            }
            Ok(())
        })?;
        sim.run(Duration::from_secs(60));
        let world = sim.datagrams();
        assert_eq!(world.unclaimed, 0, "{world:?}");
        assert!(local.borrow().iter().all(|local| asked.contains(local)));
        let mut answers = answers.lock().unwrap();
        answers.iter_mut().zip(*count.borrow()).for_each(|(sum, count)| *sum += count);
        Ok(())
    });
    let answers = answers.into_inner().unwrap();
    assert!(answers.iter().all(|&count| count > 1_000), "{answers:?}");
}

/// A session ends no earlier than its silence is over, by a clock that is finer than a tick, and
/// not much later, also while the world stands still and its clocks jump.
#[test]
fn a_session_is_never_cut_short() {
    struct Punctual {
        clock: Rc<RefCell<Option<waterwheel::sim::HostClock>>>,
        idle: Duration,
    }
    impl Punctual {
        fn now(&self) -> Duration {
            self.clock.borrow().as_ref().map_or(Duration::ZERO, |clock| clock.now())
        }
    }
    impl SessionHandler for Punctual {
        type State = Duration;

        fn on_session(&mut self, _: SocketAddr, _: &[u8]) -> Option<Duration> {
            Some(self.now())
        }

        fn on_datagram(&mut self, last: &mut Duration, _: &mut Session<'_>, _: &[u8]) {
            if let Some(clock) = self.clock.borrow().as_ref() {
                clock.spend(Duration::from_micros(900));
            }
            *last = self.now();
        }

        fn on_session_end(&mut self, last: Duration, _: &mut Session<'_>, reason: SessionEnd) {
            if reason == SessionEnd::Idle {
                let silence = self.now() - last;
                assert!(silence >= self.idle, "ended after {silence:?} of {:?}", self.idle);
            }
        }
    }
    Seeds::new(100).run(|sim| {
        let dice = sim.dice();
        let idle = Duration::from_millis(dice.spread(1, 200));
        let clock = Rc::new(RefCell::new(None));
        let punctual = Punctual { clock: Rc::clone(&clock), idle };
        let (host, addr) = sim.host("server", |reactor| {
            let options = SessionOptions::default().idle_timeout(idle);
            let service = reactor.register(punctual);
            Ok(reactor.bind_sessions("0.0.0.0:7000", service, options, UdpOptions::default())?.1)
        })?;
        *clock.borrow_mut() = Some(sim.clock(host));
        let seen = Shared::default();
        sim.host("client", |reactor| {
            let service = reactor.register_with(|service| Client {
                service,
                seen: Rc::clone(&seen),
                dice: dice.clone(),
                servers: vec![addr],
                next: 0,
                left: 300,
            });
            reactor.context().post(service, |client: &mut Client, cx| {
                (0..3).for_each(|_| client.open(cx));
            });
            Ok(())
        })?;
        sim.run(Duration::from_secs(300));
        Ok(())
    });
}
