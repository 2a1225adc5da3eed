//! Handles on UDP sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::host::{Host, no_descriptor};
use super::socket::{Socket, SocketStage};
use super::trace::Call;
use super::world::World;
use crate::options::{Group, UdpOptions};
use crate::sys::{self, Ends, Route};

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
            let is_wildcard = peer.is_none() && addr.ip().is_unspecified();
            let mut addr = self.resolve(addr);
            let own = World::ips_of(self.index);
            if !own.contains(&addr.ip()) {
                return Err(ErrorKind::AddrNotAvailable.into());
            }
            if addr.port() == 0 {
                addr.set_port(10_000 + (world.sockets.len() % 50_000) as u16);
            }
            let wanted = own.into_iter().filter(|&ip| is_wildcard || ip == addr.ip());
            let mut wanted = wanted.map(|ip| SocketAddr::new(ip, addr.port()));
            if wanted.any(|addr| world.udp_at(addr).is_some()) {
                return Err(ErrorKind::AddrInUse.into());
            }
            if !world.open_file(self.index) {
                return Err(no_descriptor(false));
            }
            let remote = peer.map_or(addr, |peer| self.resolve(peer));
            let socket = Socket::new(self.owner(), addr, remote, SocketStage::Datagrams);
            let key = world.add_udp(socket, peer.is_some(), is_wildcard);
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

    pub(crate) fn receive(&self, buffer: &mut [u8], ends: &mut Ends) -> io::Result<usize> {
        let receive = |world: &mut World| world.receive_from(self.key, buffer, ends);
        self.host.call_on(self.key, Call::Receive, receive)
    }

    pub(crate) fn send(&self, bytes: &[u8], route: &Route) -> io::Result<()> {
        let to = route.to.map(|to| self.host.resolve(to));
        let route = Route { to, ..*route };
        self.host
            .call_on(self.key, Call::Send, |world| world.send_to(self.key, bytes, route))
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
