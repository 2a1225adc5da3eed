//! Messages over TLS 1.3: an echo of waterwheel beside bare loops of mio and rustls.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --features tls --bin tls
//! cargo run --release -p waterwheel-benches --features tls --bin tls -- --connect 127.0.0.1:7000
//! ```
//! # What is compared
//! Each server echoes on a thread and a processor of its own; the client, of waterwheel too, has
//! another, and on each of its connections one message under way. What counts is the processor
//! time of the server's thread for a message. The bare loops do for each event what is necessary
//! and nothing else: one read of up to 64 KiB, the work of rustls, one write. One of them drives
//! rustls by its buffered interface, the other by the unbuffered one, as waterwheel does.
//!
//! # How
//! In one process; the sides take turns, in another order each round, and are compared within a
//! round. The ratios are medians over the rounds, with the least and the greatest in brackets.
//! With `--connect` the client alone talks to another server, for counters of instructions.
#![forbid(unsafe_code)]

mod bare;
mod client;
mod config;
mod sides;
#[path = "../datagrams/thread.rs"]
mod thread;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "\
usage: tls [options]
  --rounds N         how often each side has its turn [15]
  --messages N       of each side, a round [100000]
  --connections N    of the client [50]
  --bytes N          of a message [64]
  --connect ADDR     the client alone, to another server, whose certificate is not looked at
  --hold SECONDS     with that: one message each, and then so long no word [0]
  --help";

/// What the program is asked to do.
struct Plan {
    rounds: usize,
    load: client::Load,
    connect: Option<String>,
}

fn main() -> ExitCode {
    let result = match parse() {
        Ok(Some(plan)) => run(&plan),
        Ok(None) => {
            println!("{USAGE}");
            Ok(())
        }
        Err(error) => Err(format!("{error}; see --help").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` asks for the usage.
fn parse() -> std::result::Result<Option<Plan>, lexopt::Error> {
    use lexopt::prelude::*;
    let load = client::Load { messages: 100_000, connections: 50, bytes: 64, hold: Duration::ZERO };
    let mut plan = Plan { rounds: 15, load, connect: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => plan.rounds = parser.value()?.parse()?,
            Long("messages") => plan.load.messages = parser.value()?.parse()?,
            Long("connections") => plan.load.connections = parser.value()?.parse()?,
            Long("bytes") => plan.load.bytes = parser.value()?.parse()?,
            Long("hold") => plan.load.hold = Duration::from_secs(parser.value()?.parse()?),
            Long("connect") => plan.connect = Some(parser.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(plan))
}

fn run(plan: &Plan) -> Result<()> {
    thread::stay_on(1)?;
    if let Some(addr) = &plan.connect {
        let mut load = plan.load;
        if !load.hold.is_zero() {
            load.messages = load.connections as u64;
        }
        let messages = client::run(addr.parse()?, load)?;
        println!("{messages} messages");
        return Ok(());
    }
    let sides = sides::ALL;
    let mut costs = vec![Vec::new(); sides.len()];
    for round in 0..plan.rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            costs[at].push(sides::cost(&sides[at], plan.load)?);
        }
    }
    println!(
        "CPU of the server for a message of {} bytes, {} connections, TLS 1.3:",
        plan.load.bytes, plan.load.connections
    );
    for (side, own) in sides.iter().zip(&costs) {
        let nanos = median(own.clone());
        println!(
            "  {:<20} {nanos:>7.0} ns   {} of the unbuffered loop",
            side.name,
            ratio(own, &costs[0])
        );
    }
    Ok(())
}

/// The middle one, or the upper of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The ratios of two sides in the same rounds: the median, the least and the greatest.
fn ratio(own: &[f64], reference: &[f64]) -> String {
    let ratios: Vec<f64> = own.iter().zip(reference).map(|(own, other)| own / other).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2}–{greatest:.2})", median(ratios))
}
