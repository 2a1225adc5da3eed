//! Output that the kernel has taken at once, and that the peer reads slowly: while it reads, no
//! clock of silence ends the connection; when it stops, the clock is not longer than it says.

use std::time::{Duration, Instant};

use socket2::SockRef;

use waterwheel::{ConnId, IdleKind, Limits, ListenOptions, TcpOptions};

use crate::support::{Call, Client, End, Rig, Script, pattern};

/// What the kernel of the server takes at once.
const BYTES: usize = 1 << 20;
/// Bytes that the client reads in a millisecond: all of them in some 2 s.
const PER_MS: usize = 512;
/// The time of each clock, several of which pass meanwhile.
const LIMIT: Duration = Duration::from_millis(300);

/// A server that has written everything to the kernel, and closes if `closes`.
fn server(limits: Limits, closes: bool) -> (Rig, Client, ConnId) {
    let handler = Script::echo().open(move |conn| {
        conn.write(&pattern(BYTES));
        if closes {
            conn.close();
        }
    });
    let tcp = TcpOptions::default().send_buffer_bytes(Some(2 * BYTES));
    let mut rig = Rig::with_listen(handler, ListenOptions::default().limits(limits).tcp(tcp));
    let client = Client::connect(rig.addr);
    SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
    rig.until("accepted", |rig| !rig.journal.opened().is_empty());
    let id = rig.journal.last();
    rig.until("the kernel has all", |rig| rig.reactor.stats().bytes_written == BYTES as u64);
    (rig, client, id)
}

/// Reads everything at a steady rate.
#[track_caller]
fn read_slowly(rig: &mut Rig, client: &mut Client) {
    let (begin, mut received) = (Instant::now(), Vec::new());
    while received.len() < BYTES {
        let due = begin.elapsed().as_millis() as usize * PER_MS;
        while received.len() < due.min(BYTES) {
            match client.try_read(due - received.len()) {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => received.extend(bytes),
                Err(end) => panic!("{end:?} after {} bytes", received.len()),
            }
        }
        rig.reactor.run_once(Some(Duration::from_millis(4))).unwrap();
    }
    assert!(received == pattern(BYTES));
    assert!(begin.elapsed() > 4 * LIMIT, "read in {:?}", begin.elapsed());
}

#[test]
fn a_connection_whose_peer_reads_what_the_kernel_has_is_not_idle() {
    for limits in
        [Limits::default().all_idle(Some(LIMIT)), Limits::default().write_idle(Some(LIMIT))]
    {
        let (mut rig, mut client, id) = server(limits, false);
        read_slowly(&mut rig, &mut client);
        assert_eq!(rig.journal.close_of(id), None);
        client.send(b"more");
        rig.expect(&mut client, b"more");
        rig.expect_end(id, "Idle");
    }
}

#[test]
fn a_close_goes_on_while_the_peer_reads_what_the_kernel_has() {
    let (mut rig, mut client, id) = server(Limits::default().close_timeout(LIMIT), true);
    // After the close the peer may go on sending; to a socket that is gone this would be a reset.
    client.send(b"more");
    read_slowly(&mut rig, &mut client);
    client.send(b"and more");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    client.finish();
    rig.expect_end(id, "Local");
}

#[test]
fn a_peer_that_stops_reading_has_no_more_than_the_limit() {
    let (mut rig, mut client, id) = server(Limits::default().all_idle(Some(LIMIT)), false);
    rig.read(&mut client, BYTES / 4);
    let begin = Instant::now();
    rig.expect_end(id, "Idle");
    assert!(begin.elapsed() < 2 * LIMIT, "after {:?}", begin.elapsed());
    assert!(rig.journal.calls_of(id).contains(&Call::Idle(IdleKind::All)));

    let (mut rig, mut client, id) = server(Limits::default().close_timeout(LIMIT), true);
    rig.read(&mut client, BYTES / 4);
    let begin = Instant::now();
    rig.expect_end(id, "Local");
    assert!(begin.elapsed() < 2 * LIMIT, "after {:?}", begin.elapsed());
}
