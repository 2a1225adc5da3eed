//! Connections of either world.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use super::{Credentials, NO_ADDR, not_connected, os, sim};
use crate::base::tcp_info::TcpInfo;
use crate::options::{Keepalive, TcpOptions};

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Of the operating system: TCP, or a Unix socket, for which the calls are the same.
    Os(os::Stream),
    /// Of a simulated world.
    Sim(sim::Stream),
    /// The place of one that is to be connected; takes no descriptor.
    Absent,
}

impl Stream {
    /// Whether a read that returns less than was asked for has emptied the socket, so that the
    /// next one may wait for the next event, and likewise for writes: true for TCP under
    /// edge-triggered epoll and kqueue (see epoll(7), questions and answers, 9). mio emulates
    /// edges elsewhere and wants `WouldBlock` first.
    ///
    /// The flag `UNIX` of a Unix socket says otherwise. The answer here is for
    /// TCP connections only, so that it is a constant.
    ///
    /// A read also stops short at TCP urgent data. On Linux the event says so (`EPOLLPRI`), and the
    /// flag `URGENT` then says otherwise. An event without it means that no urgent data was there
    /// when the event was taken, and what comes later is another event. kqueue does not say so:
    /// there, what a peer sends behind urgent data is read with what it sends next.
    #[inline]
    pub(crate) fn short_means_done(&self) -> bool {
        match self {
            Self::Os(_) | Self::Absent => os::EDGES_ARE_NATIVE,
            Self::Sim(stream) => stream.edges_are_native(),
        }
    }

    /// Whether a connection that was begun is up: `None` while that is still open.
    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        match self {
            Self::Os(stream) => os::connected(stream),
            Self::Sim(stream) => stream.connected(),
            Self::Absent => None,
        }
    }

    /// The socket, if it is of the operating system.
    pub(super) fn of_os(&self) -> Option<&os::Stream> {
        match self {
            Self::Os(stream) => Some(stream),
            Self::Sim(_) | Self::Absent => None,
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(stream) => stream.local_addr(),
            Self::Sim(stream) => Ok(stream.local_addr()),
            Self::Absent => Ok(NO_ADDR),
        }
    }

    /// Whether both ends of a TCP connection to `peer` are this socket.
    pub(crate) fn is_its_own_peer(&self, peer: SocketAddr) -> bool {
        let here = |local: SocketAddr| (local.ip(), local.port()) == (peer.ip(), peer.port());
        peer != NO_ADDR && self.local_addr().is_ok_and(here)
    }

    /// Sends FIN behind what was written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Os(stream) => stream.shutdown(Shutdown::Write),
            Self::Sim(stream) => stream.shutdown_write(),
            Self::Absent => Err(not_connected()),
        }
    }

    /// Who is at the other end, if it is a Unix socket and the platform reports that.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        os::peer_credentials(self.of_os()?)
    }

    /// What the kernel knows of the connection.
    ///
    /// A connection that is not up does not know its peer: `dialled` names it. Behind a proxy the
    /// peer that the handler knows may be another than the kernel's.
    pub(crate) fn tcp_info(&self, dialled: SocketAddr) -> io::Result<TcpInfo> {
        match self {
            Self::Os(stream) => os::tcp_info(stream, stream.peer_addr().unwrap_or(dialled)),
            Self::Sim(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated world has no TCP_INFO: its connections have no segments",
            )),
            Self::Absent => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "no TCP_INFO: the connection is not begun",
            )),
        }
    }

    /// How long ago the kernel last sent data, to 10 ms more or less. `None` if the peer does not
    /// acknowledge, or if that is not known.
    pub(crate) fn sent_ago(&self) -> Option<Duration> {
        os::sent_ago(self.of_os()?)
    }

    /// The same of a kernel that has output which it has not sent; `None` if it has none.
    pub(crate) fn unsent_stall(&self) -> Option<Duration> {
        os::unsent_stall(self.of_os()?)
    }

    /// Makes the coming close send RST, so that the peer cannot take a cut stream for a whole one.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        match self {
            Self::Os(stream) => os::reset_on_close(stream),
            Self::Sim(stream) => stream.reset_on_close(),
            Self::Absent => Ok(()),
        }
    }

    /// Has TCP probe a silent peer.
    pub(crate) fn keep_alive(&self, keepalive: &Keepalive) -> io::Result<()> {
        match self {
            Self::Os(stream) => os::keep_alive(stream, keepalive),
            Self::Sim(_) | Self::Absent => Ok(()),
        }
    }

    pub(crate) fn set_options(&self, options: &TcpOptions) -> io::Result<()> {
        match self {
            Self::Os(stream) => os::set_options(stream, options),
            Self::Sim(_) | Self::Absent => Ok(()),
        }
    }
}

impl Read for Stream {
    #[inline(always)] // a message has one read
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::receive(stream, buffer),
            Self::Sim(stream) => stream.receive(buffer),
            Self::Absent => Err(not_connected()),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::send(stream, bytes),
            Self::Sim(stream) => stream.send(&[bytes]),
            Self::Absent => Err(not_connected()),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => os::send_vectored(stream, parts),
            Self::Sim(stream) => stream.send(parts),
            Self::Absent => Err(not_connected()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
