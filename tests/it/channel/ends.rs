//! How channels end, from either side, and what becomes of the messages.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, ConnId, Context, Handler, HandlerKey, Limits, ListenOptions, Peer, Reactor,
    ReactorOptions, Receive, SendError, Sender,
};

use super::taker::{Loop, Taker, keeping};
use crate::support::{Client, End, PATIENCE, patiently};

#[test]
fn the_end_of_all_senders_is_told_once_after_the_last_message() {
    let (mut rig, kept) = keeping(ReactorOptions::default().messages_per_turn(2));
    let sender = rig.channel(10);
    let clone = sender.clone();
    (0..5).for_each(|number| sender.send(number).unwrap());
    drop(sender);
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!((kept.len(), rig.told()), (5, 0), "one lives");
    clone.send(5).unwrap();
    drop(clone);
    rig.until("the end", |rig| rig.told() == 1);
    assert_eq!(kept.len(), 6);
    rig.turn();
    assert_eq!(rig.told(), 1);
}

#[test]
fn the_end_of_each_channel_is_told_also_of_one_that_was_never_used() {
    let (mut rig, kept) = keeping::<u8>(ReactorOptions::default());
    let senders = [rig.channel(1), rig.channel(1), rig.channel(1)];
    drop(senders);
    // Each one alone has to wake the loop.
    rig.until("the ends", |rig| rig.told() == 3);
    let sender = rig.channel(1);
    let dropper = thread::spawn(move || drop(sender));
    rig.until("the end", |rig| rig.told() == 4);
    dropper.join().unwrap();
    // The places of those that have ended are used again.
    let (first, second) = (rig.channel(1), rig.channel(1));
    first.send(1).unwrap();
    second.send(2).unwrap();
    rig.until("both", |_| kept.len() == 2);
    assert_eq!((kept.take(), rig.told()), (vec![1, 2], 4));
}

#[test]
fn a_panic_at_the_end_is_not_repeated() {
    let (mut rig, _) = keeping::<u8>(ReactorOptions::default());
    rig.reactor.handler_mut(rig.service).unwrap().panics_at_end = true;
    drop(rig.channel(1));
    for _ in 0..3 {
        rig.turn();
    }
    assert_eq!((rig.told(), rig.reactor.stats().panics), (1, 1));
}

/// Threads that wait for room, or are about to, are woken by the end and keep their messages.
fn check_blocked(end: impl FnOnce(Reactor)) {
    let (mut rig, _) = keeping::<usize>(ReactorOptions::default());
    let sender = rig.channel(1);
    assert!(!sender.is_stopped());
    sender.send(0).unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let (told, results) = mpsc::channel();
    for number in 1..5 {
        let (sender, begun, told) = (sender.clone(), Arc::clone(&begun), told.clone());
        thread::spawn(move || {
            begun.fetch_add(1, Ordering::Relaxed);
            let result = match number % 2 {
                0 => sender.send(number),
                _ => sender.send_timeout(number, 10 * PATIENCE),
            };
            let _ = told.send((number, result));
        });
    }
    patiently("begun", || (begun.load(Ordering::Relaxed) == 4).then_some(()));
    thread::yield_now();
    end(rig.reactor);
    for _ in 1..5 {
        let (number, result) = results.recv_timeout(PATIENCE).expect("all are woken");
        assert_eq!(result, Err(SendError::Stopped(number)));
    }
    assert!(sender.is_stopped());
    assert_eq!(sender.send(9), Err(SendError::Stopped(9)));
    assert_eq!(sender.try_send(9), Err(SendError::Stopped(9)));
    assert_eq!(sender.send_timeout(9, PATIENCE), Err(SendError::Stopped(9)));
    assert_eq!(SendError::Stopped(9).to_string(), "the reactor has stopped");
}

#[test]
fn a_reactor_that_stops_wakes_the_senders_that_wait() {
    for _ in 0..20 {
        check_blocked(|mut reactor| {
            reactor.context().stop();
            reactor.run().unwrap();
        });
    }
}

#[test]
fn a_reactor_that_is_dropped_wakes_the_senders_that_wait() {
    for _ in 0..20 {
        check_blocked(drop);
    }
}

#[test]
fn a_stop_ends_a_flood() {
    let (mut rig, kept) = keeping::<u64>(ReactorOptions::default());
    let sender = rig.channel(64);
    let floods: Vec<_> = (0..2)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || (0..).find_map(|number| sender.send(number).err()))
        })
        .collect();
    rig.until("the flood", |_| kept.len() > 1_000);
    rig.reactor.remote().stop().unwrap();
    rig.reactor.run().unwrap();
    for flood in floods {
        assert!(matches!(flood.join().unwrap(), Some(SendError::Stopped(_))));
    }
}

#[test]
fn nothing_is_handed_over_after_a_stop() {
    let count = Rc::new(Cell::new(0));
    let counts = Rc::clone(&count);
    let mut rig = Loop::new(move |number: u32, cx: &mut Context<'_>| {
        counts.set(counts.get() + 1);
        if number == 2 {
            cx.stop();
        }
    });
    let sender = rig.channel(10);
    (0..10).for_each(|number| sender.send(number).unwrap());
    rig.reactor.run().unwrap();
    assert_eq!(count.get(), 3);
    assert_eq!((rig.told(), sender.send(0)), (0, Err(SendError::Stopped(0))));
}

/// Counts how often it is dropped, and can panic then.
struct Counted(Arc<AtomicUsize>, bool);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert!(!self.1, "on purpose");
    }
}

#[test]
fn every_message_is_dropped_once_whether_it_was_handed_over_or_not() {
    for (turns, panics) in [(0, false), (1, false), (2, false), (0, true), (1, true)] {
        let drops = Arc::new(AtomicUsize::new(0));
        let taken = Rc::new(Cell::new(0));
        let takes = Rc::clone(&taken);
        let options = ReactorOptions::default().messages_per_turn(5);
        let mut rig = Loop::with(options, move |mut message: Counted, _| {
            message.1 = false;
            takes.set(takes.get() + 1);
        });
        let sender = rig.channel(20);
        for _ in 0..20 {
            assert!(sender.send(Counted(Arc::clone(&drops), panics)).is_ok());
        }
        let refused = sender.try_send(Counted(Arc::clone(&drops), false));
        assert_eq!(drops.load(Ordering::Relaxed), 0, "it is in the error");
        drop(refused);
        (0..turns).for_each(|_| rig.turn());
        assert_eq!(taken.get(), 5 * turns);
        assert_eq!(drops.load(Ordering::Relaxed), 1 + 5 * turns);
        drop(rig);
        assert_eq!(drops.load(Ordering::Relaxed), 21);
        drop(sender);
        assert_eq!(drops.load(Ordering::Relaxed), 21);
    }
}

/// A message that holds the way back in.
#[allow(dead_code, reason = "held for their `Drop`")]
struct Chain(Sender<Chain>, Arc<()>);

#[test]
fn senders_within_messages_are_no_harm() {
    let alive = Arc::new(());
    let mut rig = Loop::new(|message: Chain, _| drop(message));
    let sender = rig.channel(10);
    assert!(sender.try_send(Chain(sender.clone(), Arc::clone(&alive))).is_ok());
    rig.turn();
    assert_eq!((Arc::strong_count(&alive), rig.told()), (1, 0));
    // One that is not handed over goes with the reactor.
    assert!(sender.try_send(Chain(sender.clone(), Arc::clone(&alive))).is_ok());
    drop(rig);
    assert_eq!(Arc::strong_count(&alive), 1);
    assert!(sender.is_stopped());
}

#[test]
fn what_cannot_be_a_channel_is_refused_with_a_reason() {
    let (mut rig, _) = keeping::<u8>(ReactorOptions::default());
    let error = rig.reactor.channel::<u8, _>(rig.service, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("capacity 0"), "{error}");
    let (mut other, _) = keeping::<u8>(ReactorOptions::default());
    let foreign = other.reactor.register(Taker::silent());
    // In its place there is somebody else, and after that nobody.
    rig.reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let error = rig.reactor.channel(foreign, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("another reactor"), "{error}");
    // Where it cannot be looked up it comes out with the first message.
    for foreign in [foreign, other.reactor.register(Taker::silent())] {
        let sender = rig.reactor.context().channel(foreign, 1).unwrap();
        sender.send(1).unwrap();
        rig.turn();
        assert_eq!(sender.send(2), Err(SendError::Stopped(2)));
    }
    rig.reactor.context().stop();
    rig.reactor.run().unwrap();
    let error = rig.reactor.channel(rig.service, 1).unwrap_err();
    assert!(error.to_string().contains("has stopped"), "{error}");
}

/// Has its lines turned round by a thread for each connection.
struct Turned {
    service: HandlerKey<Turned>,
}

impl Handler for Turned {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let id = conn.id();
        let mut bytes = input.to_vec();
        let sender = conn.context().channel(self.service, 1).unwrap();
        thread::spawn(move || {
            bytes.reverse();
            sender.send((id, bytes)).unwrap();
        });
        input.len()
    }

    /// Waits for the answers.
    fn on_shutdown(&mut self, _: &mut (), _: &mut Conn<'_>) {}

    fn on_close(&mut self, _: (), _: Closed, cx: &mut Context<'_>) {
        // During the last callbacks of a stop there is no channel to be had; otherwise there is.
        let _ = cx.channel(self.service, 1);
    }
}

impl Receive<(ConnId, Vec<u8>)> for Turned {
    fn on_message(&mut self, (id, bytes): (ConnId, Vec<u8>), cx: &mut Context<'_>) {
        if let Some(mut conn) = cx.conn(id) {
            conn.write(&bytes);
            if bytes == b"!eyb" {
                conn.close();
            }
        }
    }
}

/// Makes a channel when output has drained.
struct Drained {
    service: HandlerKey<Drained>,
    opened: Option<ConnId>,
    senders: mpsc::Sender<Sender<u32>>,
}

impl Handler for Drained {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        self.opened = Some(conn.id());
    }

    fn on_drain(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        let sender = conn.context().channel(self.service, 1).unwrap();
        self.senders.send(sender).unwrap();
    }
}

impl Receive<u32> for Drained {
    fn on_message(&mut self, _: u32, _: &mut Context<'_>) {}
}

/// What is queued when the reactor is dropped is still sent, and calls `on_drain`.
#[test]
fn a_channel_made_while_the_reactor_is_dropped_is_closed() {
    let (told, senders) = mpsc::channel();
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register_with(|service| Drained { service, opened: None, senders: told });
    let limits = Limits::default().high_mark_bytes(1_024).low_mark_bytes(512);
    let options = ListenOptions::default().limits(limits);
    let addr = reactor.listen("127.0.0.1:0", service, options).unwrap();
    let mut client = Client::connect(addr);
    let id = patiently("it is accepted", || {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        reactor.handler_mut(service).unwrap().opened
    });
    reactor.context().conn(id).expect("it lives").write(&[b'x'; 2_048]);
    drop(reactor);
    client.expect(&[b'x'; 2_048]);
    let sender = senders.try_recv().expect("it has drained");
    assert!(sender.is_stopped());
    assert_eq!(sender.send(1), Err(SendError::Stopped(1)));
}

#[test]
fn a_channel_made_in_a_callback_brings_answers_also_while_the_reactor_drains() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register_with(|service| Turned { service });
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    let remote = reactor.remote();
    let clients = thread::spawn(move || {
        let mut client = Client::connect(addr);
        let mut other = Client::connect(addr);
        client.send(b"hello");
        client.expect(b"olleh");
        other.send(b"still here");
        other.expect(b"ereh llits");
        remote.drain(PATIENCE).unwrap();
        for mut client in [client, other] {
            client.send(b"bye!");
            client.expect(b"!eyb");
            client.expect_end(End::Fin);
        }
    });
    reactor.run().unwrap();
    clients.join().unwrap();
    assert_eq!(reactor.stats().panics, 0);
}
