//! Runs a random program in random worlds, one a seed, and reports the first seed under which a
//! rule of the reactor is broken.
//!
//! ```text
//! cargo run --release -p simulate -- --seeds 100000
//! cargo run --release -p simulate -- --replay 417 | less
//! cargo run --release -p simulate -- --replay 417 --page run.html
//! cargo run --release -p simulate -- --scene short-read --page scene.html
//! ```
//! The same seed gives the same run, on every machine; the hash at the end says so.

mod scenes;
mod workload;

use std::any::Any;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use waterwheel::sim::{Fault, Faults, Replay, Report, Seeds, Simulation, Tour};

const USAGE: &str = "\
Runs a random program in random worlds, one a seed.

Usage: simulate [OPTIONS]

  --seeds N          how many seeds [default: 10000]
  --from S           the first of them [default: 0]
  --jobs J           threads [default: one a processor]
  --time-limit SECS  no new seed after so long
  --replay SEED      only this one, with its trace
  --page FILE        with --replay or --scene: a page on which the run is stepped through
  --scene NAME       instead: a guided scene of the loop, for its page
  --scenes           instead: lists the scenes
  --idle SECS        instead: a thousand connections with idle timers, for so long in virtual time
  --help";

/// Seeds of a thread at a time.
const BATCH: u64 = 200;

struct Args {
    seeds: u64,
    from: u64,
    jobs: usize,
    time_limit: Option<Duration>,
    replay: Option<u64>,
    page: Option<PathBuf>,
    scene: Option<String>,
    lists_scenes: bool,
    idle: Option<Duration>,
}

fn main() -> ExitCode {
    // A panic under a seed is told with the seed, once.
    std::panic::set_hook(Box::new(|_| {}));
    support::run_parsed("simulate", USAGE, parse(), |args| {
        let is_clean = run(&args)?;
        Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// `None` asked for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut args = Args {
        seeds: 10_000,
        from: 0,
        jobs,
        time_limit: None,
        replay: None,
        page: None,
        scene: None,
        lists_scenes: false,
        idle: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seeds") => args.seeds = parser.value()?.parse()?,
            Long("from") => args.from = parser.value()?.parse()?,
            Long("jobs") => args.jobs = parser.value()?.parse::<usize>()?.max(1),
            Long("time-limit") => {
                args.time_limit = Some(Duration::from_secs(parser.value()?.parse()?));
            }
            Long("replay") => args.replay = Some(parser.value()?.parse()?),
            Long("page") => args.page = Some(parser.value()?.into()),
            Long("scene") => args.scene = Some(parser.value()?.string()?),
            Long("scenes") => args.lists_scenes = true,
            Long("idle") => args.idle = Some(Duration::from_secs(parser.value()?.parse()?)),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if args.page.is_some() && args.replay.is_none() && args.scene.is_none() {
        return Err("--page is the page of one run: it wants --replay or --scene".into());
    }
    if args.scene.is_some() && args.page.is_none() {
        return Err("--scene wants --page FILE, where the scene is written".into());
    }
    Ok(Some(args))
}

/// Whether no rule was broken.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    if args.lists_scenes {
        return list_scenes();
    }
    if let (Some(name), Some(page)) = (&args.scene, &args.page) {
        return scene(name, page);
    }
    if let Some(seed) = args.replay {
        return replay(seed, args.page.as_deref());
    }
    if let Some(time) = args.idle {
        return idle(time);
    }
    let start = Instant::now();
    let (report, failure) = run_all(args, start);
    print_report(&report, start.elapsed())?;
    if let Some(failure) = failure {
        let mut out = io::stdout().lock();
        writeln!(out, "\n{failure}")?;
        writeln!(out, "(here: cargo run --release -p simulate -- --replay SEED)")?;
        return Ok(false);
    }
    Ok(true)
}

/// Hands out the seeds to threads, a batch at a time.
fn run_all(args: &Args, start: Instant) -> (Report, Option<String>) {
    let progress = progress(args.seeds);
    let next = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let reports = Mutex::new(Vec::new());
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    let late = args.time_limit.is_some_and(|limit| start.elapsed() >= limit);
                    if first >= args.seeds || late || is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let seeds = Seeds::new(BATCH.min(args.seeds - first)).from(args.from + first);
                    match seeds.try_run(workload::run, |_| !is_over.load(Ordering::Relaxed)) {
                        Ok(report) => {
                            progress.inc(report.runs);
                            reports.lock().unwrap().push((first, report));
                        }
                        Err(text) => {
                            is_over.store(true, Ordering::Relaxed);
                            failure.lock().unwrap().get_or_insert(text);
                        }
                    }
                }
            });
        }
    });
    progress.finish_and_clear();
    let mut reports = reports.into_inner().unwrap();
    reports.sort_unstable_by_key(|(first, _)| *first);
    let mut sum = Report::default();
    for (_, report) in &reports {
        sum.merge(report);
    }
    (sum, failure.into_inner().unwrap())
}

fn progress(seeds: u64) -> ProgressBar {
    let template = "{bar:40} {human_pos}/{human_len} seeds, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::new(seeds).with_style(style)
}

fn print_report(report: &Report, real: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let virtual_time = report.virtual_time.as_secs_f64();
    let real = real.as_secs_f64();
    writeln!(out, "runs            {:>14}", report.runs)?;
    writeln!(out, "real time       {real:>14.1} s")?;
    writeln!(out, "virtual time    {virtual_time:>14.0} s, {:.0} : 1", virtual_time / real)?;
    writeln!(out, "turns           {:>14}", report.turns)?;
    writeln!(out, "system calls    {:>14}", report.system_calls)?;
    writeln!(out, "ways reached    {:>14}", report.landmarks.to_string())?;
    for missing in report.landmarks.missing() {
        writeln!(out, "                not reached: {missing}")?;
    }
    writeln!(out, "faults")?;
    for (fault, count) in Fault::ALL.iter().zip(&report.struck) {
        writeln!(out, "  {:<20} {count:>10}", fault.to_string())?;
    }
    writeln!(out, "hash            {:016x}", report.hash)
}

fn list_scenes() -> Result<bool, Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for scene in scenes::ALL {
        writeln!(out, "{:<16} {}", scene.name, scene.title)?;
    }
    Ok(true)
}

/// Runs a scene and writes its page.
fn scene(name: &str, page: &Path) -> Result<bool, Box<dyn Error>> {
    let scene = scenes::ALL.iter().find(|scene| scene.name == name);
    let scene = scene.ok_or_else(|| format!("there is no scene {name}: --scenes lists them"))?;
    let sim = scene.run()?;
    let replay = sim.replay();
    let tour = scene.tour(&replay)?;
    write_page(page, &replay, Some(&tour))?;
    Ok(true)
}

fn write_page(page: &Path, replay: &Replay<'_>, tour: Option<&Tour>) -> Result<(), Box<dyn Error>> {
    let written = File::create(page).and_then(|file| {
        let mut to = BufWriter::new(file);
        replay.write_page(tour, &mut to)?;
        to.flush()
    });
    written.map_err(|error| format!("cannot write the page {}: {error}", page.display()))?;
    writeln!(io::stdout().lock(), "open {} in a browser", page.display())?;
    Ok(())
}

fn replay(seed: u64, page: Option<&Path>) -> Result<bool, Box<dyn Error>> {
    let mut sim = Simulation::new(seed, Faults::all());
    match page {
        Some(_) => sim.keep_replay(),
        None => sim.keep_trace(),
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        workload::run(&mut sim)?;
        sim.finish();
        io::Result::Ok(())
    }));
    if let Some(page) = page {
        let replay = match &result {
            Ok(_) => sim.replay(),
            Err(payload) => sim.failed_replay(text_of(payload.as_ref())),
        };
        write_page(page, &replay, None)?;
    }
    let mut out = io::stdout().lock();
    for line in sim.trace() {
        // Whoever reads it may have had enough.
        if writeln!(out, "{line}").is_err() {
            return Ok(result.is_ok());
        }
    }
    match result {
        Ok(Ok(())) => {
            writeln!(out, "seed {seed} passes, hash {:016x}", sim.hash())?;
            Ok(true)
        }
        Ok(Err(error)) => Err(error.into()),
        Err(payload) => {
            writeln!(out, "seed {seed} fails: {}", text_of(payload.as_ref()))?;
            Ok(false)
        }
    }
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<String>().map_or("it panicked", String::as_str)
}

/// A load of idle timers, and how much faster than real time it runs.
fn idle(time: Duration) -> Result<bool, Box<dyn Error>> {
    let start = Instant::now();
    let (virtual_time, asked) = workload::idle(time)?;
    let real = start.elapsed();
    let ratio = virtual_time.as_secs_f64() / real.as_secs_f64();
    let mut out = io::stdout().lock();
    writeln!(out, "connections     {:>14}", workload::IDLE_CONNECTIONS)?;
    writeln!(out, "idle limits     {asked:>14} passed")?;
    writeln!(out, "virtual time    {:>14.0} s", virtual_time.as_secs_f64())?;
    writeln!(out, "real time       {:>14.3} s, {ratio:.0} : 1", real.as_secs_f64())?;
    Ok(true)
}
