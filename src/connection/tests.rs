//! Every interleaving of what a socket may do, for short scripts.

use std::time::Duration;

use super::*;
use crate::options::Limits;

/// No turn has crossed into the next tick.
fn exact(stamp: u64) -> u64 {
    stamp
}

/// What a scripted stream does at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Moves at most so many bytes.
    Move(usize),
    WouldBlock,
    Interrupted,
    /// `Ok(0)`: the end, or a write that went nowhere.
    Zero,
    Reset,
}

const ACTS: [Act; 6] =
    [Act::Move(1), Act::Move(3), Act::WouldBlock, Act::Interrupted, Act::Zero, Act::Reset];

/// A stream that acts by a script and then moves whatever it is asked to.
#[derive(Debug, Default)]
struct Scripted {
    script: Vec<Act>,
    /// Calls so far.
    calls: usize,
    /// What it gives to readers, in order, without end.
    given: u8,
    /// What writers gave it.
    taken: Vec<u8>,
}

impl Scripted {
    fn next(&mut self, most: usize) -> io::Result<usize> {
        let act = self.script.get(self.calls).copied();
        self.calls += 1;
        match act.unwrap_or(Act::Move(usize::MAX)) {
            Act::Move(count) => Ok(count.min(most)),
            Act::WouldBlock => Err(io::ErrorKind::WouldBlock.into()),
            Act::Interrupted => Err(io::ErrorKind::Interrupted.into()),
            Act::Zero => Ok(0),
            Act::Reset => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl Read for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.next(buffer.len())?;
        for byte in &mut buffer[..count] {
            *byte = self.given;
            self.given = self.given.wrapping_add(1);
        }
        Ok(count)
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write of nothing");
        let count = self.next(bytes.len())?;
        self.taken.extend(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(parts.iter().all(|part| !part.is_empty()));
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connection(script: &[Act]) -> Connection<Scripted> {
    let stream = Scripted { script: script.to_vec(), ..Scripted::default() };
    let profile = Rc::new(Profile::new(&Limits::default(), 0));
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    Connection::new(stream, 1, peer, profile, Phase::Open, 0)
}

/// Calls `each` with every script of up to `most` acts.
fn each_script(most: u32, mut each: impl FnMut(&[Act])) {
    for length in 0..=most {
        for number in 0..ACTS.len().pow(length) {
            let act = |place: u32| ACTS[number / ACTS.len().pow(place) % ACTS.len()];
            let script: Vec<Act> = (0..length).map(act).collect();
            each(&script);
        }
    }
}

/// What a script lets through when `wanted` bytes are written, call after call, until it blocks,
/// fails or all is out; at most `budget` calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    bytes: usize,
    /// Calls that moved bytes.
    moves: u64,
    /// All calls.
    calls: usize,
    is_blocked: bool,
    error: Option<io::ErrorKind>,
}

impl Model {
    fn run(script: &[Act], wanted: usize, short_is_full: bool, budget: usize) -> Self {
        let mut model = Self::default();
        while model.bytes < wanted && model.calls < budget {
            let act = script.get(model.calls).copied();
            model.calls += 1;
            match act.unwrap_or(Act::Move(usize::MAX)) {
                Act::Move(count) => {
                    let left = wanted - model.bytes;
                    model.bytes += count.min(left);
                    model.moves += 1;
                    model.is_blocked = short_is_full && count < left;
                }
                Act::WouldBlock => model.is_blocked = true,
                Act::Interrupted => {}
                Act::Zero => model.error = Some(io::ErrorKind::WriteZero),
                Act::Reset => model.error = Some(io::ErrorKind::ConnectionReset),
            }
            if model.is_blocked || model.error.is_some() {
                break;
            }
        }
        model
    }

    #[track_caller]
    fn expect(&self, sent: &Sent, calls: usize) {
        let error = sent.error.as_ref().map(io::Error::kind);
        let found = Self {
            bytes: sent.bytes,
            moves: sent.calls,
            calls,
            is_blocked: sent.is_blocked,
            error,
        };
        assert_eq!(*self, found);
    }
}

fn ascending(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|byte| byte as u8).collect()
}

#[test]
fn send_takes_what_the_stream_takes_and_queues_the_rest_in_order() {
    let mut spares = Spares::default();
    for short_is_full in [true, false] {
        for (first, second) in [(0, 0), (0, 4), (4, 0), (1, 1), (2, 5), (5, 2)] {
            let all = ascending(0, first + second);
            each_script(5, |script| {
                let mut connection = connection(script);
                let (one, two) = all.split_at(first);
                let sent = connection.send(one, two, Sent::default(), short_is_full, &mut spares);
                let model = Model::run(script, all.len(), short_is_full, usize::MAX);
                model.expect(&sent, connection.stream.calls);
                assert_eq!(connection.stream.taken, all[..model.bytes]);
                assert_eq!(connection.output.as_slice(), &all[model.bytes..]);
                assert_eq!(connection.output.is_empty(), model.bytes == all.len());
            });
        }
    }
}

/// A write was tried already: `send` goes on where it stopped, or only queues if it is over.
#[test]
fn send_goes_on_behind_what_is_done() {
    let mut spares = Spares::default();
    let all = ascending(0, 7);
    for short_is_full in [true, false] {
        each_script(4, |script| {
            let mut connection = connection(script);
            let (one, two) = all.split_at(4);
            let mut sent = Sent::default();
            let result = connection.stream.write(one);
            sent.count(result, one.len(), short_is_full);
            let begun = sent.bytes;
            let sent = connection.send(one, two, sent, short_is_full, &mut spares);
            assert!(sent.bytes >= begun);
            assert_eq!(connection.stream.taken, all[..sent.bytes]);
            assert_eq!(connection.output.as_slice(), &all[sent.bytes..]);
            let moves = connection.stream.script.iter().take(connection.stream.calls);
            let scripted = moves.filter(|act| matches!(act, Act::Move(_))).count();
            let beyond = connection.stream.calls.saturating_sub(script.len());
            assert_eq!(sent.calls, (scripted + beyond) as u64);
            let is_over = sent.is_blocked || sent.error.is_some();
            assert!(is_over || sent.bytes == all.len());
        });
    }
}

#[test]
fn flush_sends_the_queue_in_order_within_its_budget() {
    let mut spares = Spares::default();
    let all = ascending(0, 7);
    for short_is_full in [true, false] {
        for budget in [1, 2, 4] {
            each_script(5, |script| {
                let mut connection = connection(script);
                connection.output.push(&all, &mut spares);
                let sent = connection.flush(budget, short_is_full, &mut spares);
                let model = Model::run(script, all.len(), short_is_full, budget);
                model.expect(&sent, connection.stream.calls);
                assert_eq!(connection.stream.taken, all[..model.bytes]);
                assert_eq!(connection.output.as_slice(), &all[model.bytes..]);
            });
        }
    }
}

/// As the loop uses them: one send, what callbacks queue behind it, and flushes until all is out.
#[test]
fn sends_queued_writes_and_flushes_keep_one_order() {
    let mut spares = Spares::default();
    each_script(6, |script| {
        let mut connection = connection(script);
        let (one, two, three) = (ascending(0, 3), ascending(3, 2), ascending(5, 4));
        let mut sent = connection.send(&one, &two, Sent::default(), true, &mut spares);
        let mut total = sent.bytes;
        if connection.output.is_empty() {
            sent = connection.send(&three, &[], Sent::default(), true, &mut spares);
            total += sent.bytes;
        } else {
            connection.output.push(&three, &mut spares);
        }
        let mut error = sent.error.is_some();
        while !connection.output.is_empty() && !error {
            let flushed = connection.flush(2, true, &mut spares);
            total += flushed.bytes;
            error = flushed.error.is_some();
        }
        let all = ascending(0, 9);
        assert_eq!(connection.stream.taken, all[..total]);
        let queued = connection.output.len();
        assert!(error || total == 9 && queued == 0);
        assert_eq!(total + queued, 9, "a byte is lost or doubled: {script:?}");
    });
}

#[test]
fn receive_gives_what_the_stream_gives_and_hides_interruptions() {
    each_script(6, |script| {
        let mut connection = connection(script);
        let (mut received, mut buffer) = (Vec::<u8>::new(), [0; 2]);
        for act in script.iter().filter(|act| **act != Act::Interrupted) {
            match (act, connection.receive(&mut buffer)) {
                (Act::Move(most), Received::Bytes(count)) => {
                    assert_eq!(count, buffer.len().min(*most));
                    received.extend(&buffer[..count]);
                }
                (Act::WouldBlock, Received::Blocked) | (Act::Zero, Received::End) => {}
                (Act::Reset, Received::Broken(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                }
                (act, received) => panic!("{act:?} gave {received:?}"),
            }
        }
        assert_eq!(received, ascending(0, received.len()));
    });
}

#[test]
fn the_marks_are_crossed_once_each_way() {
    let mut spares = Spares::default();
    let mut connection = connection(&[]);
    let limits = Limits::default().high_mark_bytes(10).low_mark_bytes(4);
    connection.profile = Rc::new(Profile::new(&limits, 0));
    let mut is_above = false;
    // Up and down by ones and threes, over both marks again and again.
    for step in 0..1000_usize {
        if step / 25 % 2 == 0 {
            connection.output.push(&[0; 3][..1 + step % 3], &mut spares);
        } else {
            let count = (1 + step % 3).min(connection.output.len());
            connection.output.consume(count, &mut spares);
        }
        let length = connection.output.len();
        assert_eq!(connection.crosses_high_mark(), !is_above && length >= 10);
        is_above |= length >= 10;
        assert_eq!(connection.crosses_low_mark(), is_above && length <= 4);
        is_above &= length > 4;
        assert_eq!(connection.is_backed_up, is_above);
    }
}

/// An open connection under these limits.
fn opened(limits: &Limits) -> Connection<Scripted> {
    let mut connection = connection(&[]);
    connection.profile = Rc::new(Profile::new(limits, 0));
    connection.open(0);
    connection
}

#[test]
fn only_a_connection_of_which_nothing_else_can_be_said_is_plain() {
    let unusual: [fn(&mut Connection<Scripted>); 9] = [
        |it| it.phase = Phase::Closing,
        |it| it.hung_up = true,
        |it| it.is_ended = true,
        |it| it.is_paused = true,
        |it| it.wants_fin = true,
        |it| it.output.push(b"x", &mut Spares::default()),
        |it| it.input.push(b"x", &mut Spares::default()),
        |it| it.set_user_deadline(Some(9)),
        |it| it.profile = Rc::new(Profile::new(&watching(), 0)),
    ];
    for (number, change) in unusual.into_iter().enumerate() {
        let mut connection = opened(&Limits::default());
        assert!(connection.is_plain && connection.looks_plain());
        change(&mut connection);
        assert!(!connection.looks_plain(), "number {number}");
    }
}

/// Limits under which incomplete messages are watched.
fn watching() -> Limits {
    Limits::default().message_timeout(Some(Duration::from_secs(1)))
}

#[test]
fn a_connection_is_plain_again_once_its_first_byte_is_there() {
    let limits = Limits::default();
    let limits = limits.first_byte_timeout(Some(Duration::from_millis(50)));
    let mut connection = opened(&limits);
    assert!(!connection.is_plain);
    assert_eq!(connection.expired(50, exact), None);
    assert_eq!(connection.expired(51, exact), Some(Expiry::Timeout(TimeoutKind::FirstByte)));
    connection.note_received(1, 20);
    assert_eq!(connection.expired(51, exact), None);
    connection.drop_unused();
    assert!(connection.rare.is_none() && connection.looks_plain());
}

/// A peer that is sent nothing does not read too slowly.
#[test]
fn the_rate_of_sending_is_watched_while_output_is_queued() {
    let grace = Duration::from_millis(100);
    let rate = crate::options::MinRate::new(1_000, grace);
    let limits = Limits::default().all_idle(None).read_idle(None).write_idle(None);
    let limits = limits.min_send_rate(Some(rate));
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), u64::MAX);
    let mut spares = Spares::default();
    connection.queue_output(&[0; 600], &mut spares);
    connection.watch_output(7);
    assert_eq!(connection.deadline(exact), after(7, 100));
    connection.output.consume(500, &mut spares);
    connection.note_sent(500, 8);
    assert_eq!(connection.deadline(exact), after(7, 500), "500 bytes pay for 500 ms");
    connection.output.consume(100, &mut spares);
    connection.note_sent(100, 9);
    assert_eq!(connection.deadline(exact), u64::MAX);
    // What was written while it was connecting counts from when it came up.
    let mut early = self::connection(&[]);
    early.profile = Rc::clone(&connection.profile);
    early.queue_output(b"early", &mut spares);
    early.open(30);
    assert_eq!(early.deadline(exact), after(30, 100));
}

#[test]
fn reading_goes_on_as_long_as_it_is_of_use() {
    // Phase, ended, broken, paused: whether it wants to read.
    let table = [
        (Phase::Open, false, false, false, true),
        (Phase::Open, true, false, false, false),
        (Phase::Open, false, false, true, false),
        (Phase::Open, true, true, true, true),
        (Phase::Closing, false, false, true, true),
        (Phase::Closing, true, false, false, false),
        (Phase::Closing, true, true, false, true),
        (Phase::Lingering, false, false, false, true),
        (Phase::Lingering, true, false, false, false),
        (Phase::Severed, true, false, true, true),
        (Phase::Connecting, false, false, false, false),
        (Phase::Dead, false, true, false, false),
    ];
    for (phase, ended, broken, paused, wants) in table {
        let mut connection = opened(&Limits::default());
        connection.phase = phase;
        (connection.is_ended, connection.is_broken, connection.is_paused) = (ended, broken, paused);
        assert_eq!(connection.wants_read(), wants, "{phase:?} {ended} {broken} {paused}");
    }
}

#[test]
fn a_callback_gathers_its_writes_only_before_an_empty_queue() {
    let mut connection = opened(&Limits::default());
    let room = connection.profile.cork_room;
    assert!(room > 1);
    assert_eq!(connection.cork_room(), room);
    connection.wants_fin = true;
    assert_eq!(connection.cork_room(), 0);
    connection.wants_fin = false;
    connection.phase = Phase::Connecting;
    assert_eq!(connection.cork_room(), 0);
    connection.phase = Phase::Open;
    connection.queue_output(b"x", &mut Spares::default());
    assert_eq!(connection.cork_room(), 0);
}

#[test]
fn an_incomplete_message_is_watched_and_a_new_one_gets_a_full_measure() {
    let rate = crate::options::MinRate::new(1_000, Duration::from_millis(100));
    let limits = watching().min_receive_rate(Some(rate)).all_idle(None);
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), u64::MAX);
    connection.watch_message(true, true, 10);
    assert_eq!(connection.deadline(exact), after(10, 100));
    connection.note_received(300, 20);
    connection.note_received(100, 30);
    assert_eq!(connection.deadline(exact), after(10, 400), "400 bytes pay for 400 ms");
    connection.watch_message(true, false, 50);
    assert_eq!(connection.deadline(exact), after(10, 400), "the same message");
    connection.note_received(900, 60);
    assert_eq!(connection.deadline(exact), after(10, 1_000), "its time is over whatever the rate");
    assert_eq!(connection.expired(after(10, 1_000) - 1, exact), None);
    assert_eq!(
        connection.expired(after(10, 1_300), exact),
        Some(Expiry::Timeout(TimeoutKind::Message)),
        "the earlier of two"
    );
    connection.watch_message(true, true, 70);
    assert_eq!(connection.deadline(exact), after(70, 100));
    connection.is_paused = true;
    assert_eq!(
        connection.expired(after(70, 1_000), exact),
        Some(Expiry::Timeout(TimeoutKind::ReceiveRate))
    );
    connection.is_paused = false;
    connection.watch_message(false, false, 80);
    assert_eq!(connection.deadline(exact), u64::MAX);
}

#[test]
fn the_time_to_close_is_given_once() {
    let mut connection = opened(&Limits::default());
    connection.enter(Phase::Closing);
    connection.set_close_wait(10, 100);
    connection.set_close_wait(50, 100);
    assert_eq!(connection.deadline(exact), after(10, 100));
    assert_eq!(connection.expired(111, exact), Some(Expiry::Timeout(TimeoutKind::Close)));
    connection.enter(Phase::Dead);
    assert_eq!((connection.deadline(exact), connection.expired(u64::MAX, exact)), (u64::MAX, None));
}

#[test]
fn each_kind_of_silence_counts_from_its_own_clock() {
    let ms = |ms| Some(Duration::from_millis(ms));
    let limits = Limits::default().read_idle(ms(100)).write_idle(ms(200)).all_idle(ms(150));
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), after(0, 100));
    connection.note_received(1, 40);
    assert_eq!(connection.deadline(exact), after(40, 100));
    assert_eq!(connection.expired(141, exact), Some(Expiry::Idle(IdleKind::Read)));
    connection.keep(IdleKind::Read, 141);
    assert_eq!((connection.read_at, connection.written_at), (141, 0));
    assert_eq!(connection.expired(201, exact), Some(Expiry::Idle(IdleKind::Write)));
    connection.keep(IdleKind::Write, 201);
    assert_eq!((connection.read_at, connection.written_at), (141, 201));
    connection.is_paused = true; // it is not the peer who is silent
    assert_eq!(connection.expired(after(201, 150), exact), Some(Expiry::Idle(IdleKind::All)));
    connection.keep(IdleKind::All, 352);
    assert_eq!((connection.read_at, connection.written_at), (352, 352));
    connection.set_idle_limits(IdleLimits { read: None, write: None, all: None });
    assert_eq!(connection.deadline(exact), u64::MAX);
}

#[test]
fn a_handlers_deadline_ends_with_the_open_phase() {
    let mut connection = opened(&Limits::default().all_idle(None));
    connection.set_user_deadline(None);
    assert!(connection.rare.is_none(), "nothing to forget");
    connection.set_user_deadline(Some(70));
    assert_eq!(connection.deadline(exact), 70);
    assert_eq!(connection.expired(69, exact), None);
    assert_eq!(connection.expired(70, exact), Some(Expiry::Timeout(TimeoutKind::User)));
    connection.set_user_deadline(None);
    assert_eq!(connection.deadline(exact), u64::MAX);
    connection.set_user_deadline(Some(70));
    connection.sever(CloseReason::Reset, 5);
    connection.add_unsent(3);
    assert_eq!(connection.unsent(), 8);
    assert_eq!(connection.deadline(exact), u64::MAX);
    assert!(connection.may_read && connection.hung_up && connection.wants_read());
    connection.sever(CloseReason::Overflow, 0);
    assert!(matches!(connection.take_severed_by(), Some(CloseReason::Reset)), "the first cause");
    assert!(connection.take_severed_by().is_none());
}

#[test]
fn a_list_of_timers_forgets_the_fired_before_it_grows() {
    let mut connection = opened(&Limits::default());
    let timer = |number: u32| TimerId::new(number, 1);
    for number in 0..1_000 {
        connection.add_timer(timer(number), |kept| kept.index() + 2 > number as usize);
    }
    let rare = connection.rare.as_ref().unwrap();
    assert!(rare.timers.capacity() <= 8, "room for {}", rare.timers.capacity());
    connection.remove_timer(timer(999));
    let left = connection.take_timers();
    assert!(left.contains(&timer(998)) && !left.contains(&timer(999)), "{left:?}");
    assert!(connection.take_timers().is_empty());
    connection.drop_unused();
    assert!(connection.rare.is_none());
}

#[test]
fn each_thing_that_few_connections_need_is_kept() {
    let needed: [fn(&mut Connection<Scripted>); 8] = [
        |it| it.set_idle_limits(IdleLimits { read: None, write: None, all: None }),
        |it| it.set_close_wait(0, 1),
        |it| it.set_user_deadline(Some(1)),
        |it| it.rare_mut().receiving = Some(Meter { since: 0, bytes: 0 }),
        |it| it.rare_mut().sending = Some(Meter { since: 0, bytes: 0 }),
        |it| it.add_timer(TimerId::new(0, 1), |_| true),
        |it| it.rare_mut().severed_by = Some(CloseReason::Reset),
        |it| it.add_unsent(1),
    ];
    for (number, need) in needed.into_iter().enumerate() {
        let mut connection = opened(&Limits::default());
        need(&mut connection);
        connection.drop_unused();
        assert!(connection.rare.is_some(), "number {number}");
    }
    let mut connection = opened(&Limits::default());
    connection.add_unsent(0);
    assert!(connection.rare.is_none());
}

#[test]
fn a_connect_has_its_time_and_then_no_more() {
    let mut connection = connection(&[]);
    connection.phase = Phase::Connecting;
    connection.set_connect_wait(10, 100);
    assert_eq!(connection.deadline(exact), after(10, 100));
    assert_eq!(connection.expired(after(10, 100) - 1, exact), None);
    assert_eq!(connection.expired(after(10, 100), exact), Some(Expiry::Connect));
    connection.profile = Rc::new(Profile::new(&Limits::default().all_idle(None), 0));
    connection.open(50);
    assert_eq!(connection.deadline(exact), u64::MAX);
}

#[test]
fn waits_that_are_cleared_are_over() {
    let mut connection = opened(&Limits::default().all_idle(None));
    connection.set_close_wait(10, 100);
    connection.set_user_deadline(Some(70));
    connection.clear_waits();
    assert_eq!(connection.deadline(exact), u64::MAX);
}
