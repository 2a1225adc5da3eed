//! The two ways to stop, at once and by draining; and what a reactor that is dropped does.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{
    CloseReason, Closed, Conn, ConnId, ConnectOptions, Context, Handler, HandlerKey, Idle, Limits,
    ListenOptions, Peer, Reactor, TcpOptions, Written,
};

use crate::support::{Call, Client, End, Journal, PATIENCE, Rig, Script, patiently, pattern};

const HOUR: Duration = Duration::from_secs(3_600);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn by_shutdown(unsent: usize) -> Option<(String, usize)> {
    Some(("Shutdown".to_owned(), unsent))
}

#[track_caller]
fn expect_refused(addr: SocketAddr) {
    let error = TcpStream::connect_timeout(&addr, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Runs to the end, which must come.
#[track_caller]
fn run_to_the_end(rig: &mut Rig) {
    let begin = Instant::now();
    while rig.reactor.run_once(Some(ms(20))).unwrap() {
        assert!(begin.elapsed() < PATIENCE, "it does not stop: {:?}", rig.reactor.stats());
    }
    assert!(!rig.reactor.run_once(None).unwrap(), "it is over");
    rig.reactor.run().unwrap();
    assert_eq!(rig.reactor.stats().connections, 0);
}

/// A rig that owes each client 4 MiB, which is more than the kernel takes.
fn owing_rig() -> Rig {
    let tcp = TcpOptions::default().send_buffer_bytes(Some(16 << 10));
    let handler = Script::new().open(|conn| {
        assert_ne!(conn.write(&pattern(4 << 20)), Written::Full);
    });
    Rig::with_listen(handler, ListenOptions::default().tcp(tcp))
}

#[test]
fn a_stop_ends_every_connection_once_and_at_once() {
    let mut rig = Rig::new(Script::new());
    let mut clients: Vec<_> = (0..20).map(|_| rig.client()).collect();
    rig.reactor.context().stop();
    assert!(!rig.reactor.run_once(None).unwrap(), "one turn is enough");
    for (client, id) in &mut clients {
        assert_eq!(rig.journal.calls_of(*id), [Call::Open, Call::Close("Shutdown".into(), 0)]);
        client.expect_end(End::Fin);
    }
    expect_refused(rig.addr);
    run_to_the_end(&mut rig);
    assert_eq!(rig.reactor.stats().closed, 20);
}

#[test]
fn a_stop_tells_what_was_not_sent_and_the_peer_that_it_was_cut() {
    let mut rig = owing_rig();
    let (mut client, id) = rig.client();
    rig.reactor.remote().stop().unwrap();
    run_to_the_end(&mut rig);
    let sent = rig.reactor.stats().bytes_written as usize;
    assert!(sent < 4 << 20);
    assert_eq!(rig.journal.close_of(id), by_shutdown((4 << 20) - sent));
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
}

#[test]
fn run_returns_when_another_thread_stops_it() {
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let stopper = thread::spawn(move || remote.stop());
    reactor.run().unwrap();
    assert_eq!(stopper.join().unwrap(), Ok(()));
}

#[test]
fn an_outgoing_connection_that_is_not_up_fails_when_the_reactor_stops() {
    for draining in [false, true] {
        let mut rig = Rig::new(Script::new());
        // The loop has had no turn to see it come up.
        let addr = rig.addr;
        let id = rig.connect(addr, 5, &ConnectOptions::default());
        assert!(rig.lives(id));
        let mut context = rig.reactor.context();
        if draining {
            context.drain(HOUR)
        } else {
            context.stop()
        }
        run_to_the_end(&mut rig);
        let ended = rig.journal.closes();
        let failed = rig.journal.count(|call| matches!(call, Call::ConnectFailed(..)));
        let opened = rig.journal.opened().len();
        // In the turn of the stop it may come up before; then it ends like any other.
        assert_eq!((ended, failed + ended), (opened, 1.max(opened)), "{:?}", rig.journal.calls());
        assert_eq!(rig.journal.states(), 0);
    }
}

/// What each callback of a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Open,
    Data,
    Eof,
    Idle,
    Timer,
    HandlerTimer,
    Shutdown,
    Close,
}

/// A rig that stops itself in one of its callbacks.
fn stopping_rig(at: At) -> Rig {
    let handler = Script::new()
        .open(move |conn| {
            conn.write(b"!");
            match at {
                At::Open => conn.context().stop(),
                At::Idle => {
                    let limit = Some(ms(5));
                    conn.set_idle_timeout(waterwheel::IdleKind::All, limit).unwrap();
                }
                At::Timer => {
                    conn.set_timer(ms(5), 0);
                }
                At::Close => conn.abort(),
                _ => {}
            }
        })
        .data(move |conn, input| {
            if at == At::Data {
                conn.context().stop();
            }
            input.len()
        })
        .eof(|conn| conn.context().stop())
        .idle(|conn, _| {
            conn.context().stop();
            Idle::Keep
        })
        .timer(|conn, _| conn.context().stop())
        .handler_timer(|_, cx| cx.stop())
        .shutdown(|conn| conn.context().stop())
        .close(|_, _, cx| cx.stop());
    Rig::new(handler)
}

#[test]
fn any_callback_may_stop_the_loop() {
    use At::{Close, Data, Eof, HandlerTimer, Idle, Open, Shutdown, Timer};
    for at in [Open, Data, Eof, Idle, Timer, HandlerTimer, Shutdown, Close] {
        let mut rig = stopping_rig(at);
        let mut clients: Vec<_> = (0..3).map(|_| Client::connect(rig.addr)).collect();
        rig.until("all were accepted", |rig| rig.reactor.stats().accepted == 3);
        match at {
            Data => clients[1].send(b"x"),
            Eof => clients[1].finish(),
            HandlerTimer => drop(rig.reactor.set_timer(rig.service, ms(5), 0)),
            Shutdown => rig.reactor.context().drain(HOUR),
            _ => {}
        }
        run_to_the_end(&mut rig);
        let expected = if at == Close { "Local" } else { "Shutdown" };
        for id in rig.journal.opened() {
            let (reason, _) = rig.journal.close_of(id).expect("each has ended");
            assert_eq!(reason, expected, "{at:?}");
        }
        assert_eq!(rig.journal.closes(), 3, "{at:?}");
    }
}

#[test]
fn a_drain_closes_the_listeners_at_once_and_asks_each_connection_once() {
    // Those asked do nothing: they go on as before.
    let mut rig = Rig::new(Script::echo().shutdown(|_| {}));
    let mut clients: Vec<_> = (0..5).map(|_| rig.client()).collect();
    rig.reactor.context().drain(HOUR);
    rig.turn();
    expect_refused(rig.addr);
    // A second drain asks nobody again.
    rig.reactor.context().drain(2 * HOUR);
    rig.reactor.remote().drain(HOUR).unwrap();
    rig.turn();
    rig.turn();
    for (client, id) in &mut clients {
        client.send(b"still?");
        rig.expect(client, b"still?");
        let asked = rig.journal.calls_of(*id);
        assert_eq!(asked.iter().filter(|call| **call == Call::Shutdown).count(), 1);
    }
    let ids: Vec<_> = clients.into_iter().map(|(_, id)| id).collect(); // the clients go
    run_to_the_end(&mut rig);
    for id in ids {
        assert!(rig.journal.calls_of(id).contains(&Call::Eof));
        assert_eq!(rig.journal.close_of(id), by_shutdown(0));
    }
}

#[test]
fn a_drain_waits_until_a_slow_reader_has_everything() {
    let mut rig = owing_rig();
    let (mut client, id) = rig.client();
    rig.reactor.context().drain(HOUR);
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; 4 << 20];
        for part in bytes.chunks_mut(64 << 10) {
            std::io::Read::read_exact(&mut client.stream, part).unwrap();
            thread::yield_now();
        }
        client.expect_end(End::Fin);
        bytes
    });
    run_to_the_end(&mut rig);
    assert_eq!(rig.journal.close_of(id), by_shutdown(0));
    assert!(reader.join().unwrap() == pattern(4 << 20));
}

#[test]
fn the_deadline_of_a_drain_cuts_the_rest_and_tells_what_was_lost() {
    let mut rig = owing_rig();
    let (mut client, id) = rig.client();
    let begin = Instant::now();
    rig.reactor.remote().drain(ms(80)).unwrap();
    run_to_the_end(&mut rig);
    assert!(begin.elapsed() >= ms(80), "{:?}", begin.elapsed());
    let sent = rig.reactor.stats().bytes_written as usize;
    assert_eq!(rig.journal.close_of(id), by_shutdown((4 << 20) - sent));
    assert_eq!(rig.reactor.stats().bytes_unsent as usize, (4 << 20) - sent);
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!(end, End::Reset);
    assert!(bytes == pattern(bytes.len()));
}

#[test]
fn a_drain_of_nothing_is_over_at_once() {
    let mut rig = Rig::new(Script::new());
    rig.reactor.context().drain(HOUR);
    assert!(!rig.reactor.run_once(None).unwrap());
    run_to_the_end(&mut rig);
}

#[test]
fn a_stop_overrides_a_drain_and_not_the_other_way_round() {
    let mut rig = Rig::new(Script::new().shutdown(|_| {}));
    let (_client, id) = rig.client();
    rig.reactor.context().drain(HOUR);
    rig.turn();
    assert!(rig.lives(id));
    rig.reactor.remote().stop().unwrap();
    run_to_the_end(&mut rig);
    assert_eq!(rig.journal.close_of(id), by_shutdown(0));

    let mut rig = Rig::new(Script::new().shutdown(|_| {}));
    let (_client, id) = rig.client();
    rig.reactor.context().stop();
    rig.reactor.context().drain(HOUR);
    assert!(!rig.reactor.run_once(None).unwrap());
    assert_eq!(rig.journal.close_of(id), by_shutdown(0));
    assert!(!rig.journal.has(&Call::Shutdown));
}

#[test]
fn of_two_drains_the_earlier_deadline_holds() {
    for in_one_turn in [true, false] {
        for drains in [[HOUR, ms(60)], [ms(60), HOUR]] {
            let mut rig = Rig::new(Script::new().shutdown(|_| {}));
            let (_client, id) = rig.client();
            let begin = Instant::now();
            for wait in drains {
                rig.reactor.context().drain(wait);
                if !in_one_turn {
                    rig.turn();
                }
            }
            run_to_the_end(&mut rig);
            assert!(begin.elapsed() >= ms(60) && begin.elapsed() < ms(10_000));
            assert_eq!(rig.journal.close_of(id), by_shutdown(0));
            assert_eq!(rig.journal.count(|call| *call == Call::Shutdown), 1);
        }
    }
}

#[test]
fn the_deadline_of_a_drain_counts_from_the_call_and_not_from_the_start_of_a_long_turn() {
    let begun: Rc<Cell<Option<Instant>>> = Rc::default();
    let begins = begun.clone();
    let script = Script::new().shutdown(|_| {}).data(move |conn, input| {
        thread::sleep(ms(60));
        begins.set(Some(Instant::now()));
        conn.context().drain(ms(50));
        input.len()
    });
    let mut rig = Rig::new(script);
    let (mut client, id) = rig.client();
    client.send(b"x");
    run_to_the_end(&mut rig);
    assert!(begun.get().unwrap().elapsed() >= ms(50), "{:?}", begun.get().unwrap().elapsed());
    assert_eq!(rig.journal.close_of(id), by_shutdown(0));
}

#[test]
fn an_answer_that_is_under_way_may_be_finished_while_draining() {
    let handler = Script::new()
        .shutdown(|conn| {
            conn.set_timer(ms(20), 0);
        })
        .timer(|conn, _| {
            conn.write(b"the answer");
            conn.close();
        });
    let mut rig = Rig::new(handler);
    let (mut client, id) = rig.client();
    rig.reactor.context().drain(HOUR);
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!((bytes.as_slice(), end), (&b"the answer"[..], End::Fin));
    drop(client);
    run_to_the_end(&mut rig);
    assert_eq!(rig.journal.close_of(id), by_shutdown(0));
}

#[test]
fn one_that_was_closing_already_is_not_asked_and_keeps_its_reason() {
    let limits = Limits::default().close_timeout(PATIENCE);
    let mut rig = Rig::with_limits(Script::new().open(|conn| conn.close()), limits);
    let (client, id) = rig.client();
    rig.turn();
    rig.reactor.context().drain(HOUR);
    rig.turn();
    drop(client);
    run_to_the_end(&mut rig);
    let end = [Call::Open, Call::Close("Local".to_owned(), 0)];
    assert_eq!(rig.journal.calls_of(id), end);
}

#[test]
fn a_reactor_that_is_dropped_ends_its_connections_like_one_that_stops() {
    let journal = Journal::default();
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(journal.watch(Script::new()));
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect(addr)).collect();
    patiently("all are accepted", || {
        reactor.run_once(Some(ms(1))).unwrap();
        (reactor.stats().accepted == 5).then_some(())
    });
    reactor.connect(addr, service, journal.life(1), &ConnectOptions::default());
    drop(reactor);
    for client in &mut clients {
        client.expect_end(End::Fin);
    }
    assert_eq!(journal.count(|call| *call == Call::Close("Shutdown".to_owned(), 0)), 5);
    assert_eq!(journal.count(|call| matches!(call, Call::ConnectFailed(..))), 1);
    journal.expect_balanced();
    expect_refused(addr);
}

#[test]
fn a_handler_that_connects_anew_for_ever_does_not_hold_a_stop_up() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = peer.local_addr().unwrap();
    let key = Rc::new(Cell::new(None));
    let own_key = key.clone();
    let lives: Rc<RefCell<Option<Journal>>> = Rc::default();
    let own_lives = lives.clone();
    let handler = Script::new().close(move |_, _, cx| {
        let (Some(service), Some(journal)) = (own_key.get(), &*own_lives.borrow()) else { return };
        cx.connect(addr, service, journal.life(2), &ConnectOptions::default());
    });
    let mut rig = Rig::new(handler);
    key.set(Some(rig.service));
    *lives.borrow_mut() = Some(rig.journal.clone());
    let _clients: Vec<_> = (0..3).map(|_| rig.client()).collect();
    rig.reactor.context().stop();
    run_to_the_end(&mut rig);
    let failed = rig.journal.count(|call| matches!(call, Call::ConnectFailed(..)));
    assert_eq!((rig.journal.closes(), failed), (3, 3));
}

/// The place of the closed listener is free again, and must not be charged for those that the
/// old one let in.
#[test]
fn listening_while_the_reactor_drains_is_no_harm() {
    let options = ListenOptions::default().max_connections(Some(5)).max_per_source(Some(5));
    let mut rig = Rig::with_listen(Script::new().shutdown(|_| {}), options.clone());
    let clients: Vec<_> = (0..3).map(|_| rig.client()).collect();
    rig.reactor.context().drain(HOUR);
    rig.turn();
    // Whether it is refused or not is a matter of taste.
    let _ = rig.reactor.listen("127.0.0.1:0", rig.service, options);
    let ids: Vec<ConnId> = clients.into_iter().map(|(_, id)| id).collect();
    run_to_the_end(&mut rig);
    for id in ids {
        assert_eq!(rig.journal.close_of(id), by_shutdown(0));
    }
}

#[test]
fn nothing_runs_in_a_reactor_that_has_stopped() {
    let mut rig = Rig::new(Script::new());
    let service = rig.service;
    rig.reactor.set_timer(service, ms(1), 0);
    rig.reactor.context().post(service, |_, cx| cx.stop());
    run_to_the_end(&mut rig);
    let calls = rig.journal.calls();
    rig.reactor.context().post(service, |_, _| panic!("it ran"));
    thread::sleep(ms(5));
    run_to_the_end(&mut rig);
    assert_eq!(rig.journal.calls(), calls);
}

#[test]
fn a_reactor_that_has_stopped_does_not_run_again() {
    let mut rig = Rig::new(Script::new());
    let service = rig.service;
    rig.reactor.context().stop();
    rig.reactor.run().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let id = rig.connect(listener.local_addr().unwrap(), 5, &ConnectOptions::default());
    for _ in 0..2 {
        assert!(!rig.reactor.run_once(Some(ms(20))).unwrap());
        rig.reactor.run().unwrap();
    }
    assert!(rig.lives(id) && rig.journal.calls().is_empty(), "{:?}", rig.journal.calls());
    let listened = rig.reactor.listen("127.0.0.1:0", service, ListenOptions::default());
    assert!(listened.unwrap_err().to_string().contains("stopping"));
    let journal = rig.journal.clone();
    drop(rig);
    let failed = journal.count(|call| matches!(call, Call::ConnectFailed(..)));
    assert_eq!((failed, journal.calls().len()), (1, 1), "{:?}", journal.calls());
}

#[cfg(unix)]
#[test]
fn a_descriptor_that_becomes_readable_drains_the_loop() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let mut rig = Rig::new(Script::new());
    let (client, id) = rig.client();
    let (mut bell, end) = UnixStream::pair().unwrap();
    rig.reactor.drain_when_readable(end.into(), HOUR).unwrap();
    rig.expect_quiet();
    bell.write_all(b"!").unwrap();
    rig.turn();
    expect_refused(rig.addr);
    assert!(rig.journal.has(&Call::Shutdown));
    drop(client);
    run_to_the_end(&mut rig);
    assert_eq!(rig.journal.close_of(id), by_shutdown(0));
}

#[cfg(unix)]
#[test]
fn a_descriptor_that_was_replaced_drains_nothing() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let mut rig = Rig::new(Script::new());
    let (mut old, end) = UnixStream::pair().unwrap();
    let shared = end.try_clone().unwrap(); // so that dropping the one does not close it
    rig.reactor.drain_when_readable(end.into(), HOUR).unwrap();
    let (mut new, end) = UnixStream::pair().unwrap();
    rig.reactor.drain_when_readable(end.into(), HOUR).unwrap();
    old.write_all(b"!").unwrap();
    assert!(rig.reactor.run_once(Some(ms(10))).unwrap());
    rig.reactor.run_once(Some(ms(10))).unwrap();
    assert!(rig.client().0.try_read(1).is_ok(), "it serves on");
    drop(shared);
    new.write_all(b"!").unwrap();
    run_to_the_end(&mut rig);
}

/// Calls elsewhere when it is asked to end, and ends when that call is up.
struct Farewell {
    service: HandlerKey<Self>,
    elsewhere: SocketAddr,
    said: Rc<RefCell<Vec<&'static str>>>,
}

impl Handler for Farewell {
    /// Whether it is the call.
    type State = bool;

    fn on_accept(&mut self, _: &Peer) -> Option<bool> {
        Some(false)
    }

    fn on_data(&mut self, _: &mut bool, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_shutdown(&mut self, is_call: &mut bool, conn: &mut Conn<'_>) {
        self.said.borrow_mut().push(if *is_call { "call asked" } else { "asked" });
        if !*is_call {
            let (addr, service) = (self.elsewhere, self.service);
            conn.context().connect(addr, service, true, &ConnectOptions::default());
        }
        conn.close();
    }

    fn on_close(&mut self, is_call: bool, closed: Closed, _: &mut Context<'_>) {
        assert!(matches!(closed.reason, CloseReason::Shutdown), "{closed:?}");
        self.said.borrow_mut().push(if is_call { "call closed" } else { "closed" });
    }
}

/// Else nobody would tell it that it should end, and only the deadline would.
#[test]
fn a_connection_that_comes_up_during_the_drain_is_offered_to_end_too() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = Rc::default();
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register_with(|service| Farewell {
        service,
        elsewhere: elsewhere.local_addr().unwrap(),
        said: Rc::clone(&said),
    });
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    let client = TcpStream::connect(addr).unwrap();
    patiently("accepted", || {
        reactor.run_once(Some(ms(1))).unwrap();
        (reactor.stats().connections == 1).then_some(())
    });
    reactor.context().drain(HOUR);
    assert!(reactor.run_once(Some(Duration::ZERO)).unwrap());
    let (call, _) = elsewhere.accept().unwrap();
    patiently("the call is asked", || {
        reactor.run_once(Some(ms(1))).unwrap();
        said.borrow().contains(&"call asked").then_some(())
    });
    drop((client, call));
    patiently("the end", || (!reactor.run_once(Some(ms(1))).unwrap()).then_some(()));
    let mut said = said.take();
    said.sort_unstable();
    assert_eq!(said, ["asked", "call asked", "call closed", "closed"]);
}
