//! Output: the order of bytes whatever way they leave, the two marks, and writes that gather.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use waterwheel::observer::Observer;
use waterwheel::{
    Conn, ConnId, Limits, ListenOptions, OnOverflow, Reactor, ReactorOptions, TcpOptions, Written,
};

use crate::support::{
    Call, Client, End, Journal, Rig, Script, patiently, pattern, pattern_at, scratch_file,
};

fn write(rig: &mut Rig, id: ConnId, bytes: &[u8]) -> Written {
    rig.reactor.context().conn(id).unwrap().write(bytes)
}

fn pending(rig: &mut Rig, id: ConnId) -> usize {
    rig.reactor.context().conn(id).unwrap().pending_bytes()
}

#[test]
fn small_writes_of_one_callback_leave_in_one_write() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        for part in [&b"one "[..], b"two ", b"three ", b"four"] {
            assert_eq!(conn.write(part), Written::Below);
        }
        assert_eq!(conn.pending_bytes(), 18);
        input.len()
    }));
    let (mut client, _) = rig.client();
    client.send(b"?");
    rig.until("read", |rig| rig.reactor.stats().reads == 1);
    let stats = rig.reactor.stats();
    assert_eq!((stats.writes, stats.bytes_written), (1, 18));
    // In one piece: the first read has it all.
    rig.until("an answer", |_| match client.try_read(100).unwrap() {
        bytes if bytes.is_empty() => false,
        bytes => bytes == b"one two three four",
    });
}

#[test]
fn writes_to_another_connection_leave_together_at_the_end_of_the_turn() {
    let first = Rc::new(Cell::new(None));
    let other = first.clone();
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        let mut cx = conn.context();
        let mut other = cx.conn(other.get().unwrap()).unwrap();
        for part in input.chunks(1) {
            assert_eq!(other.write(part), Written::Below);
        }
        input.len()
    }));
    let (mut one, one_id) = rig.client();
    first.set(Some(one_id));
    let (mut two, _) = rig.client();
    rig.turn();
    two.send(b"passed on");
    rig.until("read", |rig| rig.reactor.stats().reads == 1);
    assert_eq!(rig.reactor.stats().writes, 1);
    rig.expect(&mut one, b"passed on");
}

#[test]
fn the_marks_alternate_and_on_drain_comes_once_a_crossing() {
    let limits =
        Limits::default().high_mark_bytes(1000).low_mark_bytes(400).max_output_bytes(64 << 20);
    let mut rig = Rig::with_limits(Script::new(), limits);
    let (mut client, id) = rig.client();
    rig.turn();
    let drains = |rig: &Rig| rig.journal.count(|call| *call == Call::Drain);
    // More than the largest buffers of both ends, which grow from one crossing to the next.
    const MUCH: usize = 24 << 20;
    for crossing in 1..=3 {
        // Nothing leaves before the end of the turn.
        assert_eq!(write(&mut rig, id, &[0; 999]), Written::Below);
        assert_eq!(write(&mut rig, id, &[0; 1]), Written::Above);
        assert_eq!(write(&mut rig, id, &vec![0; MUCH]), Written::Above);
        rig.turn();
        assert!(pending(&mut rig, id) > 400, "the kernel took all at once");
        assert_eq!(drains(&rig), crossing - 1);
        rig.read(&mut client, 1000 + MUCH);
        rig.until("drained", |rig| drains(rig) == crossing);
        assert_eq!(pending(&mut rig, id), 0);
        rig.expect_quiet();
        assert_eq!(drains(&rig), crossing);
    }
    // Below the high mark there is nothing to tell.
    assert_eq!(write(&mut rig, id, &[0; 999]), Written::Below);
    rig.read(&mut client, 999);
    rig.expect_quiet();
    assert_eq!(drains(&rig), 3);
}

#[test]
fn between_the_marks_a_write_is_still_above() {
    let limits =
        Limits::default().high_mark_bytes(4 << 20).low_mark_bytes(1000).max_output_bytes(64 << 20);
    let mut rig = Rig::with_limits(Script::new(), limits);
    let (mut client, id) = rig.client();
    assert_eq!(write(&mut rig, id, &[0; 24 << 20]), Written::Above);
    let mut read = 0;
    while pending(&mut rig, id) >= 4 << 20 {
        rig.turn();
        read += client.try_read(256 << 10).unwrap().len();
    }
    assert!(pending(&mut rig, id) > 1000);
    assert_eq!(write(&mut rig, id, b"x"), Written::Above);
    assert!(!rig.journal.has(&Call::Drain));
    rig.read(&mut client, (24 << 20) + 1 - read);
    rig.until("drained", |rig| rig.journal.has(&Call::Drain));
    assert_eq!(write(&mut rig, id, b"x"), Written::Below);
}

#[test]
fn on_drain_may_fill_the_queue_again_and_is_called_again() {
    let limits = Limits::default().high_mark_bytes(100_000).low_mark_bytes(10_000);
    let made = Rc::new(Cell::new(0));
    let makes = made.clone();
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 6;
    let crossings = Rc::new(Cell::new(0));
    let crosses = crossings.clone();
    let more = move |conn: &mut Conn<'_>| {
        while makes.get() < CHUNKS {
            let written = conn.write(&pattern_at(makes.get() * CHUNK, CHUNK));
            makes.set(makes.get() + 1);
            if written == Written::Above {
                crosses.set(crosses.get() + 1);
                return;
            }
        }
        conn.close();
    };
    let script = Script::new().open(more.clone()).drain(more);
    // A small buffer takes hardly a chunk whole, so that most cross the mark.
    let tcp = TcpOptions::default().send_buffer_bytes(Some(100 << 10));
    let listen = ListenOptions::default().limits(limits).tcp(tcp);
    let mut rig = Rig::with_listen(script, listen);
    let (mut client, id) = rig.client();
    let (bytes, end) = rig.read_to_end(&mut client);
    assert!(bytes == pattern(CHUNK * CHUNKS));
    assert_eq!((end, made.get()), (End::Fin, CHUNKS));
    assert!(crossings.get() > 1);
    assert_eq!(rig.journal.count(|call| *call == Call::Drain), crossings.get());
    client.finish();
    rig.expect_end(id, "Local");
}

/// A producer is told `Above` in the callback in which the kernel filled up, and drains from there.
#[test]
fn a_handler_that_stops_at_above_and_goes_on_at_drain_never_stalls() {
    const TOTAL: usize = 20 << 20;
    let place = Rc::new(Cell::new(0));
    let written = place.clone();
    let peak = Rc::new(Cell::new(0));
    let most = peak.clone();
    let produce = move |conn: &mut Conn<'_>| {
        while written.get() < TOTAL {
            let count = 10_000.min(TOTAL - written.get());
            let side = conn.write(&pattern_at(written.get(), count));
            written.set(written.get() + count);
            most.set(most.get().max(conn.pending_bytes()));
            match side {
                Written::Below => {}
                Written::Above => return,
                refused => panic!("{refused:?}"),
            }
        }
        conn.close();
    };
    let script = Script::new().open(produce.clone()).drain(produce);
    let mut rig = Rig::new(script);
    let (mut client, _) = rig.client();
    let (bytes, end) = rig.read_to_end(&mut client);
    assert!(bytes == pattern(TOTAL));
    assert_eq!(end, End::Fin);
    let bound = Limits::default().high_mark_bytes + 10_000;
    assert!(peak.get() <= bound, "{} bytes were queued", peak.get());
}

#[test]
fn what_a_handler_has_left_because_it_could_not_answer_comes_again_when_it_has_drained() {
    let script = Script::new().data(|conn, input| {
        if conn.pending_bytes() > 0 {
            return 0; // not before the other answer has left
        }
        conn.write(&pattern(if input == b"much" { 12 << 20 } else { 3 }));
        input.len()
    });
    // Drained is empty: what it left while some of the first answer waited would not come again.
    let limits = Limits::default().pause_at_high_mark(false).low_mark_bytes(0);
    let mut rig = Rig::with_limits(script, limits);
    let (mut client, id) = rig.client();
    client.send(b"much");
    rig.until("an answer", |rig| pending(rig, id) > 0);
    client.send(b"more");
    rig.until("it is left", |rig| rig.journal.data_of(id).ends_with(b"more"));
    // The client waits for both answers, and says nothing.
    assert!(rig.read(&mut client, 12 << 20) == pattern(12 << 20));
    rig.expect(&mut client, &pattern(3));
}

#[test]
fn a_full_refusal_leaves_no_hole_and_no_part() {
    let limits = Limits::default()
        .high_mark_bytes(600)
        .max_output_bytes(1000)
        .low_mark_bytes(0)
        .on_overflow(waterwheel::OnOverflow::Refuse);
    let mut rig = Rig::with_limits(
        Script::new().data(|conn, input| {
            assert_eq!(conn.write(&[b'a'; 500]), Written::Below);
            assert_eq!(conn.write(&[b'b'; 1001]), Written::Full);
            assert_eq!(conn.pending_bytes(), 500);
            assert!(conn.write(&[b'c'; 500]).is_accepted());
            input.len()
        }),
        limits,
    );
    let (mut client, id) = rig.client();
    client.send(b"?");
    let expected = [[b'a'; 500], [b'c'; 500]].concat();
    rig.expect(&mut client, &expected);
    assert_eq!(rig.reactor.stats().writes_refused, 1);
    assert!(rig.lives(id));
}

#[test]
fn what_a_later_callback_writes_does_not_overtake_the_queue() {
    const LOTS: usize = 12 << 20;
    let script = Script::new().data(|conn, input| {
        if input == b"lots" {
            conn.write(&pattern(LOTS));
            assert!(conn.pending_bytes() > 0, "the kernel took all at once");
        } else {
            conn.write(input);
        }
        input.len()
    });
    let limits = Limits::default().pause_at_high_mark(false);
    let mut rig = Rig::with_limits(script, limits);
    let (mut client, id) = rig.client();
    rig.turn();
    for part in ["lots", "one", "two"] {
        client.send(part.as_bytes());
        rig.until("data", |rig| rig.journal.data_of(id).ends_with(part.as_bytes()));
    }
    let expected = [&pattern(LOTS)[..], b"onetwo"].concat();
    rig.expect(&mut client, &expected);
}

/// Who writes, how much, and how much the client reads after it.
#[derive(Clone, Debug)]
enum Step {
    /// Several writes in one callback of the connection.
    Inside(Vec<usize>),
    /// Several writes from outside.
    Outside(Vec<usize>),
    Read(usize),
    Turn,
}

/// Steps that are not made fewer once they fail: each try takes as long as the patience of a wait.
#[derive(Clone, Debug)]
struct Steps(Vec<Step>);

impl Arbitrary for Steps {
    fn arbitrary(random: &mut Gen) -> Self {
        Self(Vec::arbitrary(random))
    }
}

impl Arbitrary for Step {
    fn arbitrary(random: &mut Gen) -> Self {
        let mut below = |bound: usize| u32::arbitrary(random) as usize % bound;
        let kind = below(8);
        if kind > 4 {
            return if kind == 7 { Self::Turn } else { Self::Read(1 + below(499_999)) };
        }
        let count = 1 + below(5);
        let sizes = (0..count).map(|_| match below(10) {
            0..4 => below(100),
            4..7 => 1000 + below(19_000),
            7..9 => 20_000 + below(180_000),
            _ => 200_000 + below(600_000),
        });
        let sizes = sizes.collect();
        if kind < 3 { Self::Inside(sizes) } else { Self::Outside(sizes) }
    }
}

/// Writes of a known stream, in order.
#[derive(Default)]
struct Source {
    written: usize,
    /// What the next callback writes.
    next: Vec<usize>,
}

impl Source {
    fn write(&mut self, sizes: &[usize], conn: &mut Conn<'_>) {
        for &size in sizes {
            let written = conn.write(&pattern_at(self.written, size));
            assert!(written.is_accepted());
            self.written += size;
        }
    }
}

fn order_holds(Steps(steps): Steps) {
    println!("{steps:?}"); // of which only a failure is shown
    let source = Rc::new(RefCell::new(Source::default()));
    let writes = source.clone();
    let script = Script::new().data(move |conn, input| {
        let mut source = writes.borrow_mut();
        let sizes = std::mem::take(&mut source.next);
        source.write(&sizes, conn);
        input.len()
    });
    let limits = Limits::default().max_output_bytes(1 << 30).pause_at_high_mark(false);
    let tcp = TcpOptions::default().send_buffer_bytes(Some(200 << 10));
    let listen = ListenOptions::default().limits(limits).tcp(tcp);
    let options = ReactorOptions::default();
    let mut rig = Rig::with(script, Journal::default(), listen, options);
    let (mut client, id) = rig.client();
    let mut received = Vec::new();
    for step in steps {
        match step {
            Step::Inside(sizes) => {
                source.borrow_mut().next = sizes;
                client.send(b"w");
                rig.until("written", |_| source.borrow().next.is_empty());
            }
            Step::Outside(sizes) => {
                let mut cx = rig.reactor.context();
                source.borrow_mut().write(&sizes, &mut cx.conn(id).unwrap());
            }
            Step::Read(most) => received.extend(client.try_read(most).unwrap()),
            Step::Turn => rig.turn(),
        }
    }
    let total = source.borrow().written;
    rig.reactor.context().conn(id).unwrap().close();
    let (rest, end) = rig.read_to_end(&mut client);
    received.extend(rest);
    assert_eq!((received.len(), end), (total, End::Fin));
    assert!(received == pattern(total), "the order of bytes");
    drop(client);
    rig.until("closed", |rig| rig.journal.close_of(id).is_some());
    assert_eq!(rig.reactor.stats().bytes_written, total as u64);
}

#[test]
fn bytes_keep_their_order_whatever_way_they_leave() {
    let mut check = QuickCheck::new().tests(32).rng(Gen::new(12));
    check.quickcheck(order_holds as fn(_));
}

/// The cap is for those who do not read: what could leave takes up no room.
#[test]
fn a_write_of_as_much_as_the_cap_has_what_waits_before_it_sent() {
    let limits = Limits::default().high_mark_bytes(1_000).low_mark_bytes(0).max_output_bytes(1_000);
    let mut rig = Rig::with_limits(Script::new(), limits.on_overflow(OnOverflow::Refuse));
    let (mut client, id) = rig.client();
    rig.turn(); // the poll says that it takes output
    assert_eq!(write(&mut rig, id, &[1]), Written::Below);
    assert_eq!(write(&mut rig, id, &[2; 1_001]), Written::Full);
    assert_eq!(write(&mut rig, id, &[2; 1_000]), Written::Above);
    rig.expect(&mut client, &[&[1][..], &[2; 1_000]].concat());
}

/// However a write is split between the socket and the queue: what is counted and what waits are
/// all of it, at every moment, and an observer is told of as much.
#[test]
fn what_leaves_at_once_and_what_waits_are_all_that_was_written() {
    const MUCH: usize = 4 << 20;
    let ways: [fn(&mut Conn<'_>) -> usize; 4] = [
        |conn| [&[1; 100][..], &vec![2; MUCH]].iter().map(|part| written(conn, part)).sum(),
        |conn| {
            let parts = [&[1; 100][..], &vec![2; MUCH], &[3; 100]];
            assert!(conn.write_vectored(&parts).is_accepted());
            MUCH + 200
        },
        |conn| {
            let file = scratch_file(&vec![2; MUCH]);
            let head = written(conn, &[1; 100]);
            assert!(conn.send_file(file, ..).unwrap().is_accepted());
            head + MUCH
        },
        // Gathered, and sent when the callback has returned.
        |conn| written(conn, &[4; 8_000]),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let (total, told) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let written = Rc::clone(&total);
        let script = Script::new().data(move |conn, input| {
            written.set(written.get() + way(conn));
            input.len()
        });
        let tcp = TcpOptions::default().send_buffer_bytes(Some(200 << 10));
        let limits = Limits::default().max_output_bytes(2 * MUCH);
        let mut rig = Rig::with_listen(script, ListenOptions::default().limits(limits).tcp(tcp));
        rig.reactor.observe(Counts(Rc::clone(&told)));
        let (mut client, id) = rig.client();
        let check = |rig: &mut Rig| {
            let waits = pending(rig, id);
            let counted = rig.reactor.stats().bytes_written as usize;
            assert_eq!((counted + waits, told.get()), (total.get(), counted), "way {number}");
            waits
        };
        while check(&mut rig) == 0 {
            let before = total.get();
            client.send(b"?");
            rig.until("it is written", |_| total.get() > before);
        }
        let mut received = 0;
        while received < total.get() {
            received += client.try_read(1 << 20).unwrap().len();
            rig.turn();
            check(&mut rig);
        }
    }
}

fn written(conn: &mut Conn<'_>, bytes: &[u8]) -> usize {
    assert!(conn.write(bytes).is_accepted());
    bytes.len()
}

/// Adds up what has left.
struct Counts(Rc<Cell<usize>>);

impl Observer for Counts {
    fn on_written(&mut self, _: ConnId, bytes: usize) {
        self.0.set(self.0.get() + bytes);
    }
}

#[test]
fn an_empty_write_is_accepted_and_sends_nothing() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        assert_eq!(conn.write(b""), Written::Below);
        input.len()
    });
    let listen = ListenOptions::default();
    let addr = reactor.listen("127.0.0.1:0", service, listen).unwrap();
    let mut client = Client::connect(addr);
    client.send(b"?");
    patiently("read", || {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        (reactor.stats().reads == 1).then_some(())
    });
    let stats = reactor.stats();
    assert_eq!((stats.writes, stats.panics), (0, 0));
}
