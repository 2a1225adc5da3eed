//! A load over a pool of connections: borrows one, asks, takes the answer, gives it back.
//!
//! ```text
//! cargo run --release -p pool
//! cargo run --release -p pool -- --connect 127.0.0.1:6379 --connections 8 --borrows 100000
//! cargo run --release -p pool -- --connect 127.0.0.1:6379 --borrows 1000000 --every 1
//! ```
//! The server may be any that answers a line with a line, as Redis answers `PING`: stop it and
//! start it again meanwhile. Without `--connect` one runs inside.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::say;
use waterwheel::pool::{
    AcquireError, Acquired, Lease, Pool, PoolClient, PoolHandle, PoolOptions, PoolStats,
};
use waterwheel::{
    Closed, Conn, Context, Destination, ListenOptions, Reactor, Timer, TimerId, frame,
};

const USAGE: &str = "\
usage: pool [options]
  --connect HOST:PORT  the server [one that runs inside]
  --connections N    most connections at once [8]
  --borrowers N      how many want one at once [twice as many]
  --borrows N        how often one is borrowed [100000]
  --ask TEXT         the line that is sent [PING]
  --every SECONDS    print the counters so often
  --help";

/// Longest line of an answer.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Connections that a pool can have.
const MOST_CONNECTIONS: usize = 65_536;

/// How long a borrower that was refused waits before it asks again.
const PAUSE: Duration = Duration::from_millis(100);

struct Args {
    connect: Option<Destination>,
    connections: usize,
    borrowers: Option<usize>,
    borrows: u64,
    ask: String,
    every: Option<Duration>,
}

/// What came of the borrows.
#[derive(Clone, Copy, Default)]
struct Tally {
    answered: u64,
    lost: u64,
    refused: u64,
}

impl Tally {
    fn told(self) -> u64 {
        self.answered + self.lost + self.refused
    }
}

/// Sends a line, and waits for one.
struct Asker {
    line: String,
    /// Borrows that have not begun.
    left: u64,
    borrows: u64,
    tally: Tally,
    /// Prints the counters.
    ticks: Option<TimerId>,
    started: Instant,
    is_over: bool,
}

impl Asker {
    /// Borrows once more.
    fn borrow(&mut self, desk: &mut PoolHandle<Self>, cx: &mut Context<'_>) {
        if self.tally.told() == self.borrows && !self.is_over {
            self.is_over = true;
            self.print(&desk.stats());
            cx.stop();
        }
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        match desk.acquire((), cx) {
            Acquired::Now(lease, ()) => {
                if let Some(mut conn) = lease.conn(cx) {
                    conn.write(self.line.as_bytes());
                }
                // Its answer will find the lease here; without it, it would be back at once.
                if let Some(state) = desk.state_mut(&lease) {
                    *state = Some(lease);
                }
            }
            Acquired::Waits(_) => {}
            Acquired::Refused((), error) => self.pause(&error, desk, cx),
        }
    }

    fn pause(&mut self, error: &AcquireError, desk: &PoolHandle<Self>, cx: &mut Context<'_>) {
        if self.tally.refused == 0 {
            log::warn!("{error}; going on every {PAUSE:?}");
        }
        self.tally.refused += 1;
        cx.set_timer(desk.handler(), PAUSE, 0);
    }

    /// One line on standard output.
    fn print(&self, stats: &PoolStats) {
        let Tally { answered, lost, refused } = self.tally;
        let rate = answered as f64 / self.started.elapsed().as_secs_f64();
        say(format_args!(
            "answered {answered} ({rate:.0} a second), lost {lost}, refused {refused}; \
             open {}, idle {}, waiting {}; created {}, reused {}, evicted {}, failed dials {}",
            stats.open,
            stats.idle,
            stats.waiting,
            stats.created,
            stats.reused,
            stats.evicted.total(),
            stats.failed_dials,
        ));
    }
}

impl PoolClient for Asker {
    type State = Option<Lease>;
    type Ticket = ();

    fn on_acquired(
        &mut self,
        state: &mut Option<Lease>,
        conn: &mut Conn<'_>,
        lease: Lease,
        (): (),
        _: &mut PoolHandle<Self>,
    ) {
        conn.write(self.line.as_bytes());
        *state = Some(lease);
    }

    fn on_data(
        &mut self,
        state: &mut Option<Lease>,
        conn: &mut Conn<'_>,
        input: &[u8],
        desk: &mut PoolHandle<Self>,
    ) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        match lines.next() {
            None => return 0, // not complete
            Some(Ok(_)) => self.tally.answered += 1,
            Some(Err(_)) => {
                conn.abort(); // too long; on_lost follows
                return 0;
            }
        }
        *state = None; // back in the pool
        self.borrow(desk, &mut conn.context());
        lines.consumed()
    }

    fn on_lost(
        &mut self,
        _: Option<Lease>,
        _: Closed,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        self.tally.lost += 1;
        self.borrow(desk, cx);
    }

    fn on_refused(
        &mut self,
        (): (),
        error: AcquireError,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        self.pause(&error, desk, cx);
    }

    fn on_handler_timer(
        &mut self,
        timer: Timer,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        if self.ticks == Some(timer.id) {
            self.print(&desk.stats());
        } else {
            self.borrow(desk, cx);
        }
    }
}

fn main() -> ExitCode {
    support::init_log("info");
    support::run_parsed("pool", USAGE, parse(), run)
}

fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let mut reactor = Reactor::new()?;
    let server = match &args.connect {
        Some(server) => server.clone(),
        None => serve(&mut reactor)?.into(),
    };
    let borrowers = args.borrowers.unwrap_or_else(|| args.connections.saturating_mul(2));
    let options = PoolOptions::default().max_open(args.connections).max_waiters(borrowers);
    let asker = Asker {
        line: format!("{}\r\n", args.ask),
        left: args.borrows,
        borrows: args.borrows,
        tally: Tally::default(),
        ticks: None,
        started: Instant::now(),
        is_over: false,
    };
    let pool = Pool::register(&mut reactor, asker, &server, options)?;
    let ticks = args.every.map(|every| reactor.set_periodic_timer(pool, every, 0));
    reactor.context().post(pool, move |pool, cx| {
        pool.enter(cx, |asker, desk, cx| {
            asker.ticks = ticks;
            // More borrowers than borrows would have nothing to do.
            for _ in 0..asker.borrows.min(borrowers as u64) {
                asker.borrow(desk, cx);
            }
        });
    });
    reactor.run()?;
    let pool = reactor.handler_mut(pool).ok_or("the pool is gone")?;
    match pool.client().tally.answered {
        0 if args.borrows > 0 => Err(format!("{server} has answered nothing").into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A server that answers every line with `+PONG`.
fn serve(reactor: &mut Reactor) -> io::Result<SocketAddr> {
    let server = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        for line in lines.by_ref() {
            if line.is_err() {
                conn.close();
                break;
            }
            conn.write(b"+PONG\r\n");
        }
        lines.consumed()
    });
    let addr = reactor.listen("127.0.0.1:0", server, ListenOptions::default())?;
    log::info!("a server runs inside, on {addr}");
    Ok(addr)
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut args = Args {
        connect: None,
        connections: 8,
        borrowers: None,
        borrows: 100_000,
        ask: "PING".to_owned(),
        every: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("connect") => {
                args.connect = Some(Destination::parse_with_unix(&parser.value()?.string()?))
            }
            Long("connections") => args.connections = parser.value()?.parse()?,
            Long("borrowers") => args.borrowers = Some(parser.value()?.parse()?),
            Long("borrows") => args.borrows = parser.value()?.parse()?,
            Long("ask") => args.ask = parser.value()?.string()?,
            Long("every") => args.every = Some(parser.value()?.parse_with(seconds)?),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if !(1..=MOST_CONNECTIONS).contains(&args.connections) {
        let text = format!("--connections {}: give 1 to {MOST_CONNECTIONS}", args.connections);
        return Err(text.into());
    }
    if args.borrowers == Some(0) {
        return Err("--borrowers 0: give at least 1".into());
    }
    Ok(Some(args))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) => Err("at least a millisecond".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
