//! Channels into the loop: order, room, wakes, budgets, panics, and the end of either side.

mod ends;
mod taker;
#[cfg(feature = "async-sender")]
mod tasks;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use taker::{Loop, keeping};
use waterwheel::{ListenOptions, ReactorOptions, SendError, Sender};

use crate::support::{Client, PATIENCE};

const DEFAULTS: fn() -> ReactorOptions = ReactorOptions::default;

#[test]
fn a_sender_may_be_shared_by_threads_whatever_it_sends() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Sender<Cell<u8>>>();
}

/// Several threads send at once, and each one's messages come in order, each once; then the end is
/// told once.
fn check_order(threads: u32, messages: u32, capacity: usize) {
    let total = threads * messages;
    let next = Rc::new(RefCell::new(vec![0; threads as usize]));
    let counts = Rc::clone(&next);
    let mut rig = Loop::new(move |(thread, number): (usize, u32), _| {
        let expected = &mut counts.borrow_mut()[thread];
        assert_eq!(*expected, number, "thread {thread}");
        *expected += 1;
    });
    let sender = rig.channel(capacity);
    let threads: Vec<_> = (0..threads as usize)
        .map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..messages {
                    sender.send((thread, number)).expect("it runs");
                    if number % 64 == 0 {
                        thread::yield_now(); // now and then the loop falls asleep
                    }
                }
            })
        })
        .collect();
    drop(sender);
    rig.until("the end", |rig| rig.told() == 1);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(next.borrow().iter().all(|&count| count == messages));
    let stats = rig.reactor.stats();
    assert_eq!((stats.messages, stats.panics), (u64::from(total), 0));
    rig.turn();
    assert_eq!(rig.told(), 1);
}

#[test]
fn the_messages_of_each_of_four_senders_keep_their_order() {
    check_order(4, 10_000, 64);
}

#[test]
fn a_channel_of_one_serves_four_senders_that_wait() {
    check_order(4, 500, 1);
}

#[test]
fn a_channel_of_three_serves_eight_senders_that_wait() {
    check_order(8, 300, 3);
}

/// Question and answer, again and again: each finds the loop asleep or about to be.
#[test]
fn a_message_always_wakes_a_loop_that_sleeps_or_is_about_to() {
    const QUESTIONS: u32 = 5_000;
    let (answer, answers) = mpsc::channel();
    let mut rig = Loop::new(move |number: u32, _| answer.send(number).unwrap());
    let sender = rig.channel(1);
    let asker = thread::spawn(move || {
        for number in 0..QUESTIONS {
            // The place is free soon after the answer.
            sender.send(number).unwrap();
            assert_eq!(answers.recv_timeout(PATIENCE), Ok(number), "the wake was lost");
            // The loop is between the answer and its sleep, sooner or later on the way.
            for _ in 0..number % 500 {
                std::hint::spin_loop();
            }
        }
    });
    rig.until("the end", |rig| rig.told() == 1);
    asker.join().unwrap();
    assert_eq!(rig.reactor.stats().messages, u64::from(QUESTIONS));
}

#[test]
fn messages_to_a_loop_that_is_awake_wake_nobody_and_come_in_one_turn() {
    let (mut rig, kept) = keeping(DEFAULTS());
    let sender = rig.channel(1_000);
    rig.turn();
    let before = rig.reactor.stats();
    for number in 0..1_000 {
        sender.send(number).unwrap();
    }
    rig.reactor.run_once(Some(PATIENCE)).unwrap();
    let stats = rig.reactor.stats();
    assert!(kept.take().into_iter().eq(0..1_000));
    assert_eq!(stats.messages - before.messages, 1_000);
    assert_eq!(stats.turns - before.turns, 1);
    assert_eq!(stats.events - before.events, 0, "the waker was used");
}

#[test]
fn what_is_sent_before_the_loop_runs_comes_when_it_does() {
    let (mut rig, kept) = keeping(DEFAULTS());
    let sender = rig.channel(3);
    thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|number| sender.send(number).unwrap()));
    });
    assert_eq!(rig.reactor.stats().messages, 0);
    rig.until("the messages", |_| kept.len() == 3);
    assert_eq!(kept.take(), [0, 1, 2]);
}

#[test]
fn a_full_channel_refuses_or_waits_and_gives_the_message_back() {
    let (mut rig, kept) = keeping::<String>(DEFAULTS());
    let sender = rig.channel(2);
    assert_eq!(sender.capacity(), Some(2));
    let send = |text: &str| sender.try_send(text.to_owned());
    assert_eq!((send("one"), send("two")), (Ok(()), Ok(())));
    assert_eq!(send("three"), Err(SendError::Full("three".to_owned())));
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let briefly = sender.send_timeout("four".to_owned(), Duration::from_millis(2));
            (briefly, sender.send_timeout("five".to_owned(), Duration::ZERO))
        });
        let waited = waits.join().unwrap();
        assert_eq!(waited.0, Err(SendError::Timeout("four".to_owned())));
        assert_eq!(waited.1, Err(SendError::Timeout("five".to_owned())));
        // Nobody but the loop makes room for these.
        let patient = scope.spawn(|| sender.send_timeout("six".to_owned(), PATIENCE));
        let blocked = scope.spawn(|| sender.send("seven".to_owned()));
        rig.until("those that wait", |_| kept.len() == 4);
        assert_eq!(patient.join().unwrap(), Ok(()));
        assert_eq!(blocked.join().unwrap(), Ok(()));
    });
    let mut kept = kept.take();
    assert_eq!(kept[..2], ["one", "two"]);
    kept[2..].sort();
    assert_eq!(kept[2..], ["seven", "six"]);
    assert_eq!(send("eight").map_err(SendError::into_inner), Ok(()));
}

#[test]
fn what_the_loop_has_taken_and_not_handed_over_counts_as_waiting() {
    let room = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&room);
    let own: Rc<RefCell<Option<Sender<u32>>>> = Rc::default();
    let sender_within = Rc::clone(&own);
    let mut rig = Loop::new(move |number: u32, _| {
        let sender = sender_within.borrow();
        let result = sender.as_ref().unwrap().try_send(number + 100);
        seen.borrow_mut().push((number, result));
    });
    let sender = rig.channel(2);
    *own.borrow_mut() = Some(sender.clone());
    sender.send(0).unwrap();
    sender.send(1).unwrap();
    rig.turn();
    let room = room.take();
    // While the first is handed over it and the second fill the channel.
    assert_eq!(room[0], (0, Err(SendError::Full(100))));
    assert_eq!(room[1], (1, Ok(())));
    own.take();
}

#[test]
fn a_full_channel_does_not_wait_on_its_reactors_own_thread() {
    let answers = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&answers);
    let own: Rc<RefCell<Option<Sender<u32>>>> = Rc::default();
    let sender_within = Rc::clone(&own);
    let mut rig = Loop::new(move |_: u32, _| {
        let sender = sender_within.borrow();
        let sender = sender.as_ref().unwrap();
        noted.borrow_mut().push((sender.send(5), sender.send_timeout(6, PATIENCE)));
    });
    let sender = rig.channel(1);
    *own.borrow_mut() = Some(sender.clone());
    sender.send(1).unwrap();
    let error = sender.send(2).unwrap_err();
    assert_eq!(error, SendError::OwnThread(2));
    assert!(error.to_string().contains("own thread"), "{error}");
    assert_eq!(sender.send_timeout(3, PATIENCE), Err(SendError::OwnThread(3)));
    rig.turn();
    let expected = (Err(SendError::OwnThread(5)), Err(SendError::OwnThread(6)));
    assert_eq!(answers.take(), [expected]);
    own.take();
}

#[test]
fn an_unbounded_channel_never_waits() {
    let (mut rig, kept) = keeping(DEFAULTS());
    let sender = rig.reactor.unbounded_channel(rig.service).unwrap();
    assert_eq!(sender.capacity(), None);
    for number in 0..100_000 {
        sender.send(number).unwrap();
    }
    rig.until("all", |_| kept.len() == 100_000);
    assert!(kept.take().into_iter().eq(0..100_000));
}

#[test]
fn a_flood_leaves_time_for_the_others() {
    let (mut rig, kept) = keeping(DEFAULTS().messages_per_turn(10));
    let addr = rig.reactor.listen("127.0.0.1:0", rig.service, ListenOptions::default()).unwrap();
    let mut client = Client::connect(addr);
    rig.until("accepted", |rig| rig.reactor.stats().accepted == 1);
    let sender = rig.reactor.unbounded_channel(rig.service).unwrap();
    for number in 0..95 {
        sender.send(number).unwrap();
    }
    client.send(b"now");
    for turn in 1..=10 {
        // It may block, and must not while messages wait.
        rig.reactor.run_once(None).unwrap();
        assert_eq!(kept.len(), 95.min(10 * turn));
        if turn == 1 {
            assert_eq!(client.try_read(16).unwrap(), b"now");
        }
    }
    // And now there is nothing left that would keep it awake.
    let turns = rig.reactor.stats().turns;
    rig.reactor.run_once(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(rig.reactor.stats().turns - turns, 1);
    assert!(kept.take().into_iter().eq(0..95));
}

#[test]
fn channels_and_closures_share_the_budget_by_turns() {
    let (mut rig, kept) = keeping(DEFAULTS().messages_per_turn(10));
    let (flood, drop_by_drop) = (rig.channel(1_000), rig.channel(1_000));
    for number in 0..100 {
        flood.send(number).unwrap();
    }
    rig.turn(); // the flood has begun
    drop_by_drop.send(1_000).unwrap();
    let push = |_: &mut _, cx: &mut waterwheel::Context<'_>| cx.stop();
    rig.reactor.remote().with(rig.service, push).unwrap();
    for _ in 0..3 {
        rig.turn();
    }
    let kept = kept.take();
    assert!(kept.contains(&1_000), "the other channel has its turn");
    assert!(kept.len() < 50, "{} messages before the closure", kept.len());
    assert!(!rig.reactor.run_once(None).unwrap(), "the closure has its turn");
}

#[test]
fn many_channels_have_one_budget_together() {
    let (mut rig, kept) = keeping(DEFAULTS().messages_per_turn(10));
    let senders: Vec<_> = (0..4).map(|_| rig.channel(100)).collect();
    for sender in &senders {
        (0..6).for_each(|number| sender.send(number).unwrap());
    }
    let mut turns = Vec::new();
    for _ in 0..3 {
        let before = kept.len();
        rig.turn();
        turns.push(kept.len() - before);
    }
    assert_eq!(turns, [10, 10, 4]);
}

#[test]
fn a_panic_loses_its_message_and_no_other() {
    let taken = Rc::new(RefCell::new(Vec::new()));
    let takes = Rc::clone(&taken);
    let mut rig = Loop::new(move |number: u32, _| {
        assert!(number % 10 != 3, "on purpose");
        takes.borrow_mut().push(number);
    });
    let sender = rig.channel(4);
    let feeder = thread::spawn(move || (0..100).for_each(|number| sender.send(number).unwrap()));
    rig.until("the end", |rig| rig.told() == 1);
    feeder.join().unwrap();
    assert!(taken.take().into_iter().eq((0..100).filter(|number| number % 10 != 3)));
    let stats = rig.reactor.stats();
    assert_eq!((stats.panics, stats.messages), (10, 100));
}

#[test]
fn after_a_panic_the_rest_of_the_batch_comes_in_the_next_turn() {
    let taken = Rc::new(RefCell::new(Vec::new()));
    let takes = Rc::clone(&taken);
    let mut rig = Loop::new(move |number: u32, _| {
        takes.borrow_mut().push(number);
        assert!(number != 1, "on purpose");
    });
    let sender = rig.channel(4);
    (0..4).for_each(|number| sender.send(number).unwrap());
    rig.turn();
    assert_eq!(*taken.borrow(), [0, 1]);
    rig.reactor.run_once(None).unwrap(); // without blocking
    assert_eq!(*taken.borrow(), [0, 1, 2, 3]);
}
