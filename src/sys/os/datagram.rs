//! UDP sockets of the operating system.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use socket2::{Protocol, Socket, Type};

use super::pktinfo::PacketInfo;
use super::{batch, linux, multicast, native, system};
use crate::options::UdpOptions;
use crate::sys::NO_ADDR;

/// Most datagrams of one batch.
pub(crate) const BATCH: usize = 64;

/// What has come into one slot of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) slot: usize,
    /// The length of each datagram but the last, if they are several.
    pub(crate) segment: Option<usize>,
    /// How much of all of them there was room for.
    pub(crate) bytes: usize,
    pub(crate) ends: Ends,
}

/// Between which addresses a datagram has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Who has sent it.
    pub(crate) peer: SocketAddr,
    /// The local address at which it arrived. `None` for a socket that is bound to one address,
    /// and where the system does not report it.
    pub(crate) local: Option<SocketAddr>,
}

impl Ends {
    /// Where no datagram has come, and of a Unix socket's, which has no such addresses.
    pub(crate) const NONE: Self = Self { peer: NO_ADDR, local: None };
}

/// The way that a datagram is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// `None` for the peer of the socket.
    pub(crate) to: Option<SocketAddr>,
    /// The local address that it leaves from; `None` for the system's choice.
    pub(crate) local: Option<SocketAddr>,
}

impl Route {
    /// To the peer of a socket.
    pub(crate) const TO_PEER: Self = Self { to: None, local: None };
}

/// A UDP socket.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    pub(super) io: UdpSocket,
    /// Of a socket that is bound to all addresses, where the system reports local addresses.
    pub(super) packet_info: Option<Box<PacketInfo>>,
}

impl DatagramSocket {
    /// What the poll is given.
    pub(crate) fn source(&mut self) -> &mut UdpSocket {
        &mut self.io
    }

    /// Receives one datagram, and stores between which addresses it came.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut [u8], ends: &mut Ends) -> io::Result<usize> {
        match &self.packet_info {
            None => {
                ends.local = None;
                native::receive_from(&mut self.io, buffer, &mut ends.peer)
            }
            Some(info) => info.receive(&self.io, buffer, ends),
        }
    }

    /// Sends one datagram. A socket that is bound to one address sends from there.
    #[inline]
    pub(crate) fn send(&mut self, bytes: &[u8], route: &Route) -> io::Result<()> {
        match (&mut self.packet_info, route) {
            (Some(info), &Route { to: Some(to), local: Some(local) }) => {
                info.send(&self.io, bytes, to, local)
            }
            _ => native::send_to(&mut self.io, bytes, route.to),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }
}

/// Binds a UDP socket.
pub(crate) fn bind_udp(addr: SocketAddr, options: &UdpOptions) -> io::Result<DatagramSocket> {
    let socket = new_socket(addr, options)?;
    let packet_info = PacketInfo::bind(&socket, addr)?;
    finish(socket, packet_info, options)
}

/// A UDP socket that has one peer.
pub(crate) fn connect_udp(peer: SocketAddr, options: &UdpOptions) -> io::Result<DatagramSocket> {
    let socket = new_socket(peer, options)?;
    if let Some(source) = options.source {
        socket.bind(&source.into()).map_err(|error| {
            let text = format!("cannot use {source} as the source address: {error}");
            io::Error::new(error.kind(), text)
        })?;
    } else if system::IS_BOUND_BEFORE_POLLED {
        let any: IpAddr = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, 0).into())?;
    }
    socket.connect(&peer.into())?;
    finish(socket, None, options)
}

/// A socket with every option that has a value, each set by one call.
fn new_socket(addr: SocketAddr, options: &UdpOptions) -> io::Result<Socket> {
    let socket = linux::new_socket(addr, Type::DGRAM, Protocol::UDP)?;
    if options.reuse_address {
        socket.set_reuse_address(true)?;
    }
    if options.reuse_port {
        system::set_reuse_port(&socket)?;
    }
    if options.broadcast {
        socket.set_broadcast(true)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if addr.is_ipv4() {
        set_v4(&socket, options)?
    } else {
        set_v6(&socket, options)?
    }
    Ok(socket)
}

fn set_v4(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    if let Some(ttl) = options.ttl {
        socket.set_ttl_v4(ttl)?;
    }
    if let Some(tos) = options.tos {
        socket.set_tos_v4(tos.into())?;
    }
    if let Some(interface) = options.multicast_interface {
        let set = socket.set_multicast_if_v4(&interface);
        set.map_err(|error| no_interface("multicast_interface", &interface, &error))?;
    }
    if let Some(index) = options.multicast_interface_index {
        system::send_by_index(socket, index)
            .map_err(|error| no_interface("multicast_interface_index", &index, &error))?;
    }
    if let Some(ttl) = options.multicast_ttl {
        socket.set_multicast_ttl_v4(ttl)?;
    }
    if let Some(loops) = options.multicast_loop {
        socket.set_multicast_loop_v4(loops)?;
    }
    Ok(())
}

fn set_v6(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    if let Some(only_v6) = options.only_v6 {
        socket.set_only_v6(only_v6)?;
    }
    if let Some(ttl) = options.ttl {
        socket.set_unicast_hops_v6(ttl)?;
    }
    if let Some(tos) = options.tos {
        set_class_v6(socket, tos)?;
    }
    if let Some(index) = options.multicast_interface_index {
        let set = socket.set_multicast_if_v6(index);
        set.map_err(|error| no_interface("multicast_interface_index", &index, &error))?;
    }
    if let Some(ttl) = options.multicast_ttl {
        socket.set_multicast_hops_v6(ttl)?;
    }
    if let Some(loops) = options.multicast_loop {
        socket.set_multicast_loop_v6(loops)?;
    }
    Ok(())
}

/// The system's words are those for an address to bind to, which may be right.
fn no_interface(option: &str, value: &dyn std::fmt::Display, error: &io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Unsupported {
        return io::Error::new(error.kind(), error.to_string());
    }
    let text = format!("option {option} is {value}, which no interface has: {error}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The platforms for which socket2 has the option.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
fn set_class_v6(socket: &Socket, class: u8) -> io::Result<()> {
    socket.set_tclass_v6(class.into())
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "freebsd"
)))]
fn set_class_v6(_: &Socket, _: u8) -> io::Result<()> {
    let text = "option tos is set for an IPv6 socket; this platform has no IPV6_TCLASS, leave it";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

fn finish(
    socket: Socket,
    packet_info: Option<Box<PacketInfo>>,
    options: &UdpOptions,
) -> io::Result<DatagramSocket> {
    if options.batch {
        batch::take_segments(&socket);
    }
    let io = UdpSocket::from_std(socket.into());
    let socket = DatagramSocket { io, packet_info };
    for group in &options.groups {
        multicast::join(&socket, group)?;
    }
    Ok(socket)
}
