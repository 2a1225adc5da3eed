//! Accept fails, once or a hundred times in a row, with each error that Linux may give it while
//! clients wait: they are served as soon as it fails no more, without another connect to remind
//! the listener.
//!
//! The server stands still while the clients connect, so that all of them make one edge of the
//! poll, and the first failure uses it up.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::peers::visit;
use crate::program::{PATIENCE, Program};
use crate::tools::{Scale, need_tool, program, report, scale, scratch};

/// What accept4(2) documents for a shortage, for a connection that was lost on the way, for a
/// firewall and for a signal.
const ERRORS: [&str; 8] =
    ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPROTO", "EPERM", "EINTR"];

/// Failures in a row.
const ROWS: [usize; 3] = [1, 10, 100];

/// Longest wait of a client once accept has failed for the last time.
const LIMIT: Duration = Duration::from_millis(100);

/// A busy machine may spoil one or two.
const ATTEMPTS: usize = 3;

/// What one attempt came to.
struct Outcome {
    /// From the first to the last failure.
    failing: Duration,
    /// From the last failure to the last answer.
    wait: Duration,
}

#[test]
#[ignore = "tests/faults/run runs it"]
fn waiting_clients_are_served_once_accept_fails_no_more() {
    need_tool("strace");
    let clients = if scale() == Scale::Whole { 100 } else { 20 };
    let mut table = format!(
        "Accept fails while {clients} clients wait: milliseconds\n\n\
         | error | in a row | failing | from the last failure to the last answer |\n\
         |---|--:|--:|--:|\n"
    );
    let mut late = Vec::new();
    for row in ROWS {
        // The servers are asleep nearly all the time, in their waits between attempts.
        let runs = ERRORS.map(|error| thread::spawn(move || best_of(error, row, clients)));
        for (error, run) in ERRORS.into_iter().zip(runs) {
            let outcome = run.join().expect("every client is served");
            let [failing, wait] =
                [outcome.failing, outcome.wait].map(|span| 1e3 * span.as_secs_f64());
            writeln!(table, "| {error} | {row} | {failing:.1} | {wait:.1} |").unwrap();
            if outcome.wait > LIMIT {
                late.push((error, row, outcome.wait));
            }
        }
    }
    report("accept", &table);
    assert!(late.is_empty(), "served later than {LIMIT:?} after the last failure: {late:?}");
}

/// The first attempt that is within the limit, or the best.
fn best_of(error: &str, row: usize, clients: usize) -> Outcome {
    let mut best = attempt(error, row, clients);
    for _ in 1..ATTEMPTS {
        if best.wait > LIMIT {
            let next = attempt(error, row, clients);
            best = if next.wait < best.wait { next } else { best };
        }
    }
    best
}

fn attempt(error: &str, row: usize, clients: usize) -> Outcome {
    let log = scratch(&format!("accept-{error}-{row}.strace"));
    let (server, addr) = Program::serve_below(&mut injected(error, row, &log));
    server.signal(Signal::STOP);
    let waiting: Vec<_> = (0..clients).map(|number| ask(addr, number)).collect();
    server.signal(Signal::CONT);
    for (number, client) in waiting.into_iter().enumerate() {
        expect_answer(client, number);
    }
    let answered = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that goes forward");
    let failures = injected_times(&log);
    drop(server);
    let _ = fs::remove_file(&log);
    assert_eq!(failures.len(), row, "all failures happened before the last answer");
    let (first, last) = (failures[0], failures[row - 1]);
    Outcome { failing: last - first, wait: answered.saturating_sub(last) }
}

/// The echo server under a tracer; only its accepts are slower for it.
fn injected(error: &str, row: usize, log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-ttt", "-e", "trace=accept4", "-e"]);
    command.arg(format!("inject=accept4:error={error}:when=1..{row}"));
    command.arg("-o").arg(log);
    command.arg(program("echo")).args(["--listen", "127.0.0.1:0"]);
    command
}

/// The times of the failures, since the epoch.
fn injected_times(log: &Path) -> Vec<Duration> {
    let text = fs::read_to_string(log).expect("what strace saw");
    let failures = text.lines().filter(|line| line.ends_with("(INJECTED)"));
    // Behind the number of the process.
    let seconds = failures.filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    seconds.map(Duration::from_secs_f64).collect()
}

/// Connects and sends, before anybody accepts.
fn ask(addr: SocketAddr, number: usize) -> TcpStream {
    let mut client = visit(addr, PATIENCE).expect("the kernel takes it");
    client.write_all(&question(number)).expect("the kernel takes it");
    client
}

fn expect_answer(mut client: TcpStream, number: usize) {
    let mut answer = [0; 8];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, question(number));
}

fn question(number: usize) -> [u8; 8] {
    (number as u64).to_be_bytes()
}
