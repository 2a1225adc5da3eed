//! What the poll tells of a connection.

/// What the poll tells of a connection's socket.
///
/// Room for output is asked for when output has to wait for the first time, because most sockets
/// are never full: a socket that is registered for it has room at once, and the poll would tell so
/// of each new connection, in a turn of its own if the peer says nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The socket is registered with no poll, or there is none yet.
    Nothing,
    /// Input, and the end.
    Input,
    /// Room for output too.
    Both,
}
