//! The order of callbacks, and what each of them may do: nothing nests, nothing comes after the
//! end, and nothing that a callback does to its own or another connection breaks the order.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{
    Conn, ConnId, ConnectOptions, Context, Idle, IdleKind, Limits, ListenOptions, ReactorOptions,
};

use crate::support::{Call, Client, End, Journal, PATIENCE, Rig, Script};

fn kinds(calls: &[Call]) -> Vec<&'static str> {
    let kind = |call: &Call| match call {
        Call::Accept => "accept",
        Call::Open => "open",
        Call::Data(_) => "data",
        Call::Drain => "drain",
        Call::Eof => "eof",
        Call::Idle(_) => "idle",
        Call::Deadline => "deadline",
        Call::Timer(_) => "timer",
        Call::Shutdown => "shutdown",
        Call::Close(..) => "close",
        Call::ConnectFailed(..) => "connect_failed",
        Call::HandlerTimer => "handler_timer",
        Call::ConnectRetry(_) => "retry",
        Call::Note(note) => note,
    };
    calls.iter().map(kind).collect()
}

#[test]
fn an_accepted_connection_is_accepted_opened_fed_ended_and_closed() {
    let mut rig = Rig::new(Script::echo());
    let (mut client, id) = rig.client();
    client.send(b"hello");
    rig.expect(&mut client, b"hello");
    client.finish();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    let calls = rig.journal.calls();
    assert_eq!(kinds(&calls), ["accept", "open", "data", "eof", "close"]);
}

#[test]
fn a_connected_one_has_the_same_callbacks_from_on_open_on() {
    let mut rig = Rig::new(Script::new());
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let id = rig.connect(addr, 7, &ConnectOptions::default());
    let mut peer = Client::from(server.accept().unwrap().0);
    rig.until("up", |rig| rig.journal.has(&Call::Open));
    peer.send(b"hello");
    rig.until("data", |rig| rig.journal.data_of(id) == b"hello");
    peer.finish();
    rig.expect_end(id, "Peer");
    let calls = rig.journal.calls();
    assert_eq!(kinds(&calls), ["open", "data", "eof", "close"]);
}

#[test]
fn a_closure_is_a_handler() {
    let mut greeted = 0;
    let mut rig = Rig::new(move |conn: &mut Conn<'_>, input: &[u8]| {
        greeted += 1;
        conn.write(format!("{greeted}: ").as_bytes());
        conn.write(input);
        input.len()
    });
    let (mut one, _) = rig.client();
    let (mut two, _) = rig.client();
    one.send(b"one");
    rig.expect(&mut one, b"1: one");
    two.send(b"two");
    rig.expect(&mut two, b"2: two");
    two.finish();
    assert_eq!(rig.read_to_end(&mut two).1, End::Fin);
}

#[test]
fn a_refused_peer_gets_a_reset_and_no_other_callback() {
    let mut rig = Rig::new(Script::new().accept(|_| false));
    let mut client = Client::connect(rig.addr);
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
    assert_eq!(rig.journal.calls(), [Call::Accept]);
    assert_eq!(rig.reactor.stats().refused, 1);
}

#[test]
fn on_accept_is_told_both_addresses() {
    let seen = Rc::new(Cell::new(None));
    let told = seen.clone();
    let mut rig = Rig::new(Script::new().accept(move |peer| {
        told.set(Some(*peer));
        true
    }));
    let (client, _) = rig.client();
    let peer = seen.get().expect("was told");
    assert_eq!((peer.addr, peer.listener), (client.addr(), rig.addr));
}

/// What a callback does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Write,
    Close,
    Abort,
    ShutDown,
    /// All of them, and several times.
    Everything,
}

const ACTS: [Act; 5] = [Act::Write, Act::Close, Act::Abort, Act::ShutDown, Act::Everything];

/// Which callback does it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Open,
    Data,
    Drain,
    Eof,
    Idle,
    Timer,
    Shutdown,
    Close,
    HandlerTimer,
    ConnectFailed,
}

/// The callbacks that are lent their own connection.
const OWN: [At; 7] = [At::Open, At::Data, At::Drain, At::Eof, At::Idle, At::Timer, At::Shutdown];

const ALL: [At; 10] = [
    At::Open,
    At::Data,
    At::Drain,
    At::Eof,
    At::Idle,
    At::Timer,
    At::Shutdown,
    At::Close,
    At::HandlerTimer,
    At::ConnectFailed,
];

fn act(what: Act, conn: &mut Conn<'_>) {
    match what {
        Act::Write => assert!(conn.write(b"written").is_accepted()),
        Act::Close => {
            assert!(conn.write(b"written").is_accepted());
            conn.close();
            assert!(!conn.write(b"too late").is_accepted());
        }
        Act::Abort => conn.abort(),
        Act::ShutDown => {
            assert!(conn.write(b"written").is_accepted());
            conn.shutdown_write();
            assert!(!conn.write(b"too late").is_accepted());
        }
        Act::Everything => {
            for _ in 0..2 {
                conn.write(b"written");
                conn.pause_reading();
                conn.resume_reading();
                conn.shutdown_write();
                conn.close();
                conn.abort();
                conn.set_timer(Duration::ZERO, 0);
                let _ = (conn.peer_addr(), conn.local_addr(), conn.pending_bytes());
                assert!(!conn.is_writable());
            }
        }
    }
}

/// A handler that runs `run` once, in the callback `at`; on the connections that have it.
fn script_at(
    at: At,
    run: impl FnMut(Option<&mut Conn<'_>>, Option<&mut Context<'_>>) + 'static,
) -> Script {
    let shared = Rc::new(std::cell::RefCell::new((run, false)));
    let once = move |here: At, conn: Option<&mut Conn<'_>>, cx: Option<&mut Context<'_>>| {
        let mut shared = shared.borrow_mut();
        if here == at && !std::mem::replace(&mut shared.1, true) {
            (shared.0)(conn, cx);
            return true;
        }
        false
    };
    let [open, data, drain, eof, idle] = [(); 5].map(|()| once.clone());
    let [timer, shutdown, close, failed, service] = [(); 5].map(|()| once.clone());
    Script::new()
        .open(move |conn| {
            open(At::Open, Some(conn), None);
        })
        .data(move |conn, input| {
            data(At::Data, Some(conn), None);
            input.len()
        })
        .drain(move |conn| {
            drain(At::Drain, Some(conn), None);
        })
        .eof(move |conn| {
            if !eof(At::Eof, Some(conn), None) {
                conn.close();
            }
        })
        .idle(move |conn, _| {
            idle(At::Idle, Some(conn), None);
            Idle::Keep
        })
        .timer(move |conn, _| {
            timer(At::Timer, Some(conn), None);
        })
        .shutdown(move |conn| {
            if !shutdown(At::Shutdown, Some(conn), None) {
                conn.close();
            }
        })
        .close(move |_, _, cx| {
            close(At::Close, None, Some(cx));
        })
        .connect_failed(move |_, _, cx| {
            failed(At::ConnectFailed, None, Some(cx));
        })
        .handler_timer(move |_, cx| {
            service(At::HandlerTimer, None, Some(cx));
        })
}

/// Small marks, so that a write from outside crosses both.
fn small_marks() -> Limits {
    Limits::default().high_mark_bytes(64).low_mark_bytes(16)
}

/// Brings a callback about, on a connection that is open.
fn bring_about(at: At, rig: &mut Rig, client: &mut Client, id: ConnId) {
    let service = rig.service;
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).expect("it is open");
    match at {
        At::Open => {}
        At::Data => client.send(b"?"),
        At::Drain => assert_eq!(conn.write(&[b'.'; 64]), waterwheel::Written::Above),
        At::Eof => client.finish(),
        At::Idle => {
            let limit = Some(Duration::from_millis(1));
            conn.set_idle_timeout(IdleKind::Read, limit).unwrap();
        }
        At::Timer => {
            conn.set_timer(Duration::from_millis(1), 0);
        }
        At::Shutdown => cx.drain(PATIENCE),
        At::Close => conn.abort(),
        At::HandlerTimer => {
            cx.set_timer(service, Duration::ZERO, 0);
        }
        At::ConnectFailed => {
            let life = rig.journal.life(9);
            let options = ConnectOptions::default().timeout(Duration::ZERO);
            rig.reactor.connect(rig.addr, service, life, &options);
        }
    }
}

/// What the client must see of an act on its connection, after `before`.
fn expect_seen(rig: &mut Rig, client: &mut Client, what: Act, before: &[u8]) {
    let written = [before, b"written"].concat();
    match what {
        Act::Write => rig.expect(client, &written),
        Act::Close | Act::ShutDown => {
            assert_eq!(rig.read_to_end(client), (written, End::Fin), "{what:?}");
        }
        Act::Abort | Act::Everything => assert_eq!(rig.read_to_end(client).1, End::Reset),
    }
}

#[test]
fn every_callback_may_do_everything_to_its_own_connection() {
    for (at, what) in OWN.into_iter().flat_map(|at| ACTS.map(|act| (at, act))) {
        println!("{what:?} in {at:?}");
        let script = script_at(at, move |conn, _| act(what, conn.unwrap()));
        let mut rig = Rig::with_limits(script, small_marks());
        let (mut client, id) = rig.client();
        if at != At::Open {
            bring_about(at, &mut rig, &mut client, id);
        }
        let before: &[u8] = if at == At::Drain { &[b'.'; 64] } else { b"" };
        expect_seen(&mut rig, &mut client, what, before);
        if at != At::Eof && !matches!(what, Act::Abort | Act::Everything) {
            client.finish();
        } else if what == Act::Write {
            rig.reactor.context().conn(id).expect("still open").close();
        }
        rig.until("closed", |rig| rig.journal.closes() == 1);
        rig.turn();
        let ended_by = kinds(&rig.journal.calls_of(id));
        assert_eq!(ended_by.last(), Some(&"close"));
        assert!(!rig.lives(id));
    }
}

#[test]
fn every_callback_may_do_everything_to_another_connection() {
    for (at, what) in ALL.into_iter().flat_map(|at| ACTS.map(|act| (at, act))) {
        println!("{what:?} from {at:?}");
        let other = Rc::new(Cell::new(None));
        let found = other.clone();
        let script = script_at(at, move |conn, cx| {
            // The first connection to open has nobody to act upon.
            let Some(other) = found.get() else { return };
            match (conn, cx) {
                (Some(conn), _) => act(what, &mut conn.context().conn(other).unwrap()),
                (_, Some(cx)) => act(what, &mut cx.conn(other).unwrap()),
                _ => unreachable!(),
            }
        });
        let (quiet, quiet_addr) = (Script::new().shutdown(|_| {}), "127.0.0.1:0");
        let mut rig = Rig::with_limits(script, small_marks());
        let quiet = rig.reactor.register(rig.journal.watch(quiet));
        let quiet_addr = rig.reactor.listen(quiet_addr, quiet, ListenOptions::default()).unwrap();
        let mut victim = Client::connect(quiet_addr);
        rig.until("accepted", |rig| !rig.journal.opened().is_empty());
        let victim_id = rig.journal.last();
        other.set(Some(victim_id));
        let (mut client, id) = rig.client();
        bring_about(at, &mut rig, &mut client, id);
        expect_seen(&mut rig, &mut victim, what, b"");
        drop(victim);
        rig.until("closed", |rig| rig.journal.close_of(victim_id).is_some());
    }
}

#[test]
fn on_close_comes_once_however_often_it_is_caused() {
    let journal = Journal::default();
    let notes = journal.clone();
    let script = Script::new().data(move |conn, input| {
        let id = conn.id();
        conn.close();
        conn.abort();
        conn.abort();
        conn.close();
        assert!(conn.context().conn(id).is_none(), "aborted, found by id");
        notes.note("returned");
        input.len()
    });
    let (listen, options) = (ListenOptions::default(), ReactorOptions::default());
    let mut rig = Rig::with(script, journal, listen, options);
    let (mut client, id) = rig.client();
    client.send(b"end");
    client.finish();
    rig.expect_end(id, "Local");
    for _ in 0..3 {
        rig.turn();
    }
    let calls = kinds(&rig.journal.calls());
    assert_eq!(calls, ["accept", "open", "data", "returned", "close"]);
}

#[test]
fn a_dropped_reactor_closes_all_of_its_connections() {
    let mut rig = Rig::new(Script::new());
    let clients: Vec<_> = (0..3).map(|_| rig.client()).collect();
    let journal = rig.journal.clone();
    drop(rig);
    for (mut client, id) in clients {
        assert_eq!(journal.close_of(id), Some(("Shutdown".to_owned(), 0)));
        client.expect_end(End::Fin);
    }
}

/// Of two connections with events in one batch the first aborts the second.
#[test]
fn an_event_that_outlived_its_connection_within_the_batch_reaches_nobody() {
    let pair: Rc<Cell<Option<[ConnId; 2]>>> = Rc::default();
    let known = pair.clone();
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        let [one, two] = known.get().unwrap();
        let other = if conn.id() == one { two } else { one };
        conn.context().conn(other).expect("it is the first").abort();
        assert!(conn.context().conn(other).is_none());
        input.len()
    }));
    let (mut one, one_id) = rig.client();
    let (mut two, two_id) = rig.client();
    pair.set(Some([one_id, two_id]));
    one.send(b"1");
    two.send(b"2");
    let before = rig.reactor.stats().events;
    rig.turn();
    assert_eq!(rig.reactor.stats().events - before, 2, "one batch");
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Data(_))), 1);
    assert_eq!(rig.journal.closes(), 1);
    rig.expect_quiet();
}

/// The slot and the descriptor of a connection are taken by a new one in `on_close`; the id of the
/// old one finds nothing, and nothing of the old one reaches the new one.
#[test]
fn the_id_of_an_ended_connection_never_finds_its_successor() {
    let (successor, known) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
    let (made, service) = (successor.clone(), known.clone());
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let journal = Journal::default();
    let lives = journal.clone();
    let script = Script::new().close(move |_, closed, cx| {
        if made.get().is_some() {
            return;
        }
        let (service, life) = (service.get().unwrap(), lives.life(5));
        let id = cx.connect(addr, service, life, &ConnectOptions::default());
        assert!(cx.conn(closed.id).is_none() && cx.conn(id).is_some());
        made.set(Some(id));
    });
    let (listen, options) = (ListenOptions::default(), ReactorOptions::default());
    let mut rig = Rig::with(script, journal, listen, options);
    known.set(Some(rig.service));
    let (mut client, id) = rig.client();
    client.send(b"of the old one");
    rig.reactor.context().conn(id).unwrap().abort();
    rig.until("a successor", |_| successor.get().is_some());
    let next = successor.get().unwrap();
    // "5.9" is slot 5, generation 9.
    let slot = |id: ConnId| id.to_string().split('.').next().unwrap().to_owned();
    assert_eq!(slot(next), slot(id), "the slot is used again");
    let _peer = server.accept().unwrap();
    rig.until("up", |rig| rig.journal.opened().contains(&next));
    rig.expect_quiet();
    assert!(!rig.lives(id) && rig.lives(next));
    assert!(rig.journal.data_of(next).is_empty());
}

/// The state of a connection that is begun and ended while output is flushed at the end of the
/// turn comes back to its handler.
#[test]
fn a_connect_begun_and_aborted_in_on_drain_fails_once_and_gives_its_state_back() {
    let journal = Journal::default();
    let lives = journal.clone();
    let known: Rc<Cell<Option<waterwheel::HandlerKey<_>>>> = Rc::default();
    let service = known.clone();
    let given_back: Rc<Cell<Option<u64>>> = Rc::default();
    let given = given_back.clone();
    let script = Script::new()
        .drain(move |conn| {
            let (addr, service) = (conn.peer_addr(), service.get().unwrap());
            let options = ConnectOptions::default();
            let mut cx = conn.context();
            let id = cx.connect(addr, service, lives.life(42), &options);
            cx.conn(id).expect("it is connecting").abort();
        })
        .connect_failed(move |tag, _, _| given.set(Some(tag)));
    let listen = ListenOptions::default().limits(small_marks());
    let mut rig = Rig::with(script, journal, listen, ReactorOptions::default());
    known.set(Some(rig.service));
    let (_client, id) = rig.client();
    rig.turn(); // takes the event that says "writable", so that the end of the turn flushes
    let written = rig.reactor.context().conn(id).unwrap().write(&[b'.'; 64]);
    assert_eq!(written, waterwheel::Written::Above);
    rig.until("failed", |_| given_back.get().is_some());
    assert_eq!(given_back.get(), Some(42));
}
