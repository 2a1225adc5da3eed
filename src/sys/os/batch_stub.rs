//! Stands for `batch.rs` where a batch is a call for each datagram: without the feature `batch`,
//! and where mio must see each call. What is never called there fails.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

use super::datagram::{Arrival, DatagramSocket, Route};

/// Whether a batch is one call, and not one for each datagram.
pub(crate) const BATCHES_ARE_CALLS: bool = false;

/// Asks for nothing: datagrams come one by one.
pub(crate) fn take_segments(_: &Socket) {}

/// Whether the system sends segments.
pub(crate) fn sends_segments(_: &DatagramSocket) -> bool {
    false
}

/// Receives nothing.
pub(crate) fn receive_batch<'a>(
    _: &DatagramSocket,
    _: bool,
    _: impl ExactSizeIterator<Item = &'a mut [u8]>,
    _: &mut Vec<Arrival>,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends nothing.
pub(crate) fn send_batch<'a>(
    _: &DatagramSocket,
    _: Option<SocketAddr>,
    _: impl Iterator<Item = (Option<SocketAddr>, &'a [u8])>,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends nothing.
pub(crate) fn send_segments(_: &DatagramSocket, _: &Route, _: &[u8], _: u16) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
