//! Edges as mio emulates them, over poll(2) and on Windows: mio must see each call that finds a
//! socket not ready, since it reports the socket again only after that.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;

use mio::Interest;
pub(crate) use mio::net::TcpStream as Stream;
use mio::net::UdpSocket;

/// What a connection is watched for in order to read it. Every read goes on to `WouldBlock`, past
/// urgent data too.
pub(crate) const STREAM_INPUT: Interest = Interest::READABLE;

/// Whether a read or a write that stops short is followed by an event.
pub(crate) const EDGES_ARE_NATIVE: bool = false;

/// Reads once.
pub(crate) fn receive(stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
    stream.read(buffer)
}

/// Writes once.
pub(crate) fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

/// Writes several parts at once.
pub(crate) fn send_vectored(stream: &mut Stream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    stream.write_vectored(parts)
}

/// Runs another call that reads or writes.
pub(crate) fn call<T>(stream: &Stream, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    stream.try_io(run)
}

/// Receives one datagram: how much of it there was room for, and who sent it.
pub(crate) fn receive_from(
    socket: &mut UdpSocket,
    buffer: &mut [u8],
    from: &mut SocketAddr,
) -> io::Result<usize> {
    let (count, sender) = socket.recv_from(buffer)?;
    *from = sender;
    Ok(count)
}

/// Sends one datagram, to the peer if `to` is `None`.
pub(crate) fn send_to(
    socket: &mut UdpSocket,
    bytes: &[u8],
    to: Option<SocketAddr>,
) -> io::Result<()> {
    match to {
        Some(to) => socket.send_to(bytes, to)?,
        None => socket.send(bytes)?,
    };
    Ok(())
}

/// Whether an error says that the poll watches the socket no longer. mio's own errors have no
/// number.
pub(crate) fn is_let_go(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && error.raw_os_error().is_none()
}
