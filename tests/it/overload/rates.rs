//! Min rates over a long transfer: what was fast before pays for no silence that is longer than the
//! grace, and a peer that is slow and above the rate is left alone.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{ConnId, Limits, MinRate, Written};

use crate::support::{Client, End, PATIENCE, Rig, Script, scratch_file};

/// What is read or sent at full speed before the peer stops.
const FAST: usize = 30 << 20;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A file with nothing in it but a hole.
fn hole(bytes: u64) -> File {
    let file = scratch_file(b"");
    file.set_len(bytes).unwrap();
    file
}

/// A server that sends a file to each that connects.
fn sends_file(limits: Limits, bytes: u64) -> (Rig, Client, ConnId) {
    let handler = Script::new().open(move |conn| {
        assert_ne!(conn.send_file(hole(bytes), ..).unwrap(), Written::Full);
    });
    let mut rig = Rig::with_limits(handler, limits);
    let (client, id) = rig.client();
    (rig, client, id)
}

/// Waits for the end of a connection that has nothing more from its peer since `since`.
#[track_caller]
fn expect_end_after(rig: &mut Rig, id: ConnId, since: Instant, grace: Duration, reason: &str) {
    assert_eq!(rig.end_of(id).0, reason);
    let waited = since.elapsed();
    // What the kernel goes on to take counts too, for a moment.
    assert!(waited < grace + PATIENCE / 2, "ended after {waited:?}, with a grace of {grace:?}");
}

#[test]
fn a_file_of_which_nothing_is_read_is_ended_after_the_grace() {
    let grace = ms(300);
    let limits = Limits::default().min_send_rate(Some(MinRate::new(10_000, grace)));
    let begin = Instant::now();
    let (mut rig, _client, id) = sends_file(limits, 1 << 30);
    expect_end_after(&mut rig, id, begin, grace, "Timeout(SendRate)");
    assert!(begin.elapsed() >= grace, "the grace counts in full");
}

#[test]
fn a_file_of_which_much_was_read_before_is_ended_after_the_grace() {
    let grace = ms(300);
    let limits = Limits::default().min_send_rate(Some(MinRate::new(10_000, grace)));
    let (mut rig, mut client, id) = sends_file(limits, 1 << 30);
    rig.read(&mut client, FAST);
    expect_end_after(&mut rig, id, Instant::now(), grace, "Timeout(SendRate)");
}

/// A poll tells of room in a socket's buffer only when a third of it is free: between two such
/// moments there is more than the grace.
#[test]
fn a_file_that_is_read_slowly_and_above_the_rate_is_sent_on() {
    const PER_MS: usize = 400;
    let grace = ms(500);
    let limits = Limits::default()
        .min_send_rate(Some(MinRate::new(100_000, grace)))
        .write_idle(Some(grace))
        .all_idle(Some(grace));
    let (mut rig, mut client, id) = sends_file(limits, 1 << 30);
    let (begin, mut read) = (Instant::now(), 0);
    while begin.elapsed() < 6 * grace {
        let due = begin.elapsed().as_millis() as usize * PER_MS;
        while read < due {
            let bytes = client.try_read(due - read);
            match bytes.map_or(0, |bytes| bytes.len()) {
                0 => break,
                count => read += count,
            }
        }
        rig.reactor.run_once(Some(ms(4))).unwrap();
        let end = rig.journal.close_of(id);
        assert!(end.is_none(), "{end:?} after {:?}", begin.elapsed());
    }
}

/// A message that is taken in pieces, and declared incomplete until it is whole.
fn streamed() -> Script {
    Script::new().data(|conn, input| {
        conn.declare_incomplete(true);
        input.len()
    })
}

#[test]
fn a_streamed_message_that_was_fast_before_is_ended_after_the_grace() {
    let grace = ms(300);
    let limits = Limits::default().min_receive_rate(Some(MinRate::new(10_000, grace)));
    let mut rig = Rig::with_limits(streamed(), limits);
    let (mut client, id) = rig.client();
    let sender = thread::spawn(move || {
        client.send(&vec![b'x'; FAST]);
        client
    });
    rig.until("all is read", |rig| rig.reactor.stats().bytes_read == FAST as u64);
    let _client = sender.join().unwrap();
    expect_end_after(&mut rig, id, Instant::now(), grace, "Timeout(ReceiveRate)");
}

/// A peer that has finished sends nothing more, which is no fault of it.
#[test]
fn the_rate_of_a_message_ends_with_the_input() {
    let grace = ms(50);
    let limits = Limits::default().min_receive_rate(Some(MinRate::new(10_000, grace)));
    let script = Script::new().data(|_, _| 0).eof(|conn| {
        conn.set_timer(6 * ms(50), 0);
    });
    let script = script.timer(|conn, _| {
        conn.write(b"answer");
        conn.close();
    });
    let mut rig = Rig::with_limits(script, limits);
    let (mut client, id) = rig.client();
    client.send(b"no whole message");
    client.finish();
    assert_eq!(rig.read_to_end(&mut client), (b"answer".to_vec(), End::Fin));
    assert_eq!(rig.end_of(id).0, "Peer");
}
