//! The program as a process: what it prints, its echo, its page, and its end.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use process::{PATIENCE, Process};
use servers::{expect_clean_end, expect_no_panic_without_a_reader, failure};

const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");

/// Sends a request, and reads the first lines of the answer, up to one that begins so.
#[track_caller]
fn line_of(page: &str, path: &str, fields: &str, start: &str) -> String {
    let mut client = TcpStream::connect(page).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(client, "GET {path} HTTP/1.1\r\nHost: {page}\r\n{fields}\r\n").unwrap();
    let lines = BufReader::new(client).lines().map_while(Result::ok);
    lines.into_iter().find(|line| line.starts_with(start)).expect("there is such a line")
}

#[test]
fn it_prints_both_addresses_and_shows_its_load() {
    let args = ["--listen", "127.0.0.1:0", "--page", "127.0.0.1:0", "--connections", "3"];
    let server = Process::start(INSPECT, &args);
    let echo = server.line().strip_prefix("listening on ").expect("the first line").to_owned();
    let url = server.line();
    let (page, path) = url.strip_prefix("http://").and_then(|it| it.split_once('/')).unwrap();
    let mut client = TcpStream::connect(echo).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");

    let cookie = line_of(page, &format!("/{path}"), "", "Set-Cookie: ");
    let cookie = cookie.split([' ', ';']).nth(1).unwrap();
    let cookie = format!("Cookie: {cookie}\r\n");
    let line = line_of(page, "/events", &cookie, "data: {");
    assert!(line.contains("\"inspect::Echo\"") && line.contains("\"inspect::load::Load\""));
    expect_clean_end(server);
}

#[test]
fn only_loopback_has_the_page() {
    let (code, text) = failure(INSPECT, &["--listen", "127.0.0.1:0", "--page", "0.0.0.0:0"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("0.0.0.0:0 is not of loopback"), "{text}");
}

#[test]
fn it_says_what_is_wrong_and_needs_no_reader() {
    let (code, text) = failure(INSPECT, &["--no-such-option"]);
    assert_eq!(code, Some(2), "{text}");
    expect_no_panic_without_a_reader(INSPECT);
}

/// A folder that is removed in the end.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits for a file that is whole once it is there.
#[track_caller]
fn dump(path: &std::path::Path) -> String {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => return text,
            Err(error) if std::time::Instant::now() > end => panic!("{}: {error}", path.display()),
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[test]
fn the_last_seconds_are_dumped_at_a_signal_and_after_a_stall() {
    let name = format!("waterwheel-dumps-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    std::fs::create_dir(&folder.0).unwrap();
    let path = folder.0.to_str().unwrap();
    let any = "127.0.0.1:0";
    let args = ["--listen", any, "--page", any, "--connections", "0", "--dump", path];
    let server = Process::start(INSPECT, &args);
    let echo = server.line().strip_prefix("listening on ").expect("the first line").to_owned();
    server.line();
    let mut client = TcpStream::connect(echo).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    server.signal("USR1");
    let text = dump(&folder.0.join("signal-1.json"));
    assert!(
        text.starts_with("{\"traceEvents\"") && text.contains("inspect::Echo on_data"),
        "{text}"
    );
    expect_clean_end(server);

    let args = ["--listen", any, "--page", any, "--stall", "50", "--dump", path];
    let server = Process::start(INSPECT, &args);
    let text = dump(&folder.0.join("slow-1.json"));
    assert!(text.contains("the stall that was asked for"), "the dump has the mark before it");
    expect_clean_end(server);
}
