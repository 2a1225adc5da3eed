//! Who is at the other end of a Unix socket.

/// Who a process was when it connected to a Unix socket, set one to listen, or sent a datagram:
/// the kernel vouches for it.
///
/// Ids are those of the namespaces that this process is in. The process may have ended since, and
/// its number may be another's by now: decide by `uid` and `gid`.
///
/// # Platform notes
/// Linux and Android (`SO_PEERCRED` and `SO_PASSCRED`, see unix(7)). Elsewhere none are reported,
/// so that a handler which demands them refuses every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process; `None` if it is in a process namespace that cannot be seen from here.
    pub pid: Option<u32>,
}
