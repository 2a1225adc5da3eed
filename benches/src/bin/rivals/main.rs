//! The programs of `examples/` beside the servers that others use for the same: microsocks,
//! dnsmasq, mosquitto, memcached, redis. CPU time and system calls for each operation.
//!
//! `benches/rivals` installs those servers and builds the programs; then
//!
//! ```text
//! benches/rivals                         all, nine rounds, under six minutes
//! benches/rivals socks dns --rounds 3
//! benches/rivals --rounds 0              system calls only
//! ```
//!
//! # How
//! Each measurement starts the server anew, as a process of its own, puts the same number of
//! operations on it and checks every answer. The servers of a pair take turns, in another order
//! each round, and are compared within a round. CPU time is that of the process with all its
//! threads, user and system, as `/proc/PID/stat` has it.
//!
//! System calls are counted by `strace` with one client that waits for each answer: the slope
//! between a run and one three times as long, so that start and end do not count.
//!
//! # Platform notes
//! Linux. Where there is a `taskset`, the server has CPU 0 and the load has CPU 1.
#![forbid(unsafe_code)]

mod calls;
mod contests;
mod figures;
mod loads;
mod site;

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use contests::{CONTESTS, Contest, Server};
use figures::Pairs;
use site::Site;

const USAGE: &str = "\
usage: rivals [NAME...] [options]
  NAME               socks, dns, mqtt, memcached-get, memcached-set, kv, kv-pipelined [all]
  --rounds N         how often each pair is compared, 0 to 1000; 0: system calls only [9]
  --no-calls         do not count system calls
  --scale F          so many times the operations, 0.01 to 100 [1]
  --help";

/// Time for a server to end its turn after the last answer.
const SETTLE: Duration = Duration::from_millis(10);

struct Plan {
    contests: Vec<&'static Contest>,
    rounds: usize,
    with_calls: bool,
    scale: f64,
}

fn main() -> ExitCode {
    let plan = match parse() {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    match compare(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if there is nothing more to do.
fn parse() -> Result<Option<Plan>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut plan = Plan { contests: Vec::new(), rounds: 9, with_calls: true, scale: 1.0 };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => plan.rounds = parser.value()?.parse_with(rounds)?,
            Long("no-calls") => plan.with_calls = false,
            Long("scale") => plan.scale = parser.value()?.parse_with(scale)?,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(None);
            }
            Value(name) => {
                let contest = CONTESTS.iter().find(|contest| name == contest.name);
                plan.contests.push(contest.ok_or_else(|| format!("nothing is called {name:?}"))?);
            }
            _ => return Err(arg.unexpected()),
        }
    }
    if plan.contests.is_empty() {
        plan.contests.extend(CONTESTS);
    }
    Ok(Some(plan))
}

fn rounds(text: &str) -> Result<usize, String> {
    let rounds = text.parse().ok().filter(|rounds| (0..=1000).contains(rounds));
    rounds.ok_or_else(|| "not a number from 0 to 1000".to_owned())
}

fn scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale| (0.01..=100.0).contains(scale));
    scale.ok_or_else(|| "not from 0.01 to 100".to_owned())
}

fn compare(plan: &Plan) -> io::Result<()> {
    let site = Site::new(&plan.contests)?;
    if plan.with_calls {
        println!("System calls an operation, one client that waits for each answer:\n");
        println!("| operation | server | calls | which |\n|---|---|--:|---|");
        for contest in &plan.contests {
            for server in &contest.servers {
                let calls = calls::count(&site, contest, server);
                let calls = calls.map_err(|error| explain(contest, server, &error))?;
                println!("| {} | {} | {calls} |", contest.operation, server.label());
            }
        }
        println!();
    }
    if plan.rounds == 0 {
        return Ok(());
    }
    let mut pairs: Vec<Pairs> = plan.contests.iter().map(|_| Pairs::default()).collect();
    for round in 0..plan.rounds {
        for (contest, pairs) in plan.contests.iter().zip(&mut pairs) {
            let mut pair = [0.0; 2];
            for turn in 0..2 {
                let at = (round + turn) % 2;
                let server = &contest.servers[at];
                let cpu = measure(&site, contest, server, plan.scale);
                pair[at] = cpu.map_err(|error| explain(contest, server, &error))?;
            }
            pairs.add(pair);
        }
    }
    println!(
        "CPU µs an operation, medians of {} rounds; ratios are within a round, with their \
         quartiles. {}\n",
        plan.rounds,
        if site.is_pinned() { "Server on CPU 0, load on CPU 1." } else { "Nothing is pinned." },
    );
    println!("| operation | ours | theirs | whose | ratio |\n|---|--:|--:|---|--:|");
    for (contest, pairs) in plan.contests.iter().zip(&pairs) {
        let [own, other] = pairs.medians();
        let (operation, name) = (contest.operation, contest.servers[1].label());
        println!("| {operation} | {own:.2} | {other:.2} | {name} | {} |", pairs.ratio());
    }
    Ok(())
}

fn explain(contest: &Contest, server: &Server, error: &io::Error) -> io::Error {
    io::Error::other(format!("{} on {}: {error}", contest.name, server.label()))
}

/// CPU time of a server for an operation, in microseconds.
fn measure(site: &Site, contest: &Contest, server: &Server, scale: f64) -> io::Result<f64> {
    let operations = (contest.operations as f64 * scale) as usize;
    let process = site.start(server)?;
    let mut load = (contest.load)(process.addr, contest.lanes)?;
    load.run(operations / 10)?;
    thread::sleep(SETTLE);
    let before = process.cpu_time()?;
    load.run(operations)?;
    thread::sleep(SETTLE);
    let cpu = process.cpu_time()?.saturating_sub(before);
    Ok(cpu.as_secs_f64() * 1e6 / operations as f64)
}
