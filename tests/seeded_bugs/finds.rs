//! The simulated world finds each of the seeded bugs, and nothing where none is on.
//!
//! A test of the copy of the library that has the bugs in it: see `mod.rs` beside this file.
//!
//! The table has the seeds that each bug takes, from 0 on. The numbers, which the test prints,
//! change whenever the world or the program that is run in it does.
//!
//! | bug | seeds | found by |
//! |---|---|---|
//! | `abort_says_fin` | 15 | the peer has seen a clean end and no reset |
//! | `accept_loop_stops` | 13 | connections queue, and the listener will not look |
//! | `accept_panic_stops` | 35 | connections queue, and the listener will not look |
//! | `budget_without_ready_queue` | 23 | there is input, and no event for it will come |
//! | `cap_overrun` | 23 | bytes were taken without room for them |
//! | `cascade_skipped` | 1 | a deadline has passed |
//! | `closed_twice` | 3 | the slot is empty already |
//! | `cork_not_flushed` | 1 | a clean end of a stream that was cut |
//! | `drain_missed` | 79 | output has drained without `on_drain` |
//! | `edge_consumed` | 7 | connections queue, and the listener will not look |
//! | `end_lost_while_paused` | 14 | there is input, and no event for it will come |
//! | `events_lost_after_panic` | 289 | there is input, and no event for it will come |
//! | `expiry_beats_activity` | 477 | `on_idle` while there is something to read |
//! | `flushes_left_forgotten` | 47 | marked dirty and not on the list |
//! | `generation_not_raised` | 1 | an id finds somebody after its end |
//! | `http_answers_after_the_last` | 75 | an answer does not say that it is the last |
//! | `http_bare_lf_taken` | 55 | an answer with another status |
//! | `http_chunk_end_unchecked` | 69 | an answer with another status |
//! | `http_cut_head_unchecked` | 332 | a request without its answer |
//! | `http_extension_with_lf` | 9 | an answer with another status |
//! | `http_held_input_lost` | 4 | an answer to another request |
//! | `http_length_and_chunks` | 4 | an answer with another status |
//! | `http_length_with_zero` | 13 | an answer with another status |
//! | `http_pause_for_ever` | 1 | a request without its answer |
//! | `http_second_host` | 9 | an answer with another status |
//! | `http_stream_not_gone_on` | 6 | a part of an answer |
//! | `http_too_large_unseen` | 42 | an answer with another status |
//! | `http_unread_body_kept` | 18 | an answer does not say that it is the last |
//! | `layer_bytes_forgotten` | 170 | a record that is not expected |
//! | `layer_end_not_told` | 4 | the end of a layer's peer waits |
//! | `layer_handshake_spins` | 170 | the loop spins |
//! | `layer_reply_waits` | 4 | there is output and room for it |
//! | `layer_speaks_after_end` | 123 | a write behind its own FIN |
//! | `lost_readiness` | 3 | there is input, and no event for it will come |
//! | `message_after_stop` | 18 | a message was run that was posted after the stop |
//! | `output_reordered` | 143 | a byte of the stream is another one |
//! | `overflow_says_fin` | 3 | its peer sees FIN and no reset |
//! | `pause_counts_as_silence` | 918 | `on_idle` too early |
//! | `paused_peer_timed` | 567 | a peer was timed while reading was paused |
//! | `periodic_drift` | 9 | a timer is late |
//! | `place_lost_at_teardown` | 109 | marked ready and not on the queue |
//! | `requests_hold_for_ever` | 131 | its requests are answered, and it is not read |
//! | `rest_lost_at_reset` | 515 | what was left before a pause was not lent again |
//! | `room_edge_lost` | 2161 | there is output and room for it |
//! | `room_not_counted` | 427 | its output is sent in a phase that has no room left |
//! | `room_not_renewed` | 509 | its output waits longer than for its place |
//! | `slot_leaked` | 650 | a state is given back that nobody was given |
//! | `stale_id_delivered` | 20 | it is marked as broken, and its socket is not |
//! | `tail_lost` | 44 | closed with bytes still to be read |
//! | `timer_early` | 19 | a timer is early |
//! | `wake_lost` | 367 | messages were taken and not run |
#![cfg(all(feature = "sim", feature = "http", feature = "ws"))]

// `WORKLOAD` of main.rs.
#[path = "@workload@"]
mod workload;

// `HTTP_WORKLOAD` of main.rs, whose own tests find nothing here: no bug is on in their threads.
#[path = "@http_workload@"]
mod http;

// `WS_WORKLOAD` likewise.
#[path = "@ws_workload@"]
mod ws;

use waterwheel::seeded;
use waterwheel::sim::{Faults, Seeds};

/// Most seeds that a bug may take.
const SEEDS: u64 = 10_000;

/// The bugs that `SEEDED_BUGS` names, or all.
fn chosen() -> Vec<&'static str> {
    let names = std::env::var("SEEDED_BUGS").unwrap_or_default();
    for name in names.split_whitespace() {
        assert!(seeded::ALL.contains(&name), "no bug is named {name}");
    }
    let is_chosen = |bug: &&str| names.trim().is_empty() || names.split(' ').any(|n| n == *bug);
    seeded::ALL.iter().copied().filter(is_chosen).collect()
}

/// The seeds that it takes to find a bug, and what it was found by.
fn seeds_for(bug: &'static str) -> Option<(u64, String)> {
    seeded::switch(Some(bug));
    let mut runs = 0;
    let count = |runs: &mut u64, so_far: u64| {
        *runs = so_far;
        true
    };
    let result = if bug.starts_with("http_") {
        let seeds = Seeds::new(SEEDS).faults(Faults::harmless());
        seeds.try_run(|sim| http::run(sim, true), |report| count(&mut runs, report.runs))
    } else if bug.starts_with("ws_") {
        let seeds = Seeds::new(SEEDS).faults(Faults::harmless());
        seeds.try_run(|sim| ws::run(sim, true), |report| count(&mut runs, report.runs))
    } else {
        Seeds::new(SEEDS).try_run(workload::run, |report| count(&mut runs, report.runs))
    };
    seeded::switch(None);
    let text = result.err()?;
    let first = text.lines().next().unwrap_or_default();
    let told = first.split_once("failed: ").map_or(first, |(_, told)| told);
    Some((runs + 1, told.to_owned()))
}

#[test]
fn each_bug_is_found() {
    let bugs = chosen();
    // The failures are what is looked for.
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<_> = bugs.iter().map(|bug| seeds_for(bug)).collect();
    drop(std::panic::take_hook());
    let mut missed = Vec::new();
    for (bug, found) in bugs.iter().zip(&found) {
        match found {
            Some((seeds, told)) => println!("| `{bug}` | {seeds} | {told} |"),
            None => missed.push(*bug),
        }
    }
    println!("{} of {} are found", bugs.len() - missed.len(), bugs.len());
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {}", missed.join(", "));
}

#[test]
fn without_a_bug_the_same_seeds_find_nothing() {
    let result = Seeds::new(SEEDS).try_run(workload::run, |_| true);
    if let Err(text) = &result {
        // A panic says nothing while the other test is at work.
        println!("without a bug: {text}");
    }
    assert!(result.is_ok());
}
