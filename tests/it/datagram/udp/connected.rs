//! Sockets with a peer, which hear nobody else and are told what the network answers.

// Some of it is for Linux alone.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use waterwheel::udp::{SendStatus, UdpOptions};

use crate::support::datagrams::{Rig, Told, UNREACHABLE, client};

#[test]
fn an_unreachable_port_is_told_and_closes_nothing() {
    let mut rig = Rig::echo();
    // A port that nobody has: bound, and given back. On Linux loopback has more addresses, and
    // this one is nobody else's.
    let own = if cfg!(target_os = "linux") { "127.0.0.77:0" } else { "127.0.0.1:0" };
    let peer = UdpSocket::bind(own).unwrap();
    let to = peer.local_addr().unwrap();
    drop(peer);
    let (id, from) = rig.reactor.connect_udp(to, rig.service, UdpOptions::default()).unwrap();
    let send = |rig: &mut Rig, bytes: &[u8]| {
        let mut context = rig.reactor.context();
        context.socket(id).expect("it is open").send(bytes)
    };
    for round in 1..=3 {
        assert_eq!(send(&mut rig, b"anybody there?"), SendStatus::Sent);
        rig.expect_told(round, |told| *told == Told::Error(UNREACHABLE));
    }
    // The answer to one is met by the next, which is sent nevertheless.
    assert_eq!(send(&mut rig, b"one"), SendStatus::Sent);
    assert_eq!(send(&mut rig, b"two"), SendStatus::Sent);
    rig.expect_told(5, |told| *told == Told::Error(UNREACHABLE));
    // Somebody comes, and is served.
    let peer = UdpSocket::bind(to).unwrap();
    peer.set_nonblocking(true).unwrap();
    assert_eq!(send(&mut rig, b"hello"), SendStatus::Sent);
    assert_eq!(rig.answer(&peer), (b"hello".to_vec(), from));
    peer.send_to(b"hi", from).unwrap();
    assert_eq!(rig.answer(&peer), (b"hi".to_vec(), from));
    // Each was told at once and once, and nobody waited for a next try.
    let stats = rig.reactor.stats();
    assert_eq!((stats.datagram_errors, stats.timers_fired), (5, 0));
}

#[test]
fn a_connected_socket_has_one_peer() {
    let mut rig = Rig::echo();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_nonblocking(true).unwrap();
    let to = peer.local_addr().unwrap();
    let source = UdpOptions::default().source(Some("127.0.0.1:0".parse().unwrap()));
    let (id, from) = rig.reactor.connect_udp(to, rig.service, source).unwrap();
    rig.id = id;
    assert_eq!(rig.with(|socket| socket.peer_addr()), Some(to));
    assert_eq!(rig.with(|socket| socket.local_addr().unwrap()), from);
    let stranger = client(from);
    stranger.send(b"let me in").unwrap();
    peer.send_to(b"it is me", from).unwrap();
    assert_eq!(rig.answer(&peer).0, b"it is me");
    assert_eq!(rig.reactor.stats().datagrams_received, 1);
}

/// A socket with an address of its own is bound before it has a peer, and anybody may send to it
/// meanwhile.
#[test]
fn a_connected_socket_forgets_what_came_before_it_had_a_peer() {
    for is_batch in [false, true] {
        strangers_are_not_heard(is_batch);
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn strangers_are_not_heard(is_batch: bool) {
    let mut rig = Rig::echo();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (is_over, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
            while !is_over.load(Ordering::Relaxed) {
                // Refused while nobody is bound to it.
                let _ = stranger.send_to(b"let me in", source);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _over = SetOnDrop(&is_over); // a panic too: else the stranger would go on for ever
        // Some of them while it sends, however the system runs the two.
        while sent.load(Ordering::Relaxed) < 20_000 {
            let options = UdpOptions::default().source(Some(source)).batch(is_batch);
            let (id, _) = match rig.reactor.connect_udp(peer, rig.service, options) {
                // Between two of its sockets another test may be given the port.
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    thread::yield_now();
                    continue;
                }
                result => result.unwrap(),
            };
            rig.turn();
            rig.reactor.context().socket(id).unwrap().close();
            rig.turn();
        }
    });
    assert!(!rig.told().iter().any(|told| matches!(told, Told::Datagram(..))));
    assert_eq!(rig.reactor.stats().datagrams_received, 0);
}

/// Linux takes it for this machine.
#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_is_connected_to_no_address_in_particular_hears_its_peer() {
    let mut rig = Rig::echo();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_nonblocking(true).unwrap();
    let to = peer.local_addr().unwrap();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, to.port()));
    let (id, from) = rig.reactor.connect_udp(any, rig.service, UdpOptions::default()).unwrap();
    rig.id = id;
    assert_eq!(rig.with(|socket| socket.peer_addr()), Some(to));
    peer.send_to(b"it is me", from).unwrap();
    assert_eq!(rig.answer(&peer).0, b"it is me");
}

#[test]
fn a_socket_without_a_peer_has_nobody_to_send_to() {
    let mut rig = Rig::echo();
    assert_eq!(rig.with(|socket| socket.send(b"hello?")), SendStatus::Closed);
}
