//! Stands for `by_index.rs` where IPv4 knows an interface by its address only.

use std::io;
use std::net::Ipv4Addr;

use mio::net::UdpSocket;
use socket2::Socket;

/// Joins a group on an interface: refused.
pub(crate) fn join_by_index(_: &UdpSocket, _: &Ipv4Addr, _: u32) -> io::Result<()> {
    Err(unsupported("interface_index", "interface"))
}

/// Leaves a group on an interface: refused.
pub(crate) fn leave_by_index(_: &UdpSocket, _: &Ipv4Addr, _: u32) -> io::Result<()> {
    Err(unsupported("interface_index", "interface"))
}

/// Sends to groups by an interface: refused.
pub(crate) fn send_by_index(_: &Socket, _: u32) -> io::Result<()> {
    Err(unsupported("multicast_interface_index", "multicast_interface"))
}

fn unsupported(option: &str, instead: &str) -> io::Error {
    let text = format!(
        "option {option} is set for IPv4; this platform knows the interface of an IPv4 group by \
         its address only, set {instead}"
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}
