//! What observers are told.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::close::{CloseReason, Deadline, Idle, IdleKind};
use crate::base::id::{ConnId, SocketId, TimerId};

/// A callback that begins or has returned.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Callback<'a> {
    /// The index of its handler, in the order of registration: the number that `{:?}` of
    /// [`HandlerKey`](crate::HandlerKey) shows.
    pub handler: u32,
    /// Which callback, and its parameters.
    pub what: What<'a>,
    /// The state of its connection now; `None` if it has no connection, or the connection has
    /// ended.
    pub conn: Option<ConnFacts>,
}

/// Which callback, and its parameters. Callbacks of connections are methods of
/// [`Handler`](crate::Handler), and callbacks of sockets are methods of the handlers of datagrams.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are the parameters of the callbacks")]
pub enum What<'a> {
    /// `on_accept`.
    Accept { peer: SocketAddr },
    /// `on_open`.
    Open { id: ConnId },
    /// `on_data`.
    Data { id: ConnId, input: &'a [u8] },
    /// `on_drain`.
    Drain { id: ConnId },
    /// `on_eof`.
    Eof { id: ConnId },
    /// `on_idle`, for this limit.
    Idle { id: ConnId, kind: IdleKind, limit: Option<Duration> },
    /// `on_deadline`.
    Deadline { id: ConnId },
    /// `on_timer` of a connection.
    Timer { id: ConnId, timer: TimerId },
    /// `on_shutdown`.
    Shutdown { id: ConnId },
    /// `on_close`.
    Close { id: ConnId, unsent_bytes: usize },
    /// `on_connect_retry`, after this number of tries.
    ConnectRetry { id: ConnId, tries: u32 },
    /// `on_connect_failed`; `id` is `None` if the connect failed before anything was begun.
    ConnectFailed { id: Option<ConnId> },
    /// No callback: the loop drops the state that `on_accept` returned, because the connection
    /// could not be registered.
    DropState,
    /// `on_handler_timer`.
    HandlerTimer { timer: TimerId },
    /// A closure that was posted, from this thread or another one.
    Posted,
    /// The messages of a channel, one callback each: [`Outcome::Delivered`] says how many.
    Messages,
    /// `on_datagram`.
    Datagram { id: SocketId, from: SocketAddr, bytes: &'a [u8] },
    /// `on_batch_end`.
    BatchEnd { id: SocketId },
    /// `on_drain` of a datagram socket.
    SocketDrain { id: SocketId },
    /// `on_error` of a datagram socket.
    SocketError { id: SocketId },
    /// `on_timer` of a datagram socket.
    SocketTimer { id: SocketId, timer: TimerId },
    /// `on_session_end` of the sessions that have ended, none or several.
    Sessions { id: SocketId },
    /// `on_close` of a datagram socket.
    SocketClose { id: SocketId },
}

impl What<'_> {
    /// The name of the callback, such as `on_data`; in parentheses if it is no method of a handler.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accept { .. } => "on_accept",
            Self::Open { .. } => "on_open",
            Self::Data { .. } => "on_data",
            Self::Drain { .. } | Self::SocketDrain { .. } => "on_drain",
            Self::Eof { .. } => "on_eof",
            Self::Idle { .. } => "on_idle",
            Self::Deadline { .. } => "on_deadline",
            Self::Timer { .. } | Self::SocketTimer { .. } => "on_timer",
            Self::Shutdown { .. } => "on_shutdown",
            Self::Close { .. } | Self::SocketClose { .. } => "on_close",
            Self::ConnectRetry { .. } => "on_connect_retry",
            Self::ConnectFailed { .. } => "on_connect_failed",
            Self::DropState => "(drop of a state)",
            Self::HandlerTimer { .. } => "on_handler_timer",
            Self::Posted => "(posted closure)",
            Self::Messages => "on_message",
            Self::Datagram { .. } => "on_datagram",
            Self::BatchEnd { .. } => "on_batch_end",
            Self::SocketError { .. } => "on_error",
            Self::Sessions { .. } => "on_session_end",
        }
    }

    /// The connection of the callback, which may have ended.
    #[must_use]
    pub fn conn_id(&self) -> Option<ConnId> {
        match *self {
            Self::Open { id }
            | Self::Data { id, .. }
            | Self::Drain { id }
            | Self::Eof { id }
            | Self::Idle { id, .. }
            | Self::Deadline { id }
            | Self::Timer { id, .. }
            | Self::Shutdown { id }
            | Self::Close { id, .. }
            | Self::ConnectRetry { id, .. } => Some(id),
            Self::ConnectFailed { id } => id,
            _ => None,
        }
    }

    /// The datagram socket of the callback, which may be closed.
    #[must_use]
    pub fn socket_id(&self) -> Option<SocketId> {
        match *self {
            Self::Datagram { id, .. }
            | Self::BatchEnd { id }
            | Self::SocketDrain { id }
            | Self::SocketError { id }
            | Self::SocketTimer { id, .. }
            | Self::Sessions { id }
            | Self::SocketClose { id } => Some(id),
            _ => None,
        }
    }
}

/// The state of a connection that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnFacts {
    /// Whether the loop reads from it. Not so while reading is paused, while output above the high
    /// mark holds reading back, or after the peer has finished.
    pub is_reading: bool,
    /// Whether its handler has paused reading.
    pub is_paused: bool,
    /// Whether its bytes pass through a layer such as TLS, so that the handler sees other bytes
    /// than the socket.
    pub is_layered: bool,
    /// Bytes of input that are kept for its handler. Bytes that are lent to `on_data` do not count.
    pub input_bytes: usize,
    /// Bytes of output that the kernel has not taken, those of files included.
    pub output_bytes: usize,
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnEnd<'a> {
    /// Why it ended.
    pub reason: &'a CloseReason,
    /// Bytes that were accepted for sending and are lost.
    pub unsent_bytes: usize,
    /// Whether its handler called `close` or `abort`, whatever ended the connection after that.
    pub is_by_handler: bool,
    /// Whether it had to end with RST even if everything was sent.
    pub must_reset: bool,
    /// Whether its handler had paused reading.
    pub is_paused: bool,
}

/// What a callback has returned, or what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing.
    Returned,
    /// Whether a connection was accepted.
    Accepted(bool),
    /// How many bytes of its input it has consumed.
    Consumed(usize),
    /// What is to be done with an idle connection.
    Idle(Idle),
    /// What is to be done with a connection whose deadline has passed.
    Deadline(Deadline),
    /// How many messages a channel has delivered.
    Delivered(usize),
}

/// The lengths of the queues of a loop, and the state of its timer wheel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopState {
    /// The tick of the turn: milliseconds since the reactor was made.
    pub tick: u64,
    /// Timers that are set.
    pub timers: usize,
    /// The slots of the wheel that are not empty.
    pub wheel: Vec<WheelSlot>,
    /// New connections that have no entry in the wheel yet.
    pub deferred: usize,
    /// Sockets on the ready queue.
    pub ready: usize,
    /// Messages and closures in the mailbox.
    pub messages: usize,
    /// Connections to be flushed at the end of the turn.
    pub flushes: usize,
    /// Connections to be torn down at the end of the turn.
    pub closes: usize,
    /// Outgoing connections that will be tried again, and whose handlers do not know that yet.
    pub retries: usize,
}

/// A slot of the timer wheel that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WheelSlot {
    /// The level: a slot of level `n` is 64^`n` ticks wide.
    pub level: usize,
    /// The place in the level, from 0 to 63.
    pub slot: usize,
    /// Entries in it. Cancelled ones count until they are dropped.
    pub entries: usize,
}

/// The time of a callback: from the last reading of the clock before it to the reading at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The reading before, in nanoseconds since the reactor was made.
    begun: u64,
    /// The time from there to the reading at its end.
    length: u64,
}

impl Span {
    #[inline]
    pub(super) fn new(begun: u64, ended: u64) -> Self {
        // The clock does not go back.
        Self { begun, length: ended.wrapping_sub(begun) }
    }

    /// The reading before.
    #[must_use]
    pub fn begun(self) -> Duration {
        Duration::from_nanos(self.begun)
    }

    /// The reading at its end.
    #[must_use]
    pub fn ended(self) -> Duration {
        Duration::from_nanos(self.ended_nanos())
    }

    /// The time between the two.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_nanos(self.length)
    }

    /// The reading before, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn begun_nanos(self) -> u64 {
        self.begun
    }

    /// The reading at its end, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn ended_nanos(self) -> u64 {
        self.begun.wrapping_add(self.length)
    }

    /// The time between the two, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn length_nanos(self) -> u64 {
        self.length
    }
}

/// A message that was handled in one go. One read returned it, `on_data` consumed at least a part
/// of it, and the kernel took all that `on_data` wrote. After that the connection was neither
/// paused nor closed, and had no output queued. No message of a connection with TLS, over a Unix
/// socket, or with a timer of its own ([`Conn::set_timer`](crate::Conn::set_timer)) is one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Message<'a> {
    /// The handler, as in [`Callback::handler`].
    pub handler: u32,
    /// The connection.
    pub id: ConnId,
    /// What was read, and lent to `on_data`.
    pub input: &'a [u8],
    /// How many bytes of it `on_data` has consumed.
    pub consumed: usize,
    /// How many bytes of what `on_data` wrote the kernel has taken.
    pub written: usize,
    /// How long `on_data` took.
    pub span: Span,
}

impl ConnFacts {
    /// Nothing is unusual about the connection: it is on the fast path.
    pub(crate) const USUAL: Self = Self {
        is_reading: true,
        is_paused: false,
        is_layered: false,
        input_bytes: 0,
        output_bytes: 0,
    };
}

impl<'a> Callback<'a> {
    #[inline]
    pub(crate) fn new(handler: u32, what: What<'a>, conn: Option<ConnFacts>) -> Self {
        Self { handler, what, conn }
    }
}
