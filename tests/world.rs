//! The simulated world itself: its time, its handshakes, and what it tells.
#![cfg(feature = "sim")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::sim::{Fault, Faults, PeerEnd, Script, Seeds, Simulation};
use waterwheel::{Conn, ListenOptions, Reactor};

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

#[test]
fn a_periodic_timer_does_not_put_off_the_end() {
    let mut sim = Simulation::new(0, Faults::none());
    let (host, (addr, service)) = sim
        .host("server", |reactor| {
            let service = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
            let addr = reactor.listen("0.0.0.0:7000", service, ListenOptions::default())?;
            Ok((addr, service))
        })
        .unwrap();
    sim.with(host, |reactor| reactor.set_periodic_timer(service, Duration::from_millis(5)));
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
    let made = sim.host_with("bad", waterwheel::ReactorOptions::default(), 1, echo);
    assert!(made.is_err(), "one descriptor is too few");
    let (host, addr) = sim.host("server", echo).unwrap();
    let peer = sim.peer(addr, Script::new().send("hi").read(2).close());
    sim.run(SECOND);
    assert_eq!(sim.received(peer), b"hi");
    assert_eq!(sim.with(host, |reactor| reactor.stats().accepted), 1);
}
