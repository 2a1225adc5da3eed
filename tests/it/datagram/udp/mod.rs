//! Datagrams over real sockets: whole, flagged when cut, within a budget; errors of the network
//! close nothing.

mod connected;
mod multicast;

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use waterwheel::udp::{DatagramHandler, DatagramSocket, Group, SendStatus, UdpOptions};
use waterwheel::{Conn, Context, ListenOptions, Reactor, Timer};

use crate::support::datagrams::{Rig, Told, client, echo, try_receive};
use crate::support::{Client, Script, patiently, pattern};

const NOTHING: fn(&mut DatagramSocket<'_>, SocketAddr, &[u8]) = |_, _, _| {};

#[test]
fn datagrams_come_back_over_both_families() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        if addr.starts_with('[') && UdpSocket::bind(addr).is_err() {
            eprintln!("skipped: this machine has no IPv6");
            continue;
        }
        let mut rig = Rig::bind(addr, UdpOptions::default(), echo);
        let client = client(rig.addr);
        for bytes in [&b"hello"[..], b"", b"again"] {
            client.send(bytes).unwrap();
            assert_eq!(rig.answer(&client), (bytes.to_vec(), rig.addr));
        }
        let stats = rig.reactor.stats();
        assert_eq!((stats.datagrams_received, stats.datagrams_sent), (3, 3));
        assert_eq!((stats.datagram_bytes_received, stats.datagram_bytes_sent), (10, 10));
        assert_eq!((stats.datagrams_dropped, stats.datagrams_truncated), (0, 0));
    }
}

#[test]
fn the_longest_datagram_passes_and_a_longer_one_says_so() {
    let mut rig = Rig::echo();
    let client = client(rig.addr);
    let longest = pattern(65_507);
    client.send(&longest).unwrap();
    let (answer, _) = rig.answer(&client);
    assert!(answer == longest);
    assert!(!matches!(rig.told()[0], Told::Datagram(_, true)));
    let to = client.local_addr().unwrap();
    assert_eq!(rig.with(|socket| socket.send_to(to, &pattern(65_508))), SendStatus::TooLong);
    assert_eq!(rig.with(|socket| socket.send_to(to, b"on")), SendStatus::Sent);
    assert_eq!(rig.answer(&client).0, b"on");
}

#[test]
fn a_datagram_that_is_cut_is_flagged() {
    let options = UdpOptions::default().max_datagram_bytes(4);
    let mut rig = Rig::bind("127.0.0.1:0", options, NOTHING);
    let client = client(rig.addr);
    for bytes in ["four", "fives", "sixty-six", ""] {
        client.send(bytes.as_bytes()).unwrap();
    }
    // Windows has an error for one that is longer than the buffer, which has room for a byte more.
    let errors = u64::from(cfg!(windows));
    rig.expect_told(4 - errors as usize, |told| matches!(told, Told::Datagram(..)));
    let mut expected = vec![("four", false), ("five", true), ("sixt", true), ("", false)];
    expected.drain(2..2 + errors as usize);
    let mut told = rig.told();
    told.retain(|told| matches!(told, Told::Datagram(..)));
    let datagram = |(text, cut): (&str, bool)| Told::Datagram(text.as_bytes().to_vec(), cut);
    assert_eq!(told, expected.into_iter().map(datagram).collect::<Vec<_>>());
    let stats = rig.reactor.stats();
    assert_eq!((stats.datagrams_truncated, stats.datagram_errors), (2 - errors, errors));
}

#[test]
fn a_batch_has_one_end() {
    let options = UdpOptions::default().receive_budget(3);
    let mut rig = Rig::bind("127.0.0.1:0", options, NOTHING);
    let client = client(rig.addr);
    for _ in 0..5 {
        client.send(b"x").unwrap();
    }
    rig.turn();
    rig.turn();
    let x = Told::Datagram(b"x".to_vec(), false);
    let end = Told::BatchEnd;
    let (a, b) = (x.clone(), end.clone());
    assert_eq!(rig.told(), [x.clone(), x.clone(), x.clone(), end, a.clone(), a, b]);
}

#[test]
fn what_the_system_refuses_is_told_at_once() {
    let mut rig = Rig::echo();
    // Broadcast was not asked for.
    let all = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    let told = rig.with(|socket| socket.send_to(all, b"x"));
    assert!(matches!(told, SendStatus::Failed(_)), "{told:?}");
    let port_0 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    assert_eq!(
        rig.with(|socket| socket.send_to(port_0, b"x")),
        SendStatus::Failed(ErrorKind::InvalidInput)
    );
    let of_v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
    let told = rig.with(|socket| socket.send_to(of_v6, b"x"));
    assert!(matches!(told, SendStatus::Failed(_)), "{told:?}");
    if cfg!(unix) {
        assert_eq!(told, SendStatus::Failed(ErrorKind::InvalidInput));
    }
    rig.turn();
    assert_eq!(rig.told(), []);
    assert_eq!(rig.reactor.stats().datagrams_sent, 0);
}

/// Keeps the socket's receive buffer full.
fn flood(client: &UdpSocket) {
    for _ in 0..2_000 {
        if client.send(&[0; 16]).is_err() {
            return;
        }
    }
}

#[test]
fn a_turn_receives_no_more_than_its_budget() {
    let options = UdpOptions::default().receive_budget(4);
    let mut rig = Rig::bind("127.0.0.1:0", options, NOTHING);
    let client = client(rig.addr);
    for _ in 0..50 {
        flood(&client);
        let before = rig.reactor.stats().datagrams_received;
        rig.turn();
        let received = rig.reactor.stats().datagrams_received - before;
        // A budget for its event, and one from the ready queue.
        assert!((1..=8).contains(&received), "{received}");
    }
}

/// What is left over is received without another event.
#[test]
fn a_budget_that_runs_out_loses_nothing() {
    let options = UdpOptions::default().receive_budget(1);
    let mut rig = Rig::bind("127.0.0.1:0", options, NOTHING);
    let client = client(rig.addr);
    for number in 0..100_u8 {
        client.send(&[number]).unwrap();
    }
    rig.expect_told(100, |told| matches!(told, Told::Datagram(..)));
    let mut told = rig.told();
    told.retain(|told| *told != Told::BatchEnd);
    let numbers: Vec<Told> = (0..100).map(|at| Told::Datagram(vec![at], false)).collect();
    assert_eq!(told, numbers);
}

/// Nor when the reactor begins to drain meanwhile, and closes its listeners.
#[test]
fn datagrams_that_wait_when_a_drain_begins_are_received() {
    let mut rig = Rig::bind("127.0.0.1:0", UdpOptions::default().receive_budget(1), NOTHING);
    let stays = rig.reactor.register(Script::new().shutdown(|_| {}));
    let listener = rig.reactor.listen("127.0.0.1:0", stays, ListenOptions::default()).unwrap();
    let _connection = Client::connect(listener);
    rig.until("accepted", |rig| rig.reactor.stats().accepted == 1);
    let client = client(rig.addr);
    for _ in 0..9 {
        client.send(b"x").unwrap();
    }
    rig.reactor.context().drain(Duration::from_secs(3_600));
    rig.expect_told(9, |told| matches!(told, Told::Datagram(..)));
}

#[test]
fn a_flood_stops_neither_timers_nor_connections() {
    let mut rig = Rig::bind("127.0.0.1:0", UdpOptions::default(), NOTHING);
    let service = rig.reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    let listener = rig.reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    let timer = rig.with(|socket| socket.set_periodic_timer(Duration::from_millis(2), 0));
    let flooder = client(rig.addr);
    flood(&flooder);
    let mut client = Client::connect(listener);
    client.send(b"ping");
    let (mut turns, mut answer) = (0, Vec::new());
    patiently("an answer beside a flood", || {
        flood(&flooder);
        let before = rig.reactor.stats().datagrams_received;
        rig.turn();
        assert!(rig.reactor.stats().datagrams_received > before, "the flood has stopped");
        turns += 1;
        answer.extend(client.try_read(16).unwrap());
        (answer == b"ping").then_some(())
    });
    assert!(turns <= 4, "{turns} turns");
    patiently("timers beside a flood", || {
        flood(&flooder);
        rig.turn();
        let told = rig.log.borrow();
        (told.iter().filter(|told| **told == Told::Timer(timer)).count() >= 5).then_some(())
    });
}

#[test]
fn a_closed_socket_is_told_once_and_its_id_finds_nothing() {
    let mut rig = Rig::bind("127.0.0.1:0", UdpOptions::default(), |socket, from, _| {
        socket.set_timer(Duration::from_millis(1), 0);
        socket.close();
        assert!(!socket.is_open());
        assert_eq!(socket.send_to(from, b"too late"), SendStatus::Closed);
        assert_eq!(socket.local_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        socket.set_timer(Duration::from_millis(1), 0);
        socket.close();
    });
    let old = rig.id;
    let client = client(rig.addr);
    client.send(b"end").unwrap();
    client.send(b"not received").unwrap();
    rig.expect_told(1, |told| matches!(told, Told::Close(_)));
    // The slot is used again.
    let (new, _) = rig.reactor.bind_udp("127.0.0.1:0", rig.service, Default::default()).unwrap();
    assert_ne!(old, new);
    assert!(rig.reactor.context().socket(old).is_none());
    assert!(rig.reactor.context().socket(new).is_some());
    // The timer of the closed one would have fired first.
    rig.reactor.set_timer(rig.service, Duration::from_millis(3), 0);
    rig.expect_told(1, |told| *told == Told::HandlerTimer);
    let end = Told::Datagram(b"end".to_vec(), false);
    assert_eq!(rig.told(), [end, Told::Close(old), Told::HandlerTimer]);
    // Its callback has found what it expected, and its timers went with it.
    let stats = rig.reactor.stats();
    assert_eq!((stats.panics, stats.timers_fired), (0, 1));
}

#[test]
fn a_reactor_that_stops_closes_its_sockets() {
    let mut rig = Rig::echo();
    let (second, _) = rig.reactor.bind_udp("127.0.0.1:0", rig.service, Default::default()).unwrap();
    rig.reactor.context().drain(Duration::from_secs(1));
    while rig.reactor.run_once(Some(Duration::ZERO)).unwrap() {}
    assert_eq!(rig.told(), [Told::Close(rig.id), Told::Close(second)]);
    let error = rig.reactor.bind_udp("127.0.0.1:0", rig.service, Default::default()).unwrap_err();
    assert!(error.to_string().contains("stopping"), "{error}");
    let any = "127.0.0.1:0";
    for connects in [false, true] {
        let mut cx = rig.reactor.context();
        let options = UdpOptions::default();
        let opened = match connects {
            true => cx.connect_udp(rig.addr, rig.service, &options),
            false => cx.bind_udp(any, rig.service, &options),
        };
        assert!(opened.unwrap_err().to_string().contains("stopping"));
    }
    let log = Rig::echo();
    let (told, id) = (Rc::clone(&log.log), log.id);
    drop(log);
    assert_eq!(*told.borrow(), [Told::Close(id)]);
}

#[test]
fn a_panic_loses_its_datagram_and_nothing_else() {
    let mut rig = Rig::bind("127.0.0.1:0", UdpOptions::default(), |socket, from, bytes| {
        assert_ne!(bytes, b"boom", "on purpose");
        echo(socket, from, bytes);
    });
    let client = client(rig.addr);
    for bytes in ["one", "boom", "two"] {
        client.send(bytes.as_bytes()).unwrap();
    }
    // No event tells of what was behind it.
    assert_eq!(rig.answer(&client).0, b"one");
    assert_eq!(rig.answer(&client).0, b"two");
    assert_eq!(rig.reactor.stats().panics, 1);
}

/// Tries again whenever it is told an error, each time with another datagram that is refused.
struct Retries(Rc<Cell<u32>>);

impl DatagramHandler for Retries {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: SocketAddr, _: &[u8]) {}

    fn on_error(&mut self, socket: &mut DatagramSocket<'_>, _: io::Error) {
        self.0.set(self.0.get() + 1);
        assert!(self.0.get() < 10_000, "the turn has no end");
        socket.send(b"again");
    }
}

#[test]
fn who_answers_errors_by_sending_holds_up_nobody() {
    for is_batch in [false, true] {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let told = Rc::default();
        let service = reactor.register(Retries(Rc::clone(&told)));
        let options = UdpOptions::default().batch(is_batch);
        let (id, _) = reactor.connect_udp(to, service, options).unwrap();
        for _ in 0..3 {
            reactor.context().socket(id).unwrap().send(b"anybody there?");
        }
        for _ in 0..5 {
            reactor.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(reactor.stats().panics, 0, "{} errors were told", told.get());
    }
}

#[test]
fn handlers_are_reached_by_their_key() {
    let mut rig = Rig::echo();
    let service = rig.service;
    rig.reactor.set_timer(service, Duration::from_millis(1), 0);
    let seen = Rc::new(Cell::new(0));
    let posted = Rc::clone(&seen);
    rig.reactor.context().post(service, move |handler, _| {
        posted.set(handler.log.borrow().len() + 1);
    });
    let remote = rig.reactor.remote();
    let id = rig.id;
    thread::spawn(move || {
        remote
            .with(service, move |_, cx: &mut Context<'_>| cx.socket(id).unwrap().close())
            .unwrap();
    })
    .join()
    .unwrap();
    rig.expect_told(1, |told| *told == Told::HandlerTimer);
    rig.expect_told(1, |told| *told == Told::Close(id));
    assert_eq!(seen.get(), 1);
    assert!(rig.reactor.handler_mut(service).is_some());
}

#[test]
fn a_callback_binds_and_connects_sockets() {
    struct Door {
        service: waterwheel::HandlerKey<Door>,
        answers: Rc<Cell<u32>>,
    }
    impl DatagramHandler for Door {
        fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
            if bytes == b"knock" {
                let options = UdpOptions::default();
                let mut cx = socket.context();
                let (own, addr) = cx.bind_udp("127.0.0.1:0", self.service, &options).unwrap();
                let (to_it, _) = cx.connect_udp(addr, self.service, &options).unwrap();
                assert_ne!(own, to_it);
                cx.socket(to_it).unwrap().send(b"hello");
                socket.send_to(from, b"opened");
            } else {
                self.answers.set(self.answers.get() + 1);
            }
        }

        fn on_timer(&mut self, _: &mut DatagramSocket<'_>, _: Timer) {}
    }
    let answers = Rc::new(Cell::new(0));
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register_with(|service| Door { service, answers: Rc::clone(&answers) });
    let (_, addr) = reactor.bind_udp("127.0.0.1:0", service, UdpOptions::default()).unwrap();
    let client = client(addr);
    client.send(b"knock").unwrap();
    patiently("the new sockets talk", || {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        (answers.get() == 1).then_some(())
    });
    assert_eq!(try_receive(&client).unwrap().0, b"opened");
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
#[test]
fn sockets_share_an_address_when_all_ask_for_it() {
    let options = UdpOptions::default().reuse_port(true);
    let mut rig = Rig::bind("127.0.0.1:0", options.clone(), NOTHING);
    rig.reactor.bind_udp(rig.addr, rig.service, options).unwrap();
    let error = rig.reactor.bind_udp(rig.addr, rig.service, UdpOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.contains(&rig.addr.to_string()) && text.contains("stop what is bound"), "{text}");
}

#[test]
fn options_reach_the_socket() {
    let options = UdpOptions::default()
        .ttl(Some(7))
        .tos(Some(0x10))
        .broadcast(true)
        .reuse_address(true)
        .send_buffer_bytes(Some(64 << 10))
        .receive_buffer_bytes(Some(64 << 10));
    let mut rig = Rig::bind("127.0.0.1:0", options.clone(), echo);
    // A second one may share the address.
    rig.reactor.bind_udp(rig.addr, rig.service, options).unwrap();
    let v6 = UdpOptions::default()
        .only_v6(Some(true))
        .ttl(Some(7))
        .multicast_ttl(Some(1))
        .multicast_loop(Some(false))
        .multicast_interface_index(Some(1));
    match rig.reactor.bind_udp("[::]:0", rig.service, v6) {
        Ok((_, addr)) => {
            // The IPv4 side of the port is free.
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, addr.port())).unwrap();
        }
        Err(error) => eprintln!("skipped: {error}"),
    }
}

#[track_caller]
fn expect_refused(addr: &str, options: UdpOptions, name: &str) {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(NOTHING);
    let error = reactor.bind_udp(addr, service, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn an_option_out_of_range_is_told_by_name() {
    let v4 = |options, name| expect_refused("127.0.0.1:0", options, name);
    let options = UdpOptions::default;
    v4(options().receive_budget(0), "receive_budget");
    v4(options().max_datagram_bytes(0), "max_datagram_bytes");
    v4(options().max_datagram_bytes(65_536), "max_datagram_bytes");
    v4(options().max_queued_datagrams(0), "max_queued_datagrams");
    v4(options().max_queued_bytes(0), "max_queued_bytes");
    v4(options().ttl(Some(0)), "ttl");
    v4(options().ttl(Some(256)), "ttl");
    v4(options().multicast_ttl(Some(256)), "multicast_ttl");
    let interface = options().multicast_interface(Some(Ipv4Addr::LOCALHOST));
    v4(interface.clone().multicast_interface_index(Some(1)), "multicast_interface_index");
    expect_refused("[::1]:0", interface, "multicast_interface_index");
    for only_v6 in [false, true] {
        v4(options().only_v6(Some(only_v6)), "only_v6");
    }
    v4(options().send_buffer_bytes(Some(0)), "send_buffer_bytes");
    v4(options().receive_buffer_bytes(Some(usize::MAX)), "receive_buffer_bytes");
    v4(options().groups(vec![Group::new([127, 0, 0, 1])]), "multicast address");
    v4(options().groups(vec![Group::new(Ipv6Addr::from(0xff02 << 112 | 1))]), "family");
    let two_ways = Group::new([239, 255, 77, 1]).interface(Ipv4Addr::LOCALHOST).interface_index(1);
    v4(options().groups(vec![two_ways]), "group.interface");
    let of_v6 = Group::new(Ipv6Addr::from(0xff02 << 112 | 1)).interface(Ipv4Addr::LOCALHOST);
    expect_refused("[::1]:0", options().groups(vec![of_v6]), "interface_index");
    v4(options().source(Some("[::1]:0".parse().unwrap())), "source");
    expect_refused("nowhere", options(), "nowhere");
}

/// Datagrams that the kernel has thrown away for want of room in this socket's buffer, from its
/// own table (proc(5), /proc/net/udp, column "drops").
#[cfg(target_os = "linux")]
fn kernel_drops(addr: SocketAddr) -> u64 {
    let port = format!(":{:04X}", addr.port());
    // The table is read in pieces, between which sockets of other tests come and go: a line that
    // moves meanwhile is in neither.
    patiently("the socket's line", || {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|line| line.get(1).is_some_and(|local| local.ends_with(&port)))?;
        Some(line.last().unwrap().parse().unwrap())
    })
}

/// Sends as fast as it can from a thread of its own while the loop receives; every datagram was
/// received, or the kernel counts it as dropped.
#[cfg(target_os = "linux")]
fn expect_accounted(count: u64, options: UdpOptions) {
    let mut rig = Rig::bind("127.0.0.1:0", UdpOptions::default(), NOTHING);
    let quiet = rig.reactor.register(NOTHING);
    let (id, addr) = rig.reactor.bind_udp("127.0.0.1:0", quiet, options).unwrap();
    let sender = thread::spawn(move || {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..count {
            assert_eq!(client.send_to(&number.to_le_bytes(), addr).unwrap(), 8);
        }
    });
    while !sender.is_finished() {
        rig.reactor.run_once(Some(Duration::from_millis(1))).unwrap();
    }
    sender.join().unwrap();
    // On loopback what was sent is there.
    let mut before = u64::MAX;
    while rig.reactor.stats().datagrams_received != before {
        before = rig.reactor.stats().datagrams_received;
        rig.turn();
    }
    let (received, drops) = (rig.reactor.stats().datagrams_received, kernel_drops(addr));
    assert_eq!(received + drops, count, "{received} received, {drops} dropped");
    println!("{count} sent: {received} received, {drops} dropped by the kernel");
    assert!(rig.reactor.context().socket(id).is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn a_flood_is_accounted_for() {
    expect_accounted(50_000, UdpOptions::default());
    expect_accounted(50_000, UdpOptions::default().batch(true));
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes"]
fn ten_million_datagrams_are_accounted_for() {
    expect_accounted(10_000_000, UdpOptions::default());
    expect_accounted(10_000_000, UdpOptions::default().batch(true));
}
