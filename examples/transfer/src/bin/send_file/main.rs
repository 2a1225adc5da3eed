//! Sends files to `recv_file`: the name, and on its `ok` the content, from the kernel's cache to
//! the socket without a copy.
//!
//! ```text
//! cargo run --release -p transfer --bin recv_file -- --listen 127.0.0.1:7000 --dir /tmp/inbox
//! cargo run --release -p transfer --bin send_file -- --connect 127.0.0.1:7000 README.md Cargo.toml
//! ```
//! A transfer that broke off goes on where it was when it is tried again.

mod outbox;

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use transfer::bars::{self, Bars};
use waterwheel::{ConnectOptions, Limits, Reactor};

use outbox::Outbox;

const USAGE: &str = "\
usage: send_file --connect HOST:PORT [options] FILE...
  --at-once N         files at once [4]
  --no-checksum       have the length checked, and not the content
  --timeout SECONDS   give up on a receiver that is silent for so long [120]
  --help
Exit code: 0 if all were received, 1 if any was not.";

struct Args {
    connect: String,
    files: VecDeque<PathBuf>,
    at_once: usize,
    takes_sums: bool,
    timeout: Duration,
}

fn main() -> ExitCode {
    support::init_log("error");
    support::run_parsed("send_file", USAGE, parse(), |args| {
        let failures = run(args)?;
        Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Sends them all; how many were not received.
fn run(args: Args) -> Result<u64, Box<dyn Error>> {
    let at_once = args.at_once.min(args.files.len()).min(most_at_once());
    let mut reactor = Reactor::new()?;
    let remote = reactor.remote();
    // An answer is read while the file still leaves: it may be that the receiver has given up.
    let limits = Limits::default().all_idle(Some(args.timeout)).pause_at_high_mark(false);
    let outbox = reactor.register_with(|service| Outbox {
        service,
        remote,
        to: args.connect,
        options: ConnectOptions::default().limits(limits),
        takes_sums: args.takes_sums,
        waiting: args.files,
        bars: Bars::default(),
        transfers: HashMap::new(),
        begun: 0,
        failures: 0,
    });
    if reactor.handler_mut(outbox).is_some_and(|outbox| outbox.bars.are_shown()) {
        reactor.set_periodic_timer(outbox, bars::MOVE_PERIOD, 0);
    }
    for _ in 0..at_once {
        reactor.context().post(outbox, |outbox, cx| outbox.next(cx));
    }
    reactor.run()?;
    Ok(reactor.handler_mut(outbox).map_or(0, |outbox| outbox.failures))
}

/// How many transfers the limit of open files allows: each has a connection, and its file twice,
/// the second time for its checksums.
fn most_at_once() -> usize {
    /// For the loop, the terminal, and looking names up.
    const RESERVE: u64 = 32;
    /// What every system allows unasked.
    const LEAST_LIMIT: u64 = 256;
    let limit = waterwheel::raise_open_file_limit().unwrap_or(Some(LEAST_LIMIT));
    let most = limit.map(|limit| limit.saturating_sub(RESERVE) / 3);
    most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX).max(1))
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut connect, mut files) = (None, VecDeque::new());
    let (mut at_once, mut takes_sums, mut timeout) = (4, true, Duration::from_secs(120));
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("connect") => connect = Some(parser.value()?.string()?),
            Long("at-once") => at_once = parser.value()?.parse()?,
            Long("no-checksum") => takes_sums = false,
            Long("timeout") => timeout = Duration::from_secs(parser.value()?.parse()?),
            Long("help") | Short('h') => return Ok(None),
            Value(file) => files.push_back(file.into()),
            _ => return Err(arg.unexpected()),
        }
    }
    let connect = connect.ok_or("say where to, with --connect HOST:PORT")?;
    if files.is_empty() {
        return Err("name a file to send".into());
    }
    if at_once == 0 {
        return Err("--at-once 0 would send nothing; give at least 1".into());
    }
    if timeout.is_zero() {
        return Err("--timeout 0 would wait for no answer; give at least 1 second".into());
    }
    Ok(Some(Args { connect, files, at_once, takes_sums, timeout }))
}
