//! Outgoing connections: up, refused, too late, ended before they were up, begun in callbacks.

// Much of it is for Linux alone.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

mod filter;
mod names;
mod reconnect;
mod retry;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use waterwheel::{
    ConnectOptions, Context, HandlerKey, Limits, ListenOptions, Reactor, ReactorOptions,
    TcpOptions, Written,
};

use crate::support::{Call, Client, End, Journal, Rig, Script, Watched, listener, nobody, pattern};

/// Notes which states came back.
fn collects_failures(script: Script) -> (Script, Rc<Cell<Vec<u64>>>) {
    let tags = Rc::new(Cell::new(Vec::new()));
    let collected = tags.clone();
    let script = script.connect_failed(move |tag, _, _| {
        let mut tags = collected.take();
        tags.push(tag);
        collected.set(tags);
    });
    (script, tags)
}

/// Waits for a failed connect and gives what was told.
#[track_caller]
fn failure(rig: &mut Rig) -> (ErrorKind, String) {
    let find = |rig: &Rig| {
        rig.journal.calls().into_iter().find_map(|call| match call {
            Call::ConnectFailed(kind, text) => Some((kind, text)),
            _ => None,
        })
    };
    rig.until("a failure", |rig| find(rig).is_some());
    for _ in 0..3 {
        rig.turn();
    }
    let failures = |call: &Call| matches!(call, Call::ConnectFailed(..));
    assert_eq!(rig.journal.count(failures), 1);
    assert_eq!(rig.reactor.stats().connect_failures, 1);
    find(rig).unwrap()
}

#[test]
fn a_connection_comes_up_and_talks_both_ways() {
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::echo().open(move |conn| {
        assert_eq!(conn.peer_addr(), addr);
        conn.write(b"hello");
    }));
    let id = rig.connect(addr, 0, &ConnectOptions::default());
    assert!(rig.lives(id));
    let mut peer = Client::from(server.accept().unwrap().0);
    rig.expect(&mut peer, b"hello");
    peer.send(b"echo this");
    rig.expect(&mut peer, b"echo this");
    assert_eq!(rig.reactor.stats().connected, 1);
    peer.finish();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.reactor.stats().connect_failures, 0);
}

#[test]
fn writes_before_it_is_up_are_sent_first_and_in_order() {
    let (server, addr) = listener();
    let bytes = pattern(3 << 20);
    let later = bytes[2 << 20..].to_vec();
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.pending_bytes(), 2 << 20);
        assert!(conn.write(&later).is_accepted());
        conn.close();
    }));
    let id = rig.connect(addr, 0, &ConnectOptions::default());
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    assert_eq!(conn.write(&bytes[..10]), Written::Below);
    assert_eq!(conn.write(&bytes[10..2 << 20]), Written::Above);
    assert_eq!(conn.pending_bytes(), 2 << 20);
    assert!(conn.is_writable());
    let mut peer = Client::from(server.accept().unwrap().0);
    let (received, end) = rig.read_to_end(&mut peer);
    assert!(received == bytes);
    assert_eq!(end, End::Fin);
    peer.finish();
    rig.expect_end(id, "Local");
}

#[test]
fn the_cap_holds_before_it_is_up() {
    let (_server, addr) = listener();
    let limits = Limits::default().high_mark_bytes(10).low_mark_bytes(1).max_output_bytes(100);
    let (script, states) = collects_failures(Script::new());
    let mut rig = Rig::new(script);
    let options = ConnectOptions::default().limits(limits);
    let id = rig.connect(addr, 3, &options);
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    assert_eq!(conn.write(&[0; 100]), Written::Above);
    assert_eq!(conn.write(&[0; 1]), Written::Full);
    assert_eq!(conn.write(&[0; 1]), Written::Closed);
    failure(&mut rig);
    assert_eq!(states.take(), [3]);
}

#[test]
fn a_refusal_names_the_address_and_gives_the_state_back() {
    let (_guard, addr) = nobody();
    let (script, states) = collects_failures(Script::new());
    let mut rig = Rig::new(script);
    let id = rig.connect(addr, 11, &ConnectOptions::default());
    let (kind, text) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    assert!(text.contains(&addr.to_string()), "{text}");
    assert_eq!(states.take(), [11]);
    assert!(!rig.lives(id));
}

/// A listener whose backlog is full drops SYNs.
#[cfg(target_os = "linux")]
#[test]
fn a_connect_that_takes_too_long_fails_after_its_timeout() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let _inside = Client::connect(addr); // a backlog of 0 holds one
    let (script, states) = collects_failures(Script::new());
    let mut rig = Rig::new(script);
    let timeout = Duration::from_millis(60);
    let options = ConnectOptions::default().timeout(timeout);
    let start = std::time::Instant::now();
    let id = rig.connect(addr, 1, &options);
    rig.reactor.context().conn(id).unwrap().write(b"never sent");
    let (kind, text) = failure(&mut rig);
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    assert_eq!(kind, ErrorKind::TimedOut);
    assert!(text.contains(&addr.to_string()), "{text}");
    assert_eq!(states.take(), [1]);
}

#[test]
fn a_source_address_is_used() {
    let (server, addr) = listener();
    let (guard, source) = nobody();
    drop(guard);
    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default().source(Some(source));
    let id = rig.connect(addr, 0, &options);
    let (_peer, from) = server.accept().unwrap();
    assert_eq!(from, source);
    rig.until("up", |rig| rig.journal.has(&Call::Open));
    let mut cx = rig.reactor.context();
    assert_eq!(cx.conn(id).unwrap().local_addr().unwrap(), source);
}

#[test]
fn a_source_address_that_is_taken_is_told_with_both_addresses() {
    let (_server, addr) = listener();
    let (_guard, source) = nobody();
    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default().source(Some(source));
    rig.connect(addr, 0, &options);
    let (kind, text) = failure(&mut rig);
    assert_eq!(kind, ErrorKind::AddrInUse);
    for addr in [addr, source] {
        assert!(text.contains(&addr.to_string()), "{text}");
    }
}

#[test]
fn bad_options_are_told_by_on_connect_failed() {
    let (_server, addr) = listener();
    let bad = [
        ConnectOptions::default().timeout(Duration::ZERO),
        ConnectOptions::default().tcp(TcpOptions::default().send_buffer_bytes(Some(0))),
        ConnectOptions::default().limits(Limits::default().max_input_bytes(0)),
    ];
    for options in bad {
        let (script, states) = collects_failures(Script::new());
        let mut rig = Rig::new(script);
        let id = rig.connect(addr, 6, &options);
        assert!(!rig.lives(id), "an id of nobody");
        let (kind, text) = failure(&mut rig);
        assert_eq!(kind, ErrorKind::InvalidInput, "{text}");
        assert_eq!(states.take(), [6]);
    }
}

#[test]
fn ending_before_it_is_up_fails_it_once_and_gives_the_state_back() {
    for aborts in [true, false] {
        let (server, addr) = listener();
        let (script, states) = collects_failures(Script::new());
        let mut rig = Rig::new(script);
        let id = rig.connect(addr, 8, &ConnectOptions::default());
        let mut cx = rig.reactor.context();
        let mut conn = cx.conn(id).unwrap();
        if aborts {
            conn.write(b"never sent");
            conn.abort();
        } else {
            conn.close();
        }
        conn.close();
        assert!(cx.conn(id).is_none());
        let (kind, _) = failure(&mut rig);
        assert_eq!(kind, ErrorKind::ConnectionAborted);
        assert_eq!(states.take(), [8]);
        drop(server);
        rig.expect_quiet();
    }
}

#[test]
fn a_close_before_it_is_up_sends_first_what_was_written() {
    let (server, addr) = listener();
    let mut rig = Rig::new(Script::new());
    let id = rig.connect(addr, 8, &ConnectOptions::default());
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    conn.write(b"request");
    conn.close();
    assert_eq!(conn.write(b"late"), waterwheel::Written::Closed);
    let mut peer = Client::from(server.accept().unwrap().0);
    assert_eq!(rig.read_to_end(&mut peer), (b"request".to_vec(), End::Fin));
    peer.finish();
    rig.expect_end(id, "Local");
}

#[test]
fn a_reactor_that_goes_gives_the_states_of_connects_back() {
    let (_server, addr) = listener();
    let (script, states) = collects_failures(Script::new());
    let mut rig = Rig::new(script);
    rig.connect(addr, 4, &ConnectOptions::default());
    drop(rig);
    assert_eq!(states.take(), [4]);
}

/// Begins a connection from inside a callback.
type Dial = Rc<dyn Fn(&mut Context<'_>, u64)>;
/// The service to connect with, once it is registered.
type Known = Rc<Cell<Option<HandlerKey<Watched<Script>>>>>;

fn dialer(journal: &Journal, addr: SocketAddr) -> (Dial, Known) {
    let known = Known::default();
    let (lives, service) = (journal.clone(), known.clone());
    let dial = move |cx: &mut Context<'_>, tag: u64| {
        let options = ConnectOptions::default();
        let service = service.get().unwrap();
        cx.connect(addr, service, lives.life(tag), &options);
    };
    (Rc::new(dial), known)
}

#[test]
fn on_close_may_connect_again() {
    let (server, addr) = listener();
    let journal = Journal::default();
    let (dial, service) = dialer(&journal, addr);
    let script = Script::new().close(move |tag, _, cx| {
        if tag < 3 {
            dial(cx, tag + 1);
        }
    });
    let (listen, options) = (ListenOptions::default(), ReactorOptions::default());
    let mut rig = Rig::with(script, journal, listen, options);
    service.set(Some(rig.service));
    rig.connect(addr, 1, &ConnectOptions::default());
    for round in 1..=3 {
        rig.until("up", |rig| rig.journal.opened().len() == round);
        drop(server.accept().unwrap());
    }
    rig.until("the last end", |rig| rig.journal.closes() == 3);
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().connected, 3);
}

#[test]
fn on_connect_failed_may_connect_again() {
    let (_guard, addr) = nobody();
    let journal = Journal::default();
    let (dial, service) = dialer(&journal, addr);
    let script = Script::new().connect_failed(move |tag, _, cx| {
        if tag < 5 {
            dial(cx, tag + 1);
        }
    });
    let (listen, options) = (ListenOptions::default(), ReactorOptions::default());
    let mut rig = Rig::with(script, journal, listen, options);
    service.set(Some(rig.service));
    rig.connect(addr, 1, &ConnectOptions::default());
    rig.until("five failures", |rig| rig.reactor.stats().connect_failures == 5);
    rig.expect_quiet();
}

#[test]
fn every_callback_may_connect() {
    let (server, addr) = listener();
    let journal = Journal::default();
    let (dial, service) = dialer(&journal, addr);
    let [open, data, eof] = [(); 3].map(|()| dial.clone());
    let script = Script::new()
        .open(move |conn| {
            if conn.peer_addr() != addr {
                open(&mut conn.context(), 1);
            }
        })
        .data(move |conn, input| {
            data(&mut conn.context(), 2);
            input.len()
        })
        .eof(move |conn| {
            eof(&mut conn.context(), 3);
            conn.close();
        });
    let (listen, options) = (ListenOptions::default(), ReactorOptions::default());
    let mut rig = Rig::with(script, journal, listen, options);
    service.set(Some(rig.service));
    let mut client = Client::connect(rig.addr);
    client.send(b"?");
    client.finish();
    let _peers: Vec<_> = (0..3).map(|_| rig.accept_at(&server)).collect();
    rig.until("all up", |rig| rig.reactor.stats().connected == 3);
}

#[test]
fn many_connects_at_once_all_come_up() {
    let mut rig = Rig::new(Script::echo());
    let addr = rig.addr;
    for tag in 0..100 {
        rig.connect(addr, tag, &ConnectOptions::default());
    }
    rig.until("all up", |rig| {
        let stats = rig.reactor.stats();
        (stats.connected, stats.accepted) == (100, 100)
    });
    assert_eq!(rig.reactor.stats().connections_peak, 200);
}

#[test]
fn a_handler_of_another_type_is_no_place_for_a_state() {
    let mut other = Reactor::new().unwrap();
    let foreign = other.register(|_: &mut waterwheel::Conn<'_>, input: &[u8]| input.len());
    let (_server, addr) = listener();
    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default();
    let id = rig.reactor.connect(addr, foreign, (), &options);
    rig.until("gone", |rig| !rig.lives(id));
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().connections, 0);
}
