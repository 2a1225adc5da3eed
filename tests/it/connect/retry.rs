//! What a handler is told between the tries of a connect, and what it may do then.

// Some of it is for Unix alone.
#![cfg_attr(not(unix), allow(dead_code, unused_imports))]

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[cfg(unix)]
use waterwheel::unix::UnixAddr;
use waterwheel::{
    Closed, Conn, ConnectOptions, ConnectRetry, Context, Handler, HandlerKey, Limits, Peer,
    Reactor, Reconnect, Written,
};

use crate::support::{Call, PATIENCE, Rig, Script, nobody};

const LONGEST: Duration = Duration::from_millis(2);

/// Tries again at once, and so often at the most.
fn often(max_attempts: Option<u32>) -> ConnectOptions {
    let reconnect = Reconnect::default().base_delay(Duration::from_millis(1)).max_delay(LONGEST);
    ConnectOptions::default().reconnect(Some(reconnect.max_attempts(max_attempts)))
}

fn retries(rig: &Rig) -> Vec<u32> {
    let calls = rig.journal.calls().into_iter();
    calls.filter_map(|call| if let Call::ConnectRetry(n) = call { Some(n) } else { None }).collect()
}

#[track_caller]
fn failure(rig: &mut Rig) -> String {
    let mut told = None;
    rig.until("a failure", |rig| {
        told = rig.journal.calls().into_iter().find_map(|call| match call {
            Call::ConnectFailed(_, text) => Some(text),
            _ => None,
        });
        told.is_some()
    });
    assert_eq!(rig.reactor.stats().connections, 0);
    told.unwrap()
}

#[test]
fn each_try_that_fails_is_told_and_the_last_one_is_the_failure() {
    let (_nobody, addr) = nobody();
    let told = Rc::new(RefCell::new(Vec::new()));
    let seen = told.clone();
    let mut rig = Rig::new(Script::new().connect_retry(move |_, retry| {
        assert!(retry.pause <= LONGEST);
        assert_eq!(retry.error.kind(), ErrorKind::ConnectionRefused);
        seen.borrow_mut().push(retry.error.to_string());
    }));
    rig.connect(addr, 0, &often(Some(3)));
    assert!(failure(&mut rig).ends_with(", at try 3 in a row"));
    assert_eq!(retries(&rig), [1, 2]);
    let told = told.borrow();
    assert!(told.iter().all(|text| text.starts_with(&format!("cannot connect to {addr}: "))));
    assert!(told[1].ends_with(", at try 2 in a row"), "{told:?}");
    rig.expect_quiet();
}

#[test]
fn what_is_written_between_two_tries_is_sent_in_order_once_it_is_up() {
    let (socket, addr) = nobody();
    let mut rig = Rig::new(Script::new().connect_retry(|conn, retry| {
        if retry.tries <= 2 {
            let text = if retry.tries == 1 { "first, " } else { "second" };
            assert!(conn.write(text.as_bytes()).is_accepted());
        }
    }));
    rig.connect(addr, 0, &often(None));
    rig.until("two tries", |rig| retries(rig).len() >= 2);
    socket.listen(8).unwrap();
    let mut peer = rig.accept_at(&TcpListener::from(socket));
    rig.expect(&mut peer, b"first, second");
    assert!(rig.journal.has(&Call::Open));
}

#[test]
fn a_handler_may_give_up() {
    let give_up: [fn(&mut Conn<'_>); 2] = [|conn| conn.abort(), |conn| conn.close()];
    for give_up in give_up {
        let (_nobody, addr) = nobody();
        let mut rig = Rig::new(Script::new().connect_retry(move |conn, retry: &ConnectRetry| {
            if retry.tries == 2 {
                give_up(conn);
            }
        }));
        rig.connect(addr, 0, &often(None));
        let told = failure(&mut rig);
        assert!(told.contains("closed before it was up"), "{told}");
        assert_eq!(retries(&rig), [1, 2]);
        rig.expect_quiet();
    }
}

#[cfg(unix)]
#[test]
fn a_try_that_fails_at_once_is_told_after_the_callback_that_connected() {
    let mut rig = Rig::new(Script::new());
    rig.connect(UnixAddr::path("/nowhere/at/all"), 5, &often(Some(2)));
    assert!(retries(&rig).is_empty());
    failure(&mut rig);
    assert_eq!(retries(&rig), [1]);
}

/// Connects to nobody when its output has drained; the states are told apart by their numbers.
#[cfg(unix)]
struct Drains {
    service: HandlerKey<Self>,
    told: Vec<u64>,
}

#[cfg(unix)]
impl Handler for Drains {
    type State = u64;

    fn on_accept(&mut self, _: &Peer) -> Option<u64> {
        Some(0)
    }

    fn on_data(&mut self, _: &mut u64, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_drain(&mut self, _: &mut u64, conn: &mut Conn<'_>) {
        conn.context().connect(UnixAddr::path("/nowhere/at/all"), self.service, 7, &often(Some(2)));
    }

    fn on_connect_retry(&mut self, state: &mut u64, _: &mut Conn<'_>, _: &ConnectRetry) {
        self.told.push(*state);
    }

    fn on_connect_failed(&mut self, state: u64, _: io::Error, _: &mut Context<'_>) {
        self.told.push(state + 1);
    }
}

#[cfg(unix)]
#[test]
fn a_try_that_fails_at_once_at_the_end_of_a_turn_finds_its_state() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register_with(|service| Drains { service, told: Vec::new() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = Limits::default().high_mark_bytes(64).low_mark_bytes(16);
    let options = ConnectOptions::default().limits(limits);
    let id = reactor.connect(listener.local_addr().unwrap(), service, 0, &options);
    while reactor.stats().connected == 0 {
        assert!(reactor.run_once(Some(PATIENCE)).unwrap());
    }
    // It leaves, and drains, when the turn ends.
    assert_eq!(reactor.context().conn(id).unwrap().write(&[0; 100]), Written::Above);
    let start = Instant::now();
    while reactor.stats().connect_failures == 0 && start.elapsed() < PATIENCE {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(reactor.handler_mut(service).unwrap().told, [7, 8]);
}

#[test]
fn a_panic_between_two_tries_is_the_end_of_that_connect_alone() {
    let (_nobody, addr) = nobody();
    let mut rig = Rig::new(Script::echo().connect_retry(|_, _| panic!("on purpose")));
    rig.panics = 1;
    let (mut other, _) = rig.client();
    rig.connect(addr, 0, &often(None));
    rig.until("a failure", |rig| rig.reactor.stats().connect_failures == 1);
    assert_eq!(retries(&rig), [1]);
    let failed =
        |call: &Call| matches!(call, Call::ConnectFailed(_, text) if text.contains("panic"));
    assert_eq!(rig.journal.count(failed), 1);
    other.send(b"still there?");
    rig.expect(&mut other, b"still there?");
}

/// Connects again with a state that is not of its own type.
struct Mistaken {
    returned: Option<&'static str>,
}

impl Handler for Mistaken {
    type State = u8;

    fn on_accept(&mut self, _: &Peer) -> Option<u8> {
        None
    }

    fn on_data(&mut self, _: &mut u8, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, _: u8, closed: Closed, cx: &mut Context<'_>) {
        self.returned = cx.reconnect(&closed, "no number").err();
        cx.stop();
    }
}

#[test]
fn a_state_of_another_type_is_returned_and_does_not_vanish() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    let client = reactor.register(Mistaken { returned: None });
    reactor.connect(listener.local_addr()?, client, 0, &often(None));
    drop(listener.accept()?);
    reactor.run()?;
    let returned = reactor.handler_mut(client).and_then(|client| client.returned);
    assert_eq!(returned, Some("no number"));
    Ok(())
}
