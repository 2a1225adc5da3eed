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
//!
//! # Handshakes beside messages
//! With `--storm` a client sends messages at a fixed rate over live connections, and in the second
//! half of each round it makes so many handshakes a second too. Latency counts from the moment a
//! message was meant to leave; the client never sleeps, and its own steps of the handshakes are in
//! the latencies. What the p99 may grow by is twice the longest step of a server's handshake, which
//! is measured first, without a network.
#![forbid(unsafe_code)]

mod bare;
mod client;
mod config;
mod sides;
mod storm;
#[path = "../datagrams/thread.rs"]
mod thread;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "\
usage: tls [options]
  --rounds N         how often each side has its turn [15]
  --messages N       of each side, a round [100000]
  --connections N    of the client [50]
  --bytes N          of a message [64]
  --connect ADDR     the client alone, to another server, whose certificate is not looked at
  --hold SECONDS     with that: one message each, and then so long no word [0]
  --storm RATE       full handshakes a second, beside messages at a fixed rate over 100 connections
  --rate N           with that: messages a second [20000]
  --seconds N        with that: of each half of a round [4]
  --help";

/// What the program is asked to do.
struct Plan {
    rounds: usize,
    load: client::Load,
    connect: Option<String>,
    /// Handshakes a second; with the messages a second, and how long half of a round is.
    storm: Option<u32>,
    rate: u32,
    time: Duration,
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
    let time = Duration::from_secs(4);
    let mut plan = Plan { rounds: 15, load, connect: None, storm: None, rate: 20_000, time };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => plan.rounds = parser.value()?.parse()?,
            Long("messages") => plan.load.messages = parser.value()?.parse()?,
            Long("connections") => plan.load.connections = parser.value()?.parse()?,
            Long("bytes") => plan.load.bytes = parser.value()?.parse()?,
            Long("hold") => plan.load.hold = Duration::from_secs(parser.value()?.parse()?),
            Long("storm") => {
                plan.storm = Some(parser.value()?.parse()?);
                (plan.load.connections, plan.rounds) = (100, 5);
            }
            Long("rate") => plan.rate = parser.value()?.parse()?,
            Long("seconds") => plan.time = Duration::from_secs(parser.value()?.parse()?),
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
    if let Some(handshakes) = plan.storm {
        return run_storm(storm::Storm {
            handshakes,
            rate: plan.rate,
            connections: plan.load.connections,
            bytes: plan.load.bytes,
            rounds: plan.rounds,
            time: plan.time,
        });
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

fn run_storm(plan: storm::Storm) -> Result<()> {
    let steps = std::thread::spawn(|| {
        thread::stay_on(0)?;
        storm::longest_steps()
    });
    let steps = steps.join().map_err(|_| "a handshake has panicked")??;
    let step = steps[steps.len() / 2].as_nanos() as f64 / 1e3;
    let (addr, server) = sides::begin_waterwheel()?;
    let rounds = storm::run(addr, plan)?;
    server.stop()?;
    println!(
        "latency of {} messages a second of {} bytes over {} connections, TLS 1.3, in \u{b5}s:",
        plan.rate, plan.bytes, plan.connections
    );
    println!("  round   without: p50     p99   p99.9   with: p50     p99   p99.9   handshakes/s");
    let mut grown = Vec::new();
    for (number, round) in rounds.iter().enumerate() {
        let at = |latencies: &Histogram<u64>, quantile| {
            latencies.value_at_quantile(quantile) as f64 / 1e3
        };
        let (calm, busy) = (&round.calm, &round.storm);
        println!(
            "  {number:>5} {:>14.0} {:>7.0} {:>7.0} {:>11.0} {:>7.0} {:>7.0} {:>14.0}",
            at(calm, 0.5),
            at(calm, 0.99),
            at(calm, 0.999),
            at(busy, 0.5),
            at(busy, 0.99),
            at(busy, 0.999),
            round.handshakes as f64 / plan.time.as_secs_f64()
        );
        grown.push(at(busy, 0.99) - at(calm, 0.99));
    }
    println!("the longest step of a handshake: {step:.0} (median of {})", steps.len());
    println!(
        "the p99 has grown by {:.0} (median of the rounds); 2 steps are {:.0}",
        median(grown),
        2.0 * step
    );
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
