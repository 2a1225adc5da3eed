//! A gigabyte is broadcast to ten thousand peers that never read and a few that do. What the
//! server holds stays under its cap; those over it end, or are passed over, as the policy of their
//! door says, and every byte that they lose is told; those who read get everything in order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;

use crate::parts::{PAGEWISE, copy_of_us, parse_crowd, plays};
use crate::peers::{Way, connect};
use crate::program::{PATIENCE, Program};
use crate::tools::{Scale, report, scale};
use source::{CAP_BYTES, Door, MESSAGE_BYTES, number_of};

#[path = "broadcast/source.rs"]
mod source;

/// Peers that read.
const READERS: usize = 20;

/// What a peer costs beside its queue: a part of a page at either end of it, since the kernel took
/// something from the front, and its records.
const BASE_BYTES: usize = 8 << 10;

/// How much of it.
struct Plan {
    /// Peers that never read, half of them at each door.
    silent: usize,
    /// Messages to each.
    rounds: usize,
}

impl Plan {
    fn new(silent: usize, total_bytes: usize) -> Self {
        Self { silent, rounds: total_bytes.div_ceil(silent * MESSAGE_BYTES) }
    }

    fn peers(&self) -> usize {
        self.silent + READERS
    }

    /// Bytes that the caps of all allow together.
    fn caps(&self) -> u64 {
        (CAP_BYTES * self.peers()) as u64
    }

    /// Bytes that were for those who never read.
    fn sent(&self) -> u64 {
        (MESSAGE_BYTES * self.rounds * self.silent) as u64
    }
}

/// Numbers with names, as the server prints them.
type Figures = BTreeMap<String, u64>;

/// What one broadcast came to.
struct Outcome {
    /// Of the server, while it broadcast.
    during: Figures,
    /// Of the server, once it had stopped.
    after: Figures,
    /// Of those who had not read before.
    seen: Figures,
}

impl Outcome {
    /// What memory grew by, at the most.
    fn grown(&self) -> u64 {
        self.during["most_resident"] - self.during["base_resident"]
    }
}

#[test]
#[ignore = "tests/faults/run runs it"]
fn peers_that_never_read_cost_no_more_than_their_cap() {
    let plan = match scale() {
        Scale::Whole => Plan::new(10_000, 1 << 30),
        Scale::Part => Plan::new(500, 64 << 20),
    };
    let pagewise = broadcast(&plan, copy_of_us(source::SERVER).envs(PAGEWISE));
    let default = broadcast(&plan, &mut copy_of_us(source::SERVER));
    let mut text = table(&plan, &pagewise);
    let grown = |outcome: &Outcome| outcome.grown() as f64 / plan.caps() as f64;
    write!(
        text,
        "\nThese are with an allocator that gives back what is freed: memory grew by {:.2} of the \
         caps. With the C library's as it comes: by {:.2}.\n",
        grown(&pagewise),
        grown(&default)
    )
    .unwrap();
    report("broadcast", &text);
    for outcome in [&pagewise, &default] {
        expect_queued(&plan, outcome);
        expect_ends(&plan, outcome);
    }
    let most = plan.caps() + (BASE_BYTES * plan.peers()) as u64;
    assert!(pagewise.grown() <= most, "{} of {most} bytes", pagewise.grown());
    assert!(default.grown() <= 2 * plan.caps(), "{} bytes", default.grown());
}

fn broadcast(plan: &Plan, server: &mut Command) -> Outcome {
    let mut server = Program::start(server);
    let addrs = server.hear("listening on", PATIENCE);
    let mut silent = Program::start(&mut copy_of_us(SILENT));
    silent.ask(&format!("{} {addrs}", plan.silent), "all have come", PATIENCE);
    let door = addrs.split(' ').nth(Door::Reading as usize).expect("a door for each kind");
    let addr = door.parse().expect("an address");
    let readers: Vec<_> = (0..READERS).map(|number| read_all(addr, number, plan.rounds)).collect();
    let order = format!("{} {}", plan.peers(), plan.rounds);
    let during = figures(&server.ask(&order, "broadcast:", PATIENCE));
    readers.into_iter().for_each(|reader| reader.join().expect("everything, in order"));
    let after = figures(&server.ask("stop", "stopped:", PATIENCE));
    let seen = figures(&silent.ask("read", "seen:", PATIENCE));
    Outcome { during, after, seen }
}

/// The caps mean something: nearly all that they allow is queued, and more was sent.
#[track_caller]
fn expect_queued(plan: &Plan, outcome: &Outcome) {
    let (cap, queued) = (plan.caps(), outcome.during["queued"]);
    assert!(cap < plan.sent(), "the cap means nothing");
    assert!(queued <= cap && 10 * queued > 8 * cap, "{queued} of {cap} bytes");
}

/// How each ended, and whether every byte is accounted for.
#[track_caller]
fn expect_ends(plan: &Plan, outcome: &Outcome) {
    let Outcome { after, seen, .. } = outcome;
    let half = plan.silent as u64 / 2;
    assert_eq!(after["closing_overflow"], half, "those at the strict door end");
    assert_eq!(after["refusing_shutdown"], half, "those at the other live on until the stop");
    assert_eq!(after["reading_peer"], READERS as u64, "those who read end as they like");
    assert_eq!(after["accepted"], after["stats_written"] + after["stats_unsent"], "{after:?}");
    assert_eq!(after["unsent"], after["stats_unsent"], "on_close tells it");
    assert_eq!(after["refused"], after["stats_refused"], "write tells it");
    assert_eq!(after["stats_overflow"], half);
    assert!(after["most_unsent"] <= CAP_BYTES as u64 && after["least_unsent"] > 0, "{after:?}");
    assert_eq!(seen["resets"], plan.silent as u64, "all who lost something are told");
    let all = (MESSAGE_BYTES * plan.rounds * READERS) as u64;
    assert!(seen["bytes"] + all <= after["stats_written"], "{seen:?} {after:?}");
}

fn table(plan: &Plan, outcome: &Outcome) -> String {
    let Outcome { during, after, seen } = outcome;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut table = format!(
        "{:.0} MiB in messages of {MESSAGE_BYTES} bytes to {} peers that never read, and to \
         {READERS} that do; cap {CAP_BYTES} bytes each\n\n| | MiB |\n|---|--:|\n",
        mib(plan.sent()),
        plan.silent,
    );
    for (name, bytes) in [
        ("the caps together", plan.caps()),
        ("queued at the most", during["queued"]),
        ("memory before", during["base_resident"]),
        ("grown by, at the most", outcome.grown()),
        ("accepted by write", after["accepted"]),
        ("refused by write", after["refused"] * MESSAGE_BYTES as u64),
        ("taken by the kernel", after["stats_written"]),
        ("told as lost by on_close", after["unsent"]),
        ("read afterwards by those who had not read", seen["bytes"]),
    ] {
        writeln!(table, "| {name} | {:.1} |", mib(bytes)).unwrap();
    }
    writeln!(
        table,
        "\nEnded by overflow {}, at the stop {}, after everything was read {}.",
        after["closing_overflow"], after["refusing_shutdown"], after["reading_peer"]
    )
    .unwrap();
    table
}

/// `name=number`, as often as there are.
#[track_caller]
fn figures(line: &str) -> Figures {
    let pairs = line.split_whitespace().map(|word| word.split_once('=').expect("name=number"));
    pairs.map(|(name, number)| (name.to_owned(), number.parse().expect("a number"))).collect()
}

/// One who reads, and goes when it has read all messages in order.
fn read_all(addr: SocketAddr, number: usize, rounds: usize) -> thread::JoinHandle<()> {
    let mut stream = connect(addr, Way::of(number)).expect("a port");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    thread::spawn(move || {
        let mut message = [0; MESSAGE_BYTES];
        for round in 0..rounds {
            stream.read_exact(&mut message).expect("every message");
            assert_eq!(number_of(&message), Some(round as u64));
        }
    })
}

// Those who never read, until all is over.

const SILENT: &str = "broadcast::silent_peers";

#[test]
#[ignore = "a part that a copy of this program plays"]
fn silent_peers() {
    if !plays(SILENT) {
        return;
    }
    let mut lines = io::stdin().lock().lines().map(Result::unwrap);
    let (count, addrs) = parse_crowd(&lines.next().unwrap());
    let come = |number: usize| {
        let way = Way { receive_bytes: Some(2 << 10), ..Way::of(number) };
        let door = [Door::Closing, Door::Refusing][number % 2];
        (door, connect(addrs[door as usize], way).unwrap())
    };
    let peers: Vec<_> = (0..count).map(come).collect();
    println!("all have come");
    lines.next().unwrap();
    let (mut bytes, mut resets) = (0, 0);
    for (door, peer) in peers {
        let (received, is_told) = read_to_end(peer);
        expect_in_order(&received, door);
        bytes += received.len();
        resets += usize::from(is_told);
    }
    println!("seen: bytes={bytes} resets={resets}");
}

/// What the kernel had for it, and whether a reset followed.
fn read_to_end(mut peer: TcpStream) -> (Vec<u8>, bool) {
    let mut received = Vec::new();
    let mut buffer = [0; MESSAGE_BYTES];
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return (received, false),
            Ok(count) => received.extend(&buffer[..count]),
            Err(error) => return (received, error.kind() == io::ErrorKind::ConnectionReset),
        }
    }
}

/// Whole messages in order, but for the last, which may be cut. Where writes are refused there are
/// holes, and each is of whole messages.
fn expect_in_order(received: &[u8], door: Door) {
    let mut next = 0;
    for message in received.chunks_exact(MESSAGE_BYTES) {
        let number = number_of(message).expect("one piece of one message");
        assert!(number == next || number > next && door == Door::Refusing, "{number} for {next}");
        next = number + 1;
    }
}
