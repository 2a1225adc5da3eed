//! Datagrams that the kernel has dropped because a socket of this machine had no room for them:
//! what is lost there is lost by who does not read fast enough, and not by the network.

use std::net::SocketAddr;

/// How many were dropped at UDP sockets, named by their own address and their peer's; a socket
/// that has none has port 0 of the unspecified address. All are of one family. `None` where the
/// system does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn dropped(sockets: &[(SocketAddr, SocketAddr)]) -> Option<u64> {
    let path = match sockets.first()?.0 {
        SocketAddr::V4(_) => "/proc/self/net/udp",
        SocketAddr::V6(_) => "/proc/self/net/udp6",
    };
    let table = std::fs::read_to_string(path).ok()?;
    let wanted: std::collections::HashSet<_> =
        sockets.iter().map(|(own, peer)| [hex(*own), hex(*peer)]).collect();
    let mut sum = 0;
    for line in table.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, own, peer, .., drops] = words[..] else { continue };
        if wanted.contains(&[own.to_owned(), peer.to_owned()]) {
            sum += drops.parse::<u64>().ok()?;
        }
    }
    Some(sum)
}

/// An address as the kernel writes it: words of 32 bits as they lie in memory.
#[cfg(target_os = "linux")]
fn hex(addr: SocketAddr) -> String {
    use std::fmt::Write;
    use std::net::IpAddr;

    let mut text = String::with_capacity(37);
    let mut write = |bytes: &[u8]| {
        for word in bytes.chunks_exact(4) {
            let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
            write!(text, "{word:08X}").expect("a string takes all that is written");
        }
    };
    match addr.ip() {
        IpAddr::V4(ip) => write(&ip.octets()),
        IpAddr::V6(ip) => write(&ip.octets()),
    }
    text + &format!(":{:04X}", addr.port())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn dropped(_: &[(SocketAddr, SocketAddr)]) -> Option<u64> {
    None
}
