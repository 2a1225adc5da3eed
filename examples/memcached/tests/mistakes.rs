//! The program as a process that a person has started wrongly.
#![cfg(unix)]

#[path = "../../../tests/examples/mistakes.rs"]
mod mistakes;
#[path = "../../../tests/examples/process.rs"]
mod process;

use mistakes::{expect_refusal, expect_wrong_addresses_refused};

const PROGRAM: &str = env!("CARGO_BIN_EXE_memcached");

#[test]
fn what_is_mistyped_is_told() {
    expect_wrong_addresses_refused(PROGRAM, &[]);
    let usage = "usage: memcached [HOST:PORT [MEBIBYTES]]";
    expect_refusal(PROGRAM, &["127.0.0.1:0", "64", "more"], &[usage]);
    for mib in ["64M", "-1", "", "0"] {
        let words = [mib, "the memory for items", "1 MiB or more"];
        expect_refusal(PROGRAM, &["127.0.0.1:0", mib], &words);
    }
}
