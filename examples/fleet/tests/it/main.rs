//! The examples that run several reactors.

use super::{Client, Process, expect_clean_end, failure};

const SPREADS: [&str; 5] =
    ["shared", "reuse-port", "least-connections", "round-robin", "source-address"];

#[test]
fn a_fleet_echoes_whatever_the_spread_and_counts() {
    for name in ["echo", "fleet"] {
        for spread in SPREADS {
            let (server, addr) = Process::serve(name, &["--threads", "2", "--spread", spread]);
            let mut clients: Vec<_> = (0..10).map(|_| Client::connect(addr)).collect();
            for client in &mut clients {
                client.send("hello");
                client.expect("hello");
                client.finish();
                client.expect_end();
            }
            drop(clients);
            let output = expect_clean_end(server).join("\n");
            assert!(
                output.contains(" 10, refused 0") || output.contains(" 10 accepted"),
                "{output}"
            );
        }
    }
}

#[test]
fn a_fleet_prints_the_counters_of_each_reactor() {
    let args = ["--threads", "2", "--spread", "round-robin", "--every", "0.02"];
    let (server, addr) = Process::serve("fleet", &args);
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
    for (name, args) in [
        ("echo", &["--threads", "0", "--pin"][..]),
        ("fleet", &["--threads", "0", "--pin", "yes"][..]),
    ] {
        if cfg!(target_os = "linux") {
            let (server, addr) = Process::serve(name, args);
            let mut client = Client::connect(addr);
            client.send("hello");
            client.expect("hello");
            client.finish();
            client.expect_end();
            drop(client);
            expect_clean_end(server);
        }
    }
}

#[test]
fn a_fleet_says_what_is_wrong() {
    for (name, args, code, text) in [
        ("echo", &["--threads", "2", "--spread", "evenly"][..], 2, "evenly"),
        ("fleet", &["--spread", "evenly"][..], 2, "evenly"),
        ("fleet", &["--threads", "5000"][..], 1, "option threads is 5000"),
        ("fleet", &["--take-over", "/no/such/socket"][..], 1, "/no/such/socket"),
        ("echo", &["--threads", "2", "--listen", "nowhere"][..], 1, "wheel-"),
    ] {
        let (found, line) = failure(name, args);
        assert_eq!(found, Some(code), "{line}");
        assert!(line.contains(text), "{line}");
    }
}
