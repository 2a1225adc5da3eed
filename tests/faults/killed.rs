//! A million connections that are killed at random points: while they connect, in the middle of a
//! message, half closed, with answers on the way. Nothing of them stays behind in the server: no
//! descriptor, no slot, no state of the handler, no memory.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::{
    Closed, Conn, ConnId, Context, DeadlineKind, Handler, IdleKind, Limits, ListenOptions, MinRate,
    Peer, Reactor, TcpOptions,
};

use crate::chance::Chance;
use crate::parts::{PAGEWISE, copy_of_us, plays};
use crate::peers::{Way, connect, reset, visit};
use crate::proc::{descriptors, resident_bytes};
use crate::program::{PATIENCE, Program};
use crate::tools::{Scale, report, scale};

/// Bytes of the longest answer: more than the kernel takes.
const BIG: usize = 96 << 10;

/// What resident memory may have grown by since the warm-up.
const GROWTH_LIMIT: f64 = 0.01;

/// What it may have grown by after a short warm-up, at which not all tables have had the most that
/// they will ever hold, nor have all spare buffers: less than 16 bytes for each connection since.
const FEW_BYTES: u64 = 1 << 20;

/// What can be seen of the server from outside and from inside.
#[derive(Clone, Copy, Debug)]
struct Traces {
    /// Descriptors that it has open.
    files: usize,
    /// Slots that are taken.
    slots: usize,
    /// States of the handler that have not been dropped.
    states: usize,
    /// Bytes of memory.
    resident: u64,
}

#[test]
#[ignore = "tests/faults/run runs it"]
fn nothing_is_left_of_killed_connections() {
    // In the warm-up twice as many live at the same time, so that chance does not make the tables
    // grow later. What they leave free between them hides leaks that are smaller.
    let (warm_up, total, crowd) = match scale() {
        Scale::Whole => (50_000, 1_000_000, 1_000),
        Scale::Part => (20_000, 100_000, 100),
    };
    let (server, addr) = Program::serve(copy_of_us(SERVER).envs(PAGEWISE));
    let start = traces(&server, addr);
    let begin = Instant::now();
    let mut killer = Killer::new(addr);
    killer.kill(warm_up, 2 * crowd);
    let warm = traces(&server, addr);
    killer.kill(total - warm_up, crowd);
    let end = traces(&server, addr);
    let rate = total as f64 / begin.elapsed().as_secs_f64();
    let growth = end.resident as f64 / warm.resident as f64 - 1.0;
    report("killed", &table(total, rate, &killer, [start, warm, end], growth));
    for now in [warm, end] {
        assert_eq!((now.files, now.slots, now.states), (start.files, 1, 1), "{start:?} {now:?}");
    }
    let few = if scale() == Scale::Part { FEW_BYTES } else { 0 };
    assert!(
        growth <= GROWTH_LIMIT || end.resident <= warm.resident + few,
        "{growth}: {warm:?} {end:?}"
    );
}

fn table(total: usize, rate: f64, killer: &Killer, seen: [Traces; 3], growth: f64) -> String {
    let mut table = format!(
        "{total} connections killed, {rate:.0} a second\n\n\
         | | descriptors | slots | states | resident, kB |\n|---|--:|--:|--:|--:|\n"
    );
    for (name, traces) in ["at the start", "after the warm-up", "at the end"].iter().zip(seen) {
        let Traces { files, slots, states, resident } = traces;
        writeln!(table, "| {name} | {files} | {slots} | {states} | {} |", resident >> 10).unwrap();
    }
    writeln!(table, "\nMemory has grown by {:.2} % since the warm-up.\n", 100.0 * growth).unwrap();
    table.push_str("| killed | by RST | by closing |\n|---|--:|--:|\n");
    for (moment, [resets, closes]) in Moment::ALL.iter().zip(killer.kills) {
        writeln!(table, "| {moment:?} | {resets} | {closes} |").unwrap();
    }
    table
}

/// What is there once the one who asks is alone. Clients are accepted in order, so those who came
/// before were.
fn traces(server: &Program, addr: SocketAddr) -> Traces {
    let mut stream = visit(addr, PATIENCE).expect("the kernel takes it");
    stream.write_all(b"alone\n").expect("the kernel takes it");
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).expect("all others are gone in the end");
    let (slots, states) = answer.split_at(8);
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap()) as usize;
    let (slots, states) = (number(slots), number(states));
    let (files, resident) = (descriptors(server.id()), resident_bytes(server.id()));
    Traces { files, slots, states, resident }
}

// The killer.

/// What a client was about when it was killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Connecting,
    Silent,
    InMessage,
    AfterMessage,
    Answered,
    HalfClosed,
}

impl Moment {
    const ALL: [Self; 6] = [
        Self::Connecting,
        Self::Silent,
        Self::InMessage,
        Self::AfterMessage,
        Self::Answered,
        Self::HalfClosed,
    ];
}

struct Killer {
    addr: SocketAddr,
    living: Vec<(TcpStream, Moment)>,
    chance: Chance,
    /// For each moment, by RST and by closing.
    kills: [[usize; 2]; Moment::ALL.len()],
    /// How many there were.
    born: usize,
}

impl Killer {
    fn new(addr: SocketAddr) -> Self {
        let kills = Default::default();
        Self { addr, living: Vec::new(), chance: Chance(1), kills, born: 0 }
    }

    /// Connects and kills so many, the last of them all at once.
    fn kill(&mut self, total: usize, crowd: usize) {
        let end = self.born + total;
        while self.born < end {
            if self.living.len() < crowd {
                self.give_birth();
            } else {
                self.step();
            }
        }
        while let Some((stream, moment)) = self.living.pop() {
            self.end(stream, moment);
        }
    }

    fn give_birth(&mut self) {
        let way = Way { never_blocks: true, ..Way::of(self.born) };
        let stream = connect(self.addr, way).expect("a port");
        self.born += 1;
        match self.chance.below(8) {
            0 => self.end(stream, Moment::Connecting),
            _ => self.living.push((stream, Moment::Silent)),
        }
    }

    /// Something happens to one of them. What the server does meanwhile may make it fail.
    fn step(&mut self) {
        let at = self.chance.below(self.living.len());
        let (stream, moment) = &mut self.living[at];
        let mut buffer = [0; 16 << 10];
        match self.chance.below(8) {
            0 => drop(stream.read(&mut buffer)),
            1 | 2 => send(stream, moment, b"the beginning of a mess", Moment::InMessage),
            3 => send(stream, moment, b"age\nand another\n", Moment::AfterMessage),
            4 => send(stream, moment, b"\nbig\n", Moment::Answered),
            5 => {
                *moment = Moment::HalfClosed;
                let _ = stream.shutdown(Shutdown::Write);
            }
            _ => {
                let (stream, moment) = self.living.swap_remove(at);
                self.end(stream, moment);
            }
        }
    }

    fn end(&mut self, stream: TcpStream, moment: Moment) {
        let by_closing = self.chance.below(2);
        self.kills[moment as usize][by_closing] += 1;
        if by_closing == 0 {
            reset(stream);
        }
    }
}

/// Sends, unless it has said that it sends no more.
fn send(stream: &mut TcpStream, moment: &mut Moment, bytes: &[u8], then: Moment) {
    if !matches!(moment, Moment::HalfClosed) {
        *moment = then;
        let _ = stream.write(bytes);
    }
}

// The server.

const SERVER: &str = "killed::server";

/// A server that has a bit of everything that a connection can have: unconsumed input, queued
/// output, limits, timers, a state with memory of its own.
#[test]
#[ignore = "a part that a copy of this program plays"]
fn server() {
    if !plays(SERVER) {
        return;
    }
    let limit = Some(Duration::from_secs(2));
    let rate = Some(MinRate::new(1, Duration::from_secs(2)));
    let limits = Limits::default()
        .all_idle(limit)
        .first_byte_timeout(limit)
        .message_timeout(limit)
        .min_receive_rate(rate)
        .min_send_rate(rate)
        .close_timeout(Duration::from_secs(2));
    let tcp = TcpOptions::default().send_buffer_bytes(Some(16 << 10));
    let options = ListenOptions::default().limits(limits).tcp(tcp);
    let mut reactor = Reactor::new().unwrap();
    let victims = reactor.register(Victims::default());
    let addr = reactor.listen("127.0.0.1:0", victims, options).unwrap();
    println!("listening on {addr}");
    reactor.run().unwrap();
}

#[derive(Default)]
struct Victims {
    /// How many states there are.
    states: Rc<Cell<usize>>,
    /// Who wants to know when all others are gone.
    waiting: Option<ConnId>,
    answer: Vec<u8>,
}

/// Counts itself, and holds memory that would be missed.
struct Victim {
    states: Rc<Cell<usize>>,
    _memory: Vec<u8>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.states.set(self.states.get() - 1);
    }
}

impl Handler for Victims {
    type State = Victim;

    fn on_accept(&mut self, _: &Peer) -> Option<Victim> {
        self.states.set(self.states.get() + 1);
        Some(Victim { states: Rc::clone(&self.states), _memory: vec![1; 200] })
    }

    fn on_open(&mut self, _: &mut Victim, conn: &mut Conn<'_>) {
        conn.set_timer(Duration::from_millis(500), 0);
        conn.set_deadline(DeadlineKind::User, Some(PATIENCE));
    }

    fn on_data(&mut self, _: &mut Victim, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut consumed = 0;
        for line in input.split_inclusive(|&byte| byte == b'\n') {
            match line {
                b"big\n" => {
                    self.answer.resize(BIG, b'x');
                    conn.write(&self.answer);
                }
                b"alone\n" => {
                    conn.set_idle_timeout(IdleKind::All, None).unwrap();
                    self.waiting = Some(conn.id());
                    self.tell_if_alone(&mut conn.context());
                }
                [.., b'\n'] => drop(conn.write(line)),
                _ => break,
            }
            consumed += line.len();
        }
        consumed
    }

    fn on_close(&mut self, victim: Victim, _: Closed, cx: &mut Context<'_>) {
        drop(victim);
        self.tell_if_alone(cx);
    }
}

impl Victims {
    fn tell_if_alone(&mut self, cx: &mut Context<'_>) {
        let slots = cx.stats().connections;
        if slots > 1 {
            return;
        }
        if let Some(mut conn) = self.waiting.take().and_then(|id| cx.conn(id)) {
            let states = self.states.get() as u64;
            conn.write(&[slots.to_be_bytes(), states.to_be_bytes()].concat());
        }
    }
}
