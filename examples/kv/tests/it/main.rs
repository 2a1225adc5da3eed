//! The key-value server as a process, and its database by itself.
#![cfg(unix)]

mod clients;
#[path = "../../src/db/mod.rs"]
mod db;
#[path = "../../../../tests/examples/process.rs"]
mod process;
mod requests;
#[path = "../../../../tests/examples/servers.rs"]
mod servers;
#[cfg(feature = "tls")]
#[path = "../../../../tests/examples/tls.rs"]
mod tls;
#[cfg(feature = "tls")]
mod with_tls;

use std::io::Read;

use process::Process;
use servers::{Client, expect_clean_end};

const KV: &str = env!("CARGO_BIN_EXE_kv");

#[test]
fn it_does_what_every_server_does() {
    servers::expect_a_server(KV, false);
}

#[test]
fn it_serves_and_expires() {
    let (server, addr) = Process::serve(KV, &[]);
    let mut client = Client::connect(addr);
    client.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhe");
    client.send("llo\r\nget a\r\nSET b 1 PX 40\r\nSET c 2 EX 100\r\n");
    client.expect("+OK\r\n$5\r\nhello\r\n+OK\r\n+OK\r\n");
    // Nobody touches b; the count of keys is what the table holds.
    let mut keys = String::new();
    while keys != ":2" {
        client.send("DBSIZE\r\n");
        keys = client.line();
        assert!(matches!(keys.as_str(), ":3" | ":2"), "{keys}");
    }
    client.send("GET b\r\nINFO\r\nQUIT\r\nPING\r\n");
    client.expect("$-1\r\n");
    let mut info = String::new();
    client.stream.read_to_string(&mut info).unwrap();
    assert!(info.contains("connected_clients:1\r\n"), "{info}");
    assert!(info.contains("expired_keys:1\r\n"), "{info}");
    assert!(info.contains("db0:keys=2,expires=1\r\n"), "{info}");
    assert!(info.ends_with("\r\n+OK\r\n"), "{info}");
    drop(client);
    expect_clean_end(server);
}

#[test]
fn it_ends_a_client_that_talks_nonsense() {
    let (server, addr) = Process::serve(KV, &[]);
    let mut client = Client::connect(addr);
    client.send("PING\r\n*1\r\n:1\r\nPING\r\n");
    client.expect("+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n");
    client.expect_end();
    drop(client);
    expect_clean_end(server);
}

/// What a browser sends for `fetch(url, {method: "POST", body: "FLUSHALL\r\n"})` of any page.
#[test]
fn a_web_page_cannot_remove_what_is_stored() {
    let (server, addr) = Process::serve(KV, &[]);
    let mut owner = Client::connect(addr);
    owner.send("SET a 1\r\n");
    owner.expect("+OK\r\n");
    for method in ["POST", "PUT"] {
        let mut browser = Client::connect(addr);
        browser.send(format!(
            "{method} / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 10\r\n\r\nFLUSHALL\r\n"
        ));
        if method == "PUT" {
            browser.expect("-ERR unknown command 'PUT'\r\n");
        }
        browser.expect_end();
    }
    owner.send("GET a\r\n");
    owner.expect("$1\r\n1\r\n");
    drop(owner);
    expect_clean_end(server);
}

/// Replies of 200 MB are asked for in one go, and read only then.
#[test]
fn it_holds_back_a_client_that_does_not_read() {
    const GETS: usize = 2_000;
    let (server, addr) = Process::serve(KV, &[]);
    let mut client = Client::connect(addr);
    let value = "v".repeat(100_000);
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n{value}\r\n"));
    client.expect("+OK\r\n");
    client.send("GET a\r\n".repeat(GETS));
    let mut other = Client::connect(addr);
    other.send("PING\r\n");
    other.expect("+PONG\r\n");
    let reply = format!("$100000\r\n{value}\r\n");
    for _ in 0..GETS {
        client.expect(&reply);
    }
    if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak_kib < 32 << 10, "{peak_kib} KiB");
    }
    drop((client, other));
    expect_clean_end(server);
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_it_says_how_to_build_it() {
    let (code, text) = servers::failure(KV, &["--tls", "cert", "key"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cargo run --release -p kv --features tls"), "{text}");
}
