//! Addresses of sockets in three quarters of the memory.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address of a socket, of which many are kept: 24 bytes instead of 32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CompactAddr {
    V4(SocketAddrV4),
    /// Of no link in particular, and with no flow.
    V6(Ipv6Addr, u16),
    /// Valid on one link only, or with a flow. Few are.
    Long(Box<SocketAddrV6>),
}

impl From<&SocketAddr> for CompactAddr {
    #[inline]
    fn from(addr: &SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::V4(*addr),
            SocketAddr::V6(addr) if (addr.flowinfo(), addr.scope_id()) == (0, 0) => {
                Self::V6(*addr.ip(), addr.port())
            }
            SocketAddr::V6(addr) => Self::Long(Box::new(*addr)),
        }
    }
}

impl CompactAddr {
    /// The address as it was given.
    #[inline]
    pub(crate) fn get(&self) -> SocketAddr {
        match self {
            Self::V4(addr) => SocketAddr::V4(*addr),
            Self::V6(ip, port) => SocketAddr::V6(SocketAddrV6::new(*ip, *port, 0, 0)),
            Self::Long(addr) => SocketAddr::V6(**addr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_it_was() {
        let link_local = |flow, scope| {
            let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            SocketAddr::V6(SocketAddrV6::new(ip, 80, flow, scope))
        };
        let addrs = ["0.0.0.0:0", "192.0.2.1:65535", "[::]:0", "[::ffff:192.0.2.1]:80"]
            .map(|text| text.parse::<SocketAddr>().unwrap());
        let long = [link_local(0, 2), link_local(5, 0), link_local(u32::MAX, u32::MAX)];
        for addr in addrs.into_iter().chain(long).chain([link_local(0, 0)]) {
            assert_eq!(CompactAddr::from(&addr).get(), addr);
        }
        let allocates = |addr: &SocketAddr| matches!(addr.into(), CompactAddr::Long(_));
        assert!(long.iter().all(allocates));
        assert!(!addrs.iter().any(allocates), "an ordinary one needs no memory of its own");
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_address_takes_twenty_four_bytes() {
        assert_eq!(size_of::<CompactAddr>(), 24);
    }
}
