//! One connection from its opening to its end, over a stream that does as the bytes say.
//!
//! The loop here is the reactor's for a single connection, in the fewest words: what the
//! connection is told, and in which order. Whatever the stream and the handler do, no byte may be
//! lost, doubled or out of place, either way; a stream that was cut short never ends with FIN; and
//! once the peer behaves, the connection ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::base::buffer::Spares;
use crate::base::close::CloseReason;
use crate::options::Limits;
use crate::stream::config::ConnConfig;
use crate::stream::connection::{Connection, Ending, Flags, Phase, Received, Sent, WriteSide};
use crate::tests::check_flags;
use crate::tests::fuzzing::input::Input;

/// Both directions carry this: each byte tells its place.
fn byte_at(place: usize) -> u8 {
    (place % 251) as u8
}

/// What the stream does at one call.
#[derive(Clone, Copy)]
enum Act {
    /// Moves at most so many bytes.
    Move(usize),
    Interrupted,
    /// `Ok(0)`: the peer's end, or a write that went nowhere.
    Zero,
    Reset,
}

/// A stream that acts by a script and then blocks.
#[derive(Default)]
struct Stream {
    reads: VecDeque<Act>,
    writes: VecDeque<Act>,
    /// Bytes given to readers.
    given: usize,
    /// Bytes taken from writers.
    taken: usize,
    /// The peer has ended or reset: that is what every further read says.
    last_read: Option<Act>,
    fin_sent: bool,
}

fn act(act: Option<Act>, most: usize) -> io::Result<usize> {
    match act {
        Some(Act::Move(count)) => Ok(count.min(most)),
        Some(Act::Zero) => Ok(0),
        Some(Act::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
        Some(Act::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
        None => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let next = self.last_read.or_else(|| self.reads.pop_front());
        if matches!(next, Some(Act::Zero | Act::Reset)) {
            self.last_read = next;
        }
        let count = act(next, buffer.len())?;
        for byte in &mut buffer[..count] {
            *byte = byte_at(self.given);
            self.given += 1;
        }
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write of nothing");
        assert!(!self.fin_sent, "a write behind FIN");
        let count = act(self.writes.pop_front(), bytes.len())?;
        for &byte in &bytes[..count] {
            assert_eq!(byte, byte_at(self.taken), "out of place");
            self.taken += 1;
        }
        Ok(count)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A handler's answer to input, and a connection that it answers for.
struct World<'a> {
    input: Input<'a>,
    connection: Connection<Stream>,
    spares: Spares,
    now: u64,
    /// Bytes that the handler wrote.
    written: usize,
    /// Bytes that the handler consumed.
    consumed: usize,
    /// Whether a short read or write means that there is no more.
    short_is_all: bool,
    /// The handler has called `close`.
    is_closed: bool,
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let high = 1 + usize::from(input.below(64));
    let limits = Limits::default()
        .high_mark_bytes(high)
        .low_mark_bytes(usize::from(input.byte()) % high)
        .pause_at_high_mark(input.flag());
    let config = Rc::new(ConnConfig::new(&limits, 0));
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut connection = Connection::new(Stream::default(), 1, &peer, config, Phase::Connecting, 0);
    connection.open(0);
    let short_is_all = input.flag();
    let spares = Spares::default();
    let (now, written, consumed, is_closed) = (0, 0, 0, false);
    let mut world =
        World { input, connection, spares, now, written, consumed, short_is_all, is_closed };
    while !world.input.is_empty() && !world.is_over() {
        world.step();
        world.end_turn();
        world.check();
    }
    world.finish();
}

impl World<'_> {
    fn is_over(&self) -> bool {
        self.connection.is_closed()
    }

    fn step(&mut self) {
        self.now += 1;
        match self.input.below(8) {
            0..3 => self.readable(),
            3 | 4 => self.writable(),
            5 => self.ask(),
            _ => {
                let length = self.input.below(64);
                self.write_from_elsewhere(length.into());
            }
        }
        if !self.is_over() {
            self.connection.drop_unused();
        }
    }

    /// What becomes of the next few calls of the stream.
    fn acts(&mut self) -> VecDeque<Act> {
        let count = self.input.below(4);
        let act = |byte: u8| match byte {
            0..200 => Act::Move(1 + usize::from(byte % 32)),
            200..240 => Act::Interrupted,
            240..248 => Act::Zero,
            _ => Act::Reset,
        };
        (0..count).map(|_| act(self.input.byte())).collect()
    }

    fn readable(&mut self) {
        let acts = self.acts();
        self.connection.stream.reads.extend(acts);
        self.connection.flags.set(Flags::READABLE);
        self.read(4);
    }

    fn read(&mut self, budget: usize) {
        if self.connection.can_replay() {
            self.deliver_kept();
        }
        for _ in 0..budget {
            if !self.connection.can_read() {
                return;
            }
            let mut buffer = [0; 16];
            match self.connection.receive(&mut buffer) {
                Received::Bytes(count) => {
                    self.connection.note_received(count, self.now);
                    let is_all = self.short_is_all && count < buffer.len();
                    let readable = !is_all || self.connection.flags.has(Flags::HUNG_UP);
                    self.connection.flags.put(Flags::READABLE, readable);
                    self.deliver(&buffer[..count]);
                }
                Received::Blocked => {
                    self.connection.flags.clear(Flags::READABLE);
                    if self.takes_output_failure() {
                        self.mark_closed();
                    }
                }
                Received::End => self.peer_ended(),
                Received::Reset | Received::Broken(_) => {
                    self.takes_output_failure();
                    self.mark_closed();
                }
            }
        }
    }

    fn takes_input(&self) -> bool {
        self.connection.takes_input()
    }

    /// Input comes in one piece and in order, behind what was left of it.
    fn deliver(&mut self, bytes: &[u8]) {
        if !self.takes_input() {
            return;
        }
        if self.connection.has_input() {
            self.connection.keep_input(bytes, &mut self.spares);
            return self.deliver_kept();
        }
        let rest = &bytes[self.handle(bytes)..];
        if self.takes_input() {
            self.connection.keep_input(rest, &mut self.spares);
        }
    }

    fn deliver_kept(&mut self) {
        let mut kept = self.connection.take_input();
        let consumed = self.handle(kept.as_slice());
        kept.consume(consumed, &mut self.spares);
        if self.takes_input() {
            self.connection.put_back(kept, &mut self.spares);
        } else {
            kept.clear(&mut self.spares);
        }
    }

    /// The handler: consumes some, and answers.
    fn handle(&mut self, bytes: &[u8]) -> usize {
        assert!(!self.is_closed, "input after close");
        for (place, &byte) in (self.consumed..).zip(bytes) {
            assert_eq!(byte, byte_at(place), "input is lost, doubled or out of place");
        }
        let consumed = usize::from(self.input.byte()).min(bytes.len());
        self.consumed += consumed;
        let (first, second) = (self.input.below(32), self.input.below(32));
        self.write(first.into(), second.into());
        if self.input.below(8) == 0 {
            self.ask();
        }
        consumed
    }

    /// Something other than a write: by the handler in a callback, or from elsewhere.
    fn ask(&mut self) {
        let connection = &mut self.connection;
        match self.input.below(8) {
            0 if connection.is_open() => {
                connection.flags.set(Flags::CLOSED_BY_HANDLER);
                let is_ended = connection.flags.has(Flags::READ_CLOSED);
                let ending = if is_ended { Ending::Peer } else { Ending::Local };
                connection.enter(Phase::Closing(ending));
                connection.clear_waits();
                connection.clear_input(&mut self.spares);
                self.is_closed = true;
            }
            1 if connection.takes_output() => connection.set_write_side(WriteSide::FinQueued),
            2 => {
                connection.flags.set(Flags::MUST_RESET);
                self.mark_closed();
            }
            3 | 4 => {
                connection.flags.set(Flags::PAUSED);
                connection.flags.clear(Flags::REPLAY);
            }
            _ if connection.flags.has(Flags::PAUSED) => {
                connection.flags.clear(Flags::PAUSED | Flags::REPLAY);
                connection.replay_input();
            }
            _ => {}
        }
    }

    fn stretch(&self, length: usize) -> Vec<u8> {
        (self.written..self.written + length).map(byte_at).collect()
    }

    /// Two writes of one callback: at once, if nothing waits before them.
    fn write(&mut self, first: usize, second: usize) {
        if !self.connection.takes_output() || first + second == 0 {
            return;
        }
        let bytes = self.stretch(first + second);
        self.written += bytes.len();
        if self.connection.has_output() {
            self.connection.queue_output(&bytes, &mut self.spares);
            self.connection.crosses_high_mark();
            return;
        }
        let (first, second) = bytes.split_at(first);
        let sent = Sent::default();
        let sent = self.connection.send(first, second, sent, self.short_is_all, &mut self.spares);
        self.after_sending(&sent);
    }

    /// What is written here leaves at the end of the turn.
    fn write_from_elsewhere(&mut self, length: usize) {
        if self.connection.takes_output() {
            let bytes = self.stretch(length);
            self.written += length;
            self.connection.queue_output(&bytes, &mut self.spares);
            self.connection.crosses_high_mark();
        }
    }

    fn writable(&mut self) {
        let acts = self.acts();
        self.connection.stream.writes.extend(acts);
        self.connection.flags.clear(Flags::BLOCKED);
        self.flush();
    }

    fn flush(&mut self) {
        if self.is_over() || !self.connection.has_output() {
            return;
        }
        let sent = self.connection.flush(2, self.short_is_all, &mut self.spares);
        self.after_sending(&sent);
        if self.connection.crosses_low_mark() && !self.connection.flags.has(Flags::PAUSED) {
            self.connection.replay_input();
        }
    }

    fn after_sending(&mut self, sent: &Sent) {
        if sent.bytes > 0 {
            self.connection.note_sent(sent.bytes, self.now);
        }
        self.connection.flags.put(Flags::BLOCKED, sent.is_blocked);
        if sent.error.is_some() {
            let (lost, before) = (self.connection.output_left(), self.connection.unsent());
            self.connection.fail_output(CloseReason::Reset, self.now, &mut self.spares);
            assert_eq!(self.connection.unsent(), before + lost);
            assert!(!self.connection.has_output() && self.connection.can_read());
        } else if self.connection.has_output() {
            self.connection.crosses_high_mark();
        }
    }

    /// Whether the output had failed: that is then why the connection ends.
    fn takes_output_failure(&mut self) -> bool {
        let has_failed = matches!(self.connection.phase(), Phase::OutputFailed);
        let cause = self.connection.take_output_failure();
        assert_eq!(matches!(cause, Some(CloseReason::Reset)), has_failed, "{cause:?}");
        has_failed
    }

    fn peer_ended(&mut self) {
        let flags = &mut self.connection.flags;
        flags.clear(Flags::READABLE);
        let is_first = !flags.has(Flags::READ_CLOSED);
        flags.set(Flags::READ_CLOSED);
        if self.takes_output_failure() {
            return self.mark_closed();
        }
        match self.connection.phase() {
            Phase::Open if is_first => {
                let length = self.input.below(16);
                self.write(length.into(), 0);
                if self.input.flag() {
                    self.ask();
                }
            }
            Phase::Closing(_) => {}
            _ => self.mark_closed(),
        }
    }

    /// Whatever was queued is lost.
    fn mark_closed(&mut self) {
        if !self.is_over() {
            let lost = self.connection.clear_output(&mut self.spares);
            self.connection.clear_input(&mut self.spares);
            self.connection.add_unsent(lost);
            self.connection.enter(Phase::Closed);
        }
    }

    /// A connection that stopped early has another go; then comes the next step of one that ends.
    fn end_turn(&mut self) {
        self.flush();
        self.read(4);
        let is_sent = !self.connection.has_output();
        let is_ended = self.connection.flags.has(Flags::READ_CLOSED);
        let wants_fin = self.connection.write_side() == WriteSide::FinQueued;
        match self.connection.phase() {
            Phase::Open if is_sent && wants_fin => self.send_fin(),
            Phase::Closing(_) if is_sent && is_ended => self.mark_closed(),
            Phase::Closing(ending) if is_sent => {
                self.send_fin();
                self.connection.enter(Phase::Lingering(ending));
            }
            _ => {}
        }
        let fin_sent = self.connection.write_side() == WriteSide::FinSent;
        if self.connection.is_open() && is_ended && fin_sent {
            self.mark_closed();
        }
    }

    fn send_fin(&mut self) {
        self.connection.set_write_side(WriteSide::FinSent);
        self.connection.stream.fin_sent = true;
    }

    fn check(&self) {
        let connection = &self.connection;
        check_flags(connection);
        if connection.flags.is_usual() {
            let stream = &connection.stream;
            assert_eq!((stream.taken, stream.given), (self.written, self.consumed));
            assert!(!self.is_closed && !stream.fin_sent && stream.last_read.is_none());
        }
        let fin_sent = connection.write_side() == WriteSide::FinSent;
        assert_eq!(fin_sent, connection.stream.fin_sent);
        let (taken, queued) = (connection.stream.taken, connection.output().len());
        assert_eq!(self.written, taken + queued + connection.unsent(), "output is lost or doubled");
        assert!(connection.unsent() == 0 || !fin_sent, "FIN behind a part");
        if self.takes_input() {
            // What the stream gave is with the handler or kept for it.
            assert_eq!(connection.stream.given, self.consumed + connection.input().len());
        }
    }

    /// The peer takes everything and ends: then so does the connection, once the handler closes.
    fn finish(&mut self) {
        for _ in 0..64 {
            if self.is_over() {
                break;
            }
            let stream = &mut self.connection.stream;
            stream.writes = [Act::Move(usize::MAX); 4].into();
            stream.reads = [Act::Zero].into();
            self.connection.flags.clear(Flags::PAUSED);
            self.connection.flags.set(Flags::READABLE);
            if self.connection.is_open() && self.connection.write_side() == WriteSide::Open {
                self.connection.set_write_side(WriteSide::FinQueued);
            }
            self.end_turn();
            self.check();
        }
        assert!(self.is_over(), "still {:?}", self.connection.phase());
    }
}
