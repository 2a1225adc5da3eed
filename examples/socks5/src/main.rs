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

use std::env;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use waterwheel::filter::DestinationFilter;
use waterwheel::{
    CloseReason, Closed, Conn, ConnId, ConnectOptions, Context, DeadlineKind, Destination, Handler,
    Limits, ListenOptions, Peer, Reactor, TcpOptions, Written,
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
    /// Its bytes go to the other one.
    Client {
        upstream: ConnId,
    },
    Upstream {
        client: ConnId,
    },
}

impl Side {
    fn other(&self) -> Option<ConnId> {
        match *self {
            Self::Client { upstream: other } | Self::Upstream { client: other } => Some(other),
            Self::Greeting | Self::Request => None,
        }
    }
}

/// Methods of authentication: what is left behind them.
fn greeting(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_version, count], rest) = input.split_first_chunk()?;
    rest.split_at_checked(count.into())
}

/// A command, where to, and what is left behind them.
type Request<'a> = (u8, Destination, &'a [u8]);

/// A command and where to, and what is left behind them; `Err` for another kind of address.
fn request(input: &[u8]) -> Result<Option<Request<'_>>, ()> {
    let Some((&[_version, command, _, kind], rest)) = input.split_first_chunk() else {
        return Ok(None);
    };
    let length = match (kind, rest.first()) {
        (1, _) => 4,
        (4, _) => 16,
        (3, Some(&length)) => 1 + usize::from(length),
        (3, None) => return Ok(None),
        _ => return Err(()),
    };
    let Some((host, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let Some((&port, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let port = u16::from_be_bytes(port);
    let ip = <[u8; 4]>::try_from(host).map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
    let ip = ip.or_else(|_| <[u8; 16]>::try_from(host).map(|ip| Ipv6Addr::from(ip).into()));
    let to = match (kind, ip) {
        (1 | 4, Ok(ip)) => (ip, port).into(),
        _ => (std::str::from_utf8(&host[1..]).map_err(|_| ())?, port).into(),
    };
    Ok(Some((command, to, rest)))
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

impl Handler for Socks {
    type State = Side;

    fn on_accept(&mut self, _: &Peer) -> Option<Side> {
        Some(Side::Greeting)
    }

    fn on_open(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        let Side::Upstream { client } = *side else {
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
            match conn.other_conn(other).map(|mut other| other.write(input)) {
                Some(Written::Below) => {}
                Some(Written::Above) => conn.pause_reading(), // until `on_drain` of the other one
                Some(Written::Full | Written::Closed) | None => conn.abort(),
            }
            return input.len();
        }
        if input[0] != 5 {
            conn.close(); // another version, or no SOCKS at all
            return input.len();
        }
        let is_greeting = matches!(side, Side::Greeting);
        let rest = match (is_greeting, greeting(input), request(input)) {
            (true, Some((methods, rest)), _) if methods.contains(&0) => {
                conn.write(&[5, 0]);
                *side = Side::Request;
                rest
            }
            (true, Some(_), _) => {
                conn.write(&[5, 0xff]); // none that is spoken here
                conn.close();
                return input.len();
            }
            (false, _, Ok(Some((1, to, rest)))) => {
                conn.set_deadline(DeadlineKind::User, None);
                let (key, state) = (conn.handler_key(), Side::Upstream { client: conn.id() });
                let upstream = conn.context().connect::<Self>(to, key, state, &self.options);
                *side = Side::Client { upstream };
                rest
            }
            (false, _, Err(()) | Ok(Some(_))) => {
                let code = if request(input).is_err() { 8 } else { 7 };
                reply(conn, code, NOWHERE); // no such address, no such command
                return input.len();
            }
            _ => return 0, // it is not all here
        };
        let taken = input.len() - rest.len();
        if rest.is_empty() { taken } else { taken + self.on_data(side, conn, rest) }
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

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:1080".to_owned());
    let is_local = args.next().is_some_and(|arg| arg == "--allow-local");
    let filter = (!is_local).then(DestinationFilter::default);
    let limits = Limits::internet().pause_at_high_mark(false).all_idle(Some(SILENCE));
    // Silence ends both sides, so that TCP need not ask after them.
    let tcp = TcpOptions::default().keepalive(None);
    let options = ConnectOptions::default().filter(filter).limits(limits.clone()).tcp(tcp);
    let mut reactor = Reactor::new()?;
    let socks = reactor.register(Socks { options });
    let addr = reactor.listen(addr, socks, ListenOptions::default().limits(limits))?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
