//! Files among the output: their place in the order, what a turn sends of them, and every way in
//! which a file or its connection may end too soon.

mod order;

use std::fs::File;
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use waterwheel::{
    Conn, ConnId, ConnectOptions, Limits, ListenOptions, OnOverflow, TcpOptions, Written,
};

use crate::support::{Call, Client, End, Rig, Script, pattern, scratch_file, scratch_path};

/// More than the kernel takes of a connection that nobody reads.
const LOTS: usize = 24 << 20;

/// What a turn may send of one connection's files: a budget for each of its event, the ready
/// queue, and the end of the turn.
const MOST_A_TURN: u64 = 3 << 20;

/// So many bytes, made once: in a build for tests that takes a second.
fn lots() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| pattern(LOTS))
}

fn with<R>(rig: &mut Rig, id: ConnId, run: impl FnOnce(&mut Conn<'_>) -> R) -> R {
    run(&mut rig.reactor.context().conn(id).expect("it lives"))
}

fn pending(rig: &mut Rig, id: ConnId) -> usize {
    with(rig, id, |conn| conn.pending_bytes())
}

/// A connection whose peer has not read yet.
fn connected(limits: Limits) -> (Rig, Client, ConnId) {
    let mut rig = Rig::with_limits(Script::new().eof(|_| {}), limits);
    let (client, id) = rig.client();
    rig.turn();
    (rig, client, id)
}

/// Turns until the kernel takes no more.
#[track_caller]
fn fill(rig: &mut Rig) {
    let mut before = u64::MAX;
    rig.until("the socket is full", |rig| {
        let now = rig.reactor.stats().bytes_written;
        std::mem::replace(&mut before, now) == now
    });
}

#[test]
fn a_file_stands_between_what_was_written_before_and_after() {
    let bytes = pattern(100_000);
    let file = Arc::new(scratch_file(&bytes));
    let sent = bytes.clone();
    let script = Script::new().data(move |conn, input| {
        conn.write(b"before ");
        conn.write(b"it ");
        let written = conn.send_file(Arc::clone(&file), ..).unwrap();
        assert_eq!(written, Written::Below);
        assert_eq!(conn.write(b" between "), Written::Below);
        conn.send_file(Arc::clone(&file), 5..9).unwrap();
        conn.write(b" after");
        let of_files = conn.pending_file_bytes();
        assert!((5..=100_004).contains(&of_files), "{of_files}: a part has left at once at most");
        assert_eq!(conn.pending_bytes() - of_files as usize, 9 + 6);
        input.len()
    });
    let tcp = TcpOptions::default().send_buffer_bytes(Some(4_096));
    let mut rig = Rig::with_listen(script, ListenOptions::default().tcp(tcp));
    let (mut client, id) = rig.client();
    client.send(b"?");
    let expected = [&b"before it "[..], &sent, b" between ", &sent[5..9], b" after"].concat();
    rig.expect(&mut client, &expected);
    assert_eq!(pending(&mut rig, id), 0);
    // It is a connection like any other again.
    client.send(b"?");
    rig.expect(&mut client, &expected);
    rig.expect_quiet();
}

/// With what was written before it, and as long as others have not used up the room of the turn.
#[test]
fn a_small_file_leaves_within_the_callback() {
    let bytes = pattern(1_000);
    let file = Arc::new(scratch_file(&bytes));
    let (tell, told) = channel();
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        conn.write(b"before ");
        conn.send_file(Arc::clone(&file), ..).unwrap();
        tell.send(conn.pending_bytes()).unwrap();
        conn.write(b" after");
        input.len()
    }));
    let (mut client, _) = rig.client();
    client.send(b"?");
    rig.expect(&mut client, &[&b"before "[..], &bytes, b" after"].concat());
    assert_eq!(told.recv().unwrap(), 0);
    rig.expect_quiet();
}

#[test]
fn ranges_say_which_bytes() {
    let bytes = pattern(1_000);
    let (mut rig, mut client, id) = connected(Limits::default());
    let file = Arc::new(scratch_file(&bytes));
    let send = |rig: &mut Rig, file: &Arc<File>| {
        with(rig, id, |conn| {
            for written in [
                conn.send_file(file.clone(), ..),
                conn.send_file(file.clone(), 990..),
                conn.send_file(file.clone(), ..7),
                conn.send_file(file.clone(), 3..=5),
                conn.send_file(file.clone(), 500..500),
                conn.send_file(file.clone(), 1_000..),
                conn.send_file(file.clone(), 1_000..1_000),
            ] {
                assert_eq!(written.unwrap(), Written::Below);
            }
        });
    };
    send(&mut rig, &file);
    let expected = [&bytes, &bytes[990..], &bytes[..7], &bytes[3..=5]].concat();
    rig.expect(&mut client, &expected);
    rig.expect_quiet();
}

#[test]
fn a_range_that_the_file_does_not_have_is_refused_and_nothing_is_queued() {
    let (mut rig, mut client, id) = connected(Limits::default());
    let file = Arc::new(scratch_file(&[7; 100]));
    with(&mut rig, id, |conn| {
        let expect = |result: io::Result<Written>, text: &str| {
            let error = result.expect_err(text);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), format!("cannot send the file: {text}"));
        };
        let past = |range: &str| format!("the range {range} goes past the end of its 100 bytes");
        expect(conn.send_file(file.clone(), 0..101), &past("0..101"));
        expect(conn.send_file(file.clone(), ..=100), &past("0..101"));
        expect(conn.send_file(file.clone(), 101..), &past("101..100"));
        expect(conn.send_file(file.clone(), 200..300), &past("200..300"));
        let range = std::ops::Range { start: 9, end: 4 };
        expect(conn.send_file(file.clone(), range), "the range 9..4 runs backwards");
        expect(conn.send_file(file.clone(), 5..=u64::MAX), &past(&format!("5..{}", u64::MAX)));
        for path in if cfg!(unix) { &["/", "/dev/zero"][..] } else { &[] } {
            let text = "it is neither a file nor a disk";
            expect(conn.send_file(File::open(path).unwrap(), 0..1), text);
        }
        if cfg!(unix) {
            let path = scratch_path();
            let file = File::create(&path).unwrap();
            expect(conn.send_file(file, ..), "it was opened for writing only");
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(conn.pending_bytes(), 0);
        conn.write(b"goes on");
    });
    rig.expect(&mut client, b"goes on");
}

#[test]
fn a_slow_reader_costs_no_memory_and_gets_it_all() {
    let bytes = lots();
    let limits = Limits::default()
        .low_mark_bytes(100)
        .high_mark_bytes(1_000)
        .max_output_bytes(1_000)
        .on_overflow(OnOverflow::Refuse);
    let (mut rig, mut client, id) = connected(limits);
    let file = scratch_file(bytes);
    assert_eq!(with(&mut rig, id, |conn| conn.send_file(file, ..)).unwrap(), Written::Above);
    // The cap is for bytes in memory.
    with(&mut rig, id, |conn| {
        assert_eq!(conn.write(&[1; 600]), Written::Above);
        assert_eq!(conn.write(&[2; 401]), Written::Full);
        assert_eq!(conn.write(&[2; 400]), Written::Above);
        assert_eq!(conn.write(&[3; 1]), Written::Full);
        assert_eq!(conn.pending_bytes(), LOTS + 1_000);
    });
    fill(&mut rig);
    assert!(pending(&mut rig, id) > 1_000);
    rig.expect_quiet();
    assert!(!rig.journal.has(&Call::Drain));
    rig.expect(&mut client, &[bytes, &[1; 600], &[2; 400]].concat());
    rig.until("drained", |rig| rig.journal.has(&Call::Drain));
    rig.expect_quiet();
    assert_eq!(rig.journal.count(|call| *call == Call::Drain), 1);
}

#[test]
fn progress_is_told_and_never_goes_back() {
    let (mut rig, mut client, id) = connected(Limits::default());
    let file = scratch_file(lots());
    with(&mut rig, id, |conn| conn.send_file(file, ..)).unwrap();
    let (mut left, mut steps, mut read) = (LOTS as u64, 0, 0);
    while read < LOTS {
        rig.turn();
        let now = with(&mut rig, id, |conn| conn.pending_file_bytes());
        assert!(now <= left);
        assert_eq!(LOTS as u64 - now, rig.reactor.stats().bytes_written);
        steps += u32::from(now < left);
        left = now;
        read += client.try_read(1 << 20).unwrap().len();
    }
    assert_eq!(left, 0);
    assert!(steps > 8, "all went in {steps} turns");
}

#[test]
fn a_turn_sends_no_more_than_a_budget_and_others_are_served() {
    let file = Arc::new(scratch_file(lots()));
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        match input {
            b"file" => drop(conn.send_file(file.clone(), ..).unwrap()),
            input => drop(conn.write(input)),
        }
        input.len()
    }));
    let (mut greedy, _) = rig.client();
    let (mut modest, id) = rig.client();
    greedy.send(b"file");
    let (mut read, mut echoes) = (0, 0);
    let mut asked_at = None;
    let mut turns = 0;
    while read < LOTS {
        let before = rig.reactor.stats().bytes_written;
        rig.turn();
        turns += 1;
        let written = rig.reactor.stats().bytes_written - before;
        assert!(written <= MOST_A_TURN + 4, "{written} bytes in one turn");
        read += greedy.try_read(8 << 20).unwrap().len();
        match asked_at {
            None => {
                modest.send(b"echo");
                asked_at = Some(turns);
            }
            Some(then) if modest.try_read(9).unwrap() == b"echo" => {
                // The send may be seen a turn late.
                assert!(turns - then <= 4, "an echo took {} turns", turns - then);
                (echoes, asked_at) = (echoes + 1, None);
            }
            Some(_) => {}
        }
    }
    assert!(echoes >= 3, "{echoes}");
    assert!(rig.journal.calls_of(id).contains(&Call::Data(b"echo".to_vec())));
}

#[test]
fn many_connections_send_one_file_at_once() {
    const CLIENTS: usize = 20;
    let bytes = pattern(3 << 20);
    let file = Arc::new(scratch_file(&bytes));
    let mut rig = Rig::new(Script::new().open(move |conn| {
        conn.send_file(file.clone(), ..).unwrap();
        conn.shutdown_write();
    }));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(rig.addr)).collect();
    let mut received = vec![Vec::new(); CLIENTS];
    let mut ends = [None; CLIENTS];
    rig.until("all of all", |_| {
        for (client, (received, end)) in
            clients.iter_mut().zip(received.iter_mut().zip(ends.iter_mut()))
        {
            match client.try_read(100_000) {
                Ok(more) => received.extend(more),
                Err(found) => *end = Some(found),
            }
        }
        ends.iter().all(Option::is_some)
    });
    assert!(ends.iter().all(|end| *end == Some(End::Fin)));
    assert!(received.iter().all(|received| *received == bytes));
}

#[test]
fn close_sends_the_file_first() {
    let bytes = lots();
    let file = Arc::new(scratch_file(bytes));
    let mut rig = Rig::new(Script::new().open(move |conn| {
        conn.send_file(file.clone(), ..).unwrap();
        conn.write(b"the end");
        conn.close();
        assert_eq!(conn.send_file(file.clone(), ..).unwrap(), Written::Closed);
    }));
    let (mut client, id) = rig.client();
    let (received, end) = rig.read_to_end(&mut client);
    assert!(received == [bytes, b"the end"].concat());
    assert_eq!(end, End::Fin);
    client.finish();
    rig.expect_end(id, "Local");
}

#[test]
fn a_close_that_takes_too_long_is_cut_by_a_reset_and_told_to_the_byte() {
    let limits = Limits::default().close_timeout(Duration::from_millis(50));
    let (mut rig, mut client, id) = connected(limits);
    with(&mut rig, id, |conn| {
        conn.write(b"head");
        conn.send_file(scratch_file(lots()), ..).unwrap();
        conn.write(b"tail");
        conn.close();
    });
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Timeout(Close)");
    assert!(unsent > 4);
    assert_eq!(unsent as u64 + rig.reactor.stats().bytes_written, LOTS as u64 + 8);
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
}

#[test]
fn an_abort_drops_the_file_and_counts_it() {
    let (mut rig, mut client, id) = connected(Limits::default());
    let file = Arc::new(scratch_file(lots()));
    with(&mut rig, id, |conn| conn.send_file(file.clone(), ..)).unwrap();
    fill(&mut rig);
    with(&mut rig, id, |conn| {
        conn.write(&[1; 500]);
        conn.send_file(file.clone(), 0..77).unwrap();
        conn.abort();
        assert_eq!((conn.pending_bytes(), conn.pending_file_bytes()), (0, 0));
    });
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Local");
    assert_eq!(unsent as u64 + rig.reactor.stats().bytes_written, LOTS as u64 + 577);
    assert_eq!(Arc::strong_count(&file), 1, "the file is still held");
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
}

#[test]
fn a_peer_that_goes_away_is_told_with_what_was_lost() {
    let (mut rig, client, id) = connected(Limits::default());
    with(&mut rig, id, |conn| conn.send_file(scratch_file(lots()), ..)).unwrap();
    fill(&mut rig);
    client.reset();
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Reset");
    assert_eq!(unsent as u64 + rig.reactor.stats().bytes_written, LOTS as u64);
}

#[test]
fn a_file_that_is_cut_short_ends_in_a_reset_that_says_so() {
    // Some of it is on its way, or nothing.
    for sent_before in [true, false] {
        let (mut rig, mut client, id) = connected(Limits::default());
        let file = Arc::new(scratch_file(lots()));
        with(&mut rig, id, |conn| {
            conn.send_file(file.clone(), ..).unwrap();
            conn.write(b"and this");
        });
        if sent_before {
            fill(&mut rig);
        }
        // What the peer has sent before is delivered, also now.
        client.send(b"still heard");
        file.set_len(1_000).unwrap();
        let (received, end) = rig.read_to_end(&mut client);
        assert_eq!(end, End::Reset);
        assert!(received.len() < LOTS);
        let (reason, unsent) = rig.end_of(id);
        let text = "the file that is being sent was cut short: it ends at byte ";
        assert!(reason.contains(text) && reason.contains("UnexpectedEof"), "{reason}");
        assert_eq!(unsent as u64 + rig.reactor.stats().bytes_written, LOTS as u64 + 8);
        assert!(reason.contains(&format!("{} bytes are missing", unsent - 8)), "{reason}");
        assert!(rig.journal.data_of(id) == b"still heard");
    }
}

/// A descriptor that only stands for a file looks as one that can be read, until it is. With musl
/// `O_PATH` is a part of the access mode, which is not for `custom_flags` to say.
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
#[test]
fn a_file_that_cannot_be_read_ends_in_a_reset() {
    use std::os::unix::fs::OpenOptionsExt;

    let (mut rig, mut client, id) = connected(Limits::default());
    let path = scratch_path();
    File::create(&path).unwrap().set_len(1_000).unwrap();
    let only_a_path = rustix::fs::OFlags::PATH.bits() as i32;
    let unreadable = File::options().read(true).custom_flags(only_a_path).open(&path).unwrap();
    with(&mut rig, id, |conn| conn.send_file(unreadable, ..)).unwrap();
    let (reason, unsent) = rig.end_of(id);
    assert!(reason.starts_with("Io("), "{reason}");
    assert_eq!(unsent, 1_000);
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn more_files_than_may_be_queued_are_an_overflow() {
    for policy in [OnOverflow::Refuse, OnOverflow::Close] {
        let (mut rig, mut client, id) = connected(Limits::default().on_overflow(policy));
        let file = Arc::new(scratch_file(&pattern(64)));
        with(&mut rig, id, |conn| {
            for _ in 0..1_024 {
                assert_eq!(conn.send_file(file.clone(), ..).unwrap(), Written::Below);
            }
            assert_eq!(conn.send_file(file.clone(), ..).unwrap(), Written::Full);
        });
        match policy {
            OnOverflow::Refuse => drop(rig.read(&mut client, 64 * 1_024)),
            _ => assert_eq!(rig.end_of(id), ("Overflow".to_owned(), 64 * 1_024)),
        }
        assert_eq!(Arc::strong_count(&file), 1);
    }
}

#[test]
fn a_file_may_be_queued_before_the_connection_is_up() {
    let bytes = pattern(600_000);
    let mut rig = Rig::new(Script::new().eof(|_| {}));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let id = rig.connect(addr, 1, &ConnectOptions::default());
    with(&mut rig, id, |conn| {
        conn.write(b"first ");
        conn.send_file(scratch_file(&bytes), ..).unwrap();
        conn.write(b" last");
        conn.close();
    });
    let mut client = Client::from(listener.accept().unwrap().0);
    let (received, end) = rig.read_to_end(&mut client);
    assert!(received == [b"first ", &bytes[..], b" last"].concat());
    assert_eq!(end, End::Fin);
    client.finish();
    rig.expect_end(id, "Local");
}

#[test]
fn reading_is_held_back_while_a_file_waits_unless_it_is_told_not_to() {
    for pauses in [true, false] {
        let (mut rig, mut client, id) = connected(Limits::default().pause_at_high_mark(pauses));
        with(&mut rig, id, |conn| conn.send_file(scratch_file(lots()), ..)).unwrap();
        fill(&mut rig);
        client.send(b"hello");
        rig.expect_quiet();
        assert_eq!(rig.journal.data_of(id).is_empty(), pauses);
        rig.read(&mut client, LOTS);
        rig.until("heard", |rig| rig.journal.data_of(id) == b"hello");
    }
}

#[test]
fn bytes_of_a_file_that_leave_are_no_silence() {
    const LIMIT: Duration = Duration::from_millis(500);
    let file = scratch_file(lots());
    // The system tells of room when a third of its buffer is free. This one is so small that each
    // step frees it whole; how far it would grow by itself is the system's choice.
    let tcp = TcpOptions::default().send_buffer_bytes(Some(64 << 10));
    let limits = Limits::default().write_idle(Some(LIMIT));
    let options = ListenOptions::default().limits(limits).tcp(tcp);
    let mut rig = Rig::with_listen(Script::new().eof(|_| {}), options);
    let (mut client, id) = rig.client();
    with(&mut rig, id, |conn| conn.send_file(file, ..)).unwrap();
    let start = Instant::now();
    // As a whole it takes longer than the limit, and something leaves all the while.
    for step in 0u32.. {
        if start.elapsed() > 2 * LIMIT {
            break;
        }
        rig.until("a step", |_| start.elapsed() > step * LIMIT / 12);
        client.try_read(512 << 10).unwrap();
        rig.turn();
    }
    assert!(rig.journal.closes() == 0);
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Idle");
    assert!(unsent > 0);
    assert_eq!(unsent as u64 + rig.reactor.stats().bytes_written, LOTS as u64);
}
