//! `on_deadline`: what the handler says before the end, and what it may do about it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{Conn, ConnectOptions, Deadline, DeadlineKind, Idle, Limits, Written};

use crate::support::{Call, End, Rig, Script};

const USER: DeadlineKind = DeadlineKind::User;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A handler whose connections have so long, and what it does then.
fn within(wait: Duration, then: impl FnMut(&mut Conn<'_>) -> Deadline + 'static) -> Script {
    Script::echo().open(move |conn| conn.set_deadline(USER, Some(wait))).deadline(then)
}

#[test]
fn by_default_the_connection_is_reset() {
    let mut rig = Rig::new(Script::new().open(|conn| {
        conn.write(b"hello");
        conn.set_deadline(USER, Some(ms(5)));
    }));
    let (mut client, id) = rig.client();
    let begin = Instant::now();
    rig.expect_end(id, "Timeout(User)");
    assert!(begin.elapsed() >= ms(4), "{:?}", begin.elapsed());
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
    assert_eq!(rig.reactor.stats().closed_timeout, 1);
}

/// A goodbye and a FIN: the peer reads all of it.
#[test]
fn a_connection_that_is_closed_says_why_first() {
    let goodbye = vec![b'b'; 3 << 20];
    let text = goodbye.clone();
    let mut rig = Rig::new(within(ms(5), move |conn| {
        assert!(conn.write(&text).is_accepted());
        Deadline::Close
    }));
    let (mut client, id) = rig.client();
    assert!(rig.read_to_end(&mut client) == (goodbye, End::Fin));
    drop(client);
    rig.expect_end(id, "Local");
    assert_eq!(rig.reactor.stats().closed_timeout, 0);
}

/// A handler may judge its peer by that. The poll tells of room only when a third of the kernel's
/// buffer is free, which is more than a megabyte here.
#[test]
fn what_the_kernel_has_room_for_has_left_when_a_deadline_is_told() {
    let pending = Rc::new(Cell::new(0));
    let seen = Rc::clone(&pending);
    let script = Script::new()
        .open(|conn| {
            assert!(conn.write(&[b'x'; 12 << 20]).is_accepted());
            conn.set_deadline(USER, Some(ms(5)));
        })
        .deadline(move |conn| {
            seen.set(conn.pending_bytes());
            Deadline::Keep(ms(5))
        });
    let mut rig = Rig::new(script);
    let (mut client, _) = rig.client();
    let begin = Instant::now();
    rig.until("full", |_| begin.elapsed() > ms(100));
    let full = pending.get();
    let mut read = 0;
    while pending.get() == full {
        assert!(read < 512 << 10, "{read} bytes were read, and nothing has left");
        read += client.try_read(16 << 10).unwrap().len();
        let begin = Instant::now();
        rig.until("another deadline", |_| begin.elapsed() > ms(12));
    }
}

#[test]
fn a_connection_that_is_reset_loses_what_was_written_then() {
    let mut rig = Rig::new(within(ms(5), |_| Deadline::Reset));
    let (mut client, id) = rig.client();
    rig.expect_end(id, "Timeout(User)");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
}

#[test]
fn a_handler_that_closes_in_its_own_way_has_said_enough() {
    for (verdict, aborts) in [
        (Deadline::Reset, false),
        (Deadline::Keep(ms(1)), false),
        (Deadline::Close, true),
        (Deadline::Keep(ms(1)), true),
    ] {
        let mut rig = Rig::new(within(ms(2), move |conn| {
            conn.write(b"bye");
            if aborts {
                conn.abort()
            } else {
                conn.close()
            }
            verdict
        }));
        let (mut client, id) = rig.client();
        let (bytes, end) = rig.read_to_end(&mut client);
        assert_eq!(end, if aborts { End::Reset } else { End::Fin }, "{verdict:?}");
        assert!(aborts || bytes == b"bye");
        drop(client);
        assert_eq!(rig.end_of(id).0, "Local", "{verdict:?}");
        assert_eq!(rig.journal.count(|call| *call == Call::Deadline), 1);
    }
}

#[test]
fn a_connection_that_is_kept_is_asked_again_and_not_before() {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&asked);
    let mut rig = Rig::new(within(ms(4), move |conn| {
        let mut noted = noted.borrow_mut();
        noted.push(conn.context().now());
        if noted.len() < 4 { Deadline::Keep(ms(7)) } else { Deadline::Close }
    }));
    let (mut client, id) = rig.client();
    client.send(b"still served");
    rig.expect(&mut client, b"still served");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    let asked = asked.borrow().clone();
    assert_eq!(asked.len(), 4);
    assert!(asked.windows(2).all(|pair| pair[1] >= pair[0] + ms(7)), "{asked:?}");
    drop(client);
    rig.expect_end(id, "Local");
}

/// No time at all is a tick: the loop sleeps between, and other connections are served.
#[test]
fn a_connection_that_is_kept_for_no_time_does_not_spin() {
    let asked = Rc::new(Cell::new(0));
    let noted = Rc::clone(&asked);
    let mut rig = Rig::new(within(Duration::ZERO, move |_| {
        noted.set(noted.get() + 1);
        Deadline::Keep(Duration::ZERO)
    }));
    let (mut client, _) = rig.client();
    let begin = Instant::now();
    while begin.elapsed() < ms(50) {
        rig.reactor.run_once(Some(ms(1))).unwrap();
    }
    let ticks = begin.elapsed().as_millis() + 2;
    assert!((2..=ticks).contains(&asked.get()), "{} times in {ticks} ticks", asked.get());
    client.send(b"x");
    rig.expect(&mut client, b"x");
}

#[test]
fn a_deadline_set_in_the_callback_counts_unless_the_answer_ends_the_connection() {
    let asked = Rc::new(Cell::new(0));
    let noted = Rc::clone(&asked);
    let mut rig = Rig::new(within(ms(2), move |conn| {
        noted.set(noted.get() + 1);
        conn.set_deadline(USER, Some(ms(2)));
        if noted.get() == 1 { Deadline::Keep(Duration::MAX) } else { Deadline::Reset }
    }));
    let (_client, id) = rig.client();
    rig.until("once", |_| asked.get() == 1);
    thread::sleep(ms(5));
    rig.expect_quiet();
    assert_eq!(asked.get(), 1, "what was answered last holds");
    rig.reactor.context().conn(id).unwrap().set_deadline(USER, Some(ms(1)));
    rig.expect_end(id, "Timeout(User)");
    assert_eq!(asked.get(), 2);
}

/// Each message moves it, and neither the wheel nor the ready queue hears of that.
#[test]
fn moving_a_deadline_costs_no_timer() {
    let handler = within(ms(60_000), |_| Deadline::Reset).data(|conn, input| {
        conn.set_deadline(USER, Some(ms(60_000)));
        assert_eq!(conn.write(input), Written::Below);
        input.len()
    });
    let mut rig = Rig::with_limits(handler, Limits::default().all_idle(None));
    let (mut client, id) = rig.client();
    for round in 0..500_u16 {
        client.send(&round.to_be_bytes());
        rig.expect(&mut client, &round.to_be_bytes());
    }
    assert_eq!(rig.reactor.stats().timers_fired, 0);
    // Moved nearer, it fires when it says.
    rig.reactor.context().conn(id).unwrap().set_deadline(USER, Some(ms(5)));
    let begin = Instant::now();
    rig.expect_end(id, "Timeout(User)");
    assert!(begin.elapsed() < ms(1_000), "{:?}", begin.elapsed());
}

/// The first look comes too early, and the wheel is set anew.
#[test]
fn a_deadline_that_was_moved_away_fires_at_its_last_place() {
    let mut rig = Rig::new(within(ms(10), |_| Deadline::Close));
    let (client, id) = rig.client();
    rig.reactor.context().conn(id).unwrap().set_deadline(USER, Some(ms(60)));
    let begin = rig.reactor.context().now();
    rig.until("on_deadline", |rig| rig.journal.has(&Call::Deadline));
    let elapsed = rig.reactor.context().now() - begin;
    assert!(elapsed >= ms(59), "{elapsed:?}");
    drop(client);
    rig.expect_end(id, "Local");
}

/// Set before it is up, when no idle limit has it looked at soon.
#[test]
fn a_deadline_that_was_set_while_connecting_is_told_once_it_is_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new(Script::new().deadline(|conn| {
        conn.write(b"late");
        Deadline::Close
    }));
    for limits in [Limits::default(), Limits::default().all_idle(None)] {
        let options = ConnectOptions::default().limits(limits);
        let id = rig.connect(listener.local_addr().unwrap(), 1, &options);
        rig.reactor.context().conn(id).unwrap().set_deadline(USER, Some(Duration::ZERO));
        let begin = Instant::now();
        let mut client = rig.accept_at(&listener);
        assert_eq!(rig.read_to_end(&mut client), (b"late".to_vec(), End::Fin));
        assert!(begin.elapsed() < ms(90), "{:?}", begin.elapsed());
        drop(client);
        rig.expect_end(id, "Local");
    }
}

#[test]
fn a_closing_connection_is_not_asked() {
    let mut rig = Rig::new(Script::new().open(|conn| {
        conn.set_deadline(USER, Some(ms(2)));
        conn.close();
    }));
    let (client, id) = rig.client();
    thread::sleep(ms(5));
    rig.expect_quiet();
    assert!(!rig.journal.has(&Call::Deadline));
    drop(client);
    rig.expect_end(id, "Local");
}

#[test]
fn a_panic_in_on_deadline_ends_its_connection_and_no_other() {
    let mut rig = Rig::new(Script::echo().deadline(|_| panic!("late")));
    rig.panics = 1;
    let (_client, id) = rig.client();
    let (mut other, _) = rig.client();
    rig.reactor.context().conn(id).unwrap().set_deadline(USER, Some(ms(1)));
    rig.expect_end(id, "Panic");
    other.send(b"on");
    rig.expect(&mut other, b"on");
}

/// Of two that have passed the earlier one is told first.
#[test]
fn a_deadline_and_an_idle_limit_keep_their_order() {
    let limits = Limits::default().all_idle(Some(ms(10)));
    let handler = within(ms(3), |_| Deadline::Keep(Duration::MAX)).idle(|_, _| Idle::Close);
    let mut rig = Rig::with_limits(handler, limits);
    let (_client, id) = rig.client();
    thread::sleep(ms(15));
    rig.expect_end(id, "Idle");
    let calls = rig.journal.calls_of(id);
    let first = calls.iter().position(|call| *call == Call::Deadline);
    let second = calls.iter().position(|call| matches!(call, Call::Idle(_)));
    assert!(first.is_some() && first < second, "{calls:?}");
}
