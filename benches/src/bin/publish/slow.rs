//! The second table: members that never read, and how late the others are.

use std::error::Error;
use std::fs;
use std::thread;

use waterwheel::http::{self, Router, Server};
use waterwheel::ws::{self, Endpoint, Frame, Message, Options, Room, Slow, Socket};
use waterwheel::{Context, ListenOptions, Reactor, TcpOptions};

use crate::children::{Process, say};
use crate::members::{BUFFER_BYTES, now};

const MEMBERS: usize = 1_000;

const SLEEPERS: usize = 100;

/// What the room queues for a member, in bytes: little, so that those that never read are slow
/// soon.
const MAX_QUEUED_BYTES: usize = 8 << 10;

/// Messages on their way to the member that tells of each.
const WINDOW: usize = 4;

/// Publishes again whenever a message has arrived.
struct Feed {
    room: Room,
    published: u64,
    missed: u64,
}

impl Feed {
    fn publish(&mut self, cx: &mut Context<'_>) {
        let mut message = [7; 64];
        message[..8].copy_from_slice(&now().to_le_bytes());
        let published = self.room.publish(cx, &Frame::binary(&message), Slow::Skip);
        self.published += 1;
        self.missed += published.missed as u64;
    }
}

impl ws::Handler for Feed {
    type State = ();

    fn on_open(&mut self, (): &mut (), socket: &mut Socket<'_>) {
        self.room.join(socket);
        if self.room.len() == MEMBERS {
            for _ in 0..WINDOW {
                self.publish(&mut socket.context());
            }
        }
    }

    fn on_message(&mut self, (): &mut (), socket: &mut Socket<'_>, _: Message<'_>) {
        self.publish(&mut socket.context());
    }
}

/// Serves, and answers each line with the messages so far, those that members have missed, and the
/// most memory that was in use.
pub(crate) fn feed() -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::new(Options::default().ping_interval(None));
    let routes = Router::new().get("/", move |_: &mut Feed, req, res| {
        endpoint.upgrade(req, res, ());
    });
    let mut reactor = Reactor::new()?;
    let feed = Feed { room: Room::new(MAX_QUEUED_BYTES), published: 0, missed: 0 };
    let web = reactor.register(Server::new(feed, routes));
    let tcp = TcpOptions::default().send_buffer_bytes(Some(BUFFER_BYTES));
    let options = ListenOptions::default().limits(http::limits()).tcp(tcp);
    say(&reactor.listen("127.0.0.1:0", web, options)?.to_string())?;
    let remote = reactor.remote();
    thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let told = remote.with(web, |web: &mut Server<Feed>, _: &mut Context<'_>| {
                let Feed { published, missed, .. } = *web.app();
                let told = say(&format!("{published} {missed} {}", peak_memory()));
                told.expect("who has asked reads the answer");
            });
            if line.is_err() || told.is_err() {
                break;
            }
        }
    });
    Ok(reactor.run()?)
}

/// The most that this process has had resident, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What one run has told.
struct Told {
    messages: u64,
    missed: u64,
    memory: u64,
    /// In nanoseconds, of each second.
    p50: Vec<u64>,
    p99: Vec<u64>,
}

fn run(sleepers: usize, seconds: usize) -> Result<Told, Box<dyn Error>> {
    let mut server = Process::start(&["feed"])?;
    let addr = server.line()?;
    let (count, sleeping) = (MEMBERS.to_string(), sleepers.to_string());
    let mut members = Process::start(&["members", &addr, &count, &sleeping])?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for second in 0..=seconds {
        let line = numbers(&members.line()?)?;
        // The first second is that of the handshakes.
        if second > 0 {
            p50.push(line[1]);
            p99.push(line[2]);
        }
    }
    let told = numbers(&server.ask("so far")?)?;
    Ok(Told { messages: told[0], missed: told[1], memory: told[2], p50, p99 })
}

fn numbers(line: &str) -> Result<Vec<u64>, Box<dyn Error>> {
    Ok(line.split(' ').map(str::parse).collect::<Result<_, _>>()?)
}

pub(crate) fn compare(seconds: f64) -> Result<(), Box<dyn Error>> {
    let seconds = (seconds.ceil() as usize).max(1);
    println!("{MEMBERS} members, publish as fast as they read, {seconds} s:");
    println!("  never read   messages     missed   p50 us   p99 us   memory");
    let mut p99s = Vec::new();
    for sleepers in [0, SLEEPERS] {
        let told = run(sleepers, seconds)?;
        let (p50, p99) = (median(told.p50), median(told.p99));
        let Told { messages, missed, memory, .. } = told;
        println!(
            "  {sleepers:10} {messages:10} {missed:10} {:8} {:8} {memory:7} KiB",
            p50 / 1_000,
            p99 / 1_000
        );
        if sleepers > 0 && missed == 0 {
            return Err("no member was slow: the run was too short to tell anything".into());
        }
        p99s.push(p99 as f64);
    }
    println!("  p99 with them beside without: {:.2}", p99s[1] / p99s[0]);
    Ok(())
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}
