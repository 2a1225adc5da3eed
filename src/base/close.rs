//! Why a connection ended, and how much of its output was lost.

use std::fmt;
use std::io;
use std::time::Duration;

/// What a connection was waiting for when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// The first byte after the connection was opened.
    FirstByte,
    /// The rest of a message that had begun.
    Message,
    /// The least number of bytes a second from the peer, while a message was incomplete.
    ReceiveRate,
    /// The least number of bytes a second to the peer, while output was queued.
    SendRate,
    /// The queued output to leave, and the peer to finish, after `close`.
    Close,
    /// A deadline that the handler set itself.
    User,
}

impl fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "no first byte in time",
            Self::Message => "a message was not complete in time",
            Self::ReceiveRate => "the peer sent too slowly",
            Self::SendRate => "the peer read too slowly",
            Self::Close => "the output did not leave in time",
            Self::User => "the handler's deadline passed",
        })
    }
}

/// Which kind of silence an idle limit measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdleKind {
    /// No byte was read.
    Read,
    /// No byte left.
    Write,
    /// No byte was read and none left.
    All,
}

/// What to do with an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Idle {
    /// End the connection at once, with [`CloseReason::Idle`]. If the callback has already closed
    /// the connection in another way, that goes on instead.
    Close,
    /// Keep the connection, and call `on_idle` again when the limit has passed once more.
    Keep,
}

/// What to do with a connection whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// Keep the connection, and call `on_deadline` again after this time, at least 1 ms, unless the
    /// handler moves the deadline before.
    Keep(Duration),
    /// Close the connection as `Conn::close` does: what was written is sent, then FIN. The reason
    /// is [`CloseReason::Local`].
    Close,
    /// Reset the connection at once, with [`CloseReason::Timeout`]. If the callback has already
    /// closed the connection in another way, that goes on instead.
    Reset,
}

/// Why a connection ended.
///
/// What the peer sees: FIN if everything written was sent, and RST if anything was not, so that a
/// part never looks like the whole. `Timeout`, `Overflow`, `Panic` and `Conn::abort` always reset.
///
/// Two exceptions:
/// - If TLS has failed and has sent an alert, the peer gets FIN after it, and the reason here is
///   `Io`: a reset could destroy the alert on its way. If output of the handler is unsent, the peer
///   gets RST.
/// - A Unix socket has no reset: there the peer sees an end either way (see `Conn::abort`).
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler closed or aborted the connection.
    Local,
    /// The peer finished sending, and this side then closed in turn or had finished before.
    Peer,
    /// The peer reset the connection, or was gone when output was sent.
    Reset,
    /// An idle limit passed and `on_idle` did not keep it.
    Idle,
    /// A deadline passed.
    Timeout(TimeoutKind),
    /// A cap on memory was exceeded: `max_output_bytes` by a write, `max_input_bytes` by what
    /// `on_data` left unconsumed, or `ReactorOptions::max_queued_bytes` by all connections
    /// together, of which this one had the largest queue.
    Overflow,
    /// A callback of this connection panicked.
    Panic,
    /// Another error of the operating system.
    Io(io::Error),
    /// The reactor was stopped.
    Shutdown,
}

impl CloseReason {
    /// Whether the connection could not go on.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Reset | Self::Overflow | Self::Panic | Self::Io(_) | Self::Timeout(_))
    }

    /// The reason that an error of a read or a write stands for.
    pub(crate) fn from_error(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            // An emulating poll has let go of the broken socket.
            | io::ErrorKind::NotFound => Self::Reset,
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed here"),
            Self::Peer => f.write_str("closed by the peer"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Idle => f.write_str("idle"),
            Self::Timeout(kind) => write!(f, "timed out: {kind}"),
            Self::Overflow => f.write_str("a buffer cap was exceeded"),
            Self::Panic => f.write_str("a callback panicked"),
            Self::Io(error) => write!(f, "failed: {error}"),
            Self::Shutdown => f.write_str("the reactor was stopped"),
        }
    }
}
