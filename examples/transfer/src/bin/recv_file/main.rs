//! Receives files: each is checked, brought to the disk, and only then given its name.
//!
//! ```text
//! cargo run --release -p transfer --bin recv_file -- --listen 127.0.0.1:7000 --dir /tmp/inbox
//! cargo run --release -p transfer --bin send_file -- --connect 127.0.0.1:7000 README.md Cargo.toml
//! printf 'put 5 hello.txt\nfrom 0\nhellosum -\n' | nc -q 1 127.0.0.1 7000
//! ```
//! Until it is whole a file is called NAME.part; a transfer that broke off goes on from there when
//! it is tried again, if the checksum of what there is agrees. SIGINT and SIGTERM leave transfers
//! that are under way five seconds; a file that is being saved by then is saved.

mod hold;
mod inbox;
mod incoming;
mod part;
mod writer;

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use support::print;
use transfer::bars::{self, Bars};
use waterwheel::{AtCapacity, ListenOptions, Reactor};

use inbox::{DRAIN, Inbox};

const USAGE: &str = "\
usage: recv_file [options]
  --listen ADDR       listen here, may be given again [127.0.0.1:7000]; port 0: any
  --dir DIR           save files in this folder [.]
  --force             replace files that are there
  --count N           end after so many transfers [never]
  --at-once N         transfers at once; others wait [16]
  --timeout SECONDS   give up on a sender that is silent for so long, or sends less of its file
                      than 1 KiB for each second of it [120]
  --help
Exit code: 0, or 1 if a transfer has failed or was cut.";

struct Args {
    listen: Vec<String>,
    dir: PathBuf,
    force: bool,
    count: Option<u64>,
    at_once: usize,
    timeout: Duration,
}

fn main() -> ExitCode {
    support::init_log("error");
    support::run_parsed("recv_file", USAGE, parse(), |args| {
        let failures = run(args)?;
        Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Receives until it is told to end; how many transfers have failed.
fn run(args: Args) -> Result<u64, Box<dyn Error>> {
    if !args.dir.is_dir() {
        let dir = args.dir.display();
        return Err(format!("{dir} is not a folder; make it, or give another").into());
    }
    let mut reactor = Reactor::new()?;
    let remote = reactor.remote();
    let inbox = reactor.register_with(|service| Inbox {
        service,
        remote,
        dir: args.dir,
        force: args.force,
        timeout: args.timeout,
        count: args.count,
        bars: Bars::default(),
        transfers: HashMap::new(),
        threads: HashMap::new(),
        failures: 0,
    });
    support::drain_on_signals(&mut reactor, DRAIN)?;
    let mut options = ListenOptions::default().idle_timeout(args.timeout);
    options.max_connections = Some(args.at_once);
    options.at_capacity = AtCapacity::Wait;
    for addr in &args.listen {
        let addr = reactor.listen(addr, inbox, options.clone())?;
        print(format_args!("listening on {addr}"))?;
    }
    if reactor.handler_mut(inbox).is_some_and(|inbox| inbox.bars.are_shown()) {
        reactor.set_periodic_timer(inbox, bars::MOVE_PERIOD, 0);
    }
    reactor.run()?;
    let Some(inbox) = reactor.handler_mut(inbox) else { return Ok(0) };
    inbox.finish();
    Ok(inbox.failures)
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut args = Args {
        listen: Vec::new(),
        dir: PathBuf::from("."),
        force: false,
        count: None,
        at_once: 16,
        timeout: Duration::from_secs(120),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => args.listen.push(parser.value()?.string()?),
            Long("dir") => args.dir = parser.value()?.into(),
            Long("force") => args.force = true,
            Long("count") => args.count = Some(parser.value()?.parse()?),
            Long("at-once") => args.at_once = parser.value()?.parse()?,
            Long("timeout") => args.timeout = Duration::from_secs(parser.value()?.parse()?),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if args.count == Some(0) {
        return Err("--count 0 would take no transfer; give at least 1".into());
    }
    if args.at_once == 0 {
        return Err("--at-once 0 would take no transfer; give at least 1".into());
    }
    if args.timeout.is_zero() {
        return Err("--timeout 0 would wait for no sender; give at least 1 second".into());
    }
    if args.listen.is_empty() {
        args.listen.push("127.0.0.1:7000".to_owned());
    }
    Ok(Some(args))
}
