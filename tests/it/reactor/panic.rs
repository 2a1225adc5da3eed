//! A callback that panics ends its own connection, and nothing else.

use std::cell::Cell;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::Level;
use waterwheel::{
    Conn, ConnectOptions, Context, HandlerKey, IdleKind, Limits, ListenOptions, OnPanic, Reactor,
    ReactorOptions, Written,
};

use crate::support::{Call, Client, End, Journal, Rig, Script, keep_log, logged, patiently};

/// Checks that others are served on.
fn expect_served(rig: &mut Rig, other: &mut Client) {
    other.send(b"still there?");
    rig.expect(other, b"still there?");
}

/// Runs `cause` against a handler that panics in one callback, once.
fn check(name: &str, script: Script, cause: impl FnOnce(&mut Rig, &mut Client)) {
    println!("{name}");
    let limits = Limits::default().high_mark_bytes(64).low_mark_bytes(16);
    let mut rig = Rig::with_limits(script, limits);
    rig.panics = 1;
    let (mut other, other_id) = rig.client();
    rig.turn();
    let mut client = Client::connect(rig.addr);
    rig.until("accepted", |rig| rig.reactor.stats().accepted == 2);
    let id = rig.journal.last();
    cause(&mut rig, &mut client);
    let (reason, _) = rig.end_of(id);
    assert_eq!(reason, "Panic");
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
    expect_served(&mut rig, &mut other);
    assert!(rig.lives(other_id));
}

#[test]
fn a_peer_that_makes_a_handler_panic_does_not_fill_the_log() {
    keep_log();
    let start = Instant::now();
    let mut rig = Rig::new(Script::new().open(boom));
    rig.panics = 20;
    let clients: Vec<_> = (0..20).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all", |rig| rig.reactor.stats().panics == 20);
    let told = |level| {
        let lines = logged(level).into_iter();
        lines.filter(|line| line.contains("a callback panicked (on purpose)")).count()
    };
    let errors = told(Level::Error);
    assert!(errors >= 1 && errors as u64 <= 1 + start.elapsed().as_secs(), "{errors}");
    assert_eq!(errors + told(Level::Debug), 20);
    drop(clients);
}

fn boom(_: &mut Conn<'_>) {
    panic!("on purpose");
}

#[test]
fn a_panic_ends_its_connection_and_the_others_are_served() {
    let mut opened = 0;
    let script = Script::echo().open(move |_| {
        opened += 1;
        assert!(opened != 2, "on purpose");
    });
    check("on_open", script, |_, _| {});
    let script = Script::new().data(|conn, input| {
        conn.write(input);
        assert!(input != b"boom", "on purpose");
        input.len()
    });
    check("on_data", script, |_, client| client.send(b"boom"));
    check("on_eof", Script::echo().eof(boom), |_, client| client.finish());
    check("on_drain", Script::echo().drain(boom), |rig, _| {
        let id = rig.journal.last();
        let mut cx = rig.reactor.context();
        assert_eq!(cx.conn(id).unwrap().write(&[0; 64]), Written::Above);
    });
    let script = Script::echo().timer(|_, _| panic!("on purpose"));
    check("on_timer", script, |rig, _| {
        let id = rig.journal.last();
        let mut cx = rig.reactor.context();
        cx.conn(id).unwrap().set_timer(Duration::ZERO, 0);
    });
    let script = Script::echo().idle(|_, _| panic!("on purpose"));
    check("on_idle", script, |rig, _| {
        let id = rig.journal.last();
        let mut cx = rig.reactor.context();
        let limit = Some(Duration::from_millis(1));
        let mut conn = cx.conn(id).unwrap();
        conn.set_idle_timeout(IdleKind::All, limit).unwrap();
    });
}

#[test]
fn a_panic_in_a_later_piece_of_input_ends_it_too() {
    // With a rest kept, the input takes another way to the handler.
    let script = Script::new().data(|conn, input| {
        conn.write(input);
        match input {
            b"bo" => 0,
            b"boom" => panic!("on purpose"),
            _ => input.len(),
        }
    });
    check("kept input", script, |rig, client| {
        client.send(b"bo");
        rig.until("a part", |rig| rig.journal.has(&Call::Data(b"bo".to_vec())));
        client.send(b"om");
    });
}

#[test]
fn what_gathered_before_a_panic_is_not_sent_and_counted_as_lost() {
    let mut rig = Rig::new(Script::new().data(|conn, _| {
        conn.write(b"half an answer");
        panic!("on purpose");
    }));
    rig.panics = 1;
    let (mut client, id) = rig.client();
    client.send(b"?");
    assert_eq!(rig.end_of(id), ("Panic".to_owned(), 14));
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
}

#[test]
fn many_panics_in_one_batch_each_end_their_own() {
    const MANY: usize = 20;
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        conn.write(input);
        assert!(input != b"boom", "on purpose");
        input.len()
    }));
    rig.panics = MANY as u64 / 2;
    let mut clients: Vec<_> = (0..MANY).map(|_| rig.client().0).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(if number % 2 == 0 { b"boom" } else { b"fine" });
    }
    rig.turn();
    for (number, client) in clients.iter_mut().enumerate() {
        if number % 2 == 0 {
            assert_eq!(rig.read_to_end(client), (Vec::new(), End::Reset));
        } else {
            rig.expect(client, b"fine");
        }
    }
    assert_eq!(rig.journal.closes(), MANY / 2);
}

#[test]
fn a_panic_in_on_accept_refuses_and_the_next_is_accepted() {
    let mut asked = 0;
    let mut rig = Rig::new(Script::echo().accept(move |_| {
        asked += 1;
        assert!(asked > 1, "on purpose");
        true
    }));
    rig.panics = 1;
    let mut first = Client::connect(rig.addr);
    let mut second = Client::connect(rig.addr);
    assert_eq!(rig.read_to_end(&mut first), (Vec::new(), End::Reset));
    expect_served(&mut rig, &mut second);
    let stats = rig.reactor.stats();
    assert_eq!((stats.accepted, stats.refused), (1, 1));
}

#[test]
fn a_panic_in_on_close_is_survived() {
    let mut rig = Rig::new(Script::echo().close(|_, closed, _| {
        assert!(closed.unsent_bytes > 0, "on purpose");
    }));
    let (mut other, other_id) = rig.client();
    let (mut one, one_id) = rig.client();
    one.finish();
    rig.expect_end(one_id, "Peer");
    expect_served(&mut rig, &mut other);
    assert_eq!(rig.reactor.stats().panics, 1);
    rig.panics = 2;
    other.finish();
    rig.expect_end(other_id, "Peer");
    assert_eq!(rig.reactor.stats().connections, 0);
}

#[test]
fn a_panic_in_on_connect_failed_is_survived() {
    let script = Script::echo().connect_failed(|_, _, _| panic!("on purpose"));
    let mut rig = Rig::new(script);
    rig.panics = 1;
    let options = ConnectOptions::default().timeout(Duration::ZERO);
    let addr = rig.addr;
    rig.connect(addr, 0, &options);
    rig.until("a panic", |rig| rig.reactor.stats().panics == 1);
    let (mut client, _) = rig.client();
    expect_served(&mut rig, &mut client);
}

#[test]
fn a_panic_in_posted_work_or_a_handler_timer_is_survived() {
    let mut rig = Rig::new(Script::echo().handler_timer(|_, _| panic!("on purpose")));
    rig.panics = 3;
    let service = rig.service;
    let remote = rig.reactor.remote();
    rig.reactor.set_timer(service, Duration::ZERO, 0);
    let mut cx = rig.reactor.context();
    cx.post(service, |_, _| panic!("on purpose"));
    remote.with(service, |_, _| panic!("on purpose")).unwrap();
    rig.until("panics", |rig| rig.reactor.stats().panics == 3);
    let (mut client, _) = rig.client();
    expect_served(&mut rig, &mut client);
}

/// What was thrown may panic again when it is dropped.
#[test]
fn a_payload_that_panics_when_it_is_dropped_is_survived() {
    struct Spiteful;
    impl Drop for Spiteful {
        fn drop(&mut self) {
            panic!("on purpose, again");
        }
    }
    let thrown = Rc::new(Cell::new(false));
    let throws = thrown.clone();
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        conn.write(input);
        if !throws.replace(true) {
            std::panic::panic_any(Spiteful);
        }
        input.len()
    }));
    rig.panics = 1;
    let (mut other, _) = rig.client();
    let (mut client, id) = rig.client();
    client.send(b"?");
    assert_eq!(rig.end_of(id).0, "Panic");
    expect_served(&mut rig, &mut other);
}

/// For whoever wants the panic: it comes when the turn is complete, and the reactor can go on.
#[test]
fn a_panic_that_unwinds_leaves_the_turn_and_the_reactor_goes_on() {
    let script = Script::echo().open(|_| {}).data(|conn, input| {
        assert!(input != b"boom", "on purpose");
        conn.write(input);
        input.len()
    });
    let options = ReactorOptions::default().on_panic(OnPanic::Unwind);
    let mut rig = Rig::with(script, Journal::default(), ListenOptions::default(), options);
    rig.panics = 1;
    let (mut other, other_id) = rig.client();
    let (mut client, id) = rig.client();
    client.send(b"boom");
    other.send(b"served in the same turn, or in the next");
    let thrown = patiently("the panic", || {
        let turn = || rig.reactor.run_once(Some(Duration::from_millis(1)));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).err()
    });
    assert_eq!(thrown.downcast_ref::<&str>(), Some(&"on purpose"));
    let (reason, _) = rig.end_of(id);
    assert_eq!(reason, "Panic");
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
    rig.expect(&mut other, b"served in the same turn, or in the next");
    expect_served(&mut rig, &mut other);
    assert!(rig.lives(other_id));
}

/// A reactor that is dropped cannot let a panic out.
#[test]
fn a_panic_while_a_reactor_is_dropped_stays_in() {
    let script = Script::new().close(|_, _, _| panic!("on purpose"));
    let options = ReactorOptions::default().on_panic(OnPanic::Unwind);
    let mut reactor = Reactor::with_options(options).unwrap();
    let service = reactor.register(script);
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    let mut clients = [Client::connect(addr), Client::connect(addr)];
    patiently("both are accepted", || {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        (reactor.stats().accepted == 2).then_some(())
    });
    drop(reactor);
    for client in &mut clients {
        client.expect_end(End::Fin);
    }
}

/// What the callbacks of a reactor have told.
type Told = Rc<Cell<usize>>;

/// Things to tell, one after the other; each of them panics.
struct Telling<'a, 'b> {
    cx: &'a mut Context<'b>,
    handler: HandlerKey<Script>,
    left: usize,
    told: Told,
}

impl Telling<'_, '_> {
    fn go_on(mut self) {
        self.left -= 1;
        self.told.set(self.told.get() + 1);
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

impl Drop for Telling<'_, '_> {
    fn drop(&mut self) {
        if self.left > 0 {
            let (handler, left, told) = (self.handler, self.left, self.told.clone());
            self.cx.post(handler, move |_, cx| Telling { cx, handler, left, told }.go_on());
        }
    }
}

/// A reactor with a connection whose last callback has so many things to tell.
fn telling(left: usize, on_panic: OnPanic) -> (Reactor, Client, Told) {
    let (told, key) = (Told::default(), Rc::new(Cell::new(None)));
    let (tells, has_key) = (told.clone(), key.clone());
    let script = Script::new().close(move |_, _, cx| {
        let handler: HandlerKey<Script> = has_key.get().expect("it is known");
        cx.post(handler, |_, _| unreachable!("it was posted in a reactor that has stopped"));
        Telling { cx, handler, left, told: tells.clone() }.go_on();
    });
    let options = ReactorOptions::default().on_panic(on_panic);
    let mut reactor = Reactor::with_options(options).unwrap();
    let service = reactor.register(script);
    key.set(Some(service));
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    let client = Client::connect(addr);
    patiently("it is accepted", || {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        (reactor.stats().accepted == 1).then_some(())
    });
    (reactor, client, told)
}

/// How many of so many things have been told when the reactor has ended.
fn told_at_the_end(left: usize, is_dropped: bool) -> usize {
    let (mut reactor, _client, told) = telling(left, OnPanic::CloseConnection);
    if !is_dropped {
        reactor.context().stop();
        reactor.run().unwrap();
        assert_eq!(reactor.stats().panics as usize, told.get());
    }
    drop(reactor);
    told.get()
}

#[test]
fn what_a_panic_leaves_of_a_last_callback_is_done_before_the_reactor_ends() {
    for is_dropped in [false, true] {
        assert_eq!(told_at_the_end(3, is_dropped), 3);
    }
}

/// No turn comes any more that would run what was posted.
#[test]
fn what_a_panic_leaves_in_the_last_turn_is_done_when_the_reactor_is_dropped() {
    for (on_panic, is_unwinding) in [
        (OnPanic::CloseConnection, false),
        (OnPanic::CloseConnection, true),
        (OnPanic::Unwind, false),
        (OnPanic::Unwind, true),
    ] {
        let (mut reactor, client, told) = telling(3, on_panic);
        drop(client);
        patiently("the first is told", || {
            let turn = || reactor.run_once(Some(Duration::from_millis(1)));
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn));
            (told.get() > 0).then_some(())
        });
        assert_eq!(told.get(), 1);
        let end = move || {
            let _dropped = reactor;
            if is_unwinding {
                std::panic::resume_unwind(Box::new("from outside"));
            }
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(end));
        assert_eq!((ended.is_err(), told.get()), (is_unwinding, 3), "{on_panic:?}");
    }
}

/// Who connects anew in each last callback has eight rounds of them.
#[test]
fn a_panic_in_the_last_round_of_a_stop_keeps_nothing_from_being_told() {
    for is_dropped in [false, true] {
        let (told, key) = (Told::default(), Rc::new(Cell::new(None)));
        let (tells, has_key) = (told.clone(), key.clone());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let again = move |cx: &mut Context<'_>| {
            let handler: HandlerKey<Script> = has_key.get().expect("it is known");
            cx.connect(to, handler, 0, &ConnectOptions::default());
            Telling { cx, handler, left: 2, told: tells.clone() }.go_on();
        };
        let is_up = again.clone();
        let script = Script::new().connect_failed(move |_, _, cx| again(cx));
        let script = script.close(move |_, _, cx| is_up(cx));
        let mut reactor = Reactor::new().unwrap();
        let service = reactor.register(script);
        key.set(Some(service));
        for _ in 0..3 {
            reactor.connect(to, service, 0, &ConnectOptions::default());
        }
        if is_dropped {
            drop(reactor);
        } else {
            reactor.context().stop();
            reactor.run().unwrap();
        }
        assert_eq!(told.get(), 8 * 3 * 2, "{is_dropped}");
    }
}

#[test]
fn a_callback_that_panics_for_ever_does_not_hold_a_stop_up() {
    for is_dropped in [false, true] {
        assert!(told_at_the_end(usize::MAX, is_dropped) > 1_000);
    }
}
