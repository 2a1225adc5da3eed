//! What was broken once, found by looking for it, and stays mended.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use support::{Call, Client, Journal, Rig, Script, Watched};
use waterwheel::{
    ConnId, ConnectOptions, Context, Idle, IdleKind, Limits, ListenOptions, ReactorOptions,
    Service, TcpOptions,
};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A task that posts itself anew and panics runs once a turn.
#[test]
fn a_posted_panic_that_reposts_leaves_the_turn() {
    let mut rig = Rig::new(Script::new());
    let runs = Rc::new(Cell::new(0u64));
    type Handled = Watched<Script>;
    fn again(service: Service<Handled>, runs: Rc<Cell<u64>>, cx: &mut Context<'_>) {
        if runs.get() >= 500 {
            return;
        }
        cx.post(service, move |_, cx| {
            runs.set(runs.get() + 1);
            again(service, runs.clone(), cx);
            if runs.get() < 500 {
                panic!("on purpose");
            }
        });
    }
    let service = rig.service;
    again(service, runs.clone(), &mut rig.reactor.context());
    rig.turn();
    let n = runs.get();
    rig.panics = rig.reactor.stats().panics;
    assert!(n <= 2, "{n} runs in one turn");
}

/// A client whose `on_connect_failed` tries again, fails at once and panics, 500 times; and how
/// often it was called.
fn retrying_rig() -> (Rig<Script>, Rc<Cell<u64>>) {
    let runs = Rc::new(Cell::new(0u64));
    let count = runs.clone();
    let key: Rc<Cell<Option<Service<Watched<Script>>>>> = Rc::default();
    let k = key.clone();
    let journal = Journal::default();
    let j = journal.clone();
    let script = Script::new().connect_failed(move |_, _, cx| {
        count.set(count.get() + 1);
        if count.get() >= 500 {
            return;
        }
        let opts = ConnectOptions::default().timeout(Duration::ZERO);
        cx.connect("127.0.0.1:1", k.get().unwrap(), j.life(0), &opts);
        panic!("on purpose");
    });
    let mut rig = Rig::with(script, journal, ListenOptions::default(), ReactorOptions::default());
    key.set(Some(rig.service));
    let opts = ConnectOptions::default().timeout(Duration::ZERO);
    rig.connect("127.0.0.1:1", 0, &opts);
    (rig, runs)
}

/// So does a failed connect that is tried again.
#[test]
fn a_failed_connect_that_retries_and_panics_leaves_the_turn() {
    let (mut rig, runs) = retrying_rig();
    rig.turn();
    let n = runs.get();
    rig.panics = rig.reactor.stats().panics;
    rig.until("end", |_| runs.get() >= 500);
    rig.panics = rig.reactor.stats().panics;
    assert!(n <= 2, "{n} runs in one turn");
}

/// A panic does not begin the accept budget anew.
#[test]
fn panics_in_on_accept_do_not_lift_the_budget() {
    let mut rig = Rig::with_listen(
        Script::new().accept(|_| panic!("on purpose")),
        ListenOptions::default().accept_budget(2),
    );
    let _clients: Vec<_> = (0..60).map(|_| Client::connect(rig.addr)).collect();
    rig.turn();
    let n = rig.reactor.stats().panics;
    rig.panics = n;
    assert!(n <= 4, "{n} accepts in one turn");
}

/// A listener stood on the ready queue once more with every turn.
#[test]
fn the_accept_budget_holds_in_a_lasting_storm() {
    let mut rig = Rig::with_listen(Script::new(), ListenOptions::default().accept_budget(1));
    let mut clients: Vec<_> = (0..300).map(|_| Client::connect(rig.addr)).collect();
    let mut per_turn = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(rig.addr));
        let before = rig.reactor.stats().accepted;
        rig.turn();
        per_turn.push(rig.reactor.stats().accepted - before);
    }
    assert!(per_turn.iter().all(|&n| n <= 2), "{per_turn:?}");
}

/// The limit of a declared message was lost with the first pause.
#[test]
fn a_declared_message_keeps_its_limit_over_a_pause() {
    let limits = Limits::default().message_timeout(Some(ms(50)));
    let mut rig = Rig::with_limits(
        Script::new().data(|conn, input| {
            conn.declare_incomplete(true);
            conn.pause_reading();
            input.len()
        }),
        limits,
    );
    let (mut client, id) = rig.client();
    client.send(b"head");
    rig.until("data", |rig| rig.journal.count(|c| matches!(c, Call::Data(_))) == 1);
    rig.reactor.context().conn(id).unwrap().resume_reading();
    let start = Instant::now();
    while start.elapsed() < ms(1000) && rig.journal.close_of(id).is_none() {
        rig.reactor.run_once(Some(ms(5))).unwrap();
    }
    assert_eq!(rig.journal.close_of(id).map(|c| c.0), Some("Timeout(Message)".to_owned()));
}

/// And by back-pressure, which is the peer's to cause.
#[test]
fn a_declared_message_keeps_its_limit_over_a_drain() {
    let limits = Limits::default()
        .message_timeout(Some(ms(50)))
        .high_mark_bytes(64 << 10)
        .low_mark_bytes(16);
    let listen = ListenOptions::default()
        .limits(limits)
        .tcp(TcpOptions::default().send_buffer_bytes(Some(4096)));
    let mut rig = Rig::with_listen(
        Script::new().data(|conn, input| {
            conn.declare_incomplete(true);
            conn.write(&vec![1; 8 << 20]);
            input.len()
        }),
        listen,
    );
    let (mut client, id) = rig.client();
    client.send(b"head");
    rig.until("data", |rig| rig.journal.count(|c| matches!(c, Call::Data(_))) == 1);
    rig.read(&mut client, 8 << 20);
    rig.until("drained", |rig| rig.journal.has(&Call::Drain));
    let start = Instant::now();
    while start.elapsed() < ms(1000) && rig.journal.close_of(id).is_none() {
        rig.reactor.run_once(Some(ms(5))).unwrap();
    }
    assert_eq!(rig.journal.close_of(id).map(|c| c.0), Some("Timeout(Message)".to_owned()));
}

/// While nobody reads, the peer is not late.
#[test]
fn a_pause_from_elsewhere_stops_the_limit_of_a_message() {
    let limits = Limits::default().message_timeout(Some(ms(50)));
    let mut rig = Rig::with_limits(Script::new().data(|_, _| 0), limits);
    let (mut client, id) = rig.client();
    client.send(b"head");
    rig.until("data", |rig| rig.journal.count(|c| matches!(c, Call::Data(_))) == 1);
    rig.reactor.context().conn(id).unwrap().pause_reading();
    client.send(b"rest, that nobody reads");
    let start = Instant::now();
    while start.elapsed() < ms(300) {
        rig.reactor.run_once(Some(ms(5))).unwrap();
    }
    assert_eq!(rig.journal.close_of(id), None);
}

/// Nor with its first byte.
#[test]
fn a_first_byte_that_a_pause_holds_back_is_not_late() {
    let limits = Limits::default().first_byte_timeout(Some(ms(50)));
    let mut rig = Rig::with_limits(Script::new().open(|conn| conn.pause_reading()), limits);
    let (mut client, id) = rig.client();
    client.send(b"head");
    let start = Instant::now();
    while start.elapsed() < ms(300) {
        rig.reactor.run_once(Some(ms(5))).unwrap();
    }
    assert_eq!(rig.journal.close_of(id), None);
}

/// A timer counts from the call, not from the start of a long turn.
#[test]
fn a_timer_set_late_in_a_turn_is_not_early() {
    let set: Rc<Cell<Option<Instant>>> = Rc::default();
    let fired: Rc<Cell<Option<Duration>>> = Rc::default();
    let (s, f) = (set.clone(), fired.clone());
    let mut rig = Rig::new(
        Script::new()
            .data(move |conn, input| {
                thread::sleep(ms(60));
                s.set(Some(Instant::now()));
                conn.set_timer(ms(50));
                input.len()
            })
            .timer(move |_, _| f.set(Some(set.get().unwrap().elapsed()))),
    );
    let (mut client, _) = rig.client();
    client.send(b"x");
    rig.until("fired", |_| fired.get().is_some());
    assert!(fired.get().unwrap() >= ms(50), "{:?}", fired.get());
}

/// What a stop drops unrun is the user's, and may panic.
#[test]
fn a_message_that_panics_when_it_is_dropped_does_not_escape() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose: drop")
        }
    }
    let mut rig = Rig::new(Script::new());
    let remote = rig.reactor.remote();
    let service = rig.service;
    remote
        .with(service, move |_, cx| {
            cx.stop();
            cx.remote()
                .with(service, {
                    let b = Bomb;
                    move |_, _| {
                        let _b = &b;
                    }
                })
                .unwrap();
        })
        .unwrap();
    let r = catch_unwind(AssertUnwindSafe(|| rig.reactor.run()));
    rig.panics = rig.reactor.stats().panics;
    assert!(r.is_ok(), "run() unwound");
}

/// So may what was thrown, when it is dropped.
#[test]
fn a_payload_whose_drop_throws_another_like_it_is_survived() {
    struct Spite(u32);
    impl Drop for Spite {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Spite(self.0 - 1))
            }
        }
    }
    let mut rig = Rig::new(Script::new().data(|_, _| panic_any(Spite(2))));
    let (mut client, _) = rig.client();
    client.send(b"x");
    let r = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..10 {
            rig.turn();
            thread::sleep(ms(1));
        }
    }));
    rig.panics = rig.reactor.stats().panics;
    assert!(r.is_ok(), "run_once() unwound");
}

/// What was read at the end of a long turn counts from there.
#[test]
fn an_idle_limit_after_a_long_turn_is_not_early() {
    let limits = Limits::default().read_idle(Some(ms(50)));
    let at: Rc<Cell<Option<(ConnId, Instant)>>> = Rc::default();
    let fired: Rc<Cell<Option<Duration>>> = Rc::default();
    let (a, f) = (at.clone(), fired.clone());
    let mut n = 0;
    let mut rig = Rig::with_limits(
        Script::new()
            .data(move |conn, input| {
                n += 1;
                if n == 1 {
                    thread::sleep(ms(60));
                } else {
                    a.set(Some((conn.id(), Instant::now())));
                }
                input.len()
            })
            .idle(move |conn, _| {
                if let Some((id, t)) = at.get() {
                    if id == conn.id() && f.get().is_none() {
                        f.set(Some(t.elapsed()));
                    }
                }
                Idle::Keep
            }),
        limits,
    );
    let (mut one, _) = rig.client();
    let (mut two, _) = rig.client();
    one.send(b"a");
    two.send(b"b");
    rig.until("fired", |_| fired.get().is_some());
    assert!(fired.get().unwrap() >= ms(50), "{:?}", fired.get());
}

/// A handler that connects anew and panics does not hold a stop up.
#[test]
fn a_handler_that_connects_anew_and_panics_does_not_hold_a_stop_up() {
    let (mut rig, runs) = retrying_rig();
    rig.reactor.context().stop();
    while rig.reactor.run_once(Some(Duration::ZERO)).unwrap() {}
    rig.panics = rig.reactor.stats().panics;
    assert!(runs.get() <= 20, "{} rounds", runs.get());
}

/// As the documentation of `set_idle_timeout` says.
#[test]
fn a_limit_that_has_passed_ends_it_in_the_turn_of_the_callback() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        conn.set_idle_timeout(IdleKind::Write, Some(ms(1))).unwrap();
        input.len()
    }));
    let (mut client, id) = rig.client();
    thread::sleep(ms(20));
    client.send(b"x");
    while rig.reactor.stats().bytes_read == 0 {
        rig.turn();
    }
    assert!(rig.journal.close_of(id).is_some(), "not in this turn");
}
