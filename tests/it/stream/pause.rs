//! Pausing: nothing is delivered, nothing spins, nothing is lost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::{ConnId, Limits, Written};

use crate::support::{Call, Client, End, Rig, Script, patiently, pattern};

fn pause(rig: &mut Rig, id: ConnId) {
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    conn.pause_reading();
    assert!(conn.is_paused());
}

fn resume(rig: &mut Rig, id: ConnId) {
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    conn.resume_reading();
    assert!(!conn.is_paused());
}

#[test]
fn a_paused_connection_reads_nothing_and_loses_nothing() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    pause(&mut rig, id);
    let mut sent = 0;
    let bytes = pattern(32 << 20);
    rig.until("the kernel is full", |_| {
        let more = client.try_send(&bytes[sent..]);
        sent += more;
        more == 0
    });
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().bytes_read, 0);
    resume(&mut rig, id);
    rig.until("all of it", |rig| rig.reactor.stats().bytes_read == sent as u64);
    assert!(rig.journal.data_of(id) == bytes[..sent]);
}

#[test]
fn an_end_during_a_pause_neither_spins_nor_gets_lost() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    pause(&mut rig, id);
    client.send(b"before the end");
    client.finish();
    rig.expect_quiet();
    assert!(!rig.journal.has(&Call::Eof));
    resume(&mut rig, id);
    rig.expect_end(id, "Peer");
    let calls = rig.journal.calls_of(id);
    let data = Call::Data(b"before the end".to_vec());
    assert_eq!(calls[1..3], [data, Call::Eof]);
}

#[test]
fn a_reset_during_a_pause_ends_the_connection_after_the_bytes_before_it() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    pause(&mut rig, id);
    let bytes = pattern(20_000); // so much is surely in our kernel before the reset
    client.send(&bytes);
    rig.expect_quiet();
    client.reset();
    rig.expect_end(id, "Reset");
    assert!(rig.journal.data_of(id) == bytes);
    rig.expect_quiet();
}

/// Linux then gives no error to a read, but the end, each time.
#[test]
fn an_end_and_a_reset_during_a_pause_are_told_both() {
    let mut rig = Rig::new(Script::new().eof(|_| {}));
    let (mut client, id) = rig.client();
    pause(&mut rig, id);
    client.send(b"all");
    client.finish();
    rig.expect_quiet();
    client.reset();
    rig.expect_end(id, "Reset");
    assert_eq!(rig.journal.data_of(id), b"all");
    if cfg!(target_os = "linux") {
        assert_eq!(rig.journal.calls_of(id)[2], Call::Eof);
    }
    rig.expect_quiet();
}

#[test]
fn a_pause_within_on_data_holds_from_the_next_read_on() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        assert!(!conn.is_paused());
        conn.pause_reading();
        input.len()
    }));
    let (mut client, id) = rig.client();
    let bytes = pattern(1 << 20);
    let mut sent = 0;
    while sent < bytes.len() {
        sent += client.try_send(&bytes[sent..]);
        rig.turn();
        if rig.lives(id) {
            resume(&mut rig, id);
        }
    }
    client.finish();
    rig.until("the end", |rig| {
        if rig.lives(id) {
            rig.reactor.context().conn(id).unwrap().resume_reading();
        }
        rig.journal.close_of(id).is_some()
    });
    assert!(rig.journal.data_of(id) == bytes);
}

/// A handler that takes the first byte, pauses, and takes the rest when it is resumed.
fn takes_one_and_pauses() -> Script {
    let mut is_first = true;
    Script::new().data(move |conn, input| {
        if std::mem::replace(&mut is_first, false) {
            conn.pause_reading();
            return 1;
        }
        input.len()
    })
}

#[test]
fn resuming_delivers_the_unconsumed_rest_again() {
    let mut rig = Rig::new(takes_one_and_pauses());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    rig.expect_quiet();
    resume(&mut rig, id);
    rig.until("the rest", |rig| rig.journal.has(&Call::Data(b"bc".to_vec())));
    rig.expect_quiet();
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Data(_))), 2);
}

/// A handler that takes one byte at a time, and pauses and resumes each time.
fn takes_one_and_resumes() -> Script {
    Script::new().data(|conn, _| {
        conn.pause_reading();
        conn.resume_reading();
        1
    })
}

/// The first byte is taken of what was read, the others of what is kept.
#[test]
fn what_a_callback_leaves_that_pauses_and_resumes_is_delivered_without_new_bytes() {
    let mut rig = Rig::new(takes_one_and_resumes());
    let (mut client, id) = rig.client();
    client.send(b"abcd");
    rig.until("all", |rig| rig.journal.has(&Call::Data(b"d".to_vec())));
    rig.expect_quiet();
    let data = [&b"abcd"[..], b"bcd", b"cd", b"d"].map(|bytes| Call::Data(bytes.to_vec()));
    assert_eq!(rig.journal.calls_of(id)[1..], data);
    client.finish();
    rig.expect_end(id, "Peer");
}

/// What a resume has promised comes before the end, also where both are there at once.
#[test]
fn what_a_callback_leaves_that_pauses_and_resumes_comes_before_the_end() {
    let mut rig = Rig::new(takes_one_and_resumes());
    let (mut client, id) = rig.client();
    client.send(b"abcd");
    client.finish();
    rig.expect_end(id, "Peer");
    let data = [&b"abcd"[..], b"bcd", b"cd", b"d"].map(|bytes| Call::Data(bytes.to_vec()));
    let calls = rig.journal.calls_of(id);
    assert_eq!(calls[1..5], data);
    assert_eq!(calls[5], Call::Eof);
}

/// To deliver the same bytes again and again would keep the loop busy.
#[test]
fn what_a_callback_leaves_whole_is_seen_twice_at_most_until_more_comes() {
    let mut rig = Rig::new(Script::new().data(|conn, _| {
        conn.pause_reading();
        conn.resume_reading();
        0
    }));
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    rig.expect_quiet();
    (0..10).for_each(|_| rig.turn());
    assert_eq!(rig.journal.calls_of(id).len(), 3, "open, and data twice");
    client.send(b"d");
    rig.until("more", |rig| rig.journal.has(&Call::Data(b"abcd".to_vec())));
}

#[test]
fn a_callback_that_pauses_resumes_and_pauses_is_paused() {
    let mut rig = Rig::new(Script::new().data(|conn, _| {
        conn.pause_reading();
        conn.resume_reading();
        conn.pause_reading();
        1
    }));
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    rig.expect_quiet();
    assert_eq!(rig.journal.calls_of(id).len(), 2, "open and data");
    resume(&mut rig, id);
    rig.until("the rest", |rig| rig.journal.has(&Call::Data(b"bc".to_vec())));
}

/// Nothing was left: that resume does not hold for what a later callback leaves.
#[test]
fn a_resume_that_finds_no_rest_does_not_deliver_a_later_one_twice() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        if input == b"whole" {
            conn.pause_reading();
            conn.resume_reading();
            return input.len();
        }
        0
    }));
    let (mut client, id) = rig.client();
    client.send(b"whole");
    rig.until("the first", |rig| rig.journal.data_of(id) == b"whole");
    rig.expect_quiet();
    client.send(b"half");
    rig.until("the second", |rig| rig.journal.has(&Call::Data(b"half".to_vec())));
    rig.expect_quiet();
    assert_eq!(rig.journal.calls_of(id).len(), 3, "open, and data twice");
}

#[test]
fn resuming_without_a_rest_delivers_nothing() {
    let mut rig = Rig::new(Script::new());
    let (_client, id) = rig.client();
    for _ in 0..3 {
        pause(&mut rig, id);
        resume(&mut rig, id);
        resume(&mut rig, id);
        rig.turn();
    }
    rig.expect_quiet();
    assert_eq!(rig.journal.calls().len(), 2, "more than accept and open");
}

#[test]
fn the_rest_is_delivered_once_when_new_bytes_come_in_the_same_turn() {
    let mut rig = Rig::new(takes_one_and_pauses());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    resume(&mut rig, id);
    client.send(b"def");
    rig.until("all", |rig| {
        rig.journal.data_of(id).ends_with(b"f") && rig.reactor.stats().bytes_read == 6
    });
    rig.expect_quiet();
    // The journal complains of an empty delivery, and of one that begins elsewhere.
    assert_eq!(rig.journal.violations(), [""; 0]);
}

#[test]
fn the_rest_is_delivered_before_an_end_that_comes_in_the_same_turn() {
    let mut rig = Rig::new(takes_one_and_pauses());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    resume(&mut rig, id);
    client.finish();
    rig.expect_end(id, "Peer");
    let calls = rig.journal.calls_of(id);
    assert_eq!(calls[2..4], [Call::Data(b"bc".to_vec()), Call::Eof]);
}

#[test]
fn the_rest_is_delivered_before_a_reset_that_comes_in_the_same_turn() {
    let mut rig = Rig::new(takes_one_and_pauses());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    resume(&mut rig, id);
    client.reset();
    rig.expect_end(id, "Reset");
    assert_eq!(rig.journal.calls_of(id)[2], Call::Data(b"bc".to_vec()));
}

/// The handler had left it for later, and there is no later.
#[test]
fn the_rest_is_delivered_before_a_reset_although_reading_is_still_paused() {
    let mut rig = Rig::new(takes_one_and_pauses());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    rig.expect_quiet();
    client.reset();
    rig.expect_end(id, "Reset");
    let calls = rig.journal.calls_of(id);
    let data = [&b"abc"[..], b"bc"].map(|bytes| Call::Data(bytes.to_vec()));
    assert_eq!(calls[1..3], data);
    assert_eq!(calls.len(), 4, "open, data twice, close");
}

#[test]
fn resuming_and_closing_at_once_delivers_nothing_more() {
    let mut rig = Rig::new(takes_one_and_pauses());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    conn.resume_reading();
    conn.close();
    client.finish();
    rig.expect_end(id, "Local");
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Data(_))), 1);
}

#[test]
fn resuming_and_pausing_at_once_delivers_nothing() {
    let mut rig = Rig::new(takes_one_and_pauses());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    resume(&mut rig, id);
    pause(&mut rig, id);
    rig.expect_quiet();
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Data(_))), 1);
    resume(&mut rig, id);
    rig.until("the rest", |rig| rig.journal.has(&Call::Data(b"bc".to_vec())));
}

/// Two connections with events in one batch: the first resumes the second, which has a rest.
#[test]
fn a_resume_from_another_connection_in_the_same_batch_keeps_the_order() {
    let paused = Rc::new(Cell::new(None));
    let held = paused.clone();
    let mut rig = Rig::new(Script::new().data(move |conn, input| match held.get() {
        None => {
            held.set(Some(conn.id()));
            conn.pause_reading();
            1
        }
        Some(id) => {
            if let Some(mut other) = conn.context().conn(id) {
                other.resume_reading();
            }
            input.len()
        }
    }));
    let (mut one, _) = rig.client();
    let (mut two, two_id) = rig.client();
    two.send(b"abc");
    rig.until("paused", |_| paused.get().is_some());
    one.send(b"go");
    two.finish();
    rig.turn();
    rig.expect_end(two_id, "Peer");
    let calls = rig.journal.calls_of(two_id);
    assert_eq!(calls[2..4], [Call::Data(b"bc".to_vec()), Call::Eof]);
}

/// An echo whose client writes all before it reads: reading pauses by itself, so memory is bounded.
#[test]
fn an_echo_to_a_client_that_does_not_read_stays_bounded_and_exact() {
    const TOTAL: usize = 64 << 20;
    const READ: usize = 132 << 10;
    let limits = Limits::default();
    let most = limits.high_mark_bytes + READ;
    let peak = Rc::new(Cell::new(0));
    let seen = peak.clone();
    // Not watched: the journal would keep all the bytes.
    let mut reactor = waterwheel::Reactor::new().unwrap();
    let echo = reactor.register(move |conn: &mut waterwheel::Conn<'_>, input: &[u8]| {
        assert!(conn.write(input).is_accepted());
        seen.set(seen.get().max(conn.pending_bytes()));
        input.len()
    });
    let listen = waterwheel::ListenOptions::default();
    let addr = reactor.listen("127.0.0.1:0", echo, listen).unwrap();
    let mut client = Client::connect(addr);
    let (mut sent, mut received) = (0, 0);
    let mut stuck = 0;
    let bytes = pattern(1 << 20);
    let at = |place: usize, count: usize| {
        let from = place % bytes.len();
        &bytes[from..bytes.len().min(from + count)]
    };
    patiently("all echoed", || {
        let more = client.try_send(at(sent, TOTAL - sent));
        sent += more;
        reactor.run_once(Some(std::time::Duration::ZERO)).unwrap();
        // Nothing is read before nothing moves any more.
        stuck = if more == 0 { stuck + 1 } else { 0 };
        if stuck > 20 || received > 0 {
            let found = client.try_read(1 << 20).expect("no end");
            for (place, byte) in found.iter().enumerate() {
                assert!(*byte == bytes[(received + place) % bytes.len()]);
            }
            received += found.len();
        }
        (received == TOTAL).then_some(())
    });
    let peak = peak.get();
    assert!(peak >= limits.high_mark_bytes, "never backed up: {peak}");
    assert!(peak <= most, "{peak} bytes were queued");
    assert_eq!(reactor.stats().panics, 0);
}

#[test]
fn an_end_while_held_at_the_high_mark_is_told_after_the_drain() {
    let bytes = pattern(8 << 20);
    let sent = bytes.clone();
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.write(&sent), Written::Above);
    }));
    let (mut client, id) = rig.client();
    client.send(b"tail");
    client.finish();
    rig.expect_quiet();
    assert_eq!(rig.journal.calls_of(id), [Call::Open], "read although held");
    let (received, end) = rig.read_to_end(&mut client);
    assert!(received == bytes);
    assert_eq!(end, End::Fin);
    rig.expect_end(id, "Peer");
    let calls = rig.journal.calls_of(id);
    let tail = Call::Data(b"tail".to_vec());
    assert_eq!(calls[1..4], [Call::Drain, tail, Call::Eof]);
}

#[test]
fn a_resume_while_held_at_the_high_mark_still_delivers_the_rest() {
    let script = takes_one_and_pauses().open(|conn| {
        assert_eq!(conn.write(&pattern(8 << 20)), Written::Above);
    });
    let limits = Limits::default().pause_at_high_mark(false);
    let mut rig = Rig::with_limits(script, limits.clone());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    resume(&mut rig, id);
    rig.until("the rest", |rig| rig.journal.has(&Call::Data(b"bc".to_vec())));
    drop(rig);
    // The same where reading pauses by itself: the queue fills after the bytes came.
    let mut rig = Rig::with_limits(takes_one_and_pauses(), limits.pause_at_high_mark(true));
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"abc".to_vec())));
    let mut cx = rig.reactor.context();
    cx.conn(id).unwrap().write(&pattern(8 << 20));
    resume(&mut rig, id);
    rig.until("the rest", |rig| {
        let _ = client.try_read(1 << 20);
        rig.journal.has(&Call::Data(b"bc".to_vec()))
    });
}

#[test]
fn without_pausing_at_the_mark_reading_goes_on() {
    let limits = Limits::default().pause_at_high_mark(false);
    let script = Script::new().open(|conn| {
        assert_eq!(conn.write(&pattern(8 << 20)), Written::Above);
    });
    let mut rig = Rig::with_limits(script, limits);
    let (mut client, id) = rig.client();
    client.send(b"heard");
    rig.until("data", |rig| rig.journal.data_of(id) == b"heard");
}

/// Reading was held back by output that nobody read: the time of the silence begins when it goes
/// on, as it does behind a pause.
#[test]
fn the_time_in_which_output_held_reading_back_is_no_silence_of_the_peer() {
    const LIMIT: Duration = Duration::from_millis(200);
    const MUCH: usize = 16 << 20;
    let limits = Limits::default().read_idle(Some(LIMIT)).max_output_bytes(2 * MUCH);
    let mut rig = Rig::with_limits(Script::echo(), limits);
    let (mut client, id) = rig.client();
    let written = rig.reactor.context().conn(id).unwrap().write(&vec![0; MUCH]);
    assert_eq!(written, Written::Above);
    let begin = Instant::now();
    rig.until("more than the limit", |_| begin.elapsed() > 3 * LIMIT);
    let (mut received, mut held) = (0, Instant::now());
    while !rig.journal.has(&Call::Drain) {
        received += client.try_read(1 << 20).unwrap().len();
        held = Instant::now();
        rig.turn();
    }
    rig.read(&mut client, MUCH - received);
    rig.expect_end(id, "Idle");
    assert!(held.elapsed() >= LIMIT, "after {:?}", held.elapsed());
}
