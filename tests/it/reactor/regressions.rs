//! What was broken once, found by looking for it, and stays mended.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{
    ConnId, ConnectOptions, Context, HandlerKey, Idle, IdleKind, Limits, ListenOptions,
    ReactorOptions, TcpOptions,
};

use crate::support::{Call, Client, Journal, Rig, Script, Watched};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A task that posts itself anew and panics runs once a turn.
#[test]
fn a_posted_panic_that_reposts_leaves_the_turn() {
    let mut rig = Rig::new(Script::new());
    let runs = Rc::new(Cell::new(0u64));
    type Handled = Watched<Script>;
    fn again(service: HandlerKey<Handled>, runs: Rc<Cell<u64>>, cx: &mut Context<'_>) {
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

/// A client whose `on_connect_failed` tries again, fails at once and perhaps panics, 500 times; and
/// how often it was called.
fn retrying_rig(panics: bool) -> (Rig<Script>, Rc<Cell<u64>>) {
    let runs = Rc::new(Cell::new(0u64));
    let count = runs.clone();
    let key: Rc<Cell<Option<HandlerKey<Watched<Script>>>>> = Rc::default();
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
        assert!(!panics, "on purpose");
    });
    let mut rig = Rig::with(script, journal, ListenOptions::default(), ReactorOptions::default());
    key.set(Some(rig.service));
    let opts = ConnectOptions::default().timeout(Duration::ZERO);
    rig.connect("127.0.0.1:1", 0, &opts);
    (rig, runs)
}

/// So does a failed connect that is tried again, with a panic or without.
#[test]
fn a_failed_connect_that_retries_leaves_the_turn() {
    for panics in [true, false] {
        let (mut rig, runs) = retrying_rig(panics);
        rig.turn();
        rig.panics = rig.reactor.stats().panics;
        assert!(runs.get() <= 2, "{} runs in one turn", runs.get());
        rig.until("end", |_| runs.get() >= 500);
        rig.panics = rig.reactor.stats().panics;
    }
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
                conn.set_timer(ms(50), 0);
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
    let (mut rig, runs) = retrying_rig(true);
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

/// Small writes of one callback leave in one system call for each 16 KiB, however many there are.
#[test]
fn many_small_writes_of_one_callback_take_a_call_for_each_16_kib() {
    for count in [100, 1_700, 24_000] {
        let script = Script::new().data(move |conn, input| {
            for _ in 0..count {
                conn.write(b"0123456789");
            }
            input.len()
        });
        let mut rig = Rig::new(script);
        let (mut client, _) = rig.client();
        client.send(b"?");
        let answer = rig.read(&mut client, 10 * count);
        assert!(answer == b"0123456789".repeat(count));
        let writes = rig.reactor.stats().writes;
        // And one for what the kernel did not take at once, if that happens.
        assert!(
            writes <= (10 * count / (16 << 10)) as u64 + 2,
            "{writes} calls for {count} writes"
        );
    }
}

/// Whatever was sent before a write that is refused, the peer must not take it for the whole.
#[test]
fn a_write_over_the_cap_ends_with_a_reset_in_every_way_it_is_made() {
    const CAP: usize = 1 << 20;
    let limits = Limits::default().max_output_bytes(CAP).high_mark_bytes(CAP).low_mark_bytes(1);
    for way in 0..3 {
        for sent in [0, 100_000] {
            let script = Script::new().data(move |conn, input| {
                conn.write(&vec![1; sent]);
                let too_much = vec![2; CAP + 1];
                match way {
                    0 => {
                        conn.write(&too_much);
                    }
                    1 => {
                        let id = conn.id();
                        conn.other_conn(id).expect("it lives").write(&too_much);
                    }
                    _ => conn.context().remote().write(conn.id(), too_much).expect("it runs"),
                }
                input.len()
            });
            let mut rig = Rig::with_limits(script, limits.clone());
            let (mut client, id) = rig.client();
            client.send(b"?");
            assert_eq!(
                rig.read_to_end(&mut client).1,
                crate::support::End::Reset,
                "way {way}, {sent} sent"
            );
            assert_eq!(rig.end_of(id).0, "Overflow");
        }
    }
}

/// The time that a close may take is without progress, not that of the whole.
#[test]
fn a_close_does_not_cut_a_slow_reader_that_goes_on_reading() {
    let limits = Limits::default().close_timeout(ms(400));
    let tcp = TcpOptions::default().send_buffer_bytes(Some(64 << 10));
    const ALL: usize = 8 << 20;
    let script = Script::new().data(|conn, input| {
        conn.write(&vec![7; ALL]);
        conn.close();
        input.len()
    });
    let mut rig = Rig::with_listen(script, ListenOptions::default().limits(limits).tcp(tcp));
    let (mut client, id) = rig.client();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(128 << 10).unwrap();
    client.send(b"?");
    let start = Instant::now();
    let (mut read, mut end) = (0, None);
    while end.is_none() {
        let allowed = start.elapsed().as_millis() as usize * 4_000;
        if read < allowed {
            match client.try_read((allowed - read).min(64 << 10)) {
                Ok(bytes) => read += bytes.len(),
                Err(found) => end = Some(found),
            }
        }
        rig.reactor.run_once(Some(ms(1))).expect("turns");
    }
    assert_eq!((read, end), (ALL, Some(crate::support::End::Fin)));
    assert!(start.elapsed() > ms(1_200), "three times what a close may take");
    drop(client);
    assert_eq!(rig.end_of(id).1, 0);
}

/// A peer that takes nothing is cut after that time, however long it took before.
#[test]
fn a_close_cuts_a_reader_that_stops() {
    let limits = Limits::default().close_timeout(ms(200));
    let script = Script::new().data(|conn, input| {
        conn.write(&vec![7; 12 << 20]);
        conn.close();
        input.len()
    });
    let mut rig = Rig::with_limits(script, limits);
    let (client, id) = rig.client();
    let mut client = client.with_small_receive_buffer();
    client.send(b"?");
    let start = Instant::now();
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Timeout(Close)");
    assert!(unsent > 0 && start.elapsed() < ms(5_000));
    assert_eq!(rig.read_to_end(&mut client).1, crate::support::End::Reset);
}

/// A cap on output is for peers that do not read: what others write to one that reads is sent.
#[test]
fn a_member_that_reads_is_not_overflowed_by_another() {
    const CAP: usize = 64 << 10;
    let limits = Limits::default().max_output_bytes(CAP).high_mark_bytes(CAP).low_mark_bytes(1);
    let drains = Rc::new(Cell::new(0));
    let (told, sink) = (drains.clone(), Rc::new(Cell::new(None::<ConnId>)));
    let to = sink.clone();
    let script = Script::new()
        .data(move |conn, input| {
            let Some(id) = to.get() else { return input.len() };
            for _ in 0..20 {
                let mut cx = conn.context();
                let mut other = cx.conn(id).expect("it reads, and lives");
                assert!(other.write(&[9; 50_000]).is_accepted());
            }
            input.len()
        })
        .drain(move |_| told.set(told.get() + 1));
    let mut rig = Rig::with_limits(script, limits);
    let (mut reader, id) = rig.client();
    let (mut writer, _) = rig.client();
    sink.set(Some(id));
    writer.send(b"?");
    // All of it fits into the buffers of the kernel, so that no read has to come between.
    assert!(rig.read(&mut reader, 1_000_000) == vec![9; 1_000_000]);
    assert!(rig.lives(id));
    rig.expect_quiet();
    assert!(drains.get() <= 1, "told once that there is room");
}

/// Whoever is behind a file that fell short may not send for ever.
#[test]
fn a_connection_whose_output_has_failed_ends_though_the_peer_goes_on_sending() {
    let limits = Limits::default().close_timeout(ms(300));
    let script = Script::new().data(|conn, input| {
        if input.starts_with(b"file") {
            conn.send_checked_file(crate::support::scratch_file(&[7; 10]), 0..1_000);
        }
        // Slower than the peer: some 400 kB wait in the kernel, which are 6 reads.
        thread::sleep(ms(60));
        input.len()
    });
    let tcp = TcpOptions::default().receive_buffer_bytes(Some(400_000));
    let mut rig = Rig::with_listen(script, ListenOptions::default().limits(limits).tcp(tcp));
    let (mut client, id) = rig.client();
    // A connection with nothing more to read would end at once.
    client.send(&[b"file".as_slice(), &[1; 200_000]].concat());
    let sender = thread::spawn(move || {
        let some = [1; 100_000];
        while std::io::Write::write(&mut client.stream, &some).is_ok() {}
    });
    let start = Instant::now();
    let (reason, _) = rig.end_of(id);
    assert!(reason.starts_with("Io"), "the cause, and not the clock: {reason}");
    assert!(start.elapsed() >= ms(300), "{:?}", start.elapsed());
    sender.join().unwrap();
}

/// TCP lets a socket connect to itself, where it has the port that it connects to.
#[test]
fn a_connection_to_itself_is_refused_and_its_port_is_free() {
    for retries in [false, true] {
        let mut rig = Rig::new(Script::new());
        // Held only to find a port that is free.
        let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut options = ConnectOptions::default().source(Some(addr));
        if retries {
            let policy = waterwheel::Reconnect::default().max_attempts(Some(1));
            options = options.reconnect(Some(policy));
        }
        rig.connect(addr, 7, &options);
        let failed = |call: &Call| matches!(call, Call::ConnectFailed(..));
        rig.until("told", |rig| rig.journal.count(failed) == 1);
        let calls = rig.journal.calls();
        let text = calls.iter().find(|call| failed(call)).map(|call| format!("{call:?}"));
        let text = text.expect("it was told");
        assert!(text.contains("ConnectionRefused"), "{text}");
        assert!(rig.journal.opened().is_empty());
        std::net::TcpListener::bind(addr).expect("a server can have the port");
    }
}

/// Ids of one reactor, and of a wheel of the user's, name nothing in another.
#[test]
fn timers_of_elsewhere_cancel_nothing() {
    let fired = Rc::new(Cell::new(0));
    let mut rigs = [0, 1].map(|_| {
        let fired = fired.clone();
        let script = Script::new().handler_timer(move |_, _| fired.set(fired.get() + 1));
        Rig::with_limits(script, Limits::default().all_idle(Some(ms(100))))
    });
    let mut wheel = waterwheel::wheel::Wheel::new();
    let [a, b] = &mut rigs;
    let service = a.service;
    let (_client, id) = b.client();
    let foreign: Vec<_> = (0..20)
        .flat_map(|_| [a.reactor.set_timer(service, ms(1_000), 0), wheel.insert(1_000, ())])
        .collect();
    let service = b.service;
    b.reactor.set_timer(service, ms(50), 0);
    for timer in foreign {
        assert!(!b.reactor.context().cancel_timer(timer), "{timer:?}");
        assert!(!b.reactor.context().conn(id).expect("it lives").cancel_timer(timer));
    }
    b.until("its own timer", |_| fired.get() == 1);
    b.expect_end(id, "Idle");
}
