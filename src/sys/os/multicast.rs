//! Multicast groups of a UDP socket.

use std::io;
use std::net::IpAddr;

use socket2::SockRef;

use super::{DatagramSocket, linux, system};
use crate::options::Group;

/// Joins a group.
pub(crate) fn join(socket: &DatagramSocket, group: &Group) -> io::Result<()> {
    linux::limit_to_own_groups(&socket.io, group.addr.is_ipv4());
    let index = group.interface_index;
    match group.addr {
        IpAddr::V4(addr) if index != 0 => system::join_by_index(&socket.io, &addr, index),
        IpAddr::V4(addr) => SockRef::from(&socket.io).join_multicast_v4(&addr, &group.interface),
        IpAddr::V6(addr) => SockRef::from(&socket.io).join_multicast_v6(&addr, index),
    }
    .map_err(|error| {
        let text = format!("cannot join the multicast group {}: {error}", group.addr);
        io::Error::new(error.kind(), text)
    })
}

/// Leaves a group.
pub(crate) fn leave(socket: &DatagramSocket, group: &Group) -> io::Result<()> {
    let index = group.interface_index;
    match group.addr {
        IpAddr::V4(addr) if index != 0 => system::leave_by_index(&socket.io, &addr, index),
        IpAddr::V4(addr) => SockRef::from(&socket.io).leave_multicast_v4(&addr, &group.interface),
        IpAddr::V6(addr) => SockRef::from(&socket.io).leave_multicast_v6(&addr, index),
    }
    .map_err(|error| {
        let text = format!("cannot leave the multicast group {}: {error}", group.addr);
        io::Error::new(error.kind(), text)
    })
}
