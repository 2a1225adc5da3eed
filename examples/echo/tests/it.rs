//! The echo server as a process: over TCP, over Unix sockets, and as a fleet.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;
#[cfg(feature = "tls")]
#[path = "../../../tests/examples/tls.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use process::{PATIENCE, Process};
use servers::{Client, expect_clean_end, failure};

const ECHO: &str = env!("CARGO_BIN_EXE_echo");

/// A path of the test's own; nothing is there when it begins and when it ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ww-echo-{}-{name}", std::process::id()));
        Self(path)
    }

    #[track_caller]
    fn serve(&self) -> Process {
        let server = Process::start(ECHO, &["--unix", self.0.to_str().unwrap()]);
        assert_eq!(server.line(), format!("listening on unix:{}", self.0.display()));
        server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[track_caller]
fn expect_echo(path: &Path) {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"hello");
}

#[test]
fn echo_serves_a_unix_socket_and_removes_it() {
    let place = Place::new("once");
    let server = place.serve();
    expect_echo(&place.0);
    let (code, text) = failure(ECHO, &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("somebody listens there"), "{text}");
    expect_echo(&place.0);
    expect_clean_end(server);
    assert!(!place.0.exists());
}

#[test]
fn echo_comes_back_after_it_was_killed() {
    let place = Place::new("killed");
    drop(place.serve()); // with SIGKILL
    assert!(place.0.exists());
    let server = place.serve();
    expect_echo(&place.0);
    expect_clean_end(server);
}

#[test]
fn echo_serves_both_at_once() {
    let place = Place::new("both");
    let (server, _) = Process::serve(ECHO, &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(server.line(), format!("listening on unix:{}", place.0.display()));
    expect_echo(&place.0);
    expect_clean_end(server);
}

#[test]
fn it_does_what_every_server_does() {
    servers::expect_a_server(ECHO, false);
}

#[test]
fn it_echoes() {
    let (server, addr) = Process::serve(ECHO, &[]);
    let mut client = Client::connect(addr);
    client.send("hello");
    client.expect("hello");
    client.send(" again");
    client.finish();
    client.expect(" again");
    client.expect_end();
    expect_clean_end(server);
}

#[test]
fn a_fleet_echoes_whatever_the_spread_and_counts() {
    for spread in ["shared", "reuse-port", "least-connections", "round-robin", "source-address"] {
        let (server, addr) = Process::serve(ECHO, &["--threads", "2", "--spread", spread]);
        for _ in 0..10 {
            let mut client = Client::connect(addr);
            client.send("hello");
            client.expect("hello");
            client.finish();
            client.expect_end();
        }
        let output = expect_clean_end(server).join("\n");
        assert!(output.contains(" 10, refused 0"), "{output}");
    }
}

#[test]
fn a_fleet_has_one_reactor_a_core_and_says_what_is_wrong() {
    if cfg!(target_os = "linux") {
        let (server, addr) = Process::serve(ECHO, &["--threads", "0", "--pin"]);
        let mut client = Client::connect(addr);
        client.send("hello");
        client.expect("hello");
        drop(client);
        expect_clean_end(server);
    }
    for (args, code, text) in [
        (["--threads", "2", "--spread", "evenly"], 2, "evenly"),
        (["--threads", "2", "--listen", "nowhere"], 1, "wheel-"),
    ] {
        let (found, line) = failure(ECHO, &args);
        assert_eq!(found, Some(code), "{line}");
        assert!(line.contains(text), "{line}");
    }
}

#[test]
fn a_limit_out_of_range_is_refused_by_the_name_of_its_option() {
    for seconds in ["1000000000", "0.0001"] {
        let (code, text) = failure(ECHO, &["--idle-timeout", seconds]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("--idle-timeout {seconds}: must be from")), "{text}");
    }
}

#[test]
fn certificates_of_clients_are_for_tls() {
    for (args, told) in [
        (&["--tls-clients", "roots"][..], "--tls-clients is for --tls"),
        (&["--tls-self-signed", "--tls-clients-optional"], "is for --tls-clients"),
    ] {
        let (code, text) = failure(ECHO, args);
        assert!(code == Some(2) && text.contains(told), "{text}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_it_says_how_to_build_it() {
    for args in [&["--tls", "cert", "key"][..], &["--tls-self-signed"]] {
        let (code, text) = failure(ECHO, args);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("cargo run --release -p echo --features tls"), "{text}");
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use super::*;

    #[test]
    fn a_certificate_is_read_anew_at_sighup() {
        tls::expect_reload(ECHO, "echo", &[]);
        tls::expect_reload(ECHO, "fleet", &["--threads", "2"]);
        tls::expect_no_files(ECHO);
    }

    /// A client that shows no certificate hears it behind its own handshake, in TLS 1.3.
    #[test]
    fn clients_must_show_a_certificate_where_one_is_wanted() {
        let [option, chain, key] = tls::server_args();
        let roots = tls::cert("ca.pem");
        let args = [&option[..], &chain, &key, "--tls-clients", &roots];
        let (server, addr) = Process::serve(ECHO, &args);
        let mut client = tls::dial(addr, "localhost");
        let refused = client.write_all(b"x").and_then(|()| client.read_exact(&mut [0]));
        let text = refused.expect_err("it shows none").to_string();
        assert!(text.contains("CertificateRequired"), "{text}");
        drop(client);
        let mut client = tls::dial_as(addr, "localhost", "client");
        tls::expect_echo(&mut client, "hello");
        drop(client);
        expect_clean_end(server);

        let (server, addr) =
            Process::serve(ECHO, &[&args[..], &["--tls-clients-optional"]].concat());
        tls::expect_echo(&mut tls::dial(addr, "localhost"), "hello");
        expect_clean_end(server);
    }

    /// What is to be encrypted is so on every socket.
    #[test]
    fn a_unix_socket_is_encrypted_too() {
        let place = Place::new("tls");
        let [option, chain, key] = tls::server_args();
        let (server, addr) =
            Process::serve(ECHO, &["--unix", place.0.to_str().unwrap(), &option, &chain, &key]);
        server.line();
        tls::expect_echo(&mut tls::dial(addr, "localhost"), "hello");
        let mut client = UnixStream::connect(&place.0).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 7];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], 21, "an alert: {answer:?}");
        drop(client);
        expect_clean_end(server);
    }
}
