//! One test under many seeds.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::coverage::Landmarks;
use super::replay::Replay;
use super::simulation::Simulation;
use crate::base::panics;
use crate::sys::sim::{Fault, Faults};

/// Runs a test under many seeds, each in a world of its own.
///
/// With `WATERWHEEL_SEED=N` in the environment only that seed is run, and its trace is printed.
/// With `SIM_PAGE=FILE` that run, or the first run that fails, is written to an HTML file. In a
/// browser this page steps through the run, forwards and backwards.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::sim::{Fault, Faults, Seeds};
///
/// let report = Seeds::new(10).from(100).faults(Faults::all().without(Fault::Stopped)).run(|sim| {
///     assert!(sim.run(Duration::from_secs(600)), "an empty world comes to rest");
///     Ok(())
/// });
/// assert_eq!(report.runs, 10);
/// ```
#[derive(Clone, Debug)]
pub struct Seeds {
    range: Range<u64>,
    faults: Faults,
}

/// The result of many runs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Runs, each with a seed of its own.
    pub runs: u64,
    /// Virtual time of all runs together.
    pub virtual_time: Duration,
    /// Lines of all traces together, whether they were kept or not.
    pub notes: u64,
    /// System calls of the reactors.
    pub system_calls: u64,
    /// Turns of the reactors.
    pub turns: u64,
    /// How often each fault has struck, in the order of [`Fault::ALL`].
    pub struck: Vec<u64>,
    /// The states and code paths of the reactor that were reached.
    pub landmarks: Landmarks,
    /// One hash of all runs: it is the same for the same seeds, faults, test and version.
    pub hash: u64,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) text: String,
    pub(super) trace: Vec<String>,
    /// Where its page is, if one was asked for.
    page: Option<String>,
}

/// Lines of a trace that a failure shows.
const TRACE_LINES: usize = 60;

impl Seeds {
    /// The seeds from 0 to `count - 1`, with [all faults](Faults::all).
    #[must_use]
    pub fn new(count: u64) -> Self {
        Self { range: 0..count, faults: Faults::all() }
    }

    /// Takes as many seeds as before, beginning with `first`.
    #[must_use]
    pub fn from(mut self, first: u64) -> Self {
        let count = self.range.end - self.range.start;
        self.range = first..first.saturating_add(count);
        self
    }

    /// Sets which faults may happen.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Runs the test under each seed. The test must do the same under the same seed: it must not
    /// read the real clock, or depend on the order of a `HashMap`. After each run all faults end,
    /// the world comes to rest, and a check makes sure that nothing is left behind
    /// ([`Simulation::finish`]).
    ///
    /// # Panics
    /// - If the test panics or returns an error under a seed, or one of the crate's guarantees is
    ///   broken. The message has the seed, the last 60 lines of its trace, and the command that
    ///   runs it again.
    /// - If `WATERWHEEL_SEED` is no number.
    pub fn run(&self, test: impl Fn(&mut Simulation) -> io::Result<()>) -> Report {
        if let Ok(seed) = env::var("WATERWHEEL_SEED") {
            let seed = seed.parse();
            return self.replay(seed.expect("WATERWHEEL_SEED is a number, such as 417"), &test);
        }
        match self.try_run(&test, |_| true) {
            Ok(report) => report,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Runs seeds until `goes_on`, which gets the report so far after each seed, returns `false`,
    /// or a seed fails.
    ///
    /// # Errors
    /// - The first failure, as [`run`](Self::run) would panic with it.
    pub fn try_run(
        &self,
        test: impl Fn(&mut Simulation) -> io::Result<()>,
        mut goes_on: impl FnMut(&Report) -> bool,
    ) -> Result<Report, String> {
        let mut report = Report { struck: vec![0; Fault::ALL.len()], ..Report::default() };
        for seed in self.range.clone() {
            if let Err(text) = one(seed, self.faults, &test, false, &mut report) {
                let failure = self.explain(seed, text.text, &test);
                return Err(failure.to_string());
            }
            if !goes_on(&report) {
                break;
            }
        }
        Ok(report)
    }

    /// Runs one seed with its trace on standard output.
    fn replay(&self, seed: u64, test: &impl Fn(&mut Simulation) -> io::Result<()>) -> Report {
        let mut report = Report { struck: vec![0; Fault::ALL.len()], ..Report::default() };
        match one(seed, self.faults, test, true, &mut report) {
            Ok(trace) => println!("{}\nseed {seed} passes", trace.join("\n")),
            Err(failure) => {
                println!("{}", failure.trace.join("\n"));
                if let Some(page) = &failure.page {
                    println!("{page}");
                }
                panic!("seed {seed} failed: {}", failure.text);
            }
        }
        report
    }

    /// Repeats a failed run, with its trace.
    fn explain(
        &self,
        seed: u64,
        text: String,
        test: &impl Fn(&mut Simulation) -> io::Result<()>,
    ) -> Failure {
        match one(seed, self.faults, test, true, &mut Report::default()) {
            Err(failure) if failure.text == text => failure,
            Err(failure) => Failure {
                text: format!(
                    "{text} (and when it was run again: {}; it depends on something outside of \
                     the simulated world)",
                    failure.text
                ),
                ..failure
            },
            Ok(trace) => {
                let text = format!("{text} (and it passed when it was run again: it depends on");
                let text = format!("{text} something outside of the simulated world)");
                Failure { seed, text, trace, page: None }
            }
        }
    }
}

/// Runs a seed; returns the trace if it was kept.
fn one(
    seed: u64,
    faults: Faults,
    test: &impl Fn(&mut Simulation) -> io::Result<()>,
    keeps_trace: bool,
    report: &mut Report,
) -> Result<Vec<String>, Failure> {
    let mut sim = Simulation::new(seed, faults);
    let page = env::var_os("SIM_PAGE").filter(|_| keeps_trace);
    if keeps_trace {
        sim.keep_trace();
    }
    if page.is_some() {
        sim.keep_replay();
    }
    let result = panics::catch(|| {
        let result = test(&mut sim);
        if result.is_ok() {
            sim.finish();
        }
        result
    });
    let text = match result {
        Ok(Ok(())) => {
            report.add(&sim);
            if let Some(page) = page {
                println!("{}", write_page(&sim.replay(), &page));
            }
            return Ok(sim.trace());
        }
        Ok(Err(error)) => error.to_string(),
        Err(payload) => text_of(payload.as_ref()),
    };
    let page = page.map(|page| write_page(&sim.failed_replay(&text), &page));
    Err(Failure { seed, text, trace: sim.trace(), page })
}

/// Writes the page of a run; says where it is, or why it is not.
fn write_page(replay: &Replay<'_>, page: &OsStr) -> String {
    let written = File::create(page).and_then(|file| {
        let mut to = BufWriter::new(file);
        replay.write_page(None, &mut to)?;
        to.flush()
    });
    let page = Path::new(page);
    match written {
        Ok(()) => format!("step through it: {}", page.display()),
        Err(error) => format!("cannot write the page {}: {error}", page.display()),
    }
}

fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "it panicked".to_owned())
}

impl Report {
    /// Adds the runs of another report, which came after these.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.virtual_time += other.virtual_time;
        self.notes += other.notes;
        self.system_calls += other.system_calls;
        self.turns += other.turns;
        self.landmarks.merge(other.landmarks);
        self.hash = self.hash.rotate_left(1) ^ other.hash;
        self.struck.resize(Fault::ALL.len(), 0);
        for (sum, count) in self.struck.iter_mut().zip(&other.struck) {
            *sum += count;
        }
    }

    fn add(&mut self, sim: &Simulation) {
        let (calls, turns) = sim.work();
        self.runs += 1;
        self.virtual_time += sim.now();
        self.notes += sim.trace_len();
        self.system_calls += calls;
        self.turns += turns;
        self.landmarks.merge(sim.landmarks());
        self.hash = self.hash.rotate_left(1) ^ sim.hash();
        for (sum, (_, count)) in self.struck.iter_mut().zip(sim.struck()) {
            *sum += count;
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, text, trace, page } = self;
        let start = trace.len().saturating_sub(TRACE_LINES);
        writeln!(f, "seed {seed} failed: {text}\nthe end of its trace:")?;
        for line in &trace[start..] {
            writeln!(f, "{line}")?;
        }
        let thread = thread::current();
        let name = thread.name().filter(|name| *name != "main").unwrap_or("NAME_OF_THE_TEST");
        match page {
            Some(page) => writeln!(f, "{page}")?,
            None => writeln!(f, "a page to step through it: SIM_PAGE=run.html before this line")?,
        }
        write!(
            f,
            "run it alone, with its trace:\n\
             WATERWHEEL_SEED={seed} cargo test {name} -- --exact --nocapture"
        )
    }
}
