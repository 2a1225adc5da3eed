//! A memcached server: the text protocol, with expiry, `cas` and a bound on memory. A client that
//! does not read its answers is not answered further. Behind a command that is wrong the next one
//! is found again, or the connection ends: a value is never taken for a command.
//!
//! ```text
//! cargo run --release -p memcached -- 127.0.0.1:11211 64
//! printf 'set greeting 0 60 5\r\nhello\r\nget greeting\r\n' | nc -N 127.0.0.1 11211
//! ```
//! The second argument is the memory for items, in MiB.

mod commands;
#[cfg(test)]
mod simulated;
mod store;

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use commands::{MAX_LINE_BYTES, MAX_VALUE_BYTES, skip};
use store::Store;
use waterwheel::{
    Conn, Context, Handler, HandlerKey, Limits, ListenOptions, Peer, Reactor, Timer, TimerHandler,
    TimerId,
};

/// What the next bytes of a connection are.
enum Next {
    Command,
    /// A `get` of which so many keys are answered.
    Get(usize),
    /// So many bytes of a value that is not stored, and then the rest of a line.
    Skipped(usize),
}

#[derive(Default)]
struct Counts {
    gets: u64,
    hits: u64,
    sets: u64,
}

struct Cache {
    key: HandlerKey<Cache>,
    store: Store,
    counts: Counts,
    /// The time of the calendar at which that of the loop was zero.
    epoch: Duration,
    /// Ends all items when it fires.
    flush: Option<TimerId>,
}

impl Handler for Cache {
    type State = Next;

    fn on_accept(&mut self, _: &Peer) -> Option<Next> {
        Some(Next::Command)
    }

    fn on_data(&mut self, next: &mut Next, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut rest = input;
        // What is left comes again, when the client has read if that is why.
        while !rest.is_empty() && conn.is_reading() {
            let taken = match *next {
                Next::Skipped(bytes) => skip(next, bytes, rest),
                Next::Command | Next::Get(_) => self.serve(next, conn, rest),
            };
            rest = &rest[taken..];
            if taken == 0 {
                break;
            }
        }
        input.len() - rest.len()
    }
}

impl TimerHandler for Cache {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {
        self.store.clear();
        self.flush = None;
    }
}

/// Serves at an address, with so much memory for items.
fn serve(reactor: &mut Reactor, addr: &str, max_bytes: usize) -> io::Result<SocketAddr> {
    let unix_time = SystemTime::UNIX_EPOCH.elapsed().map_err(io::Error::other)?;
    let epoch = unix_time.saturating_sub(reactor.context().now());
    let cache = reactor.register_with(|key| Cache {
        key,
        store: Store::new(max_bytes),
        counts: Counts::default(),
        epoch,
        flush: None,
    });
    // Clients keep connections that they do not use. A command that is not whole, with its value,
    // may wait, and a read behind it.
    let limits = Limits::internet()
        .first_byte_timeout(None)
        .all_idle(None)
        .max_input_bytes(MAX_LINE_BYTES + MAX_VALUE_BYTES + (256 << 10));
    reactor.listen(addr, cache, ListenOptions::default().limits(limits))
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    ensure!(args.len() <= 2, "usage: memcached [HOST:PORT [MEBIBYTES]]");
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:11211".to_owned());
    let mib = args.next().unwrap_or_else(|| "64".to_owned());
    let max_bytes = mib.parse().unwrap_or(0_usize).saturating_mul(1 << 20);
    ensure!(max_bytes > 0, "the memory for items is 1 MiB or more, and not {mib:?}");
    let mut reactor = Reactor::new()?;
    let addr = serve(&mut reactor, &addr, max_bytes)?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    Ok(reactor.run()?)
}
