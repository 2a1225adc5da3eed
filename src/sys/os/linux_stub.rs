//! Stands for `linux.rs` on other systems.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Credentials, Stream};

/// Whether an accepted socket has the options of its listener: no system but Linux promises that
/// for all of them.
pub(crate) const OPTIONS_ARE_INHERITED: bool = false;

/// A socket for an address of this family that does not block.
pub(crate) fn new_socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The largest backlog that the system takes: not to be known here.
pub(crate) fn largest_backlog() -> Option<u32> {
    None
}

/// Sets nothing: there is no such time here.
pub(crate) fn set_user_timeout(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Limits nothing: a socket receives only for the groups that it has joined.
pub(crate) fn limit_to_own_groups(_: &UdpSocket, _: bool) {}

/// Who is at the other end of a Unix socket: not to be had here.
pub(crate) fn peer_credentials<S>(_: &S) -> Option<Credentials> {
    None
}

/// Writes once.
pub(crate) fn send_more(mut stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

/// Sends nothing: a file goes through the process here.
pub(crate) fn sendfile(_: &Stream, _: &File, _: u64, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
