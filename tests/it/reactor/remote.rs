//! The door from other threads: order, wakes, the budget, and what a stopped reactor says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{
    Conn, Context, Handler, HandlerKey, Limits, ListenOptions, OnOverflow, Peer, Reactor,
    ReactorOptions, Remote, Stopped,
};

use crate::support::{Call, Client, End, Journal, PATIENCE, Rig, Script, Server, Watched, pattern};

const ZERO: Duration = Duration::ZERO;

/// Counts what threads post, and holds it against the order in which each posted.
#[derive(Default)]
struct Tally {
    /// The number that is next, for each thread.
    next: [u32; 8],
    total: u32,
}

impl Tally {
    fn take(&mut self, thread: usize, number: u32) {
        assert_eq!(self.next[thread], number, "thread {thread}");
        self.next[thread] += 1;
        self.total += 1;
    }
}

impl Handler for Tally {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

#[test]
fn the_door_may_be_shared_by_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Remote>();
}

#[test]
fn eight_threads_post_ten_thousand_times_each_and_nothing_is_lost_or_doubled() {
    const POSTS: u32 = 10_000;
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Tally::default());
    let remote = reactor.remote();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let remote = remote.clone();
            thread::spawn(move || {
                for number in 0..POSTS {
                    let post = move |tally: &mut Tally, cx: &mut Context<'_>| {
                        tally.take(thread, number);
                        if tally.total == 8 * POSTS {
                            cx.stop();
                        }
                    };
                    remote.with(service, post).expect("it stops after the last");
                    if number % 64 == 0 {
                        thread::yield_now(); // now and then the loop falls asleep
                    }
                }
            })
        })
        .collect();
    // A lost wake would leave it asleep: the turns are bounded, so that the test ends then too.
    let begin = Instant::now();
    while reactor.run_once(Some(PATIENCE)).unwrap() {
        assert_eq!(reactor.stats().panics, 0);
        assert!(begin.elapsed() < 3 * PATIENCE, "{:?}", reactor.stats());
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(reactor.stats().messages, u64::from(8 * POSTS));
    assert_eq!(reactor.stats().panics, 0);
}

/// Question and answer, again and again: each finds the loop asleep or about to be.
#[test]
fn a_post_always_wakes_a_loop_that_sleeps_or_is_about_to() {
    let server = Server::start(|reactor| {
        let service = reactor.register(Tally::default());
        let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default())?;
        let remote = reactor.remote();
        thread::spawn(move || {
            let (send, answers) = mpsc::channel();
            for number in 0..10_000 {
                let send = send.clone();
                let question = move |tally: &mut Tally, _: &mut Context<'_>| {
                    tally.take(0, number);
                    send.send(number).unwrap();
                };
                remote.with(service, question).unwrap();
                let answer = answers.recv_timeout(PATIENCE);
                assert_eq!(answer, Ok(number), "the wake was lost");
                // The loop is between the answer and its sleep, sooner or later on the way.
                for _ in 0..number % 500 {
                    std::hint::spin_loop();
                }
            }
            remote.stop().unwrap();
        });
        Ok(addr)
    });
    let mut client = Client::connect(server.addr);
    client.expect_end(End::Fin); // when all is done
    let stats = server.stop();
    assert_eq!((stats.messages, stats.panics), (10_001, 0));
}

#[test]
fn posts_to_a_loop_that_is_awake_wake_nobody() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Tally::default());
    let remote = reactor.remote();
    reactor.run_once(Some(ZERO)).unwrap();
    let before = reactor.stats();
    for number in 0..1_000 {
        remote.with(service, move |tally, _| tally.take(0, number)).unwrap();
    }
    reactor.run_once(Some(PATIENCE)).unwrap();
    let stats = reactor.stats();
    assert_eq!(stats.messages - before.messages, 1_000);
    assert_eq!(stats.turns - before.turns, 1);
    assert_eq!(stats.events - before.events, 0, "the waker was used");
}

#[test]
fn the_budget_of_messages_leaves_time_for_the_others() {
    let options = ReactorOptions::default().messages_per_turn(10);
    let journal = Journal::default();
    let mut rig = Rig::with(Script::echo(), journal, ListenOptions::default(), options);
    let (mut client, _) = rig.client();
    let (service, remote) = (rig.service, rig.reactor.remote());
    let before = rig.reactor.stats().messages;
    let run = Arc::new(AtomicUsize::new(0));
    for number in 0..95 {
        let run = run.clone();
        let post = move |_: &mut _, _: &mut Context<'_>| {
            assert_eq!(run.fetch_add(1, Ordering::Relaxed), number);
        };
        remote.with(service, post).unwrap();
    }
    client.send(b"now");
    for turn in 1..=10 {
        // It may block, and must not while messages wait.
        rig.reactor.run_once(None).unwrap();
        assert_eq!(rig.reactor.stats().messages - before, 95.min(10 * turn));
        if turn == 1 {
            assert_eq!(client.try_read(16).unwrap(), b"now");
        }
    }
    rig.expect_quiet();
    assert_eq!(run.load(Ordering::Relaxed), 95);
}

#[test]
fn bytes_of_another_thread_reach_the_peer_in_order() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    let remote = rig.reactor.remote();
    let writer = thread::spawn(move || {
        for part in pattern(1 << 20).chunks(1_021) {
            remote.write(id, part).unwrap();
        }
    });
    assert!(rig.read(&mut client, 1 << 20) == pattern(1 << 20));
    writer.join().unwrap();
}

#[test]
fn writes_of_one_batch_leave_in_one_call() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    let remote = rig.reactor.remote();
    let before = rig.reactor.stats().writes;
    for _ in 0..100 {
        remote.write(id, *b"tick").unwrap();
    }
    rig.expect(&mut client, &b"tick".repeat(100));
    assert_eq!(rig.reactor.stats().writes - before, 1);
}

#[test]
fn a_write_and_then_a_close_send_everything_and_fin() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    let remote = rig.reactor.remote();
    remote.write(id, pattern(2 << 20)).unwrap();
    remote.close(id).unwrap();
    remote.write(id, *b"too late").unwrap();
    let (bytes, end) = rig.read_to_end(&mut client);
    assert!(bytes == pattern(2 << 20));
    assert_eq!(end, End::Fin);
    drop(client);
    rig.expect_end(id, "Local");
}

#[test]
fn a_write_over_the_cap_is_refused_and_counted() {
    let limits = Limits::default().max_output_bytes(1 << 20).on_overflow(OnOverflow::Refuse);
    let mut rig = Rig::with_limits(Script::new(), limits);
    let (mut client, id) = rig.client();
    let remote = rig.reactor.remote();
    remote.write(id, pattern((1 << 20) + 1)).unwrap();
    remote.write(id, *b"fits").unwrap();
    rig.expect(&mut client, b"fits");
    assert_eq!(rig.reactor.stats().writes_refused, 1);
}

#[test]
fn an_id_that_has_outlived_its_connection_reaches_nobody() {
    let mut rig = Rig::new(Script::new());
    let (client, old) = rig.client();
    let remote = rig.reactor.remote();
    drop(client);
    rig.end_of(old);
    let (mut heir, id) = rig.client(); // very likely in the same slot
    remote.write(old, *b"for the dead").unwrap();
    remote.close(old).unwrap();
    remote.write(id, *b"for you").unwrap();
    rig.expect(&mut heir, b"for you");
    rig.expect_quiet();
    assert!(rig.lives(id));
}

#[test]
fn a_closure_runs_on_the_thread_of_the_loop_with_its_handler() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    let (remote, service) = (rig.reactor.remote(), rig.service);
    let own = thread::current().id();
    let poster = thread::spawn(move || {
        let task = move |_: &mut Watched<Script>, cx: &mut Context<'_>| {
            assert_eq!(thread::current().id(), own);
            cx.conn(id).expect("it lives").write(b"from the loop");
        };
        remote.with(service, task).unwrap();
    });
    rig.expect(&mut client, b"from the loop");
    poster.join().unwrap();
}

#[test]
fn messages_and_closures_of_one_thread_keep_their_order() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    let (remote, service) = (rig.reactor.remote(), rig.service);
    for letter in b'a'..=b'z' {
        if letter % 2 == 0 {
            remote.write(id, [letter]).unwrap();
        } else {
            let task = move |_: &mut _, cx: &mut Context<'_>| {
                cx.conn(id).expect("it lives").write(&[letter]);
            };
            remote.with(service, task).unwrap();
        }
    }
    remote.close(id).unwrap();
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!(bytes, (b'a'..=b'z').collect::<Vec<_>>());
    assert_eq!(end, End::Fin);
}

#[test]
fn a_closure_that_panics_harms_nobody_else() {
    let mut rig = Rig::new(Script::echo());
    let (mut client, _) = rig.client();
    let (remote, service) = (rig.reactor.remote(), rig.service);
    remote.with(service, |_, _| panic!("as the test asks")).unwrap();
    let (send, ran) = mpsc::channel();
    remote.with(service, move |_, _| send.send(()).unwrap()).unwrap();
    client.send(b"x");
    rig.expect(&mut client, b"x");
    rig.panics = 1;
    rig.until("the next one", |_| ran.try_recv().is_ok());
}

/// Every way to post.
fn post_all(
    remote: &Remote,
    service: HandlerKey<Tally>,
    alive: &Arc<()>,
) -> [Result<(), Stopped>; 4] {
    let alive = alive.clone();
    let id = Reactor::new().unwrap().connect(
        "127.0.0.1:1",
        service,
        (),
        &waterwheel::ConnectOptions::default(),
    );
    [
        remote.write(id, *b"x"),
        remote.close(id),
        remote.with(service, move |_, _| {
            let _alive = alive;
            panic!("it ran after the stop");
        }),
        remote.drain(PATIENCE),
    ]
}

#[test]
fn a_stopped_reactor_says_so_and_runs_nothing_more() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Tally::default());
    let (remote, alive) = (reactor.remote(), Arc::new(()));
    remote.stop().unwrap();
    reactor.run().unwrap();
    assert_eq!(post_all(&remote, service, &alive), [Err(Stopped); 4]);
    assert_eq!(remote.stop(), Err(Stopped));
    assert_eq!(Arc::strong_count(&alive), 1, "a closure that was refused is dropped");
    assert!(!reactor.run_once(None).unwrap());
    drop(reactor);
    assert_eq!(remote.stop(), Err(Stopped));
    assert_eq!(Stopped.to_string(), "the reactor has stopped");
}

#[test]
fn a_dropped_reactor_says_so_and_drops_what_it_had_not_run() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Tally::default());
    let (remote, alive) = (reactor.remote(), Arc::new(()));
    assert_eq!(post_all(&remote, service, &alive), [Ok(()); 4]);
    drop(reactor);
    assert_eq!(Arc::strong_count(&alive), 1);
    assert_eq!(post_all(&remote, service, &alive), [Err(Stopped); 4]);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn messages_that_wait_when_the_loop_stops_are_dropped_unrun() {
    let options = ReactorOptions::default().messages_per_turn(1);
    let mut reactor = Reactor::with_options(options).unwrap();
    let service = reactor.register(Tally::default());
    let (remote, alive) = (reactor.remote(), Arc::new(()));
    remote.stop().unwrap();
    for _ in 0..10 {
        assert_eq!(post_all(&remote, service, &alive), [Ok(()); 4]);
    }
    reactor.run().unwrap();
    assert_eq!(Arc::strong_count(&alive), 1);
    assert_eq!((reactor.stats().messages, reactor.stats().panics), (1, 0));
}

#[test]
fn posts_within_the_loop_run_after_the_callback_and_before_it_sleeps() {
    let mut rig = Rig::new(Script::new());
    let journal = rig.journal.clone();
    let other = rig.reactor.register(rig.journal.watch(Script::new()));
    let handler = Script::new().data(move |conn, input| {
        let (id, bytes) = (conn.id(), input.to_vec());
        let noted = journal.clone();
        conn.context().post(other, move |_, cx| {
            noted.note("task");
            cx.conn(id).expect("it lives").write(&bytes);
            let noted = noted.clone();
            cx.post(other, move |_, _| noted.note("task of the task"));
        });
        journal.note("callback returns");
        input.len()
    });
    let (_, addr) = rig.add(handler, ListenOptions::default());
    let mut client = Client::connect(addr);
    client.send(b"hello");
    rig.expect(&mut client, b"hello");
    rig.expect_quiet();
    let mut notes = rig.journal.calls();
    notes.retain(|call| matches!(call, Call::Note(_)));
    let expected = ["callback returns", "task", "task of the task"].map(Call::Note);
    assert_eq!(notes, expected);
}
