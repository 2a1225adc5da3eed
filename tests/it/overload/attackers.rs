//! Peers that are slow on purpose meet deadlines and least rates that their bytes do not move.

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{ConnId, DeadlineKind, Limits, ListenOptions, MinRate, TcpOptions, Written};

use crate::support::{Call, Client, End, PATIENCE, Rig, Script, pattern};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Messages are lines; nothing of one is consumed before it is whole.
fn lines() -> Script {
    Script::new().data(|conn, input| {
        let Some(end) = input.iter().rposition(|&byte| byte == b'\n') else {
            return 0;
        };
        conn.write(&input[..=end]);
        end + 1
    })
}

/// Sends a byte every now and then until the connection ends.
#[track_caller]
fn dribble(rig: &mut Rig, client: &mut Client, id: ConnId, bytes: &[u8]) -> (String, usize) {
    let begin = Instant::now();
    let mut bytes = bytes.iter().cycle();
    while rig.journal.close_of(id).is_none() {
        assert!(begin.elapsed() < PATIENCE, "it goes on for ever");
        client.try_send(&[*bytes.next().unwrap()]);
        rig.reactor.run_once(Some(ms(4))).unwrap();
    }
    rig.end_of(id)
}

#[track_caller]
fn expect_timeout(rig: &mut Rig, client: &mut Client, id: ConnId, kind: &str) {
    let (reason, _) = rig.end_of(id);
    assert_eq!(reason, format!("Timeout({kind})"));
    assert_eq!(rig.read_to_end(client).1, End::Reset, "it is told that nothing was in order");
    assert_eq!(rig.reactor.stats().closed_timeout, 1);
}

#[test]
fn who_sends_no_first_byte_in_time_is_reset() {
    let limits = Limits::default().first_byte_timeout(Some(ms(30)));
    let before = Instant::now();
    let mut rig = Rig::with_limits(Script::echo(), limits);
    let (mut client, id) = rig.client();
    expect_timeout(&mut rig, &mut client, id, "FirstByte");
    assert!(before.elapsed() >= ms(30));
}

#[test]
fn the_first_byte_ends_the_wait_for_it() {
    let limits = Limits::default().first_byte_timeout(Some(ms(60)));
    let mut rig = Rig::with_limits(Script::echo(), limits);
    let (mut client, id) = rig.client();
    client.send(b"1");
    rig.expect(&mut client, b"1");
    thread::sleep(ms(90));
    rig.turn();
    rig.turn();
    assert!(rig.lives(id));
}

#[test]
fn a_first_byte_that_waits_beats_the_deadline_that_has_passed() {
    let limits = Limits::default().first_byte_timeout(Some(ms(30)));
    let mut rig = Rig::with_limits(Script::echo(), limits);
    let (mut client, id) = rig.client();
    client.send(b"1");
    thread::sleep(ms(50));
    rig.turn();
    assert!(rig.lives(id));
    rig.expect(&mut client, b"1");
}

#[test]
fn the_bytes_of_an_incomplete_message_do_not_move_its_deadline() {
    let limits = Limits::default().message_timeout(Some(ms(100)));
    let mut rig = Rig::with_limits(lines(), limits);
    let (mut client, id) = rig.client();
    let begin = Instant::now();
    let (reason, _) = dribble(&mut rig, &mut client, id, b"x");
    assert_eq!(reason, "Timeout(Message)");
    assert!(begin.elapsed() >= ms(100));
    let dribbled = rig.journal.count(|call| matches!(call, Call::Data(_)));
    assert!(dribbled >= 2, "only {dribbled} bytes came before the end");
}

#[test]
fn silence_between_messages_is_no_incomplete_message() {
    let limits = Limits::default().message_timeout(Some(ms(40)));
    let mut rig = Rig::with_limits(lines(), limits);
    let (mut client, id) = rig.client();
    thread::sleep(ms(60));
    rig.turn();
    client.send(b"one\n");
    rig.expect(&mut client, b"one\n");
    thread::sleep(ms(60));
    rig.turn();
    rig.turn();
    assert!(rig.lives(id));
}

/// Each read ends one message and begins the next, so that the connection is never between two.
#[test]
fn a_new_message_gets_its_full_time() {
    let limit = ms(250);
    let limits = Limits::default().message_timeout(Some(limit));
    let mut rig = Rig::with_limits(lines(), limits);
    let (mut client, id) = rig.client();
    client.send(b"begin");
    let (begin, mut last) = (Instant::now(), Instant::now());
    let mut sent = 0;
    while begin.elapsed() < 3 * limit && last.elapsed() < limit / 2 {
        last = Instant::now();
        client.send(b"\nbegin");
        sent += 1;
        let seen = rig.journal.calls_of(id).len();
        rig.until("it is read", |rig| rig.journal.calls_of(id).len() > seen);
        thread::sleep(ms(10));
    }
    assert!(sent > 0);
    assert!(rig.lives(id), "{:?} after {:?}", rig.journal.close_of(id), begin.elapsed());
    // The last one is never ended.
    expect_timeout(&mut rig, &mut client, id, "Message");
    assert!(last.elapsed() >= limit);
}

#[test]
fn a_message_that_was_consumed_may_be_declared_incomplete() {
    let handler = Script::new().data(|conn, input| {
        match input {
            b"begin" => conn.declare_incomplete(true),
            b"end" => conn.declare_incomplete(false),
            _ => {}
        }
        conn.write(b".");
        input.len()
    });
    let limits = Limits::default().message_timeout(Some(ms(100)));
    let mut rig = Rig::with_limits(handler, limits);
    let (mut client, id) = rig.client();
    for _ in 0..2 {
        client.send(b"begin");
        rig.expect(&mut client, b".");
        client.send(b"end");
        rig.expect(&mut client, b".");
        thread::sleep(ms(120));
        rig.turn();
        rig.turn();
        assert!(rig.lives(id), "{:?}", rig.journal.close_of(id));
    }
    client.send(b"begin");
    let begin = Instant::now();
    rig.expect(&mut client, b".");
    assert_eq!(dribble(&mut rig, &mut client, id, b"x").0, "Timeout(Message)");
    assert!(begin.elapsed() >= ms(100));
}

#[test]
fn a_message_that_comes_too_slowly_is_ended_by_its_rate() {
    let rate = MinRate::new(100_000, ms(60));
    let limits = Limits::default().min_receive_rate(Some(rate));
    let mut rig = Rig::with_limits(lines(), limits);
    let (mut client, id) = rig.client();
    client.send(b"slow");
    let begin = Instant::now();
    assert_eq!(dribble(&mut rig, &mut client, id, b"x").0, "Timeout(ReceiveRate)");
    assert!(begin.elapsed() >= ms(60), "the grace counts in full");
    assert_eq!(rig.reactor.stats().closed_timeout, 1);
}

#[test]
fn a_message_that_comes_fast_enough_is_left_alone() {
    // At 1,000 bytes a second each byte pays for a millisecond.
    let rate = MinRate::new(1_000, ms(100));
    let limits = Limits::default().min_receive_rate(Some(rate));
    let mut rig = Rig::with_limits(lines(), limits);
    let (mut client, id) = rig.client();
    client.send(b"fast");
    rig.until("it is read", |rig| !rig.journal.data_of(id).is_empty());
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < ms(400) {
        // What is due by now and a good deal ahead of it, whatever the machine does meanwhile.
        let due = begin.elapsed().as_millis() as usize + 200;
        if sent < due {
            client.send(&vec![b'x'; due - sent]);
            sent = due;
        }
        rig.reactor.run_once(Some(ms(4))).unwrap();
    }
    assert!(rig.lives(id), "{:?}", rig.journal.close_of(id));
    client.send(b"\n");
    rig.until("it is whole", |_| client.try_read(1 << 16).unwrap().ends_with(b"\n"));
    // Between messages there is no rate to keep.
    thread::sleep(ms(150));
    rig.turn();
    rig.turn();
    assert!(rig.lives(id));
}

/// A rig that owes its client 8 MiB, which is more than the kernel takes.
fn owing_rig(limits: Limits) -> (Rig, Client, ConnId) {
    let tcp = TcpOptions::default().send_buffer_bytes(Some(128 << 10));
    // Made before the clock of a limit runs: on a busy machine it takes as long as that.
    let bytes = pattern(8 << 20);
    let handler = Script::new().open(move |conn| {
        assert_ne!(conn.write(&bytes), Written::Full);
    });
    let options = ListenOptions::default().tcp(tcp).limits(limits);
    let mut rig = Rig::with_listen(handler, options);
    let (client, id) = rig.client();
    (rig, client, id)
}

#[test]
fn a_reader_that_dribbles_is_ended_by_the_rate() {
    let rate = MinRate::new(50 << 20, ms(80));
    let limits = Limits::default().min_send_rate(Some(rate));
    let begin = Instant::now();
    let (mut rig, client, id) = owing_rig(limits);
    let mut client = client.with_small_receive_buffer();
    let mut received = 0;
    while rig.journal.close_of(id).is_none() {
        assert!(begin.elapsed() < PATIENCE, "it goes on for ever");
        received += client.try_read(100).map_or(0, |bytes| bytes.len());
        rig.reactor.run_once(Some(ms(2))).unwrap();
    }
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Timeout(SendRate)");
    assert!(begin.elapsed() >= ms(80), "the grace counts in full");
    assert!(received > 0 && unsent > 4 << 20, "{received} {unsent}");
    assert_eq!(rig.reactor.stats().bytes_unsent, unsent as u64);
    // What the kernel had is there, and then the reset.
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
}

#[test]
fn a_reader_that_takes_everything_owes_nothing() {
    let rate = MinRate::new(1_000, ms(500));
    let limits = Limits::default().min_send_rate(Some(rate));
    let (mut rig, mut client, id) = owing_rig(limits);
    let bytes = rig.read(&mut client, 8 << 20);
    assert!(bytes == pattern(8 << 20));
    thread::sleep(ms(550));
    rig.turn();
    rig.turn();
    assert!(rig.lives(id), "no output, no rate: {:?}", rig.journal.close_of(id));
}

#[test]
fn who_never_reads_cannot_hold_a_close_up_and_the_loss_is_told() {
    let limits = Limits::default().close_timeout(ms(60));
    let (mut rig, mut client, id) = owing_rig(limits);
    let begin = Instant::now();
    rig.reactor.context().conn(id).unwrap().close();
    let (reason, unsent) = rig.end_of(id);
    assert!(begin.elapsed() >= ms(60));
    assert_eq!(reason, "Timeout(Close)");
    let sent = rig.reactor.stats().bytes_written as usize;
    assert_eq!(sent + unsent, 8 << 20);
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!(end, End::Reset, "a cut stream must not look like a whole one");
    assert!(bytes.len() <= sent && bytes == pattern(bytes.len()));
}

/// A close may take its time without progress: until the socket takes more of the output, and
/// anew until the peer ends once all has been sent.
#[test]
fn the_time_of_a_close_counts_from_the_last_progress() {
    let limit = ms(200);
    for takes_all in [false, true] {
        let limits = Limits::default().close_timeout(limit);
        let (mut rig, mut client, id) = owing_rig(limits);
        rig.reactor.context().conn(id).unwrap().close();
        let mut seen = (0, 0);
        let (mut before, mut after) = (Instant::now(), Instant::now());
        while rig.journal.close_of(id).is_none() {
            if takes_all {
                let _ = client.try_read(1 << 20); // at last it is the end
            }
            // The kernel may have handed some of what it has to the client after `after`.
            let is_overdue = after.elapsed() >= limit + ms(300);
            let start = Instant::now();
            rig.turn();
            assert!(rig.journal.close_of(id).is_some() || !is_overdue, "{:?}", after.elapsed());
            let left = rig.reactor.context().conn(id).map_or(0, |conn| conn.pending_bytes());
            let written = rig.reactor.stats().bytes_written;
            if seen != (written, left) && rig.journal.close_of(id).is_none() {
                seen = (written, left);
                (before, after) = (start, Instant::now());
            }
        }
        assert!(before.elapsed() >= limit);
        let (reason, unsent) = rig.end_of(id);
        assert_eq!(unsent == 0, takes_all);
        assert_eq!(reason, if takes_all { "Local" } else { "Timeout(Close)" });
    }
}

#[test]
fn who_never_finishes_cannot_hold_a_close_up_and_loses_nothing() {
    let handler = Script::new().open(|conn| {
        conn.write(b"all of it");
        conn.close();
    });
    let limits = Limits::default().close_timeout(ms(60));
    let begin = Instant::now();
    let mut rig = Rig::with_limits(handler, limits);
    let (mut client, id) = rig.client();
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!((bytes.as_slice(), end), (&b"all of it"[..], End::Fin));
    rig.expect_end(id, "Local");
    assert!(begin.elapsed() >= ms(60));
}

/// Neither silence nor a flood prolongs the end: what still comes in is read and dropped.
#[test]
fn who_never_stops_sending_cannot_hold_a_close_up() {
    let limits = Limits::default().close_timeout(ms(60));
    let mut rig = Rig::with_limits(Script::new().open(|conn| conn.close()), limits);
    let (mut client, id) = rig.client();
    client.stream.set_nonblocking(true).unwrap();
    let flood = vec![7; 64 << 10];
    rig.until("the end", |rig| {
        // An error: the connection has ended meanwhile.
        let _ = std::io::Write::write(&mut client.stream, &flood);
        rig.journal.close_of(id).is_some()
    });
    rig.expect_end(id, "Local");
    assert!(rig.journal.data_of(id).is_empty());
}

#[test]
fn a_deadline_of_the_handler_is_not_moved_by_bytes() {
    let handler = Script::echo().open(|conn| conn.set_deadline(DeadlineKind::User, Some(ms(60))));
    let mut rig = Rig::new(handler);
    let (mut client, id) = rig.client();
    let begin = Instant::now();
    assert_eq!(dribble(&mut rig, &mut client, id, b"x").0, "Timeout(User)");
    assert!(begin.elapsed() >= ms(50), "{:?}", begin.elapsed());
}

#[test]
fn a_deadline_of_the_handler_can_be_set_again_and_taken_back() {
    let handler = Script::echo().data(|conn, input| {
        let wait = match input {
            b"later" => Some(ms(5_000)),
            b"never" => None,
            _ => Some(ms(50)),
        };
        conn.set_deadline(DeadlineKind::User, wait);
        conn.write(b".");
        input.len()
    });
    let mut rig = Rig::new(handler);
    for (word, expected) in [("soon", false), ("later", true), ("never", true)] {
        let (mut client, id) = rig.client();
        // In one turn, so that the first does not pass on a slow machine.
        rig.reactor.context().conn(id).unwrap().set_deadline(DeadlineKind::User, Some(ms(50)));
        client.send(word.as_bytes());
        rig.turn();
        thread::sleep(ms(70));
        rig.turn();
        rig.turn();
        assert_eq!(rig.lives(id), expected, "{word}: {:?}", rig.journal.close_of(id));
    }
}

/// Clients ask for more and more and read nothing: what the server holds for them is bounded by
/// the high mark, since it reads no more questions.
#[test]
fn slow_readers_cost_bounded_memory_by_default() {
    let most = Rc::new(Cell::new(0));
    let seen = most.clone();
    let handler = Script::new().data(move |conn, input| {
        for _ in 0..4 {
            conn.write(input);
        }
        seen.set(seen.get().max(conn.pending_bytes()));
        input.len()
    });
    let tcp = TcpOptions::default().send_buffer_bytes(Some(16 << 10));
    let mut rig = Rig::with_listen(handler, ListenOptions::default().tcp(tcp));
    let mut clients: Vec<_> = (0..4).map(|_| rig.client()).collect();
    let flood = pattern(256 << 10);
    let mut sent = 0;
    // Until nobody's kernel takes any more: the server has stopped reading.
    loop {
        let before = (sent, rig.reactor.stats().bytes_read);
        for (client, _) in &mut clients {
            sent += client.try_send(&flood);
        }
        for _ in 0..20 {
            rig.turn();
        }
        if (sent, rig.reactor.stats().bytes_read) == before {
            break;
        }
        assert!(sent < 1 << 30, "it reads for ever");
    }
    rig.expect_quiet();
    let limits = Limits::default();
    // The last read may find the queue just below the mark, and is answered fourfold.
    let bound = limits.high_mark_bytes + 4 * (64 << 10);
    assert!((limits.high_mark_bytes..=bound).contains(&most.get()), "{}", most.get());
    for (client, id) in &mut clients {
        assert!(rig.lives(*id), "{:?}", rig.journal.close_of(*id));
        // It is held back, not lost: whoever reads is served on.
        let read = rig.reactor.stats().bytes_read;
        rig.read(client, 1 << 20);
        assert!(rig.reactor.stats().bytes_read > read);
    }
}
