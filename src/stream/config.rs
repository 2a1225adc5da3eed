//! What the connections of one listener, or one outgoing connection, go by: checked, in ticks.

use std::any::TypeId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::close::IdleKind;
use crate::base::tick::{NEVER, ticks};
use crate::engine::CORK_BYTES;
use crate::options::{
    ConnectOptions, Destination, Keepalive, LayerFactory, Limits, MinRate, OnOverflow, Place,
    TcpOptions,
};
use crate::stream::connection::Flags;
use crate::sys::NO_ADDR;

/// Limits in the units of the loop, and whom the connections belong to.
///
/// Connections share it by reference count, so that one costs eight bytes in each.
#[derive(Debug)]
pub(crate) struct ConnConfig {
    /// The handler that serves them, by its place in the reactor.
    pub(crate) service: u32,
    /// The listener that accepted them, by its place in the reactor; `None` for outgoing ones.
    pub(crate) listener: Option<u32>,
    /// Where that listener listens; of no meaning for outgoing ones.
    pub(crate) listen_addr: SocketAddr,
    /// Idle limits unless a connection has its own.
    pub(crate) idle: IdleLimits,
    /// The shortest of them; `NEVER` if there is none.
    pub(crate) shortest_idle: u64,
    /// Ticks until the first byte.
    pub(crate) first_byte: Option<u64>,
    /// Ticks from the start of a message to its end.
    pub(crate) message: Option<u64>,
    /// Least rate of an incomplete message.
    pub(crate) receive_rate: Option<Rate>,
    /// Least rate of queued output.
    pub(crate) send_rate: Option<Rate>,
    /// Most unconsumed input.
    pub(crate) max_input: usize,
    /// Requests that may be outstanding.
    pub(crate) max_requests: u32,
    /// Queued output that counts as backed up.
    ///
    /// Invariant: `low_mark < high_mark <= max_output`.
    pub(crate) high_mark: usize,
    /// Most output that a callback gathers before it is sent.
    pub(crate) cork_room: usize,
    /// Queued output that counts as drained again.
    pub(crate) low_mark: usize,
    /// Most queued output.
    pub(crate) max_output: usize,
    /// What an overrun does.
    pub(crate) on_overflow: OnOverflow,
    /// Whether reads wait while output is backed up.
    pub(crate) pause_at_high_mark: bool,
    /// Ticks that a close may take.
    pub(crate) close: u64,
    /// Socket options to set on each accepted socket; `None` where they are inherited or were
    /// set when the socket was made.
    pub(crate) tcp: Option<TcpOptions>,
    /// Keepalive to set on the socket of an outgoing connection once it has lasted: in one that
    /// ends before there is no silence to probe, and setting it takes four calls.
    pub(crate) keepalive: Option<Keepalive>,
    /// How it came to be, if there is more to that than one address.
    pub(crate) dial: Option<Arc<Dial>>,
    /// What is unusual about them from the start.
    pub(crate) flags: Flags,
    /// What stands between their sockets and their handler, in order.
    pub(crate) layers: Box<[Arc<dyn LayerFactory>]>,
}

/// An outgoing connection and those that take its place.
#[derive(Debug)]
pub(crate) struct Dial {
    /// Where to.
    pub(crate) destination: Destination,
    /// How; checked.
    pub(crate) options: ConnectOptions,
    /// Whose it is.
    pub(crate) service: u32,
    /// What the handler keeps for each of its connections.
    pub(crate) state_type: TypeId,
    /// Tries in a row that failed or did not last. Only the loop's thread writes it.
    pub(crate) failed: AtomicU32,
    /// Of the tries before, those that were forgotten because the last connection has lasted.
    pub(crate) forgotten: AtomicU32,
    /// The tick at which it was up last.
    pub(crate) up_at: AtomicU64,
}

impl Dial {
    /// Whether it is a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.destination.place(), Place::Unix(_))
    }

    /// Whether there would be another try.
    pub(crate) fn may_go_on(&self) -> bool {
        let policy = self.options.reconnect.as_ref();
        let failed = self.failed.load(Relaxed).saturating_add(1);
        policy.is_some_and(|policy| policy.max_attempts.is_none_or(|most| failed < most))
    }

    /// Counts a try that failed or did not last; the longest pause before the next one, if there
    /// is to be one.
    pub(crate) fn count_failure(&self) -> Option<Duration> {
        let policy = self.options.reconnect.as_ref()?;
        let failed = self.failed.load(Relaxed).saturating_add(1);
        self.failed.store(failed, Relaxed);
        let may = policy.max_attempts.is_none_or(|most| failed < most);
        may.then(|| policy.ceiling(failed))
    }

    /// A connection has ended after it was up: if it has lasted, what failed before is forgotten.
    pub(crate) fn note_end(&self, now: u64) {
        let Some(policy) = &self.options.reconnect else { return };
        let has_lasted = now.saturating_sub(self.up_at.load(Relaxed)) >= ticks(policy.max_delay);
        let forgotten = if has_lasted { self.failed.swap(0, Relaxed) } else { 0 };
        self.forgotten.store(forgotten, Relaxed);
    }

    /// The connection that has ended was of no use, however long it was up: what failed before it
    /// is remembered.
    pub(crate) fn recall(&self) {
        let forgotten = self.forgotten.swap(0, Relaxed);
        self.failed.fetch_add(forgotten, Relaxed);
    }
}

/// Limits of silence, in ticks; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdleLimits {
    /// Nothing read.
    pub(crate) read: Option<u64>,
    /// Nothing written.
    pub(crate) write: Option<u64>,
    /// Neither.
    pub(crate) all: Option<u64>,
}

impl IdleLimits {
    /// The limit of one kind.
    pub(crate) fn of(self, kind: IdleKind) -> Option<u64> {
        match kind {
            IdleKind::Read => self.read,
            IdleKind::Write => self.write,
            IdleKind::All => self.all,
        }
    }

    /// The longest of them; 0 if there is none.
    pub(crate) fn longest(self) -> u64 {
        [self.read, self.write, self.all].into_iter().flatten().max().unwrap_or(0)
    }
}

/// A least rate in the units of the loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Bytes a second.
    pub(crate) bytes_per_second: u64,
    /// Ticks before the mean is looked at.
    pub(crate) grace: u64,
}

impl Rate {
    fn new(rate: MinRate) -> Self {
        Self { bytes_per_second: rate.bytes_per_second().into(), grace: ticks(rate.grace()) }
    }
}

impl ConnConfig {
    /// Whether they are Unix sockets.
    #[inline]
    pub(crate) fn is_unix(&self) -> bool {
        self.flags.has(Flags::UNIX)
    }

    /// Whether incomplete messages have limits.
    #[inline]
    pub(crate) fn watches_messages(&self) -> bool {
        self.flags.has(Flags::WATCHED)
    }

    /// The longest limit that counts from a stamp of the loop.
    pub(crate) fn longest_limit(&self) -> u64 {
        let rates = [self.receive_rate, self.send_rate].map(|rate| rate.map(|rate| rate.grace));
        let limits = [self.first_byte, self.message, rates[0], rates[1]].into_iter().flatten();
        limits.fold(self.close.max(self.idle.longest()), u64::max)
    }

    /// From limits that have been checked.
    pub(crate) fn new(limits: &Limits, service: u32) -> Self {
        let idle = IdleLimits {
            read: limits.read_idle.map(ticks),
            write: limits.write_idle.map(ticks),
            all: limits.all_idle.map(ticks),
        };
        let shortest = [idle.read, idle.write, idle.all].into_iter().flatten().min();
        let mut flags = Flags::NONE;
        let is_watched = limits.message_timeout.is_some() || limits.min_receive_rate.is_some();
        flags.put(Flags::WATCHED, is_watched);
        Self {
            service,
            listener: None,
            listen_addr: NO_ADDR,
            idle,
            shortest_idle: shortest.unwrap_or(NEVER),
            first_byte: limits.first_byte_timeout.map(ticks),
            message: limits.message_timeout.map(ticks),
            receive_rate: limits.min_receive_rate.map(Rate::new),
            send_rate: limits.min_send_rate.map(Rate::new),
            max_input: limits.max_input_bytes,
            max_requests: limits.max_outstanding_requests,
            high_mark: limits.high_mark_bytes,
            cork_room: CORK_BYTES.min(limits.high_mark_bytes - 1),
            low_mark: limits.low_mark_bytes,
            max_output: limits.max_output_bytes,
            on_overflow: limits.on_overflow,
            pause_at_high_mark: limits.pause_at_high_mark,
            close: ticks(limits.close_timeout),
            tcp: None,
            keepalive: None,
            dial: None,
            flags,
            layers: Box::default(),
        }
    }
}
