//! One connection as a state machine over anything that reads and writes.
//!
//! ```text
//!  Connecting ──> Open ──> Closing ──> Lingering ──> Closed    close(): flush, FIN, peer's end
//!       │           └────> OutputFailed ───────────> Closed    a write failed: read on to the end
//!       └──────────────────────────────────────────> Closed
//! ```
//! A connection with layers is in `Handshake` before it is `Open`; one whose handshake fails with
//! something to say is then `Closing`.
//! A connection knows no slab, no wheel and no poll: it is told the tick, and says when it wants to
//! be looked at again.

mod cold;
mod deadlines;
mod encode;
mod flags;
mod layers;
mod output;
mod watch;

use std::io::{self, Read};
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::base::addr::CompactAddr;
use crate::base::buffer::{Queue, Spares};
use crate::base::close::{CloseReason, IdleKind, TimeoutKind};
use crate::base::id::TimerId;
use crate::base::tick::NEVER;
use crate::engine::Armed;
use crate::stream::config::{ConnConfig, IdleLimits};
use crate::stream::happy_eyeballs::Connector;
use crate::sys::ReadFault;

use cold::ColdState;
pub(crate) use flags::Flags;
pub(crate) use output::{MAX_FILES, Sent};
pub(crate) use watch::Watch;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The connect has not ended.
    Connecting,
    /// The socket is up, and the layers before the handler have not done their handshakes.
    Handshake,
    /// The handler has it.
    Open,
    /// The handler is done with it; queued output leaves, input is dropped.
    Closing(Ending),
    /// FIN is sent; input is dropped until the peer's end, so that no RST overtakes our output.
    Lingering(Ending),
    /// Output is impossible; what the kernel still has of the input is delivered. The reason is in
    /// the cold state: here it would make every connection larger.
    OutputFailed,
    /// Over: torn down at the end of the turn.
    Closed,
}

/// Why a connection is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The handler closed it.
    Local,
    /// The handler closed it after the peer had finished.
    Peer,
    /// The reactor is stopping.
    Shutdown,
}

impl From<Ending> for CloseReason {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Local => Self::Local,
            Ending::Peer => Self::Peer,
            Ending::Shutdown => Self::Shutdown,
        }
    }
}

/// How far the write side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteSide {
    /// The handler may write, as far as the phase allows.
    Open,
    /// FIN shall follow the output.
    FinQueued,
    /// FIN has been sent, behind all output.
    FinSent,
}

/// What a connection's time ran out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The connect, or what must come before it is open.
    Connect,
    /// The pause before the next attempt to connect.
    Attempt,
    /// A deadline.
    Timeout(TimeoutKind),
    /// An idle limit.
    Idle(IdleKind),
}

/// What one read gave.
#[derive(Debug)]
pub(crate) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Blocked,
    /// The peer's end.
    End,
    /// The peer has reset it, which is how many connections end: nothing will come any more.
    Reset,
    /// Another error, likewise.
    Broken(io::Error),
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    /// The socket.
    pub(crate) stream: S,
    /// Distinguishes it from earlier owners of its slot.
    pub(crate) generation: u64,
    /// What is unusual about it.
    pub(crate) flags: Flags,
    /// Where its handler keeps its state.
    pub(crate) state: u32,
    /// The other end.
    peer: CompactAddr,
    /// What it goes by.
    pub(crate) config: Rc<ConnConfig>,
    /// Where it is in its life.
    ///
    /// Invariant: `NOT_OPEN` is set exactly when it is not `Open`.
    phase: Phase,
    /// How far the write side has come.
    ///
    /// Invariant: `WRITE_SHUT` is set exactly when it is not `Open`; `FinSent` implies no output.
    write_side: WriteSide,
    /// What the poll tells of its socket.
    pub(crate) watch: Watch,
    /// Tick of the last byte read, of opening, or of being kept although idle.
    pub(crate) read_at: u64,
    /// Tick of the last byte that left, of opening, or of being kept although idle.
    pub(crate) written_at: u64,
    /// The tick of the handler's own deadline; `NEVER` for none. Messages need not look at it.
    user_deadline: u64,
    /// Its entry in the wheel.
    pub(crate) armed: Armed,
    /// What the kernel has not taken, as far as it stands before the first file.
    ///
    /// Invariant: `HAS_OUTPUT` is set exactly when it is not empty or there are files.
    output: Queue,
    /// What the handler has not consumed.
    ///
    /// Invariant: `HAS_INPUT` is set exactly when it is not empty.
    input: Queue,
    /// What few connections need.
    ///
    /// Invariant: `HAS_COLD` is set exactly when it is there.
    cold: Option<Box<ColdState<S>>>,
}

impl<S> Connection<S> {
    #[inline(always)]
    pub(crate) fn new(
        stream: S,
        generation: u64,
        peer: &SocketAddr,
        config: Rc<ConnConfig>,
        phase: Phase,
        now: u64,
    ) -> Self {
        let mut flags = config.flags | Flags::UNOPENED;
        flags.put(Flags::NOT_OPEN, !matches!(phase, Phase::Open));
        Self {
            stream,
            generation,
            flags,
            state: u32::MAX,
            peer: peer.into(),
            config,
            phase,
            write_side: WriteSide::Open,
            watch: Watch::Nothing,
            read_at: now,
            written_at: now,
            user_deadline: NEVER,
            armed: Armed::NONE,
            output: Queue::default(),
            input: Queue::default(),
            cold: None,
        }
    }

    /// The other end.
    #[inline]
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer.get()
    }

    /// Another one speaks at the other end, or it is known only now.
    pub(crate) fn set_peer(&mut self, peer: &SocketAddr) {
        self.peer = peer.into();
    }

    // Its life.

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.flags.has(Flags::NOT_OPEN)
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting)
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Moves it on in its life.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.flags.put(Flags::NOT_OPEN, phase != Phase::Open);
        self.phase = phase;
    }

    /// The connection came up: the clocks of silence start.
    pub(crate) fn open(&mut self, now: u64) {
        self.enter(Phase::Open);
        self.flags.clear(Flags::UNOPENED);
        (self.read_at, self.written_at) = (now, now);
        self.clear_wait();
        if let Some(limit) = self.config.first_byte {
            self.set_first_byte_wait(now, limit);
        }
        if self.has_output() {
            self.watch_output(now);
        }
        self.drop_unused();
    }

    /// The connection is open from the start: its handler has accepted it, and nothing was before.
    #[inline]
    pub(crate) fn open_at_once(&mut self) {
        debug_assert!(self.is_open() && !self.flags.has(Flags::HAS_COLD | Flags::HAS_OUTPUT));
        self.flags.clear(Flags::UNOPENED);
    }

    /// Whether it was accepted a moment ago: it is open, and not registered with the poll yet.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        self.watch == Watch::Nothing && self.is_open()
    }

    /// No byte has come yet: the first one has its time.
    #[inline(always)] // few have such a limit
    pub(crate) fn await_first_byte(&mut self, now: u64) {
        if let Some(limit) = self.config.first_byte {
            self.set_first_byte_wait(now, limit);
        }
    }

    /// Closes the socket of a connection that is over; returns what it went by.
    #[inline(always)] // else it is moved there
    pub(crate) fn into_config(self) -> Rc<ConnConfig> {
        // Each part for itself: dropped as a whole, all of it would be moved to one place first.
        let Self { stream, config, peer, output, input, cold, .. } = self;
        drop(stream);
        drop(peer);
        drop(output);
        drop(input);
        if let Some(cold) = cold {
            drop(cold); // where there is none, nothing is even called
        }
        config
    }

    /// Output has become impossible: drops it, keeps the cause, and reads on to the end. The peer
    /// may send for as long as a close may take, and not for ever.
    pub(crate) fn fail_output(&mut self, cause: CloseReason, now: u64, spares: &mut Spares) {
        let lost = self.clear_output(spares);
        self.add_unsent(lost);
        // No event may come any more: only `WouldBlock` tells that this is all.
        self.flags.set(Flags::READABLE | Flags::HUNG_UP);
        self.clear_waits();
        self.set_close_wait(now);
        self.enter(Phase::OutputFailed);
        self.cold_mut().output_failure.get_or_insert(cause);
    }

    /// Why the connection ends, now that nothing more can be read; `None` unless its output had
    /// failed.
    pub(crate) fn take_output_failure(&mut self) -> Option<CloseReason> {
        self.cold.as_mut()?.output_failure.take()
    }

    pub(crate) fn write_side(&self) -> WriteSide {
        self.write_side
    }

    pub(crate) fn set_write_side(&mut self, side: WriteSide) {
        self.write_side = side;
        self.flags.put(Flags::WRITE_SHUT, side != WriteSide::Open);
    }

    // Input.

    /// The input that the handler has not consumed.
    pub(crate) fn input(&self) -> &[u8] {
        self.input.as_slice()
    }

    pub(crate) fn has_input(&self) -> bool {
        self.flags.has(Flags::HAS_INPUT)
    }

    fn note_input(&mut self) {
        self.flags.put(Flags::HAS_INPUT, !self.input.is_empty());
    }

    /// Keeps input that the handler has not consumed, behind what is kept already.
    pub(crate) fn keep_input(&mut self, bytes: &[u8], spares: &mut Spares) {
        self.input.push(bytes, spares);
        self.note_input();
    }

    /// Lends the kept input out, to be put back or cleared.
    pub(crate) fn take_input(&mut self) -> Queue {
        let input = self.input.take();
        self.flags.clear(Flags::REPLAY);
        self.note_input();
        input
    }

    /// Puts back what was lent to the handler and is not consumed: behind what the handler has
    /// given back meanwhile, which stood before it.
    pub(crate) fn put_back(&mut self, mut input: Queue, spares: &mut Spares) {
        if self.input.is_empty() {
            self.input = input;
        } else {
            self.input.push(input.as_slice(), spares);
            input.clear(spares);
        }
        self.note_input();
    }

    /// Takes back what the handler had consumed: it stands before what is kept.
    pub(crate) fn give_back(&mut self, bytes: &[u8], spares: &mut Spares) {
        let kept = self.input.take();
        self.input.push(bytes, spares);
        self.put_back(kept, spares);
    }

    /// The peer's end counts as not told. A socket that has ended says so at each read, so the next
    /// one finds the end again, behind what is to be seen before it.
    pub(crate) fn give_back_end(&mut self) {
        self.flags.clear(Flags::READ_CLOSED);
        self.flags.set(Flags::READABLE);
        self.give_back_layer_end();
    }

    pub(crate) fn clear_input(&mut self, spares: &mut Spares) {
        self.input.clear(spares);
        self.note_input();
    }

    /// Has the handler see the kept input again, unless the peer's end was told already.
    pub(crate) fn replay_input(&mut self) {
        if self.has_input() && !self.flags.has(Flags::READ_CLOSED) {
            self.flags.set(Flags::REPLAY);
        }
    }

    /// Reading is held back by one thing more. Nothing holds it back any more once the connection
    /// is broken: what is to be seen again then still comes before the end.
    pub(crate) fn hold_back(&mut self, by: Flags) {
        self.flags.set(by);
        if !self.must_leave_nothing() {
            self.flags.clear(Flags::REPLAY);
        }
    }

    /// The poll has reported an error: what the handler has left is seen once more, before the end,
    /// because nothing holds back the reading any more, and no room will come.
    pub(crate) fn note_broken(&mut self) {
        self.flags.set(Flags::ERROR);
        if self.must_leave_nothing() {
            self.flags.clear(Flags::REPLAY);
            self.replay_input();
        }
    }

    /// Whether the handler had a reason to leave what it could take, and must take it now: nothing
    /// comes that would have it seen later. Once output has failed nothing says any more what the
    /// reason was.
    pub(crate) fn must_leave_nothing(&self) -> bool {
        let may_leave = self.flags.has(Flags::MAY_LEAVE);
        matches!(self.phase, Phase::OutputFailed) || (self.flags.has(Flags::ERROR) && may_leave)
    }

    /// Whether the loop should read: the handler takes input, or it is dropped.
    #[inline]
    pub(crate) fn wants_read(&self) -> bool {
        let flags = self.flags;
        match self.phase {
            Phase::Open => {
                let held = flags.has(Flags::ABOVE_MARK) && self.config.pause_at_high_mark;
                flags.has(Flags::ERROR) || !(flags.has(Flags::READ_CLOSED | Flags::HELD) || held)
            }
            Phase::Closing(_) | Phase::Lingering(_) => {
                flags.has(Flags::ERROR) || !flags.has(Flags::READ_CLOSED)
            }
            Phase::OutputFailed | Phase::Handshake => true,
            Phase::Connecting | Phase::Closed => false,
        }
    }

    /// Whether the handler may go on with its input: nothing holds the peer back, and no end was
    /// read or made.
    pub(crate) fn is_reading(&self) -> bool {
        self.wants_read() && self.takes_input() && !self.flags.has(Flags::HELD)
    }

    /// Whether the loop should read now.
    #[inline]
    pub(crate) fn can_read(&self) -> bool {
        self.flags.has(Flags::READABLE) && self.wants_read()
    }

    /// Whether there is input to be seen again, and the handler takes it now.
    pub(crate) fn can_replay(&self) -> bool {
        self.flags.has(Flags::REPLAY) && self.has_input() && self.takes_input() && self.wants_read()
    }

    /// Whether the handler is given input.
    #[inline]
    pub(crate) fn takes_input(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::OutputFailed => !self.flags.has(Flags::CLOSED_BY_HANDLER),
            _ => false,
        }
    }

    /// Whether a message is incomplete: bytes are left, by a layer too, or the handler has said so.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.flags.has(Flags::HAS_INPUT | Flags::INCOMPLETE) || self.has_undecoded()
    }

    /// Whether a message is incomplete, and the peer is the one who keeps us waiting: not while
    /// the handler holds reading back, even if the poll says that the socket is broken, for which
    /// it is read all the same.
    pub(crate) fn waits_for_message(&self) -> bool {
        self.is_incomplete() && self.wants_read() && !self.flags.has(Flags::HELD)
    }

    /// Whether a connection that is closing is over once its output has left.
    pub(crate) fn ends_without_waiting(&self) -> bool {
        // What is unread would make the kernel send a reset instead of FIN.
        let may_leave =
            self.flags.has(Flags::NO_LINGER) && !self.flags.has(Flags::READABLE | Flags::LAYERED);
        may_leave || self.flags.has(Flags::READ_CLOSED)
    }

    // Output; the queue itself is in `output`.

    /// Whether the handler may write. Of an accepted connection that is not open it does not know.
    pub(crate) fn takes_output(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Connecting | Phase::Handshake)
            && !self.flags.has(Flags::WRITE_SHUT)
    }

    /// Bytes that a callback may gather before they are sent.
    #[inline]
    pub(crate) fn cork_room(&self) -> usize {
        let shut = Flags::NOT_OPEN | Flags::WRITE_SHUT | Flags::HAS_OUTPUT;
        if self.flags.has(shut) { 0 } else { self.config.cork_room }
    }

    /// Whether output has just reached the high mark.
    pub(crate) fn crosses_high_mark(&mut self) -> bool {
        let crosses =
            !self.flags.has(Flags::ABOVE_MARK) && self.output_left() >= self.config.high_mark;
        if crosses {
            self.flags.set(Flags::ABOVE_MARK);
        }
        crosses
    }

    /// Whether output has just fallen to the low mark after a crossing.
    pub(crate) fn crosses_low_mark(&mut self) -> bool {
        let crosses =
            self.flags.has(Flags::ABOVE_MARK) && self.output_left() <= self.config.low_mark;
        if crosses {
            self.flags.clear(Flags::ABOVE_MARK);
        }
        crosses
    }

    // What few connections need.

    fn cold_mut(&mut self) -> &mut ColdState<S> {
        self.flags.set(Flags::HAS_COLD);
        self.cold.get_or_insert_default()
    }

    /// Gives back what it needed for a while.
    pub(crate) fn drop_unused(&mut self) {
        if self.cold.as_ref().is_some_and(|cold| cold.is_unused()) {
            self.cold = None;
            self.flags.clear(Flags::HAS_COLD);
        }
    }

    /// What it still has to try before it is up, if that is more than its socket.
    pub(crate) fn connector_mut(&mut self) -> Option<&mut Connector<S>> {
        self.cold.as_mut()?.connector.as_deref_mut()
    }

    /// What it still has to try before it is up, to look at.
    pub(crate) fn connector(&self) -> Option<&Connector<S>> {
        self.cold.as_ref()?.connector.as_deref()
    }

    pub(crate) fn set_connector(&mut self, connector: Connector<S>) {
        self.cold_mut().connector = Some(Box::new(connector));
    }

    pub(crate) fn take_connector(&mut self) -> Option<Box<Connector<S>>> {
        self.cold.as_mut()?.connector.take()
    }

    pub(crate) fn idle_limits(&self) -> IdleLimits {
        let own = self.cold.as_ref().and_then(|cold| cold.idle.as_deref());
        own.copied().unwrap_or(self.config.idle)
    }

    pub(crate) fn set_idle_limits(&mut self, limits: IdleLimits) {
        self.cold_mut().idle = Some(Box::new(limits));
    }

    /// Keeps one of its timers, to be cancelled with it. Forgets those that are no longer `live`
    /// before the list grows.
    pub(crate) fn add_timer(&mut self, timer: TimerId, live: impl Fn(TimerId) -> bool) {
        self.cold_mut().timers.add(timer, live);
    }

    /// A timer has fired for the last time, or was cancelled.
    pub(crate) fn remove_timer(&mut self, timer: TimerId) {
        if let Some(cold) = &mut self.cold {
            cold.timers.remove(timer);
        }
    }

    pub(crate) fn take_timers(&mut self) -> Vec<TimerId> {
        self.cold.as_mut().map_or_else(Vec::new, |cold| cold.timers.take())
    }

    /// Requests that its handler has begun to answer and has not ended.
    pub(crate) fn requests(&self) -> u32 {
        self.cold.as_ref().map_or(0, |cold| cold.requests)
    }

    pub(crate) fn set_requests(&mut self, count: u32) {
        if self.requests() != count {
            self.cold_mut().requests = count;
        }
    }

    /// Counts output as lost.
    pub(crate) fn add_unsent(&mut self, lost: usize) {
        if lost > 0 {
            let unsent = &mut self.cold_mut().unsent;
            *unsent = unsent.saturating_add(lost);
        }
    }

    pub(crate) fn unsent(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.unsent)
    }
}

impl Received {
    /// What a read gave; `None` if it was interrupted and is to be done again.
    #[inline(always)]
    pub(crate) fn of(result: io::Result<usize>) -> Option<Self> {
        match result {
            Ok(0) => Some(Self::End),
            Ok(count) => Some(Self::Bytes(count)),
            Err(error) => match ReadFault::of(&error) {
                ReadFault::Empty => Self::found(Some(Self::Blocked), error),
                ReadFault::Interrupted => Self::found(None, error),
                ReadFault::Reset => Self::found(Some(Self::Reset), error),
                ReadFault::Other => Some(Self::Broken(error)),
            },
        }
    }

    /// What an error stands for that is done with. One of the system owns nothing, and to drop it
    /// is a call all the same.
    #[inline(always)]
    fn found(received: Option<Self>, error: io::Error) -> Option<Self> {
        if error.raw_os_error().is_some() {
            mem::forget(error);
        }
        received
    }
}

impl<S: Read> Connection<S> {
    /// Reads once.
    #[inline(always)]
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            if let Some(received) = Received::of(self.stream.read(buffer)) {
                return received;
            }
        }
    }
}

/// What the tests look at, and what they do in the place of a socket.
#[cfg(any(test, fuzzing))]
impl<S> Connection<S> {
    /// The output that stands before the first file.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.as_slice()
    }

    /// Whether there is state that few connections need.
    pub(crate) fn has_cold(&self) -> bool {
        self.cold.is_some()
    }

    /// Takes bytes off the front of the output, as a socket does that accepts them.
    pub(crate) fn consume_output(&mut self, count: usize, spares: &mut Spares) {
        self.output.consume(count, spares);
        spares.note_left(count);
        self.note_output();
    }
}
