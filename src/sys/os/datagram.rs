//! UDP sockets of the operating system.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::event::Source;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::multicast;
use crate::options::{Group, UdpOptions};

pub(in super::super) use mio::net::UdpSocket as DatagramSocket;

pub(in super::super) fn bind_udp(
    addr: SocketAddr,
    options: &UdpOptions,
) -> io::Result<DatagramSocket> {
    let socket = new_socket(addr, options)?;
    socket.bind(&addr.into())?;
    finish(socket, options)
}

pub(in super::super) fn connect_udp(
    peer: SocketAddr,
    options: &UdpOptions,
) -> io::Result<DatagramSocket> {
    let socket = new_socket(peer, options)?;
    if let Some(source) = options.source {
        socket.bind(&source.into()).map_err(|error| {
            let text = format!("cannot use {source} as the source address: {error}");
            io::Error::new(error.kind(), text)
        })?;
    } else if cfg!(windows) {
        // There a socket has to be bound before it can be polled.
        let any: IpAddr = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, 0).into())?;
    }
    socket.connect(&peer.into())?;
    finish(socket, options)
}

/// A socket with every option that is given, each set by one call.
fn new_socket(addr: SocketAddr, options: &UdpOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if options.reuse_address {
        socket.set_reuse_address(true)?;
    }
    if options.reuse_port {
        super::set_reuse_port(&socket)?;
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
        multicast::send_by(socket, index)
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

fn finish(socket: Socket, options: &UdpOptions) -> io::Result<DatagramSocket> {
    #[cfg(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll)))]
    if options.batch {
        super::batch::take_segments(&socket);
    }
    let socket = DatagramSocket::from_std(socket.into());
    for group in &options.groups {
        join(&socket, group)?;
    }
    Ok(socket)
}

pub(in super::super) fn join(socket: &DatagramSocket, group: &Group) -> io::Result<()> {
    multicast::only_its_own(socket, group.addr.is_ipv4());
    let index = group.interface_index;
    match group.addr {
        IpAddr::V4(addr) if index != 0 => multicast::join(socket, &addr, index),
        IpAddr::V4(addr) => SockRef::from(socket).join_multicast_v4(&addr, &group.interface),
        IpAddr::V6(addr) => SockRef::from(socket).join_multicast_v6(&addr, index),
    }
    .map_err(|error| {
        let text = format!("cannot join the multicast group {}: {error}", group.addr);
        io::Error::new(error.kind(), text)
    })
}

pub(in super::super) fn leave(socket: &DatagramSocket, group: &Group) -> io::Result<()> {
    let index = group.interface_index;
    match group.addr {
        IpAddr::V4(addr) if index != 0 => multicast::leave(socket, &addr, index),
        IpAddr::V4(addr) => SockRef::from(socket).leave_multicast_v4(&addr, &group.interface),
        IpAddr::V6(addr) => SockRef::from(socket).leave_multicast_v6(&addr, index),
    }
    .map_err(|error| {
        let text = format!("cannot leave the multicast group {}: {error}", group.addr);
        io::Error::new(error.kind(), text)
    })
}

/// Asks the poll for writability, or no longer; reports what is ready anew.
///
/// mio's poll(2) lets go of a socket for which the system reports an error, and says `NotFound`
/// for it ever after. A connection is over then; a datagram socket has only been told something,
/// and is registered as if it were new.
pub(in super::super) fn watch(
    poller: &super::Poller,
    socket: &mut impl Source,
    token: usize,
    writable: bool,
) -> io::Result<()> {
    match super::change(poller, socket, token, writable) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Its half in the poll is gone, which is an error; that in the socket goes.
            let _ = super::remove(poller, socket);
            super::add(poller, socket, token, writable)
        }
        result => result,
    }
}

/// Whether the error of a read or a write says that it would block and that the poll has let go
/// of the socket. mio's own errors have no number.
pub(in super::super) fn is_let_go(error: &io::Error) -> bool {
    !super::EDGES_ARE_NATIVE
        && error.kind() == io::ErrorKind::NotFound
        && error.raw_os_error().is_none()
}

/// One datagram in, past libc as for streams.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(mio_unsupported_force_poll_poll)))]
#[inline(always)]
pub(in super::super) fn receive_from(
    socket: &mut DatagramSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr)> {
    let flags = rustix::net::RecvFlags::empty();
    let (_, count, from) = rustix::net::recvfrom(&*socket, buffer, flags)?;
    // A UDP socket names the sender of each datagram.
    let from = from.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((count, SocketAddr::try_from(from)?))
}

/// One datagram out, likewise.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(mio_unsupported_force_poll_poll)))]
#[inline(always)]
pub(in super::super) fn send_to(
    socket: &mut DatagramSocket,
    bytes: &[u8],
    to: Option<SocketAddr>,
) -> io::Result<()> {
    let flags = rustix::net::SendFlags::NOSIGNAL;
    match to {
        Some(SocketAddr::V4(to)) => rustix::net::sendto(&*socket, bytes, flags, &to)?,
        Some(SocketAddr::V6(to)) => rustix::net::sendto(&*socket, bytes, flags, &to)?,
        None => rustix::net::send(&*socket, bytes, flags)?,
    };
    Ok(())
}

/// One datagram in.
#[cfg(any(not(any(target_os = "linux", target_os = "android")), mio_unsupported_force_poll_poll))]
pub(in super::super) fn receive_from(
    socket: &mut DatagramSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr)> {
    socket.recv_from(buffer)
}

/// One datagram out.
#[cfg(any(not(any(target_os = "linux", target_os = "android")), mio_unsupported_force_poll_poll))]
pub(in super::super) fn send_to(
    socket: &mut DatagramSocket,
    bytes: &[u8],
    to: Option<SocketAddr>,
) -> io::Result<()> {
    match to {
        Some(to) => socket.send_to(bytes, to)?,
        None => socket.send(bytes)?,
    };
    Ok(())
}
