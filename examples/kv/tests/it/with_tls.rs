//! The server over TLS, driven by `redis-cli --tls`.

use std::process::Command;

use crate::KV;
use crate::process::Process;
use crate::servers::expect_clean_end;
use crate::tls::{cert, server_args};

/// What `redis-cli` prints, in one line.
#[track_caller]
fn ask(port: &str, roots: &str, name: &str, words: &[&str]) -> (bool, String) {
    let common = ["-h", "127.0.0.1", "-p", port, "--tls", "--cacert", roots, "--sni", name];
    let output =
        Command::new("timeout").arg("20").arg("redis-cli").args(common).args(words).output();
    let output = output.expect("redis-cli, of the package redis-tools, is needed");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap().trim().replace('\n', " ");
    (output.status.success(), text)
}

#[test]
fn redis_cli_talks_to_it_over_tls() {
    let args = server_args();
    let (server, addr) = Process::serve(KV, &args.each_ref().map(String::as_str));
    let (port, root) = (addr.port().to_string(), cert("ca.pem"));
    let value = "v".repeat(100_000);
    for (words, answer) in [
        (&["ping"][..], "PONG"),
        (&["set", "greeting", "hello"], "OK"),
        (&["get", "greeting"], "hello"),
        (&["-3", "get", "nothing"], "(nil)"),
        (&["set", "large", &value], "OK"),
        (&["get", "large"], &value),
        (&["-r", "3", "incr", "count"], "1 2 3"),
    ] {
        let (is_good, text) = ask(&port, &root, "localhost", words);
        let text = if text.is_empty() { "(nil)".to_owned() } else { text };
        assert!(is_good && text == *answer, "{words:?}: {text}");
    }
    let (_, text) = ask(&port, &cert("stranger.pem"), "localhost", &["ping"]);
    assert!(text.contains("certificate verify failed"), "{text}");
    let plain = ["-h", "127.0.0.1", "-p", &port, "ping"];
    let output = Command::new("timeout").arg("20").arg("redis-cli").args(plain).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!text.contains("PONG"), "{text}");
    expect_clean_end(server);
}
