//! A peer that breaks off: every byte that the kernel still gives is delivered before `on_close`,
//! and what was not sent is told.

use std::cell::RefCell;
use std::rc::Rc;

use waterwheel::{Limits, ListenOptions, TcpOptions};

use crate::support::{Call, Client, Rig, Script, pattern};

/// So that what a client sends is in our kernel when `send` returns.
fn large_receive_buffer() -> ListenOptions {
    let tcp = TcpOptions::default().receive_buffer_bytes(Some(400_000));
    ListenOptions::default().tcp(tcp)
}

#[test]
fn bytes_before_a_reset_are_all_delivered() {
    for count in [1, 1000, 65_536, 150_000] {
        let mut rig = Rig::with_listen(Script::new(), large_receive_buffer());
        let (mut client, id) = rig.client();
        let bytes = pattern(count);
        client.send(&bytes);
        client.reset();
        rig.expect_end(id, "Reset");
        assert!(rig.journal.data_of(id) == bytes, "of {count} bytes");
        assert_eq!(rig.reactor.stats().closed_broken, 1);
        rig.expect_quiet();
    }
}

#[test]
fn bytes_before_an_end_are_all_delivered() {
    for count in [1, 1000, 65_536, 150_000] {
        let mut rig = Rig::with_listen(Script::new(), large_receive_buffer());
        let (mut client, id) = rig.client();
        let bytes = pattern(count);
        client.send(&bytes);
        drop(client);
        rig.expect_end(id, "Peer");
        assert!(rig.journal.data_of(id) == bytes, "of {count} bytes");
    }
}

/// The handler answers the first piece, and that write fails, with the rest still in the kernel.
#[test]
fn bytes_behind_a_failed_write_are_all_delivered() {
    for resets in [true, false] {
        let client = Rc::new(RefCell::new(None::<Client>));
        let goes = client.clone();
        let script = Script::new().data(move |conn, input| {
            if let Some(mut client) = goes.borrow_mut().take() {
                client.send(&pattern(150_000));
                if resets {
                    client.reset();
                } else {
                    drop(client); // our writes draw a reset
                }
            }
            conn.write(b"an answer to each");
            input.len()
        });
        let mut rig = Rig::with_listen(script, large_receive_buffer());
        let (mut peer, id) = rig.client();
        peer.send(b"?");
        *client.borrow_mut() = Some(peer);
        let (reason, _) = rig.end_of(id);
        let expected = [b"?".to_vec(), pattern(150_000)].concat();
        assert!(rig.journal.data_of(id) == expected, "resets: {resets}");
        assert!(reason == "Reset" || !resets && reason == "Peer", "resets: {resets}, {reason}");
        rig.expect_quiet();
    }
}

#[test]
fn a_reset_with_output_queued_delivers_the_input_and_tells_the_loss() {
    const LOTS: usize = 12 << 20;
    for pauses in [true, false] {
        let limits = Limits::default().pause_at_high_mark(pauses);
        let listen = large_receive_buffer().limits(limits);
        let script = Script::new().open(|conn| {
            assert!(conn.write(&pattern(LOTS)).is_accepted());
        });
        let mut rig = Rig::with_listen(script, listen);
        let (mut client, id) = rig.client();
        let bytes = pattern(100_000);
        client.send(&bytes);
        client.reset();
        let (reason, unsent) = rig.end_of(id);
        assert_eq!(reason, "Reset");
        let stats = rig.reactor.stats();
        assert!(unsent > 0);
        assert_eq!(unsent as u64 + stats.bytes_written, LOTS as u64);
        assert_eq!(stats.bytes_unsent, unsent as u64);
        assert!(rig.journal.data_of(id) == bytes, "pauses: {pauses}");
        assert_eq!(rig.journal.count(|call| *call == Call::Drain), 0);
    }
}

/// The reset ends its pause, and it rightly takes nothing of what it is given then.
#[test]
fn a_reset_is_told_as_one_although_a_paused_handler_leaves_more_than_its_cap() {
    let listen = large_receive_buffer().limits(Limits::default().max_input_bytes(10_000));
    let script = Script::new().data(|conn, _| {
        conn.pause_reading();
        0
    });
    let mut rig = Rig::with_listen(script, listen);
    let (mut client, id) = rig.client();
    client.send(b"x");
    rig.until("paused", |rig| rig.journal.data_of(id) == b"x");
    client.send(&pattern(100_000));
    client.reset();
    rig.expect_end(id, "Reset");
    assert_eq!(rig.reactor.stats().closed_overflow, 0);
    assert_eq!(rig.reactor.stats().closed_broken, 1);
}

#[test]
fn a_reset_ends_a_connection_that_is_closing() {
    let mut rig = Rig::new(Script::new().open(|conn| conn.close()));
    let (client, id) = rig.client();
    client.reset();
    let (reason, unsent) = rig.end_of(id);
    // What comes first: the close or the reset.
    assert!(reason == "Local" || reason == "Reset", "{reason}");
    assert_eq!(unsent, 0);
    rig.expect_quiet();
}

#[test]
fn a_reset_ends_a_connection_whose_output_has_ended() {
    let mut rig = Rig::new(Script::new().open(|conn| conn.shutdown_write()));
    let (mut client, id) = rig.client();
    rig.expect_quiet();
    client.send(b"last words");
    client.reset();
    rig.expect_end(id, "Reset");
    assert_eq!(rig.journal.data_of(id), b"last words");
}

/// The peer is gone when the handler's FIN is due; the loop has not seen the reset yet.
#[test]
fn an_end_that_finds_the_peer_gone_says_reset_after_the_rest() {
    let client = Rc::new(RefCell::new(None::<Client>));
    let goes = client.clone();
    let script = Script::new().data(move |conn, input| {
        if let Some(mut client) = goes.borrow_mut().take() {
            client.send(b"last words");
            client.reset();
            conn.shutdown_write();
        }
        input.len()
    });
    let mut rig = Rig::new(script);
    let (mut peer, id) = rig.client();
    peer.send(b"first, ");
    *client.borrow_mut() = Some(peer);
    rig.expect_end(id, "Reset");
    assert_eq!(rig.journal.data_of(id), b"first, last words");
}

#[test]
fn a_reset_in_the_same_batch_as_the_accept_is_still_an_open_and_a_close() {
    let mut rig = Rig::new(Script::new());
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(rig.addr)).collect();
    for client in &mut clients {
        client.send(b"hello");
    }
    for client in clients {
        client.reset();
    }
    rig.until("all ended", |rig| {
        let stats = rig.reactor.stats();
        stats.accepted == 20 && stats.closed == 20
    });
    for id in rig.journal.opened() {
        assert_eq!(rig.journal.data_of(id), b"hello");
    }
    rig.expect_quiet();
}

/// What a handler left it has seen for the last time when the peer's end was told.
#[test]
fn nothing_is_lent_again_after_the_end_when_a_write_fails() {
    let script = Script::new().data(|_, _| 0).eof(|conn| {
        assert!(conn.write(&pattern(12 << 20)).is_accepted());
        conn.pause_reading();
    });
    let mut rig = Rig::with_listen(script, large_receive_buffer());
    let (mut client, id) = rig.client();
    client.send(b"left");
    client.finish();
    rig.until("told", |rig| rig.journal.has(&Call::Eof));
    client.reset();
    let (reason, _) = rig.end_of(id);
    assert_eq!(reason, "Reset");
    let calls = rig.journal.calls_of(id);
    assert!(
        matches!(calls[..], [Call::Open, Call::Data(_), Call::Eof, Call::Close(..)]),
        "{calls:?}"
    );
}

/// Connections whose output fills what a phase of a turn may send, when their clients read.
const FULL: usize = 6;

/// The peer resets in a turn whose room to send is used up by others.
#[test]
fn what_waited_for_room_is_delivered_after_a_reset_in_a_turn_that_has_no_room() {
    expect_rest_after_reset(FULL);
}

/// The output that waits is tried once more, and fails.
#[test]
fn what_waited_for_room_is_delivered_for_as_long_as_some_is_consumed_after_a_failed_write() {
    expect_rest_after_reset(0);
}

/// Has a handler answer one byte with more than a peer takes, and leave the others for when there
/// is room.
fn expect_rest_after_reset(others: usize) {
    let script = Script::new().data(|conn, _| {
        if !conn.is_above_high_mark() {
            conn.write(&pattern(12 << 20));
        }
        1
    });
    let mut rig = Rig::new(script);
    let mut clients = Vec::new();
    for _ in 0..others {
        let (mut client, id) = rig.client();
        client.send(b"x");
        rig.until("answered", |rig| !rig.journal.data_of(id).is_empty());
        clients.push(client);
    }
    let (mut client, id) = rig.client();
    client.send(b"abcd");
    rig.until("answered", |rig| !rig.journal.data_of(id).is_empty());
    rig.expect_quiet();
    // In this order the poll tells of them: each has megabytes of room, and then the reset.
    for client in &mut clients {
        while client.try_read(1 << 20).is_ok_and(|bytes| !bytes.is_empty()) {}
    }
    client.reset();
    let (reason, _) = rig.end_of(id);
    assert_eq!(reason, "Reset");
    let data = [&b"abcd"[..], b"bcd", b"cd", b"d"].map(|bytes| Call::Data(bytes.to_vec()));
    let calls = rig.journal.calls_of(id);
    assert_eq!(calls.get(1..5), Some(&data[..]), "{calls:?}");
}

/// The second call is lent what the first has left, and leaves it because it waits once more.
#[test]
fn what_a_callback_leaves_whose_write_fails_is_lent_again() {
    let mut calls = 0;
    let script = Script::new().data(move |conn, input| {
        calls += 1;
        match calls {
            1 => conn.pause_reading(),
            2 => {
                conn.write(b"wait");
                conn.pause_reading();
            }
            _ => return input.len(),
        }
        0
    });
    let mut rig = Rig::new(script);
    let (mut client, id) = rig.client();
    client.send(b"abcd");
    rig.until("paused", |rig| !rig.journal.data_of(id).is_empty());
    client.reset();
    rig.reactor.context().conn(id).unwrap().resume_reading();
    rig.end_of(id);
    let data = [b"abcd"; 3].map(|bytes| Call::Data(bytes.to_vec()));
    let calls = rig.journal.calls_of(id);
    assert_eq!(calls.get(1..4), Some(&data[..]), "{calls:?}");
}

/// As a protocol does that hands out one message at a time while its user has paused.
#[test]
fn a_paused_handler_is_lent_all_that_it_left_before_a_reset_is_told() {
    let script = Script::new().data(|conn, _| {
        conn.pause_reading();
        1
    });
    let mut rig = Rig::new(script);
    let (mut client, id) = rig.client();
    client.send(b"abcd");
    rig.until("paused", |rig| !rig.journal.data_of(id).is_empty());
    client.reset();
    rig.expect_end(id, "Reset");
    let data = [&b"abcd"[..], b"bcd", b"cd", b"d"].map(|bytes| Call::Data(bytes.to_vec()));
    let calls = rig.journal.calls_of(id);
    assert_eq!(calls.get(1..5), Some(&data[..]), "{calls:?}");
}
