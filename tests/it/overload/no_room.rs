//! Turns in which others have used up the room for output: what waits for the next ones loses
//! neither its connection, nor its place, nor its bytes.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waterwheel::{ConnId, Limits, ListenOptions, MinRate, ReactorOptions, TcpOptions};

use crate::support::{Client, Journal, Rig, Script, pattern, scratch_file};

/// Bytes of queued output that a phase sends.
const ROOM: usize = 1 << 20;

/// Readers of files who use up the room of each phase in which all of them are ready: each has
/// 64 KiB.
const READERS: usize = 20;

/// Readers of a file without an end.
struct Crowd(Vec<Client>);

impl Crowd {
    #[track_caller]
    fn gather(rig: &mut Rig) -> Self {
        let file = scratch_file(b"");
        file.set_len(1 << 40).unwrap();
        let file = Arc::new(file);
        let endless = Script::new().open(move |conn| {
            assert!(conn.send_file(Arc::clone(&file), ..).unwrap().is_accepted());
        });
        let (_, addr) = rig.add(endless, ListenOptions::default());
        let before = rig.journal.opened().len();
        let crowd = Self((0..READERS).map(|_| Client::connect(addr)).collect());
        rig.until("all are there", |rig| rig.journal.opened().len() == before + READERS);
        crowd
    }

    /// Reads at most so much of what each has.
    fn read(&mut self, most: usize) {
        for client in &mut self.0 {
            client.try_read(most).unwrap();
        }
    }

    /// Reads all that has come.
    fn read_all(&mut self) {
        for client in &mut self.0 {
            empty(client);
        }
    }
}

/// Reads all that has come for a client; the poll is told that its server's socket takes more.
fn empty(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = client.try_read(ROOM).unwrap();
        if more.is_empty() {
            return bytes;
        }
        bytes.extend(more);
    }
}

/// Turns until no socket takes more.
#[track_caller]
fn fill(rig: &mut Rig) {
    let mut before = u64::MAX;
    rig.until("all sockets are full", |rig| {
        let now = rig.reactor.stats().bytes_written;
        now > 0 && std::mem::replace(&mut before, now) == now
    });
}

fn pending(rig: &mut Rig, id: ConnId) -> usize {
    rig.reactor.context().conn(id).map_or(0, |conn| conn.pending_bytes())
}

#[track_caller]
fn write(rig: &mut Rig, id: ConnId, bytes: &[u8]) {
    assert!(rig.reactor.context().conn(id).unwrap().write(bytes).is_accepted());
}

/// A client whose socket is full, with no more than a MiB behind it; and what has been written.
#[track_caller]
fn blocked(rig: &mut Rig) -> (Client, ConnId, usize) {
    let (client, id) = rig.client();
    let mut written = 0;
    rig.until("the socket is full", |rig| {
        let left = pending(rig, id);
        if left == 0 {
            write(rig, id, &pattern(ROOM));
            written += ROOM;
        }
        left > 0
    });
    fill(rig);
    (client, id, written)
}

/// A connection in a crowd: a turn has no room for what it has to send.
struct Crowded {
    rig: Rig,
    crowd: Crowd,
    client: Client,
    id: ConnId,
    /// What was written to it, and what its client has read.
    written: usize,
    read: Vec<u8>,
}

impl Crowded {
    #[track_caller]
    fn new(mut rig: Rig) -> Self {
        let (client, id, written) = blocked(&mut rig);
        let crowd = Crowd::gather(&mut rig);
        fill(&mut rig);
        Self { rig, crowd, client, id, written, read: Vec::new() }
    }

    /// All sockets take output again, those of the crowd first.
    fn ready(&mut self) {
        self.crowd.read_all();
        self.read = empty(&mut self.client);
        assert!(pending(&mut self.rig, self.id) > 0);
    }

    /// The client has read all that was written to its connection, and the end.
    #[track_caller]
    fn expect_all(mut self) {
        let journal = self.rig.journal.clone();
        drop(self.rig);
        assert_eq!(journal.close_of(self.id), Some(("Shutdown".to_owned(), 0)));
        self.client.stream.read_to_end(&mut self.read).expect("an end in order");
        assert_eq!(self.read.len(), self.written);
        assert!(self.read == pattern(ROOM).repeat(self.written / ROOM), "other bytes");
    }
}

/// A limit that is about to strike has a last look at the socket, room or not.
#[test]
fn a_reader_that_keeps_up_is_not_reset_when_no_room_is_left() {
    const PIECE: usize = 20 << 10;
    let grace = Duration::from_secs(1);
    let file = scratch_file(b"");
    file.set_len(1 << 40).unwrap();
    let file = Arc::new(file);
    let endless = Script::new().open(move |conn| {
        assert!(conn.send_file(Arc::clone(&file), ..).unwrap().is_accepted());
    });
    let limits = Limits::default().min_send_rate(Some(MinRate::new(10_000, grace)));
    let mut rig = Rig::with_limits(endless, limits);
    let (mut reader, id) = rig.client();
    fill(&mut rig);
    let mut crowd = Crowd::gather(&mut rig);
    let (begin, mut read) = (Instant::now(), Duration::ZERO);
    let (mut turns, mut full) = (0, 0);
    while begin.elapsed() < 5 * grace {
        // So slowly that the poll does not tell of room within the grace: it does when a third of
        // the buffer is free.
        if begin.elapsed() >= read {
            reader.try_read(PIECE).unwrap();
            read += grace / 10;
        }
        crowd.read(4 * ROOM / READERS);
        let before = rig.reactor.stats().bytes_written;
        rig.turn();
        turns += 1;
        full += u64::from(rig.reactor.stats().bytes_written - before >= ROOM as u64);
        let end = rig.journal.close_of(id);
        assert!(end.is_none(), "{end:?} after {:?}", begin.elapsed());
    }
    assert!(full > turns / 2, "{full} of {turns} turns had no room left");
}

/// What is over the cap of the reactor is first sent where sockets take it, whatever its place.
#[test]
fn nobody_is_shed_for_output_that_waits_for_room() {
    const MAX: usize = 4 * ROOM;
    let tcp = TcpOptions::default().send_buffer_bytes(Some(64 << 10));
    let listen = ListenOptions::default().tcp(tcp);
    let options = ReactorOptions::default().max_queued_bytes(MAX);
    let mut rig = Rig::with(Script::echo(), Journal::default(), listen, options);
    let (_slow, of_slow, _) = blocked(&mut rig);
    let mut it = Crowded::new(rig);
    it.ready();
    // A byte too much, of one who reads nothing: another has more than that waiting.
    let queued = pending(&mut it.rig, of_slow) + pending(&mut it.rig, it.id);
    write(&mut it.rig, of_slow, &pattern(MAX - queued + 1));
    it.rig.turn();
    let stats = it.rig.reactor.stats();
    assert!(stats.closed_overflow == 0 && it.rig.lives(of_slow), "another had its place to send");
    assert!(it.rig.lives(it.id));
}

/// Where edges are emulated, events do not come in the order in which sockets became ready.
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn a_reactor_that_is_dropped_sends_what_waits_for_room() {
    let mut it = Crowded::new(Rig::new(Script::echo()));
    it.ready();
    let (before, waiting) = (it.rig.reactor.stats().bytes_written, pending(&mut it.rig, it.id));
    it.rig.turn();
    let sent = it.rig.reactor.stats().bytes_written - before;
    assert!(sent >= 2 * ROOM as u64, "only {sent} bytes: there is room left");
    assert_eq!(pending(&mut it.rig, it.id), waiting, "it has had its turn");
    it.expect_all();
}

#[test]
fn a_stop_sends_what_waits_for_room() {
    let mut it = Crowded::new(Rig::new(Script::echo()));
    it.ready();
    it.rig.reactor.context().stop();
    it.rig.reactor.run().unwrap();
    it.expect_all();
}
