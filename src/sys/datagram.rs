//! UDP sockets of either world.

use std::io;
use std::net::SocketAddr;

#[cfg(unix)]
use super::{NO_ADDR, UnixDatagrams};
use super::{Poller, World, os, sim};
use crate::options::{Group, UdpOptions};

impl World {
    /// Binds a UDP socket.
    pub(crate) fn bind_udp(
        &self,
        addr: SocketAddr,
        options: &UdpOptions,
    ) -> io::Result<DatagramSocket> {
        match self {
            Self::Os => os::bind_udp(addr, options).map(DatagramSocket::Os),
            Self::Sim(host) => host.bind_udp(addr, None, options).map(DatagramSocket::Sim),
        }
    }

    /// A UDP socket that has one peer.
    pub(crate) fn connect_udp(
        &self,
        peer: SocketAddr,
        options: &UdpOptions,
    ) -> io::Result<DatagramSocket> {
        match self {
            Self::Os => os::connect_udp(peer, options).map(DatagramSocket::Os),
            Self::Sim(host) => {
                let any = SocketAddr::from(([0, 0, 0, 0], 0));
                let addr = options.source.unwrap_or(any);
                host.bind_udp(addr, Some(peer), options).map(DatagramSocket::Sim)
            }
        }
    }
}

/// A UDP socket, or a Unix socket for datagrams, which has no addresses.
#[derive(Debug)]
pub(crate) enum DatagramSocket {
    /// Of the operating system.
    Os(os::DatagramSocket),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(Box<UnixDatagrams>),
    /// Of a simulated world.
    Sim(sim::DatagramSocket),
}

impl DatagramSocket {
    /// Receives one datagram: how much of it there was room for, and who sent it.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            Self::Os(socket) => os::receive_from(socket, buffer),
            #[cfg(unix)]
            Self::Unix(socket) => Ok((socket.receive(buffer)?, NO_ADDR)),
            Self::Sim(socket) => socket.receive(buffer),
        }
    }

    /// Sends one datagram whole, to the peer if the socket has one.
    #[inline]
    pub(crate) fn send(&mut self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        match self {
            Self::Os(socket) => os::send_to(socket, bytes, to),
            #[cfg(unix)]
            Self::Unix(socket) => socket.send(bytes),
            Self::Sim(socket) => socket.send(bytes, to),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(socket) => socket.local_addr(),
            #[cfg(unix)]
            Self::Unix(_) => Ok(NO_ADDR),
            Self::Sim(socket) => Ok(socket.local_addr()),
        }
    }

    /// Its peer, as the system knows it: who was given the address of none in particular has this
    /// machine as its peer.
    pub(crate) fn peer_addr(&self, given: SocketAddr) -> SocketAddr {
        match self {
            Self::Os(socket) => socket.peer_addr().unwrap_or(given),
            _ => given,
        }
    }

    /// Whether it is a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::Unix(_) => true,
            _ => false,
        }
    }

    /// The Unix socket, if it is one.
    #[cfg(unix)]
    #[inline]
    pub(crate) fn unix(&self) -> Option<&UnixDatagrams> {
        match self {
            Self::Unix(socket) => Some(socket),
            _ => None,
        }
    }

    /// The Unix socket, if it is one.
    #[cfg(unix)]
    #[inline]
    pub(crate) fn unix_mut(&mut self) -> Option<&mut UnixDatagrams> {
        match self {
            Self::Unix(socket) => Some(socket),
            _ => None,
        }
    }

    pub(crate) fn join(&self, group: &Group) -> io::Result<()> {
        match self {
            Self::Os(socket) => os::join(socket, group),
            #[cfg(unix)]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Sim(socket) => socket.change_group(group),
        }
    }

    pub(crate) fn leave(&self, group: &Group) -> io::Result<()> {
        match self {
            Self::Os(socket) => os::leave(socket, group),
            #[cfg(unix)]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Sim(socket) => socket.change_group(group),
        }
    }
}

impl Poller {
    /// Registers a UDP socket for what there is to read. A standing interest in writing would
    /// report every datagram that the kernel has sent, so that is asked for only while some wait.
    pub(crate) fn add_datagrams(
        &self,
        socket: &mut DatagramSocket,
        token: usize,
    ) -> io::Result<()> {
        match (self, socket) {
            (Self::Os(poller), DatagramSocket::Os(socket)) => os::add(poller, socket, token, false),
            #[cfg(unix)]
            (Self::Os(poller), DatagramSocket::Unix(socket)) => {
                os::add(poller, socket.source(), token, false)
            }
            (Self::Sim(poller), DatagramSocket::Sim(socket)) => {
                poller.add_datagrams(socket.key(), token);
                Ok(())
            }
            _ => Err(super::of_two_worlds()),
        }
    }

    /// Asks for writability, or no longer; reports what is ready anew. Takes a socket up again
    /// that the poll has let go of.
    pub(crate) fn ask_datagrams(
        &self,
        socket: &mut DatagramSocket,
        token: usize,
        writable: bool,
    ) -> io::Result<()> {
        match (self, socket) {
            (Self::Os(poller), DatagramSocket::Os(socket)) => {
                os::watch(poller, socket, token, writable)
            }
            #[cfg(unix)]
            (Self::Os(poller), DatagramSocket::Unix(socket)) => {
                os::watch(poller, socket.source(), token, writable)
            }
            (Self::Sim(poller), DatagramSocket::Sim(socket)) => {
                poller.change(socket.key(), token, writable)
            }
            _ => Err(super::of_two_worlds()),
        }
    }
}

/// Whether an error of a socket says that the poll has let go of it: as `WouldBlock`, but that
/// no event comes before it is asked for.
pub(crate) fn is_let_go(error: &io::Error) -> bool {
    os::is_let_go(error)
}

/// Why a datagram was not sent, as far as `io::ErrorKind` has no word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendFault {
    /// It is longer than the socket, or the way to the peer, takes.
    TooLong,
    /// A queue of the system is full.
    NoBuffers,
    /// It is for an address of the other family than the socket's.
    Family,
    /// Something else, or an older error that was waiting to be told.
    Other,
}

impl SendFault {
    /// What an error of a send says.
    #[cfg(unix)]
    pub(crate) fn of(error: &io::Error) -> Self {
        use rustix::io::Errno;
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MSGSIZE) => Self::TooLong,
            Some(Errno::NOBUFS | Errno::NOMEM) => Self::NoBuffers,
            Some(Errno::AFNOSUPPORT) => Self::Family,
            _ => Self::Other,
        }
    }

    /// What an error of a send says: 10040 is `WSAEMSGSIZE`, 10055 is `WSAENOBUFS`, 10047 is
    /// `WSAEAFNOSUPPORT`.
    #[cfg(not(unix))]
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(10_040) => Self::TooLong,
            Some(10_055) => Self::NoBuffers,
            Some(10_047) => Self::Family,
            _ => Self::Other,
        }
    }
}
