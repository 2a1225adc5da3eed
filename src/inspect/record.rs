//! Records of fixed size, and the ring that keeps the last of them.

use std::fmt;
use std::io;

use crate::base::close::{CloseReason, TimeoutKind};
use crate::base::id::ConnId;
use crate::engine::observer::Phase;

/// A thing that happened. Times and lengths are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// When it began, since the reactor was made.
    pub(super) at: u64,
    pub(super) what: Happened,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happened {
    /// A turn; with how many connections there were at its end.
    Turn { length: u64, connections: u32 },
    /// A phase of a turn in which something was done.
    Phase { phase: Phase, length: u64 },
    /// A callback of a connection, by the place of its name.
    ConnCallback { name: u8, handler: u16, length: u64, conn: ConnId },
    /// A message of a connection: `on_data`, and the bytes that were read for it and written by it.
    Message { handler: u16, length: u32, conn: ConnId, read: u32, written: u32 },
    /// A callback that is of no connection.
    Callback { name: u8, handler: u16, length: u64 },
    /// A connection was accepted, or an outgoing one begun.
    Begun { conn: ConnId, is_outgoing: bool },
    /// A connection is up.
    Opened { conn: ConnId },
    /// A connection has ended.
    Closed { conn: ConnId, why: Why, unsent_bytes: u32 },
    /// Bytes were read. `conn`: as with `Written`.
    Read { conn: Option<ConnId>, bytes: u32 },
    /// The kernel has taken bytes. `conn` is `None` if it was not accepted so far: it may never be,
    /// and nothing else would be told of it.
    Written { conn: Option<ConnId>, bytes: u32 },
    /// A handler has set a timer.
    Armed { wait: u64 },
    /// A timer has fired, so late.
    Fired { late: u64 },
    /// Another thread has woken the loop.
    Woken,
    /// A callback has panicked.
    Panicked,
    /// A mark of the user's, by its place among the names of marks.
    Mark { name: u32 },
}

const _: () = assert!(size_of::<Record>() <= 32, "as the documentation says");

impl Record {
    /// The connection that it is a callback of: which callback, by the place of its name, and how
    /// long it took.
    pub(super) fn callback_of_conn(&self) -> Option<(ConnId, u8, u64)> {
        match self.what {
            Happened::Message { conn, length, .. } => Some((conn, ON_DATA, length.into())),
            Happened::ConnCallback { conn, name, length, .. } => Some((conn, name, length)),
            _ => None,
        }
    }
}

/// Names that last for ever, by their places.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<&'static str>);

/// The place of the name of the callback that a message is.
pub(super) const ON_DATA: u8 = 0;

impl Default for Places {
    fn default() -> Self {
        Self(vec!["on_data"])
    }
}

impl Places {
    /// The place of a name, which gets one if it has none.
    #[inline]
    pub(super) fn of(&mut self, name: &'static str) -> usize {
        let known = self.0.iter().position(|it| std::ptr::eq(*it, name));
        known.unwrap_or_else(|| self.of_text(name))
    }

    /// A text may be at several addresses.
    #[cold]
    fn of_text(&mut self, name: &'static str) -> usize {
        let known = self.0.iter().position(|it| *it == name);
        known.unwrap_or_else(|| {
            self.0.push(name);
            self.0.len() - 1
        })
    }

    pub(super) fn name(&self, place: usize) -> &'static str {
        self.0.get(place).copied().unwrap_or("?")
    }
}

/// Why a connection ended, without what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Local,
    Peer,
    Reset,
    Idle,
    Timeout(TimeoutKind),
    Overflow,
    Panic,
    Io(io::ErrorKind),
    Shutdown,
}

impl Why {
    pub(super) fn of(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::Local => Self::Local,
            CloseReason::Peer => Self::Peer,
            CloseReason::Reset => Self::Reset,
            CloseReason::Idle => Self::Idle,
            CloseReason::Timeout(kind) => Self::Timeout(*kind),
            CloseReason::Overflow => Self::Overflow,
            CloseReason::Panic => Self::Panic,
            CloseReason::Io(error) => Self::Io(error.kind()),
            CloseReason::Shutdown => Self::Shutdown,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Local => "closed here",
            Self::Peer => "closed by the peer",
            Self::Reset => "reset by the peer",
            Self::Idle => "idle",
            Self::Timeout(_) => "timed out",
            Self::Overflow => "a buffer cap was exceeded",
            Self::Panic => "a callback panicked",
            Self::Io(_) => "an error of the system",
            Self::Shutdown => "the reactor was stopped",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle for too long"),
            Self::Timeout(kind) => write!(f, "timed out: {kind}"),
            Self::Io(kind) => write!(f, "an error of the system: {kind}"),
            why => f.write_str(why.text()),
        }
    }
}

/// The last records, up to a number.
///
/// Records are counted from the first one ever; the one with number `n` is at `n & mask`.
#[derive(Debug)]
pub(super) struct Ring {
    /// Filled from the beginning, so that a record is always put in the place of another.
    slots: Box<[Record]>,
    /// Invariant: one less than the number of slots, which is a power of two.
    mask: u64,
    /// The number of the next record.
    next: u64,
    /// The highest value that `next` had when records were taken back: what it has passed is
    /// overwritten.
    top: u64,
}

impl Ring {
    /// A ring of at least so many records.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1).next_power_of_two();
        let mask = capacity as u64 - 1;
        let empty = Record { at: 0, what: Happened::Woken };
        Self { slots: vec![empty; capacity].into_boxed_slice(), mask, next: 0, top: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, record: Record) {
        let at = (self.next & self.mask) as usize;
        self.next += 1;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = record;
        }
    }

    /// The number of the next record.
    pub(super) fn position(&self) -> u64 {
        self.next
    }

    /// Takes back all records from this number on.
    pub(super) fn take_back(&mut self, position: u64) {
        debug_assert!(position <= self.next);
        self.top = self.top.max(self.next);
        self.next = position;
    }

    /// From the oldest to the newest.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        let oldest = self.top.max(self.next).saturating_sub(self.mask + 1).min(self.next);
        let slot = |number: u64| &self.slots[(number & self.mask) as usize];
        (oldest..self.next).map(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64) -> Record {
        Record { at, what: Happened::Woken }
    }

    fn kept(ring: &Ring) -> Vec<u64> {
        ring.iter().map(|record| record.at).collect()
    }

    #[test]
    fn the_last_records_are_kept() {
        let mut ring = Ring::new(4);
        for at in 0..3 {
            ring.push(record(at));
        }
        assert_eq!(kept(&ring), [0, 1, 2]);
        for at in 3..10 {
            ring.push(record(at));
        }
        assert_eq!(kept(&ring), [6, 7, 8, 9]);
    }

    #[test]
    fn what_is_taken_back_is_not_kept_nor_what_it_overwrote() {
        let mut ring = Ring::new(4);
        for at in 0..6 {
            ring.push(record(at));
        }
        let position = ring.position();
        ring.push(record(100));
        ring.push(record(101));
        ring.take_back(position);
        assert_eq!(kept(&ring), [4, 5]);
        ring.push(record(6));
        assert_eq!(kept(&ring), [4, 5, 6]);
        for _ in 0..9 {
            ring.push(record(102)); // more than there is room for
        }
        ring.take_back(position);
        assert_eq!(kept(&ring), [0; 0]);
    }
}
