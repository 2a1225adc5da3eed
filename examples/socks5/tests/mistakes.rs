//! The program as a process that a person has started wrongly.
#![cfg(unix)]

#[path = "../../../tests/examples/mistakes.rs"]
mod mistakes;
#[path = "../../../tests/examples/process.rs"]
mod process;

use mistakes::{expect_refusal, expect_wrong_addresses_refused};

const PROGRAM: &str = env!("CARGO_BIN_EXE_socks5");

#[test]
fn what_is_mistyped_is_told() {
    expect_wrong_addresses_refused(PROGRAM, &[]);
    let usage = "usage: socks5 [HOST:PORT [--allow-local]]";
    expect_refusal(PROGRAM, &["127.0.0.1:0", "--alow-local"], &[usage]);
    expect_refusal(PROGRAM, &["127.0.0.1:0", "--allow-local", "more"], &[usage]);
}
