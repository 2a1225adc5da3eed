//! Multicast over IPv4 by the index of an interface: `ip_mreqn` of ip(7), which most systems have.
//! Windows takes an index for an address that begins with a zero.

use std::io;
use std::net::Ipv4Addr;

use mio::net::UdpSocket;
use socket2::Socket;

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd",
))]
mod by_index {
    use super::*;
    use rustix::net::sockopt;

    const ANY: &Ipv4Addr = &Ipv4Addr::UNSPECIFIED;

    pub(in super::super) fn join(
        socket: &UdpSocket,
        addr: &Ipv4Addr,
        index: u32,
    ) -> io::Result<()> {
        Ok(sockopt::set_ip_add_membership_with_ifindex(socket, addr, ANY, index)?)
    }

    pub(in super::super) fn leave(
        socket: &UdpSocket,
        addr: &Ipv4Addr,
        index: u32,
    ) -> io::Result<()> {
        Ok(sockopt::set_ip_drop_membership_with_ifindex(socket, addr, ANY, index)?)
    }

    pub(in super::super) fn send_by(socket: &Socket, index: u32) -> io::Result<()> {
        Ok(sockopt::set_ip_multicast_if_with_ifindex(socket, ANY, ANY, index)?)
    }
}

#[cfg(windows)]
mod by_index {
    use super::*;
    use socket2::SockRef;

    pub(in super::super) fn join(
        socket: &UdpSocket,
        addr: &Ipv4Addr,
        index: u32,
    ) -> io::Result<()> {
        SockRef::from(socket).join_multicast_v4(addr, &index.into())
    }

    pub(in super::super) fn leave(
        socket: &UdpSocket,
        addr: &Ipv4Addr,
        index: u32,
    ) -> io::Result<()> {
        SockRef::from(socket).leave_multicast_v4(addr, &index.into())
    }

    pub(in super::super) fn send_by(socket: &Socket, index: u32) -> io::Result<()> {
        socket.set_multicast_if_v4(&index.into())
    }
}

#[cfg(not(any(
    windows,
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "openbsd",
)))]
mod by_index {
    use super::*;

    fn unsupported(option: &str, instead: &str) -> io::Error {
        let text = format!(
            "option {option} is set for IPv4; this platform knows the interface of an IPv4 group \
             by its address only, set {instead}"
        );
        io::Error::new(io::ErrorKind::Unsupported, text)
    }

    pub(in super::super) fn join(_: &UdpSocket, _: &Ipv4Addr, _: u32) -> io::Result<()> {
        Err(unsupported("interface_index", "interface"))
    }

    pub(in super::super) fn leave(_: &UdpSocket, _: &Ipv4Addr, _: u32) -> io::Result<()> {
        Err(unsupported("interface_index", "interface"))
    }

    pub(in super::super) fn send_by(_: &Socket, _: u32) -> io::Result<()> {
        Err(unsupported("multicast_interface_index", "multicast_interface"))
    }
}

pub(super) use by_index::{join, leave, send_by};

/// Has a socket get what is sent to the groups that it has joined, and not to those that any other
/// socket of the machine has: `IP_MULTICAST_ALL` of ip(7) is on by default, and leaving a group
/// changes nothing while another is in it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn only_its_own(socket: &UdpSocket, is_v4: bool) {
    let socket = socket2::SockRef::from(socket);
    // Before Linux 4.20 IPv6 does not have it; then the groups of others are heard as well.
    let _ = match is_v4 {
        true => socket.set_multicast_all_v4(false),
        false => socket.set_multicast_all_v6(false),
    };
}

/// Elsewhere it is so.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn only_its_own(_: &UdpSocket, _: bool) {}
