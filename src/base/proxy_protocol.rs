//! The header that a balancer sends before the bytes of its client (PROXY protocol, versions 1
//! and 2), as data; and whom it is believed.
//!
//! The text is <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>. How far a header
//! reaches is found here, since a stream may be cut anywhere; what a whole one says is read by the
//! crate `proxy-header`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use proxy_header::{ParseConfig, ProxyHeader};

/// A listener behind a balancer that speaks the PROXY protocol, version 1 or 2.
///
/// Each connection begins with a header that says for whom the balancer connects. It is read
/// before `on_accept`, which then sees the client's address in [`Peer::addr`](crate::Peer), as
/// `Conn::peer_addr` does; `max_per_source` counts clients, since a balancer is one source.
/// A header without addresses (`LOCAL`, as health checks send, or `UNKNOWN`) leaves those of the
/// socket.
///
/// The header is believed from trusted networks only, and there it must come: the protocol
/// forbids guessing whether there is one. Connections from elsewhere are reset, and so are those
/// whose header is malformed, longer than 4,096 bytes or late;
/// [`Stats::proxy_refused`](crate::Stats) counts them. One that ends before its first byte, as a
/// plain health check does, is passed over.
///
/// Options in the header (TLVs) are skipped, its checksum among them. What comes in one piece with
/// the header, 64 KiB at the most, is kept for a handler that pauses reading in `on_open`, whatever
/// `max_input_bytes` says.
///
/// # Examples
/// ```
/// use waterwheel::proxy_protocol::ProxyProtocol;
/// use waterwheel::ListenOptions;
/// let balancers = ProxyProtocol::from_trusted(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])?;
/// let options = ListenOptions::default().proxy_protocol(Some(balancers));
/// # let _ = options;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyProtocol {
    /// Who is believed.
    ///
    /// Invariant: not empty.
    trusted: Vec<IpNet>,
    /// Longest time from accept to the end of the header. Default 3 s, which leaves room for one
    /// lost packet (the protocol's text, section 2); 1 ms to 49 days.
    pub header_timeout: Duration,
}

impl ProxyProtocol {
    /// Believes balancers in these networks: each an address and a prefix such as `10.0.0.0/8` or
    /// `fd00::/8`, or one address. IPv4 networks also match IPv4 clients of an IPv6 socket.
    ///
    /// There is no default, because a trusted balancer may name any client.
    ///
    /// # Errors
    /// - `InvalidInput`: one of them does not parse, or there are none.
    pub fn from_trusted<N: AsRef<str>>(networks: impl IntoIterator<Item = N>) -> io::Result<Self> {
        let trusted: Vec<IpNet> =
            networks.into_iter().map(|text| network(text.as_ref())).collect::<io::Result<_>>()?;
        if trusted.is_empty() {
            return Err(invalid(
                "no trusted network: a listener with the PROXY protocol would refuse everybody; \
                 name the balancers, such as 10.0.0.0/8",
            ));
        }
        Ok(Self { trusted, header_timeout: Duration::from_secs(3) })
    }

    /// Sets [`header_timeout`](Self#structfield.header_timeout).
    #[must_use]
    pub fn header_timeout(mut self, header_timeout: Duration) -> Self {
        self.header_timeout = header_timeout;
        self
    }

    /// Whether headers from this address are believed.
    pub(crate) fn trusts(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.trusted.iter().any(|network| network.contains(&source))
    }
}

fn network(text: &str) -> io::Result<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| {
        let text = format!("{text:?} is no network to trust; give one such as 10.0.0.0/8 or ::1");
        invalid(&text)
    })
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What a whole header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// How many bytes it takes.
    pub(crate) bytes: usize,
    /// Client and destination; `None` if those of the socket hold.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
}

/// The first bytes of version 2.
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 up to and with its length.
const FIXED_V2: usize = 16;
/// Longest header of version 2 that is read: addresses of the longest family take 232 bytes, and
/// options of balancers in use some hundred more.
const MOST_V2: usize = 4_096;
/// Version and command, in one byte: the balancer itself connects.
const LOCAL_V2: u8 = 0x20;
/// Version and command, in one byte: the balancer connects for a client.
const PROXY_V2: u8 = 0x21;

/// The first bytes of version 1.
const SIGNATURE_V1: &[u8] = b"PROXY ";
/// Longest line of version 1, with its end.
const MOST_V1: usize = 107;

/// Reads a header from the front of what has come in; `None` while it is incomplete. What cannot
/// become one is told at once, with the reason.
pub(crate) fn parse(input: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(bytes) = length(input)? else { return Ok(None) };
    let Some(header) = input.get(..bytes) else { return Ok(None) };
    if header.starts_with(SIGNATURE_V2) && header[SIGNATURE_V2.len()] == LOCAL_V2 {
        // Whatever else it says does not count.
        return Ok(Some(Header { bytes, addresses: None }));
    }
    match ProxyHeader::parse(header, ParseConfig::default()) {
        Ok((parsed, taken)) if taken == bytes => {
            let addresses = parsed.proxied_address();
            let addresses = addresses.map(|found| (found.source, found.destination));
            Ok(Some(Header { bytes, addresses }))
        }
        _ => Err("the header is malformed"),
    }
}

/// How long the header is, once that is known.
fn length(input: &[u8]) -> Result<Option<usize>, &'static str> {
    if begins(input, SIGNATURE_V1) {
        let line = &input[..input.len().min(MOST_V1)];
        return match line.iter().position(|&byte| byte == b'\n') {
            Some(end) => Ok(Some(end + 1)),
            None if line.len() == MOST_V1 => Err("the header is too long"),
            None => Ok(None),
        };
    }
    if !begins(input, SIGNATURE_V2) {
        return Err("it does not begin with a header");
    }
    if let Some(&command) = input.get(SIGNATURE_V2.len()) {
        if command != LOCAL_V2 && command != PROXY_V2 {
            return Err("its version or command is unknown");
        }
    }
    match input.get(..FIXED_V2) {
        Some(&[.., high, low]) => {
            let bytes = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
            if bytes > MOST_V2 { Err("the header is too long") } else { Ok(Some(bytes)) }
        }
        _ => Ok(None),
    }
}

/// Whether the input begins with a signature, as far as it goes.
fn begins(input: &[u8], signature: &[u8]) -> bool {
    let both = input.len().min(signature.len());
    input[..both] == signature[..both]
}

#[cfg(test)]
#[path = "../tests/proxy_protocol.rs"]
mod tests;
