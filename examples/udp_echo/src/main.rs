//! An echo server for datagrams: each goes back to where it came from. With `--sessions` it keeps
//! a count for each peer, and says what it was when a peer has fallen silent. With `--unix` it does
//! the same for Unix sockets, but for the sessions. `--batch` is to be tried with the feature
//! `batch`, which takes up to 64 of them in one system call.
//!
//! The source of a datagram may be forged. So a datagram is not answered if its source port is
//! under 1024, where services are that answer too, or one at which this program receives: an
//! answer to itself, or to another of its kind, would be answered without end. Two echoes at
//! different ports from 1024 on can still be made to answer each other without end by one forged
//! datagram: a real protocol prevents that with answers that are no requests.
//!
//! ```text
//! cargo run --release -p udp_echo -- --listen 127.0.0.1:7001 --sessions
//! echo hello | nc -u -w 1 127.0.0.1 7001
//!
//! cargo run --release -p udp_echo --features batch -- --listen 127.0.0.1:7001 --batch
//! cargo run --release -p load -- udp --connect 127.0.0.1:7001 --depth 16
//!
//! cargo run --release -p udp_echo -- --unix /tmp/udp_echo.sock
//! echo hello | socat -t 1 - UNIX-SENDTO:/tmp/udp_echo.sock,bind=/tmp/client.sock
//! ```

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use support::{canonical, print, say};
use waterwheel::udp::{
    DatagramHandler, DatagramSocket, Session, SessionEnd, SessionHandler, SessionOptions,
    UdpOptions,
};
#[cfg(unix)]
use waterwheel::unix::{UnixAddr, UnixDatagramHandler, UnixDatagramOptions, UnixDatagramSocket};
use waterwheel::{HandlerKey, Reactor, Stats};

mod answerable;

use answerable::is_answerable;

const USAGE: &str = "\
usage: udp_echo [options]
  --listen ADDR            receive here, may be given again [127.0.0.1:7001]; port 0: any
  --unix PATH              receive at a Unix socket, may be given again; @NAME: an abstract one;
                           nothing else unless --listen is given as well, which is whom the
                           options below are for
  --sessions               count the datagrams of each peer
  --idle-timeout SECONDS   end the session of a peer that is silent for so long [60]
  --max-sessions N         answer no more than so many peers [65536]
  --batch                  receive and send several at a time; in one system call if this was
                           built with --features batch, on Linux
  --reuse-port             share the address with other processes
  --receive-buffer BYTES   what the kernel may hold for us [the system's choice]
  --help";

/// Nothing is to be waited for after SIGINT or SIGTERM but connections, and there are none.
const DRAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Echo {
    /// At which this program receives.
    own_ports: Vec<u16>,
}

impl DatagramHandler for Echo {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        if is_answerable(from, &self.own_ports) {
            socket.send_to(from, bytes);
        }
    }
}

#[cfg(unix)]
impl UnixDatagramHandler for Echo {
    fn on_datagram(
        &mut self,
        socket: &mut UnixDatagramSocket<'_>,
        from: Option<&UnixAddr>,
        bytes: &[u8],
    ) {
        match from {
            Some(from) => {
                socket.send_to(from, bytes);
            }
            None => log::debug!("{} bytes of somebody without a name", bytes.len()),
        }
    }
}

/// What is kept for a peer: how many datagrams it has sent.
struct Count(u64);

impl SessionHandler for Echo {
    type State = Count;

    fn on_session(&mut self, from: SocketAddr, _: &[u8]) -> Option<Count> {
        is_answerable(from, &self.own_ports).then_some(Count(0))
    }

    fn on_datagram(&mut self, count: &mut Count, session: &mut Session<'_>, bytes: &[u8]) {
        count.0 += 1;
        session.send(bytes);
    }

    fn on_session_end(&mut self, count: Count, session: &mut Session<'_>, why: SessionEnd) {
        let why = if why == SessionEnd::Idle { "silent" } else { "over" };
        say(format_args!("{}: {} datagrams, {why}", canonical(session.peer_addr()), count.0));
    }
}

struct Args {
    listen: Vec<String>,
    unix: Vec<String>,
    options: UdpOptions,
    sessions: Option<SessionOptions>,
}

fn main() -> ExitCode {
    support::init_log("info");
    support::run_parsed("udp_echo", USAGE, parse(), serve)
}

fn serve(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let mut reactor = Reactor::new()?;
    support::drain_on_signals(&mut reactor, DRAIN)?;
    let echo = reactor.register(Echo::default());
    bind(&mut reactor, echo, &args)?;
    bind_unix(&mut reactor, echo, &args.unix)?;
    reactor.run()?;
    print_stats(&reactor.stats())?;
    Ok(ExitCode::SUCCESS)
}

fn bind(reactor: &mut Reactor, echo: HandlerKey<Echo>, args: &Args) -> io::Result<()> {
    for addr in &args.listen {
        let options = args.options.clone();
        let (_, addr) = match args.sessions {
            Some(sessions) => reactor.bind_sessions(addr, echo, sessions, options)?,
            None => reactor.bind_udp(addr, echo, options)?,
        };
        if let Some(echo) = reactor.handler_mut(echo) {
            echo.own_ports.push(addr.port());
        }
        print(format_args!("listening on {addr}"))?;
    }
    Ok(())
}

#[cfg(unix)]
fn bind_unix(reactor: &mut Reactor, echo: HandlerKey<Echo>, paths: &[String]) -> io::Result<()> {
    for path in paths {
        let addr = UnixAddr::from(path);
        reactor.bind_unix_datagrams(&addr, echo, UnixDatagramOptions::default())?;
        print(format_args!("listening on {addr}"))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn bind_unix(_: &mut Reactor, _: HandlerKey<Echo>, paths: &[String]) -> io::Result<()> {
    match paths.first() {
        Some(path) => {
            let text = format!("--unix {path}: there are no such sockets here");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        None => Ok(()),
    }
}

fn print_stats(stats: &Stats) -> io::Result<()> {
    print(format_args!(
        "received {} datagrams ({} bytes), sent {} ({} bytes), dropped {}; {} turns",
        stats.datagrams_received,
        stats.datagram_bytes_received,
        stats.datagrams_sent,
        stats.datagram_bytes_sent,
        stats.datagrams_dropped,
        stats.turns,
    ))?;
    if stats.sessions_refused > 0 {
        print(format_args!("refused {} datagrams of new peers", stats.sessions_refused))?;
    }
    Ok(())
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut listen = Vec::new();
    let mut unix = Vec::new();
    let mut options = UdpOptions::default();
    let mut sessions = SessionOptions::default();
    let mut has_sessions = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => listen.push(parser.value()?.string()?),
            Long("unix") => unix.push(parser.value()?.string()?),
            Long("sessions") => has_sessions = true,
            Long("idle-timeout") => {
                let limit = parser.value()?.parse_with(seconds)?;
                sessions.idle_timeout = support::check_limit("idle-timeout", limit)?;
            }
            Long("max-sessions") => sessions.max_sessions = parser.value()?.parse()?,
            Long("batch") => options.batch = true,
            Long("reuse-port") => options.reuse_port = true,
            Long("receive-buffer") => {
                options.receive_buffer_bytes = Some(parser.value()?.parse()?);
            }
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    let is_for_udp = has_sessions || options != UdpOptions::default();
    if listen.is_empty() && !unix.is_empty() && is_for_udp {
        return Err("there are options for UDP beside --unix; give --listen as well".into());
    }
    if listen.is_empty() && unix.is_empty() {
        listen.push("127.0.0.1:7001".to_owned());
    }
    Ok(Some(Args { listen, unix, options, sessions: has_sessions.then_some(sessions) }))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
