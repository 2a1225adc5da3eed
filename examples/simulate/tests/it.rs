//! The simulator as a process: the same seeds give the same run, and each can be run again.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;

use process::Process;

const SIMULATE: &str = env!("CARGO_BIN_EXE_simulate");

/// What it prints.
#[track_caller]
fn output(args: &[&str]) -> Vec<String> {
    let end = Process::start(SIMULATE, args).end();
    assert_eq!((end.code, end.errors.as_str()), (Some(0), ""), "{:?}", end.output);
    end.output
}

#[test]
fn the_same_seeds_give_the_same_hash_whatever_the_threads() {
    let [one, two] = ["1", "2"].map(|jobs| output(&["--seeds", "100", "--jobs", jobs]));
    assert!(one[0].starts_with("runs ") && one[0].ends_with(" 100"), "{one:?}");
    let hash = one.last().unwrap();
    assert!(hash.starts_with("hash  "), "{hash}");
    assert_eq!(two.last(), Some(hash));
}

#[test]
fn a_seed_is_run_again_with_its_trace() {
    let lines = output(&["--replay", "7"]);
    assert!(lines.len() > 10, "{lines:?}");
    assert!(lines.last().unwrap().starts_with("seed 7 passes, hash "), "{lines:?}");
}

#[test]
fn idle_limits_pass_in_virtual_time() {
    let lines = output(&["--idle", "100"]);
    assert!(lines.iter().any(|line| line.starts_with("virtual time  ")), "{lines:?}");
}

#[test]
fn it_says_what_is_wrong() {
    let (code, text) = servers::failure(SIMULATE, &["--seeds", "many"]);
    assert_eq!(code, Some(2), "{text}");
    servers::expect_no_panic_without_a_reader(SIMULATE);
}
