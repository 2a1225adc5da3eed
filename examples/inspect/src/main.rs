//! Watch a loop turn: an echo server, a small load on it, and the page that shows both.
//!
//! ```text
//! cargo run --release -p inspect
//! cargo run --release -p inspect -- --stall 50
//! ```
//!
//! Open the address that it prints. Everything runs in one reactor; other clients may join:
//! `nc 127.0.0.1 7000`. One whose last word is `later` finds its end answered two seconds later:
//! until then its lane on the page is half-closed (`echo later | nc -N 127.0.0.1 7000`).

mod dump;
mod load;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use load::Load;
use support::print;
use waterwheel::{Conn, Handler, Limits, ListenOptions, Peer, Reactor, Timer, inspect};

const USAGE: &str = "\
usage: inspect [options]
  --listen ADDR      the echo server listens here [127.0.0.1:7000]; port 0: any
  --page ADDR        the page is served here, on loopback [127.0.0.1:7100]; port 0: any
  --connections N    the load holds so many [60]; 0: no load
  --stall MILLIS     every 2,000th message takes the server so long [0]
  --dump FOLDER      writes the last seconds as a trace there: at SIGUSR1, and after a slow callback
  --help";

/// How long connections may take to end after SIGINT or SIGTERM.
const DRAIN: Duration = Duration::from_secs(2);

/// One of so many messages is answered late, if that is asked for.
const STALL_EVERY: u64 = 2_000;

struct Args {
    listen: String,
    page: String,
    connections: usize,
    stall: Duration,
    dump: Option<PathBuf>,
}

/// The end of a client that has asked for it is answered so much later.
const HALF_CLOSED: Duration = Duration::from_secs(2);

/// Sends back what comes in.
struct Echo {
    stall: Duration,
    messages: u64,
}

impl Handler for Echo {
    /// Whether its end is to be answered later.
    type State = bool;

    fn on_accept(&mut self, _: &Peer) -> Option<bool> {
        Some(false)
    }

    fn on_data(&mut self, is_later: &mut bool, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        self.messages += 1;
        if !self.stall.is_zero() && self.messages % STALL_EVERY == 0 {
            conn.context().mark("the stall that was asked for");
            std::thread::sleep(self.stall); // what no handler should do
        }
        *is_later = input.trim_ascii_end().ends_with(load::LATER);
        conn.write(input);
        input.len()
    }

    fn on_eof(&mut self, is_later: &mut bool, conn: &mut Conn<'_>) {
        match is_later {
            true => drop(conn.set_timer(HALF_CLOSED, 0)),
            false => conn.close(),
        }
    }

    fn on_timer(&mut self, _: &mut bool, conn: &mut Conn<'_>, _: Timer) {
        conn.close();
    }
}

fn main() -> ExitCode {
    support::init_log("error");
    support::run_parsed("inspect", USAGE, parse(), serve)
}

fn serve(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    support::raise_limit()?;
    let mut reactor = Reactor::new()?;
    support::drain_on_signals(&mut reactor, DRAIN)?;
    let echo = reactor.register(Echo { stall: args.stall, messages: 0 });
    let options = ListenOptions::default().limits(Limits::internet());
    let addr = reactor.listen(args.listen.as_str(), echo, options)?;
    let mut recorder = inspect::Recorder::new();
    if let Some(folder) = &args.dump {
        let folder = folder.clone();
        recorder = recorder.on_slow(move |recording| dump::write(&folder, "slow", recording));
    }
    let page = inspect::serve_recorder(&mut reactor, args.page.as_str(), recorder)?;
    if let Some(folder) = args.dump {
        dump::at_signals(&mut reactor, page.recorder(), echo, folder)?;
    }
    print(format_args!("listening on {addr}"))?;
    print(format_args!("{page}"))?;
    load::begin(&mut reactor, |key| Load::new(key, addr), args.connections);
    reactor.run()?;
    Ok(ExitCode::SUCCESS)
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut args = Args {
        listen: "127.0.0.1:7000".to_owned(),
        page: "127.0.0.1:7100".to_owned(),
        connections: 60,
        stall: Duration::ZERO,
        dump: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => args.listen = parser.value()?.string()?,
            Long("page") => args.page = parser.value()?.string()?,
            Long("connections") => args.connections = parser.value()?.parse()?,
            Long("stall") => args.stall = Duration::from_millis(parser.value()?.parse()?),
            Long("dump") => args.dump = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(args))
}
