//! Connecting to names, to several addresses, and again.

// Much of it is for Linux alone.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::Socket;
use waterwheel::{
    Closed, Conn, ConnectOptions, Context, Destination, Handler, HandlerKey, Peer, Reactor,
    Reconnect,
};

use crate::support::{Call, Client, Rig, Script, listener, nobody};

/// An address that does not answer: its backlog is full, so that the system drops each SYN.
#[cfg(target_os = "linux")]
fn silent() -> (Socket, Client, SocketAddr) {
    let (socket, addr) = nobody();
    socket.listen(0).unwrap();
    let inside = Client::connect(addr); // a backlog of 0 holds one
    (socket, inside, addr)
}

/// Tries again at once, and so often at the most.
fn often(max_attempts: Option<u32>) -> ConnectOptions {
    let reconnect = Reconnect::default()
        .base_delay(Duration::from_millis(1))
        .max_delay(Duration::from_millis(2))
        .max_attempts(max_attempts);
    ConnectOptions::default().reconnect(Some(reconnect))
}

/// Waits for the one failed connect and gives what was told.
#[track_caller]
fn failure(rig: &mut Rig) -> (ErrorKind, String) {
    rig.until("a failure", |rig| rig.reactor.stats().connect_failures > 0);
    for _ in 0..3 {
        rig.turn();
    }
    assert_eq!(rig.reactor.stats().connect_failures, 1);
    let calls = rig.journal.calls().into_iter();
    let mut failures = calls.filter_map(|call| match call {
        Call::ConnectFailed(kind, text) => Some((kind, text)),
        _ => None,
    });
    failures.next().expect("the failure was told")
}

#[track_caller]
fn expect_hello(rig: &mut Rig, listener: &TcpListener) -> Client {
    let mut peer = rig.accept_at(listener);
    rig.expect(&mut peer, b"hello");
    peer
}

#[test]
fn a_name_is_resolved_and_what_was_written_before_is_sent() {
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new().open(move |conn| assert_eq!(conn.peer_addr(), addr)));
    let to = format!("localhost:{}", addr.port());
    let id = rig.connect(to, 0, &ConnectOptions::default());
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    assert_eq!(conn.peer_addr(), SocketAddr::from(([0, 0, 0, 0], addr.port())));
    assert!(conn.write(b"hello").is_accepted());
    rig.until("up", |rig| rig.journal.has(&Call::Open));
    drop(expect_hello(&mut rig, &server));
    rig.expect_end(id, "Peer");
    assert_eq!(rig.reactor.stats().connected, 1);
}

#[test]
fn a_hundred_connects_to_one_name_all_come_up() {
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new());
    for _ in 0..100 {
        rig.connect(("localhost", addr.port()), 0, &ConnectOptions::default());
    }
    let mut peers = Vec::new();
    for _ in 0..100 {
        peers.push(rig.accept_at(&server));
    }
    rig.until("all are up", |rig| rig.reactor.stats().connected == 100);
}

#[test]
fn a_text_that_is_no_destination_says_what_would_be_one() {
    for text in ["localhost", "::1:80", "", "host:port"] {
        let mut rig = Rig::new(Script::new());
        rig.connect(text, 0, &ConnectOptions::default());
        let (kind, told) = failure(&mut rig);
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(told.starts_with(&format!("cannot connect to {text:?}: ")), "{told}");
        assert!(told.contains("host:port"), "{told}");
    }
}

#[test]
fn a_name_that_nobody_knows_is_named() {
    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default().timeout(Duration::from_secs(5));
    rig.connect("nobody.invalid:80", 0, &options);
    let (kind, told) = failure(&mut rig);
    assert!(told.starts_with("cannot connect to nobody.invalid:80: "), "{told}");
    // A machine without a name server gets no answer.
    assert!([ErrorKind::NotFound, ErrorKind::TimedOut].contains(&kind), "{kind:?}");
}

#[test]
fn an_address_that_refuses_is_followed_by_the_next_at_once() {
    let (_nobody, closed) = nobody();
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.peer_addr(), addr);
        conn.write(b"hello");
    }));
    // The delay alone would not do within the patience of a test.
    let options = ConnectOptions::default().attempt_delay(Duration::from_secs(2));
    let id = rig.connect(vec![closed, addr], 0, &options);
    let mut peer = expect_hello(&mut rig, &server);
    peer.finish();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.reactor.stats().connect_failures, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_is_silent_is_overtaken_and_given_up() {
    let (_full, _inside, silent) = silent();
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.peer_addr(), addr);
        conn.write(b"hello");
    }));
    let options = ConnectOptions::default().attempt_delay(Duration::from_millis(10));
    let id = rig.connect(vec![silent, addr], 0, &options);
    let mut peer = expect_hello(&mut rig, &server);
    rig.expect_quiet();
    peer.finish();
    rig.expect_end(id, "Peer");
}

#[cfg(target_os = "linux")]
#[test]
fn a_slow_address_still_wins_when_those_behind_it_fail() {
    let (_nobody, closed) = nobody();
    let (full, inside, slow) = silent();
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.peer_addr(), slow);
        conn.write(b"hello");
    }));
    let options = ConnectOptions::default().attempt_delay(Duration::from_millis(10));
    let id = rig.connect(vec![slow, closed], 0, &options);
    for _ in 0..20 {
        rig.reactor.run_once(Some(Duration::from_millis(2))).unwrap();
    }
    assert!(rig.lives(id));
    // There is room again: the next SYN, a second after the first, is answered.
    drop((full.accept().unwrap(), inside));
    rig.until("up", |rig| rig.journal.has(&Call::Open));
    drop(expect_hello(&mut rig, &TcpListener::from(full)));
}

#[cfg(target_os = "linux")]
#[test]
fn with_a_port_of_its_own_an_address_waits_until_the_one_before_has_failed() {
    let (_full, _inside, silent) = silent();
    let (_nobody, closed) = nobody();
    let (server, addr) = listener();
    let source = nobody().1;
    let options = ConnectOptions::default()
        .attempt_delay(Duration::from_millis(10))
        .timeout(Duration::from_millis(100))
        .source(Some(source));
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.peer_addr(), addr);
        assert_eq!(conn.local_addr().unwrap(), source);
        conn.write(b"hello");
    }));
    rig.connect(vec![silent, addr], 0, &options);
    let (kind, told) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::TimedOut);
    let wanted = format!("{silent}: no answer within 100ms; {addr}: not tried within 100ms");
    assert!(told.contains(&wanted), "{told}");
    let options = options.timeout(Duration::from_secs(30));
    rig.connect(vec![closed, addr], 0, &options);
    rig.until("up", |rig| rig.journal.has(&Call::Open));
    drop(expect_hello(&mut rig, &server));
}

#[cfg(target_os = "linux")]
#[test]
fn the_interface_of_an_address_may_be_named() {
    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default().timeout(Duration::from_millis(200));
    rig.connect("[fe80::77%lo]:9", 0, &options);
    let (_, told) = failure(&mut rig);
    // The first interface is the loopback.
    assert!(told.contains("[fe80::77%lo]:9: [fe80::77%1]:9: "), "{told}");
}

#[test]
fn a_failure_names_every_address() {
    let ((_a, first), (_b, second)) = (nobody(), nobody());
    let mut rig = Rig::new(Script::new());
    rig.connect(vec![first, second], 0, &ConnectOptions::default());
    let (kind, told) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    let start = format!("cannot connect to {first}, {second}: {first}: ");
    assert!(told.starts_with(&start) && told.contains(&format!("; {second}: ")), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn one_deadline_covers_all_addresses() {
    let ((_a, _b, first), (_c, _d, second)) = (silent(), silent());
    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default()
        .timeout(Duration::from_millis(40))
        .attempt_delay(Duration::from_millis(10));
    rig.connect(&[first, second][..], 0, &options);
    let (kind, told) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::TimedOut);
    for addr in [first, second] {
        assert!(told.contains(&format!("{addr}: no answer within 40ms")), "{told}");
    }
    assert_eq!(rig.reactor.stats().connections, 0);
}

#[test]
fn no_address_and_none_of_the_source_s_family_are_told() {
    let mut rig = Rig::new(Script::new());
    rig.connect(Vec::new(), 0, &ConnectOptions::default());
    let (_, told) = failure(&mut rig);
    assert_eq!(told, "cannot connect to no address: the list has none; give at least one");

    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default().source(Some("127.0.0.1:0".parse().unwrap()));
    let to: Vec<SocketAddr> = vec!["[::1]:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    rig.connect(to, 0, &options);
    let (_, told) = failure(&mut rig);
    assert!(told.ends_with("of the family of the source 127.0.0.1:0"), "{told}");
}

#[test]
fn one_that_is_closed_before_it_is_up_gives_its_state_back() {
    let (_nobody, closed) = nobody();
    let forever = often(None);
    for to in [Destination::from(("localhost", closed.port())), closed.into()] {
        let states = Rc::new(Cell::new(0));
        let seen = states.clone();
        let mut rig = Rig::new(Script::new().connect_failed(move |tag, _, _| seen.set(tag)));
        let id = rig.connect(to, 7, &forever);
        rig.turn();
        rig.reactor.context().conn(id).unwrap().close();
        let (_, told) = failure(&mut rig);
        assert!(told.contains("closed before it was up"), "{told}");
        assert_eq!(states.get(), 7);
        assert_eq!(rig.reactor.stats().connections, 0);
        rig.expect_quiet();
    }
}

#[test]
fn a_refused_connect_is_tried_again_until_somebody_listens() {
    let (socket, addr) = nobody();
    let mut rig = Rig::new(Script::new());
    let id = rig.connect(addr, 0, &often(None));
    assert!(rig.reactor.context().conn(id).unwrap().write(b"hello").is_accepted());
    rig.until("retries", |rig| rig.reactor.stats().connect_retries > 5);
    socket.listen(8).unwrap();
    rig.until("up", |rig| rig.journal.has(&Call::Open));
    drop(expect_hello(&mut rig, &TcpListener::from(socket)));
    rig.expect_end(id, "Peer");
    assert_eq!(rig.reactor.stats().connect_failures, 0);
}

#[test]
fn tries_have_a_limit_and_a_failure_says_how_many_there_were() {
    let (_nobody, addr) = nobody();
    let mut rig = Rig::new(Script::new());
    rig.connect(addr, 0, &often(Some(3)));
    let (kind, told) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    assert!(told.starts_with(&format!("cannot connect to {addr}: ")), "{told}");
    assert!(told.ends_with(", at try 3 in a row"), "{told}");
    assert_eq!(rig.reactor.stats().connect_retries, 2);
}

/// Connects again what was lost; the state counts how often.
struct Feed {
    /// What came back, once it was given up.
    given_up: Rc<Cell<u64>>,
}

impl Handler for Feed {
    type State = u64;

    fn on_accept(&mut self, _: &Peer) -> Option<u64> {
        None
    }

    fn on_data(&mut self, _: &mut u64, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, lost: u64, closed: Closed, cx: &mut Context<'_>) {
        if let Err(lost) = cx.reconnect(&closed, lost + 1) {
            self.given_up.set(lost);
        }
    }
}

fn feed(rig: &mut Rig) -> (HandlerKey<Feed>, Rc<Cell<u64>>) {
    let given_up = Rc::new(Cell::new(0));
    (rig.reactor.register(Feed { given_up: given_up.clone() }), given_up)
}

#[test]
fn a_lost_connection_is_connected_again_until_the_limit() {
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new());
    let (feed, given_up) = feed(&mut rig);
    let reconnect = Reconnect::default()
        .base_delay(Duration::from_millis(1))
        .max_delay(Duration::from_secs(60))
        .max_attempts(Some(4));
    let options = ConnectOptions::default().reconnect(Some(reconnect));
    rig.reactor.connect(addr, feed, 0, &options);
    for times in 1..=4 {
        drop(rig.accept_at(&server));
        rig.until("lost", |rig| rig.reactor.stats().closed == times);
    }
    assert_eq!(given_up.get(), 4, "the fourth loss is the last");
    rig.expect_quiet();
}

#[test]
fn a_connection_that_has_lasted_begins_the_count_anew() {
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new());
    let (feed, given_up) = feed(&mut rig);
    rig.reactor.connect(addr, feed, 0, &often(Some(2)));
    for times in 1..=8 {
        let peer = rig.accept_at(&server);
        rig.until("up", |rig| rig.reactor.stats().connected == times);
        let up_at = rig.reactor.context().now();
        let lasts = up_at + Duration::from_millis(4); // twice the longest pause
        rig.until("it has lasted", |rig| rig.reactor.context().now() > lasts);
        drop(peer);
        rig.until("lost", |rig| rig.reactor.stats().closed == times);
        assert_eq!(given_up.get(), 0);
    }
}

#[test]
fn without_a_policy_the_state_comes_back() {
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new());
    let (feed, given_up) = feed(&mut rig);
    rig.reactor.connect(addr, feed, 10, &ConnectOptions::default());
    drop(rig.accept_at(&server));
    rig.until("given back", |_| given_up.get() == 11);
}

#[test]
fn a_drain_ends_what_pauses_between_tries() {
    let (_nobody, addr) = nobody();
    let mut rig = Rig::new(Script::new());
    let reconnect = Reconnect::default().base_delay(Duration::from_secs(3_600));
    let reconnect = reconnect.max_delay(Duration::from_secs(3_600));
    let options = ConnectOptions::default().reconnect(Some(reconnect));
    rig.connect(addr, 0, &options);
    rig.until("a retry", |rig| rig.reactor.stats().connect_retries == 1);
    rig.reactor.context().drain(Duration::from_secs(60));
    let (_, told) = failure(&mut rig);
    assert!(told.contains("the reactor was stopped"), "{told}");
    assert!(!rig.reactor.run_once(None).unwrap());
}

#[test]
fn nothing_is_tried_again_while_the_reactor_drains() {
    let (_nobody, addr) = nobody();
    let mut rig = Rig::new(Script::new().shutdown(|_| {})); // it stays until the deadline
    let (_client, _) = rig.client();
    rig.reactor.context().drain(Duration::from_secs(60));
    rig.turn();
    rig.connect(addr, 0, &often(None));
    let (kind, _) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::ConnectionRefused);
}

#[test]
fn a_reactor_may_go_while_a_name_is_looked_up() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Script::new());
    reactor.connect("nobody.invalid:80", service, 0, &ConnectOptions::default());
    drop(reactor);
}

#[test]
fn policies_out_of_range_are_named() {
    let policy = Reconnect::default();
    let cases = [
        (policy.clone().base_delay(Duration::ZERO), "reconnect.base_delay"),
        (policy.clone().max_delay(Duration::from_millis(1)), "reconnect.max_delay"),
        (policy.max_attempts(Some(0)), "reconnect.max_attempts"),
    ];
    let options =
        cases.map(|(policy, name)| (ConnectOptions::default().reconnect(Some(policy)), name));
    let delay = ConnectOptions::default().attempt_delay(Duration::from_millis(9));
    for (options, name) in options.into_iter().chain([(delay, "attempt_delay")]) {
        let mut rig = Rig::new(Script::new());
        rig.connect("localhost:1", 0, &options);
        let (kind, told) = failure(&mut rig);
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(told.contains(name), "{told}");
    }
}
