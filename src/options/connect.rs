//! Outgoing connections: where to, how, and how often.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use crate::options::unix::{self, UnixAddr};
use crate::options::{
    DestinationFilter, LayerFactory, LayerOption, Limits, MAX_LIMIT, TcpOptions, at_least_1ms,
    at_most, out_of_range,
};

/// Where to connect to, or to listen: an address, several addresses of one service, `"host:port"`,
/// or a Unix socket.
///
/// `connect`, `listen`, `bind_udp` and `connect_udp` take everything that converts into a
/// destination. That is a [`SocketAddr`] or a list of them, a text such as `"db.example:5432"`,
/// `"127.0.0.1:80"` or `"[::1]:80"`, a pair of a host or an IP address and a port, and on Unix a
/// `UnixAddr`. A text that is none of these fails when it is used. A text never names a Unix
/// socket, so that a stranger's text cannot reach one; [`parse_with_unix`](Self::parse_with_unix)
/// is for the texts of a configuration. If strangers choose the destination, set
/// [`ConnectOptions::filter`], too. A link-local IPv6 address needs its interface, by number or by
/// name: `"[fe80::1%2]:80"`, `"[fe80::1%eth0]:80"`. Any other host is a name, which is looked up.
///
/// A Unix socket is connected to at once. If the listener's queue is full it is tried again until
/// `timeout` has passed. For a Unix socket the option `source` is an error, and `tcp` does not
/// apply.
///
/// Names are looked up with the system's resolver, on threads of their own. At most eight lookups
/// run at once, the others wait, and one lookup answers all requests for the same name. A thread
/// ends when there was nothing to look up for 5 s. An answer with addresses is used again for 5 s,
/// for up to 1,024 names; a failed lookup is not kept. The system's resolver does not report how
/// long an answer is valid, so longer times are not possible. The kind of the error that
/// `on_connect_failed` or the closure of [`resolve`](crate::Context::resolve) gets says why a
/// lookup has failed:
///
/// | kind | what it means | what a proxy would say |
/// |---|---|---|
/// | `NotFound` | there is no such name, or it has no address | HTTP 502, SMTP 5xx |
/// | `TimedOut` | no name server has answered; it may later | HTTP 504, SMTP 4xx |
/// | `Other` | something else, of which the text has what the system says | HTTP 502 |
///
/// # Examples
/// ```
/// use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
/// use waterwheel::Destination;
///
/// let name = Destination::from("db.example:5432");
/// assert_eq!(name.to_string(), "db.example:5432");
/// let addr = Destination::from(SocketAddr::from(([127, 0, 0, 1], 80)));
/// assert_eq!(addr, Destination::from("127.0.0.1:80"));
/// assert_eq!(addr, Destination::from((Ipv4Addr::LOCALHOST, 80)));
/// assert_eq!(Destination::from((Ipv6Addr::LOCALHOST, 80)), Destination::from("[::1]:80"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination(Place);

/// The form of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A single address.
    Addr(SocketAddr),
    /// Addresses of one service.
    Addrs(Box<[SocketAddr]>),
    /// A name to look up.
    Name {
        /// The host.
        host: Box<str>,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(UnixAddr),
    /// A text that is none of these.
    Unclear(Box<str>),
}

impl Destination {
    /// The destination in a text of a configuration or a command line, which may name a Unix socket
    /// as well: `"unix:/run/db.sock"`, `"unix:./db.sock"`, or `"unix:@db"` for an abstract name.
    /// Any other text is what [`From`] makes of it. Not for texts of strangers: they would reach
    /// the sockets of this machine.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Destination;
    ///
    /// assert_eq!(Destination::parse_with_unix("[::1]:80"), Destination::from("[::1]:80"));
    /// # #[cfg(unix)]
    /// # {
    /// use waterwheel::unix::UnixAddr;
    /// let socket = Destination::parse_with_unix("unix:/run/db.sock");
    /// assert_eq!(socket, Destination::from(UnixAddr::path("/run/db.sock")));
    /// # }
    /// ```
    ///
    /// # Platform notes
    /// Elsewhere than on Unix there are no Unix sockets: such a text fails when it is connected to.
    #[must_use]
    pub fn parse_with_unix(text: &str) -> Self {
        unix::named(text).map_or_else(|| text.into(), Self::of_unix)
    }

    pub(super) fn of_unix(addr: UnixAddr) -> Self {
        Self(Place::Unix(addr))
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    /// Its addresses, or why it has none; `None` for a name, which must be looked up.
    pub(crate) fn known_addrs(&self) -> Option<io::Result<Vec<SocketAddr>>> {
        if let Err(error) = self.check() {
            let text = format!("{self}: {error}");
            return Some(Err(io::Error::new(error.kind(), text)));
        }
        Some(match &self.0 {
            Place::Addr(addr) => Ok(vec![*addr]),
            Place::Addrs(addrs) => Ok(addrs.to_vec()),
            Place::Name { .. } => return None,
            Place::Unix(addr) => {
                let text = format!("{addr} is a Unix socket, and an IP address is wanted here");
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
            Place::Unclear(_) => Ok(Vec::new()), // it was checked
        })
    }

    /// Whether there is anything to connect to: a text may be unclear, a list empty.
    pub(crate) fn check(&self) -> io::Result<()> {
        let text = match &self.0 {
            Place::Unclear(text) if cfg!(unix) && text.starts_with("unix:") => {
                "a text names no Unix socket; give a UnixAddr or, for a text of a configuration, \
                 Destination::parse_with_unix"
            }
            Place::Unclear(text) => unclear(text),
            Place::Addrs(addrs) if addrs.is_empty() => "the list has none; give at least one",
            _ => return Ok(()),
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

/// Why a text names no place, and what to give.
fn unclear(text: &str) -> &'static str {
    match text.rsplit_once(':') {
        None => "it has no port; give \"host:port\", such as \"127.0.0.1:80\"",
        Some(("", _)) => {
            "it has no host; give \"host:port\", such as \"0.0.0.0:80\" for all addresses of this \
             machine"
        }
        Some((_, "")) => "it has no port behind the colon; give \"host:port\"",
        Some((_, port))
            if port.bytes().all(|it| it.is_ascii_digit()) && port.parse::<u16>().is_err() =>
        {
            "its port is more than 65535; give \"host:port\""
        }
        Some(_) => {
            "this is neither an address nor a name with a port; give \"host:port\", \
             \"127.0.0.1:80\", \"[::1]:80\" or, with an interface, \"[fe80::1%eth0]:80\""
        }
    }
}

impl From<SocketAddr> for Destination {
    fn from(addr: SocketAddr) -> Self {
        Self(Place::Addr(addr))
    }
}

impl From<&SocketAddr> for Destination {
    fn from(addr: &SocketAddr) -> Self {
        Self(Place::Addr(*addr))
    }
}

impl From<SocketAddrV4> for Destination {
    fn from(addr: SocketAddrV4) -> Self {
        Self(Place::Addr(addr.into()))
    }
}

impl From<SocketAddrV6> for Destination {
    fn from(addr: SocketAddrV6) -> Self {
        Self(Place::Addr(addr.into()))
    }
}

impl From<(IpAddr, u16)> for Destination {
    fn from(addr: (IpAddr, u16)) -> Self {
        Self(Place::Addr(addr.into()))
    }
}

impl From<(Ipv4Addr, u16)> for Destination {
    fn from(addr: (Ipv4Addr, u16)) -> Self {
        Self(Place::Addr(addr.into()))
    }
}

impl From<(Ipv6Addr, u16)> for Destination {
    fn from(addr: (Ipv6Addr, u16)) -> Self {
        Self(Place::Addr(addr.into()))
    }
}

impl From<Vec<SocketAddr>> for Destination {
    fn from(addrs: Vec<SocketAddr>) -> Self {
        Self(match addrs[..] {
            [addr] => Place::Addr(addr),
            _ => Place::Addrs(addrs.into()),
        })
    }
}

impl From<&[SocketAddr]> for Destination {
    fn from(addrs: &[SocketAddr]) -> Self {
        addrs.to_vec().into()
    }
}

impl From<(&str, u16)> for Destination {
    fn from((host, port): (&str, u16)) -> Self {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return (ip, port).into();
        }
        match with_scope(host, port) {
            Some(addr) => addr.into(),
            None if host.is_empty() => Self(Place::Unclear(format!(":{port}").into())),
            None => Self(Place::Name { host: host.into(), port }),
        }
    }
}

impl From<(String, u16)> for Destination {
    fn from((host, port): (String, u16)) -> Self {
        (host.as_str(), port).into()
    }
}

/// An IPv6 address with the number of an interface behind it: the standard library reads it only
/// as a part of a socket's address. One with a name of an interface is looked up.
fn with_scope(host: &str, port: u16) -> Option<SocketAddr> {
    let is_scoped = host.contains('%');
    is_scoped.then(|| format!("[{host}]:{port}").parse().ok())?
}

/// The inner side of brackets that hold an IPv6 address and an interface.
fn bracketed(host: &str) -> Option<&str> {
    let inner = host.strip_prefix('[')?.strip_suffix(']')?;
    let (ip, interface) = inner.split_once('%')?;
    let is_whole = ip.parse::<Ipv6Addr>().is_ok() && !interface.is_empty();
    (is_whole && !interface.contains(['[', ']', '\0'])).then_some(inner)
}

impl From<&str> for Destination {
    fn from(text: &str) -> Self {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return addr.into();
        }
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parts {
            Some((host, port)) if bracketed(host).is_some() => {
                (bracketed(host).unwrap_or(host), port).into()
            }
            // An IPv6 address without brackets would lose its last part as the port.
            Some((host, port)) if !host.is_empty() && !host.contains([':', '[', ']', '\0']) => {
                (host, port).into()
            }
            _ => Self(Place::Unclear(text.into())),
        }
    }
}

impl From<String> for Destination {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Destination {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Self> for Destination {
    fn from(destination: &Self) -> Self {
        destination.clone()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Addr(addr) => addr.fmt(f),
            Place::Addrs(addrs) if addrs.is_empty() => f.write_str("no address"),
            Place::Addrs(addrs) => {
                for (index, addr) in addrs.iter().enumerate() {
                    write!(f, "{}{addr}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Place::Name { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Name { host, port } => write!(f, "{host}:{port}"),
            Place::Unix(addr) => addr.fmt(f),
            Place::Unclear(text) => write!(f, "{text:?}"),
        }
    }
}

/// Options of an outgoing connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Longest time until the connection is up: one deadline for the lookup of a name and for all
    /// its addresses. With `reconnect` each try has so long. Default 10 s.
    pub timeout: Duration,
    /// Local address to connect from; port 0 lets the system choose. Of several addresses only
    /// those of its family are tried. If it has a port, they are tried one after the other, since
    /// only one socket can have the port. Default: the system's choice.
    pub source: Option<SocketAddr>,
    /// How long the next of several addresses waits for the one before it; one that fails is
    /// followed at once. Does not apply with a port in `source`. Default 250 ms, 10 ms to 2 s
    /// (RFC 8305, section 8).
    pub attempt_delay: Duration,
    /// Whether and when a connect that failed is tried again. [`Context::reconnect`] uses the same
    /// policy for a connection that was lost. Default: none.
    ///
    /// [`Context::reconnect`]: crate::Context::reconnect
    pub reconnect: Option<Reconnect>,
    /// Refuses destinations, for programs in which strangers choose the destination. Default:
    /// refuses none.
    pub filter: Option<DestinationFilter>,
    /// Options of the socket. They are set before it connects; keepalive is set when the connection
    /// has been up for 100 to 200 ms, long before a probe could be due, so that a short connection
    /// does not pay for it.
    pub tcp: TcpOptions,
    /// Limits of the connection. By default reading does not pause at the high mark: of two ends
    /// that both stop reading until the other reads, neither goes on.
    pub limits: Limits,
    /// What stands between the socket and the handler.
    pub(crate) layer: Option<LayerOption>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            source: None,
            attempt_delay: Duration::from_millis(250),
            reconnect: None,
            filter: None,
            tcp: TcpOptions::default(),
            limits: Limits::default().pause_at_high_mark(false),
            layer: None,
        }
    }
}

impl ConnectOptions {
    setters! {
        timeout: Duration,
        source: Option<SocketAddr>,
        attempt_delay: Duration,
        reconnect: Option<Reconnect>,
        filter: Option<DestinationFilter>,
        tcp: TcpOptions,
        limits: Limits,
    }

    /// Sets [`Limits::all_idle`]: ends the connection when nothing moves for this long.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.all_idle = Some(limit);
        self
    }

    /// What makes the layers of the connection.
    pub(crate) fn layers(&self) -> Box<[Arc<dyn LayerFactory>]> {
        self.layer.iter().map(|layer| Arc::clone(&layer.0)).collect()
    }

    /// Checks a destination against the filter, as far as it is known before a lookup.
    pub(crate) fn check_destination(&self, to: &Destination) -> io::Result<()> {
        let Some(filter) = &self.filter else { return Ok(()) };
        match to.place() {
            Place::Addr(addr) => filter.check(*addr),
            Place::Unix(_) => filter.check_unix(),
            // Each address is checked before it is tried.
            Place::Addrs(_) | Place::Name { .. } | Place::Unclear(_) => Ok(()),
        }
    }

    /// Checks an address that is to be tried.
    pub(crate) fn check_addr(&self, addr: SocketAddr) -> io::Result<()> {
        self.filter.as_ref().map_or(Ok(()), |filter| filter.check(addr))
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        at_least_1ms("timeout", Some(self.timeout))?;
        at_most("timeout", Some(self.timeout), MAX_LIMIT)?;
        let delays = Duration::from_millis(10)..=Duration::from_secs(2);
        if !delays.contains(&self.attempt_delay) {
            let value = format!("{:?}", self.attempt_delay);
            return Err(out_of_range("attempt_delay", value, "10 ms to 2 s"));
        }
        if let Some(reconnect) = &self.reconnect {
            reconnect.check()?;
        }
        self.tcp.check()?;
        self.limits.check()
    }
}

/// How often a connect is tried again, and after which pauses.
///
/// Exponential backoff with full jitter: the pause before retry `n` is a random time between zero
/// and `base_delay` × 2<sup>n - 1</sup>, and never more than `max_delay`. So clients that have lost
/// the same server do not come back all at once (Marc Brooker, "Exponential Backoff And Jitter",
/// AWS Architecture Blog, 2015).
///
/// [`Handler::on_connect_retry`] is called for each failed try after which another one follows.
///
/// [`Handler::on_connect_retry`]: crate::Handler::on_connect_retry
///
/// # Examples
/// A client that never gives up:
/// ```
/// use std::time::Duration;
/// use waterwheel::{ConnectOptions, Reconnect};
/// let reconnect = Reconnect::default().max_delay(Duration::from_secs(5)).max_attempts(None);
/// let options = ConnectOptions::default().reconnect(Some(reconnect));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// Max pause before the first retry. Default 100 ms; at least 1 ms.
    pub base_delay: Duration,
    /// Max pause before any retry. Default 30 s; at most 49 days.
    pub max_delay: Duration,
    /// Max failed tries in a row, the first one included, before the connect fails; `None` for no
    /// limit. A lost connection counts as a failed try. A connection that was up for at least
    /// `max_delay` sets the count to zero, so keep `max_delay` below the usual life of a
    /// connection. Default 10.
    pub max_attempts: Option<u32>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            base_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(30),
            max_attempts: Some(10),
        }
    }
}

impl Reconnect {
    setters! { base_delay: Duration, max_delay: Duration, max_attempts: Option<u32> }

    /// The longest pause after so many tries that failed.
    pub(crate) fn ceiling(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(31);
        self.base_delay.saturating_mul(1 << doublings).min(self.max_delay)
    }

    fn check(&self) -> io::Result<()> {
        at_least_1ms("reconnect.base_delay", Some(self.base_delay))?;
        at_most("reconnect.max_delay", Some(self.max_delay), MAX_LIMIT)?;
        if self.max_delay < self.base_delay {
            let wanted = format!("at least reconnect.base_delay ({:?})", self.base_delay);
            return Err(out_of_range(
                "reconnect.max_delay",
                format!("{:?}", self.max_delay),
                &wanted,
            ));
        }
        match self.max_attempts {
            Some(0) => Err(out_of_range("reconnect.max_attempts", 0, "at least 1, or None")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_addresses_names_or_unclear() {
        let addr = |text: &str| match Destination::from(text).0 {
            Place::Addr(addr) => addr.to_string(),
            Place::Name { host, port } => format!("name {host} {port}"),
            Place::Unclear(text) => format!("unclear {text}"),
            Place::Unix(addr) => addr.to_string(),
            Place::Addrs(_) => unreachable!(),
        };
        assert_eq!(addr("127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(addr("[::1]:80"), "[::1]:80");
        assert_eq!(addr("db.example:5432"), "name db.example 5432");
        assert_eq!(addr("localhost:0"), "name localhost 0");
        for text in ["", ":", "db", "db:", ":80", "db:x", "db:65536", "::1", "[db]:1", "fe80::1:80"]
        {
            assert_eq!(addr(text), format!("unclear {text}"));
        }
        assert_eq!(addr("unix:80"), "name unix 80");
        assert_eq!(addr("unix:x"), "unclear unix:x");
        assert_eq!(Destination::from(("::1", 80)), Destination::from("[::1]:80"));
        assert_eq!(addr("[fe80::1%2]:80"), "[fe80::1%2]:80");
        assert_eq!(Destination::from(("fe80::1%2", 80)), Destination::from("[fe80::1%2]:80"));
        assert_eq!(addr("[fe80::1%eth0]:80"), "name fe80::1%eth0 80");
        let named = Destination::from(("fe80::1%eth0", 80));
        assert_eq!(named, Destination::from("[fe80::1%eth0]:80"));
        assert_eq!(named.to_string(), "[fe80::1%eth0]:80");
        for text in ["fe80::1%eth0:80", "[fe80::1%]:80", "[db%eth0]:80", "[fe80::1%[x]:80"] {
            assert_eq!(addr(text), format!("unclear {text}"));
        }
        assert_eq!(Destination::from(("", 80)).to_string(), "\":80\"");
    }

    /// A proxy hands on what a client wrote, and puts a port behind it.
    #[cfg(unix)]
    #[test]
    fn a_text_names_a_unix_socket_only_where_that_is_asked_for() {
        for text in
            ["unix:/run/x", "unix:./x", "unix:../x", "unix:@x", "unix:/run/x:80", "unix:@x:80"]
        {
            let destination = Destination::from(text);
            assert!(matches!(destination.place(), Place::Unclear(_)), "{destination:?}");
            let error = destination.check().unwrap_err();
            assert!(error.to_string().contains("parse_with_unix"), "{error}");
            let destination = Destination::parse_with_unix(text);
            assert!(matches!(destination.place(), Place::Unix(_)), "{destination:?}");
            assert_eq!(destination.to_string(), text);
            let with_port = Destination::from((text, 80));
            assert!(matches!(with_port.place(), Place::Name { .. }), "{with_port:?}");
        }
        for text in ["unix:80", "unix:x", "[::1]:80", "db:5432", ""] {
            assert_eq!(Destination::parse_with_unix(text), Destination::from(text));
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = Reconnect::default();
        let pauses = [1, 2, 3, 8, 9, 10, 40, u32::MAX].map(|failed| policy.ceiling(failed));
        let millis = [100, 200, 400, 12_800, 25_600, 30_000, 30_000, 30_000];
        assert_eq!(pauses, millis.map(Duration::from_millis));
    }
}
