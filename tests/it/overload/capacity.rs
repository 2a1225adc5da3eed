//! Caps on connections: of a listener, of the reactor, of one source, and by the handler.

// Much of it is for Linux alone.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use waterwheel::{AtCapacity, ConnId, ListenOptions, ReactorOptions};

use crate::support::{Call, Client, End, Journal, PATIENCE, Rig, Script};

fn capped(most: usize, at_capacity: AtCapacity) -> ListenOptions {
    ListenOptions::default().max_connections(Some(most)).at_capacity(at_capacity)
}

/// A reactor with a cap of its own.
fn capped_reactor(most: usize, at_capacity: AtCapacity) -> Rig {
    Rig::with(
        Script::echo(),
        Journal::default(),
        ListenOptions::default().at_capacity(at_capacity),
        ReactorOptions::default().max_connections(Some(most)),
    )
}

/// Connects so many and waits until all are accepted.
#[track_caller]
fn fill(rig: &mut Rig, count: usize) -> Vec<(Client, ConnId)> {
    (0..count).map(|_| rig.client()).collect()
}

/// The client goes and the server has noticed.
#[track_caller]
fn leave(rig: &mut Rig, (client, id): (Client, ConnId)) {
    drop(client);
    rig.end_of(id);
}

#[track_caller]
fn expect_served(rig: &mut Rig, client: &mut Client) {
    client.send(b"?");
    rig.expect(client, b"?");
}

#[track_caller]
fn expect_refused(rig: &mut Rig) {
    let refused = rig.reactor.stats().refused;
    let mut client = Client::connect(rig.addr);
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
    assert_eq!(rig.reactor.stats().refused, refused + 1);
}

/// The client is connected as far as the kernel goes, and neither served nor told.
#[track_caller]
fn expect_waiting(rig: &mut Rig, client: &mut Client) {
    rig.expect_quiet();
    assert_eq!(client.try_read(1), Ok(Vec::new()));
}

#[test]
fn over_the_cap_of_a_listener_a_client_is_reset_at_once() {
    let mut rig = Rig::with_listen(Script::echo(), capped(3, AtCapacity::Refuse));
    let mut inside = fill(&mut rig, 3);
    expect_refused(&mut rig);
    expect_refused(&mut rig);
    for (client, _) in &mut inside {
        expect_served(&mut rig, client);
    }
    let asked = rig.journal.count(|call| *call == Call::Accept);
    assert_eq!(asked, 3, "the handler is not asked about those over the cap");
    assert_eq!(rig.reactor.stats().connections_peak, 3);
}

#[test]
fn a_full_listener_serves_again_when_a_tenth_is_free_and_not_before() {
    let mut rig = Rig::with_listen(Script::echo(), capped(20, AtCapacity::Refuse));
    let mut inside = fill(&mut rig, 20);
    expect_refused(&mut rig);
    leave(&mut rig, inside.pop().unwrap());
    expect_refused(&mut rig); // 19 of 20
    leave(&mut rig, inside.pop().unwrap());
    inside.extend(fill(&mut rig, 2)); // 18 of 20
    expect_refused(&mut rig);
    for (client, _) in &mut inside {
        expect_served(&mut rig, client);
    }
}

#[test]
fn those_that_wait_are_served_when_a_tenth_is_free_without_connecting_again() {
    let mut rig = Rig::with_listen(Script::echo(), capped(20, AtCapacity::Wait));
    let mut inside = fill(&mut rig, 20);
    let mut queue: Vec<_> = (0..5).map(|_| Client::connect(rig.addr)).collect();
    for client in &mut queue {
        client.send(b"?");
    }
    expect_waiting(&mut rig, &mut queue[0]);
    assert_eq!(rig.reactor.stats().accepted, 20);
    leave(&mut rig, inside.pop().unwrap());
    expect_waiting(&mut rig, &mut queue[0]); // 19 of 20
    assert_eq!(rig.reactor.stats().accepted, 20);
    leave(&mut rig, inside.pop().unwrap());
    for client in &mut queue[..2] {
        rig.expect(client, b"?"); // 18 of 20: two places
    }
    expect_waiting(&mut rig, &mut queue[2]);
    assert_eq!(rig.reactor.stats().accepted, 22);
    drop(inside);
    for client in &mut queue[2..] {
        rig.expect(client, b"?");
    }
    assert_eq!(rig.reactor.stats().refused, 0);
    assert_eq!(rig.reactor.stats().connections_peak, 20);
}

#[test]
fn a_cap_of_one_serves_one_after_the_other() {
    let mut rig = Rig::with_listen(Script::echo(), capped(1, AtCapacity::Wait));
    let mut queue: Vec<_> = (0..10).map(|_| Client::connect(rig.addr)).collect();
    for mut client in queue.drain(..) {
        expect_served(&mut rig, &mut client);
    }
    assert_eq!(rig.reactor.stats().accepted, 10);
    assert_eq!(rig.reactor.stats().connections_peak, 1);
}

#[test]
fn one_that_gives_up_waiting_costs_those_behind_it_nothing() {
    let mut rig = Rig::with_listen(Script::echo(), capped(1, AtCapacity::Wait));
    let first = rig.client();
    let mut queue: Vec<_> = (0..4).map(|_| Client::connect(rig.addr)).collect();
    let mut last = Client::connect(rig.addr);
    queue.drain(..).for_each(Client::reset);
    expect_waiting(&mut rig, &mut last);
    drop(first);
    expect_served(&mut rig, &mut last);
}

#[test]
fn the_cap_of_the_reactor_holds_over_all_listeners() {
    let mut rig = capped_reactor(4, AtCapacity::Refuse);
    let options = ListenOptions::default().at_capacity(AtCapacity::Wait);
    let (_, other) = rig.add(Script::echo(), options);
    let mut inside = fill(&mut rig, 4);
    let mut waiting = Client::connect(other);
    expect_waiting(&mut rig, &mut waiting);
    expect_refused(&mut rig);
    assert_eq!(rig.reactor.stats().connections, 4);
    // A place of the one listener is a place for the other.
    leave(&mut rig, inside.pop().unwrap());
    expect_served(&mut rig, &mut waiting);
    expect_refused(&mut rig);
}

#[test]
fn the_cap_of_one_listener_leaves_another_alone() {
    let mut rig = Rig::with_listen(Script::echo(), capped(1, AtCapacity::Refuse));
    let (_, other) = rig.add(Script::echo(), ListenOptions::default());
    let _inside = fill(&mut rig, 1);
    expect_refused(&mut rig);
    let mut client = Client::connect(other);
    expect_served(&mut rig, &mut client);
}

#[test]
fn the_cap_of_the_reactor_has_the_same_slack() {
    let mut rig = capped_reactor(20, AtCapacity::Wait);
    let mut inside = fill(&mut rig, 20);
    let mut waiting = Client::connect(rig.addr);
    waiting.send(b"?");
    expect_waiting(&mut rig, &mut waiting);
    leave(&mut rig, inside.pop().unwrap());
    expect_waiting(&mut rig, &mut waiting);
    leave(&mut rig, inside.pop().unwrap());
    rig.expect(&mut waiting, b"?");
}

/// A client from one of the many loopback addresses that Linux has.
#[cfg(target_os = "linux")]
fn connect_from(source: [u8; 4], addr: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((IpAddr::V4(Ipv4Addr::from(source)), 0));
    socket.bind(&source.into()).unwrap();
    socket.connect_timeout(&addr.into(), PATIENCE).unwrap();
    Client::from(TcpStream::from(socket))
}

#[cfg(target_os = "linux")]
#[test]
fn one_source_has_no_more_than_its_share() {
    let options = ListenOptions::default().max_per_source(Some(2));
    let mut rig = Rig::with_listen(Script::echo(), options);
    let mut inside = fill(&mut rig, 2);
    expect_refused(&mut rig);
    let mut neighbour = connect_from([127, 0, 0, 2], rig.addr);
    expect_served(&mut rig, &mut neighbour);
    // There is no slack here: a place is free as soon as it is left.
    leave(&mut rig, inside.pop().unwrap());
    inside.extend(fill(&mut rig, 1));
    expect_refused(&mut rig);
}

#[test]
fn places_are_given_back_however_a_connection_ends() {
    let options = capped(2, AtCapacity::Refuse).max_per_source(Some(2));
    let mut rig = Rig::with_listen(
        Script::new().data(|conn, input| {
            match input {
                b"close" => conn.close(),
                b"abort" => conn.abort(),
                b"panic" => panic!("as the test asks"),
                _ => {}
            }
            input.len()
        }),
        options,
    );
    for word in ["close", "abort", "panic", "reset", "drop"] {
        let mut inside = fill(&mut rig, 2);
        expect_refused(&mut rig);
        for (client, _) in &mut inside {
            client.send(word.as_bytes());
        }
        for (client, id) in inside {
            if word == "reset" {
                client.reset();
            } else {
                drop(client);
            }
            rig.end_of(id);
        }
        assert_eq!(rig.reactor.stats().connections, 0, "after {word}");
    }
    rig.panics = 2;
}

#[test]
fn a_handler_refuses_before_anything_is_opened() {
    let mut rig = Rig::new(Script::echo().accept(|peer| peer.addr.ip().is_ipv6()));
    let mut client = Client::connect(rig.addr);
    client.send(b"hello");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
    assert_eq!(rig.journal.calls(), [Call::Accept]);
    assert_eq!(rig.journal.states(), 0);
    let stats = rig.reactor.stats();
    assert_eq!((stats.accepted, stats.refused), (0, 1));
    assert_eq!((stats.connections, stats.closed), (0, 0));
}

#[test]
fn a_handler_that_refuses_some_takes_no_places_with_them() {
    let mut turn = 0;
    let handler = Script::echo().accept(move |_| {
        turn += 1;
        turn % 2 == 0
    });
    let mut rig = Rig::with_listen(handler, capped(3, AtCapacity::Refuse));
    let mut clients: Vec<_> = (0..6).map(|_| Client::connect(rig.addr)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        if index % 2 == 0 {
            assert_eq!(rig.read_to_end(client), (Vec::new(), End::Reset));
        } else {
            expect_served(&mut rig, client);
        }
    }
    let stats = rig.reactor.stats();
    assert_eq!((stats.accepted, stats.refused), (3, 3));
}

#[test]
fn a_panic_in_on_accept_refuses_that_one_and_no_other() {
    let mut asked = 0;
    let mut rig = Rig::new(Script::echo().accept(move |_| {
        asked += 1;
        assert!(asked > 1, "as the test asks");
        true
    }));
    let mut first = Client::connect(rig.addr);
    assert_eq!(rig.read_to_end(&mut first), (Vec::new(), End::Reset));
    let (mut second, _) = rig.client();
    expect_served(&mut rig, &mut second);
    assert_eq!(rig.reactor.stats().refused, 1);
    rig.panics = 1;
}

/// The event of the listener is used up, and nobody connects again to cause another.
#[test]
fn a_panic_while_one_is_accepted_leaves_nobody_behind_it_waiting() {
    for in_open in [false, true] {
        let (mut asked, mut opened) = (0, 0);
        let handler = Script::echo().accept(move |_| {
            asked += 1;
            assert!(in_open || asked != 3, "as the test asks");
            true
        });
        let mut rig = Rig::new(handler.open(move |_| {
            opened += 1;
            assert!(!in_open || opened != 3, "as the test asks");
        }));
        rig.panics = 1;
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(rig.addr)).collect();
        let mut unlucky = clients.remove(2);
        for client in &mut clients {
            expect_served(&mut rig, client);
        }
        assert_eq!(rig.read_to_end(&mut unlucky), (Vec::new(), End::Reset));
    }
}
