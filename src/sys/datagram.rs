//! UDP sockets of either world.

use std::io;
use std::net::SocketAddr;

use super::{Ends, NO_ADDR, Poller, Route, World, of_two_worlds, os, sim};
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
    Unix(os::UnixDatagramSocket),
    /// Of a simulated world.
    Sim(sim::DatagramSocket),
}

impl From<os::UnixDatagramSocket> for DatagramSocket {
    fn from(socket: os::UnixDatagramSocket) -> Self {
        Self::Unix(socket)
    }
}

impl DatagramSocket {
    /// Receives one datagram: how much of it there was room for. Stores between which addresses it
    /// came; if there is none, `ends` has no meaning.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut [u8], ends: &mut Ends) -> io::Result<usize> {
        match self {
            Self::Os(socket) => socket.receive(buffer, ends),
            Self::Unix(socket) => {
                *ends = Ends::NONE;
                socket.receive(buffer)
            }
            Self::Sim(socket) => socket.receive(buffer, ends),
        }
    }

    /// Sends one datagram whole.
    #[inline]
    pub(crate) fn send(&mut self, bytes: &[u8], route: &Route) -> io::Result<()> {
        match self {
            Self::Os(socket) => socket.send(bytes, route),
            Self::Unix(socket) => socket.send(bytes),
            Self::Sim(socket) => socket.send(bytes, route),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(socket) => socket.local_addr(),
            Self::Unix(_) => Ok(NO_ADDR),
            Self::Sim(socket) => Ok(socket.local_addr()),
        }
    }

    /// The peer as the system knows it: a socket that was connected to the unspecified address has
    /// this machine as its peer.
    pub(crate) fn peer_addr(&self, given: SocketAddr) -> SocketAddr {
        match self {
            Self::Os(socket) => socket.peer_addr().unwrap_or(given),
            _ => given,
        }
    }

    /// Whether this is a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    pub(crate) fn join(&self, group: &Group) -> io::Result<()> {
        match self {
            Self::Os(socket) => os::join(socket, group),
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Sim(socket) => socket.change_group(group),
        }
    }

    pub(crate) fn leave(&self, group: &Group) -> io::Result<()> {
        match self {
            Self::Os(socket) => os::leave(socket, group),
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
            (Self::Os(poller), DatagramSocket::Os(socket)) => {
                os::add(poller, socket.source(), token, false)
            }
            (Self::Os(poller), DatagramSocket::Unix(socket)) => {
                os::add(poller, socket.source(), token, false)
            }
            (Self::Sim(poller), DatagramSocket::Sim(socket)) => {
                poller.add_datagrams(socket.key(), token);
                Ok(())
            }
            _ => Err(of_two_worlds()),
        }
    }

    /// Asks for writability, or no longer; reports what is ready anew. Registers a socket again
    /// that the poll no longer watches.
    pub(crate) fn ask_datagrams(
        &self,
        socket: &mut DatagramSocket,
        token: usize,
        writable: bool,
    ) -> io::Result<()> {
        match (self, socket) {
            (Self::Os(poller), DatagramSocket::Os(socket)) => {
                os::watch(poller, socket.source(), token, writable)
            }
            (Self::Os(poller), DatagramSocket::Unix(socket)) => {
                os::watch(poller, socket.source(), token, writable)
            }
            (Self::Sim(poller), DatagramSocket::Sim(socket)) => {
                poller.change(socket.key(), token, writable)
            }
            _ => Err(of_two_worlds()),
        }
    }
}

/// Whether an error of a socket says that the poll no longer watches it. As with `WouldBlock`
/// nothing was done, but no event comes before the poll is asked again.
pub(crate) fn is_let_go(error: &io::Error) -> bool {
    os::is_let_go(error)
}
