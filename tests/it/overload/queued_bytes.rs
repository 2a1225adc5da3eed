//! The cap on what all connections have queued: those who do not read pay, the largest first.

use std::time::Duration;

use waterwheel::{
    ConnId, ConnectOptions, ListenOptions, ReactorOptions, Reconnect, TcpOptions, Written,
};

use crate::support::{End, Journal, Rig, Script, nobody, pattern};

const MIB: usize = 1 << 20;
/// The cap.
const MAX: usize = 4 * MIB;

fn rig() -> Rig {
    // So that the kernel takes little of what nobody reads.
    let tcp = TcpOptions::default().send_buffer_bytes(Some(64 << 10));
    let listen = ListenOptions::default().tcp(tcp);
    let options = ReactorOptions::default().max_queued_bytes(MAX);
    Rig::with(Script::echo(), Journal::default(), listen, options)
}

/// Writes to a connection; how much waits in its queue after the turn.
#[track_caller]
fn write(rig: &mut Rig, id: ConnId, bytes: usize) -> usize {
    let written = rig.reactor.context().conn(id).unwrap().write(&pattern(bytes));
    assert!(matches!(written, Written::Below | Written::Above));
    rig.turn();
    rig.reactor.context().conn(id).map_or(0, |conn| conn.pending_bytes())
}

#[test]
fn the_largest_queue_is_reset_and_those_below_the_cap_are_not() {
    let mut rig = rig();
    let (mut small, of_small) = rig.client();
    let (mut large, of_large) = rig.client();
    let (mut last, of_last) = rig.client();
    assert!(write(&mut rig, of_small, MIB) > MIB / 2);
    assert!(write(&mut rig, of_large, 5 * MIB / 2) > 2 * MIB);
    rig.expect_quiet();
    // The one that writes last is not the one that has most.
    assert!(write(&mut rig, of_last, 3 * MIB / 2) > MIB);
    let (reason, unsent) = rig.end_of(of_large);
    assert_eq!(reason, "Overflow");
    assert!(unsent > 2 * MIB);
    assert_eq!(rig.read_to_end(&mut large).1, End::Reset);
    assert!(rig.read(&mut small, MIB) == pattern(MIB));
    assert!(rig.read(&mut last, 3 * MIB / 2) == pattern(3 * MIB / 2));
    assert!(rig.lives(of_small) && rig.lives(of_last));
    assert_eq!(rig.reactor.stats().closed_overflow, 1);
}

#[test]
fn what_leaves_makes_room_and_no_more_are_reset_than_it_takes() {
    let mut rig = rig();
    let slow: Vec<_> = (0..4).map(|_| rig.client()).collect();
    for (place, (_, id)) in slow.iter().enumerate() {
        write(&mut rig, *id, MIB / 2 + place * 1_000);
    }
    let (mut reader, of_reader) = rig.client();
    for _ in 0..8 {
        write(&mut rig, of_reader, 3 * MIB / 2);
        assert!(rig.read(&mut reader, 3 * MIB / 2) == pattern(3 * MIB / 2));
    }
    assert_eq!(rig.journal.closes(), 0, "the sum never was over the cap");
    // All at once: 1 MiB too much beside the rest, of which the kernel has taken more by now.
    let pending = |rig: &mut Rig, id| rig.reactor.context().conn(id).unwrap().pending_bytes();
    let queued: usize = slow.iter().map(|(_, id)| pending(&mut rig, *id)).sum();
    let (_first, of_first) = rig.client();
    write(&mut rig, of_first, MAX - queued + MIB);
    assert_eq!(rig.end_of(of_first).0, "Overflow");
    assert_eq!(rig.journal.closes(), 1);
    assert!(slow.iter().all(|(_, id)| rig.lives(*id)));
}

/// What waits for a connection that is not up is not kept by a reader who does not read.
#[test]
fn a_connection_that_is_not_up_is_not_reset_however_much_waits_for_it() {
    let mut rig = rig();
    let (_nobody, addr) = nobody();
    let hour = Duration::from_secs(3_600);
    let again = Reconnect::default().base_delay(hour).max_delay(hour);
    let dialled = rig.connect(addr, 0, &ConnectOptions::default().reconnect(Some(again)));
    rig.until("it pauses", |rig| rig.reactor.stats().connect_retries == 1);
    assert_eq!(write(&mut rig, dialled, 3 * MIB), 3 * MIB);
    let (_slow, of_slow) = rig.client();
    write(&mut rig, of_slow, 2 * MIB);
    assert_eq!(rig.end_of(of_slow).0, "Overflow");
    assert_eq!(rig.reactor.context().conn(dialled).unwrap().pending_bytes(), 3 * MIB);
}
