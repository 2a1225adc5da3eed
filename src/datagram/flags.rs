//! What is unusual about a datagram socket, a bit each.

use std::fmt;
use std::ops::BitOr;

/// States of a datagram socket that come and go on their own. A socket without any bit receives
/// and sends, and owes its handler nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SocketFlags(u8);

impl SocketFlags {
    /// On the ready queue.
    pub(crate) const IN_READY_QUEUE: Self = Self(1 << 0);
    /// Closed, and torn down in the next ready phase: nothing is received or sent any more.
    pub(crate) const CLOSED: Self = Self(1 << 1);
    /// A callback has panicked, and the handler has not been told.
    pub(crate) const PANICKED: Self = Self(1 << 2);
    /// Datagrams had to wait or were dropped: `on_drain` is owed.
    pub(crate) const OWES_DRAIN: Self = Self(1 << 3);
    /// Datagrams were handed over, perhaps before a panic: `on_batch_end` is owed.
    pub(crate) const OWES_BATCH_END: Self = Self(1 << 4);
    /// The poll is asked for writability.
    ///
    /// Invariant: set while the queue of the socket is not empty, unless a timer brings the socket
    /// back.
    pub(crate) const ASKS_WRITABLE: Self = Self(1 << 5);

    /// Each bit, and what it is called.
    const NAMES: &[(Self, &str)] = &[
        (Self::IN_READY_QUEUE, "IN_READY_QUEUE"),
        (Self::CLOSED, "CLOSED"),
        (Self::PANICKED, "PANICKED"),
        (Self::OWES_DRAIN, "OWES_DRAIN"),
        (Self::OWES_BATCH_END, "OWES_BATCH_END"),
        (Self::ASKS_WRITABLE, "ASKS_WRITABLE"),
    ];

    /// Whether any of these bits is set.
    #[inline(always)]
    pub(crate) const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, bits: Self) {
        self.0 |= bits.0;
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self, bits: Self) {
        self.0 &= !bits.0;
    }

    /// Sets bits, or clears them.
    pub(crate) fn put(&mut self, bits: Self, value: bool) {
        if value { self.set(bits) } else { self.clear(bits) }
    }

    /// Clears bits. Returns whether any was set.
    #[inline]
    pub(crate) fn take(&mut self, bits: Self) -> bool {
        let had = self.has(bits);
        self.clear(bits);
        had
    }
}

impl BitOr for SocketFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for SocketFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Self::NAMES.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| name);
        f.debug_set().entries(set).finish()
    }
}
