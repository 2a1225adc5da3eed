//! Every interleaving of what a socket may do, for short scripts.

mod deadlines;
mod fast_path;
mod files;
mod flags;
mod layers;

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::buffer::Spares;
use crate::base::close::{CloseReason, IdleKind, TimeoutKind};
use crate::base::id::TimerId;
use crate::base::tick::{NEVER, after};
use crate::options::{Limits, MinRate};
use crate::stream::config::{ConnConfig, IdleLimits};
use crate::stream::connection::{
    Connection, Ending, Expiry, Flags, Phase, Received, Sent, WriteSide,
};
use crate::tests::check_flags;

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
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    Connection::new(stream, 1, &peer, config(&Limits::default()), Phase::Open, 0)
}

fn config(limits: &Limits) -> Rc<ConnConfig> {
    Rc::new(ConnConfig::new(limits, 0))
}

/// A connection under these limits that is not up.
fn connecting(limits: &Limits) -> Connection<Scripted> {
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    Connection::new(Scripted::default(), 1, &peer, config(limits), Phase::Connecting, 0)
}

/// An open connection under these limits.
fn opened(limits: &Limits) -> Connection<Scripted> {
    let mut connection = connecting(limits);
    connection.open(0);
    check_flags(&connection);
    connection
}

/// Limits under which incomplete messages are watched.
fn watching() -> Limits {
    Limits::default().message_timeout(Some(Duration::from_secs(1)))
}

/// A least rate of a byte a millisecond.
fn rate(grace: u64) -> Option<MinRate> {
    Some(MinRate::new(1_000, Duration::from_millis(grace)))
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
                assert_eq!(connection.output(), &all[model.bytes..]);
                assert_eq!(connection.has_output(), model.bytes < all.len());
                check_flags(&connection);
            });
        }
    }
}

#[test]
fn send_parts_cuts_anywhere_and_keeps_the_order() {
    let mut spares = Spares::default();
    let all = ascending(0, 9);
    for short_is_full in [true, false] {
        for cuts in [[0, 0, 0, 0], [0, 3, 3, 5], [1, 2, 3, 9], [4, 4, 8, 9]] {
            let [a, b, c, d] = cuts;
            let parts = [&all[a..b], &all[b..c], &all[c..d], &all[d..]];
            each_script(5, |script| {
                let mut connection = connection(script);
                let sent = connection.send_parts(&all[..a], &parts, short_is_full, &mut spares);
                let model = Model::run(script, all.len(), short_is_full, usize::MAX);
                model.expect(&sent, connection.stream.calls);
                assert_eq!(connection.stream.taken, all[..model.bytes]);
                assert_eq!(connection.output(), &all[model.bytes..]);
                check_flags(&connection);
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
            assert_eq!(connection.output(), &all[sent.bytes..]);
            check_flags(&connection);
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
                connection.queue_output(&all, &mut spares);
                let sent = connection.flush(budget, short_is_full, &mut spares);
                let model = Model::run(script, all.len(), short_is_full, budget);
                model.expect(&sent, connection.stream.calls);
                assert_eq!(connection.stream.taken, all[..model.bytes]);
                assert_eq!(connection.output(), &all[model.bytes..]);
                assert_eq!(spares.output(), all.len() - model.bytes);
                check_flags(&connection);
                connection.clear_output(&mut spares);
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
        if !connection.has_output() {
            sent = connection.send(&three, &[], Sent::default(), true, &mut spares);
            total += sent.bytes;
        } else {
            connection.queue_output(&three, &mut spares);
        }
        let mut error = sent.error.is_some();
        while connection.has_output() && !error {
            let flushed = connection.flush(2, true, &mut spares);
            total += flushed.bytes;
            error = flushed.error.is_some();
            check_flags(&connection);
        }
        let all = ascending(0, 9);
        assert_eq!(connection.stream.taken, all[..total]);
        let queued = connection.output().len();
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
                (Act::Reset, Received::Reset) => {}
                (act, received) => panic!("{act:?} gave {received:?}"),
            }
        }
        assert_eq!(received, ascending(0, received.len()));
    });
}

#[test]
fn the_marks_are_crossed_once_each_way() {
    let mut spares = Spares::default();
    let limits = Limits::default().high_mark_bytes(10).low_mark_bytes(4);
    let mut connection = opened(&limits);
    let mut is_above = false;
    // Up and down by ones and threes, over both marks again and again.
    for step in 0..1000_usize {
        if step / 25 % 2 == 0 {
            connection.queue_output(&[0; 3][..1 + step % 3], &mut spares);
        } else {
            let count = (1 + step % 3).min(connection.output().len());
            connection.consume_output(count, &mut spares);
        }
        let length = connection.output().len();
        assert_eq!(connection.crosses_high_mark(), !is_above && length >= 10);
        is_above |= length >= 10;
        assert_eq!(connection.crosses_low_mark(), is_above && length <= 4);
        is_above &= length > 4;
        assert_eq!(connection.flags.has(Flags::ABOVE_MARK), is_above);
        assert_eq!(connection.flags.is_usual(), length == 0, "{:?}", connection.flags);
        check_flags(&connection);
    }
}

#[test]
fn what_several_calls_gave_adds_up_and_the_last_one_says_whether_more_may_follow() {
    let mut sent = Sent { bytes: 2, calls: 3, ..Sent::default() };
    let is_blocked = true;
    sent.add(Sent { bytes: 5, calls: 4, is_blocked, ..Sent::default() });
    assert_eq!((sent.bytes, sent.calls, sent.is_over()), (7, 7, true));
    sent.add(Sent { error: Some(io::ErrorKind::Other.into()), ..Sent::default() });
    assert_eq!((sent.bytes, sent.calls, sent.is_blocked, sent.is_over()), (7, 7, false, true));
    sent.add(Sent::default());
    assert!(!sent.is_over());
}

#[test]
fn kept_input_is_seen_again_once_unless_the_end_was_told() {
    use Flags as F;
    let table = [
        (&b"kept"[..], F::NONE, true, true),
        (b"kept", F::READ_CLOSED, false, false),
        (b"", F::NONE, false, false),
        (b"kept", F::PAUSED, true, false),
    ];
    for (input, flags, is_marked, is_seen) in table {
        let mut spares = Spares::default();
        let mut connection = opened(&Limits::default());
        connection.keep_input(input, &mut spares);
        connection.flags.set(flags);
        assert!(!connection.can_replay());
        connection.replay_input();
        assert_eq!(connection.flags.has(Flags::REPLAY), is_marked, "{flags:?}");
        assert_eq!(connection.can_replay(), is_seen, "{flags:?}");
        assert_eq!(connection.is_incomplete(), !input.is_empty());
        let taken = connection.take_input();
        assert_eq!((taken.as_slice(), connection.has_input()), (input, false));
        assert!(!connection.can_replay() && !connection.flags.has(Flags::REPLAY));
        connection.put_back(taken, &mut spares);
        connection.enter(Phase::Closing(Ending::Local));
        connection.flags.set(Flags::REPLAY);
        assert!(!connection.takes_input() && !connection.can_replay());
    }
}

#[test]
fn a_handler_may_write_until_the_write_side_or_the_connection_closes() {
    let mut connection = opened(&Limits::default());
    for (phase, takes) in [
        (Phase::Connecting, true),
        (Phase::Handshake, true),
        (Phase::Open, true),
        (Phase::Closing(Ending::Local), false),
        (Phase::Lingering(Ending::Local), false),
        (Phase::OutputFailed, false),
        (Phase::Closed, false),
    ] {
        connection.enter(phase);
        for (side, is_open) in [(WriteSide::FinQueued, false), (WriteSide::Open, true)] {
            connection.set_write_side(side);
            assert_eq!(connection.takes_output(), takes && is_open, "{phase:?} {side:?}");
        }
    }
}

#[test]
fn a_message_that_waits_at_many_connections_is_in_memory_once() {
    let mut spares = Spares::default();
    let (mut queued, mut begun) = (connection(&[]), connection(&[]));
    queued.queue_output(b"news", &mut spares);
    begun.begin_output(b"news", &mut spares);
    check_flags(&queued);
    check_flags(&begun);
    assert_eq!(queued.output().as_ptr(), begun.output().as_ptr());
    assert_eq!((begun.output(), spares.output()), (&b"news"[..], 8));
}

#[test]
fn a_queue_leaves_whole_in_one_call_or_says_how_far_it_has_come() {
    let all = ascending(0, 7);
    for short_is_full in [true, false] {
        each_script(1, |script| {
            let mut spares = Spares::default();
            let mut connection = connection(script);
            connection.begin_output(&all, &mut spares);
            let model = Model::run(script, all.len(), short_is_full, 1);
            match connection.flush_whole(short_is_full, &mut spares) {
                Ok(count) => assert_eq!((count, model.bytes), (7, 7)),
                Err(sent) => {
                    model.expect(&sent, 1);
                    assert!(sent.bytes < 7);
                }
            }
            check_flags(&connection);
            assert_eq!(connection.stream.taken, all[..model.bytes]);
            assert_eq!(connection.output(), &all[model.bytes..]);
            assert_eq!(spares.output(), all.len() - model.bytes);
        });
    }
}

#[test]
fn a_connection_says_who_is_at_the_other_end_and_whether_it_is_up() {
    let mut connection = connecting(&Limits::default());
    assert!(connection.is_connecting() && !connection.is_open() && !connection.is_closed());
    connection.open(0);
    assert!(!connection.is_connecting() && connection.is_open() && !connection.is_closed());
    connection.enter(Phase::Closed);
    assert!(!connection.is_connecting() && !connection.is_open() && connection.is_closed());
    let other = SocketAddr::from(([192, 0, 2, 7], 80));
    assert_ne!(connection.peer(), other);
    connection.set_peer(&other);
    assert_eq!(connection.peer(), other);
}
