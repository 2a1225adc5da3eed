//! How long turns and callbacks took, as `Stats` counts it.

use std::time::{Duration, Instant};

use waterwheel::observer::Observer;
use waterwheel::{Context, HandlerKey, Reactor, Stats, Timer, TimerHandler};

use crate::support::{Rig, Script};

/// How long a callback holds the loop.
const STALL: Duration = Duration::from_millis(20);

struct Nothing;

impl Observer for Nothing {}

/// Has timers, and no connections.
struct Sink;

impl TimerHandler for Sink {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {}
}

fn reactor() -> (Reactor, HandlerKey<Sink>) {
    let mut reactor = Reactor::new().unwrap();
    let key = reactor.register(Sink);
    (reactor, key)
}

/// What a loop has counted that runs by itself for three turns, of which the second is long.
fn counted(mut reactor: Reactor, key: HandlerKey<Sink>) -> Stats {
    reactor.context().post(key, move |_, cx| {
        cx.post(key, move |_, cx| {
            std::thread::sleep(STALL);
            cx.post(key, |_, cx| cx.stop());
        });
    });
    reactor.run().unwrap();
    assert_eq!(reactor.stats().turns, 3);
    reactor.stats()
}

#[test]
fn a_loop_that_needs_no_clock_reads_none() {
    let (reactor, key) = reactor();
    let stats = counted(reactor, key);
    assert_eq!((stats.turn_times.count(), stats.callback_times.count()), (0, 0));
}

#[test]
fn a_loop_with_a_timer_counts_the_turns_that_are_over() {
    let (mut reactor, key) = reactor();
    reactor.set_timer(key, Duration::from_secs(3_600), 0);
    let stats = counted(reactor, key);
    assert_eq!(stats.turn_times.count(), 2, "the last one has not been looked at");
    assert!(stats.turn_times.quantile(1.0) >= STALL);
    assert_eq!(stats.callback_times.count(), 0, "no clock is read behind a callback");
}

#[test]
fn an_observed_loop_counts_turns_and_callbacks() {
    let (mut reactor, key) = reactor();
    reactor.observe(Nothing);
    let stats = counted(reactor, key);
    assert_eq!((stats.turn_times.count(), stats.callback_times.count()), (2, 3));
    assert!(stats.callback_times.quantile(1.0) >= STALL);
}

#[test]
fn turns_that_are_driven_by_hand_are_all_counted_without_the_time_between_them() {
    let (mut reactor, _) = reactor();
    let begin = Instant::now();
    for _ in 0..3 {
        reactor.run_once(Some(Duration::ZERO)).unwrap();
        std::thread::sleep(STALL);
    }
    let stats = reactor.stats();
    assert_eq!((stats.turn_times.count(), stats.turns), (3, 3));
    // At least as long as the lengths at which their buckets begin.
    let least = (0..).zip(stats.turn_times.counts()).map(|(bucket, count)| count << bucket).sum();
    let least = Duration::from_nanos(least);
    assert!(least + 3 * STALL <= begin.elapsed(), "{:?}", stats.turn_times);
}

#[test]
fn messages_are_counted_as_callbacks() {
    let mut rig = Rig::new(Script::echo());
    rig.reactor.observe(Nothing);
    let (mut client, _) = rig.client();
    let before = rig.reactor.stats().callback_times.count();
    for _ in 0..5 {
        client.send(b"hello");
        rig.expect(&mut client, b"hello");
    }
    assert_eq!(rig.reactor.stats().callback_times.count(), before + 5);
}
