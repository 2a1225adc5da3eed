//! Who is at the other end of a Unix socket.

use super::super::Stream;

/// Who a process was when it connected to a Unix socket, set one to listen, or sent a datagram:
/// the kernel vouches for it.
///
/// Ids are those of the namespaces that this process is in. The process may have ended since, and
/// its number may be another's by now: decide by `uid` and `gid`.
///
/// # Platform notes
/// Linux and Android (`SO_PEERCRED` and `SO_PASSCRED`, see unix(7)). Elsewhere there are none to be
/// had here, and a handler that wants them refuses everybody.
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

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Credentials {
    /// As the kernel has them.
    pub(super) fn of(found: rustix::net::UCred) -> Self {
        // The kernel says 0 for a process that cannot be seen, which the type of the number
        // denies: it is hidden from the optimiser, which would believe the type.
        let pid = std::hint::black_box(found.pid.as_raw_pid());
        Self {
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
            pid: u32::try_from(pid).ok().filter(|&pid| pid != 0),
        }
    }
}

impl Stream {
    /// Who is at the other end, if it is a Unix socket and the platform tells.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        rustix::net::sockopt::socket_peercred(self.of_os()?).ok().map(Credentials::of)
    }

    /// Who is at the other end: not to be had on this platform.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        None
    }
}
