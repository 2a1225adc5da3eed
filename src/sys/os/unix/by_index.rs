//! Multicast over IPv4 by the index of an interface: `ip_mreqn` of ip(7), which most systems have.

use std::io;
use std::net::Ipv4Addr;

use mio::net::UdpSocket;
use rustix::net::sockopt;
use socket2::Socket;

const ANY: &Ipv4Addr = &Ipv4Addr::UNSPECIFIED;

/// Joins a group on an interface.
pub(crate) fn join_by_index(socket: &UdpSocket, addr: &Ipv4Addr, index: u32) -> io::Result<()> {
    Ok(sockopt::set_ip_add_membership_with_ifindex(socket, addr, ANY, index)?)
}

/// Leaves a group on an interface.
pub(crate) fn leave_by_index(socket: &UdpSocket, addr: &Ipv4Addr, index: u32) -> io::Result<()> {
    Ok(sockopt::set_ip_drop_membership_with_ifindex(socket, addr, ANY, index)?)
}

/// Sends to groups by an interface.
pub(crate) fn send_by_index(socket: &Socket, index: u32) -> io::Result<()> {
    Ok(sockopt::set_ip_multicast_if_with_ifindex(socket, ANY, ANY, index)?)
}
