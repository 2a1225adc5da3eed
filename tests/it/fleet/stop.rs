//! How a fleet stops and drains.

// Some of it is for Unix alone.
#![cfg_attr(not(unix), allow(dead_code, unused_imports))]

use std::io::Write;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use waterwheel::ListenOptions;
use waterwheel::fleet::{Balance, Fleet, Spread};

use super::{
    HOUR, Running, SPREADS, Tell, expect_refused, options, register, served, start, start_with,
};
use crate::support::{Client, End, patiently};

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
    for spread in SPREADS {
        let (mut bell, end) = UnixStream::pair().unwrap();
        let mut fleet = Fleet::new(options(3, spread)).unwrap();
        fleet.drain_when_readable(end.into(), HOUR);
        let (send, receive) = channel();
        let fleet = fleet.start(move |member| {
            let service = register(member);
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

/// Two reactors behind an acceptor, whose connections linger in a drain; a bell asks for one, too.
#[cfg(unix)]
fn handed_over(bell: UnixStream, deadline: Duration) -> Running {
    let mut fleet = Fleet::new(options(2, Spread::HandOver(Balance::RoundRobin))).unwrap();
    fleet.drain_when_readable(bell.into(), deadline);
    let (send, receive) = channel();
    let fleet = fleet.start(move |member| {
        let mut tell = Tell::new(member);
        tell.lingers = true;
        let service = member.reactor().register(tell);
        send.send(member.listen("127.0.0.1:0", service, ListenOptions::default())?).unwrap();
        Ok(())
    });
    Running { fleet: Some(fleet.unwrap()), addr: receive.recv().unwrap() }
}

/// The acceptor tells the others once it has ended, and may be asked again before.
#[cfg(unix)]
#[test]
fn of_several_drains_the_earliest_deadline_holds() {
    const SOON: Duration = Duration::from_millis(50);
    for round in 0..30 {
        let (mut rope, bell) = UnixStream::pair().unwrap();
        let is_rung = round % 3 == 0;
        let running = handed_over(bell, if is_rung { SOON } else { HOUR });
        let clients: Vec<_> = (0..4).map(|_| running.client()).collect();
        let drains = if is_rung { [HOUR, HOUR] } else { [SOON, HOUR] };
        if is_rung {
            rope.write_all(b"!").unwrap();
        }
        for deadline in drains {
            running.fleet().drain(deadline);
        }
        for (mut client, _) in clients {
            client.expect_end(End::Fin);
        }
        assert!(running.join().failures.is_empty(), "{round}");
    }
}

#[cfg(unix)]
#[test]
fn a_bell_that_has_not_rung_shortens_no_drain() {
    let (_rope, bell) = UnixStream::pair().unwrap();
    let running = handed_over(bell, Duration::from_millis(1));
    let mut clients: Vec<_> = (0..4).map(|_| running.client()).collect();
    running.fleet().drain(HOUR);
    patiently("it listens no more", || TcpStream::connect(running.addr).err());
    for _ in 0..200 {
        for (client, _) in &mut clients {
            client.send(b"still?");
            client.expect(b"still?");
        }
    }
    drop(clients);
    assert!(running.join().failures.is_empty());
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
