//! What the tests of all programs that serve share: a client, and what every server does alike.
#![allow(dead_code)] // Each test program uses a part of it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{PATIENCE, Process};

/// A client that reads with a deadline.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let stream = BufReader::with_capacity(64 << 10, stream);
        Self { stream }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    #[track_caller]
    pub(crate) fn finish(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut bytes = vec![0; expected.len()];
        self.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.escape_ascii().to_string(), "");
    }
}

/// Asks a server to end; what it has printed since.
#[track_caller]
pub(crate) fn expect_clean_end(server: Process) -> Vec<String> {
    server.terminate();
    let end = server.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(end.errors, "");
    end.output
}

/// Runs a program that cannot work: its exit code, and the one line that it says.
#[track_caller]
pub(crate) fn failure(name: &str, args: &[&str]) -> (Option<i32>, String) {
    let end = Process::start(name, args).end();
    assert_eq!(end.errors.lines().count(), 1, "{end:?}");
    assert_eq!(end.output, Vec::<String>::new());
    let name = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap();
    assert!(end.errors.starts_with(&format!("{name}: ")), "{end:?}");
    (end.code, end.errors)
}

/// What every server does that takes `--listen`. `greets` says whether it speaks first.
#[track_caller]
pub(crate) fn expect_a_server(program: &str, greets: bool) {
    expect_to_drain(program, greets);
    expect_a_command_line(program);
}

/// What every program does that takes `--listen`, whether or not it can serve by itself.
#[track_caller]
pub(crate) fn expect_a_command_line(program: &str) {
    expect_to_listen_again_and_again(program);
    expect_words_about_what_is_wrong(program);
    expect_no_panic_without_a_reader(program);
    if cfg!(target_os = "linux") {
        let errors = run_in_shell(program, "exec \"$0\" --listen 127.0.0.1:0 >/dev/full", 1);
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[track_caller]
fn expect_to_drain(program: &str, greets: bool) {
    let (server, addr) = Process::serve(program, &[]);
    let mut client = Client::connect(addr);
    if greets {
        client.line();
    }
    server.terminate();
    client.expect_end();
    drop(client);
    let end = server.end();
    assert_eq!(end.code, Some(0), "{end:?}");
}

#[track_caller]
fn expect_to_listen_again_and_again(program: &str) {
    let (server, first) = Process::serve(program, &["--listen", "127.0.0.1:0"]);
    let second = server.line();
    assert!(second.starts_with("listening on 127.0.0.1:"), "{second}");
    assert_ne!(second, format!("listening on {first}"));
    expect_clean_end(server);
}

#[track_caller]
fn expect_words_about_what_is_wrong(program: &str) {
    let (code, text) = failure(program, &["--no-such-option"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--no-such-option"), "{text}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, text) = failure(program, &["--listen", &addr]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&addr), "{text}");
}

/// Every write to `/dev/full` fails.
#[track_caller]
pub(crate) fn expect_no_panic_without_a_reader(program: &str) {
    if cfg!(target_os = "linux") {
        let errors = run_in_shell(program, "exec \"$0\" --help >/dev/full", 1);
        assert_eq!(errors.lines().count(), 1, "{errors}");
        run_in_shell(program, "exec \"$0\" --no-such-option 2>/dev/full", 2);
    }
}

/// Runs a line of shell in which `$0` is the program. Returns what it says on standard error.
#[track_caller]
fn run_in_shell(program: &str, shell: &str, code: i32) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", shell, program]).env("RUST_LOG", "off");
    let end = Process::spawn(&mut command).end();
    assert_eq!(end.code, Some(code), "{shell}: {end:?}");
    assert!(!end.errors.contains("panicked"), "{shell}: {end:?}");
    end.errors
}

/// Starts a server, reads where it listens and nothing more, and visits it for a while.
#[track_caller]
pub(crate) fn expect_to_go_on_without_a_reader(
    program: impl AsRef<OsStr>,
    args: &[&str],
    visit: impl Fn(&mut Client),
) {
    const WHILE: Duration = Duration::from_millis(200);
    let mut command = Command::new(program);
    let command = command.args(args).env("RUST_LOG", "error");
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim_end().strip_prefix("listening on ").expect(&line).parse().expect(&line);
    let start = Instant::now();
    while start.elapsed() < WHILE {
        visit(&mut Client::connect(addr));
    }
    server.kill().unwrap();
    let end = server.wait_with_output().unwrap();
    assert_eq!((end.status.code(), end.stderr), (None, Vec::new()));
}
