//! A million idle connections in one process: what each costs, that each still answers, and that
//! each expires.
//!
//! Not every machine lets a process open so many files, so it happens in user-mode Linux. The
//! server is one process with one reactor; the clients are further processes, each with source
//! addresses of its own. Nothing is told here about speed: the machine has one slow processor.

mod holder;
mod server;

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use crate::parts::{copy_as, part};
use crate::proc::bytes_after;
use crate::program::Program;
use crate::tools::{self, Scale};
use crate::uml::{self, Machine};
use server::{LONG, SHORT};

const TEST: &str = "million::a_million_idle_connections_cost_little_and_still_answer";

/// Client processes.
const HOLDERS: u64 = 2;

/// Tells the inside how many connections there is memory for.
const CONNECTIONS: &str = "WATERWHEEL_CONNECTIONS";

/// What both ends of a connection cost in all, the kernel's sockets and files above all.
const PAIR_BYTES: u64 = 9_000;

/// What the machine needs besides.
const MACHINE_BYTES: u64 = 1 << 30;

/// Memory that is left to others.
const SPARE_BYTES: u64 = 2 << 30;

/// Most that a connection that is idle may cost the server, in user memory.
const MAX_BYTES_EACH: u64 = 200;

/// Longest wait for what is done in a few turns, of which one may move a million timers.
const PATIENCE: Duration = Duration::from_secs(120);

/// What many connections want of a kernel.
const SETUP: &str = "
sysctl -q -w net.ipv4.tcp_max_syn_backlog=65535 net.core.netdev_max_backlog=1000000
sysctl -q -w net.ipv4.tcp_max_orphans=1000000
";

#[test]
#[ignore = "tests/faults/run runs it"]
fn a_million_idle_connections_cost_little_and_still_answer() {
    match part() {
        Some(part) => return play(&part),
        None if uml::is_inside() => return connect_ask_and_expire(),
        None => {}
    }
    let (wanted, connections) = (wanted(), affordable());
    assert!(connections > 0, "there is too little memory");
    if connections < wanted {
        println!("there is memory for {connections} connections only, not for {wanted}");
    }
    let memory = (MACHINE_BYTES + connections * PAIR_BYTES) >> 20;
    let machine = Machine::new(TEST, &format!("{memory}M"), deadline())
        .setup(SETUP)
        .setup(&format!("export {CONNECTIONS}={connections}\n"));
    tools::report("million", &uml::table("A million idle connections", &machine.run()));
}

fn play(part: &str) {
    match part.strip_prefix("server ") {
        Some(connections) => server::serve(number(connections) as usize),
        None => holder::hold(part),
    }
}

fn deadline() -> Duration {
    match tools::scale() {
        Scale::Part => Duration::from_secs(240),
        Scale::Whole => LONG - PATIENCE,
    }
}

fn wanted() -> u64 {
    match tools::scale() {
        Scale::Part => 20_000,
        Scale::Whole => 1_000_000,
    }
}

/// As many as are wanted, or as there is memory for, in whole numbers for each client process.
fn affordable() -> u64 {
    let free = bytes_after(&fs::read_to_string("/proc/meminfo").expect("proc"), "MemAvailable:");
    let most = free.saturating_sub(MACHINE_BYTES + SPARE_BYTES) / PAIR_BYTES;
    wanted().min(most / HOLDERS * HOLDERS)
}

fn connect_ask_and_expire() {
    let connections = number(&std::env::var(CONNECTIONS).expect("the host has said"));
    let mut scene = Scene::start(connections);
    let held = format!("{connections} open, {connections} accepted, 0 refused, 0 closed, 0 idle");
    let begin = scene.memory();
    let ((), connecting) = timed(|| scene.connect());
    assert_eq!(scene.stats("count"), held);
    let idle = scene.memory();
    let (answered, asking) = timed(|| scene.all("ask", "answered:"));
    assert_eq!(answered, connections, "right answers");
    assert_eq!(scene.stats("count"), held);
    let asked = scene.memory();
    let start = Instant::now();
    assert_eq!(scene.stats("expire"), held);
    let limited = scene.memory();
    assert_eq!(scene.all("see them end", "ended:"), connections, "good ends");
    let expiring = start.elapsed();
    scene.expect_empty();
    let end = scene.memory();
    scene.finish();

    println!("\n| what | figure |\n|---|---|");
    println!("| connections in one process, all at once | {connections} |");
    println!("| an idle limit armed for each | {LONG:?} |");
    println!("| answered one echo each, rightly | {answered} |");
    println!("| lost, refused or wrong | 0 |");
    println!("| then given a limit of {SHORT:?} each, and ended by it with FIN | {connections} |");
    println!(
        "| time to connect, to ask, to expire | {connecting:.0?}, {asking:.0?}, {expiring:.0?} |"
    );
    print_memory(connections, &begin, [&idle, &asked, &limited, &end]);
}

fn timed<T>(task: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = task();
    (result, start.elapsed())
}

/// What the connections cost the server, as the growth of its memory since it had none.
fn print_memory(connections: u64, begin: &Memory, stages: [&Memory; 4]) {
    println!("| the server's memory before the first | {begin} |");
    let names = ["all of them idle", "all have answered", "a limit of its own each", "all ended"];
    let each = |now: u64, then: u64| now.saturating_sub(then).div_ceil(connections);
    for (name, stage) in names.iter().zip(stages) {
        let [anon, rss] = [each(stage.anon, begin.anon), each(stage.rss, begin.rss)];
        println!("| the server's memory, {name} | {stage}: {anon} and {rss} bytes each |");
    }
    let [idle, asked, ..] = stages.map(|stage| each(stage.anon, begin.anon));
    assert!(idle.max(asked) <= MAX_BYTES_EACH, "{idle} and {asked} bytes a connection");
}

/// A process's memory.
struct Memory {
    /// All that is resident, in bytes.
    rss: u64,
    /// Of it, what is no file: the heap and the stacks.
    anon: u64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("proc");
        Self { rss: bytes_after(&status, "VmRSS:"), anon: bytes_after(&status, "RssAnon:") }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RssAnon {} kB, VmRSS {} kB", self.anon >> 10, self.rss >> 10)
    }
}

/// The server and its clients.
struct Scene {
    server: Program,
    holders: Vec<Program>,
    connections: u64,
}

impl Scene {
    fn start(connections: u64) -> Self {
        let server = Program::start(&mut copy_as(TEST, &format!("server {connections}")));
        server.hear("ready", PATIENCE);
        Self { server, holders: Vec::new(), connections }
    }

    fn connect(&mut self) {
        let share = self.connections / HOLDERS;
        let copy = |number| copy_as(TEST, &format!("{number} {share}"));
        self.holders = (0..HOLDERS).map(|number| Program::start(&mut copy(number))).collect();
        let held = self.holders.iter().map(|holder| number(&holder.hear("held:", deadline())));
        assert_eq!(held.sum::<u64>(), self.connections);
        // What the clients hold may still wait for the server to accept it.
        let all = format!("{} accepted", self.connections);
        self.until_server_says(&all);
    }

    fn stats(&mut self, order: &str) -> String {
        self.server.ask(order, "count:", PATIENCE)
    }

    fn memory(&self) -> Memory {
        Memory::of(self.server.id())
    }

    /// Tells all clients the same, and adds up what they answer.
    fn all(&mut self, order: &str, beginning: &str) -> u64 {
        self.holders.iter_mut().for_each(|holder| holder.tell(order));
        let answers = self.holders.iter().map(|holder| holder.hear(beginning, deadline()));
        answers.map(|answer| number(&answer)).sum()
    }

    /// The last of the connections have been closed here, and the server is about to learn of it.
    fn expect_empty(&mut self) {
        let all = self.connections;
        self.until_server_says(&format!(
            "0 open, {all} accepted, 0 refused, {all} closed, {all} idle"
        ));
    }

    fn until_server_says(&mut self, what: &str) {
        let start = Instant::now();
        loop {
            let stats = self.stats("count");
            if stats.contains(what) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{stats}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn finish(self) {
        self.holders.into_iter().for_each(|holder| holder.finish(PATIENCE));
        self.server.finish(PATIENCE);
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
