//! The program `proxy` of the examples beside HAProxy in TCP mode.
//!
//! ```text
//! cargo build --release -p proxy
//! cargo run --release -p waterwheel-benches --bin proxies -- --rounds 12
//! ```
//!
//! # What is compared
//! Each proxy is one thread (HAProxy with `nbthread 1`) and passes what it gets to the same echo
//! server over plain mio, which is the one of the bench `echo_servers`.
//!
//! # How
//! As in the bench `echo_servers`: each measurement starts the proxy anew as a process of its own,
//! the load checks every byte that comes back, a burst warms up and another is measured. The
//! proxies take turns, in another order each round, and are compared within a round. A message is
//! one way there and back, so two passes through the proxy.
//!
//! # Platform notes
//! The processor time comes from Linux's `/proc/PID/task/*/schedstat`. Where there is a `taskset`,
//! the proxy has CPU 0, and echo server and load have CPU 1.
#![forbid(unsafe_code)]

#[path = "../echo_servers/burst.rs"]
mod burst;
#[path = "../echo_servers/closed.rs"]
mod closed;
#[path = "../echo_servers/noise.rs"]
mod noise;
mod processes;
#[path = "../echo_servers/servers/mod.rs"]
#[expect(dead_code, reason = "one of them is enough")]
mod servers;
#[path = "../echo_servers/workload.rs"]
#[expect(dead_code, reason = "connections that come and go are not measured here")]
mod workload;

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use burst::Generator;
use closed::Closed;
use noise::Noise;
use processes::{Proxy, Site};
use workload::{ClosedShape, Shape, WORKLOADS};

const USAGE: &str = "\
usage: proxies [options]
  --rounds N         how often each proxy meets each workload, 1 to 1000 [5]
  --seconds S        how long load is measured each time, 0.05 to 60 [0.5]
  --only NAME        this workload only: c50, c1000, pipelined, bulk
  --help";

/// Load before the measurement.
const WARM_UP: Duration = Duration::from_millis(150);

/// Time for a proxy to end its turn after the last answer.
const SETTLE: Duration = Duration::from_millis(5);

struct Plan {
    rounds: usize,
    time: Duration,
    only: Option<String>,
}

fn main() -> ExitCode {
    match parse() {
        Ok(Some(plan)) => match compare(&plan) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("proxies: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxies: {error}; see --help");
            ExitCode::from(2)
        }
    }
}

/// `None` if there is nothing more to do.
fn parse() -> Result<Option<Plan>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut plan = Plan { rounds: 5, time: Duration::from_millis(500), only: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => plan.rounds = parser.value()?.parse_with(rounds)?,
            Long("seconds") => plan.time = parser.value()?.parse_with(time)?,
            Long("only") => plan.only = Some(parser.value()?.parse_with(workload)?),
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(None);
            }
            // The echo server behind the proxies, as a process of its own.
            Value(word) if word == "serve" => {
                servers::serve(&servers::SERVERS[0]).map_err(|error| error.to_string())?;
                return Ok(None);
            }
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(plan))
}

fn rounds(text: &str) -> Result<usize, String> {
    let rounds = text.parse().ok().filter(|rounds| (1..=1000).contains(rounds));
    rounds.ok_or_else(|| "not a number from 1 to 1000".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "not from 0.05 to 60 seconds".to_owned())
}

fn workload(text: &str) -> Result<String, String> {
    let is_known = closed_workloads().any(|(name, ..)| name == text);
    if is_known { Ok(text.to_owned()) } else { Err(format!("no workload is called {text:?}")) }
}

fn closed_workloads() -> impl Iterator<Item = (&'static str, &'static str, ClosedShape)> {
    WORKLOADS.iter().filter_map(|workload| match workload.shape {
        Shape::Closed(shape) => Some((workload.name, workload.title, shape)),
        Shape::Storm(_) => None,
    })
}

fn compare(plan: &Plan) -> io::Result<()> {
    waterwheel::raise_open_file_limit()?;
    let Some(site) = Site::new()? else { return Ok(()) };
    let noise = Noise::new();
    println!(
        "CPU µs/message, medians of {} rounds of {} s; the ratio is within a round, in brackets \
         the least and the greatest. {}\n",
        plan.rounds,
        plan.time.as_secs_f64(),
        if site.is_pinned() { "Proxy on CPU 0, the rest on CPU 1." } else { "Nothing is pinned." },
    );
    println!("| workload | HAProxy | waterwheel | ratio |");
    println!("|---|--:|--:|--:|");
    for (name, title, shape) in closed_workloads() {
        if plan.only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let mut rows = Vec::new();
        for round in 0..plan.rounds {
            let mut row = [0.0; 2];
            for turn in 0..2 {
                let at = (round + turn) % 2;
                row[at] = measure(&site, &noise, Proxy::ALL[at], shape, plan.time)?;
            }
            rows.push(row);
        }
        println!("| {title} | {}", cells(&rows));
    }
    Ok(())
}

/// Processor time of one proxy for a message there and back, in microseconds.
fn measure(
    site: &Site,
    noise: &Noise,
    proxy: Proxy,
    shape: ClosedShape,
    time: Duration,
) -> io::Result<f64> {
    let process = site.start(proxy)?;
    let mut generator =
        Generator::new(|registry| Closed::new(process.addr, shape, noise, registry))?;
    generator.burst(WARM_UP)?;
    thread::sleep(SETTLE);
    let before = process.cpu_time()?;
    let burst = generator.burst(time)?;
    thread::sleep(SETTLE);
    let cpu = process.cpu_time()?.saturating_sub(before);
    Ok(cpu.as_secs_f64() * 1e6 / burst.latencies.len() as f64)
}

fn cells(rows: &[[f64; 2]]) -> String {
    let [haproxy, own] = [0, 1].map(|at| median(rows.iter().map(|row| row[at])).1);
    let (least, middle, most) = median(rows.iter().map(|row| row[1] / row[0]));
    format!("{haproxy:.2} | {own:.2} | {middle:.2} ({least:.2}–{most:.2}) |")
}

/// The least, the median and the greatest.
fn median(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    (values[0], median, values[values.len() - 1])
}
