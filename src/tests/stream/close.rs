//! The ways to end, step by step.

use std::io::Read;

use super::*;
use crate::base::close::CloseReason;
use crate::engine::Stop;
use crate::stream::connection::{Ending, Flags, WriteSide};

/// Why a connection has ended; `None` if it has not.
fn reason(rig: &mut Rig) -> Option<CloseReason> {
    rig.engine.end_of_turn.pop_closed().map(|(_, reason)| reason)
}

/// Waits for the peer's FIN.
fn expect_end(peer: &mut Stream) {
    let count = patiently(|| match peer.read(&mut [0; 8]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        result => Some(result.unwrap()),
    });
    assert_eq!(count, 0);
}

/// Closed now, the kernel would answer what the peer still sends with a reset.
#[test]
fn a_close_sends_fin_and_waits_for_that_of_the_peer() {
    let (stream, mut peer) = connected();
    let mut rig = Rig::new();
    let id = rig.open(stream);
    rig.link(id).close();
    assert_eq!(rig.link(id).connection.phase(), Phase::Closing(Ending::Local));
    assert_eq!(rig.engine.end_of_turn.pop_flush(), Some(id));
    rig.link(id).advance_close();
    assert_eq!(rig.link(id).connection.phase(), Phase::Lingering(Ending::Local));
    assert_eq!(rig.engine.timers.len(), 1, "and not for ever");
    expect_end(&mut peer);
    assert!(reason(&mut rig).is_none());
}

#[test]
fn a_close_without_waiting_or_behind_the_end_of_the_peer_is_over_when_the_output_has_left() {
    for ending in [Ending::Local, Ending::Peer] {
        let mut rig = Rig::new();
        let id = rig.open(Stream::Absent);
        if ending == Ending::Peer {
            rig.link(id).connection.flags.set(Flags::READ_CLOSED);
        }
        let link = rig.link(id);
        link.connection.queue_output(b"last", &mut link.engine.spares);
        rig.link(id).close_without_waiting();
        rig.link(id).advance_close();
        assert_eq!(rig.link(id).connection.phase(), Phase::Closing(ending), "output waits");
        assert_eq!(rig.engine.timers.len(), 1, "and not for ever");
        let link = rig.link(id);
        link.connection.clear_output(&mut link.engine.spares);
        rig.link(id).advance_close();
        let expected = CloseReason::from(ending).to_string();
        assert_eq!(reason(&mut rig).map(|reason| reason.to_string()), Some(expected));
    }
}

#[test]
fn a_close_while_the_reactor_stops_says_so() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    rig.engine.stop(Stop::Now);
    rig.link(id).close();
    assert_eq!(rig.link(id).connection.phase(), Phase::Closing(Ending::Shutdown));
}

#[test]
fn a_connection_that_is_not_up_is_closed_at_once_unless_something_was_written() {
    for written in [false, true] {
        let mut rig = Rig::new();
        let id = rig.open(Stream::Absent);
        let link = rig.link(id);
        link.connection.enter(Phase::Connecting);
        if written {
            link.connection.queue_output(b"hello", &mut link.engine.spares);
        }
        rig.link(id).close();
        assert_eq!(reason(&mut rig).is_none(), written);
        if written {
            assert_eq!(rig.link(id).connection.write_side(), WriteSide::FinQueued);
        }
    }
}

#[test]
fn a_connection_whose_write_side_is_shut_reads_on_and_ends_with_the_peer() {
    let (stream, mut peer) = connected();
    let mut rig = Rig::new();
    let id = rig.open(stream);
    rig.link(id).enqueue(&[b"last"]);
    rig.link(id).shutdown_write();
    rig.link(id).advance_close();
    assert_eq!(rig.link(id).connection.write_side(), WriteSide::FinQueued, "behind the output");
    let link = rig.link(id);
    link.connection.clear_output(&mut link.engine.spares);
    rig.link(id).advance_close();
    assert_eq!(rig.link(id).connection.write_side(), WriteSide::FinSent);
    expect_end(&mut peer);
    rig.link(id).finish_if_both_ended();
    assert!(rig.link(id).connection.is_open(), "the peer may go on");
    rig.link(id).connection.flags.set(Flags::READ_CLOSED);
    rig.link(id).finish_if_both_ended();
    assert!(matches!(reason(&mut rig), Some(CloseReason::Peer)));
}

#[test]
fn the_end_of_the_peer_alone_ends_nothing() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    rig.link(id).connection.flags.set(Flags::READ_CLOSED);
    rig.link(id).finish_if_both_ended();
    rig.link(id).advance_close();
    assert!(rig.link(id).connection.is_open());
    assert_eq!(rig.link(id).connection.write_side(), WriteSide::Open);
}

#[test]
fn an_abort_drops_what_waits_and_resets() {
    let mut rig = Rig::new();
    let id = rig.open(Stream::Absent);
    rig.link(id).enqueue(&[b"lost"]);
    rig.link(id).abort();
    assert!(matches!(reason(&mut rig), Some(CloseReason::Local)));
    let connection = rig.streams.slot(id).unwrap();
    assert!(connection.flags.has(Flags::MUST_RESET) && connection.unsent() == 4);
}
