//! Echo servers beside each other: raw mio, waterwheel, tokio.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --bin echo_servers
//! cargo run --release -p waterwheel-benches --bin echo_servers -- --only c50,storm --rounds 9
//! ```
//!
//! # What is compared
//! Each server is one thread which sends back what it gets. Their listening sockets are made by
//! the same function, and all read into one buffer of 64 KiB that their connections share.
//! - `mio` is a loop written by hand, with nothing that an echo can do without: it shows what is
//!   there to be reached on mio.
//! - `waterwheel` has an idle timeout of 60 s on each connection.
//! - `tokio` is a task for each connection on the runtime of one thread, without timeouts.
//!
//! # How
//! Each measurement starts a server as a process of its own, from this same program. The load
//! comes from the parent, on one thread over plain mio, and compares every byte that comes back
//! with what it sent. A burst of load warms the server up; another is measured, from a standstill
//! to a standstill, so that the processor time belongs to exactly the messages counted. The
//! servers take turns, in another order each round, and are compared within a round.
//!
//! The processor time is the figure to trust. The rate is that of the slower side, which is often
//! the load; "busy" says how much of a processor the server had. Other work on the machine makes
//! all figures vary, for what comes while a server has to wait is served in larger batches. Then
//! more rounds help, or a priority over the rest, which the servers inherit:
//! `sudo chrt -r 1 target/release/echo`.
//!
//! # Platform notes
//! The processor time comes from Linux's `/proc/PID/task/*/schedstat`; elsewhere the figure is
//! left out. Where there is a `taskset`, server and load have a processor each.
#![forbid(unsafe_code)]

mod args;
mod burst;
mod child;
mod closed;
mod noise;
mod servers;
mod storm;
mod table;
mod workload;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use args::{Command, Plan};
use burst::Generator;
use child::{Child, Launcher};
use closed::Closed;
use noise::Noise;
use servers::SERVERS;
use storm::Storm;
use table::{Sample, Table};
use workload::{Shape, Workload};

/// Load before the measurement: caches, the allocator and the sockets' windows settle in a tenth
/// of it.
const WARM_UP: Duration = Duration::from_millis(150);

/// Time for the server to end its turn after the last answer. The kernel brings the processor
/// time up to date when the thread goes to sleep.
const SETTLE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(error) => {
            eprintln!("echo_servers: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Help => {
            println!("{}", args::usage());
            Ok(())
        }
        Command::Serve(server) => servers::serve(server),
        Command::Compare(plan) => compare(&plan),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_servers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(plan: &Plan) -> io::Result<()> {
    waterwheel::raise_open_file_limit()?;
    let launcher = Launcher::new()?;
    let noise = Noise::new();
    let mut table = Table::new(&plan.workloads);
    let mut progress = Progress::new(plan);
    for round in 0..plan.rounds {
        for (row, workload) in plan.workloads.iter().enumerate() {
            for turn in 0..SERVERS.len() {
                let at = (round + row + turn) % SERVERS.len();
                progress.step(round, workload.name, SERVERS[at].name);
                let sample = measure(&launcher, &noise, at, workload, plan.time)
                    .map_err(|error| context(error, workload.name, SERVERS[at].name))?;
                table.add(row, at, sample);
            }
        }
    }
    progress.end();
    println!("{}", preface(plan, &launcher));
    println!("{table}");
    Ok(())
}

/// One server under one load.
fn measure(
    launcher: &Launcher,
    noise: &Noise,
    server: usize,
    workload: &Workload,
    time: Duration,
) -> io::Result<Sample> {
    let child = launcher.start(SERVERS[server].name)?;
    match workload.shape {
        Shape::Closed(shape) => {
            let connect = |registry| Closed::new(child.addr, shape, noise, registry);
            sample(&child, &mut Generator::new(connect)?, time)
        }
        Shape::Storm(shape) => {
            let connect = |registry| Ok(Storm::new(child.addr, shape, noise, registry));
            sample(&child, &mut Generator::new(connect)?, time)
        }
    }
}

fn sample<L: burst::Load>(
    child: &Child,
    generator: &mut Generator<L>,
    time: Duration,
) -> io::Result<Sample> {
    generator.burst(WARM_UP)?;
    thread::sleep(SETTLE);
    let before = child.cpu_time();
    let burst = generator.burst(time)?;
    thread::sleep(SETTLE);
    let cpu = child.cpu_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(Sample::new(&burst, cpu))
}

fn context(error: io::Error, workload: &str, server: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{workload}, {server}: {error}"))
}

/// What the figures are, above the table.
fn preface(plan: &Plan, launcher: &Launcher) -> String {
    let places = if launcher.is_pinned() {
        "Server on CPU 0, load on CPU 1."
    } else {
        "Server and load are not pinned: no usable `taskset`."
    };
    format!(
        "Medians; rounds: {}, of {} s each. {places} Ratios are against raw mio in the same round; \
         in brackets the least and the greatest. A message of the storm is a connection.\n",
        plan.rounds,
        plan.time.as_secs_f64(),
    )
}

/// A line on standard error, written over itself if that is a terminal.
struct Progress {
    began: Instant,
    rounds: usize,
    /// Measurements in all.
    total: usize,
    /// Measurements begun.
    begun: usize,
    is_terminal: bool,
}

impl Progress {
    fn new(plan: &Plan) -> Self {
        Self {
            began: Instant::now(),
            rounds: plan.rounds,
            total: plan.rounds * plan.workloads.len() * SERVERS.len(),
            begun: 0,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Before each measurement. Where lines cannot be written over, one a round is enough.
    fn step(&mut self, round: usize, workload: &str, server: &str) {
        let left = self.seconds_left();
        let place = format!("round {} of {}", round + 1, self.rounds);
        if self.is_terminal {
            eprint!("\r\x1b[K{place}: {workload}, {server}{left}");
        } else if self.begun.is_multiple_of(self.total / self.rounds) {
            eprintln!("{place}{left}");
        }
        self.begun += 1;
    }

    fn seconds_left(&self) -> String {
        if self.begun == 0 {
            return String::new();
        }
        let each = self.began.elapsed().as_secs_f64() / self.begun as f64;
        format!("; {:.0} s left", each * (self.total - self.begun) as f64)
    }

    fn end(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}
