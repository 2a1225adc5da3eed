//! Datagrams over real sockets when the kernel takes no more: those that wait for an address to be
//! resolved fill a small send buffer, and those in many fragments are more than it holds.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::process::Command;

use crate::network::alone_or_skipped;
use waterwheel::udp::{DatagramSocket, SendStatus, UdpOptions};

use crate::support::datagrams::{Rig, Told, try_receive};
use crate::support::patiently;

/// Two ends of a wire. Nobody answers at the far one, and the near one goes on asking.
const WIRE: &str = "ip link set lo mtu 1500 up && \
    ip link add near type veth peer name far address 02:00:00:00:00:02 && \
    ip addr add 10.9.9.1/24 dev near && ip link set near up && ip link set far up && \
    cd /proc/sys/net/ipv4 && echo 100 >neigh/near/mcast_solicit && \
    echo 1 >conf/far/accept_local && echo 0 >conf/all/rp_filter && echo 0 >conf/far/rp_filter";

/// Now there is somebody.
const ANSWER: &str = "ip addr add 10.9.9.2/32 dev far && \
    ip neigh replace 10.9.9.2 lladdr 02:00:00:00:00:02 dev near nud permanent";

#[track_caller]
fn shell(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success(), "{script}");
}

/// Lays the wire, and waits until the kernel sends on it: what it gets before, it drops.
#[track_caller]
fn wire() {
    shell(WIRE);
    patiently("the wire is up", || {
        let shown = Command::new("ip").args(["link", "show", "near"]).output().unwrap();
        String::from_utf8(shown.stdout).unwrap().contains("state UP").then_some(())
    });
}

/// Somebody at the far end, and how it is reached from the near one.
#[track_caller]
fn far_peer() -> (UdpSocket, SocketAddr) {
    let peer = UdpSocket::bind("0.0.0.0:0").unwrap();
    peer.set_nonblocking(true).unwrap();
    let port = peer.local_addr().unwrap().port();
    (peer, SocketAddr::from(([10, 9, 9, 2], port)))
}

const NOTHING: fn(&mut DatagramSocket<'_>, SocketAddr, &[u8]) = |_, _, _| {};

fn send(rig: &mut Rig, to: SocketAddr, number: u8) -> SendStatus {
    rig.with(|socket| socket.send_to(to, &[number]))
}

/// Sends until one has to wait, and gives its number.
#[track_caller]
fn fill(rig: &mut Rig, to: SocketAddr) -> u8 {
    let taken = (0..100).find(|&number| send(rig, to, number) != SendStatus::Sent);
    let taken = taken.expect("a buffer that can be filled");
    assert!(taken > 0, "the first one was not taken");
    assert_eq!(rig.with(|socket| socket.queued_datagrams()), 1);
    taken
}

/// What was taken comes by the wire, the rest by loopback, since the far end is of this machine:
/// wait for the one before the other is sent.
#[track_caller]
fn expect(peer: &UdpSocket, numbers: Range<u8>) {
    for number in numbers {
        assert_eq!(patiently("a datagram", || try_receive(peer)).0, [number]);
    }
}

#[test]
fn what_the_kernel_does_not_take_waits_and_leaves_in_order() {
    alone_or_skipped(WIRE, || {
        wire();
        let (peer, to) = far_peer();
        let options = UdpOptions::default().send_buffer_bytes(Some(1)).max_queued_datagrams(4);
        let mut rig = Rig::bind("10.9.9.1:0", options, NOTHING);
        let taken = fill(&mut rig, to);
        for number in taken + 1..taken + 4 {
            assert_eq!(send(&mut rig, to, number), SendStatus::Queued);
        }
        assert_eq!(send(&mut rig, to, 255), SendStatus::Dropped);
        let waiting =
            |socket: &mut DatagramSocket<'_>| (socket.queued_datagrams(), socket.queued_bytes());
        // While nothing changes, nothing is told.
        for _ in 0..3 {
            rig.turn();
        }
        assert_eq!((rig.with(waiting), rig.told()), ((4, 4), vec![]));

        shell(ANSWER);
        expect(&peer, 0..taken);
        // There is room again, and nobody overtakes those that wait.
        assert_eq!(send(&mut rig, to, 255), SendStatus::Dropped);
        rig.expect_told(1, |told| *told == Told::Drain);
        assert_eq!(rig.with(waiting), (0, 0));
        assert_eq!(send(&mut rig, to, taken + 4), SendStatus::Sent);
        expect(&peer, taken..taken + 5);
        assert!(try_receive(&peer).is_none());
        let stats = rig.reactor.stats();
        assert_eq!((stats.datagrams_sent, stats.datagrams_dropped), (u64::from(taken) + 5, 2));
        assert_eq!(rig.told(), [Told::Drain]);
    });
}

/// The same of a batch: the kernel takes its beginning, and the rest waits.
#[test]
fn what_the_kernel_does_not_take_of_a_batch_follows_in_order() {
    alone_or_skipped(WIRE, || {
        wire();
        let (peer, to) = far_peer();
        let options = UdpOptions::default().send_buffer_bytes(Some(1)).batch(true);
        let mut rig = Rig::bind("10.9.9.1:0", options, NOTHING);
        // Each is longer than the one before, so that none leave as segments of one.
        let datagram = |number: u8| vec![number; usize::from(number) + 1];
        for number in 0..40 {
            let status = rig.with(|socket| socket.send_to(to, &datagram(number)));
            assert_eq!(status, SendStatus::Batched);
        }
        rig.turn();
        let taken = rig.reactor.stats().datagrams_sent as u8;
        assert!((1..40).contains(&taken), "{taken}");
        assert_eq!(rig.with(|socket| socket.queued_datagrams()), usize::from(40 - taken));
        let expect = |numbers: Range<u8>| {
            for number in numbers {
                let got = patiently("a datagram", || try_receive(&peer));
                assert_eq!(got.0, datagram(number));
            }
        };
        shell(ANSWER);
        expect(0..taken);
        rig.expect_told(1, |told| *told == Told::Drain);
        expect(taken..40);
        let stats = rig.reactor.stats();
        assert_eq!((stats.datagrams_sent, stats.datagrams_dropped), (40, 0));
        assert_eq!(rig.told(), [Told::Drain]);
    });
}

#[test]
fn what_waits_leaves_within_the_budget_of_a_turn() {
    alone_or_skipped(WIRE, || {
        wire();
        let options = UdpOptions::default().send_buffer_bytes(Some(1)).receive_budget(1);
        let mut rig = Rig::bind("10.9.9.1:0", options, NOTHING);
        let to = SocketAddr::from(([10, 9, 9, 2], 9));
        let mut sent = u64::from(fill(&mut rig, to));
        for _ in 0..9 {
            assert_eq!(send(&mut rig, to, 0), SendStatus::Queued);
        }
        shell(ANSWER);
        rig.until("all are sent", |rig| {
            let now = rig.reactor.stats().datagrams_sent;
            // One for its event, and one from the ready queue.
            assert!(now - sent <= 2, "{sent}, {now}");
            sent = now;
            rig.told() == [Told::Drain]
        });
    });
}

#[test]
fn one_that_cannot_be_sent_is_told_once_and_holds_nobody_up() {
    alone_or_skipped(WIRE, || {
        wire();
        let (peer, to) = far_peer();
        let options = UdpOptions::default().send_buffer_bytes(Some(1));
        let mut rig = Rig::bind("10.9.9.1:0", options, NOTHING);
        let taken = fill(&mut rig, to);
        // No datagram goes to port 0.
        let nowhere = SocketAddr::from(([10, 9, 9, 2], 0));
        assert_eq!(send(&mut rig, nowhere, 255), SendStatus::Queued);
        assert_eq!(send(&mut rig, to, taken + 1), SendStatus::Queued);
        shell(ANSWER);
        expect(&peer, 0..taken);
        let error = Told::Error(ErrorKind::InvalidInput);
        rig.expect_told(1, |told| *told == error);
        expect(&peer, taken..taken + 2);
        assert_eq!(rig.told(), [Told::Drain, error]);
        let stats = rig.reactor.stats();
        assert_eq!((stats.datagram_errors, stats.datagrams_dropped), (1, 1));
    });
}

#[test]
fn one_that_closes_sends_what_the_kernel_takes_by_then() {
    alone_or_skipped(WIRE, || {
        wire();
        let (peer, to) = far_peer();
        let options = UdpOptions::default().send_buffer_bytes(Some(1));
        let mut rig = Rig::bind("10.9.9.1:0", options, NOTHING);
        let taken = fill(&mut rig, to);
        shell(ANSWER);
        expect(&peer, 0..taken);
        rig.with(|socket| socket.close());
        rig.expect_told(1, |told| matches!(told, Told::Close(_)));
        expect(&peer, taken..taken + 1);
        assert_eq!(rig.reactor.stats().datagrams_dropped, 0);
    });
}

#[test]
fn one_that_closes_counts_what_it_loses() {
    alone_or_skipped(WIRE, || {
        wire();
        let options = UdpOptions::default().send_buffer_bytes(Some(1));
        let mut rig = Rig::bind("10.9.9.1:0", options, NOTHING);
        let to = SocketAddr::from(([10, 9, 9, 2], 9));
        fill(&mut rig, to);
        rig.with(|socket| {
            assert_eq!(socket.send_to(to, b"y"), SendStatus::Queued);
            socket.close();
        });
        rig.expect_told(1, |told| matches!(told, Told::Close(_)));
        assert_eq!(rig.reactor.stats().datagrams_dropped, 2);
        assert_eq!(rig.told(), [Told::Close(rig.id)]);
    });
}

#[test]
fn one_that_the_system_has_no_memory_for_is_dropped_and_the_next_is_sent() {
    alone_or_skipped("ip link set lo mtu 1500 up", || {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let to = peer.local_addr().unwrap();
        let options = UdpOptions::default().send_buffer_bytes(Some(1));
        let mut rig = Rig::bind("127.0.0.1:0", options, NOTHING);
        // Fragments of 1.5 kB, all at once in a buffer of 4.6 kB.
        let told = rig.with(|socket| socket.send_to(to, &[0; 20_000]));
        assert!(told == SendStatus::Dropped && !told.is_accepted());
        assert_eq!(rig.with(|socket| socket.queued_datagrams()), 0);
        rig.turn();
        assert_eq!(rig.told(), [Told::Drain]);
        assert_eq!(rig.with(|socket| socket.send_to(to, b"less")), SendStatus::Sent);
        assert_eq!(rig.answer(&peer).0, b"less");
        let stats = rig.reactor.stats();
        assert_eq!((stats.datagrams_sent, stats.datagrams_dropped), (1, 1));
        assert_eq!(rig.told(), [Told::Drain]);
    });
}
