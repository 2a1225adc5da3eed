//! Datagrams that are received and sent in batches: each whole, in order, from and to whom it
//! was, and nothing lost by what a callback does in the middle of one.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::udp::{DatagramHandler, DatagramSocket, SendStatus, SocketId, UdpOptions};
use waterwheel::{Conn, Context, Handler, ListenOptions, Reactor, Timer};

use crate::support::datagrams::{Rig, Told, UNREACHABLE, client, echo, try_receive};
use crate::support::{patiently, pattern};

const NOTHING: fn(&mut DatagramSocket<'_>, SocketAddr, &[u8]) = |_, _, _| {};

fn batch() -> UdpOptions {
    UdpOptions::default().batch(true)
}

/// What a client has got, and nothing more is coming.
fn all_of(client: &UdpSocket) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| try_receive(client)).map(|(bytes, _)| bytes).collect()
}

#[test]
fn each_peer_gets_its_own_in_order() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        if addr.starts_with('[') && UdpSocket::bind(addr).is_err() {
            eprintln!("skipped: this machine has no IPv6");
            continue;
        }
        let mut rig = Rig::bind(addr, batch(), echo);
        let clients = [(); 7].map(|()| client(rig.addr));
        // Other lengths in another order, with more than one batch of them.
        for round in 0..20_usize {
            for (at, client) in clients.iter().enumerate() {
                let length = (at * 37 + round * 101) % 300;
                client.send(&pattern(length)).unwrap();
            }
        }
        rig.expect_told(140, |told| matches!(told, Told::Datagram(..)));
        for (at, client) in clients.iter().enumerate() {
            let expected: Vec<_> =
                (0..20).map(|round| pattern((at * 37 + round * 101) % 300)).collect();
            assert!(all_of(client) == expected, "client {at}");
        }
        let stats = rig.reactor.stats();
        assert_eq!((stats.datagrams_received, stats.datagrams_sent), (140, 140));
        assert_eq!(stats.datagram_bytes_received, stats.datagram_bytes_sent);
        assert_eq!((stats.datagrams_dropped, stats.datagram_errors), (0, 0));
        assert!(!rig.told().contains(&Told::Drain));
    }
}

#[test]
fn any_length_passes_and_a_longer_one_is_cut() {
    let mut rig = Rig::bind("127.0.0.1:0", batch().max_datagram_bytes(60_000), NOTHING);
    let client = client(rig.addr);
    for length in [0, 60_000, 60_001, 65_507, 1] {
        client.send(&pattern(length)).unwrap();
    }
    rig.expect_told(5, |told| matches!(told, Told::Datagram(..)));
    let mut told = rig.told();
    told.retain(|told| *told != Told::BatchEnd);
    let whole = |length| Told::Datagram(pattern(length), false);
    let cut = || Told::Datagram(pattern(60_000), true);
    assert!(told == [whole(0), whole(60_000), cut(), cut(), whole(1)]);
    assert_eq!(rig.reactor.stats().datagrams_truncated, 2);
}

#[test]
fn sockets_with_other_lengths_share_the_room() {
    let mut rig = Rig::bind("127.0.0.1:0", batch().max_datagram_bytes(10), echo);
    let options = batch().max_datagram_bytes(2_000);
    let (_, second) = rig.reactor.bind_udp("127.0.0.1:0", rig.service, options).unwrap();
    let (small, large) = (client(rig.addr), client(second));
    for _ in 0..3 {
        small.send(&pattern(11)).unwrap();
        large.send(&pattern(1_999)).unwrap();
        assert_eq!(rig.answer(&small).0, pattern(10));
        assert_eq!(rig.answer(&large).0, pattern(1_999));
    }
}

#[test]
fn a_batch_holds_no_more_than_the_budget() {
    let mut rig = Rig::bind("127.0.0.1:0", batch().receive_budget(3), NOTHING);
    let client = client(rig.addr);
    for _ in 0..10 {
        client.send(b"x").unwrap();
    }
    for expected in [6, 9, 10] {
        // A budget for its event, and one from the ready queue.
        rig.turn();
        assert_eq!(rig.reactor.stats().datagrams_received, expected);
    }
    let ends: Vec<_> = rig.told().iter().map(|told| *told == Told::BatchEnd).collect();
    let batches: Vec<_> = ends.split(|&is_end| is_end).map(<[bool]>::len).collect();
    assert_eq!(batches, [3, 3, 3, 1, 0]);
}

/// What a callback sends beyond a batch does not wait for its end.
#[test]
fn more_than_a_batch_is_sent_at_once() {
    let mut rig = Rig::bind("127.0.0.1:0", batch(), |socket, from, _| {
        for number in 0..200_u8 {
            assert_eq!(socket.send_to(from, &[number]), SendStatus::Batched);
            let batched = (usize::from(number) + 1) % 64;
            assert_eq!((socket.queued_datagrams(), socket.queued_bytes()), (batched, batched));
        }
    });
    let client = client(rig.addr);
    client.send(b"go").unwrap();
    rig.expect_told(1, |told| *told == Told::BatchEnd);
    assert_eq!(all_of(&client), (0..200).map(|number| vec![number]).collect::<Vec<_>>());
}

/// Sends from wherever a socket can be reached.
struct Sender {
    socket: Option<SocketId>,
    to: SocketAddr,
}

impl Sender {
    fn send(&self, cx: &mut Context<'_>, bytes: &[u8]) {
        let id = self.socket.expect("a socket");
        assert_eq!(cx.socket(id).expect("it is open").send_to(self.to, bytes), SendStatus::Batched);
    }
}

impl DatagramHandler for Sender {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: SocketAddr, _: &[u8]) {}

    fn on_batch_end(&mut self, socket: &mut DatagramSocket<'_>) {
        socket.send_to(self.to, b"at the end");
    }

    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, _: Timer) {
        socket.send_to(self.to, b"by a timer");
    }
}

/// Has the sender send when a connection ends: among the last things of a turn.
struct Ender(Rc<RefCell<Sender>>);

impl Handler for Ender {
    type State = ();

    fn on_accept(&mut self, _: &waterwheel::Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, (): (), _: waterwheel::Closed, cx: &mut Context<'_>) {
        self.0.borrow().send(cx, b"at a close");
    }
}

#[test]
fn what_is_sent_anywhere_leaves_in_time() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_nonblocking(true).unwrap();
    let to = peer.local_addr().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Sender { socket: None, to });
    let (id, addr) = reactor.bind_udp("127.0.0.1:0", service, batch()).unwrap();
    let sender = Rc::new(RefCell::new(Sender { socket: Some(id), to }));
    let ender = reactor.register(Ender(Rc::clone(&sender)));
    let listener = reactor.listen("127.0.0.1:0", ender, ListenOptions::default()).unwrap();
    // Nothing else ends the long wait of a turn.
    let expect = |reactor: &mut Reactor, text: &str| {
        let got = patiently(text, || {
            reactor.run_once(Some(Duration::from_millis(1))).unwrap();
            try_receive(&peer)
        });
        assert_eq!(got.0, text.as_bytes());
    };
    sender.borrow().send(&mut reactor.context(), b"between turns");
    let start = std::time::Instant::now();
    reactor.run_once(Some(Duration::from_secs(20))).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "the batch waited for an event");
    expect(&mut reactor, "between turns");
    reactor.context().socket(id).unwrap().set_timer(Duration::from_millis(1), 0);
    expect(&mut reactor, "by a timer");
    client(addr).send(b"x").unwrap();
    expect(&mut reactor, "at the end");
    drop(std::net::TcpStream::connect(listener).unwrap());
    expect(&mut reactor, "at a close");
    // The batch leaves before the socket goes.
    sender.borrow().send(&mut reactor.context(), b"the last");
    reactor.context().socket(id).unwrap().close();
    expect(&mut reactor, "the last");
}

#[test]
fn a_panic_in_a_batch_loses_its_datagram_and_nothing_else() {
    let mut rig = Rig::bind("127.0.0.1:0", batch(), |socket, from, bytes| {
        assert!(bytes[0] % 10 != 5, "on purpose");
        echo(socket, from, bytes);
    });
    // Another one is served meanwhile.
    let (_, second) = rig.reactor.bind_udp("127.0.0.1:0", rig.service, batch()).unwrap();
    let (first, second) = (client(rig.addr), client(second));
    for number in 0..50_u8 {
        first.send(&[number]).unwrap();
        second.send(&[number + 100]).unwrap();
    }
    rig.expect_told(100, |told| matches!(told, Told::Datagram(..)));
    rig.turn();
    let expected = |from: u8| -> Vec<_> {
        (from..from + 50).filter(|number| number % 10 != 5).map(|number| vec![number]).collect()
    };
    assert_eq!(all_of(&first), expected(0));
    assert_eq!(all_of(&second), expected(100));
    assert_eq!(rig.reactor.stats().panics, 10);
}

/// What was handed over before the panic, or behind it, has an end all the same.
#[test]
fn a_batch_that_a_panic_has_cut_has_an_end() {
    for (is_batch, texts) in [false, true].into_iter().flat_map(|is_batch| {
        [["one", "boom", "two"], ["one", "two", "boom"], ["boom", "one", "two"]]
            .map(|texts| (is_batch, texts))
    }) {
        let options = UdpOptions::default().batch(is_batch);
        let mut rig = Rig::bind("127.0.0.1:0", options, |_, _, bytes| {
            assert_ne!(bytes, b"boom", "on purpose");
        });
        let client = client(rig.addr);
        for bytes in texts {
            client.send(bytes.as_bytes()).unwrap();
        }
        for _ in 0..10 {
            rig.turn();
        }
        let told = rig.told();
        let datagrams = told.iter().filter(|told| matches!(told, Told::Datagram(..)));
        assert_eq!((datagrams.count(), rig.reactor.stats().panics), (3, 1));
        assert_eq!(told.last(), Some(&Told::BatchEnd), "{texts:?}, batch {is_batch}: {told:?}");
    }
}

/// Each batch is cut by a panic, and more is coming.
#[test]
fn panics_in_a_flood_hold_up_no_other() {
    let mut rig = Rig::bind("127.0.0.1:0", batch(), |socket, from, bytes| {
        assert!(bytes != b"boom", "on purpose");
        if bytes == b"other" {
            echo(socket, from, bytes);
        }
    });
    let (_, second) = rig.reactor.bind_udp("127.0.0.1:0", rig.service, batch()).unwrap();
    let (first, second) = (client(rig.addr), client(second));
    let mut turns = 0;
    let mut flood = || {
        for bytes in [b"good", b"boom", b"good", b"good"].repeat(10) {
            let _ = first.send(bytes); // the kernel drops what there is no room for
        }
        turns += 1;
        assert!(turns < 500, "the other one waits in vain");
    };
    for _ in 0..50 {
        flood();
        rig.turn();
    }
    second.send(b"other").unwrap();
    rig.until("an answer", |_| {
        flood();
        try_receive(&second).is_some()
    });
}

#[test]
fn a_socket_that_closes_in_a_batch_gets_no_more_of_it() {
    let mut rig = Rig::bind("127.0.0.1:0", batch(), |socket, from, bytes| {
        socket.send_to(from, bytes);
        if bytes == b"end" {
            socket.close();
            assert_eq!(socket.send_to(from, b"too late"), SendStatus::Closed);
        }
    });
    let id = rig.id;
    let client = client(rig.addr);
    for bytes in ["one", "end", "two", "three"] {
        client.send(bytes.as_bytes()).unwrap();
    }
    rig.expect_told(1, |told| *told == Told::Close(id));
    let told = |text: &str| Told::Datagram(text.as_bytes().to_vec(), false);
    assert_eq!(rig.told(), [told("one"), told("end"), Told::Close(id)]);
    assert_eq!(all_of(&client), [b"one", b"end"]);
}

#[test]
fn what_the_system_refuses_is_an_error_and_the_rest_is_sent() {
    let mut rig = Rig::bind("127.0.0.1:0", batch(), NOTHING);
    let client = client(rig.addr);
    let to = client.local_addr().unwrap();
    let port_0 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    rig.with(|socket| {
        assert_eq!(socket.send_to(to, &pattern(65_528)), SendStatus::TooLong);
        for number in 0..9 {
            let to = if number % 3 == 1 { port_0 } else { to };
            assert_eq!(socket.send_to(to, &[number]), SendStatus::Batched);
        }
        // No IPv4 datagram is so long, and an IPv6 datagram may be.
        assert_eq!(socket.send_to(to, &pattern(65_527)), SendStatus::Batched);
    });
    rig.expect_told(4, |told| matches!(told, Told::Error(_)));
    assert_eq!(all_of(&client), [0, 2, 3, 5, 6, 8].map(|number| vec![number]));
    assert_eq!(rig.told(), [const { Told::Error(ErrorKind::InvalidInput) }; 4]);
    let stats = rig.reactor.stats();
    assert_eq!((stats.datagrams_sent, stats.datagrams_dropped), (6, 4));
}

#[test]
fn an_unreachable_port_is_told_and_closes_nothing() {
    let mut rig = Rig::bind("127.0.0.1:0", batch(), echo);
    let own = if cfg!(target_os = "linux") { "127.0.0.78:0" } else { "127.0.0.1:0" };
    let peer = UdpSocket::bind(own).unwrap();
    let to = peer.local_addr().unwrap();
    drop(peer);
    let (id, from) = rig.reactor.connect_udp(to, rig.service, batch()).unwrap();
    rig.id = id;
    for round in 1..=3 {
        assert_eq!(rig.with(|socket| socket.send(b"anybody there?")), SendStatus::Batched);
        rig.expect_told(round, |told| *told == Told::Error(UNREACHABLE));
    }
    let peer = UdpSocket::bind(to).unwrap();
    peer.set_nonblocking(true).unwrap();
    for number in 0..3 {
        rig.with(|socket| socket.send(&[number]));
    }
    for number in 0..3 {
        assert_eq!(rig.answer(&peer), (vec![number], from));
    }
    peer.send_to(b"hi", from).unwrap();
    assert_eq!(rig.answer(&peer), (b"hi".to_vec(), from));
}

/// The answer to one batch is met when the next one is sent, by when the peer is there.
#[test]
fn an_answer_to_an_older_batch_is_told_though_the_next_one_is_sent() {
    let mut rig = Rig::bind("127.0.0.1:0", batch(), NOTHING);
    let own = if cfg!(target_os = "linux") { "127.0.0.79:0" } else { "127.0.0.1:0" };
    let to = UdpSocket::bind(own).unwrap().local_addr().unwrap();
    (rig.id, _) = rig.reactor.connect_udp(to, rig.service, batch()).unwrap();
    let send_batch = |socket: &mut DatagramSocket<'_>| {
        (0..64).for_each(|number| assert_eq!(socket.send(&[number]), SendStatus::Batched));
    };
    rig.with(send_batch);
    let peer = UdpSocket::bind(to).unwrap();
    peer.set_nonblocking(true).unwrap();
    rig.with(send_batch);
    rig.expect_told(1, |told| *told == Told::Error(UNREACHABLE));
    assert_eq!(all_of(&peer), (0..64).map(|number| vec![number]).collect::<Vec<_>>());
}

#[test]
fn segments_are_cut_each_for_itself() {
    let mut to = Rig::bind("127.0.0.1:0", batch().max_datagram_bytes(4), NOTHING);
    let mut from = Rig::bind("127.0.0.1:0", batch(), NOTHING);
    from.with(|socket| {
        for bytes in ["fives", "sixes", "four"] {
            socket.send_to(to.addr, bytes.as_bytes());
        }
    });
    from.turn();
    to.expect_told(3, |told| matches!(told, Told::Datagram(..)));
    let told = |text: &str, cut| Told::Datagram(text.as_bytes().to_vec(), cut);
    let expected = [told("five", true), told("sixe", true), told("four", false)];
    assert_eq!(to.told()[..3], expected);
}
