//! One connection as a state machine over anything that reads and writes.
//!
//! ```text
//!  Connecting ──> Open ──> Closing ──> Lingering ──> Dead      close(): flush, FIN, peer's end
//!       │           └────> Severed ────────────────> Dead      a write failed: read on to the end
//!       └───────────────────────────────────────────> Dead
//! ```
//! Behind a balancer, one that is accepted begins in Greeting instead, until its header is read.
//! It knows no slab, no wheel and no poll: it is told the tick, and says when it wants to be
//! looked at again.

#[path = "output.rs"]
mod files;
#[path = "cold.rs"]
mod rare;
#[path = "deadlines.rs"]
mod waits;

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::buffer::{Queue, Spares};
use crate::close::{CloseReason, IdleKind, TimeoutKind};
use crate::connector::Connector;
use crate::id::TimerId;
use crate::profile::{IdleLimits, Profile};
pub(crate) use files::MOST_FILES;
use rare::Rare;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The connect has not ended.
    Connecting,
    /// Accepted, and the header of a balancer has not come in full: nobody knows it yet.
    #[cfg(feature = "proxy-protocol")]
    Greeting,
    /// The handler has it.
    Open,
    /// The handler is done with it; queued output leaves, input is dropped.
    Closing,
    /// FIN is sent; input is dropped until the peer's end, so that no RST overtakes our output.
    Lingering,
    /// Output is impossible; what the kernel still has of the input is delivered.
    Severed,
    /// Over: taken down at the end of the turn.
    Dead,
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
    /// An error: nothing will come any more.
    Broken(io::Error),
}

/// What sending gave: how much the kernel took, in how many calls, and what ended it.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Bytes taken.
    pub(crate) bytes: usize,
    /// Writes that took bytes.
    pub(crate) calls: u64,
    /// The socket is full: the poll tells when it takes more.
    pub(crate) is_blocked: bool,
    /// The error that ended it, if one did.
    pub(crate) error: Option<io::Error>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    /// The socket.
    pub(crate) stream: S,
    /// Distinguishes it from earlier owners of its slot.
    pub(crate) generation: u64,
    /// Where its handler keeps its state.
    pub(crate) state: u32,
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// What it goes by.
    pub(crate) profile: Rc<Profile>,
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// Whether its handler was told that it is up, and must be told that it ended.
    pub(crate) was_open: bool,
    /// It is open, of TCP, and nothing else can be said of it: its messages take the straight way.
    ///
    /// Invariant: implies `looks_plain()` and no Unix socket, which has a way of its own. Whatever
    /// makes a connection unusual clears it; the loop sets it again once it has found that there
    /// is nothing left.
    pub(crate) is_plain: bool,
    /// Why it is closing, while `phase` is `Closing` or `Lingering`.
    pub(crate) ending: Ending,
    /// The poll has said "readable" and no read has found the socket empty since.
    pub(crate) may_read: bool,
    /// FIN or an error was reported: a short read proves nothing.
    pub(crate) hung_up: bool,
    /// The poll has reported an error: nothing holds back the reading any more.
    pub(crate) is_broken: bool,
    /// The handler has paused reading.
    pub(crate) is_paused: bool,
    /// The handler resumed reading and must see the unconsumed input again.
    pub(crate) must_redeliver: bool,
    /// The handler said that a message is incomplete although it consumed all.
    pub(crate) is_declared_incomplete: bool,
    /// The peer's end has been read.
    pub(crate) is_ended: bool,
    /// The handler has closed it and wants no more input.
    pub(crate) is_let_go: bool,
    /// It must end with RST, whatever was sent.
    pub(crate) must_reset: bool,
    /// FIN shall follow the output.
    pub(crate) wants_fin: bool,
    /// FIN has been sent.
    ///
    /// Invariant: implies `wants_fin` and no output.
    pub(crate) fin_sent: bool,
    /// Output reached the high mark and has not fallen to the low mark since.
    pub(crate) is_backed_up: bool,
    /// The socket took no more when it was last written to, and the poll has not said since that
    /// it does. Queued output says nothing of that: it may not have been tried yet.
    pub(crate) is_blocked: bool,
    /// On the ready queue.
    pub(crate) is_ready: bool,
    /// On the list of those that want a flush at the end of the turn.
    pub(crate) is_dirty: bool,
    /// Writability has been asked for, where that is done on demand.
    pub(crate) asks_writable: bool,
    /// Tick of the last byte read, of opening, or of being kept although idle.
    pub(crate) read_at: u64,
    /// The same for bytes that left.
    pub(crate) written_at: u64,
    /// Its entry in the wheel, and the tick it is filed under.
    pub(crate) filed: Filed,
    /// What the kernel has not taken, as far as it stands before the first file.
    pub(crate) output: Queue,
    /// What the handler has not consumed.
    pub(crate) input: Queue,
    /// What few connections need.
    rare: Option<Box<Rare<S>>>,
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

/// An entry in the wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filed {
    /// The tick at which it fires; `u64::MAX` if there is no entry.
    pub(crate) tick: u64,
    /// The entry.
    pub(crate) timer: TimerId,
}

impl Filed {
    /// No entry.
    pub(crate) const NONE: Self = Self { tick: u64::MAX, timer: TimerId::NONE };
}

/// The first tick that is surely `wait` whole ticks after a moment within `tick`.
pub(crate) const fn after(tick: u64, wait: u64) -> u64 {
    tick.saturating_add(wait).saturating_add(1)
}

impl<S> Connection<S> {
    pub(crate) fn new(
        stream: S,
        generation: u64,
        peer: SocketAddr,
        profile: Rc<Profile>,
        phase: Phase,
        now: u64,
    ) -> Self {
        Self {
            stream,
            generation,
            state: u32::MAX,
            peer,
            profile,
            phase,
            was_open: false,
            is_plain: false,
            ending: Ending::Local,
            may_read: false,
            hung_up: false,
            is_broken: false,
            is_paused: false,
            must_redeliver: false,
            is_declared_incomplete: false,
            is_ended: false,
            is_let_go: false,
            must_reset: false,
            wants_fin: false,
            fin_sent: false,
            is_backed_up: false,
            is_blocked: false,
            is_ready: false,
            is_dirty: false,
            asks_writable: false,
            read_at: now,
            written_at: now,
            filed: Filed::NONE,
            output: Queue::default(),
            input: Queue::default(),
            rare: None,
        }
    }

    fn rare_mut(&mut self) -> &mut Rare<S> {
        self.is_plain = false;
        self.rare.get_or_insert_default()
    }

    /// It came up: the clocks of silence start.
    pub(crate) fn open(&mut self, now: u64) {
        self.phase = Phase::Open;
        self.was_open = true;
        (self.read_at, self.written_at) = (now, now);
        if let Some(rare) = &mut self.rare {
            rare.wait = None;
        }
        if let Some(limit) = self.profile.first_byte {
            let wait = (after(now, limit), Expiry::Timeout(TimeoutKind::FirstByte));
            self.rare_mut().wait = Some(wait);
        }
        if self.has_output() {
            self.watch_output(now);
        }
        self.drop_unused();
        self.is_plain = self.is_straight();
    }

    /// What it still has to try before it is up, if that is more than its socket.
    pub(crate) fn connector_mut(&mut self) -> Option<&mut Connector<S>> {
        self.rare.as_mut()?.connector.as_deref_mut()
    }

    /// The same, for whoever watches.
    #[cfg(feature = "sim")]
    pub(crate) fn connector(&self) -> Option<&Connector<S>> {
        self.rare.as_ref()?.connector.as_deref()
    }

    pub(crate) fn set_connector(&mut self, connector: Connector<S>) {
        self.rare_mut().connector = Some(Box::new(connector));
    }

    pub(crate) fn take_connector(&mut self) -> Option<Box<Connector<S>>> {
        self.rare.as_mut()?.connector.take()
    }

    /// Gives back what it needed for a while.
    pub(crate) fn drop_unused(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_unused()) {
            self.rare = None;
        }
    }

    /// Whether it is open and nothing else can be said of it.
    pub(crate) fn looks_plain(&self) -> bool {
        // Backed up output is not empty.
        self.phase == Phase::Open
            && !self.hung_up
            && !self.is_ended
            && !self.is_paused
            && !self.wants_fin
            && self.output.is_empty()
            && self.input.is_empty()
            && self.rare.is_none()
            && !self.profile.watches_messages
    }

    /// Whether its messages take the straight way of TCP.
    pub(crate) fn is_straight(&self) -> bool {
        self.looks_plain() && !self.profile.is_unix
    }

    /// Moves it on in its life.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.is_plain = false;
    }

    /// Keeps input that the handler has not consumed, behind what is kept already.
    pub(crate) fn keep_input(&mut self, bytes: &[u8], spares: &mut Spares) {
        self.input.push(bytes, spares);
        self.is_plain = false;
    }

    /// Puts back what was lent to the handler and is not consumed.
    pub(crate) fn put_back(&mut self, input: Queue) {
        self.input = input;
        self.is_plain = false;
    }

    /// Whether the loop should read: the handler takes input, or it is dropped.
    #[inline]
    pub(crate) fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Open => {
                let held = self.is_backed_up && self.profile.pause_at_high_mark;
                self.is_broken || !(self.is_ended || self.is_paused || held)
            }
            Phase::Closing | Phase::Lingering => !self.is_ended || self.is_broken,
            Phase::Severed => true,
            #[cfg(feature = "proxy-protocol")]
            Phase::Greeting => true,
            Phase::Connecting | Phase::Dead => false,
        }
    }

    /// Whether the handler is given input.
    #[inline]
    pub(crate) fn takes_input(&self) -> bool {
        match self.phase {
            Phase::Open => true,
            Phase::Severed => !self.is_let_go,
            _ => false,
        }
    }

    /// Whether the handler may write.
    pub(crate) fn takes_output(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Connecting) && !self.wants_fin
    }

    /// Bytes that a callback may gather before they are sent.
    #[inline]
    pub(crate) fn cork_room(&self) -> usize {
        let gathers = self.phase == Phase::Open && !self.wants_fin && !self.has_output();
        if gathers { self.profile.cork_room } else { 0 }
    }

    pub(crate) fn idle_limits(&self) -> IdleLimits {
        self.rare.as_ref().and_then(|rare| rare.idle).unwrap_or(self.profile.idle)
    }

    pub(crate) fn set_idle_limits(&mut self, limits: IdleLimits) {
        self.rare_mut().idle = Some(limits);
    }

    /// Files one of its timers; forgets those that are no longer `live` before the list grows.
    pub(crate) fn add_timer(&mut self, timer: TimerId, live: impl Fn(TimerId) -> bool) {
        let timers = &mut self.rare_mut().timers;
        if timers.len() == timers.capacity() {
            timers.retain(|&timer| live(timer));
        }
        timers.push(timer);
    }

    pub(crate) fn remove_timer(&mut self, timer: TimerId) {
        if let Some(rare) = &mut self.rare {
            rare.timers.retain(|&kept| kept != timer);
        }
    }

    pub(crate) fn take_timers(&mut self) -> Vec<TimerId> {
        self.rare.as_mut().map_or_else(Vec::new, |rare| std::mem::take(&mut rare.timers))
    }

    /// Output has become impossible: drops it, keeps count and cause, and reads on to the end.
    /// The peer may send for as long as a close may take, and not for ever.
    pub(crate) fn sever(&mut self, cause: CloseReason, lost: usize, now: u64) {
        self.enter(Phase::Severed);
        self.may_read = true;
        // No event may come any more: only `WouldBlock` tells that this is all.
        self.hung_up = true;
        self.clear_waits();
        self.set_close_wait(now, self.profile.close);
        let rare = self.rare_mut();
        rare.severed_by.get_or_insert(cause);
        rare.unsent = rare.unsent.saturating_add(lost);
    }

    /// Counts output as lost.
    pub(crate) fn add_unsent(&mut self, lost: usize) {
        if lost > 0 {
            let unsent = &mut self.rare_mut().unsent;
            *unsent = unsent.saturating_add(lost);
        }
    }

    pub(crate) fn unsent(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.unsent)
    }

    pub(crate) fn take_severed_by(&mut self) -> Option<CloseReason> {
        self.rare.as_mut().and_then(|rare| rare.severed_by.take())
    }

    /// Whether output has just reached the high mark.
    pub(crate) fn crosses_high_mark(&mut self) -> bool {
        let crosses = !self.is_backed_up && self.output_left() >= self.profile.high_mark;
        self.is_backed_up |= crosses;
        crosses
    }

    /// Whether output has just fallen to the low mark after a crossing.
    pub(crate) fn crosses_low_mark(&mut self) -> bool {
        let crosses = self.is_backed_up && self.output_left() <= self.profile.low_mark;
        if crosses {
            self.is_backed_up = false;
        }
        crosses
    }
}

impl Received {
    /// What a read gave; `None` if it was interrupted and is to be done again.
    #[inline(always)]
    pub(crate) fn of(result: io::Result<usize>) -> Option<Self> {
        match result {
            Ok(0) => Some(Self::End),
            Ok(count) => Some(Self::Bytes(count)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Some(Self::Blocked),
                io::ErrorKind::Interrupted => None,
                _ => Some(Self::Broken(error)),
            },
        }
    }
}

impl<S: Read> Connection<S> {
    /// One read.
    #[inline(always)]
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            if let Some(received) = Received::of(self.stream.read(buffer)) {
                return received;
            }
        }
    }
}

impl<S: Write> Connection<S> {
    /// Sends `first` and then `second` past an empty queue, as far as `sent` has not done it, and
    /// queues what the kernel does not take. `short_is_full` says that a short write means a full
    /// socket.
    pub(crate) fn send(
        &mut self,
        first: &[u8],
        second: &[u8],
        mut sent: Sent,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        debug_assert!(!self.has_output());
        let total = first.len() + second.len();
        while sent.bytes < total && !sent.is_over() {
            let rest = &first[sent.bytes.min(first.len())..];
            let behind = &second[sent.bytes.saturating_sub(first.len())..];
            let result = match (rest, behind) {
                (rest, []) => self.stream.write(rest),
                ([], behind) => self.stream.write(behind),
                (rest, behind) => {
                    self.stream.write_vectored(&[IoSlice::new(rest), IoSlice::new(behind)])
                }
            };
            sent.count(result, rest.len() + behind.len(), short_is_full);
        }
        if sent.bytes < total {
            self.queue_output(&first[sent.bytes.min(first.len())..], spares);
            self.queue_output(&second[sent.bytes.saturating_sub(first.len())..], spares);
        }
        sent
    }

    /// Sends what is queued, in at most `budget` calls.
    pub(crate) fn flush(
        &mut self,
        budget: usize,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        let mut sent = Sent::default();
        for _ in 0..budget {
            if self.output.is_empty() || sent.is_over() {
                break;
            }
            let before = sent.bytes;
            let wanted = self.output.len();
            let result = self.stream.write(self.output.as_slice());
            sent.count(result, wanted, short_is_full);
            self.output.consume(sent.bytes - before, spares);
        }
        sent
    }
}

impl Sent {
    /// Whether no other write should follow.
    fn is_over(&self) -> bool {
        self.is_blocked || self.error.is_some()
    }

    /// Counts what another call gave.
    fn add(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.calls += more.calls;
        self.is_blocked = more.is_blocked;
        self.error = more.error;
    }

    /// Counts one write of `wanted` bytes.
    pub(crate) fn count(&mut self, result: io::Result<usize>, wanted: usize, short_is_full: bool) {
        match result {
            Ok(0) => self.error = Some(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.bytes += count;
                self.calls += 1;
                self.is_blocked = count < wanted && short_is_full;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => self.is_blocked = true,
                _ => self.error = Some(error),
            },
        }
    }
}

#[cfg(test)]
#[path = "../../tests/connection/mod.rs"]
mod tests;
