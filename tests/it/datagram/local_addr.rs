//! A socket that is bound to all addresses answers from the one that was asked. A client that is
//! connected to that address gets nothing else. Linux has the whole of 127.0.0.0/8 on loopback.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::Reactor;
use waterwheel::udp::{
    DatagramHandler, DatagramSocket, Group, SendStatus, Session, SessionEnd, SessionHandler,
    SessionOptions, UdpOptions,
};

use crate::support::PATIENCE;
use crate::support::datagrams::{Rig, Told, client, echo, try_receive};

/// No address of this machine, and what Linux says of it as a source.
const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);
const NOT_OWN: [ErrorKind; 2] = [ErrorKind::NetworkUnreachable, ErrorKind::InvalidInput];

/// One by one, and in batches.
fn both() -> [UdpOptions; 2] {
    [UdpOptions::default(), UdpOptions::default().batch(true)]
}

fn local(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

/// A client without a peer, which sees where answers come from.
fn open_client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What a handler was told of local addresses.
type Seen = Rc<RefCell<Vec<SocketAddr>>>;

/// An echo server that notes where each datagram arrived.
#[track_caller]
fn noting(addr: &str, options: UdpOptions) -> (Rig, Seen) {
    let seen = Seen::default();
    let noted = Rc::clone(&seen);
    let rig = Rig::bind(addr, options, move |socket, from, bytes| {
        noted.borrow_mut().push(socket.local_addr().unwrap());
        echo(socket, from, bytes);
    });
    (rig, seen)
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for options in both() {
        for (bound, asked) in [
            ("0.0.0.0:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.2"),
            ("[::]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
            ("[::]:0", "127.0.0.3"),
            ("[::ffff:0.0.0.0]:0", "127.0.0.4"),
            ("127.0.0.5:0", "127.0.0.5"),
        ] {
            let (mut rig, seen) = noting(bound, options.clone());
            let asked: IpAddr = asked.parse().unwrap();
            let asked = SocketAddr::new(asked, rig.addr.port());
            let client = client(asked);
            for bytes in [&b"one"[..], b"", b"three"] {
                client.send(bytes).unwrap();
                assert_eq!(rig.answer(&client), (bytes.to_vec(), asked), "{bound}");
            }
            let mapped = |local: SocketAddr| (local.ip().to_canonical(), local.port());
            let seen: HashSet<_> = seen.borrow().iter().copied().map(mapped).collect();
            assert_eq!(seen, HashSet::from([mapped(asked)]), "{bound}");
        }
    }
}

/// An address of IPv4 is told in the form that the sender's has.
#[test]
fn an_address_has_the_family_of_its_socket() {
    let (mut rig, seen) = noting("[::]:0", UdpOptions::default());
    let client = client(local(2, rig.addr.port()));
    client.send(b"x").unwrap();
    rig.answer(&client);
    let expected = Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped();
    assert_eq!(*seen.borrow(), [SocketAddr::from((expected, rig.addr.port()))]);
    // No datagram is handed over here.
    let bound = rig.with(|socket| socket.local_addr().unwrap());
    assert_eq!(bound, rig.addr);
}

/// A handler may keep addresses of IPv4 in one form, whatever the socket.
#[test]
fn an_answer_to_the_plain_form_of_a_mapped_address_is_one() {
    for options in both() {
        let mut rig = Rig::bind("[::]:0", options, |socket, from, bytes| {
            let plain = SocketAddr::new(from.ip().to_canonical(), from.port());
            assert!(plain.is_ipv4() && socket.send_to(plain, bytes).is_accepted());
        });
        let client = client(local(2, rig.addr.port()));
        client.send(b"x").unwrap();
        assert_eq!(rig.answer(&client).0, b"x");
    }
}

/// All of them wait for the server at once. Some runs of equal length would leave as one.
#[test]
fn each_of_a_batch_is_answered_from_its_own_address() {
    for options in both() {
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let (mut rig, _) = noting(bound, options.clone());
            let (client, other) = (open_client(), open_client());
            let asked = |number: u8| match number {
                ..30 => 1 + number % 3,
                30..60 => 2,
                _ => 1 + (number / 5) % 2,
            };
            for number in 0..100 {
                let from = if number % 10 == 9 { &other } else { &client };
                from.send_to(&[number], local(asked(number), rig.addr.port())).unwrap();
            }
            let mut answers = Vec::new();
            rig.until("all answers", |_| {
                let more = [&client, &other].map(try_receive);
                answers.extend(more.into_iter().flatten());
                answers.len() == 100
            });
            answers.sort();
            for (number, (bytes, from)) in (0..).zip(answers) {
                assert_eq!((bytes, from), (vec![number], local(asked(number), rig.addr.port())));
            }
        }
    }
}

/// More than one batch of answers to one datagram, as segments where there are batches.
#[test]
fn many_answers_leave_from_one_address() {
    for options in both() {
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let mut rig = Rig::bind(bound, options.clone(), |socket, from, bytes| {
                for _ in 0..150 {
                    assert!(socket.send_to(from, bytes).is_accepted());
                }
            });
            let client = client(local(2, rig.addr.port()));
            client.send(&[7; 500]).unwrap();
            for _ in 0..150 {
                assert_eq!(rig.answer(&client).0, [7; 500]);
            }
        }
    }
}

/// What goes elsewhere than back could be kept from its way by the address of the question.
#[test]
fn only_answers_are_bound_to_the_address_of_the_question() {
    for options in both() {
        let (same_host, elsewhere) = (open_client(), UdpSocket::bind("127.0.0.9:0").unwrap());
        elsewhere.set_nonblocking(true).unwrap();
        let to = [&same_host, &elsewhere].map(|socket| socket.local_addr().unwrap());
        let mut rig = Rig::bind("0.0.0.0:0", options, move |socket, _, bytes| {
            to.iter().for_each(|&to| assert!(socket.send_to(to, bytes).is_accepted()));
        });
        client(local(2, rig.addr.port())).send(b"x").unwrap();
        let port = rig.addr.port();
        assert_eq!(rig.answer(&same_host).1, local(2, port), "another port of the same host");
        assert_eq!(rig.answer(&elsewhere).1, local(1, port), "the kernel's choice");
    }
}

#[test]
fn without_a_datagram_the_kernel_chooses_unless_it_is_told() {
    let mut rig = Rig::bind("0.0.0.0:0", UdpOptions::default(), echo);
    let (port, client) = (rig.addr.port(), open_client());
    let to = client.local_addr().unwrap();
    assert_eq!(rig.with(|socket| socket.send_to(to, b"x")), SendStatus::Sent);
    assert_eq!(rig.answer(&client).1, local(1, port));
    for (from, expected) in [(local(3, 0), 3), (local(4, 9), 4), (([0; 4], 0).into(), 1)] {
        assert_eq!(rig.with(|socket| socket.send_from(from, to, b"x")), SendStatus::Sent);
        assert_eq!(rig.answer(&client).1, local(expected, port));
    }
    let status = rig.with(|socket| socket.send_from(STRANGER, to, b"x"));
    assert!(matches!(status, SendStatus::Failed(kind) if NOT_OWN.contains(&kind)), "{status:?}");
    let other_family = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0));
    let status = rig.with(|socket| socket.send_from(other_family, to, b"x"));
    assert_eq!(status, SendStatus::Failed(ErrorKind::InvalidInput));
    // A socket that is bound to one address sends from there.
    let mut rig = Rig::bind("127.0.0.6:0", UdpOptions::default(), echo);
    assert_eq!(rig.with(|socket| socket.send_from(local(3, 0), to, b"x")), SendStatus::Sent);
    assert_eq!(rig.answer(&client).1, rig.addr);
}

#[test]
fn a_batch_is_sent_from_where_it_is_told_and_says_what_cannot_be() {
    let mut rig = Rig::bind("[::]:0", UdpOptions::default().batch(true), echo);
    let (port, client) = (rig.addr.port(), open_client());
    let to = client.local_addr().unwrap();
    let from = [local(2, 0), local(2, 0), STRANGER, local(3, 0), ([0; 4], 0).into()];
    for (number, from) in (0..).zip(from) {
        let status = rig.with(|socket| socket.send_from(from, to, &[number]));
        assert_eq!(status, SendStatus::Batched);
    }
    for (number, from) in [(0, 2), (1, 2), (3, 3), (4, 1)] {
        assert_eq!(rig.answer(&client), (vec![number], local(from, port)));
    }
    let is_refusal = |told: &Told| matches!(told, Told::Error(kind) if NOT_OWN.contains(kind));
    rig.expect_told(1, is_refusal);
    assert_eq!(rig.told().iter().filter(|told| **told != Told::BatchEnd).count(), 1);
}

/// A group or a broadcast address is nobody's own.
#[test]
fn what_was_sent_to_many_is_answered_from_an_address_of_the_interface() {
    let group = Ipv4Addr::new(239, 255, 77, 3);
    for options in both() {
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let (mut rig, seen) = noting(bound, options.clone());
            let port = rig.addr.port();
            let client = open_client();
            client.set_broadcast(true).unwrap();
            client.send_to(b"broadcast", (Ipv4Addr::new(127, 255, 255, 255), port)).unwrap();
            assert_eq!(rig.answer(&client), (b"broadcast".to_vec(), local(1, port)), "{bound}");
            assert_eq!(seen.borrow()[0].ip().to_canonical(), Ipv4Addr::LOCALHOST);
            if bound.starts_with('[') {
                continue; // an IPv6 socket joins no IPv4 group
            }
            let joined = Group::new(group).interface(Ipv4Addr::LOCALHOST);
            rig.with(|socket| socket.join(&joined)).unwrap();
            let by_loopback = socket2::Socket::from(client);
            by_loopback.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
            let client = UdpSocket::from(by_loopback);
            client.send_to(b"group", (group, port)).unwrap();
            assert_eq!(rig.answer(&client), (b"group".to_vec(), local(1, port)));
            assert_eq!(seen.borrow()[1], local(1, port));
        }
    }
}

/// Answers at the end of a batch.
#[derive(Default)]
struct Later(Vec<(SocketAddr, SocketAddr)>);

impl DatagramHandler for Later {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, _: &[u8]) {
        self.0.push((socket.local_addr().unwrap(), from));
    }

    fn on_batch_end(&mut self, socket: &mut DatagramSocket<'_>) {
        assert!(socket.local_addr().unwrap().ip().is_unspecified());
        for (local, from) in self.0.drain(..) {
            assert!(socket.send_from(local, from, b"later").is_accepted());
        }
    }
}

#[test]
fn a_later_answer_leaves_from_the_address_that_was_kept() {
    for options in both() {
        let mut reactor = Reactor::new().unwrap();
        let later = reactor.register(Later::default());
        for (bound, asked) in [("0.0.0.0:0", 2), ("[::]:0", 3)] {
            let (_, addr) = reactor.bind_udp(bound, later, options.clone()).unwrap();
            let client = client(local(asked, addr.port()));
            client.send(b"x").unwrap();
            assert_eq!(expect(&mut reactor, &client).0, b"later");
        }
    }
}

/// Turns until the client has got a datagram.
#[track_caller]
fn expect(reactor: &mut Reactor, client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let start = Instant::now();
    loop {
        if let Some(answer) = try_receive(client) {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "no answer");
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
    }
}

/// Says what a session knows of itself, also at its end.
struct Asked(Seen);

impl SessionHandler for Asked {
    type State = ();

    fn on_session(&mut self, _: SocketAddr, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn on_datagram(&mut self, (): &mut (), session: &mut Session<'_>, bytes: &[u8]) {
        self.0.borrow_mut().push(session.local_addr().unwrap());
        assert!(session.send(bytes).is_accepted());
        let peer = session.peer_addr();
        assert!(session.socket().send_to(peer, bytes).is_accepted());
        if bytes == b"bye" {
            session.end();
        }
    }

    fn on_session_end(&mut self, (): (), session: &mut Session<'_>, _: SessionEnd) {
        assert!(session.send(b"end").is_accepted());
    }
}

#[test]
fn a_session_keeps_the_address_that_was_asked_last() {
    for options in both() {
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let seen = Seen::default();
            let mut reactor = Reactor::new().unwrap();
            let idle = SessionOptions::default().idle_timeout(Duration::from_millis(20));
            let asked = reactor.register(Asked(Rc::clone(&seen)));
            let (_, addr) = reactor.bind_sessions(bound, asked, idle, options.clone()).unwrap();
            let client = open_client();
            for (last, bytes) in [(2, &b"x"[..]), (3, b"y"), (4, b"bye"), (5, b"silent")] {
                let asked = local(last, addr.port());
                client.send_to(bytes, asked).unwrap();
                for _ in 0..2 {
                    assert_eq!(expect(&mut reactor, &client), (bytes.to_vec(), asked));
                }
                // By itself, or because it is silent for too long.
                if last > 3 {
                    assert_eq!(expect(&mut reactor, &client), (b"end".to_vec(), asked));
                }
                let noted = *seen.borrow().last().unwrap();
                assert_eq!(noted.ip().to_canonical(), asked.ip());
            }
        }
    }
}
