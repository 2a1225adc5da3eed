//! Timers: when they fire, in which order, how they end, and that they and the rest of the loop
//! do not starve each other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{ListenOptions, ReactorOptions, TimerId};

use crate::support::{Call, Client, End, Journal, PATIENCE, Rig, Script, Server};

/// A tick of the reactor.
const TICK: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What fired when, by the clock of the loop.
type Fired = Rc<RefCell<Vec<(TimerId, Duration)>>>;

/// A handler that notes its timers.
fn noting(fired: &Fired) -> Script {
    let fired = fired.clone();
    Script::new().handler_timer(move |timer, cx| fired.borrow_mut().push((timer.id, cx.now())))
}

/// Sets timers within one tick of the loop's clock, and says which tick that was.
fn within_a_tick<const N: usize>(
    rig: &mut Rig,
    mut set: impl FnMut(&mut Rig) -> [TimerId; N],
) -> ([TimerId; N], Duration) {
    loop {
        let before = rig.reactor.context().now();
        let timers = set(rig);
        if rig.reactor.context().now() == before {
            return (timers, before);
        }
        for timer in timers {
            assert!(rig.reactor.context().cancel_timer(timer));
        }
    }
}

/// One turn, held against the next deadline of the only timer: it must not fire before, and must
/// fire once it has passed. Gives the moment at which it fired.
#[track_caller]
fn turn_punctually(rig: &mut Rig, fired: &Fired, deadline: Duration) -> Option<Duration> {
    let (count, before) = (fired.borrow().len(), rig.reactor.context().now());
    rig.turn();
    let times = fired.borrow();
    assert!(times.len() <= count + 1, "fired twice in one turn");
    let Some(&(_, now)) = times.get(count) else {
        assert!(before < deadline, "late: due at {deadline:?}, still not at {before:?}");
        return None;
    };
    assert!(now >= deadline, "early: due at {deadline:?}, fired at {now:?}");
    Some(now)
}

#[test]
fn a_timer_fires_once_neither_early_nor_more_than_a_tick_late() {
    for wait in (1..=30).map(ms) {
        let fired = Fired::default();
        let mut rig = Rig::new(noting(&fired));
        let begin = Instant::now();
        let timer = rig.reactor.set_timer(rig.service, wait, 0);
        let set = Instant::now();
        while fired.borrow().is_empty() {
            let is_overdue = set.elapsed() >= wait + TICK;
            rig.turn();
            assert!(!fired.borrow().is_empty() || !is_overdue, "late: {:?}", set.elapsed());
        }
        assert!(begin.elapsed() >= wait, "{:?} instead of {wait:?}", begin.elapsed());
        let deadline = rig.reactor.context().now() + wait;
        while rig.reactor.context().now() <= deadline {
            rig.turn();
        }
        assert_eq!(fired.borrow().len(), 1);
        assert_eq!(fired.borrow()[0].0, timer);
    }
}

#[test]
fn a_blocked_loop_wakes_for_its_timer_without_turning_in_vain() {
    let fired = Fired::default();
    let mut rig = Rig::new(noting(&fired));
    let begin = Instant::now();
    rig.reactor.set_timer(rig.service, ms(50), 0);
    while fired.borrow().is_empty() {
        rig.reactor.run_once(None).unwrap();
    }
    assert!(begin.elapsed() >= ms(50));
    assert!(rig.reactor.stats().turns <= 3, "{:?}", rig.reactor.stats());
}

/// The loop was not run for longer than a timer had left: it must not wait for it any more.
#[test]
fn a_timer_that_passed_while_the_loop_stood_still_does_not_wait() {
    let fired = Fired::default();
    let mut rig = Rig::new(noting(&fired));
    rig.reactor.set_timer(rig.service, ms(2_800), 0);
    rig.turn();
    thread::sleep(ms(2_820));
    let begin = Instant::now();
    while fired.borrow().is_empty() {
        rig.reactor.run_once(None).unwrap();
    }
    assert!(begin.elapsed() < ms(1_000), "{:?} more", begin.elapsed());
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines_and_then_of_their_setting() {
    let fired = Fired::default();
    let mut rig = Rig::new(noting(&fired));
    let waits = [30, 10, 20, 10, 70, 1, 64, 20, 10, 65, 1];
    let (timers, _) = within_a_tick(&mut rig, |rig| {
        let service = rig.service;
        waits.map(|wait| rig.reactor.set_timer(service, ms(wait), 0))
    });
    let mut expected: Vec<_> = waits.into_iter().zip(timers).collect();
    expected.sort_by_key(|&(wait, _)| wait); // a stable sort
    thread::sleep(ms(80)); // all are due when the loop looks
    rig.until("all have fired", |_| fired.borrow().len() == waits.len());
    let order: Vec<_> = fired.borrow().iter().map(|&(timer, _)| timer).collect();
    assert_eq!(order, expected.into_iter().map(|(_, timer)| timer).collect::<Vec<_>>());
}

#[test]
fn a_periodic_timer_keeps_its_phase_and_skips_what_was_missed() {
    let period = ms(10);
    let fired = Fired::default();
    let mut rig = Rig::new(noting(&fired));
    let ([timer], set) =
        within_a_tick(&mut rig, |rig| [rig.reactor.set_periodic_timer(rig.service, period, 0)]);
    let mut deadline = set + period + TICK;
    for round in 0..12 {
        if round == 4 || round == 8 {
            thread::sleep(ms(55)); // five are missed, and none is made up for
        }
        let now = loop {
            if let Some(now) = turn_punctually(&mut rig, &fired, deadline) {
                break now;
            }
        };
        // The next multiple of the period, wherever in between the turn was.
        while deadline <= now {
            deadline += period;
        }
    }
    assert!(fired.borrow().iter().all(|&(id, _)| id == timer), "one id for all");
    assert!(rig.reactor.context().cancel_timer(timer));
    let count = fired.borrow().len();
    rig.expect_quiet();
    while rig.reactor.context().now() <= deadline {
        rig.turn();
    }
    assert_eq!(fired.borrow().len(), count, "it fired after it was cancelled");
}

#[test]
fn a_cancelled_timer_does_not_fire_and_cancelling_again_says_so() {
    let fired = Fired::default();
    let mut rig = Rig::new(noting(&fired));
    let timer = rig.reactor.set_timer(rig.service, ms(5), 0);
    let last = rig.reactor.set_timer(rig.service, ms(20), 0);
    assert!(rig.reactor.context().cancel_timer(timer));
    assert!(!rig.reactor.context().cancel_timer(timer));
    rig.until("the other one", |_| !fired.borrow().is_empty());
    assert_eq!(fired.borrow()[0].0, last);
    assert!(!rig.reactor.context().cancel_timer(last), "it has fired");
}

#[test]
fn a_timer_may_be_cancelled_by_another_that_is_due_in_the_same_turn() {
    let victim = Rc::new(Cell::new(None));
    let fired = Fired::default();
    let (noted, target) = (fired.clone(), victim.clone());
    let mut rig = Rig::new(Script::new().handler_timer(move |timer, cx| {
        noted.borrow_mut().push((timer.id, cx.now()));
        if let Some(victim) = target.take() {
            assert!(cx.cancel_timer(victim));
        }
    }));
    let first = rig.reactor.set_timer(rig.service, ms(1), 0);
    victim.set(Some(rig.reactor.set_timer(rig.service, ms(2), 0)));
    thread::sleep(ms(10));
    rig.turn();
    rig.turn();
    let order: Vec<_> = fired.borrow().iter().map(|&(timer, _)| timer).collect();
    assert_eq!(order, [first]);
}

#[test]
fn a_periodic_timer_may_cancel_itself() {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let mut rig = Rig::new(Script::new().handler_timer(move |timer, cx| {
        counted.set(counted.get() + 1);
        if counted.get() == 3 {
            assert!(cx.cancel_timer(timer.id));
        }
    }));
    rig.reactor.set_periodic_timer(rig.service, TICK, 0);
    rig.until("three times", |_| count.get() == 3);
    thread::sleep(ms(10));
    rig.expect_quiet();
    assert_eq!(count.get(), 3);
}

#[test]
fn the_timers_of_a_connection_are_told_apart_and_end_with_it() {
    let handler = Script::new().open(|conn| {
        conn.set_timer(ms(1), 0);
        conn.set_periodic_timer(ms(2), 0);
        conn.set_timer(ms(40), 0);
    });
    let mut rig = Rig::new(handler);
    let (client, id) = rig.client();
    let is_timer = |call: &Call| matches!(call, Call::Timer(_));
    rig.until("some", |rig| rig.journal.count(is_timer) >= 4);
    drop(client);
    rig.end_of(id);
    let count = rig.journal.count(is_timer);
    let fired = rig.reactor.stats().timers_fired;
    let begin = Instant::now();
    while begin.elapsed() < ms(60) {
        rig.reactor.run_once(Some(ms(60))).unwrap();
    }
    assert_eq!(rig.journal.count(is_timer), count);
    assert_eq!(rig.reactor.stats().timers_fired, fired);
}

#[test]
fn a_connection_that_has_ended_sets_no_timer() {
    let timers = Rc::new(Cell::new(None));
    let seen = timers.clone();
    let handler = Script::new().open(move |conn| {
        conn.abort();
        let timer = conn.set_timer(ms(1), 0);
        assert!(!conn.cancel_timer(timer));
        seen.set(Some(timer));
    });
    let mut rig = Rig::new(handler);
    let (_client, id) = rig.client();
    rig.expect_end(id, "Local");
    assert!(timers.take().is_some());
    thread::sleep(ms(5));
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().timers_fired, 0);
}

#[test]
fn a_connection_that_is_closing_hears_of_no_timer() {
    let handler = Script::new().open(|conn| {
        conn.set_timer(ms(5), 0);
        conn.close();
    });
    let mut rig = Rig::new(handler);
    let (client, id) = rig.client();
    thread::sleep(ms(10));
    rig.expect_quiet();
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Timer(_))), 0);
    drop(client);
    rig.expect_end(id, "Local");
}

#[test]
fn a_connection_takes_its_timer_back() {
    let handler = Script::new().data(|conn, input| {
        let timer = conn.set_timer(ms(5), 0);
        assert!(conn.cancel_timer(timer));
        assert!(!conn.cancel_timer(timer));
        let timer = conn.set_timer(ms(5), 0);
        assert!(conn.context().cancel_timer(timer));
        conn.write(input);
        input.len()
    });
    let mut rig = Rig::new(handler);
    let (mut client, _) = rig.client();
    for round in 0..200u8 {
        client.send(&[round]);
        rig.expect(&mut client, &[round]);
    }
    thread::sleep(ms(10));
    rig.expect_quiet();
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Timer(_))), 0);
}

#[test]
fn each_handler_hears_of_its_own_timers() {
    let (one, two) = (Fired::default(), Fired::default());
    let mut rig = Rig::new(noting(&one));
    let other = rig.reactor.register(Journal::default().watch(noting(&two)));
    let mine = rig.reactor.set_timer(rig.service, ms(2), 0);
    let theirs = rig.reactor.set_timer(other, ms(3), 0);
    rig.until("both", |_| !one.borrow().is_empty() && !two.borrow().is_empty());
    assert_eq!((one.borrow()[0].0, one.borrow().len()), (mine, 1));
    assert_eq!((two.borrow()[0].0, two.borrow().len()), (theirs, 1));
}

#[test]
fn a_flood_of_input_does_not_hold_up_a_timer() {
    let period = ms(7);
    let fired = Fired::default();
    let mut rig = Rig::new(noting(&fired));
    let mut clients: Vec<_> = (0..4).map(|_| rig.client().0).collect();
    rig.reactor.set_periodic_timer(rig.service, period, 0);
    let set = rig.reactor.context().now();
    let flood = vec![7; 1 << 20];
    let begin = Instant::now();
    let mut turns = 0;
    while begin.elapsed() < ms(200) {
        for client in &mut clients {
            client.try_send(&flood);
        }
        let before = rig.reactor.context().now();
        rig.turn();
        turns += 1;
        // A turn that begins a whole period after the last firing must fire.
        let last = fired.borrow().last().map_or(set, |&(_, now)| now);
        assert!(last + period + 2 * TICK > before, "{last:?}, and now it is {before:?}");
    }
    assert!(turns > 1 && rig.reactor.stats().bytes_read > 1 << 20);
}

#[test]
fn a_flood_of_timers_does_not_hold_up_input() {
    let fired = Fired::default();
    let mut rig = Rig::with(
        noting(&fired).data(|conn, input| {
            conn.write(input);
            input.len()
        }),
        Journal::default(),
        ListenOptions::default(),
        ReactorOptions::default().timers_per_turn(10),
    );
    let (mut client, _) = rig.client();
    for _ in 0..100 {
        rig.reactor.set_timer(rig.service, ms(1), 0);
    }
    thread::sleep(ms(5));
    client.send(b"now");
    for turn in 1..=10 {
        rig.turn();
        assert_eq!(fired.borrow().len(), 10 * turn, "the budget of each turn is used up");
        if turn == 1 {
            assert_eq!(client.try_read(16).unwrap(), b"now");
        }
    }
    rig.expect_quiet();
    assert_eq!(fired.borrow().len(), 100);
}

#[test]
fn a_timer_that_sets_the_next_at_once_leaves_the_turn() {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let key = Rc::new(Cell::new(None));
    let own_key = key.clone();
    let mut rig = Rig::new(Script::new().handler_timer(move |_, cx| {
        counted.set(counted.get() + 1);
        cx.set_timer(own_key.get().expect("known by now"), Duration::ZERO, 0);
    }));
    key.set(Some(rig.service));
    rig.reactor.set_timer(rig.service, Duration::ZERO, 0);
    for _ in 0..1_000 {
        let before = count.get();
        rig.turn();
        assert!(count.get() <= before + 1);
    }
    rig.until("some have fired", |_| count.get() >= 5);
}

#[test]
fn a_wait_without_end_is_no_harm() {
    let fired = Fired::default();
    let mut rig = Rig::new(noting(&fired));
    let (_client, id) = rig.client();
    rig.reactor.set_timer(rig.service, Duration::MAX, 0);
    rig.reactor.set_periodic_timer(rig.service, Duration::MAX, 0);
    let mut context = rig.reactor.context();
    let mut conn = context.conn(id).unwrap();
    conn.set_timer(Duration::MAX, 0);
    conn.set_deadline(waterwheel::DeadlineKind::User, Some(Duration::MAX));
    rig.expect_quiet();
    let before = rig.reactor.stats().turns;
    rig.reactor.run_once(Some(ms(50))).unwrap();
    assert_eq!(rig.reactor.stats().turns, before + 1);
    assert!(fired.borrow().is_empty() && rig.lives(id));
}

/// A turn is a system call at least: a loop that does not turn makes none.
#[test]
fn an_idle_loop_does_not_turn_at_all() {
    let server = Server::start(|reactor| {
        let service = reactor.register(Script::new());
        reactor.set_timer(service, HOUR, 0);
        reactor.set_periodic_timer(service, HOUR, 0);
        let options = ListenOptions::default().idle_timeout(HOUR);
        let addr = reactor.listen("127.0.0.1:0", service, options)?;
        let remote = reactor.remote();
        let (send, turns) = mpsc::channel();
        // The watcher asks for the number of turns, and each question costs one.
        thread::spawn(move || {
            let ask = || {
                let send = send.clone();
                let told = move |_: &mut Script, cx: &mut waterwheel::Context<'_>| {
                    send.send(cx.stats()).unwrap();
                };
                remote.with(service, told).unwrap();
                turns.recv_timeout(PATIENCE).unwrap()
            };
            while ask().accepted < 3 {
                thread::yield_now();
            }
            let before = ask();
            thread::sleep(ms(400));
            let turns = ask().turns - before.turns;
            // New connections are filed in one. The wake of the question before may come behind its
            // answer, if the loop saw the question on its way to sleep: that is another; and a
            // machine that has stood still leaves the wheel behind. One a tick would be hundreds.
            assert!(turns < 10, "{turns} turns of a loop that had nothing to do");
            remote.stop().unwrap();
        });
        Ok(addr)
    });
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(server.addr)).collect();
    for client in &mut clients {
        // The watcher stops the server when it has seen what it wanted.
        client.expect_end(End::Fin);
    }
}
