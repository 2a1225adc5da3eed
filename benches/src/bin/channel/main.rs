//! Messages from another thread into a loop: waterwheel beside tokio.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --bin channel
//! cargo run --release -p waterwheel-benches --bin channel -- --rounds 21 --messages 4000000
//! ```
//!
//! # What is compared
//! - **Throughput**: one thread sends numbers of 64 bits through a channel of 1,024 and waits while
//!   it is full; the time runs from the first message sent to the last one handed over, and the
//!   sum of the numbers is checked. Here it is `Sender::send` into a reactor, there
//!   `blocking_send` of tokio's `mpsc` into a task of the runtime of one thread.
//! - **Wake**: the time from a post to its callback, when the loop had surely gone to sleep: a
//!   pause lies between any two. Here it is a channel and `Remote::with`, there `try_send` into a
//!   task that awaits `recv`.
//!
//! tokio's runtime has its I/O driver, as one with connections has, and so sleeps in the same
//! system call as the reactor and is woken by the same. A runtime without one sleeps on a condition
//! variable; it is shown beside. Everything else is at its defaults.
//!
//! # How
//! In one process; the sides take turns, in another order each round, and are compared within a
//! round. The ratios are medians over the rounds, with the least and the greatest in brackets.
//! On Linux the sender has one processor and the loops another, for where a thread happens to
//! sleep matters more than anything else; `taskset -c 0` puts all on one.
#![forbid(unsafe_code)]

mod on_tokio;
mod on_waterwheel;
mod place;
mod throughput;
mod wake;

use std::process::ExitCode;
use std::time::Duration;

/// What the program is asked to do.
struct Plan {
    rounds: usize,
    /// Sent in each round through each channel.
    messages: u64,
    /// Sent in each round to each sleeper.
    wakes: usize,
    /// Between two posts.
    pause: Duration,
}

const USAGE: &str = "\
usage: channel [options]
  --rounds N         how often each side has its turn, 1 to 1000 [11]
  --messages N       through each channel, a round; 0: no throughput [2000000]
  --wakes N          of each sleeper, a round; 0: no wakes [500]
  --pause MICROS     between two posts to sleepers [200]
  --help";

fn main() -> ExitCode {
    match parse() {
        Ok(Some(plan)) => {
            place::run_on(place::SENDER);
            if plan.messages > 0 {
                println!("{}", throughput::compare(plan.rounds, plan.messages));
            }
            if plan.wakes > 0 {
                println!("{}", wake::compare(plan.rounds, plan.wakes, plan.pause));
            }
            ExitCode::SUCCESS
        }
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("channel: {error}; see --help");
            ExitCode::from(2)
        }
    }
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Plan>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut plan =
        Plan { rounds: 11, messages: 2_000_000, wakes: 500, pause: Duration::from_micros(200) };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => {
                plan.rounds = parser.value()?.parse_with(|text| match text.parse() {
                    Ok(rounds @ 1..=1000) => Ok(rounds),
                    _ => Err("not a number from 1 to 1000"),
                })?;
            }
            Long("messages") => plan.messages = parser.value()?.parse()?,
            Long("wakes") => plan.wakes = parser.value()?.parse()?,
            Long("pause") => plan.pause = Duration::from_micros(parser.value()?.parse()?),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(plan))
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
