//! A SOCKS5 proxy (RFC 1928) without authentication, for CONNECT: by address or by name, with
//! half-closed connections and backpressure in both directions. A client's bytes wait in the kernel
//! when the other side is slow.
//!
//! ```text
//! cargo run -p socks5 -- 127.0.0.1:1080
//! curl --proxy socks5h://127.0.0.1:1080 http://example.com/
//! ```
//! Strangers choose the destination, so this host and its links are refused; `--allow-local` as a
//! second argument is for tests on one machine.

#[cfg(test)]
mod simulated;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str;
use std::time::Duration;

use anyhow::ensure;
use waterwheel::filter::DestinationFilter;
use waterwheel::{
    CloseReason, Closed, Conn, ConnId, ConnectOptions, Context, DeadlineKind, Destination, Handler,
    Limits, ListenOptions, Peer, Reactor, TcpOptions,
};

/// How long a client may take to say where to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest silence of both sides.
const SILENCE: Duration = Duration::from_secs(300);

/// The address in a reply that has none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

struct Socks {
    options: ConnectOptions,
}

/// One of two connections: that of a client, or the one that was made for it.
enum Side {
    /// The methods of authentication are to come.
    Greeting,
    /// The destination is to come.
    Request,
    /// A client: its bytes go to this upstream.
    Client(ConnId),
    /// An upstream: its bytes go to this client.
    Upstream(ConnId),
}

impl Side {
    fn other(&self) -> Option<ConnId> {
        match *self {
            Self::Client(other) | Self::Upstream(other) => Some(other),
            Self::Greeting | Self::Request => None,
        }
    }
}

/// The methods of authentication that a client offers, and the length of its message.
fn greeting(input: &[u8]) -> Option<(&[u8], usize)> {
    let (&[_version, count], rest) = input.split_first_chunk()?;
    let methods = rest.get(..count.into())?;
    Some((methods, 2 + methods.len()))
}

/// Where a client wants to be connected to, and the length of its message; or why that is refused,
/// as a code. `None`: it is not all here.
fn request(input: &[u8]) -> Option<Result<(Destination, usize), u8>> {
    let (&[_version, command, _, kind], rest) = input.split_first_chunk()?;
    let length = match (command, kind) {
        (1, 1) => 4,
        (1, 4) => 16,
        (1, 3) => 1 + usize::from(*rest.first()?), // a name, with its length in front
        (1, _) => return Some(Err(8)),
        _ => return Some(Err(7)),
    };
    let (host, rest) = rest.split_at_checked(length)?;
    let port = u16::from_be_bytes(*rest.first_chunk()?);
    let to = match *host {
        [_, ref name @ ..] if kind == 3 => str::from_utf8(name).ok().map(|it| (it, port).into()),
        [a, b, c, d] => Some((IpAddr::from([a, b, c, d]), port).into()),
        _ => <[u8; 16]>::try_from(host).ok().map(|ip| (IpAddr::from(ip), port).into()),
    };
    Some(to.map(|to| (to, 6 + length)).ok_or(8))
}

fn reply(client: &mut Conn<'_>, code: u8, bound: SocketAddr) {
    let port = bound.port().to_be_bytes();
    match bound.ip().to_canonical() {
        IpAddr::V4(ip) => client.write_vectored(&[&[5, code, 0, 1], &ip.octets(), &port]),
        IpAddr::V6(ip) => client.write_vectored(&[&[5, code, 0, 4], &ip.octets(), &port]),
    };
    if code != 0 {
        client.close();
    }
}

impl Socks {
    /// Answers the next message of a client. Returns its length, or zero if it is not all here.
    fn negotiate(&self, side: &mut Side, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if input[0] != 5 {
            conn.close(); // another version, or no SOCKS at all
        } else if let Side::Greeting = side {
            let Some((methods, length)) = greeting(input) else { return 0 };
            if methods.contains(&0) {
                conn.write(&[5, 0]);
                *side = Side::Request;
                return length;
            }
            conn.write(&[5, 0xff]); // none that is spoken here
            conn.close();
        } else {
            match request(input) {
                Some(Ok((to, length))) => {
                    conn.set_deadline(DeadlineKind::User, None);
                    let (key, state) = (conn.handler_key(), Side::Upstream(conn.id()));
                    let upstream = conn.context().connect::<Self>(to, key, state, &self.options);
                    *side = Side::Client(upstream);
                    return length;
                }
                Some(Err(code)) => reply(conn, code, NOWHERE),
                None => return 0,
            }
        }
        input.len()
    }
}

impl Handler for Socks {
    type State = Side;

    fn on_accept(&mut self, _: &Peer) -> Option<Side> {
        Some(Side::Greeting)
    }

    fn on_open(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        let Side::Upstream(client) = *side else {
            return conn.set_deadline(DeadlineKind::User, Some(PATIENCE));
        };
        let bound = conn.local_addr().unwrap_or(NOWHERE);
        match conn.other_conn(client) {
            Some(mut client) => reply(&mut client, 0, bound),
            None => conn.abort(),
        }
    }

    fn on_data(&mut self, side: &mut Side, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if let Some(other) = side.other() {
            return conn.pass_on(other, input);
        }
        let taken = self.negotiate(side, conn, input);
        let has_more = (1..input.len()).contains(&taken);
        if has_more { taken + self.on_data(side, conn, &input[taken..]) } else { taken }
    }

    fn on_drain(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        if let Some(mut other) = side.other().and_then(|id| conn.other_conn(id)) {
            other.resume_reading();
        }
    }

    fn on_eof(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        match side.other().and_then(|id| conn.other_conn(id)) {
            Some(mut other) => other.shutdown_write(),
            None => conn.abort(),
        }
    }

    fn on_close(&mut self, side: Side, closed: Closed, cx: &mut Context<'_>) {
        let other = side.other().filter(|_| !matches!(closed.reason, CloseReason::Peer));
        if let Some(mut other) = other.and_then(|id| cx.conn(id)) {
            other.abort(); // what was cut on one side must not look whole on the other
        }
    }

    fn on_connect_failed(&mut self, side: Side, error: io::Error, cx: &mut Context<'_>) {
        let code = match error.kind() {
            ErrorKind::PermissionDenied => 2,
            ErrorKind::NetworkUnreachable => 3,
            ErrorKind::NotFound | ErrorKind::HostUnreachable | ErrorKind::TimedOut => 4,
            ErrorKind::ConnectionRefused => 5,
            _ => 1,
        };
        if let Some(mut client) = side.other().and_then(|id| cx.conn(id)) {
            reply(&mut client, code, NOWHERE);
        }
    }
}

/// Serves at an address, and connects to where the filter allows.
fn serve(
    reactor: &mut Reactor,
    addr: &str,
    filter: Option<DestinationFilter>,
) -> io::Result<SocketAddr> {
    // Either side may read when it likes, as a download that is paused. A server may also begin
    // late, and silence of both sides is what ends them.
    let limits =
        Limits::internet().min_send_rate(None).pause_at_high_mark(false).all_idle(Some(SILENCE));
    // So that TCP need not ask after them.
    let tcp = TcpOptions::default().keepalive(None);
    let upstream = limits.clone().first_byte_timeout(None);
    let options = ConnectOptions::default().filter(filter).limits(upstream).tcp(tcp);
    let socks = reactor.register(Socks { options });
    reactor.listen(addr, socks, ListenOptions::default().limits(limits))
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:1080".to_owned());
    let rest: Vec<String> = args.collect();
    let is_local = rest == ["--allow-local"];
    ensure!(is_local || rest.is_empty(), "usage: socks5 [HOST:PORT [--allow-local]]");
    let filter = (!is_local).then(DestinationFilter::default);
    let mut reactor = Reactor::new()?;
    let addr = serve(&mut reactor, &addr, filter)?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    Ok(reactor.run()?)
}
