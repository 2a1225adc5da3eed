//! Which address of a server is used, where its name has several.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// How long an address may take to answer before the next one is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// The addresses of `HOST:PORT`, where an IPv6 address may have an interface: `[fe80::1%eth0]:80`.
pub(crate) fn resolve(text: &str) -> Result<Vec<SocketAddr>, String> {
    let hint = "give HOST:PORT, such as 127.0.0.1:7000";
    let addrs = match scoped(text) {
        Some(scoped) => scoped.to_socket_addrs(),
        None => text.to_socket_addrs(),
    };
    let addrs = addrs.map_err(|error| format!("{text:?}: {error}; {hint}"))?;
    let addrs: Vec<_> = addrs.collect();
    match addrs.is_empty() {
        true => Err(format!("{text:?} names no address; {hint}")),
        false => Ok(addrs),
    }
}

/// An address with an interface, which the system's lookup knows without the brackets.
fn scoped(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    host.contains('%').then_some(())?;
    Some((host, port.parse().ok()?))
}

/// The first address at which a server answers; the first of all if none does, since the run then
/// says why. A single one is not asked.
pub(crate) fn first_that_answers(addrs: &[SocketAddr], is_udp: bool) -> Option<SocketAddr> {
    let answers = |addr: &&SocketAddr| match is_udp {
        true => echoes(**addr),
        false => TcpStream::connect_timeout(addr, PATIENCE).is_ok(),
    };
    match addrs {
        [] | [_] => addrs.first().copied(),
        _ => addrs.iter().find(answers).or(addrs.first()).copied(),
    }
}

/// Whether a datagram comes back.
fn echoes(addr: SocketAddr) -> bool {
    let any = match addr {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let ask = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"load?")?;
        socket.recv(&mut [0; 16])
    };
    ask().is_ok()
}
