//! Blocking work beside the loop: its order, its bound, its end, and what is told of it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::offload::{Failed, NotAccepted, Offload, OffloadOptions};
use waterwheel::{
    Closed, Conn, ConnId, Context, Handler, HandlerKey, ListenOptions, Peer, Reactor,
};

use crate::support::{Client, End, PATIENCE};

/// Notes what completions say, in their order.
#[derive(Default)]
struct Notes {
    reasons: Vec<String>,
    done: Vec<u32>,
    failed: Vec<Failed>,
    opened: Vec<ConnId>,
    closed: usize,
}

impl Handler for Notes {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        self.opened.push(conn.id());
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        self.reasons.push(closed.reason.to_string());
        self.closed += 1;
    }
}

impl Notes {
    fn note(&mut self, _: &mut Context<'_>, result: Result<u32, Failed>) {
        match result {
            Ok(number) => self.done.push(number),
            Err(failed) => self.failed.push(failed),
        }
    }
}

struct Rig {
    reactor: Reactor,
    key: HandlerKey<Notes>,
    offload: Offload,
}

impl Rig {
    fn new(threads: usize, max_queued: usize) -> Self {
        Self::with(OffloadOptions::default().threads(threads).max_queued(max_queued))
    }

    fn with(options: OffloadOptions) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let key = reactor.register(Notes::default());
        let offload = Offload::new(&mut reactor, options.name("test")).unwrap();
        Self { reactor, key, offload }
    }

    fn notes(&mut self) -> &mut Notes {
        self.reactor.handler_mut(self.key).unwrap()
    }

    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&mut Notes) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self.notes()) {
            assert!(Instant::now() < end, "{what} has not come");
            self.reactor.run_once(Some(Duration::from_millis(5))).unwrap();
        }
    }

    /// Keeps a thread busy until what is returned is dropped; returns when it is.
    fn block(&self) -> Sender<()> {
        let (open, gate) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let work = move |(): &mut ()| {
            begun.send(()).unwrap();
            let _ = gate.recv();
        };
        self.offload.run_alone((), work).unwrap();
        has_begun.recv_timeout(PATIENCE).unwrap();
        open
    }

    fn add(&self, number: u32) -> Result<waterwheel::offload::JobId, NotAccepted> {
        self.offload.run((), self.key, move |()| number, Notes::note)
    }
}

#[test]
fn an_offload_may_be_shared_by_threads_whatever_the_state() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Offload<()>>();
    check::<Offload<Vec<String>>>();
}

#[test]
fn work_runs_on_a_named_thread_and_the_loop_is_told() {
    let mut rig = Rig::new(1, 8);
    let (name, names) = mpsc::channel();
    let loop_thread = thread::current().id();
    let work = move |(): &mut ()| {
        name.send(thread::current().name().map(str::to_owned)).unwrap();
        7
    };
    let then = move |notes: &mut Notes, cx: &mut Context<'_>, result| {
        assert_eq!(thread::current().id(), loop_thread);
        notes.note(cx, result);
    };
    rig.offload.run((), rig.key, work, then).unwrap();
    rig.until("the completion", |notes| notes.done == [7]);
    assert_eq!(names.recv().unwrap().as_deref(), Some("test 0"));
}

#[test]
fn jobs_of_an_order_run_one_after_the_other_beside_others() {
    const ORDERS: u64 = 5;
    const JOBS: u32 = 200;
    let mut rig = Rig::new(4, 10_000);
    let running: Arc<[AtomicUsize; ORDERS as usize]> = Arc::default();
    for number in 0..JOBS * ORDERS as u32 {
        let order = u64::from(number) % ORDERS;
        let running = Arc::clone(&running);
        let work = move |(): &mut ()| {
            let count = &running[order as usize];
            assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "two of an order at once");
            if number % 7 == 0 {
                thread::yield_now();
            }
            count.fetch_sub(1, Ordering::SeqCst);
            number
        };
        rig.offload.run(order, rig.key, work, Notes::note).unwrap();
    }
    rig.until("all", |notes| notes.done.len() == (JOBS * ORDERS as u32) as usize);
    for order in 0..ORDERS as u32 {
        let of_order = |number: &&u32| **number % ORDERS as u32 == order;
        let done: Vec<u32> = rig.notes().done.iter().filter(of_order).copied().collect();
        assert!(done.is_sorted() && done.len() == JOBS as usize, "order {order}: {done:?}");
    }
}

/// Without that a job behind a slow one of another order would wait for it.
#[test]
fn an_order_that_waits_holds_no_thread() {
    let mut rig = Rig::new(2, 16);
    let (open, gate) = mpsc::channel::<()>();
    rig.offload.run(1, rig.key, move |()| gate.recv().map_or(1, |()| 1), Notes::note).unwrap();
    rig.offload.run(1, rig.key, |()| 2, Notes::note).unwrap();
    rig.offload.run(1, rig.key, |()| 3, Notes::note).unwrap();
    rig.offload.run(2, rig.key, |()| 9, Notes::note).unwrap();
    rig.until("the other order", |notes| notes.done == [9]);
    drop(open);
    rig.until("the rest", |notes| notes.done == [9, 1, 2, 3]);
}

#[test]
fn a_full_queue_refuses_and_does_not_wait() {
    let mut rig = Rig::new(1, 2);
    let open = rig.block();
    assert!(rig.add(1).is_ok() && rig.add(2).is_ok());
    assert_eq!(rig.add(3), Err(NotAccepted::Full));
    assert_eq!((rig.offload.stats().queued, rig.offload.stats().refused), (2, 1));
    drop(open);
    rig.until("those that were accepted", |notes| notes.done == [1, 2]);
    rig.add(4).unwrap();
    rig.until("the next", |notes| notes.done == [1, 2, 4]);
}

#[test]
fn what_has_not_begun_can_be_cancelled_once() {
    let mut rig = Rig::new(1, 16);
    let open = rig.block();
    let other = Rig::new(1, 16);
    let jobs: Vec<_> = (0..4).map(|number| rig.add(number).unwrap()).collect();
    assert!(!other.offload.cancel(jobs[1]), "a job of another offload");
    assert!(rig.offload.cancel(jobs[1]) && !rig.offload.cancel(jobs[1]));
    drop(open);
    rig.until("the others", |notes| notes.done == [0, 2, 3]);
    assert!(!rig.offload.cancel(jobs[3]), "it has run");
    assert_eq!(rig.offload.stats().cancelled, 1);
}

#[test]
fn the_jobs_of_an_order_are_cancelled_together_and_it_goes_on() {
    let mut rig = Rig::new(1, 16);
    let open = rig.block();
    let add = |rig: &Rig, order: u64, number| {
        rig.offload.run(order, rig.key, move |()| number, Notes::note).unwrap()
    };
    let first = add(&rig, 1, 1);
    for number in 2..5 {
        add(&rig, 1, number);
    }
    add(&rig, 2, 20);
    // Its heir may begin.
    assert!(rig.offload.cancel(first));
    assert_eq!(rig.offload.cancel_all(1), 3);
    assert_eq!(rig.offload.cancel_all(1), 0);
    add(&rig, 1, 6);
    drop(open);
    rig.until("the rest", |notes| notes.done == [20, 6]);
    assert_eq!(rig.offload.stats().queued, 0);
}

#[test]
fn an_order_whose_waiting_jobs_are_cancelled_goes_on_behind_the_one_that_runs() {
    let mut rig = Rig::new(2, 16);
    let (open, gate) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let slow = move |(): &mut ()| {
        begun.send(()).unwrap();
        let _ = gate.recv();
        1
    };
    rig.offload.run(5, rig.key, slow, Notes::note).unwrap();
    has_begun.recv_timeout(PATIENCE).unwrap();
    rig.offload.run(5, rig.key, |()| 2, Notes::note).unwrap();
    assert_eq!(rig.offload.cancel_all(5), 1);
    rig.offload.run(5, rig.key, |()| 3, Notes::note).unwrap();
    // The other thread has had its turn when this is done.
    rig.add(4).unwrap();
    rig.until("the free one", |notes| !notes.done.is_empty());
    assert_eq!(rig.notes().done, [4]);
    drop(open);
    rig.until("the rest", |notes| notes.done == [4, 1, 3]);
}

#[test]
fn a_panic_is_told_and_the_state_is_made_anew() {
    let mut reactor = Reactor::new().unwrap();
    let key = reactor.register(Notes::default());
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let make = move |_| Ok(count.fetch_add(1, Ordering::SeqCst) as u32);
    let options = OffloadOptions::default().threads(1);
    let offload = Offload::with_state(&mut reactor, options, make).unwrap();
    offload.run((), key, |state| *state, Notes::note).unwrap();
    offload.run((), key, |_| -> u32 { panic!("on purpose: {}", 5) }, Notes::note).unwrap();
    offload.run((), key, |state| *state, Notes::note).unwrap();
    let end = Instant::now() + PATIENCE;
    while reactor.handler_mut(key).unwrap().done.len() < 2 {
        assert!(Instant::now() < end);
        reactor.run_once(Some(Duration::from_millis(5))).unwrap();
    }
    let notes = reactor.handler_mut(key).unwrap();
    assert_eq!(notes.done, [0, 1]);
    assert_eq!(notes.failed, [Failed::Panicked("on purpose: 5".to_owned())]);
    assert_eq!((made.load(Ordering::SeqCst), offload.stats().panicked), (2, 1));
}

#[test]
fn a_connection_that_has_ended_is_not_answered_and_its_heir_neither() {
    let mut rig = Rig::new(1, 16);
    let addr = rig.reactor.listen("127.0.0.1:0", rig.key, ListenOptions::default()).unwrap();
    let client = Client::connect(addr);
    rig.until("the connection", |notes| notes.opened.len() == 1);
    let id = rig.notes().opened[0];
    let open = rig.block();
    let answer = |notes: &mut Notes, conn: &mut Conn<'_>, result: Result<u32, Failed>| {
        conn.write(b"too late");
        notes.done.extend(result);
    };
    rig.offload.run_for(id, rig.key, |()| 1, answer).unwrap();
    drop(client);
    rig.until("its end", |notes| notes.closed == 1);
    let mut heir = Client::connect(addr);
    rig.until("the heir", |notes| notes.opened.len() == 2);
    let id = rig.notes().opened[1];
    rig.offload
        .run_for(
            id,
            rig.key,
            |()| 2,
            |notes, conn, result| {
                conn.write(b"in time");
                notes.done.extend(result);
                conn.close();
            },
        )
        .unwrap();
    drop(open);
    rig.until("the heir's end", |notes| notes.done == [2]);
    let reader = thread::spawn(move || {
        heir.expect(b"in time");
        heir.expect_end(End::Fin);
    });
    while !reader.is_finished() {
        rig.reactor.run_once(Some(Duration::from_millis(1))).unwrap();
    }
    reader.join().unwrap();
}

/// Its client would wait for ever.
#[test]
fn a_completion_that_panics_ends_its_connection() {
    let mut rig = Rig::new(1, 16);
    let addr = rig.reactor.listen("127.0.0.1:0", rig.key, ListenOptions::default()).unwrap();
    let mut clients = [Client::connect(addr), Client::connect(addr)];
    rig.until("the connections", |notes| notes.opened.len() == 2);
    for (id, panics) in rig.notes().opened.clone().into_iter().zip([true, false]) {
        let then = move |_: &mut Notes, conn: &mut Conn<'_>, _: Result<(), Failed>| {
            conn.write(b"it");
            assert!(!panics, "on purpose");
        };
        rig.offload.run_for(id, rig.key, |()| (), then).unwrap();
    }
    rig.until("its end", |notes| notes.closed == 1);
    assert_eq!(rig.notes().reasons, ["a callback panicked"]);
    let is_reset = |client: &mut Client| loop {
        match client.try_read(9) {
            Ok(bytes) if bytes == b"it" => return false,
            Ok(_) => rig.reactor.run_once(Some(Duration::from_millis(1))).unwrap(),
            Err(end) => return end == End::Reset,
        };
    };
    let mut ends: Vec<_> = clients.iter_mut().map(is_reset).collect();
    ends.sort_unstable();
    assert_eq!(ends, [false, true], "the other one has its answer");
}

#[test]
fn the_end_of_a_reactor_survives_what_its_last_jobs_drop() {
    let options = OffloadOptions::default().threads(1).drain_timeout(Duration::from_millis(1));
    let rig = Rig::with(options);
    let open = rig.block();
    let dropped = Arc::new(());
    for _ in 0..3 {
        let (bomb, seen) = (Bomb, Arc::clone(&dropped));
        rig.offload.run_alone((), move |()| drop((bomb, seen))).unwrap();
    }
    drop(rig);
    assert_eq!(Arc::strong_count(&dropped), 1, "all were dropped");
    drop(open);
}

#[test]
fn what_was_accepted_is_done_when_the_reactor_goes() {
    const JOBS: usize = 20;
    let rig = Rig::with(OffloadOptions::default().threads(1));
    let open = rig.block();
    let (done, numbers) = mpsc::channel();
    for number in 0..JOBS {
        let done = done.clone();
        let work = move |(): &mut ()| done.send(number).unwrap();
        rig.offload.run(3, rig.key, work, |_, _, _| panic!("nobody is there")).unwrap();
    }
    let offload = rig.offload.clone();
    // The thread is busy until the drain has begun.
    let opener = thread::spawn(move || {
        while offload.run_alone((), |()| ()) != Err(NotAccepted::Stopped) {
            thread::yield_now();
        }
        drop(open);
    });
    drop(rig);
    opener.join().unwrap();
    drop(done);
    assert_eq!(numbers.iter().count(), JOBS);
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let rig = Rig::with(OffloadOptions::default().threads(1).drain_timeout(Duration::ZERO));
    let open = rig.block();
    let dropped = Arc::new(Mutex::new(()));
    let kept = Arc::clone(&dropped);
    rig.offload.run_alone((), move |()| drop(kept)).unwrap();
    drop(rig); // the thread is still busy
    assert_eq!(Arc::strong_count(&dropped), 1, "what has not begun is dropped");
    drop(open);
}

#[test]
fn a_job_may_add_jobs() {
    let mut rig = Rig::new(2, 8);
    let (offload, key) = (rig.offload.clone(), rig.key);
    let work = move |(): &mut ()| offload.run((), key, |()| 5, Notes::note).unwrap();
    rig.offload
        .run_alone((), move |state| {
            work(state);
        })
        .unwrap();
    rig.until("the second", |notes| notes.done == [5]);
}

#[test]
fn options_out_of_range_and_a_state_that_fails_are_told() {
    let mut reactor = Reactor::new().unwrap();
    let defaults = OffloadOptions::default;
    for options in [defaults().threads(0), defaults().threads(1_025), defaults().max_queued(0)] {
        let error = Offload::new(&mut reactor, options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
    let error = Offload::new(&mut reactor, defaults().name("a\0b")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    let make = |index| if index == 1 { Err(io::Error::other("no database")) } else { Ok(index) };
    let error = Offload::with_state(&mut reactor, defaults().threads(3), make).unwrap_err();
    assert_eq!(error.to_string(), "no database");
}

/// What panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped, as the test wants");
    }
}

#[test]
fn a_completion_is_told_of_a_panic_whatever_was_thrown() {
    let mut rig = Rig::new(1, 16);
    let thrown = |(): &mut ()| -> u32 { std::panic::panic_any(Bomb) };
    rig.offload.run((), rig.key, thrown, Notes::note).unwrap();
    let alone = |(): &mut ()| std::panic::panic_any(Bomb);
    rig.offload.run_alone((), alone).unwrap();
    rig.add(7).unwrap();
    rig.until("the job behind", |notes| notes.done == [7]);
    assert_eq!(rig.notes().failed, [Failed::Panicked("no text".to_owned())]);
    assert_eq!(rig.offload.stats().panicked, 2);
}
