//! Writes, from the callback to the socket.

use std::io::{ErrorKind, Read};

use super::*;
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
    let mut received = [0; 8];
    let count = loop {
        match peer.read(&mut received) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            result => break result.unwrap(),
        }
    };
    assert_eq!(&received[..count], b"hello");
}
