//! The table of open files is full: those inside are answered as ever, those outside are told at
//! once, the loop rests, and there is room again as soon as somebody goes.
//!
//! Two servers: the program `echo`, whose own cap leaves a reserve below the limit, and one without
//! a cap, which really meets the limit and has only its spare descriptor.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{Conn, ListenOptions, Reactor, ReactorOptions};

use crate::parts::{copy_of_us, plays};
use crate::peers::{is_reset, visit};
use crate::proc::cpu_time;
use crate::program::{PATIENCE, Program, behind};
use crate::tools::{Scale, need_tool, percentile, program, report, scale};

/// Longest median of an answer to one who is inside.
const ANSWER_LIMIT: Duration = Duration::from_millis(1);
/// Longest time until one who finds no place has been told.
const TOLD_LIMIT: Duration = Duration::from_millis(50);
/// Most of a processor for a full table in which nothing happens, in thousandths.
const QUIET_LIMIT: f64 = 10.0;
/// Longest time until a place that came free is taken again.
const AGAIN_LIMIT: Duration = Duration::from_millis(10);

/// How often each time is taken: the middle one counts, since a busy machine spoils some.
const ROUNDS: usize = 9;

/// Clients without a place that come at once.
const SURPLUS: usize = 100;

/// What one server at one limit did.
struct Outcome {
    places: usize,
    answer: Duration,
    told: Vec<Duration>,
    quiet: f64,
    again: Vec<Duration>,
}

#[test]
#[ignore = "tests/faults/run runs it"]
fn a_full_table_of_files_harms_nobody_inside() {
    need_tool("prlimit");
    let mut table = String::from(
        "The table of open files is full: medians, and the longest of all in brackets\n\n\
         | limit | server | places | answer, us | surplus told, ms | quiet, CPU in 1,000 \
         | a place again, ms |\n\
         |--:|---|--:|--:|--:|--:|--:|\n",
    );
    let mut outcomes = Vec::new();
    for limit in [64, 1_024] {
        for (name, server) in [("capped", capped()), ("uncapped", copy_of_us(UNCAPPED))] {
            let outcome = measure(limit, &server);
            add_row(&mut table, limit, name, &outcome);
            outcomes.push((limit, name, outcome));
        }
    }
    report("open_files", &table);
    for (limit, name, outcome) in &outcomes {
        assert!(outcome.places >= limit / 2 && outcome.places < *limit, "{}", outcome.places);
        assert!(outcome.answer <= ANSWER_LIMIT, "{limit} {name}: {:?}", outcome.answer);
        assert!(middle(&outcome.told) <= TOLD_LIMIT, "{limit} {name}: {:?}", outcome.told);
        assert!(outcome.quiet < QUIET_LIMIT, "{limit} {name}: {}", outcome.quiet);
        assert!(middle(&outcome.again) <= AGAIN_LIMIT, "{limit} {name}: {:?}", outcome.again);
    }
}

fn capped() -> Command {
    let mut command = Command::new(program("echo"));
    command.args(["--listen", "127.0.0.1:0"]);
    command
}

const UNCAPPED: &str = "open_files::uncapped_server";

/// The server whose own caps do not keep it from the limit.
#[test]
#[ignore = "a part that a copy of this program plays"]
fn uncapped_server() {
    if !plays(UNCAPPED) {
        return;
    }
    let options = ReactorOptions::default().max_connections(Some(100_000));
    let mut reactor = Reactor::with_options(options).unwrap();
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    let addr = reactor.listen("127.0.0.1:0", echo, ListenOptions::default()).unwrap();
    println!("listening on {addr}");
    reactor.run().unwrap();
}

fn add_row(table: &mut String, limit: usize, name: &str, outcome: &Outcome) {
    let Outcome { places, answer, told, quiet, again } = outcome;
    let ms = |span: Duration| 1e3 * span.as_secs_f64();
    writeln!(
        table,
        "| {limit} | {name} | {places} | {} | {:.1} ({:.1}) | {quiet:.1} | {:.2} ({:.2}) |",
        answer.as_micros(),
        ms(middle(told)),
        ms(percentile(told, 100)),
        ms(middle(again)),
        ms(percentile(again, 100)),
    )
    .unwrap();
}

fn measure(limit: usize, server: &Command) -> Outcome {
    let front = format!("prlimit --nofile={limit}:{limit} --");
    let (server, addr) = Program::serve(&mut behind(&front, server));
    let mut inside = fill(addr);
    let places = inside.len();
    let (answer, told) = crowd(addr, &mut inside);
    let quiet = (0..3).map(|_| load_of(&server)).fold(f64::MAX, f64::min);
    let again = (0..ROUNDS).map(|_| make_room(addr, &mut inside, places)).collect();
    Outcome { places, answer, told, quiet, again }
}

/// Connects until there is no place.
fn fill(addr: SocketAddr) -> Vec<TcpStream> {
    let mut inside = Vec::new();
    while let Some(client) = try_enter(addr) {
        inside.push(client);
    }
    inside
}

/// A client that was answered, unless it was told that there is no place.
fn try_enter(addr: SocketAddr) -> Option<TcpStream> {
    let answered = visit(addr, PATIENCE).and_then(|mut client| {
        ask(&mut client)?;
        Ok(client)
    });
    match answered {
        Err(error) if is_reset(&error) => None,
        answered => Some(answered.expect("an answer, or a reset")),
    }
}

/// How long one answer takes.
fn ask(client: &mut TcpStream) -> io::Result<Duration> {
    let begin = Instant::now();
    client.write_all(b"?")?;
    let mut answer = [0; 1];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"?");
    Ok(begin.elapsed())
}

/// Crowds of clients come who find no place, while those inside go on asking: the median answer,
/// and for each crowd how long until the last had been told.
fn crowd(addr: SocketAddr, inside: &mut [TcpStream]) -> (Duration, Vec<Duration>) {
    let rounds = if scale() == Scale::Whole { 10 * ROUNDS } else { ROUNDS };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let crowds = scope.spawn(|| {
            let told = (0..rounds).map(|_| crowd_once(addr)).collect();
            is_over.store(true, Ordering::Relaxed);
            told
        });
        let mut answers = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            for client in inside.iter_mut() {
                answers.push(ask(client).expect("those inside are served"));
            }
        }
        (middle(&answers), crowds.join().expect("all are told"))
    })
}

/// How long it takes to tell the last of a crowd, each from its own connect on.
fn crowd_once(addr: SocketAddr) -> Duration {
    let come = |_| (Instant::now(), visit(addr, PATIENCE));
    let crowd: Vec<_> = (0..SURPLUS).map(come).collect();
    let waits = crowd.into_iter().map(|(came, client)| {
        let end = client.and_then(|mut client| client.read(&mut [0; 1]));
        assert!(matches!(&end, Err(error) if is_reset(error)), "not told: {end:?}");
        came.elapsed()
    });
    waits.max().expect("a crowd")
}

/// Thousandths of a processor that it uses although nothing happens.
fn load_of(server: &Program) -> f64 {
    let (begin, before) = (Instant::now(), cpu_time(server.id()));
    assert!(before > Duration::ZERO, "what it has done so far is not counted");
    // What is measured is that nothing happens for so long.
    thread::sleep(Duration::from_millis(700));
    let used = cpu_time(server.id()) - before;
    1e3 * used.as_secs_f64() / begin.elapsed().as_secs_f64()
}

/// Some leave, as many as a cap wants to be free before it opens again: how long until somebody
/// else is served. Fills the table again.
fn make_room(addr: SocketAddr, inside: &mut Vec<TcpStream>, places: usize) -> Duration {
    inside.truncate(places - places.div_ceil(10));
    let begin = Instant::now();
    let mut next = None;
    while next.is_none() {
        assert!(begin.elapsed() < PATIENCE, "no place comes free");
        next = try_enter(addr);
    }
    let taken = begin.elapsed();
    inside.extend(next);
    inside.extend(fill(addr));
    assert_eq!(inside.len(), places, "every place comes back");
    taken
}

fn middle(spans: &[Duration]) -> Duration {
    percentile(spans, 50)
}
