//! A TCP proxy: what a client sends goes to an upstream, and back.
//!
//! ```text
//! cargo run --release -p echo -- --listen 127.0.0.1:7000
//! cargo run --release -p proxy -- --listen 127.0.0.1:7001 --connect 127.0.0.1:7000
//! echo hello | nc -N 127.0.0.1 7001
//! cargo run --release -p load -- --connect 127.0.0.1:7001
//! cargo run --release -p proxy --features tls -- --tls cert.pem key.pem
//! cargo run --release -p proxy --features tls -- --connect a.example:443 --connect-tls a.example
//! ```
//!
//! Each session is two connections that know each other by id. Whoever sends faster than the other
//! side reads is held back: its reading pauses at the high mark of the other's output and resumes
//! at the low mark. The end of one direction is passed on and leaves the other direction open; an
//! end of any other kind (a reset, silence, an upstream that is not there) is passed on as a
//! reset, so that nobody takes a part for the whole.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use support::{Args, Failure, canonical, check_limit, encrypt_connects};
use waterwheel::{
    CloseReason, Closed, Conn, ConnId, ConnectOptions, Context, DeadlineKind, Destination, Handler,
    HandlerKey, Idle, IdleKind, Limits, ListenOptions, Peer, Reactor,
};

const OPTIONS: &str = "\
  --connect HOST:PORT    the upstream [127.0.0.1:7000]
  --connect-timeout SECONDS  how long it may take to be up [10]
  --idle-timeout SECONDS reset sessions on which nothing moves [300]; 0: never
  --tls CERT KEY         TLS with the clients, with a certificate and its key from files of PEM
                         text, which are read anew at SIGHUP
  --connect-tls NAME     TLS with the upstream, whose certificate must have this name
  --connect-roots FILE   who may have signed it, as PEM text [whom the system trusts]
  --proxy-protocol v1    begin each upstream connection with a header that names the client
";

struct Proxy {
    service: HandlerKey<Proxy>,
    upstream: Destination,
    options: ConnectOptions,
    /// Whether the upstream is told who the client is.
    sends_header: bool,
    /// How long sessions may go on after a signal.
    drain: Duration,
    /// The last attempt failed, and the log has it.
    is_down: bool,
}

/// One end of a session.
struct Side {
    /// The other end; `None` for a client whose `on_open` has not run.
    other: Option<ConnId>,
}

impl Handler for Proxy {
    type State = Side;

    fn on_accept(&mut self, _: &Peer) -> Option<Side> {
        Some(Side { other: None })
    }

    fn on_open(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        if side.other.is_some() {
            self.is_down = false;
            return; // what waits for the upstream leaves by itself
        }
        let client = conn.id();
        let header = match self.sends_header.then(|| header(conn)).transpose() {
            Ok(header) => header,
            // Without its header the upstream would take what the client sends for one.
            Err(error) => {
                log::warn!("a client is reset: {error}");
                return conn.abort();
            }
        };
        let mut cx = conn.context();
        let state = Side { other: Some(client) };
        let upstream = cx.connect(self.upstream.clone(), self.service, state, &self.options);
        if let (Some(header), Some(mut upstream)) = (header, cx.conn(upstream)) {
            upstream.write(header.as_bytes());
        }
        side.other = Some(upstream);
    }

    fn on_data(&mut self, side: &mut Side, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        match side.other {
            Some(other) => conn.pass_on(other, input), // `on_drain` of the other end resumes
            None => 0,                                 // `on_open` of a client runs before
        }
    }

    fn on_drain(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        if let Some(mut other) = side.other.and_then(|id| conn.other_conn(id)) {
            other.resume_reading();
        }
    }

    fn on_eof(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        // Without `close_notify` of TLS somebody between may have made the end.
        let is_whole = !conn.is_truncated();
        match side.other.and_then(|id| conn.other_conn(id)) {
            Some(mut other) if is_whole => other.shutdown_write(),
            _ => conn.abort(),
        }
    }

    fn on_idle(&mut self, _: &mut Side, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        conn.abort();
        Idle::Close
    }

    /// Sessions go on for as long as they may. What is cut then is reset, on both sides.
    fn on_shutdown(&mut self, _: &mut Side, conn: &mut Conn<'_>) {
        conn.set_deadline(DeadlineKind::User, Some(self.drain / 10 * 9));
    }

    fn on_close(&mut self, side: Side, closed: Closed, cx: &mut Context<'_>) {
        // Once both directions have ended, the other end has all it needs to finish by itself.
        if !matches!(closed.reason, CloseReason::Peer) {
            reset(side, cx);
        }
    }

    fn on_connect_failed(&mut self, side: Side, error: io::Error, cx: &mut Context<'_>) {
        // A client that has gone meanwhile is no fault of the upstream.
        let is_fault = side.other.is_some_and(|id| cx.conn(id).is_some());
        if is_fault && !std::mem::replace(&mut self.is_down, true) {
            log::warn!("{error}; clients are reset until it is there");
        }
        reset(side, cx);
    }
}

fn reset(side: Side, cx: &mut Context<'_>) {
    if let Some(mut other) = side.other.and_then(|id| cx.conn(id)) {
        other.abort();
    }
}

/// Version 1 of the PROXY protocol: one line of text. An error if the client has reset already and
/// the system, as some do, does not know the address of this end any more.
fn header(conn: &Conn<'_>) -> io::Result<String> {
    let (client, here) = (canonical(conn.peer_addr()), canonical(conn.local_addr()?));
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (client.ip(), here.ip());
    Ok(format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), here.port()))
}

fn main() -> ExitCode {
    support::run("proxy", OPTIONS, "127.0.0.1:7001", serve)
}

fn serve(args: &Args) -> Result<(), Failure> {
    let upstream = args.value("connect", "127.0.0.1:7000".to_owned())?;
    let upstream = Destination::parse_with_unix(&upstream);
    let idle = match args.seconds("idle-timeout", 300.0)? {
        Duration::ZERO => None,
        limit => Some(check_limit("idle-timeout", limit).map_err(Failure::Usage)?),
    };
    let sends_header = match args.value("proxy-protocol", String::new())?.as_str() {
        "" => false,
        "v1" => true,
        other => return Err(Failure::Usage(format!("--proxy-protocol is v1, not {other:?}"))),
    };
    // Each direction is held back on its own, by `on_data` and `on_drain`.
    let limits = Limits::default().pause_at_high_mark(false).all_idle(idle);
    let timeout = args.seconds("connect-timeout", 10.0)?;
    if timeout.is_zero() {
        let text = "--connect-timeout 0 would reset each client; give more";
        return Err(Failure::Usage(text.to_owned()));
    }
    let timeout = check_limit("connect-timeout", timeout).map_err(Failure::Usage)?;
    let options = ConnectOptions::default().timeout(timeout).limits(limits.clone());
    let options = match args.value("connect-tls", String::new())?.as_str() {
        "" => options,
        _ if sends_header => {
            let text = "--proxy-protocol with --connect-tls: the header would be encrypted";
            return Err(Failure::Usage(text.to_owned()));
        }
        name => {
            let roots = args.value("connect-roots", String::new())?;
            encrypt_connects("proxy", options, name, &roots)?
        }
    };
    let drain = args.seconds("drain", 5.0)?;
    let mut reactor = Reactor::new()?;
    let proxy = reactor.register_with(|service| Proxy {
        service,
        upstream,
        options,
        sends_header,
        drain,
        is_down: false,
    });
    let listen = args.encrypt("proxy", ListenOptions::default().limits(limits))?;
    args.serve(&mut reactor, proxy, &listen)
}
