//! System calls that do less than was asked: short counts, `EINTR` and `EAGAIN` at half of all
//! calls that move bytes, by a shim between the echo server and its C library (`shim.c`, which
//! says why this is no lie). Whatever the order, every byte must come back.
//!
//! On Linux the library calls the kernel past the C library, through rustix, where no shim sees
//! it. rustix has another backend that does not, so the server is built with that one, for
//! itself; the calls are the same, and the counts of the shim prove that it saw them. It is built
//! with debug assertions too, so that the invariants are checked on the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::chance::{Chance, stream_bytes};
use crate::peers::visit;
use crate::program::Program;
use crate::tools::{self, Scale, scratch};

/// Bytes that each connection sends and must get back.
const BYTES: usize = 64 << 10;

/// Bytes of a piece at the most.
const MOST_BYTES_A_PIECE: usize = 8 << 10;

/// Connections of one seed, at the same time.
const CONNECTIONS: u64 = 2;

/// Servers at a time.
const WORKERS: usize = 2;

/// Longest wait for anything that should come at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the echo server calls, and what the shim does to it: short counts, `EINTR`, `EAGAIN`.
/// The others that the shim knows are there for servers that call them.
const CALLED: &[(&str, [bool; 3])] = &[
    ("read", [true, true, false]),
    ("recv", [true, true, true]),
    ("write", [true, true, false]),
    ("send", [true, true, true]),
    ("accept4", [false, true, true]),
    ("epoll_wait", [true, true, false]),
];

/// Of each call, how often it was let be, cut short, interrupted, told that there is nothing.
type Counts = BTreeMap<String, [u64; 4]>;

#[test]
#[ignore = "tests/faults/run runs it"]
fn every_byte_comes_back_through_calls_that_do_less() {
    tools::need_tool("cc");
    let (shim, server) = (compile_shim(), build_server());
    let seeds = if tools::scale() == Scale::Whole { 1_000 } else { 50 };
    let start = Instant::now();
    let (counts, findings) = run_seeds(seeds, &shim, &server);
    tools::report("shim", &table(&counts, seeds, findings.len(), start.elapsed()));
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    expect_every_kind(&counts);
}

fn compile_shim() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let shim = scratch("shim.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
    let status = cc.arg(&shim).arg(source).arg("-ldl").status().expect("cc");
    assert!(status.success(), "the shim does not compile");
    shim
}

/// The echo server as it is, on the backend of rustix that calls the C library.
fn build_server() -> PathBuf {
    let target = scratch("libc");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("RUSTFLAGS", "--cfg rustix_use_libc");
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").args(["build", "--package", "echo"]);
    let status = cargo.arg("--target-dir").arg(&target).status().expect("cargo");
    assert!(status.success(), "the echo server does not build");
    target.join("debug/echo")
}

/// One server for each seed; the counts of all, and what was found wrong.
fn run_seeds(seeds: u16, shim: &Path, server: &Path) -> (Counts, Vec<String>) {
    let next = AtomicU16::new(0);
    let results = Mutex::new((Counts::new(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let result = run_seed(seed, shim, server);
            let mut results = results.lock().expect("no worker panics");
            match result {
                Ok(counts) => add(&mut results.0, counts),
                Err(text) => results.1.push(format!("seed {seed}: {text}")),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    results.into_inner().expect("no worker panics")
}

/// A server from start to drain, under its connections.
fn run_seed(seed: u16, shim: &Path, server: &Path) -> Result<Counts, String> {
    let [high, low] = seed.to_be_bytes();
    // Nobody else binds this.
    let addr = SocketAddr::from((Ipv4Addr::new(127, 78, high, low), 7000));
    let counts = scratch(&format!("shim-{seed}.counts"));
    let _ = std::fs::remove_file(&counts);
    let mut command = Command::new(server);
    command.args(["--listen", &addr.to_string()]);
    command.env("LD_PRELOAD", shim).env("WATERWHEEL_SHIM_COUNTS", &counts);
    command.env("WATERWHEEL_SHIM_SEED", seed.to_string());
    let mut server = Program::try_start(&mut command).map_err(|error| error.to_string())?;
    server.line(PATIENCE).map_err(|_| "does not start")?;
    thread::scope(|scope| {
        let each = |number| move || echo(addr, u64::from(seed) * CONNECTIONS + number);
        let clients: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(each(number))).collect();
        let mut results = clients.into_iter().map(|client| client.join().expect("no panic"));
        results.try_for_each(|result| result)
    })?;
    server.signal(Signal::TERM);
    let end = server.end(PATIENCE).ok_or("does not end")?;
    if !end.status.success() || !end.errors.is_empty() {
        return Err(format!("{}: {}", end.status, end.errors.trim()));
    }
    read_counts(&counts).ok_or("the shim has written no counts: it was not loaded".to_owned())
}

/// Sends all and reads all back, in an order that follows from the seed; then the end both ways.
fn echo(addr: SocketAddr, seed: u64) -> Result<(), String> {
    let bytes = stream_bytes(seed, 0, BYTES);
    let got = exchange(addr, &bytes, Chance(seed)).map_err(|error| error.to_string())?;
    let same = bytes.iter().zip(&got).take_while(|(sent, got)| sent == got).count();
    match same == BYTES && got.len() == BYTES {
        true => Ok(()),
        false => Err(format!("{} bytes came back, the first {same} right", got.len())),
    }
}

/// Sends pieces, and of half of them waits for the echo before the next. What is under way at
/// the most fits in the buffers of the sockets, so that there is no need to read while sending.
fn exchange(addr: SocketAddr, bytes: &[u8], mut chance: Chance) -> io::Result<Vec<u8>> {
    let mut stream = visit(addr, PATIENCE)?;
    let (mut sent, mut got) = (0, Vec::new());
    while sent < bytes.len() {
        let size = 1 + chance.below(MOST_BYTES_A_PIECE);
        let end = bytes.len().min(sent + size);
        stream.write_all(&bytes[sent..end])?;
        sent = end;
        if chance.below(2) == 0 {
            (&stream).take((sent - got.len()) as u64).read_to_end(&mut got)?;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut got)?;
    Ok(got)
}

fn read_counts(path: &Path) -> Option<Counts> {
    let text = std::fs::read_to_string(path).ok()?;
    let _ = std::fs::remove_file(path);
    let mut counts = Counts::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        counts.insert(name, numbers.try_into().ok()?);
    }
    Some(counts)
}

fn add(sum: &mut Counts, counts: Counts) {
    for (name, numbers) in counts {
        let sum = sum.entry(name).or_default();
        for (sum, number) in sum.iter_mut().zip(numbers) {
            *sum += number;
        }
    }
}

/// The shim was in the way of every kind of call, with all that it can do to it.
#[track_caller]
fn expect_every_kind(counts: &Counts) {
    for (name, faults) in CALLED {
        let [_, done @ ..] = counts[*name];
        for (fault, (done, wanted)) in done.iter().zip(faults).enumerate() {
            assert_eq!(*done > 0, *wanted, "{name}, fault {fault}: {done} times");
        }
    }
}

fn table(counts: &Counts, seeds: u16, wrong: usize, spent: Duration) -> String {
    let mut text = format!(
        "# System calls that do less\n\n\
         {seeds} seeds, each a server with {CONNECTIONS} connections of {BYTES} bytes both ways, \
         in {} s; {wrong} went wrong.\n\n\
         | call | let be | cut short | EINTR | EAGAIN |\n|---|--:|--:|--:|--:|\n",
        spent.as_secs(),
    );
    for (name, [whole, short, interrupted, again]) in counts {
        let _ = writeln!(text, "| {name} | {whole} | {short} | {interrupted} | {again} |");
    }
    text.push_str("\nThe echo server makes no call of those that stand at 0.\n");
    text
}
