//! Stands for `pktinfo.rs` where no safe call reports local addresses: the system chooses the
//! source address of each datagram. A variant without a value costs nothing.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use socket2::Socket;

use super::datagram::Ends;

/// What a socket needs that is told local addresses: there is none here.
#[derive(Debug)]
pub(crate) enum PacketInfo {}

impl PacketInfo {
    /// Binds a socket.
    pub(crate) fn bind(socket: &Socket, addr: SocketAddr) -> io::Result<Option<Box<Self>>> {
        socket.bind(&addr.into())?;
        Ok(None)
    }

    pub(crate) fn receive(&self, _: &UdpSocket, _: &mut [u8], _: &mut Ends) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn send(
        &mut self,
        _: &UdpSocket,
        _: &[u8],
        _: SocketAddr,
        _: SocketAddr,
    ) -> io::Result<()> {
        match *self {}
    }
}
