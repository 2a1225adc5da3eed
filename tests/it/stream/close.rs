//! Ending: `close` flushes, sends FIN and waits for the peer; `abort` drops and resets; writing
//! afterwards is an answer, never a panic; and what was lost is told.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::{Limits, ListenOptions, OnOverflow, ReactorOptions, TcpOptions, Written};

use crate::support::{Call, Client, End, Journal, Rig, Script, pattern, pattern_at};

/// More than the kernel takes of a connection that nobody reads.
const LOTS: usize = 12 << 20;

#[test]
fn close_sends_everything_first_to_a_slow_reader() {
    let bytes = pattern(LOTS);
    let sent = bytes.clone();
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.write(&sent), Written::Above);
        conn.close();
        assert!(conn.pending_bytes() > 0, "the kernel took all at once");
    }));
    let (mut client, id) = rig.client();
    let mut received = Vec::new();
    rig.until("all of it", |_| {
        match client.try_read(256 << 10) {
            Ok(more) => received.extend(more),
            Err(end) => assert_eq!(end, End::Fin),
        }
        received.len() == LOTS
    });
    assert!(received == bytes);
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    assert_eq!(rig.journal.closes(), 0, "the peer has not finished");
    client.finish();
    rig.expect_end(id, "Local");
}

#[test]
fn close_without_waiting_sends_everything_and_is_over_before_the_peer_has_finished() {
    for count in [5, LOTS] {
        let bytes = pattern(count);
        let sent = bytes.clone();
        let mut rig = Rig::new(Script::new().data(move |conn, input| {
            conn.write(&sent);
            conn.close_without_waiting();
            input.len()
        }));
        let (mut client, id) = rig.client();
        client.send(b"all I have to say");
        let mut received = Vec::new();
        rig.until("all of it", |_| {
            match client.try_read(256 << 10) {
                Ok(more) => received.extend(more),
                Err(end) => assert_eq!(end, End::Fin),
            }
            received.len() == count
        });
        assert!(received == bytes);
        assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
        // The client has not ended its side.
        rig.expect_end(id, "Local");
    }
}

#[test]
fn close_without_waiting_reads_first_what_is_there() {
    let mut rig = Rig::new(Script::new().open(|conn| conn.pause_reading()));
    let (mut client, id) = rig.client();
    rig.expect_quiet();
    let events = rig.reactor.stats().events;
    client.send(b"unread");
    rig.until("it is there", |rig| rig.reactor.stats().events > events);
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    conn.write(b"the answer");
    conn.close_without_waiting();
    // To close the socket now would send a reset.
    assert_eq!(rig.read_to_end(&mut client), (b"the answer".to_vec(), End::Fin));
    client.finish();
    rig.expect_end(id, "Local");
}

#[test]
fn close_with_input_unread_ends_with_fin_and_not_with_a_reset() {
    let mut rig = Rig::new(Script::new().data(|conn, _| {
        conn.write(&pattern(1 << 20));
        conn.close();
        0
    }));
    let (mut client, id) = rig.client();
    client.send(b"first");
    rig.until("data", |rig| rig.journal.has(&Call::Data(b"first".to_vec())));
    client.send(&pattern(100_000));
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!((bytes.len(), end), (1 << 20, End::Fin));
    // Input that comes still later does not draw a reset either.
    client.send(b"more");
    rig.turn();
    assert_eq!(client.try_read(1), Err(End::Fin));
    client.finish();
    rig.expect_end(id, "Local");
    assert!(rig.journal.data_of(id) == b"first", "input after close");
}

#[test]
fn close_waits_for_the_peer_to_finish_no_longer_than_its_timeout() {
    let limits = Limits::default().close_timeout(Duration::from_millis(50));
    let mut rig = Rig::with_limits(Script::new().open(|conn| conn.close()), limits);
    let (mut client, id) = rig.client();
    let start = Instant::now();
    assert_eq!(rig.read_to_end(&mut client).1, End::Fin);
    rig.expect_end(id, "Local");
    assert!(start.elapsed() >= Duration::from_millis(45));
}

#[test]
fn a_flush_that_takes_longer_than_the_close_timeout_is_cut_by_a_reset_and_told() {
    let limits = Limits::default().close_timeout(Duration::from_millis(50));
    let script = Script::new().open(|conn| {
        conn.write(&pattern(LOTS));
        conn.close();
    });
    let mut rig = Rig::with_limits(script, limits);
    let (mut client, id) = rig.client();
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Timeout(Close)");
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!(end, End::Reset);
    assert!(unsent > 0 && unsent <= LOTS - bytes.len());
    assert_eq!(rig.reactor.stats().bytes_unsent, unsent as u64);
    assert_eq!(rig.reactor.stats().bytes_written, (LOTS - unsent) as u64);
}

#[test]
fn abort_resets_the_peer_drops_the_queue_and_tells_how_much() {
    let mut rig = Rig::new(Script::new().open(|conn| {
        conn.write(&pattern(LOTS));
    }));
    let (mut client, id) = rig.client();
    let mut cx = rig.reactor.context();
    let pending = cx.conn(id).unwrap().pending_bytes();
    cx.conn(id).unwrap().abort();
    assert!(cx.conn(id).is_none());
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Local");
    assert!(unsent > 0 && unsent == pending);
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
}

#[test]
fn abort_in_the_callback_that_wrote_counts_what_had_gathered() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        conn.write(b"12345");
        assert_eq!(conn.pending_bytes(), 5);
        conn.abort();
        assert_eq!(conn.pending_bytes(), 0);
        input.len()
    }));
    let (mut client, id) = rig.client();
    client.send(b"x");
    assert_eq!(rig.end_of(id), ("Local".to_owned(), 5));
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
}

#[test]
fn writing_after_the_end_is_refused_and_harmless() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        match input {
            b"close" => conn.close(),
            b"shutdown" => conn.shutdown_write(),
            _ => conn.abort(),
        }
        for bytes in [&b"small"[..], &pattern(1 << 20), b""] {
            assert_eq!(conn.write(bytes), Written::Closed, "{} bytes", bytes.len());
        }
        assert!(!conn.is_writable());
        assert_eq!(conn.pending_bytes(), 0);
        input.len()
    }));
    for (how, end) in [(&b"close"[..], End::Fin), (b"shutdown", End::Fin), (b"abort", End::Reset)] {
        let (mut client, id) = rig.client();
        client.send(how);
        assert_eq!(rig.read_to_end(&mut client), (Vec::new(), end));
        drop(client);
        rig.until("closed", |rig| rig.journal.close_of(id).is_some());
    }
}

#[test]
fn a_pause_does_not_hold_up_a_close() {
    let mut rig = Rig::new(Script::new().open(|conn| {
        conn.pause_reading();
        conn.close();
    }));
    let (mut client, id) = rig.client();
    client.send(&pattern(300_000));
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    client.finish();
    rig.expect_end(id, "Local");
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Data(_))), 0);
}

/// The peer is gone when the close comes to its FIN; the loop has not seen the reset yet.
#[test]
fn a_close_that_finds_the_peer_gone_says_reset_and_delivers_nothing_more() {
    let client = Rc::new(RefCell::new(None::<Client>));
    let goes = client.clone();
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        if let Some(mut client) = goes.borrow_mut().take() {
            client.send(b"too late");
            client.reset();
            conn.close();
        }
        input.len()
    }));
    let (mut peer, id) = rig.client();
    peer.send(b"first");
    *client.borrow_mut() = Some(peer);
    assert_eq!(rig.end_of(id), ("Reset".to_owned(), 0));
    assert!(rig.journal.data_of(id) == b"first", "input after close");
}

/// The same, with output that fails.
#[test]
fn a_close_whose_output_fails_tells_the_loss_and_delivers_nothing_more() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        conn.write(&pattern(LOTS));
        conn.close();
        input.len()
    }));
    let (mut client, id) = rig.client();
    client.send(b"first");
    rig.until("data", |rig| !rig.journal.data_of(id).is_empty());
    client.send(&pattern(50_000));
    client.reset();
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Reset");
    assert!(unsent > 0);
    assert!(rig.journal.data_of(id) == b"first", "input after close");
}

/// A handler may close while the loop reads on behind a write that failed.
#[test]
fn close_after_a_failed_write_stops_the_input() {
    let client = Rc::new(RefCell::new(None::<Client>));
    let goes = client.clone();
    let journal = Journal::default();
    let notes = journal.clone();
    let script = Script::new().data(move |conn, input| {
        match goes.borrow_mut().take() {
            Some(mut client) => {
                client.send(&pattern(150_000)); // three reads
                client.reset();
                // Large, so that it does not gather: it fails here and now.
                conn.write(&pattern(1 << 20));
            }
            None => {
                conn.close();
                notes.note("closed");
            }
        }
        input.len()
    });
    let tcp = TcpOptions::default().receive_buffer_bytes(Some(400_000));
    let listen = ListenOptions::default().tcp(tcp);
    let mut rig = Rig::with(script, journal, listen, ReactorOptions::default());
    let (mut peer, id) = rig.client();
    peer.send(b"first");
    *client.borrow_mut() = Some(peer);
    let (reason, unsent) = rig.end_of(id);
    assert_eq!((reason.as_str(), unsent), ("Reset", 1 << 20));
    let calls = rig.journal.calls_of(id);
    let closed = calls.iter().position(|call| *call == Call::Note("closed"));
    let after = &calls[closed.expect("the rest was delivered") + 1..];
    assert!(matches!(after, [Call::Close(..)]), "input after close");
}

#[test]
fn a_write_over_the_cap_closes_with_overflow_and_tells_what_is_lost() {
    let limits = Limits::default().high_mark_bytes(1 << 20).max_output_bytes(LOTS);
    let mut rig = Rig::with_limits(
        Script::new().open(|conn| {
            assert_eq!(conn.write(&pattern(LOTS)), Written::Above);
            assert_eq!(conn.write(&pattern(LOTS)), Written::Full);
            assert_eq!(conn.write(b"x"), Written::Closed);
        }),
        limits,
    );
    let (mut client, id) = rig.client();
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Overflow");
    assert!(unsent > 0 && unsent < LOTS);
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
    let stats = rig.reactor.stats();
    assert_eq!((stats.writes_refused, stats.closed_overflow), (1, 1));
}

/// Room is made by sending, which may find that the peer has gone.
#[test]
fn a_write_that_finds_the_socket_broken_says_closed_and_hides_no_input() {
    let limits = Limits::default().high_mark_bytes(1_000).low_mark_bytes(1).max_output_bytes(1_000);
    let mut rig = Rig::with_limits(Script::new().data(|_, input| input.len()), limits);
    let (mut client, id) = rig.client();
    client.send(b"last");
    client.reset();
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    assert_eq!(conn.write(b"x"), Written::Below);
    assert_eq!(conn.write(&pattern(1_000)), Written::Closed);
    let (reason, unsent) = rig.end_of(id);
    assert_eq!((reason.as_str(), unsent), ("Reset", 1));
    let stats = rig.reactor.stats();
    assert_eq!((stats.writes_refused, stats.closed_overflow), (0, 0));
    #[cfg(target_os = "linux")] // others drop what stands before a reset
    assert!(rig.journal.data_of(id) == b"last", "what came before the reset");
}

#[test]
fn a_cap_that_refuses_takes_exactly_as_much_as_it_says() {
    let tcp = TcpOptions::default().send_buffer_bytes(Some(16 << 10));
    let limits = Limits::default()
        .high_mark_bytes(1 << 10)
        .low_mark_bytes(1)
        .max_output_bytes(1 << 20)
        .on_overflow(OnOverflow::Refuse);
    let listen = ListenOptions::default().limits(limits).tcp(tcp);
    let mut rig = Rig::with_listen(Script::new(), listen);
    let (mut client, id) = rig.client();
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    let cap = 1 << 20;
    assert_eq!(conn.write(&pattern(cap + 1)), Written::Full);
    // Refusals begin when the socket is full, which none is that has not been tried.
    let mut written = 0;
    while conn.write(&pattern_at(written, 50_000)).is_accepted() {
        written += 50_000;
    }
    let left = cap - conn.pending_bytes();
    assert!(left < 50_000, "refused with room for {left}");
    assert_eq!(conn.write(&pattern_at(written, left + 1)), Written::Full);
    assert_eq!(conn.write(&pattern_at(written, left)), Written::Above);
    assert_eq!(conn.pending_bytes(), cap);
    assert_eq!(conn.write(b"x"), Written::Full);
    assert_eq!(conn.write(b""), Written::Above);
    written += left;
    assert!(rig.lives(id), "a refusal ended it");
    rig.expect(&mut client, &pattern(written));
    assert_eq!(rig.reactor.stats().writes_refused, 4);
    client.finish();
    rig.expect_end(id, "Peer");
}
