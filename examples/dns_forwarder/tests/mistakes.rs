//! The program as a process that a person has started wrongly.
#![cfg(unix)]

#[path = "../../../tests/examples/mistakes.rs"]
mod mistakes;
#[path = "../../../tests/examples/process.rs"]
mod process;

use mistakes::{expect_refusal, expect_wrong_addresses_refused};

const PROGRAM: &str = env!("CARGO_BIN_EXE_dns_forwarder");

#[test]
fn what_is_mistyped_is_told() {
    expect_wrong_addresses_refused(PROGRAM, &[]);
    let usage = "usage: dns_forwarder [HOST:PORT [SERVER:PORT]]";
    expect_refusal(PROGRAM, &["127.0.0.1:0", "9.9.9.9:53", "more"], &[usage]);
    let words = ["9.9.9.9", "no port", "give \"host:port\""];
    expect_refusal(PROGRAM, &["127.0.0.1:0", "9.9.9.9"], &words);
    let words = ["cannot resolve", "nobody.invalid"];
    expect_refusal(PROGRAM, &["127.0.0.1:0", "nobody.invalid:53"], &words);
}
