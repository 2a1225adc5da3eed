//! The program as a process that a person has started wrongly.
#![cfg(unix)]

#[path = "../../../tests/examples/mistakes.rs"]
mod mistakes;
#[path = "../../../tests/examples/process.rs"]
mod process;

use mistakes::{expect_refusal, expect_wrong_addresses_refused};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mqtt_broker");

const ADDR: &str = "127.0.0.1:0";

#[test]
fn what_is_mistyped_is_told() {
    expect_wrong_addresses_refused(PROGRAM, &[]);
    let usage = "usage: mqtt_broker [HOST:PORT [CERTIFICATE KEY]]";
    expect_refusal(PROGRAM, &[ADDR, "cert.pem", "key.pem", "more"], &[usage]);
}

/// Who asks for encryption must not get a broker without.
#[test]
fn a_certificate_is_used_or_refused() {
    let usage = "usage: mqtt_broker [HOST:PORT [CERTIFICATE KEY]]";
    expect_refusal(PROGRAM, &[ADDR, "cert.pem"], &[usage]);
    let words = if cfg!(feature = "tls") {
        ["cannot read /nowhere/cert.pem", "No such file"]
    } else {
        ["built without TLS", "--features tls"]
    };
    expect_refusal(PROGRAM, &[ADDR, "/nowhere/cert.pem", "/nowhere/key.pem"], &words);
}
