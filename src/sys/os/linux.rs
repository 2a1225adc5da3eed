//! What Linux and Android have, and others have not: `linux_stub.rs` has the same names for them.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::net::UdpSocket;
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::system::NO_SIGNAL;
use super::{Credentials, Stream};

/// Whether an accepted socket has the options of its listener.
pub(crate) const OPTIONS_ARE_INHERITED: bool = true;

/// A socket for an address of this family that does not block: asked for in the call that makes
/// it, which spares two more.
pub(crate) fn new_socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    Socket::new(Domain::for_address(addr), kind.nonblocking(), Some(protocol))
}

/// The largest backlog that the system takes, if it can be known.
pub(crate) fn largest_backlog() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

/// Sets how long sent bytes may stay unacknowledged.
pub(crate) fn set_user_timeout(socket: &SockRef<'_>, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

/// Limits a socket to the groups that it has joined. `IP_MULTICAST_ALL` of ip(7) is on by
/// default: a socket then receives what is sent to the groups of any other socket of the machine,
/// and leaving a group changes nothing while another is in it.
///
/// Android has the option too, and socket2 does not offer it there.
#[cfg_attr(target_os = "android", expect(unused_variables))]
pub(crate) fn limit_to_own_groups(socket: &UdpSocket, is_v4: bool) {
    #[cfg(target_os = "linux")]
    // Before Linux 4.20 IPv6 does not have it; then the groups of others are heard as well.
    let _ = match is_v4 {
        true => SockRef::from(socket).set_multicast_all_v4(false),
        false => SockRef::from(socket).set_multicast_all_v6(false),
    };
}

/// Who is at the other end of a Unix socket.
pub(crate) fn peer_credentials(stream: &impl AsFd) -> Option<Credentials> {
    rustix::net::sockopt::socket_peercred(stream).ok().map(credentials_of)
}

/// Credentials as the kernel has them.
pub(crate) fn credentials_of(found: rustix::net::UCred) -> Credentials {
    // The kernel says 0 for a process that cannot be seen, which the type of the number denies:
    // it is hidden from the optimiser, which would believe the type.
    let pid = std::hint::black_box(found.pid.as_raw_pid());
    Credentials {
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
        pid: u32::try_from(pid).ok().filter(|&pid| pid != 0),
    }
}

/// Writes once, where more follows at once: the kernel waits for it, to fill a packet.
pub(crate) fn send_more(stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::MORE.union(NO_SIGNAL);
    Ok(rustix::net::send(stream, bytes, flags)?)
}

/// Sends bytes of a file within the kernel: sendfile(2).
pub(crate) fn sendfile(
    stream: &Stream,
    file: &File,
    mut offset: u64,
    most: usize,
) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(stream, file, Some(&mut offset), most)?)
}
