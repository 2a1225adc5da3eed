//! A reverse proxy: what clients ask of it, it asks of the servers behind it, in turn.
//!
//! ```text
//! cargo run --release -p ws_echo -- --listen 127.0.0.1:8081 &
//! cargo run --release -p web -- --listen 127.0.0.1:8082 &
//! cargo run --release -p reverse_proxy -- --to 127.0.0.1:8081 --to 127.0.0.1:8082
//! curl http://127.0.0.1:8000/user/42
//! ```
//! - Bodies pass in both directions as they come, and an end that reads slowly holds the other
//!   back. Connections are kept on both sides.
//! - A client that waits for a 100 gets it when the server behind says so, or has said nothing for
//!   a second, and its body is not read before. A connection becomes a tunnel when the server
//!   behind has answered 101.
//! - Servers are asked every now and then whether they live. One that has failed twice in a row
//!   gets no requests until it answers that again.
//! - 502: no server, or none that answers as it should; 504: it takes too long; 503: too many wait.
//! - Fields of one connection stay on it (RFC 9110, 7.6.1), with those that `Connection` lists.
//!   What clients say of themselves in `X-Forwarded-*` is not believed.
//!
//! The servers are those of the command line: no request can name another.
//!
//! # What this cannot do
//! Trailers are dropped. A request whose kept connection ends under it is tried again only if it
//! has no body and does no harm twice.

mod forward;
mod health;
mod relay;
mod tunnel;

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use support::print;
use waterwheel::http::{self, Client, ClientOptions, ReplyId, Route, Router, Server};
use waterwheel::pool::PoolOptions;
use waterwheel::{ConnectOptions, Context, HandlerKey, ListenOptions, Reactor, Remote};

use crate::health::{Checker, Health};
use crate::relay::Lent;

const USAGE: &str = "\
usage: reverse_proxy [options] --to HOST:PORT...
  --to HOST:PORT       a server behind, may be given again
  --listen ADDR        listen here, may be given again [127.0.0.1:8000]; port 0: any
  --timeout SECONDS    how long an answer may take, and each part of it [30]
  --check PATH         what a server is asked to see whether it lives [/]
  --every SECONDS      how often; 0: never, and all get requests whether they live or not [5]
  --help";

/// The largest body of a request, in bytes. None is held here.
const MAX_BODY: u64 = 1 << 40;

/// How long connections may take to end after SIGINT or SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

/// Connections to each server behind.
const MAX_OPEN: usize = 256;

/// How long a body waits for the word of a server behind. Some do not know what is expected of
/// them, and would never give it (RFC 9110, 10.1.1).
const CONTINUE: Duration = Duration::from_secs(1);

/// What all requests share.
struct Proxy {
    servers: Vec<Upstream>,
    /// The server that was asked last.
    last: usize,
    /// Whether servers are asked if they live.
    checks: bool,
    /// Answers that have begun and are not over.
    relayed: HashMap<ReplyId, Lent>,
    remote: Remote,
}

/// A server behind.
struct Upstream {
    name: String,
    client: Client,
    health: Health,
}

impl Proxy {
    /// A client has gone before its answer was whole. An answer that it had held back comes on
    /// no more, and would keep its connection for ever.
    fn on_gone(&mut self, web: HandlerKey<Server<Self>>, id: ReplyId) {
        let task = move |web: &mut Server<Self>, cx: &mut Context<'_>| {
            if let Some(server) = web.app().relayed.remove(&id) {
                relay::give_up(&server, cx);
            }
        };
        let _ = self.remote.with(web, task); // of a loop that has stopped nothing is left
    }
}

struct Args {
    listen: Vec<String>,
    to: Vec<String>,
    timeout: Duration,
    check: String,
    every: Duration,
}

fn main() -> ExitCode {
    support::init_log("info");
    support::run_parsed("reverse_proxy", USAGE, parse(), run)
}

fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    support::raise_limit()?;
    let mut reactor = Reactor::new()?;
    let mut servers = Vec::new();
    for name in args.to {
        let connect = ConnectOptions::default().timeout(args.timeout.min(Duration::from_secs(10)));
        let pool = PoolOptions::default().max_open(MAX_OPEN).connect(connect);
        let options = ClientOptions::default()
            .pool(pool.acquire_timeout(Some(args.timeout)))
            .answer_timeout(args.timeout)
            .continue_timeout(args.timeout.min(CONTINUE))
            .body_timeout(args.timeout);
        let client = Client::register(&mut reactor, name.as_str(), options)?;
        servers.push(Upstream { name, client, health: Health::new() });
    }
    let clients: Vec<_> = servers.iter().map(|server| server.client).collect();
    let (checks, remote) = (!args.every.is_zero(), reactor.remote());
    let proxy = Proxy { servers, last: 0, checks, relayed: HashMap::new(), remote };
    let route = Route::new().any(forward::forward).max_body_bytes(MAX_BODY);
    let server = Server::new(proxy, Router::new().fallback(route));
    let web = reactor.register_with(|web| server.on_gone(move |proxy, id| proxy.on_gone(web, id)));
    Checker::start(&mut reactor, web, clients, args.check, args.every);
    support::drain_on_signals(&mut reactor, DRAIN)?;
    for addr in &args.listen {
        let options = ListenOptions::default().limits(http::limits());
        print(format_args!("listening on {}", reactor.listen(addr, web, options)?))?;
    }
    reactor.run()?;
    Ok(ExitCode::SUCCESS)
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let (timeout, every) = (Duration::from_secs(30), Duration::from_secs(5));
    let check = "/".to_owned();
    let mut args = Args { listen: Vec::new(), to: Vec::new(), timeout, check, every };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => args.listen.push(parser.value()?.string()?),
            Long("to") => args.to.push(parser.value()?.string()?),
            Long("timeout") => args.timeout = seconds(parser.value()?.parse()?)?,
            Long("check") => args.check = path(parser.value()?.string()?)?,
            Long("every") => args.every = seconds(parser.value()?.parse()?)?,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if args.to.is_empty() {
        return Err("no server is behind it: --to HOST:PORT".into());
    }
    if args.listen.is_empty() {
        args.listen.push("127.0.0.1:8000".to_owned());
    }
    Ok(Some(args))
}

/// A path that can be asked for: with any other all servers would look as if they were down.
fn path(text: String) -> Result<String, lexopt::Error> {
    let is_path = text.starts_with('/') && !text.contains('#');
    if is_path && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(format!("--check {text:?}: a path begins with a slash, with %20 for a space").into())
}

fn seconds(number: f64) -> Result<Duration, lexopt::Error> {
    Duration::try_from_secs_f64(number).map_err(|error| format!("{number}: {error}").into())
}
