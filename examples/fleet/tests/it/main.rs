//! Several reactors as a process, and restarts of it.
#![cfg(unix)]

#[path = "../../../../tests/examples/process.rs"]
mod process;
mod reload;
#[path = "../../../../tests/examples/servers.rs"]
mod servers;

use process::Process;
use servers::{Client, expect_clean_end, failure};

const FLEET: &str = env!("CARGO_BIN_EXE_fleet");

const SPREADS: [&str; 5] =
    ["shared", "reuse-port", "least-connections", "round-robin", "source-address"];

#[test]
fn a_fleet_echoes_whatever_the_spread_and_counts() {
    for spread in SPREADS {
        let (server, addr) = Process::serve(FLEET, &["--threads", "2", "--spread", spread]);
        let mut clients: Vec<_> = (0..10).map(|_| Client::connect(addr)).collect();
        for client in &mut clients {
            client.send("hello");
            client.expect("hello");
            client.finish();
            client.expect_end();
        }
        drop(clients);
        let output = expect_clean_end(server).join("\n");
        assert!(output.contains(" 10 accepted"), "{output}");
    }
}

#[test]
fn a_fleet_prints_the_counters_of_each_reactor() {
    let args = ["--threads", "2", "--spread", "round-robin", "--every", "0.02"];
    let (server, addr) = Process::serve(FLEET, &args);
    let _clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Client::connect(addr);
            client.send("x");
            client.expect("x");
            client
        })
        .collect();
    let expected = "0: 2 open, 2 accepted; 1: 2 open, 2 accepted; in all 4 open, 4 accepted, \
                    0 refused, 4 messages";
    while server.line() != expected {}
}

#[test]
fn a_fleet_on_cores_of_its_own_and_one_a_core() {
    if cfg!(target_os = "linux") {
        let (server, addr) = Process::serve(FLEET, &["--threads", "0", "--pin", "yes"]);
        let mut client = Client::connect(addr);
        client.send("hello");
        client.expect("hello");
        client.finish();
        client.expect_end();
        drop(client);
        expect_clean_end(server);
    }
}

#[test]
fn a_fleet_says_what_is_wrong() {
    for (args, code, text) in [
        (["--spread", "evenly"], 2, "evenly"),
        (["--pin", "true"], 2, "--pin is yes or no"),
        (["--threads", "5000"], 1, "option threads is 5000"),
        (["--take-over", "/no/such/socket"], 1, "/no/such/socket"),
    ] {
        let (found, line) = failure(FLEET, &args);
        assert_eq!(found, Some(code), "{line}");
        assert!(line.contains(text), "{line}");
    }
}

#[test]
fn it_does_what_every_server_does() {
    servers::expect_a_server(FLEET, false);
}

#[test]
fn it_goes_on_when_the_reader_of_its_counters_has_gone() {
    let args = ["--listen", "127.0.0.1:0", "--threads", "2", "--every", "0.01"];
    servers::expect_to_go_on_without_a_reader(FLEET, &args, |client| {
        client.send("hello");
        client.expect("hello");
    });
}
