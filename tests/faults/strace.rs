//! Every system call of the echo server, made to fail with every error that its manual page
//! names, at each of its first occurrences: strace answers in the kernel's place.
//!
//! Each case is a server of its own under clients that know what must come back. One failure may
//! end the start, with one line of error; or the one connection that the call was made for; and
//! nothing else. The server must neither panic nor hang nor keep a descriptor, and must go on to
//! serve and end in order.

mod load;
mod table;
mod trial;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::tools::{self, Scale};
use table::{EXEMPT, ROWS, Row};
use trial::{Case, Outcome};

/// Occurrences of each call that are made to fail, one a case.
const OCCURRENCES: usize = 25;

/// Cases of all that there are which a bounded run takes: every so many-th.
const PART: usize = 3;

/// Cases at a time.
const WORKERS: usize = 2;

/// Findings after which to stop: what breaks every case need not be told thousands of times.
const ENOUGH: usize = 40;

/// How many of one row's cases came to what.
#[derive(Debug, Default)]
struct Tally {
    outcomes: HashMap<Outcome, usize>,
    findings: usize,
    /// Cases that were not run because the call is not made so often.
    beyond: usize,
}

#[test]
#[ignore = "tests/faults/run runs it"]
fn every_call_fails_in_every_way() {
    tools::need_tool("strace");
    let made = trial::record(OCCURRENCES).expect("a run without a fault");
    expect_in_table(&made);
    let all = cases(&made);
    let step = if tools::scale() == Scale::Whole { 1 } else { PART };
    let chosen: Vec<Case> = all.iter().copied().step_by(step).collect();
    let start = Instant::now();
    let (tallies, findings) = run_all(&chosen, &made);
    let seconds = start.elapsed().as_secs();
    tools::report("strace", &table(&tallies, chosen.len(), all.len(), seconds));
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// Every call that a run makes is in the table, or among those that cannot fail.
#[track_caller]
fn expect_in_table(made: &[String]) {
    let known = ROWS.iter().map(|row| row.call).chain(EXEMPT.iter().map(|(call, _)| *call));
    let known: HashSet<&str> = known.collect();
    let unknown: Vec<_> = made.iter().filter(|call| !known.contains(call.as_str())).collect();
    assert!(unknown.is_empty(), "calls without a row in the table: {unknown:?}");
}

fn count(row: &Row, made: &[String]) -> usize {
    made.iter().filter(|call| *call == row.call).count().min(OCCURRENCES)
}

/// All cases that a run without a fault comes to.
fn cases(made: &[String]) -> Vec<Case> {
    let mut cases = Vec::new();
    for row in ROWS {
        for errno in row.errnos {
            for occurrence in 1..=count(row, made) as u32 {
                let number = cases.len() as u16 + 1;
                cases.push(Case { row, errno, occurrence, number });
            }
        }
    }
    cases
}

/// Runs the cases; a tally for each row, and what was found wrong.
fn run_all(cases: &[Case], made: &[String]) -> (Vec<Tally>, Vec<String>) {
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Vec::<(Case, Option<Outcome>)>::new(), Vec::<String>::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = case.run();
                    let mut results = results.lock().expect("no worker panics");
                    results.0.push((*case, result.as_ref().ok().copied()));
                    if let Err(text) = result {
                        let Case { row, errno, occurrence, .. } = case;
                        let finding = format!("{} {occurrence}, {errno}: {text}", row.call);
                        println!("{finding}");
                        results.1.push(finding);
                    }
                    if results.1.len() >= ENOUGH {
                        return;
                    }
                }
            });
        }
    });
    let (results, findings) = results.into_inner().expect("no worker panics");
    (ROWS.iter().map(|row| tally(row, &results, made)).collect(), findings)
}

fn tally(row: &Row, results: &[(Case, Option<Outcome>)], made: &[String]) -> Tally {
    let mut tally =
        Tally { beyond: (OCCURRENCES - count(row, made)) * row.errnos.len(), ..Tally::default() };
    for (_, outcome) in results.iter().filter(|(case, _)| case.row.call == row.call) {
        match outcome {
            Some(outcome) => *tally.outcomes.entry(*outcome).or_default() += 1,
            None => tally.findings += 1,
        }
    }
    tally
}

fn table(tallies: &[Tally], chosen: usize, all: usize, seconds: u64) -> String {
    let run: usize = tallies.iter().map(|tally| tally.outcomes.values().sum::<usize>()).sum();
    let wrong: usize = tallies.iter().map(|tally| tally.findings).sum();
    let mut text = format!(
        "# System calls that fail\n\n\
         The echo server from start to drain, one failure a run: {} of {chosen} cases, chosen of \
         {all}, in {seconds} s; {wrong} findings. \"Before `main`\": the loader or the standard \
         library gave up. \"Not reached\": the n-th call did not come, and the server did as \
         without a fault; behind the plus, cases left out because a run without a fault makes \
         the call less than {OCCURRENCES} times.\n\n\
         | call | errors | cases | survived | connection ended | error, exit 1 | stopped, exit 1 \
         | before `main` | not reached | wrong |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        run + wrong,
    );
    for (row, tally) in ROWS.iter().zip(tallies) {
        add_row(&mut text, row, tally);
    }
    text.push('\n');
    for row in ROWS.iter().filter(|row| !row.note.is_empty()) {
        let _ = writeln!(text, "- {}: {}.", row.call, row.note);
    }
    for (call, why) in EXEMPT {
        let _ = writeln!(text, "- {call} is not made to fail: {why}.");
    }
    text
}

fn add_row(text: &mut String, row: &Row, tally: &Tally) {
    let of = |outcome: Outcome| tally.outcomes.get(&outcome).copied().unwrap_or(0);
    let _ = writeln!(
        text,
        "| {} ({}) | {} | {} | {} | {} | {} | {} | {} | {} + {} | {} |",
        row.call,
        row.source,
        row.errnos.join(" "),
        tally.outcomes.values().sum::<usize>() + tally.findings,
        of(Outcome::Survived),
        of(Outcome::ConnectionEnded),
        of(Outcome::Error),
        of(Outcome::Stopped),
        of(Outcome::BeforeMain),
        of(Outcome::NotReached),
        tally.beyond,
        tally.findings,
    );
}
