//! How connections spread, and what holds where they arrive.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;

use socket2::{Domain, Socket, Type};
use waterwheel::fleet::{Balance, Fleet, Spread};
use waterwheel::{ConnectOptions, ListenOptions, ReactorOptions};

use super::{
    HOUR, Running, SPREADS, expect_refused, expect_reset, options, register, served, start,
    start_with,
};
use crate::support::{Client, patiently};

#[test]
fn every_spread_serves_and_counts_everybody() {
    for spread in SPREADS {
        let running = start(3, spread);
        let mut clients: Vec<_> = (0..60).map(|_| running.client()).collect();
        let mut counts = [0; 3];
        for (client, index) in &mut clients {
            counts[usize::from(*index)] += 1;
            client.send(b"hello");
            client.expect(b"hello");
        }
        let stats = running.fleet().stats();
        let found: Vec<u64> = stats.members.iter().map(|stats| stats.connections).collect();
        assert_eq!(found, counts, "{spread}");
        assert_eq!((stats.total.accepted, stats.total.connections), (60, 60), "{spread}");
        assert_eq!((stats.total.bytes_read, stats.total.bytes_written), (300, 360), "{spread}");
        let handed = stats.acceptor.map(|stats| (stats.handed_over, stats.accepted));
        let is_handed = matches!(spread, Spread::HandOver(_));
        assert_eq!(handed, is_handed.then_some((60, 0)), "{spread}");
        if spread == Spread::ReusePort {
            // That chance leaves one out: 3 * (2/3)^60.
            assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
        }
        drop(clients);
        let end = running.stop();
        assert!(end.failures.is_empty());
        assert_eq!(end.stats.total.accepted, 60, "{spread}");
    }
}

#[test]
fn one_after_the_other_is_exactly_even() {
    let running = start(3, Spread::HandOver(Balance::RoundRobin));
    let clients: Vec<_> = (0..30).map(|_| running.client()).collect();
    let order: Vec<u8> = clients.iter().map(|(_, index)| *index).collect();
    assert_eq!(order, [0, 1, 2].repeat(10));
    assert_eq!(running.accepted(), [10, 10, 10]);
}

/// Also of those that are accepted in one turn, before any of them has arrived.
#[test]
fn the_fewest_connections_are_even_within_one() {
    let running = start(3, Spread::HandOver(Balance::LeastConnections));
    let clients: Vec<_> = (0..50).map(|_| Client::connect(running.addr)).collect();
    let clients: Vec<_> = clients.into_iter().map(served).collect();
    let mut counts = running.connections();
    counts.sort_unstable();
    assert_eq!(counts, [16, 17, 17]);
    // Those of one reactor go, and the next ones come to it.
    let (gone, mut stay): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(_, at)| *at == 1);
    let count = gone.len();
    drop(gone);
    patiently("they are gone", || (running.connections()[1] == 0).then_some(()));
    let rest = count - 1;
    for _ in 0..rest {
        let (client, index) = running.client();
        assert_eq!(index, 1);
        stay.push((client, index));
    }
}

#[test]
fn an_address_always_comes_to_the_same_reactor() {
    let running = start(3, Spread::HandOver(Balance::SourceAddress));
    let from = |last: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&source.into()).unwrap();
        socket.connect(&running.addr.into()).unwrap();
        served(Client::from(TcpStream::from(socket)))
    };
    let mut found = HashSet::new();
    let mut clients = Vec::new();
    for last in 1..=30 {
        let indexes: HashSet<u8> = (0..4)
            .map(|_| {
                let (client, index) = from(last);
                clients.push(client);
                index
            })
            .collect();
        assert_eq!(indexes.len(), 1, "127.0.0.{last}");
        found.extend(indexes);
    }
    assert_eq!(found.len(), 3, "a reactor has none of 30 addresses");
}

#[test]
fn a_reactor_that_stops_or_drains_is_passed_over() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::SourceAddress] {
        let running =
            start_with(options(3, Spread::HandOver(balance)), ListenOptions::default(), |tell| {
                tell.lingers = true
            });
        let mut clients: Vec<_> = (0..9).map(|_| running.client()).collect();
        let target = clients[0].1; // by address there is only one
        running.fleet().remotes()[usize::from(target)].drain(HOUR).unwrap();
        // It has begun to when it answers in the turn after.
        let _ = (running.fleet().stats(), running.fleet().stats());
        for _ in 0..9 {
            let (client, index) = running.client();
            assert_ne!(index, target, "{balance:?}");
            clients.push((client, index));
        }
        // What it has it serves.
        for (client, _) in &mut clients {
            client.send(b"on");
            client.expect(b"on");
        }
        let other = usize::from((target + 1) % 3);
        let stopped = &running.fleet().remotes()[other];
        patiently("its mailbox is closed", || stopped.stop().err());
        for _ in 0..9 {
            let (client, index) = running.client();
            assert!(![usize::from(target), other].contains(&usize::from(index)), "{balance:?}");
            clients.push((client, index));
        }
    }
}

#[test]
fn the_caps_of_a_listener_hold_where_connections_arrive() {
    let listen = ListenOptions::default().max_connections(Some(2));
    let running = start_with(options(2, Spread::HandOver(Balance::RoundRobin)), listen, |_| {});
    let mut clients: Vec<_> = (0..4).map(|_| running.client()).collect();
    for _ in 0..2 {
        expect_reset(running.addr);
    }
    assert_eq!(running.fleet().stats().total.refused, 2);
    // Another place for the one whose turn it is.
    let gone = clients.remove(0);
    drop(gone);
    patiently("it is gone", || (running.connections() == [1, 2]).then_some(()));
    assert_eq!(running.client().1, 0);
}

#[test]
fn the_cap_of_an_address_and_of_a_reactor_hold_too() {
    let listen = ListenOptions::default().max_per_source(Some(1));
    let running = start_with(options(2, Spread::HandOver(Balance::RoundRobin)), listen, |_| {});
    let _clients = [running.client(), running.client()];
    expect_reset(running.addr);

    let reactor = ReactorOptions::default().max_connections(Some(1));
    let capped = options(2, Spread::HandOver(Balance::LeastConnections)).reactor(reactor);
    let running = start_with(capped, ListenOptions::default(), |_| {});
    let _clients = [running.client(), running.client()];
    expect_reset(running.addr);
    let stats = running.fleet().stats();
    assert_eq!((stats.total.accepted, stats.total.refused), (2, 1));
    assert_eq!(stats.acceptor.map(|stats| stats.handed_over), Some(3));
}

#[test]
fn a_handler_refuses_what_was_handed_over_and_the_count_is_right() {
    let local = IpAddr::from([127, 0, 0, 1]);
    let spread = Spread::HandOver(Balance::LeastConnections);
    let running = start_with(options(2, spread), ListenOptions::default(), move |tell| {
        tell.refuses = (tell.index == 0).then_some(local);
    });
    // A refused one has left no trace: else the other would be chosen for ever.
    let mut clients = Vec::new();
    for _ in 0..3 {
        expect_reset(running.addr);
        clients.push(running.client());
        assert_eq!(clients.last().unwrap().1, 1);
        drop(clients.pop());
        patiently("it is gone", || (running.connections() == [0, 0]).then_some(()));
    }
    assert_eq!(running.fleet().stats().total.refused, 3);
}

/// Else a connection that was accepted just before all drain would be lost.
#[test]
fn a_reactor_that_drains_serves_what_nobody_else_could() {
    let spread = Spread::HandOver(Balance::RoundRobin);
    let running =
        start_with(options(1, spread), ListenOptions::default(), |tell| tell.lingers = true);
    let _lingers = running.client();
    running.fleet().remotes()[0].drain(HOUR).unwrap();
    let _ = (running.fleet().stats(), running.fleet().stats());
    let (mut client, _) = running.client();
    client.send(b"served");
    client.expect(b"served");
    // Where all have stopped there is nobody to accept for.
    running.fleet().remotes()[0].stop().unwrap();
    let addr = running.addr;
    assert_eq!(running.join().stats.acceptor.unwrap().handed_over, 2);
    expect_refused(addr);
}

#[test]
fn outgoing_connections_count_where_they_are_made() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = elsewhere.local_addr().unwrap();
    let spread = Spread::HandOver(Balance::LeastConnections);
    let (send, receive) = channel();
    let fleet = Fleet::new(options(2, spread)).unwrap();
    let fleet = fleet.start(move |member| {
        let service = register(member);
        send.send(member.listen("127.0.0.1:0", service, ListenOptions::default())?).unwrap();
        for _ in 0..3 * (1 - member.index()) {
            member.reactor().connect(target, service, (), &ConnectOptions::default());
        }
        Ok(())
    });
    let running = Running { fleet: Some(fleet.unwrap()), addr: receive.recv().unwrap() };
    let clients: Vec<_> = (0..7).map(|_| running.client()).collect();
    let order: Vec<u8> = clients.iter().map(|(_, index)| *index).collect();
    assert_eq!(order[..3], [1, 1, 1]);
    assert_eq!(order[3..].iter().filter(|&&index| index == 0).count(), 2);
}
