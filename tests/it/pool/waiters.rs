//! Waiters of a pool: in whose callbacks they are served, and what they are told at the end.

use std::thread;
use std::time::{Duration, Instant};

use waterwheel::pool::{AcquireError, Acquired, PoolOptions};

use super::rig::{Answer, FATAL, PoolRig};
use crate::support::End;

/// Options under which nothing happens by itself.
fn calm() -> PoolOptions {
    PoolOptions::default().idle_timeout(None).lifetime(None).acquire_timeout(None).seed(Some(1))
}

#[test]
fn a_panic_of_a_waiter_ends_its_own_connection() {
    let mut rig = PoolRig::silent(calm().max_open(2));
    rig.panics = 1;
    rig.ask(0);
    rig.until("the first is lent", |rig| rig.client().acquired == [0]);
    let mut innocent = rig.accept();
    let its_id = rig.client().kept[0].1.id();
    rig.ask(1);
    rig.until("both are lent", |rig| rig.client().acquired == [0, 1]);
    let guilty = rig.accept();
    rig.ask(FATAL);
    rig.turns(2);
    assert_eq!(rig.stats().waiting, 1);
    // A callback of the one gives the other back, which goes to the waiter.
    rig.client_mut().frees = Some(1);
    rig.expect(&mut innocent, b"0\n");
    innocent.send(b"free\n");
    rig.until("the waiter is served", |rig| rig.reactor.stats().panics == 1);
    assert_eq!(rig.read_to_end(guilty), (b"1\n".to_vec(), End::Reset));
    innocent.send(b"still here\n");
    rig.until_answered(0, &Answer::Line("still here".to_owned()));
    assert!(rig.client().lost.len() == 1 && rig.client().lost[0] != its_id, "the guilty one");
    rig.ask(2);
    rig.until("the next is lent", |rig| rig.client().acquired == [0, 1, 2]);
}

const MANY: u32 = 100;

/// Asks often, and stops in the turn in which the first dial is begun.
fn stopped_while_dialling(stop: impl FnOnce(&mut PoolRig)) -> PoolRig {
    let mut rig = PoolRig::silent(calm().max_open(1));
    rig.turns(1);
    (0..MANY).for_each(|number| rig.ask(number));
    stop(&mut rig);
    rig
}

#[test]
fn those_who_wait_for_a_dial_that_a_stop_cuts_are_told() {
    for drains in [true, false] {
        let mut rig = stopped_while_dialling(|rig| match drains {
            true => rig.reactor.context().drain(Duration::from_secs(60)),
            false => rig.reactor.context().stop(),
        });
        rig.reactor.run().unwrap();
        let answers = rig.answers();
        let numbers: Vec<_> = answers.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..MANY).collect::<Vec<_>>(), "each once, in order");
        let [(_, Answer::Refused(first)), .., (_, Answer::Refused(last))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert!(first.starts_with("cannot connect to 127.0.0.1"), "{first}");
        assert_eq!(last, "the reactor is stopping, and the pool has no connection left");
        let stats = rig.stats();
        assert_eq!((stats.open, stats.waiting, stats.refused), (0, 0, MANY.into()));
    }
}

#[test]
fn those_who_wait_for_a_leased_connection_are_served_although_the_reactor_drains() {
    let mut rig = PoolRig::silent(calm().max_open(1));
    rig.ask(0);
    rig.until("it is lent", |rig| rig.client().acquired == [0]);
    let mut peer = rig.accept();
    rig.ask(1);
    rig.turns(2);
    rig.reactor.context().drain(Duration::from_secs(60));
    rig.turns(2);
    peer.send(b"zero\n");
    rig.until("the next has it", |rig| rig.client().acquired == [0, 1]);
    // What was left to wait for is lost.
    rig.ask(2);
    rig.turns(2);
    peer.reset();
    rig.reactor.run().unwrap();
    let told = Answer::Refused(AcquireError::Stopping.to_string());
    assert_eq!(rig.answers(), [(0, Answer::Line("zero".to_owned())), (2, told)]);
}

#[test]
fn the_id_of_a_waiter_finds_nothing_at_another_pool() {
    let mut rigs = [0, 1].map(|_| PoolRig::silent(calm().max_open(1)));
    let waiters = [0, 1].map(|number| {
        rigs[number].enter(move |_, desk, cx| match desk.acquire(number as u32, cx) {
            waterwheel::pool::Acquired::Waits(waiter) => waiter,
            answer => panic!("{answer:?}"),
        })
    });
    for (number, rig) in rigs.iter_mut().enumerate() {
        let (own, foreign) = (waiters[number], waiters[1 - number]);
        rig.enter(move |_, desk, _| {
            assert_eq!(desk.cancel(foreign), None);
            assert_eq!(desk.cancel(own), Some(number as u32));
        });
    }
}

const WORK: Duration = Duration::from_millis(700);
const LIMIT: Duration = Duration::from_millis(500);

/// Works for long before it acquires, with all connections lent.
#[test]
fn a_ticket_has_its_whole_time_behind_work_that_held_the_loop_up() {
    let mut rig = PoolRig::silent(calm().max_open(1).acquire_timeout(Some(LIMIT)));
    let _peer = rig.warm_peer();
    let lease = rig.try_acquire().expect("it is warm");
    let began = rig.enter(|_, desk, cx| {
        thread::sleep(WORK);
        assert!(matches!(desk.acquire(1, cx), Acquired::Waits(_)));
        Instant::now()
    });
    rig.until("it is refused", |rig| {
        rig.enter(|_, _, _| {}); // the pool looks at its books
        !rig.answers().is_empty()
    });
    assert!(began.elapsed() >= LIMIT, "after {:?} of {LIMIT:?}", began.elapsed());
    assert_eq!(rig.stats().timed_out, 1);
    drop(lease);
}

/// Likewise for a connection that was of use at the end of the work.
#[test]
fn an_idle_connection_has_its_whole_time_behind_work_that_held_the_loop_up() {
    let mut rig = PoolRig::silent(calm().max_open(1).idle_timeout(Some(LIMIT)));
    let _peer = rig.warm_peer();
    let began = rig.enter(|_, desk, cx| {
        thread::sleep(WORK);
        let lease = desk.try_acquire(cx).expect("the work has held up its end");
        desk.release(lease, cx);
        Instant::now()
    });
    rig.until("it has ended", |rig| {
        rig.enter(|_, _, _| {});
        rig.stats().evicted.idle_timeout == 1
    });
    assert!(began.elapsed() >= LIMIT, "after {:?} of {LIMIT:?}", began.elapsed());
}
