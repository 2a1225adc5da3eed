//! An echo server: what comes in goes out again. The one to put a load on.
//!
//! ```text
//! cargo run --release -p echo -- --listen 127.0.0.1:7000
//! echo hello | nc -N 127.0.0.1 7000
//! cargo run --release -p load -- --connect 127.0.0.1:7000
//! cargo run --release -p echo -- --unix /tmp/echo.sock
//! echo hello | nc -N -U /tmp/echo.sock
//! cargo run --release -p echo --features tls -- --tls-self-signed
//! echo hello | openssl s_client -quiet -connect 127.0.0.1:7000
//! ```

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use support::{CertificateSource, ClientRoots, Tls, print};
use waterwheel::fleet::{Fleet, FleetOptions, Pinning, Spread};
#[cfg(unix)]
use waterwheel::unix::{UnixAddr, UnixListenOptions};
use waterwheel::{
    Conn, Context, Handler, HandlerKey, ListenOptions, Peer, Reactor, ReactorOptions, Stats, Timer,
    TimerHandler,
};

const USAGE: &str = "\
usage: echo [options]
  --listen ADDR            listen here, may be given again [127.0.0.1:7000]; port 0: any
  --unix PATH              listen on a Unix socket, may be given again; @NAME: an abstract one;
                           of several threads the first serves it
  --idle-timeout SECONDS   end connections on which nothing moves [60]; 0: never
  --max-connections N      refuse more than so many [the open-file limit less a reserve]
  --backlog N              connections that the kernel may queue [the largest]
  --reuse-port             share the address with other processes
  --threads N              a fleet of so many reactors; 0: one a core [no fleet]
  --spread HOW             how connections spread over it [shared]: shared, reuse-port,
                           least-connections, round-robin, source-address
  --pin                    keep each of its threads to a core
  --busy-poll MICROS       poll so long without blocking before blocking [0]
  --stats SECONDS          print the counters so often, of each reactor
  --tls CERT KEY           TLS, with a certificate and its key from files of PEM text, which are
                           read anew at SIGHUP
  --tls-self-signed        TLS, with a certificate for localhost that nobody trusts
  --tls-clients ROOTS      with TLS: a client must show a certificate that one of these has signed
  --tls-clients-optional   with that: a client may show none
  --help";

/// How long connections may take to end after SIGINT or SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        input.len()
    }
}

impl TimerHandler for Echo {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        // Their reader may have gone; the clients have not.
        let _ = print_stats(&cx.stats());
    }
}

struct Args {
    listen: Vec<String>,
    unix: Vec<String>,
    options: ListenOptions,
    reactor: ReactorOptions,
    fleet: FleetOptions,
    stats: Option<Duration>,
    tls: Option<CertificateSource>,
    clients: Option<ClientRoots>,
}

fn main() -> ExitCode {
    support::init_log("info");
    support::run_parsed("echo", USAGE, parse(), serve)
}

fn serve(mut args: Args) -> Result<ExitCode, Box<dyn Error>> {
    support::raise_limit()?;
    let clients = args.clients.as_ref();
    let tls = args.tls.as_ref().map(|source| Tls::with_clients("echo", source, clients));
    let tls = tls.transpose()?;
    if let Some(tls) = &tls {
        args.options = tls.encrypt(args.options);
    }
    if args.fleet.threads.is_some() {
        return serve_as_fleet(args, tls);
    }
    let mut reactor = Reactor::with_options(args.reactor)?;
    let echo = reactor.register(Echo);
    support::drain_on_signals(&mut reactor, DRAIN)?;
    for addr in &args.listen {
        let addr = reactor.listen(addr, echo, args.options.clone())?;
        print(format_args!("listening on {addr}"))?;
    }
    for path in &args.unix {
        let addr = listen_unix(&mut reactor, echo, path, &args.options, tls.as_ref())?;
        print(format_args!("listening on {addr}"))?;
    }
    if let Some(period) = args.stats {
        reactor.set_periodic_timer(echo, period, 0);
    }
    reactor.run()?;
    print_stats(&reactor.stats())?;
    Ok(ExitCode::SUCCESS)
}

fn serve_as_fleet(args: Args, tls: Option<Tls>) -> Result<ExitCode, Box<dyn Error>> {
    let Args { listen, unix, options, reactor, mut fleet, stats, .. } = args;
    fleet.threads = fleet.threads.filter(|&threads| threads > 0);
    let mut fleet = Fleet::new(fleet.reactor(reactor))?;
    support::drain_fleet_on_signals(&mut fleet, DRAIN)?;
    let last = fleet.run(move |member| {
        let echo = member.reactor().register(Echo);
        for addr in &listen {
            let addr = member.listen(addr, echo, options.clone())?;
            if member.index() == 0 {
                print(format_args!("listening on {addr}"))?;
            }
        }
        let paths = if member.index() == 0 { &unix[..] } else { &[] };
        for path in paths {
            let addr = listen_unix(member.reactor(), echo, path, &options, tls.as_ref())?;
            print(format_args!("listening on {addr}"))?;
        }
        if let Some(period) = stats {
            member.reactor().set_periodic_timer(echo, period, 0);
        }
        Ok(())
    })?;
    print_stats(&last.total)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn listen_unix(
    reactor: &mut Reactor,
    echo: HandlerKey<Echo>,
    path: &str,
    options: &ListenOptions,
    tls: Option<&Tls>,
) -> io::Result<UnixAddr> {
    let mut unix = UnixListenOptions::default().limits(options.limits.clone());
    (unix.backlog, unix.max_connections) = (options.backlog, options.max_connections);
    let unix = tls.map_or(unix.clone(), |tls| tls.encrypt_unix(unix));
    reactor.listen_unix(path, echo, unix)
}

#[cfg(not(unix))]
fn listen_unix(
    _: &mut Reactor,
    _: HandlerKey<Echo>,
    _: &str,
    _: &ListenOptions,
    _: Option<&Tls>,
) -> io::Result<String> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there are no Unix sockets on this platform"))
}

fn print_stats(stats: &Stats) -> io::Result<()> {
    print(format_args!(
        "open {} (peak {}), accepted {}, refused {}, closed {} (idle {}, broken {}); \
         read {} bytes in {}, wrote {} in {}; {} turns",
        stats.connections,
        stats.connections_peak,
        stats.accepted,
        stats.refused,
        stats.closed,
        stats.closed_idle,
        stats.closed_broken,
        stats.bytes_read,
        stats.reads,
        stats.bytes_written,
        stats.writes,
        stats.turns,
    ))
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut listen, mut unix) = (Vec::new(), Vec::new());
    let mut options = ListenOptions::default().idle_timeout(Duration::from_secs(60));
    let mut reactor = ReactorOptions::default();
    let mut fleet = FleetOptions::default();
    let (mut stats, mut tls) = (None, None);
    let (mut roots, mut is_optional) = (None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => listen.push(parser.value()?.string()?),
            Long("unix") => unix.push(parser.value()?.string()?),
            Long("idle-timeout") => {
                let limit = parser.value()?.parse_with(seconds)?;
                options.limits.all_idle = match limit.is_zero() {
                    true => None,
                    false => Some(support::check_limit("idle-timeout", limit)?),
                };
            }
            Long("max-connections") => {
                options.max_connections = Some(parser.value()?.parse()?);
            }
            Long("backlog") => options.backlog = Some(parser.value()?.parse()?),
            Long("reuse-port") => options.reuse_port = true,
            Long("threads") => fleet.threads = Some(parser.value()?.parse()?),
            Long("spread") => fleet.spread = parser.value()?.parse_with(str::parse::<Spread>)?,
            Long("pin") => fleet.pinning = Pinning::Cores,
            Long("busy-poll") => {
                reactor.busy_poll = Duration::from_micros(parser.value()?.parse()?);
            }
            Long("stats") => {
                let period = parser.value()?.parse_with(seconds)?;
                stats = (!period.is_zero()).then_some(period);
            }
            Long("tls") => {
                let chain = parser.value()?.string()?;
                tls = Some(CertificateSource::Files(chain, parser.value()?.string()?));
            }
            Long("tls-self-signed") => tls = Some(CertificateSource::SelfSigned),
            Long("tls-clients") => roots = Some(parser.value()?.string()?),
            Long("tls-clients-optional") => is_optional = true,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if roots.is_some() && tls.is_none() {
        return Err("--tls-clients is for --tls and --tls-self-signed".into());
    }
    if is_optional && roots.is_none() {
        return Err("--tls-clients-optional is for --tls-clients".into());
    }
    let clients = roots.map(|file| ClientRoots { file, is_optional });
    if listen.is_empty() && unix.is_empty() {
        listen.push("127.0.0.1:7000".to_owned());
    }
    Ok(Some(Args { listen, unix, options, reactor, fleet, stats, tls, clients }))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
