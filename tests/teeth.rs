//! The simulated world has teeth: each of twenty bugs, planted on purpose, is found.
//!
//! The bugs are in the library only if it is built with `--cfg waterwheel_teeth`:
//! `RUSTFLAGS="--cfg waterwheel_teeth" cargo test --release --features sim --test teeth`
//!
//! The seeds that each takes, from 0 on, as that command prints them with `-- --nocapture`; they
//! change whenever the world or the program that is run in it does.
//!
//! | bug | seeds | found by |
//! |---|---|---|
//! | `LostReadiness` | 31 | there is input, and no event for it will come |
//! | `StaleIdDelivered` | 1 | there is input, and no event for it will come |
//! | `GenerationNotRaised` | 1 | there is input, and no event for it will come |
//! | `ClosedTwice` | 1 | the slot is empty already |
//! | `WakeLost` | 142 | messages were taken and not run |
//! | `BudgetWithoutReadyQueue` | 17 | there is input, and no event for it will come |
//! | `EdgeConsumed` | 7 | connections queue, and the listener will not look |
//! | `TimerEarly` | 14 | a timer is late |
//! | `CascadeSkipped` | 1 | a deadline has passed |
//! | `DrainMissed` | 41 | output has drained without `on_drain` |
//! | `CapOverrun` | 4 | bytes were taken without room for them |
//! | `EndLostWhilePaused` | 12 | there is input, and no event for it will come |
//! | `TailLost` | 3 | closed with bytes still to be read |
//! | `CorkNotFlushed` | 1 | bytes were taken without room for them |
//! | `OutputReordered` | 13 | a byte of the stream is another one |
//! | `SlotLeaked` | 1 | a deadline is not in the wheel |
//! | `ExpiryBeatsActivity` | 217 | `on_idle` while there is something to read |
//! | `PeriodicDrift` | 2 | a timer is late |
//! | `MessageAfterStop` | 11 | a message was run that was posted after the stop |
//! | `AcceptLoopStops` | 4 | connections queue, and the listener will not look |
#![cfg(all(feature = "sim", waterwheel_teeth))]

#[path = "../examples/simulate/workload/mod.rs"]
mod workload;

use waterwheel::sim::Seeds;
use waterwheel::{Bug, plant};

/// Most seeds that a bug may take.
const SEEDS: u64 = 10_000;

/// The seeds that it takes to find a bug, and what it was found by.
fn seeds_for(bug: Bug) -> Option<(u64, String)> {
    plant(Some(bug));
    let mut runs = 0;
    let result = Seeds::new(SEEDS).try_run(workload::run, |report| {
        runs = report.runs;
        true
    });
    plant(None);
    let text = result.err()?;
    let first = text.lines().next().unwrap_or_default();
    let told = first.split_once("failed: ").map_or(first, |(_, told)| told);
    Some((runs + 1, told.to_owned()))
}

#[test]
fn every_planted_bug_is_found() {
    // The failures are what is looked for.
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<_> = Bug::ALL.into_iter().map(|bug| (bug, seeds_for(bug))).collect();
    drop(std::panic::take_hook());
    for (bug, seeds) in &found {
        match seeds {
            Some((seeds, told)) => println!("| `{bug:?}` | {seeds} | {told} |"),
            None => println!("| `{bug:?}` | not found | |"),
        }
    }
    for (bug, seeds) in found {
        assert!(seeds.is_some(), "{bug:?} was not found within {SEEDS} seeds");
    }
}

#[test]
fn without_a_bug_the_same_seeds_find_nothing() {
    assert!(Seeds::new(SEEDS).try_run(workload::run, |_| true).is_ok());
}
