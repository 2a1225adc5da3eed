//! The other side of what disturbs the server: a process of its own.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::SockRef;

use crate::children::say;
use crate::order::{FILE_BYTES, MESSAGE_BYTES, Order};

/// What is done to the server.
pub(crate) struct Disturbance {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is counted of it, each second.
    pub(crate) unit: &'static str,
    /// So many of what it counts are one of the unit.
    pub(crate) scale: f64,
    /// What is counted is no rate.
    pub(crate) is_once: bool,
    /// Makes ready, calls the second argument, and goes on until the process is killed.
    run: Disturb,
}

type Disturb = fn(SocketAddr, &dyn Fn()) -> Result<(), Box<dyn Error>>;

/// In the order of the table.
pub(crate) const DISTURBANCES: &[Disturbance] = &[
    Disturbance {
        name: "none",
        title: "nothing",
        unit: "",
        scale: 1.0,
        is_once: false,
        run: nothing,
    },
    Disturbance {
        name: "flood",
        title: "one flood",
        unit: "MB/s",
        scale: 1e6,
        is_once: false,
        run: |addr, ready| flood(addr, 1, ready),
    },
    Disturbance {
        name: "floods",
        title: "100 floods",
        unit: "MB/s",
        scale: 1e6,
        is_once: false,
        run: |addr, ready| flood(addr, 100, ready),
    },
    Disturbance {
        name: "storm",
        title: "20,000 connects a second",
        unit: "/s",
        scale: 1.0,
        is_once: false,
        run: storm,
    },
    Disturbance {
        name: "broadcast",
        title: "4 broadcasts a second to 10,000",
        unit: "sends/s",
        scale: 1.0,
        is_once: false,
        run: broadcast,
    },
    Disturbance {
        name: "timers",
        title: "a million timers due at once",
        unit: "ms, the last late",
        scale: 1.0,
        is_once: true,
        run: timers,
    },
    Disturbance {
        name: "file",
        title: "a file without end",
        unit: "MB/s",
        scale: 1e6,
        is_once: false,
        run: file,
    },
    Disturbance {
        name: "udp",
        title: "a flood of datagrams",
        unit: "sent/s",
        scale: 1.0,
        is_once: false,
        run: datagrams,
    },
];

/// What has been done so far.
static DONE: AtomicU64 = AtomicU64::new(0);

fn count(done: usize) {
    DONE.fetch_add(done as u64, Ordering::Relaxed);
}

/// Disturbs a server until this process is killed. Says "ready", and answers each line with what
/// has been done so far.
pub(crate) fn run(name: &str, addr: SocketAddr) -> Result<(), Box<dyn Error>> {
    let disturbance = DISTURBANCES.iter().find(|disturbance| disturbance.name == name);
    let disturbance = disturbance.ok_or("there is no such disturbance")?;
    give_way()?;
    thread::spawn(|| {
        for line in io::stdin().lines() {
            if line.is_err() || say(&DONE.load(Ordering::Relaxed).to_string()).is_err() {
                break;
            }
        }
        process::exit(0); // who has started this one is gone
    });
    (disturbance.run)(addr, &|| say("ready").unwrap_or_default())
}

/// Moves this process away from the probe: to a third processor, or else to that of the server,
/// where it gets only what the server leaves.
fn give_way() -> io::Result<()> {
    let set_to = |processor| {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set)
    };
    if set_to(2).is_ok() || set_to(0).is_err() {
        return Ok(());
    }
    debug_assert!(sched_getaffinity(None).is_ok_and(|set| set.is_set(0)));
    let id = process::id().to_string();
    let mut command = Command::new("chrt");
    command.args(["--idle", "--pid", "0", &id]).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(io::Error::other("no `chrt` that gives this process the idle priority")),
    }
}

fn nothing(_: SocketAddr, ready: &dyn Fn()) -> Result<(), Box<dyn Error>> {
    ready();
    loop {
        thread::park();
    }
}

/// Connections that send as fast as the server takes it, and read what comes back.
fn flood(addr: SocketAddr, floods: usize, ready: &dyn Fn()) -> Result<(), Box<dyn Error>> {
    let mut streams = Vec::new();
    for _ in 0..floods {
        let stream = TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    ready();
    let zeros = vec![0; 64 << 10];
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut moved = 0;
        for stream in &mut streams {
            moved += try_io(stream.write(&zeros))?;
            let read = try_io(discard(stream, &mut buffer))?;
            moved += read;
            count(read);
        }
        if moved == 0 {
            thread::yield_now();
        }
    }
}

fn try_io(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// Takes what a socket has, without looking at it.
fn discard(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (_, count) = recv(stream, buffer, RecvFlags::TRUNC)?;
    if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
}

/// Connections that send a message and go when it is back.
fn storm(addr: SocketAddr, ready: &dyn Fn()) -> Result<(), Box<dyn Error>> {
    const AT_ONCE: usize = 64;
    const PERIOD: Duration = Duration::from_micros(3_200);
    ready();
    let mut next = Instant::now();
    loop {
        let mut streams = Vec::new();
        for _ in 0..AT_ONCE {
            let mut stream = TcpStream::connect(addr)?;
            // The close then is a reset, which leaves no port in TIME_WAIT.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            stream.write_all(&Order::Echo.message())?;
            streams.push(stream);
        }
        for mut stream in streams {
            stream.read_exact(&mut [0; MESSAGE_BYTES])?;
        }
        count(AT_ONCE);
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next = next.max(Instant::now() - PERIOD); // what cannot be made up for is given up
    }
}

/// Members of a broadcast, and one more connection that has it sent.
fn broadcast(addr: SocketAddr, ready: &dyn Fn()) -> Result<(), Box<dyn Error>> {
    const MEMBERS: usize = 10_000;
    const PERIOD: Duration = Duration::from_millis(250);
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        let mut member = TcpStream::connect(addr)?;
        order(&mut member, Order::Join)?;
        members.push(member);
    }
    let mut speaker = TcpStream::connect(addr)?;
    ready();
    loop {
        let began = Instant::now();
        order(&mut speaker, Order::Publish)?;
        for member in &mut members {
            member.read_exact(&mut [0; MESSAGE_BYTES])?;
        }
        count(MEMBERS);
        thread::sleep(PERIOD.saturating_sub(began.elapsed()));
    }
}

/// Sends an order that is echoed when it has been carried out.
fn order(stream: &mut TcpStream, order: Order) -> io::Result<()> {
    stream.write_all(&order.message())?;
    stream.read_exact(&mut [0; MESSAGE_BYTES])
}

/// Timers of the server's, set in pieces, which are due shortly after this process is ready.
/// What is counted is how late the last has fired, in milliseconds.
fn timers(addr: SocketAddr, ready: &dyn Fn()) -> Result<(), Box<dyn Error>> {
    const PIECES: u32 = 100;
    const PIECE: u32 = 10_000;
    const SETTING: Duration = Duration::from_secs(4);
    const QUIET: Duration = Duration::from_millis(300);
    let mut stream = TcpStream::connect(addr)?;
    let due = Instant::now() + SETTING;
    for _ in 0..PIECES {
        let wait = due.saturating_duration_since(Instant::now());
        order(&mut stream, Order::Timers { count: PIECE, wait })?;
    }
    let left = due.saturating_duration_since(Instant::now());
    thread::sleep(left.checked_sub(QUIET).ok_or("setting the timers has taken too long")?);
    ready();
    stream.read_exact(&mut [0; MESSAGE_BYTES])?;
    count(due.elapsed().as_millis() as usize);
    nothing(addr, &|| {})
}

/// A peer that takes a file as fast as it comes, and asks for it again.
fn file(addr: SocketAddr, ready: &dyn Fn()) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(addr)?;
    let mut buffer = vec![0; 1 << 20];
    ready();
    loop {
        stream.write_all(&Order::File.message())?;
        let mut left = FILE_BYTES as usize;
        while left > 0 {
            let room = left.min(buffer.len());
            let taken = discard(&stream, &mut buffer[..room])?;
            left -= taken;
            count(taken);
        }
    }
}

/// Datagrams that the server drops.
fn datagrams(addr: SocketAddr, ready: &dyn Fn()) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind((addr.ip(), 0))?;
    ready();
    loop {
        socket.send_to(&Order::Echo.message(), addr)?;
        count(1);
    }
}
