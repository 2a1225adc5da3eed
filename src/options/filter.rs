//! Destinations to which a program does not connect, although a stranger names them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Destinations that a connect refuses: for programs in which strangers choose the destination, as
/// in proxies and webhooks.
///
/// The filter looks at addresses, after the lookup of a name: a stranger's name may have any
/// address, and another one each time. An address that is refused is passed over; if no other is
/// left, the connect fails with `PermissionDenied`. The filter does not know which public addresses
/// belong to your own network. If some of them must not be reached, compare the address with a list
/// of your own as well as with [`admits`](Self::admits), or use a firewall.
///
/// Multicast, broadcast and reserved addresses are always refused. An IPv4 address in an IPv6 one
/// (mapped, `::a.b.c.d`, NAT64, 6to4) is looked at too.
///
/// # Examples
/// ```
/// use waterwheel::ConnectOptions;
/// use waterwheel::filter::DestinationFilter;
///
/// let filter = DestinationFilter::default().refuse_private(true);
/// assert!(!filter.admits([169, 254, 169, 254].into())); // the metadata of a cloud
/// assert!(filter.admits([192, 0, 2, 1].into()));
/// let options = ConnectOptions::default().filter(Some(filter));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationFilter {
    /// Refuses this host: `127.0.0.0/8`, `::1`, and `0.0.0.0/8` and `::`, which lead there too.
    /// Default on.
    pub refuse_loopback: bool,
    /// Refuses what is valid on one link only: `169.254.0.0/16`, `fe80::/10`. Default on.
    pub refuse_link_local: bool,
    /// Refuses Unix sockets. Default on.
    pub refuse_unix: bool,
    /// Refuses addresses of private networks: `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16`,
    /// `100.64.0.0/10` of providers, `192.0.0.0/24`, `198.18.0.0/15`, `fc00::/7`, `fec0::/10`,
    /// `64:ff9b:1::/48`. Default off: a program in such a network may be there to reach it.
    pub refuse_private: bool,
}

impl Default for DestinationFilter {
    fn default() -> Self {
        Self {
            refuse_loopback: true,
            refuse_link_local: true,
            refuse_unix: true,
            refuse_private: false,
        }
    }
}

impl DestinationFilter {
    crate::options::setters! {
        refuse_loopback: bool,
        refuse_link_local: bool,
        refuse_unix: bool,
        refuse_private: bool,
    }

    /// Whether a connect to this address is allowed.
    #[must_use]
    pub fn admits(&self, ip: IpAddr) -> bool {
        self.refusal(ip).is_none()
    }

    /// Why an address is refused.
    fn refusal(&self, ip: IpAddr) -> Option<&'static str> {
        let of_v6 = |ip| self.refusal_by(kind_of_v6(ip));
        match ip {
            IpAddr::V4(ip) => self.refusal_by(kind_of_v4(ip)),
            IpAddr::V6(ip) => match embedded(ip) {
                Some(inner) => self.refusal_by(kind_of_v4(inner)).or_else(|| of_v6(ip)),
                None => of_v6(ip),
            },
        }
    }

    fn refusal_by(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::Loopback if self.refuse_loopback => Some("is of this host"),
            Kind::LinkLocal if self.refuse_link_local => Some("is link-local"),
            Kind::Private if self.refuse_private => Some("is private"),
            Kind::NoHost => Some("is of no single host"),
            Kind::Loopback | Kind::LinkLocal | Kind::Private | Kind::Public => None,
        }
    }

    /// Checks an address of a connect.
    pub(crate) fn check(&self, addr: SocketAddr) -> io::Result<()> {
        self.refusal(addr.ip()).map_or(Ok(()), |why| Err(refused(why)))
    }

    /// Checks a connect to a Unix socket.
    pub(crate) fn check_unix(&self) -> io::Result<()> {
        if self.refuse_unix { Err(refused("is a Unix socket")) } else { Ok(()) }
    }
}

fn refused(why: &str) -> io::Error {
    let text = format!("refused by the filter in the options: the destination {why}");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// What an address is of, as far as the filter tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Loopback,
    LinkLocal,
    Private,
    /// Multicast, broadcast, or reserved.
    NoHost,
    Public,
}

/// By the registry of special addresses (RFC 6890).
fn kind_of_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [0 | 127, ..] => Kind::Loopback,
        [169, 254, ..] => Kind::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Kind::Private,
        [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] => Kind::Private,
        [224..=255, ..] => Kind::NoHost,
        _ => Kind::Public,
    }
}

fn kind_of_v6(ip: Ipv6Addr) -> Kind {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Kind::Loopback,
        [0xfe80..=0xfebf, ..] => Kind::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Kind::Private,
        [0xff00..=0xffff, ..] => Kind::NoHost,
        _ => Kind::Public,
    }
}

/// The IPv4 address that a packet to this one may end up at.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, _, a, b, c, d, ..] = ip.octets();
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        [0x2002, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_refused_by_the_switch_of_its_kind() {
        let off = DestinationFilter::default().refuse_loopback(false).refuse_link_local(false);
        let table = [
            (
                off.clone().refuse_loopback(true),
                "127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 :: ::1 ::ffff:127.0.0.1 ::127.0.0.1 \
                 64:ff9b::7f00:1 2002:7f00:1::",
            ),
            (
                off.clone().refuse_link_local(true),
                "169.254.0.1 169.254.169.254 fe80::1 febf::1 ::ffff:169.254.169.254 \
                 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1",
            ),
            (
                off.clone().refuse_private(true),
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.0.1 192.0.0.8 \
                 198.18.0.1 198.19.0.1 fc00::1 fdff::1 fec0::1 ::ffff:10.0.0.1 ::10.0.0.1 \
                 64:ff9b:1::1 64:ff9b::a00:1 2002:a00:1::",
            ),
        ];
        for (filter, texts) in &table {
            for ip in texts.split_whitespace().map(|text| text.parse().unwrap()) {
                assert!(!filter.admits(ip), "{ip} passes {filter:?}");
                assert!(off.admits(ip), "{ip} is refused with the switch off");
            }
        }
    }

    #[test]
    fn what_is_of_no_single_host_never_passes_and_the_world_does() {
        let open = DestinationFilter::default().refuse_loopback(false).refuse_link_local(false);
        let all = DestinationFilter::default().refuse_private(true);
        let nobody = "224.0.0.1 239.1.1.1 255.255.255.255 240.0.0.1 ff02::1 ::ffff:224.0.0.1";
        for ip in nobody.split_whitespace().map(|text| text.parse().unwrap()) {
            assert!(!open.admits(ip) && !all.admits(ip), "{ip}");
        }
        let world = "1.1.1.1 9.255.255.255 11.0.0.0 100.63.0.1 100.128.0.1 126.255.255.255 \
                     128.0.0.1 169.253.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 198.17.0.1 \
                     198.20.0.1 223.255.255.255 2001:db8::1 2606:4700::1111 fbff::1 fe00::1 \
                     ::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101::";
        for ip in world.split_whitespace().map(|text| text.parse().unwrap()) {
            assert!(open.admits(ip) && all.admits(ip), "{ip}");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let filter = DestinationFilter::default();
        let error = filter.check("[fe80::1%2]:80".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().ends_with("is link-local"), "{error}");
        assert!(filter.check(SocketAddr::from(([192, 0, 2, 1], 80))).is_ok());
        #[cfg(unix)]
        {
            assert!(filter.check_unix().is_err());
            assert!(filter.refuse_unix(false).check_unix().is_ok());
        }
    }
}
