//! What is to happen in a simulated world.

/// Nanoseconds of a microsecond, a millisecond, a second.
pub(super) const MICRO: u64 = 1_000;
pub(super) const MILLI: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// Something to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SimEvent {
    /// The next segment reaches a socket.
    Arrive(u32),
    /// A SYN reaches its address, for the n-th time.
    Syn(u32, u8),
    /// A connect has come to its end.
    Established(u32),
    /// The last packet of a handshake reaches a listener, for one of its connections.
    Acknowledged(u32, u32),
    /// A connect is refused.
    Refused(u32),
    /// A connect is given up by the system.
    TimedOut(u32),
    /// A writer has room again.
    Room(u32),
    /// The network breaks a connection.
    Break(u32),
    /// A connection is given up by the system, whose peer has answered nothing for long.
    GivenUp(u32),
    /// A datagram arrives, by its number.
    Datagram(u32),
    /// So many bytes of datagrams have left the machine of a socket.
    Left(u32, u32),
    /// The poll of a host has an event that was held back.
    Held,
    /// A script goes on.
    Peer(u32),
    /// Another thread does something.
    Call(u32),
    /// Descriptors come back.
    Descriptors(u32),
    /// Something befalls a host or a link.
    NetworkFault,
}
