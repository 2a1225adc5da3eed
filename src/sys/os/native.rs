//! Edges as epoll and kqueue have them: mio hands them through, so that reads and writes go to
//! the system past it.
//!
//! mio need not hear of these calls, because a socket that is not ready is reported again by the
//! kernel. libc is left out too where rustix calls the kernel itself: libc asks at each call
//! whether the thread may be cancelled, which costs more than the rest of the way in a process
//! with more than one thread.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mio::event::Source;
use mio::net::{TcpStream, UdpSocket};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, SendAncillaryBuffer};
use socket2::SockRef;

use super::system::NO_SIGNAL;

/// A connection: its descriptor alone.
///
/// mio's type has no more, but lends it by two calls that only link-time optimization can inline:
/// 16 of 200 instructions of an echoed message in a program that is built without.
#[derive(Debug)]
pub(crate) struct Stream(OwnedFd);

impl Stream {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(self).local_addr()?;
        addr.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(self).peer_addr()?;
        addr.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(self).shutdown(how)
    }
}

impl From<OwnedFd> for Stream {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(stream.into())
    }
}

impl AsFd for Stream {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// As mio's type has it: where a write is not one of these calls.
impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self, bytes, NO_SIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, what)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, what: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, what)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

/// What a connection is watched for in order to read it. epoll(7) reports urgent data too, with
/// every event as long as any is unread: recv(2) stops short at it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const STREAM_INPUT: Interest = Interest::READABLE.add(Interest::PRIORITY);
/// What a connection is watched for in order to read it. kqueue(2) has no filter for urgent data.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const STREAM_INPUT: Interest = Interest::READABLE;

/// Whether a read or a write that stops short is followed by an event.
pub(crate) const EDGES_ARE_NATIVE: bool = true;

/// Reads once.
#[inline(always)]
pub(crate) fn receive(stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, buffer, RecvFlags::empty())?.1)
}

/// Writes once. A peer that is gone is an error of the write and no signal.
#[inline(always)]
pub(crate) fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, NO_SIGNAL)?)
}

/// Writes several parts at once.
pub(crate) fn send_vectored(stream: &mut Stream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut ancillary = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(stream, parts, &mut ancillary, NO_SIGNAL)?)
}

/// Runs another call that reads or writes.
pub(crate) fn call<T>(_: &Stream, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    run()
}

/// Receives one datagram: how much of it there was room for, and who sent it.
#[inline(always)]
pub(crate) fn receive_from(
    socket: &mut UdpSocket,
    buffer: &mut [u8],
    from: &mut SocketAddr,
) -> io::Result<usize> {
    let (_, count, sender) = rustix::net::recvfrom(&*socket, buffer, RecvFlags::empty())?;
    // A UDP socket names the sender of each datagram.
    *from = sender.ok_or(io::ErrorKind::AddrNotAvailable)?.try_into()?;
    Ok(count)
}

/// Sends one datagram, to the peer if `to` is `None`.
#[inline(always)]
pub(crate) fn send_to(
    socket: &mut UdpSocket,
    bytes: &[u8],
    to: Option<SocketAddr>,
) -> io::Result<()> {
    match to {
        Some(SocketAddr::V4(to)) => rustix::net::sendto(&*socket, bytes, NO_SIGNAL, &to)?,
        Some(SocketAddr::V6(to)) => rustix::net::sendto(&*socket, bytes, NO_SIGNAL, &to)?,
        None => rustix::net::send(&*socket, bytes, NO_SIGNAL)?,
    };
    Ok(())
}

/// Whether an error says that the poll watches the socket no longer: the kernel's never stops.
pub(crate) fn is_let_go(_: &io::Error) -> bool {
    false
}
