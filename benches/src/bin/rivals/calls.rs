//! System calls of a server, counted by strace.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::contests::{Contest, Server};
use crate::site::{Process, Site};

/// Operations of the shorter run.
const OPERATIONS: usize = 200;

/// How much longer the other one is.
const FACTOR: usize = 3;

/// System calls for each operation, by name.
pub(crate) struct Calls(BTreeMap<String, f64>);

impl fmt::Display for Calls {
    /// Two cells of a table: all, and each name, from the most on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a thread does by the clock has a slope, too, that comes and goes.
        let mut calls: Vec<_> = self.0.iter().filter(|(_, count)| **count >= 0.005).collect();
        write!(f, "{:.2} |", calls.iter().map(|(_, count)| **count).sum::<f64>())?;
        calls.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, count) in calls {
            write!(f, " {name} {count:.2}")?;
        }
        Ok(())
    }
}

/// Counts with one client that waits for each answer.
pub(crate) fn count(site: &Site, contest: &Contest, server: &Server) -> io::Result<Calls> {
    let process = site.start(server)?;
    let mut load = (contest.load)(process.addr, 1)?;
    load.run(OPERATIONS)?;
    let mut counts = Vec::new();
    for operations in [OPERATIONS, OPERATIONS * FACTOR] {
        let tracer = Tracer::attach(site, &process)?;
        load.run_apart(operations)?;
        counts.push(tracer.end(site)?);
    }
    let names = counts.iter().flat_map(BTreeMap::keys);
    let count = |at: usize, name: &String| counts[at].get(name).copied().unwrap_or_default();
    let more = (OPERATIONS * (FACTOR - 1)) as f64;
    let slope = |name: &String| (name.clone(), (count(1, name) - count(0, name)) / more);
    Ok(Calls(names.map(slope).collect()))
}

/// A strace that runs.
struct Tracer(Child);

impl Tracer {
    /// Attaches to all threads of a process, and waits until it has.
    fn attach(site: &Site, process: &Process) -> io::Result<Self> {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-c", "-U", "calls,name", "-o"])
            .arg(site.scratch().join("calls"))
            .args(["-p", &process.id().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start strace: {error}")))?;
        let mut tracer = Self(child);
        while !process.is_traced()? {
            if tracer.0.try_wait()?.is_some() {
                return Err(io::Error::other("strace cannot attach: try it by hand, as root"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(tracer)
    }

    /// Detaches, and reads what was counted.
    fn end(mut self, site: &Site) -> io::Result<BTreeMap<String, f64>> {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        self.0.wait()?;
        let text = fs::read_to_string(site.scratch().join("calls"))?;
        let count = |line: &str| {
            let (count, name) = line.trim().split_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        };
        let counts: BTreeMap<_, _> = text.lines().filter_map(count).collect();
        Ok(counts.into_iter().filter(|(name, _)| name != "total").collect())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
