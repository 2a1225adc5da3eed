//! Writes, from the callback to the socket.

use std::io::{ErrorKind, Read};

use super::*;
use crate::options::OnOverflow;
use crate::stream::Written;
use crate::stream::connection::Flags;

/// Blocked, with output that waits for the socket.
fn block(rig: &mut Rig, id: ConnId) {
    let link = rig.link(id);
    link.connection.queue_output(b"first", &mut link.engine.spares);
    link.connection.flags.set(Flags::BLOCKED);
}

#[test]
fn a_write_behind_output_that_waits_for_the_socket_asks_the_socket_no_sooner() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    block(&mut rig, id);
    rig.link(id).enqueue(&[b"second"]);
    assert!(rig.engine.end_of_turn.flushes().is_empty(), "a write that would block");
}

/// A queue would cost a buffer, and a copy of the bytes.
#[test]
fn what_a_callback_wrote_leaves_without_a_queue() {
    let (stream, mut peer) = connected();
    let mut rig = Rig::new();
    let id = rig.open(stream);
    rig.engine.cork.begin(id, 10);
    assert!(rig.engine.cork.gather(b"hello"));
    assert_eq!(rig.streams.uncork(&mut rig.engine, id), 5, "all of it in one piece");
    assert_eq!((rig.engine.stats.writes, rig.engine.stats.bytes_written), (1, 5));
    assert_eq!(take(&mut peer, 5), b"hello");
}

/// At most 10 bytes wait; 8 are much, and 2 are little again.
fn capped(on_overflow: OnOverflow) -> Rc<ConnConfig> {
    let limits = Limits::default().low_mark_bytes(2).high_mark_bytes(8).max_output_bytes(10);
    Rc::new(ConnConfig::new(&limits.on_overflow(on_overflow), 0))
}

/// All that has come by now.
fn take(peer: &mut Stream, wanted: usize) -> Vec<u8> {
    let mut received = vec![0; wanted];
    let mut count = 0;
    while count < wanted {
        count += patiently(|| match peer.read(&mut received[count..]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            result => Some(result.unwrap()),
        });
    }
    received
}

#[test]
fn a_peer_that_does_not_read_is_sent_up_to_the_cap_and_no_byte_of_the_write_over_it() {
    for on_overflow in [OnOverflow::Refuse, OnOverflow::Close] {
        let mut rig = Rig::new();
        let id = rig.open_under(Stream::Absent, capped(on_overflow));
        block(&mut rig, id);
        assert_eq!(rig.link(id).write(b"67"), Written::Below);
        assert_eq!(rig.link(id).write(b"890"), Written::Above);
        assert_eq!(rig.link(id).write(b"1"), Written::Full);
        assert_eq!(rig.engine.stats.writes_refused, 1);
        let is_closed = rig.streams.slot(id).unwrap().is_closed();
        assert_eq!(is_closed, on_overflow == OnOverflow::Close);
        if !is_closed {
            assert_eq!(rig.link(id).connection.output(), b"first67890");
            rig.link(id).shutdown_write();
            assert_eq!(rig.link(id).write(b""), Written::Closed);
        }
    }
    use Written::{Above, Below, Closed, Full};
    assert_eq!([Below, Above, Full, Closed].map(Written::is_accepted), [true, true, false, false]);
}

#[test]
fn what_the_socket_would_take_does_not_count_against_the_cap() {
    let (stream, mut peer) = connected();
    let mut rig = Rig::new();
    let id = rig.open_under(stream, capped(OnOverflow::Refuse));
    assert_eq!(rig.link(id).write(b"12345678901"), Written::Full, "it is over the cap alone");
    assert_eq!(rig.link(id).write(b"1234567890"), Written::Above);
    assert_eq!((rig.engine.stats.writes, rig.engine.end_of_turn.flushes().len()), (0, 1));
    assert_eq!(rig.link(id).write(b"abc"), Written::Above, "until its handler is told otherwise");
    assert_eq!((rig.engine.stats.writes, rig.link(id).connection.output()), (1, &b"abc"[..]));
    assert_eq!(rig.link(id).write(b"ABCDEFGHIJ"), Written::Above, "and the whole cap again");
    assert_eq!((rig.engine.stats.writes, rig.link(id).connection.output().len()), (2, 10));
    assert!(rig.link(id).flush(), "and then it is");
    assert_eq!(take(&mut peer, 23), b"1234567890abcABCDEFGHIJ");
}

#[test]
fn a_callback_writes_in_order_whether_it_gathers_or_not() {
    let (stream, mut peer) = connected();
    let mut rig = Rig::new();
    let id = rig.open_under(stream, capped(OnOverflow::Refuse));
    let room = rig.link(id).connection.cork_room();
    rig.engine.cork.begin(id, room);
    assert!(rig.engine.cork.gather(b"1234") && !rig.engine.cork.gather(b"5678"));
    assert_eq!(rig.link(id).write(b"5678"), Written::Below);
    assert_eq!(rig.engine.stats.writes, 1, "both in one");
    assert!(rig.engine.cork.gather(b"abcd"), "all has left, and there is room again");
    assert_eq!(rig.link(id).write(b"efghijk"), Written::Below, "what gathered has left before");
    assert_eq!((rig.engine.stats.writes, rig.engine.stats.bytes_written), (3, 19));
    rig.streams.uncork(&mut rig.engine, id);
    assert_eq!(take(&mut peer, 19), b"12345678abcdefghijk");
}

#[test]
fn a_handler_is_told_once_that_its_output_has_left_and_reading_goes_on() {
    let (stream, _peer) = connected();
    let mut rig = Rig::new();
    let id = rig.open_under(stream, capped(OnOverflow::Refuse));
    assert!(!rig.link(id).flush(), "there was none");
    assert_eq!(rig.link(id).write(b"12345678"), Written::Above);
    rig.link(id).connection.flags.set(Flags::READABLE);
    assert!(rig.link(id).flush());
    assert!(rig.engine.ready.connections().iter().eq([&id]), "what came meanwhile is read");
    assert!(!rig.link(id).flush());
    assert_eq!(rig.link(id).write(b"1"), Written::Below);
}

#[test]
fn what_a_handler_left_because_it_could_not_answer_comes_again_unless_it_has_paused() {
    for is_paused in [true, false] {
        let (stream, _peer) = connected();
        let mut rig = Rig::new();
        let id = rig.open_under(stream, capped(OnOverflow::Refuse));
        let link = rig.link(id);
        link.connection.keep_input(b"request", &mut link.engine.spares);
        if is_paused {
            rig.link(id).pause_reading();
        }
        assert_eq!(rig.link(id).write(b"12345678"), Written::Above);
        assert!(rig.link(id).flush());
        assert_eq!(rig.link(id).connection.flags.has(Flags::REPLAY), !is_paused);
    }
}

#[test]
fn a_connection_whose_write_failed_is_read_to_its_end_also_if_it_was_paused() {
    for is_paused in [true, false] {
        let mut rig = Rig::new();
        let id = rig.open(Stream::Absent);
        if is_paused {
            rig.link(id).pause_reading();
        }
        rig.link(id).enqueue(&[b"lost"]);
        rig.link(id).flush();
        let link = rig.link(id);
        assert_eq!((link.connection.phase(), link.connection.unsent()), (Phase::OutputFailed, 4));
        assert_eq!(link.connection.flags.has(Flags::REPLAY), is_paused, "what it had left");
        assert!(link.connection.flags.has(Flags::READABLE));
        assert!(rig.engine.ready.connections().iter().eq([&id]));
        assert_eq!(rig.link(id).write(b"more"), Written::Closed);
    }
}

#[test]
fn what_is_written_before_a_connection_is_up_waits_for_that() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    rig.link(id).connection.enter(Phase::Connecting);
    assert_eq!(rig.link(id).write(b"hello"), Written::Below);
    assert!(!rig.link(id).flush());
    assert_eq!(rig.link(id).connection.output(), b"hello");
    assert_eq!(rig.link(id).connection.phase(), Phase::Connecting);
}

#[test]
fn what_gathered_stands_before_a_file_that_is_queued_behind_it() {
    let mut rig = Rig::new();
    let [id, other] = [(); 2].map(|()| rig.open(Stream::Absent));
    rig.engine.cork.begin(id, 10);
    assert!(rig.engine.cork.gather(b"head"));
    rig.link(other).queue_gathered();
    assert!(!rig.link(other).connection.has_output(), "it is not for the peer of another one");
    rig.link(id).queue_gathered();
    assert_eq!(rig.link(id).connection.output(), b"head");
    assert!(rig.engine.cork.bytes().is_empty() && !rig.engine.cork.gather(b"more"));
    rig.link(id).queue_gathered();
    assert_eq!(rig.link(id).connection.output(), b"head");
}

/// The end of a turn goes on with what is on the list of flushes.
#[test]
fn a_connection_that_ends_goes_on_ending_when_its_output_has_left() {
    type End = fn(&mut Link<'_>);
    let ends: [(End, usize); 3] =
        [(|_| {}, 0), (|link| link.close(), 1), (|link| link.shutdown_write(), 1)];
    for (end, flushes) in ends {
        let (stream, _peer) = connected();
        let mut rig = Rig::new();
        let id = rig.open(stream);
        rig.link(id).enqueue(&[b"last"]);
        end(&mut rig.link(id));
        assert_eq!(rig.engine.end_of_turn.pop_flush(), Some(id));
        rig.link(id).connection.flags.clear(Flags::IN_FLUSH_LIST);
        rig.link(id).flush();
        assert!(!rig.link(id).connection.has_output());
        assert_eq!(rig.engine.end_of_turn.flushes().len(), flushes);
    }
}

#[test]
fn a_connection_that_reads_again_sees_first_what_it_had_left() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    rig.link(id).resume_reading();
    assert!(rig.engine.ready.is_empty(), "it was not paused");
    rig.link(id).pause_reading();
    let link = rig.link(id);
    link.connection.keep_input(b"rest", &mut link.engine.spares);
    rig.link(id).resume_reading();
    assert!(rig.link(id).connection.can_replay());
    assert!(rig.engine.ready.connections().iter().eq([&id]));
}
