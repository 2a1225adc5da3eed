//! At which local address a datagram arrived, and from which one it leaves: `IP_PKTINFO` of ip(7)
//! and `IPV6_PKTINFO` of ipv6(7), for sockets that are bound to all addresses.
//!
//! Linux reports two addresses of an IPv4 datagram: the one in its header, which may be a multicast
//! or broadcast address, and `ipi_spec_dst`, the local address to answer from. The latter is used.
//! For IPv6 there is the one in the header only.
//!
//! An IPv4 datagram for an IPv6 socket is reported in both ways, with its header's address as an
//! IPv4-mapped one; what is sent to an IPv4-mapped address takes its local address from
//! `IPV6_PKTINFO`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6,
    SockaddrLike, recvmsg, sendmmsg, setsockopt, sockopt,
};
use socket2::Socket;

use super::datagram::Ends;
use super::system::errors::WRONG_FAMILY;

/// What a socket needs that is bound to all addresses.
#[derive(Debug)]
pub(crate) struct PacketInfo {
    /// The port that the socket is bound to.
    port: u16,
    pub(super) header: Header,
}

/// The header of a datagram that leaves, for a socket of a family. `sendmsg` of nix would allocate
/// one each time.
#[derive(Debug)]
pub(super) enum Header {
    V4(MultiHeaders<SockaddrIn>),
    V6(MultiHeaders<SockaddrIn6>),
}

/// Room for what the system reports of one datagram.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

/// `in_pktinfo` and `in6_pktinfo`, each behind a header, where a word has 64 bits.
const CONTROL_BYTES: usize = 72;

impl PacketInfo {
    /// Binds a socket. One that is bound to all addresses is told the local address of each
    /// datagram; the system is asked for that before any can arrive.
    pub(crate) fn bind(socket: &Socket, addr: SocketAddr) -> io::Result<Option<Box<Self>>> {
        let is_asked = addr.ip().to_canonical().is_unspecified() && Self::ask(socket, addr);
        socket.bind(&addr.into())?;
        if !is_asked {
            return Ok(None);
        }
        debug_assert!(cmsg_space!(in_pktinfo, in6_pktinfo).capacity() <= CONTROL_BYTES);
        let header = match addr.is_ipv4() {
            true => Header::V4(headers(1)),
            false => Header::V6(headers(1)),
        };
        let port = socket.local_addr()?.as_socket().unwrap_or(addr).port();
        Ok(Some(Box::new(Self { port, header })))
    }

    fn ask(socket: &Socket, addr: SocketAddr) -> bool {
        let mut asked = setsockopt(socket, sockopt::Ipv4PacketInfo, &true);
        if addr.is_ipv6() {
            asked = asked.and(setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true));
        }
        if let Err(error) = asked {
            log::warn!("answers from {addr} may leave from another address: {error}");
        }
        asked.is_ok()
    }

    /// Receives one datagram, and stores between which addresses it came.
    #[inline]
    pub(crate) fn receive(
        &self,
        socket: &UdpSocket,
        buffer: &mut [u8],
        ends: &mut Ends,
    ) -> io::Result<usize> {
        match self.header {
            Header::V4(_) => self.receive_as::<SockaddrIn>(socket, buffer, ends),
            Header::V6(_) => self.receive_as::<SockaddrIn6>(socket, buffer, ends),
        }
    }

    #[inline]
    fn receive_as<S>(
        &self,
        socket: &UdpSocket,
        buffer: &mut [u8],
        ends: &mut Ends,
    ) -> io::Result<usize>
    where
        S: SockaddrLike + Into<SocketAddr>,
    {
        let mut control = Control([0; CONTROL_BYTES]);
        let mut slices = [IoSliceMut::new(buffer)];
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let message = socket.try_io(|| {
            let received = recvmsg::<S>(fd, &mut slices, Some(&mut control.0), flags);
            Ok(received?)
        })?;
        ends.local = message.cmsgs().ok().and_then(|controls| self.local_of(controls));
        // A UDP socket names the sender of each datagram.
        ends.peer = message.address.ok_or(io::ErrorKind::AddrNotAvailable)?.into();
        Ok(message.bytes)
    }

    /// The local address to answer from, by what the system reports of a datagram. `None` if the
    /// datagram was sent to an IPv6 group.
    #[inline]
    pub(super) fn local_of(
        &self,
        controls: impl Iterator<Item = ControlMessageOwned>,
    ) -> Option<SocketAddr> {
        let mut found = None;
        for control in controls {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                    return self.local_v4(ip);
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => found = self.local_v6(&info),
                _ => {}
            }
        }
        found
    }

    #[inline]
    fn local_v4(&self, ip: Ipv4Addr) -> Option<SocketAddr> {
        if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
            return None;
        }
        Some(match self.header {
            Header::V4(_) => SocketAddr::from((ip, self.port)),
            Header::V6(_) => SocketAddr::from((ip.to_ipv6_mapped(), self.port)),
        })
    }

    #[inline]
    fn local_v6(&self, info: &in6_pktinfo) -> Option<SocketAddr> {
        let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
        if let Some(ip) = ip.to_ipv4_mapped() {
            return self.local_v4(ip);
        }
        let scope = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
        let is_own = !ip.is_unspecified() && !ip.is_multicast();
        is_own.then(|| SocketAddrV6::new(ip, self.port, 0, scope).into())
    }

    /// Sends one datagram from a local address.
    #[inline]
    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        bytes: &[u8],
        to: SocketAddr,
        local: SocketAddr,
    ) -> io::Result<()> {
        match &mut self.header {
            Header::V4(header) => send_as(socket, header, bytes, to, local),
            Header::V6(header) => send_as(socket, header, bytes, to, local),
        }
    }
}

#[inline]
fn send_as<S: Family>(
    socket: &UdpSocket,
    header: &mut MultiHeaders<S>,
    bytes: &[u8],
    to: SocketAddr,
    local: SocketAddr,
) -> io::Result<()> {
    let source = S::source(local)?;
    let (slices, to) = ([[IoSlice::new(bytes)]], [Some(S::receiver(to)?)]);
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    socket.try_io(|| {
        sendmmsg(fd, header, &slices, to, [source.control()], flags)?;
        Ok(())
    })
}

/// Headers of datagrams that leave from a local address.
pub(super) fn headers<S: Family>(count: usize) -> MultiHeaders<S> {
    MultiHeaders::preallocate(count, Some(S::room()))
}

/// How sockets of a family name addresses.
pub(super) trait Family: SockaddrLike + Copy + 'static {
    /// Room for a source in a header. The system refuses more, unless it is filled.
    fn room() -> Vec<u8>;

    /// A local address to send from.
    fn source(local: SocketAddr) -> io::Result<Source>;

    /// Whom a datagram is for.
    fn receiver(to: SocketAddr) -> io::Result<Self>;
}

impl Family for SockaddrIn {
    fn room() -> Vec<u8> {
        cmsg_space!(in_pktinfo)
    }

    /// Without an interface: a datagram leaves by the one that the route to its receiver names.
    #[inline]
    fn source(local: SocketAddr) -> io::Result<Source> {
        let IpAddr::V4(ip) = local.ip().to_canonical() else { return Err(wrong_family()) };
        let spec_dst = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
        let none = in_addr { s_addr: 0 };
        Ok(Source::V4(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec_dst, ipi_addr: none }))
    }

    #[inline]
    fn receiver(to: SocketAddr) -> io::Result<Self> {
        match to {
            SocketAddr::V4(to) => Ok(to.into()),
            SocketAddr::V6(_) => Err(wrong_family()),
        }
    }
}

impl Family for SockaddrIn6 {
    fn room() -> Vec<u8> {
        cmsg_space!(in6_pktinfo)
    }

    /// With the interface of a link-local address, and without one for others, as for IPv4.
    #[inline]
    fn source(local: SocketAddr) -> io::Result<Source> {
        let local = v6_of(local);
        let interface = if local.ip().is_unicast_link_local() { local.scope_id() } else { 0 };
        let addr = in6_addr { s6_addr: local.ip().octets() };
        Ok(Source::V6(in6_pktinfo { ipi6_addr: addr, ipi6_ifindex: interface }))
    }

    #[inline]
    fn receiver(to: SocketAddr) -> io::Result<Self> {
        Ok(v6_of(to).into())
    }
}

/// An address as a socket of IPv6 has it.
fn v6_of(addr: SocketAddr) -> SocketAddrV6 {
    match addr {
        SocketAddr::V4(addr) => SocketAddrV6::new(addr.ip().to_ipv6_mapped(), addr.port(), 0, 0),
        SocketAddr::V6(addr) => addr,
    }
}

#[cold]
fn wrong_family() -> io::Error {
    io::Error::from_raw_os_error(WRONG_FAMILY)
}

/// A local address to send from, as the system takes it.
#[derive(Debug)]
pub(super) enum Source {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Source {
    #[inline]
    pub(super) fn control(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(addr: [u8; 4], spec_dst: [u8; 4]) -> ControlMessageOwned {
        let [addr, spec_dst] =
            [addr, spec_dst].map(|ip| in_addr { s_addr: u32::from_ne_bytes(ip) });
        let info = in_pktinfo { ipi_ifindex: 3, ipi_spec_dst: spec_dst, ipi_addr: addr };
        ControlMessageOwned::Ipv4PacketInfo(info)
    }

    fn v6(addr: &str) -> ControlMessageOwned {
        let addr: Ipv6Addr = addr.parse().unwrap();
        let addr = in6_addr { s6_addr: addr.octets() };
        ControlMessageOwned::Ipv6PacketInfo(in6_pktinfo { ipi6_addr: addr, ipi6_ifindex: 3 })
    }

    #[track_caller]
    fn expect(header: Header, controls: &[ControlMessageOwned], local: Option<&str>) {
        let info = PacketInfo { port: 7, header };
        let local = local.map(|local| local.parse().unwrap());
        assert_eq!(info.local_of(controls.iter().cloned()), local);
    }

    #[test]
    fn an_answer_leaves_from_no_group_and_from_no_broadcast_address() {
        let header = || Header::V4(headers(1));
        expect(header(), &[v4([10, 0, 0, 2], [10, 0, 0, 2])], Some("10.0.0.2:7"));
        expect(header(), &[v4([10, 0, 0, 255], [10, 0, 0, 1])], Some("10.0.0.1:7"));
        expect(header(), &[v4([224, 0, 0, 251], [10, 0, 0, 1])], Some("10.0.0.1:7"));
        for ip in [[0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 251]] {
            expect(header(), &[v4(ip, ip)], None);
        }
        expect(header(), &[], None);
        let header = || Header::V6(headers(1));
        expect(header(), &[v6("ff02::fb")], None);
        expect(header(), &[v6("::")], None);
        // An IPv4 datagram is reported in both ways, in this order.
        let both = [v6("::ffff:10.0.0.255"), v4([10, 0, 0, 255], [10, 0, 0, 1])];
        expect(header(), &both, Some("[::ffff:10.0.0.1]:7"));
        expect(header(), &[v6("::ffff:224.0.0.251"), v4([224, 0, 0, 251], [0; 4])], None);
    }

    /// The interface of any other address is the business of the routes.
    #[test]
    fn only_a_link_local_address_is_of_an_interface() {
        for (local, interface) in [("fe80::1%3", 3), ("2001:db8::1", 0), ("::1", 0)] {
            let (ip, scope) = local.split_once('%').unwrap_or((local, "0"));
            let addr = SocketAddrV6::new(ip.parse().unwrap(), 7, 0, scope.parse().unwrap()).into();
            let info = PacketInfo { port: 7, header: Header::V6(headers(1)) };
            assert_eq!(info.local_of([v6(ip)].into_iter()), Some(addr));
            let Source::V6(source) = SockaddrIn6::source(addr).unwrap() else { panic!("of IPv6") };
            assert_eq!(source.ipi6_ifindex, interface);
        }
        let Source::V4(source) = SockaddrIn::source(([10, 0, 0, 1], 7).into()).unwrap() else {
            panic!("of IPv4")
        };
        assert_eq!((source.ipi_ifindex, source.ipi_addr.s_addr), (0, 0));
        let scoped = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 7, 0, 3);
        let Source::V6(source) = SockaddrIn6::source(scoped.into()).unwrap() else {
            panic!("of IPv6")
        };
        assert_eq!(source.ipi6_ifindex, 0, "an address of any interface");
    }
}
