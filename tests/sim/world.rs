//! The simulated world itself: its time, its handshakes, and what it tells.

use std::io;
use std::mem::take;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use waterwheel::sim::{Fault, Faults, HostClock, PeerEnd, Script, Seeds, Simulation};
use waterwheel::{
    CloseReason, Closed, Conn, ConnectOptions, Context, Destination, Handler, ListenOptions, Peer,
    Reactor, ReactorOptions, Reconnect, Timer, TimerHandler,
};

const SECOND: Duration = Duration::from_secs(1);

fn echo(reactor: &mut Reactor) -> io::Result<SocketAddr> {
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    reactor.listen("0.0.0.0:7000", echo, ListenOptions::default())
}

/// A standstill past the end of a run took the clock back to that end.
#[test]
fn time_never_runs_backwards() {
    Seeds::new(100).faults(Faults::none().with(Fault::Stopped)).run(|sim| {
        let (_, one) = sim.host("one", echo)?;
        let (_, two) = sim.host("two", echo)?;
        for addr in [one, two] {
            sim.peer(addr, Script::new().send("a").wait(SECOND).send("b").read(2).close());
        }
        let mut last = sim.now();
        for _ in 0..40 {
            sim.run(SECOND / 10);
            assert!(sim.now() >= last, "{:?} after {last:?}", sim.now());
            last = sim.now();
        }
        Ok(())
    });
}

#[test]
fn time_goes_on_when_all_reactors_have_stopped() {
    let mut sim = Simulation::new(0, Faults::none());
    let (_, (addr, remote)) =
        sim.host("server", |reactor| Ok((echo(reactor)?, reactor.remote()))).unwrap();
    remote.stop().unwrap();
    let peer = sim.peer_after(10 * SECOND, addr, Script::new());
    for _ in 0..20 {
        sim.run(SECOND);
    }
    assert_eq!(sim.end_of(peer), PeerEnd::Broken, "nobody listens");
    assert!(sim.now() >= 10 * SECOND, "{:?}", sim.now());
}

struct Ticks;

impl TimerHandler for Ticks {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {}
}

#[test]
fn a_periodic_timer_does_not_put_off_the_end() {
    let mut sim = Simulation::new(0, Faults::none());
    let (_, addr) = sim
        .host("server", |reactor| {
            let ticks = reactor.register(Ticks);
            reactor.set_periodic_timer(ticks, Duration::from_millis(5), 0);
            let service = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default())
        })
        .unwrap();
    sim.peer(addr, Script::new().send("x").close());
    sim.finish();
    assert!(sim.now() < 600 * SECOND, "{:?}", sim.now());
}

#[test]
fn what_was_sent_counts_in_the_hash() {
    let hash = |bytes: &str| {
        let mut sim = Simulation::new(7, Faults::none());
        let (_, addr) = sim.host("server", echo).unwrap();
        sim.peer(addr, Script::new().send(bytes).read(bytes.len()).close());
        sim.run(SECOND);
        sim.hash()
    };
    assert_eq!(hash("SET a 1"), hash("SET a 1"));
    assert_ne!(hash("SET a 1"), hash("SET b 2"));
}

/// A peer that a fault has hurt is told apart from one that the server has ended.
#[test]
fn only_faults_hurt() {
    for fault in Fault::ALL.into_iter().filter(|fault| fault.loses_connections()) {
        Seeds::new(60).faults(Faults::none().with(fault)).run(|sim| {
            let (_, addr) = sim.host("server", echo)?;
            let peers: Vec<_> = (0..4)
                .map(|_| sim.peer(addr, Script::new().send("hello").read(5).finish().read_to_end()))
                .collect();
            sim.run(600 * SECOND);
            for peer in peers {
                let is_whole = sim.received(peer) == b"hello";
                assert!(is_whole || sim.was_hurt(peer), "{fault}: {:?}", sim.end_of(peer));
            }
            Ok(())
        });
    }
}

/// Says a word a minute, and keeps how its connections have ended.
#[derive(Default)]
struct Talker(Vec<CloseReason>);

impl Handler for Talker {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.set_periodic_timer(60 * SECOND, 0);
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_timer(&mut self, (): &mut (), conn: &mut Conn<'_>, _: Timer) {
        conn.write(b"word");
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        self.0.push(closed.reason);
    }
}

/// A peer that is gone says nothing, and its end is told once the system has given it up.
#[test]
fn a_peer_that_is_gone_is_given_up_after_a_quarter_of_an_hour() {
    let mut gone = 0;
    for seed in 0..60 {
        let mut sim = Simulation::new(seed, Faults::none().with(Fault::Vanished));
        let (host, (talker, addr)) = sim
            .host("server", |reactor| {
                let talker = reactor.register(Talker::default());
                let options = ListenOptions::default();
                Ok((talker, reactor.listen("0.0.0.0:7000", talker, options)?))
            })
            .unwrap();
        let peer = sim.peer(addr, Script::new().wait(7_200 * SECOND));
        sim.run(900 * SECOND);
        let ended = |sim: &mut Simulation| {
            sim.with(host, |reactor| take(&mut reactor.handler_mut(talker).unwrap().0))
        };
        assert!(ended(&mut sim).is_empty(), "seed {seed}: nobody can know of it yet");
        sim.run(1_000 * SECOND);
        assert_eq!(sim.was_hurt(peer), sim.end_of(peer) == PeerEnd::Broken);
        match &ended(&mut sim)[..] {
            [] => assert!(!sim.was_hurt(peer), "seed {seed}"),
            [CloseReason::Io(error)] if error.kind() == io::ErrorKind::TimedOut => gone += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
        sim.finish();
    }
    assert!(gone > 10, "{gone} of 60");
}

#[test]
fn ports_and_addresses_are_those_of_a_real_system() {
    let mut sim = Simulation::new(0, Faults::none());
    sim.host("server", |reactor| {
        let service = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
        let mut listen = |addr: &str| reactor.listen(addr, service, ListenOptions::default());
        assert_eq!(listen("127.0.0.1:30000")?.to_string(), "10.0.0.1:30000");
        assert_ne!(listen("0.0.0.0:0")?.port(), 30_000);
        assert_eq!(listen("10.0.0.1:30000").unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let foreign = listen("192.0.2.9:80").unwrap_err();
        assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_host_that_could_not_be_made_leaves_no_trace() {
    let mut sim = Simulation::new(0, Faults::none());
    let made = sim.host_with("bad", ReactorOptions::default(), 1, echo);
    assert!(made.is_err(), "one descriptor is too few");
    let (host, addr) = sim.host("server", echo).unwrap();
    let peer = sim.peer(addr, Script::new().send("hi").read(2).close());
    sim.run(SECOND);
    assert_eq!(sim.received(peer), b"hi");
    assert_eq!(sim.with(host, |reactor| reactor.stats().accepted), 1);
}

/// As Linux has it: `accept4` takes the descriptor before it looks at the queue.
#[test]
fn an_accept_of_nobody_wants_a_descriptor_too() {
    const OWN: u64 = 4; // the poll, its waker, the one in reserve, the listener
    let accepts = |files| {
        let mut sim = Simulation::new(0, Faults::none());
        sim.keep_trace();
        let options = ReactorOptions::default().max_connections(Some(10));
        let (host, addr) = sim.host_with("server", options, files, echo).unwrap();
        let peer = sim.peer(addr, Script::new().send("hi").read(2).close());
        sim.run(SECOND);
        assert_eq!(sim.received(peer), b"hi");
        let stats = sim.with(host, |reactor| reactor.stats());
        assert_eq!((stats.accepted, stats.accept_errors), (1, 0));
        let accepts = sim.trace().into_iter().filter(|line| line.contains(" Accept s"));
        accepts.map(|line| line.contains("EMFILE")).collect::<Vec<_>>()
    };
    // The client; nobody; nobody again, with the descriptor in reserve.
    assert_eq!(accepts(OWN + 1), [false, true, false]);
    assert_eq!(accepts(OWN + 2), [false, false]);
}

/// As milliseconds 30 days are more than 31 bits hold, and 2^32 ms are nothing in 32 bits.
#[test]
fn a_turn_with_a_far_timeout_waits_a_day() {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let waits = [DAY, 30 * DAY, Duration::from_millis(1 << 32), Duration::MAX];
    for wait in waits {
        let mut sim = Simulation::new(0, Faults::none());
        let (host, _) = sim.host("server", echo).unwrap();
        assert!(sim.with(host, |reactor| reactor.run_once(Some(wait))).unwrap());
        let waited = sim.now();
        assert!(waited >= DAY && waited < DAY + SECOND, "{waited:?} of {wait:?}");
    }
}

/// Connects, and keeps when that was done with.
#[derive(Default)]
struct Caller {
    ended: Option<(Duration, Result<SocketAddr, String>)>,
    clock: Option<HostClock>,
}

impl Handler for Caller {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        self.ended = self.clock.as_ref().map(|clock| (clock.now(), Ok(conn.peer_addr())));
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_connect_failed(&mut self, (): (), error: io::Error, _: &mut Context<'_>) {
        self.ended = self.clock.as_ref().map(|clock| (clock.now(), Err(error.to_string())));
    }
}

type Ended = (Duration, Result<SocketAddr, String>);

/// Connects in a world of its own; when that was done with, and how.
fn call(
    sim: &mut Simulation,
    to: impl Into<Destination>,
    options: &ConnectOptions,
) -> io::Result<Ended> {
    let (host, caller) = sim.host("client", |reactor| Ok(reactor.register(Caller::default())))?;
    let clock = sim.clock(host);
    sim.with(host, |reactor| {
        reactor.handler_mut(caller).unwrap().clock = Some(clock);
        reactor.connect(to, caller, (), options);
    });
    sim.run(100 * SECOND);
    Ok(sim.with(host, |reactor| reactor.handler_mut(caller).unwrap().ended.take()).unwrap())
}

#[test]
fn a_name_has_the_addresses_that_it_was_given() {
    let mut sim = Simulation::new(0, Faults::none());
    let addr = sim.listening_peer(8, Script::new().wait(SECOND).close());
    sim.name("db.example", &[[10, 9, 9, 9].into(), addr.ip()]);
    let options = ConnectOptions::default();
    let to = format!("db.example:{}", addr.port());
    assert_eq!(call(&mut sim, to, &options).unwrap().1, Ok(addr));
    let told = call(&mut sim, "other.example:1", &options).unwrap().1.unwrap_err();
    assert!(told.starts_with("cannot connect to other.example:1: "), "{told}");
}

/// What a handler was told of two names.
#[derive(Default)]
struct Resolved(Vec<Result<Vec<SocketAddr>, io::ErrorKind>>);

impl waterwheel::udp::DatagramHandler for Resolved {
    fn on_datagram(
        &mut self,
        _: &mut waterwheel::udp::DatagramSocket<'_>,
        _: SocketAddr,
        _: &[u8],
    ) {
    }
}

/// What a world answers to two lookups; the name that it knows first.
fn resolved(seed: u64, faults: Faults) -> Vec<Result<Vec<SocketAddr>, io::ErrorKind>> {
    let mut sim = Simulation::new(seed, faults);
    sim.name("db.example", &[[10, 9, 9, 9].into()]);
    let ask = |reactor: &mut Reactor| {
        let key = reactor.register(Resolved::default());
        for name in ["db.example:5", "other.example:5"] {
            reactor.resolve(name, key, |asker, _, answer| {
                asker.0.push(answer.map_err(|error| error.kind()));
            });
        }
        Ok(key)
    };
    let (host, key) = sim.host("asker", ask).unwrap();
    sim.run(100 * SECOND);
    let mut told = sim.with(host, |reactor| take(&mut reactor.handler_mut(key).unwrap().0));
    told.sort_by_key(Result::is_err);
    told
}

#[test]
fn a_handler_resolves_in_the_world() {
    let addr = SocketAddr::from(([10, 9, 9, 9], 5));
    let expected = [Ok(vec![addr]), Err(io::ErrorKind::NotFound)];
    assert_eq!(resolved(0, Faults::none()), expected);
    let lost = Faults::none().with(Fault::ConnectLost);
    let answers: Vec<_> = (0..50).flat_map(|seed| resolved(seed, lost)).collect();
    assert_eq!(answers.len(), 100, "every lookup is answered, in the end");
    assert!(answers.contains(&Err(io::ErrorKind::TimedOut)), "none was lost");
}

#[test]
fn pauses_between_tries_are_spread_over_all_that_they_may_last() {
    let first = Duration::from_millis(1_000);
    let reconnect = Reconnect::default().base_delay(first).max_attempts(Some(2));
    let options = ConnectOptions::default().reconnect(Some(reconnect));
    let nobody = SocketAddr::from(([10, 9, 9, 9], 1));
    let pauses = Mutex::new(Vec::new());
    Seeds::new(100).faults(Faults::none()).run(|sim| {
        let (at, told) = call(sim, nobody, &options)?;
        assert!(told.unwrap_err().ends_with(", at try 2 in a row"));
        pauses.lock().unwrap().push(at);
        Ok(())
    });
    let pauses = pauses.into_inner().unwrap();
    let (least, most) = (*pauses.iter().min().unwrap(), *pauses.iter().max().unwrap());
    // Both tries and the ticks take some milliseconds more.
    assert!(most <= first + Duration::from_millis(300), "{most:?}");
    assert!(least < first / 8 && most > first * 7 / 8, "{least:?} to {most:?}");
}

#[test]
fn the_next_address_waits_for_the_one_before_it() {
    // Every connect is lost: each address is tried, and the deadline ends it.
    let lost = Faults::none().with(Fault::ConnectLost);
    let delay = Duration::from_millis(300);
    let options = ConnectOptions::default().attempt_delay(delay).timeout(8 * SECOND);
    let (early, late) = (AtomicU32::new(0), AtomicU32::new(0));
    Seeds::new(300).faults(lost).run(|sim| {
        sim.allow_unfinished();
        let addrs = [1, 2].map(|_| sim.listening_peer(8, Script::new().wait(SECOND).close()));
        let (at, how) = call(sim, &addrs[..], &options)?;
        match how {
            Ok(addr) if addr == addrs[0] => {
                assert!(at < delay, "the first one is up after {at:?}");
                early.fetch_add(1, Relaxed);
            }
            Ok(_) => {
                assert!(at > delay && at < 2 * delay, "the second one is up after {at:?}");
                late.fetch_add(1, Relaxed);
            }
            Err(told) => {
                assert!(at >= 8 * SECOND && told.contains("no answer within 8s"), "{told}")
            }
        }
        Ok(())
    });
    let (early, late) = (early.into_inner(), late.into_inner());
    assert!(early > 0 && late > 0, "{early} early, {late} late");
}

#[cfg(unix)]
#[test]
fn unix_sockets_are_told_to_be_missing() {
    use waterwheel::unix::UnixListenOptions;
    let mut sim = Simulation::new(0, Faults::none());
    let path = std::env::temp_dir().join("ww-simulated.sock");
    let listen = |reactor: &mut Reactor| {
        let echo = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
        let options = UnixListenOptions::default();
        Ok(reactor.listen_unix(&path, echo, options).unwrap_err())
    };
    let (_, error) = sim.host("server", listen).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("a simulated world has no Unix sockets"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_simulated_connection_has_no_tcp_info_and_says_so() {
    let mut sim = Simulation::new(0, Faults::none());
    let (_, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
                let error = conn.tcp_info().unwrap_err();
                conn.write(format!("{:?}", error.kind()).as_bytes());
                input.len()
            });
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default())
        })
        .unwrap();
    let peer = sim.peer(addr, Script::new().send("?").read("Unsupported".len()).close());
    sim.run(SECOND);
    assert_eq!(sim.received(peer), b"Unsupported");
}
