//! The program around the measurements.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::child::Launcher;
use crate::children::Process;
use crate::disturb::{self, DISTURBANCES, Disturbance};
use crate::probe::Probe;
use crate::servers::{self, SERVERS};
use crate::table::{self, Sample};

const USAGE: &str = "\
usage: tails [options]
  --rounds N         how often each server meets each disturbance, 1 to 1000 [5]
  --seconds S        how long each is measured, 0.5 to 60 [2]
  --only NAME,...    these disturbances only: none, flood, floods, storm, broadcast, timers,
                     file, udp
  --help
";

/// Load before the measurement.
const WARM_UP: Duration = Duration::from_millis(100);

struct Plan {
    rounds: usize,
    time: Duration,
    only: Vec<&'static Disturbance>,
}

pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tails: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    waterwheel::raise_open_file_limit()?;
    let mut plan =
        Plan { rounds: 5, time: Duration::from_secs(2), only: DISTURBANCES.iter().collect() };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => plan.rounds = parser.value()?.parse()?,
            Long("seconds") => plan.time = parser.value()?.parse_with(time)?,
            Long("only") => plan.only = parser.value()?.parse_with(only)?,
            Long("help") | Short('h') => {
                print!("{USAGE}");
                return Ok(());
            }
            // What the processes are started with that this one starts.
            Value(word) if word == "serve" => {
                return Ok(servers::serve(&parser.value()?.string()?)?);
            }
            Value(word) if word == "disturb" => {
                let (name, addr) = (parser.value()?.string()?, parser.value()?.parse()?);
                return disturb::run(&name, addr);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    if !(1..=1000).contains(&plan.rounds) {
        return Err("--rounds: 1 to 1000".into());
    }
    compare(&plan)
}

fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.5..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "not from 0.5 to 60 seconds".to_owned())
}

fn only(text: &str) -> Result<Vec<&'static Disturbance>, String> {
    let find = |name: &str| {
        let found = DISTURBANCES.iter().find(|disturbance| disturbance.name == name);
        found.ok_or_else(|| format!("no disturbance is called {name:?}; see --help"))
    };
    text.split(',').map(find).collect()
}

fn compare(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let launcher = Launcher::new()?;
    if !launcher.is_pinned() {
        return Err("it wants two processors and a `taskset`: the probe must have its own".into());
    }
    println!("Medians of {} rounds of {} s.\n", plan.rounds, plan.time.as_secs_f64());
    println!("{}", table::HEAD);
    for disturbance in &plan.only {
        let mut samples: Vec<Vec<Sample>> = SERVERS.iter().map(|_| Vec::new()).collect();
        for round in 0..plan.rounds {
            for turn in 0..SERVERS.len() {
                let at = (round + turn) % SERVERS.len();
                let sample = measure(&launcher, SERVERS[at].name, disturbance, plan.time);
                samples[at].push(sample.map_err(|error| {
                    format!("{}, {}: {error}", disturbance.name, SERVERS[at].name)
                })?);
            }
        }
        print!("{}", table::rows(disturbance, &samples));
    }
    Ok(())
}

/// One server beside one disturbance.
fn measure(
    launcher: &Launcher,
    server: &str,
    disturbance: &Disturbance,
    time: Duration,
) -> Result<Sample, Box<dyn Error>> {
    let child = launcher.start(server)?;
    let mut probe = Probe::new(child.addr)?;
    probe.run(WARM_UP)?;
    let mut disturber = Process::start(&["disturb", disturbance.name, &child.addr.to_string()])?;
    if disturber.line()? != "ready" {
        return Err("the disturbance has not begun".into());
    }
    let began = Instant::now();
    let before: u64 = disturber.ask("so far")?.parse()?;
    let found = probe.run(time)?;
    let done = disturber.ask("so far")?.parse::<u64>()? - before;
    let seconds = if disturbance.is_once { 1.0 } else { began.elapsed().as_secs_f64() };
    Ok(Sample::new(&found, done as f64 / disturbance.scale / seconds))
}
