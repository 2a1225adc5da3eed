//! Handles on UDP sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::host::{Host, no_descriptor};
use super::socket::{Socket, SocketStage};
use super::trace::Call;
use super::world::World;
use crate::options::{Group, UdpOptions};
use crate::sys;

/// A UDP socket; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    host: Host,
    key: u32,
}

impl Host {
    pub(crate) fn bind_udp(
        &self,
        addr: SocketAddr,
        peer: Option<SocketAddr>,
        options: &UdpOptions,
    ) -> io::Result<DatagramSocket> {
        if !options.groups.is_empty() {
            return Err(no_multicast());
        }
        self.call(|world| {
            let mut addr = self.resolve(addr);
            if addr.ip() != World::ip_of(self.index) {
                return Err(ErrorKind::AddrNotAvailable.into());
            }
            if addr.port() == 0 {
                addr.set_port(10_000 + (world.sockets.len() % 50_000) as u16);
            }
            if world.udp_at(addr).is_some() {
                return Err(ErrorKind::AddrInUse.into());
            }
            if !world.open_file(self.index) {
                return Err(no_descriptor(false));
            }
            let remote = peer.map_or(addr, |peer| self.resolve(peer));
            let socket = Socket::new(self.owner(), addr, remote, SocketStage::Datagrams);
            let key = world.add_udp(socket, peer.is_some());
            Ok(DatagramSocket { host: self.clone(), key })
        })
    }
}

fn no_multicast() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "a simulated world has no multicast groups")
}

impl DatagramSocket {
    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.host.world.borrow().sockets[self.key as usize].local
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut sender = None;
        let count = self.host.call_on(self.key, Call::Receive, |world| {
            let (count, from) = world.receive_from(self.key, buffer)?;
            sender = Some(from);
            Ok(count)
        })?;
        Ok((count, sender.ok_or(ErrorKind::WouldBlock)?))
    }

    pub(crate) fn send(&self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        let to = to.map(|to| self.host.resolve(to));
        self.host
            .call_on(self.key, Call::Send, |world| world.send_to(self.key, bytes, to))
            .map(drop)
    }

    pub(crate) fn change_group(&self, _: &Group) -> io::Result<()> {
        Err(no_multicast())
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        self.host.call(|world| {
            world.close(self.key);
            world.close_file(self.host.index);
        });
    }
}

impl sys::DatagramSocket {
    /// The number of the socket in a simulated world.
    pub(crate) fn simulated(&self) -> Option<u32> {
        match self {
            Self::Sim(socket) => Some(socket.key()),
            _ => None,
        }
    }
}
