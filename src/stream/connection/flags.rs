//! What is unusual about a connection, a bit each.

use std::fmt;
use std::ops::BitOr;

/// Everything about a connection that its messages must look at. An open TCP connection of which
/// no bit is set but `WATCHED` takes the fast path: one read, one callback, one write.
///
/// Linux calls the like of it header prediction (`tcp_rcv_established` in net/ipv4/tcp_input.c).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub(crate) const $name: Self = Self(1 << $bit);)*

            /// Each bit, and what it is called.
            pub(crate) const NAMES: &[(Self, &str)] = &[$((Self::$name, stringify!($name))),*];
        }
    };
}

flags! {
    /// The phase is another one than `Open`.
    NOT_OPEN = 0;
    /// The handler was not told that the connection is up, and is not told that it ended.
    UNOPENED = 1;
    /// A Unix socket: the peer can send descriptors along, and a read stops at each.
    UNIX = 2;
    /// Incomplete messages have limits. What runs of them is in the cold state, and a message that
    /// is whole has none.
    WATCHED = 3;
    /// The poll has said "readable" and no read has found the socket empty since.
    READABLE = 4;
    /// FIN or an error was reported: a short read proves nothing.
    HUNG_UP = 5;
    /// The poll has reported an error: nothing holds back the reading any more.
    ERROR = 6;
    /// The peer's end has been read.
    READ_CLOSED = 7;
    /// The handler has paused reading.
    PAUSED = 8;
    /// The handler must see the unconsumed input again.
    REPLAY = 9;
    /// The handler said that a message is incomplete although it consumed all.
    INCOMPLETE = 10;
    /// The handler has left input unconsumed.
    HAS_INPUT = 11;
    /// The kernel has not taken all output.
    HAS_OUTPUT = 12;
    /// Output reached the high mark and has not fallen to the low mark since.
    ABOVE_MARK = 13;
    /// The socket took no more when it was last written to, and the poll has not said since that
    /// it does. Queued output says nothing of that: it may not have been tried yet.
    BLOCKED = 14;
    /// The write side is closed, or is to be once the output has left.
    WRITE_SHUT = 15;
    /// The handler has closed the connection and wants no more input. While the connection is open,
    /// it ends when the last request is answered.
    CLOSED_BY_HANDLER = 16;
    /// The connection must end with RST, whatever was sent.
    MUST_RESET = 17;
    /// There is state that few connections need.
    HAS_COLD = 18;
    /// On the ready queue.
    IN_READY_QUEUE = 19;
    /// On the list of those that want a flush at the end of the turn.
    IN_FLUSH_LIST = 20;
    /// Writability has been asked for, where that is done on demand.
    ASKS_WRITABLE = 21;
    /// A layer stands between the socket and the handler.
    LAYERED = 22;
    /// As many requests are outstanding as may be: nothing is read until some are answered.
    MAX_REQUESTS = 23;
    /// For whom the peer speaks is not known yet, and no source is charged for it.
    SOURCE_UNKNOWN = 24;
    /// Urgent data was reported, and no read has found the socket empty since: a short read may
    /// have stopped at it.
    URGENT = 25;
    /// Once its output has left the connection ends, without waiting for the peer's end.
    NO_LINGER = 26;
}

impl Flags {
    /// No bit.
    pub(crate) const NONE: Self = Self(0);

    /// The handler takes no input for now: it has paused, owes answers, or is done.
    pub(crate) const HELD: Self =
        Self(Self::PAUSED.0 | Self::MAX_REQUESTS.0 | Self::CLOSED_BY_HANDLER.0);

    /// The handler may have left input that is whole: it takes none for now, or has no room for
    /// answers.
    pub(crate) const MAY_LEAVE: Self = Self(Self::HELD.0 | Self::ABOVE_MARK.0);

    /// Whether nothing is unusual: the fast path.
    #[inline(always)]
    pub(crate) const fn is_usual(self) -> bool {
        !self.has_other(Self::WATCHED)
    }

    /// Whether any of these bits is set.
    #[inline(always)]
    pub(crate) const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    /// Whether any bit is set that is none of these.
    #[inline(always)]
    pub(crate) const fn has_other(self, bits: Self) -> bool {
        self.0 & !bits.0 != 0
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
    #[inline(always)]
    pub(crate) fn put(&mut self, bits: Self, value: bool) {
        if value { self.set(bits) } else { self.clear(bits) }
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Self::NAMES.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| name);
        f.debug_set().entries(set).finish()
    }
}
