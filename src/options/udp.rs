//! Datagram sockets: how they are bound, what they may use, whom they listen to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::options::{MAX_LIMIT, at_least_1ms, at_most, out_of_range, positive, within};

/// Datagrams that one socket receives in a turn unless set otherwise: with their answers they are
/// about 0.2 ms of work on a current server core, so that a flood delays all others by no more.
pub const DEFAULT_DATAGRAM_BUDGET: usize = 64;

/// Options of a UDP socket.
///
/// A socket that is bound to all addresses, `0.0.0.0` or `[::]`, answers from the address that was
/// asked, without an option: see [`DatagramSocket::send_to`](crate::udp::DatagramSocket::send_to).
/// The kernel needs more time for that than with a socket that is bound to one address: about 0.2
/// us more to receive a datagram, and 0.3 us more to send the answer (a virtual machine, loopback).
///
/// # Examples
/// ```
/// use waterwheel::udp::{Group, UdpOptions};
/// let group = Group::new([224, 0, 0, 251]); // multicast DNS
/// let options = UdpOptions::default().reuse_address(true).groups(vec![group]);
/// assert_eq!(options.max_datagram_bytes, 65_535);
/// ```
///
/// # Platform notes
/// On other systems than Linux the kernel chooses the source address of a socket that is bound to
/// all addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpOptions {
    /// Max datagrams received in a turn, before other sockets are served. Default
    /// [`DEFAULT_DATAGRAM_BUDGET`].
    pub receive_budget: usize,
    /// Datagrams are received and sent several at a time. One call receives as many as wait, within
    /// the budget. What callbacks send is gathered, and sent when those datagrams have been
    /// handled, at the end of the turn, or when the batch is full. Sends then return
    /// [`Batched`](crate::udp::SendStatus::Batched); a datagram that the system refuses later, for
    /// example because it is too long, is reported by `on_error`. Default off.
    ///
    /// With feature `batch` on Linux one call takes up to 64 datagrams (recvmmsg(2), sendmmsg(2)).
    /// Equal-sized datagrams for the same peer pass through the system as segments of one buffer
    /// (`UDP_SEGMENT`, `UDP_GRO`; see udp(7)), which is cut up as late as possible. If the system
    /// drops the buffer, all of them are lost. Datagrams in a row that leave from different local
    /// addresses take a call for each address. The option costs 4 MiB of address space in each
    /// reactor, of which only what datagrams have filled is in use, and a few small allocations a
    /// batch. Datagrams that have come in one buffer are handed over at once, also beyond the
    /// budget. Elsewhere each datagram still has a call of its own, and the option gains nothing.
    pub batch: bool,
    /// Max bytes of a datagram that are handed to `on_datagram`; the rest of a longer one is lost,
    /// and `is_truncated` says so. Default and max 65,535, which no datagram exceeds.
    ///
    /// On Windows the system does not name the sender of a longer datagram, which is reported by
    /// `on_error`.
    pub max_datagram_bytes: usize,
    /// Max datagrams that wait while the kernel's send buffer is full; more are dropped, and
    /// counted in [`Stats`](crate::Stats). Default 1,024.
    pub max_queued_datagrams: usize,
    /// Max bytes of the datagrams that wait. Default 1 MiB.
    pub max_queued_bytes: usize,
    /// The local address of a socket that `connect_udp` makes. Default: the system's choice.
    pub source: Option<SocketAddr>,
    /// `SO_REUSEADDR`: several sockets may bind the address. Each of them gets every multicast and
    /// broadcast datagram, but only one gets the datagrams that are sent to one host. Default off.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`: several sockets share the address, and the kernel spreads peers over them.
    /// Default off. An error where the platform has no such option.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY` of an IPv6 address; an error for an IPv4 one. Default: the system's.
    pub only_v6: Option<bool>,
    /// `SO_BROADCAST`: datagrams may be sent to a broadcast address. Default off.
    pub broadcast: bool,
    /// `IP_TTL` or `IPV6_UNICAST_HOPS`: routers that a datagram may pass, 1 to 255. Default: the
    /// system's.
    pub ttl: Option<u32>,
    /// `IP_TOS` or `IPV6_TCLASS`: the class of service in each header. Default: the system's.
    /// An error for IPv6 where the platform has no such option (Windows).
    pub tos: Option<u8>,
    /// Multicast groups to join. Default none.
    pub groups: Vec<Group>,
    /// `IP_MULTICAST_IF`: the interface, by an address of it, that multicast datagrams of an IPv4
    /// socket leave by. Default: the system's choice.
    pub multicast_interface: Option<Ipv4Addr>,
    /// `IPV6_MULTICAST_IF`, or `IP_MULTICAST_IF` with an index: the same for sockets of either
    /// family, by the interface's index; 0 for the system's choice. Default: the system's. Where
    /// IPv4 has no indices (illumos, NetBSD), that is an error; an IPv4 socket takes this or an
    /// address.
    pub multicast_interface_index: Option<u32>,
    /// `IP_MULTICAST_TTL` or `IPV6_MULTICAST_HOPS`: routers that a multicast datagram may pass,
    /// 0 to 255. Default: the system's, 1.
    pub multicast_ttl: Option<u32>,
    /// `IP_MULTICAST_LOOP` or `IPV6_MULTICAST_LOOP`: whether this machine gets its own multicast
    /// datagrams. Default: the system's, which is on.
    pub multicast_loop: Option<bool>,
    /// `SO_SNDBUF`, in bytes. Default: the system's.
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF`, in bytes: what may wait in the kernel, which drops the rest without an error.
    /// Default: the system's.
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            receive_budget: DEFAULT_DATAGRAM_BUDGET,
            batch: false,
            max_datagram_bytes: MOST_DATAGRAM_BYTES,
            max_queued_datagrams: 1_024,
            max_queued_bytes: 1 << 20,
            source: None,
            reuse_address: false,
            reuse_port: false,
            only_v6: None,
            broadcast: false,
            ttl: None,
            tos: None,
            groups: Vec::new(),
            multicast_interface: None,
            multicast_interface_index: None,
            multicast_ttl: None,
            multicast_loop: None,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// The length in a UDP header has 16 bits.
const MOST_DATAGRAM_BYTES: usize = 65_535;

impl UdpOptions {
    setters! {
        receive_budget: usize,
        batch: bool,
        max_datagram_bytes: usize,
        max_queued_datagrams: usize,
        max_queued_bytes: usize,
        source: Option<SocketAddr>,
        reuse_address: bool,
        reuse_port: bool,
        only_v6: Option<bool>,
        broadcast: bool,
        ttl: Option<u32>,
        tos: Option<u8>,
        groups: Vec<Group>,
        multicast_interface: Option<Ipv4Addr>,
        multicast_interface_index: Option<u32>,
        multicast_ttl: Option<u32>,
        multicast_loop: Option<bool>,
        send_buffer_bytes: Option<usize>,
        receive_buffer_bytes: Option<usize>,
    }

    /// Checks them for a socket of the family of `addr`.
    pub(crate) fn check(&self, addr: SocketAddr) -> io::Result<()> {
        positive("receive_budget", Some(self.receive_budget))?;
        within("max_datagram_bytes", Some(self.max_datagram_bytes), MOST_DATAGRAM_BYTES)?;
        positive("max_queued_datagrams", Some(self.max_queued_datagrams))?;
        positive("max_queued_bytes", Some(self.max_queued_bytes))?;
        // The kernel takes a C int.
        within("send_buffer_bytes", self.send_buffer_bytes, i32::MAX as usize)?;
        within("receive_buffer_bytes", self.receive_buffer_bytes, i32::MAX as usize)?;
        within("ttl", self.ttl.map(|ttl| ttl as usize), 255)?;
        if let Some(ttl @ 256..) = self.multicast_ttl {
            return Err(out_of_range("multicast_ttl", ttl, "at most 255"));
        }
        if let (Some(only_v6), true) = (self.only_v6, addr.is_ipv4()) {
            let wanted = "None for an IPv4 address, which takes nothing else";
            return Err(out_of_range("only_v6", only_v6, wanted));
        }
        if let (Some(interface), true) = (self.multicast_interface, addr.is_ipv6()) {
            let wanted = "None for an IPv6 socket; set multicast_interface_index";
            return Err(out_of_range("multicast_interface", interface, wanted));
        }
        if let (Some(index), Some(interface)) =
            (self.multicast_interface_index, self.multicast_interface)
        {
            let wanted = format!("None, since multicast_interface is {interface}");
            return Err(out_of_range("multicast_interface_index", index, &wanted));
        }
        if let Some(source) = self.source.filter(|source| source.is_ipv4() != addr.is_ipv4()) {
            let wanted = format!("of the family of {addr}, or None");
            return Err(out_of_range("source", source, &wanted));
        }
        self.groups.iter().try_for_each(|group| group.check(addr))
    }
}

/// A multicast group, and the interface that it is joined on.
///
/// # Examples
/// ```
/// use std::net::Ipv4Addr;
/// use waterwheel::udp::Group;
/// let everywhere = Group::new([239, 1, 2, 3]);
/// let on_loopback = Group::new([239, 1, 2, 3]).interface(Ipv4Addr::LOCALHOST);
/// let on_the_second = Group::new([239, 1, 2, 3]).interface_index(2);
/// assert!(everywhere != on_loopback && everywhere != on_the_second);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Group {
    /// The group's address.
    pub addr: IpAddr,
    /// The interface of an IPv4 group, by an address of it. Default: 0.0.0.0, the system's choice.
    pub interface: Ipv4Addr,
    /// The interface of a group of either family, by its index; 0, the default, is the system's
    /// choice, or `interface`. An interface that has no address, or shares its address, can be
    /// named only by its index. Where IPv4 has no indices (illumos, NetBSD), that is an error.
    pub interface_index: u32,
}

impl Group {
    /// A group on the interface that the system chooses.
    #[must_use]
    pub fn new(addr: impl Into<IpAddr>) -> Self {
        Self { addr: addr.into(), interface: Ipv4Addr::UNSPECIFIED, interface_index: 0 }
    }

    setters! { interface: Ipv4Addr, interface_index: u32 }

    pub(crate) fn check(&self, socket: SocketAddr) -> io::Result<()> {
        if !self.addr.is_multicast() {
            let wanted = "a multicast address: 224.0.0.0 to 239.255.255.255, or ff00::/8";
            return Err(out_of_range("group", self.addr, wanted));
        }
        if self.addr.is_ipv4() != socket.is_ipv4() {
            let wanted = format!("of the family of the socket, which is bound to {socket}");
            return Err(out_of_range("group", self.addr, &wanted));
        }
        if !self.interface.is_unspecified() && (self.addr.is_ipv6() || self.interface_index != 0) {
            let wanted = match self.addr {
                IpAddr::V4(_) => format!("0.0.0.0, since its index is {}", self.interface_index),
                IpAddr::V6(_) => "0.0.0.0 for an IPv6 group; set interface_index".to_owned(),
            };
            return Err(out_of_range("group.interface", self.interface, &wanted));
        }
        Ok(())
    }
}

/// How long sessions of datagram sockets last, and how many there may be.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::udp::SessionOptions;
/// let options = SessionOptions::default().idle_timeout(Duration::from_secs(5));
/// assert_eq!(options.max_sessions, 65_536);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// A session ends when nothing has come from its peer for this long. Default 60 s; 1 ms to 49
    /// days.
    pub idle_timeout: Duration,
    /// Max sessions at once, of all sockets of the handler. Source addresses of datagrams can be
    /// forged, so any sender can fill the table. Datagrams of further peers are dropped, without a
    /// callback, and counted in [`Stats::sessions_refused`](crate::Stats::sessions_refused). To
    /// tell such peers that there is no room, allow more sessions, count them in `on_session`, and
    /// answer the refused ones in `on_batch_end`. Default 65,536.
    pub max_sessions: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(60), max_sessions: 1 << 16 }
    }
}

impl SessionOptions {
    setters! { idle_timeout: Duration, max_sessions: usize }

    pub(crate) fn check(&self) -> io::Result<()> {
        at_least_1ms("idle_timeout", Some(self.idle_timeout))?;
        at_most("idle_timeout", Some(self.idle_timeout), MAX_LIMIT)?;
        within("max_sessions", Some(self.max_sessions), 1 << 31)
    }
}
