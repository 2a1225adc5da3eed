//! The command line.

use std::time::Duration;

use crate::servers::{SERVERS, Server};
use crate::workload::{WORKLOADS, Workload};

/// What the program is asked to do.
pub(crate) enum Command {
    Help,
    /// Be one of the servers, until killed.
    Serve(&'static Server),
    Compare(Plan),
}

/// A comparison.
pub(crate) struct Plan {
    /// How often each server meets each workload.
    pub(crate) rounds: usize,
    /// How long load is measured each time.
    pub(crate) time: Duration,
    pub(crate) workloads: Vec<&'static Workload>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rounds: 5, time: Duration::from_millis(500), workloads: WORKLOADS.iter().collect() }
    }
}

pub(crate) fn usage() -> String {
    let mut text = "\
usage: echo_servers [options]         compares the servers
       echo serve SERVER      is one of them, on a port that it prints
  --rounds N         how often each server meets each workload, 1 to 1000 [5]
  --seconds S        how long load is measured each time, 0.05 to 60 [0.5]
  --only NAME,...    these workloads only
  --help
workloads:"
        .to_owned();
    for workload in WORKLOADS {
        text += &format!("\n  {:10} {}", workload.name, workload.title);
    }
    text + &format!("\nservers: {}", names(SERVERS.iter().map(|server| server.name)))
}

pub(crate) fn parse() -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let mut plan = Plan::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => plan.rounds = parser.value()?.parse_with(rounds)?,
            Long("seconds") => plan.time = parser.value()?.parse_with(time)?,
            Long("only") => plan.workloads = parser.value()?.parse_with(workloads)?,
            Long("help") | Short('h') => return Ok(Command::Help),
            Value(word) if word == "serve" => {
                let server = parser.value()?.parse_with(server)?;
                return match parser.next()? {
                    Some(arg) => Err(arg.unexpected()),
                    None => Ok(Command::Serve(server)),
                };
            }
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Compare(plan))
}

fn rounds(text: &str) -> Result<usize, String> {
    let rounds = text.parse().ok().filter(|rounds| (1..=1000).contains(rounds));
    rounds.ok_or_else(|| "not a number from 1 to 1000".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "not from 0.05 to 60 seconds".to_owned())
}

/// In the order of the table, each once.
fn workloads(text: &str) -> Result<Vec<&'static Workload>, String> {
    let chosen: Vec<&str> = text.split(',').map(str::trim).collect();
    for name in &chosen {
        if !WORKLOADS.iter().any(|workload| workload.name == *name) {
            let known = names(WORKLOADS.iter().map(|workload| workload.name));
            return Err(format!("no workload is called {name:?}, but {known} are there"));
        }
    }
    Ok(WORKLOADS.iter().filter(|workload| chosen.contains(&workload.name)).collect())
}

fn server(text: &str) -> Result<&'static Server, String> {
    SERVERS.iter().find(|server| server.name == text).ok_or_else(|| {
        format!("the servers are {}", names(SERVERS.iter().map(|server| server.name)))
    })
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
