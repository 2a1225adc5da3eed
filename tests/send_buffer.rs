//! Datagrams over real sockets when the kernel takes no more: those that wait for an address to be
//! resolved fill a small send buffer, and those in many fragments are more than it holds.
#![cfg(target_os = "linux")]

#[path = "support/network.rs"]
mod network;
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use network::alone_or_skipped;
use support::datagrams::{Rig, Told, try_receive};
use waterwheel::{DatagramSocket, SendStatus, UdpOptions};

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

#[test]
fn what_the_kernel_does_not_take_waits_and_leaves_in_order() {
    alone_or_skipped(WIRE, || {
        shell(WIRE);
        let peer = UdpSocket::bind("0.0.0.0:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let to = SocketAddr::from(([10, 9, 9, 2], peer.local_addr().unwrap().port()));
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
        // There is room again, and nobody overtakes those that wait.
        assert_eq!(send(&mut rig, to, 255), SendStatus::Dropped);
        rig.expect_told(1, |told| *told == Told::Drain);
        assert_eq!(rig.with(waiting), (0, 0));
        assert_eq!(send(&mut rig, to, taken + 4), SendStatus::Sent);
        for number in 0..taken + 5 {
            assert_eq!(rig.answer(&peer).0, [number]);
        }
        assert!(try_receive(&peer).is_none());
        let stats = rig.reactor.stats();
        assert_eq!((stats.datagrams_sent, stats.datagrams_dropped), (u64::from(taken) + 5, 2));
        assert_eq!(rig.told(), [Told::Drain]);
    });
}

#[test]
fn what_waits_leaves_within_the_budget_of_a_turn() {
    alone_or_skipped(WIRE, || {
        shell(WIRE);
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
fn one_that_closes_counts_what_it_loses() {
    alone_or_skipped(WIRE, || {
        shell(WIRE);
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
