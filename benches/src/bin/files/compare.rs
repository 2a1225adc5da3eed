//! The runs, and the senders as processes.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use waterwheel::{Closed, Conn, ConnectOptions, Context, Handler, Limits, Peer, Reactor};

/// The senders, the one that others are held against first.
const SENDERS: [&str; 2] = ["bare", "waterwheel"];

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["send", sender, addr, path] = words[..] {
        return send(sender, addr.parse()?, Path::new(path));
    }
    let (mut gib, mut rounds) = (4.0, 5);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("gib") => gib = parser.value()?.parse::<f64>()?,
            Long("rounds") => rounds = parser.value()?.parse()?,
            _ => return Err(arg.unexpected().into()),
        }
    }
    compare((gib * (1u64 << 30) as f64) as u64, rounds)
}

/// What one run took.
struct Run {
    cpu: Duration,
    wall: Duration,
    resident_kib: u64,
}

fn compare(length: u64, rounds: usize) -> Result<(), Box<dyn Error>> {
    let file = Scratch::new(length)?;
    let mut ratios = Vec::new();
    // The first to read the file would pay for bringing it into the kernel's cache.
    run(SENDERS[0], &file.0, length)?;
    println!("{length} bytes; processor time of the sender, time, largest resident memory");
    for round in 0..rounds {
        let mut costs = Vec::new();
        // Who comes first changes from round to round.
        for turn in 0..SENDERS.len() {
            let which = (round + turn) % SENDERS.len();
            let run = run(SENDERS[which], &file.0, length)?;
            let name = SENDERS[which];
            let nanos = run.cpu.as_secs_f64() * 1e9 / length as f64;
            println!(
                "{name:10}  {:7.3} s, {nanos:.4} ns a byte  {:7.3} s  {:6} KiB",
                run.cpu.as_secs_f64(),
                run.wall.as_secs_f64(),
                run.resident_kib
            );
            costs.push((which, run.cpu.as_secs_f64()));
        }
        costs.sort_by_key(|(which, _)| *which);
        ratios.push(costs[1].1 / costs[0].1);
    }
    ratios.sort_by(f64::total_cmp);
    println!("waterwheel / bare, processor time: median {:.3}", ratios[ratios.len() / 2]);
    println!("of {rounds}: {ratios:.3?}");
    Ok(())
}

/// One run: a sender as a process, and a sink here.
fn run(sender: &str, path: &Path, length: u64) -> Result<Run, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?.to_string();
    let start = Instant::now();
    let child = Command::new(std::env::current_exe()?)
        .args(["send", sender, &addr])
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut child = Reaped(child);
    let (stream, _) = listener.accept()?;
    let received = sink(&stream)?;
    let wall = start.elapsed();
    drop(stream);
    if received != length {
        return Err(format!("{received} bytes of {length} have come").into());
    }
    let output = child.0.stdout.take().ok_or("standard output is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let (nanos, kib) = line.trim().split_once(' ').ok_or("the sender says nothing")?;
    Ok(Run { cpu: Duration::from_nanos(nanos.parse()?), wall, resident_kib: kib.parse()? })
}

/// Takes everything; the kernel throws it away without copying it.
fn sink(stream: &TcpStream) -> io::Result<u64> {
    let (mut buffer, mut received) = (vec![0; 1 << 20], 0);
    loop {
        match recv(stream, &mut buffer[..], RecvFlags::TRUNC)?.1 {
            0 => return Ok(received),
            count => received += count as u64,
        }
    }
}

/// A child that is killed and waited for when this is dropped.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(length: u64) -> io::Result<Self> {
        let name = format!("waterwheel-files-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        File::create(&path)?.set_len(length)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left takes no room.
        let _ = fs::remove_file(&self.0);
    }
}

/// What the child does.
fn send(sender: &str, addr: SocketAddr, path: &Path) -> Result<(), Box<dyn Error>> {
    let file = File::open(path)?;
    match sender {
        "bare" => send_bare(addr, &file)?,
        _ => send_with_waterwheel(addr, file)?,
    }
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().next().ok_or("no processor time")?.to_owned();
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let resident = line.and_then(|line| line.split_whitespace().next()).ok_or("no memory")?;
    println!("{nanos} {resident}");
    Ok(())
}

fn send_bare(addr: SocketAddr, file: &File) -> io::Result<()> {
    let stream = OwnedFd::from(TcpStream::connect(addr)?);
    let (length, mut offset) = (file.metadata()?.len(), 0);
    while offset < length {
        let most = usize::try_from(length - offset).unwrap_or(usize::MAX);
        rustix::fs::sendfile(&stream, file, Some(&mut offset), most)?;
    }
    Ok(())
}

struct Sender(Option<File>);

impl Handler for Sender {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        let file = self.0.take().expect("it connects once");
        conn.send_file(file, ..).expect("the file is there");
        conn.shutdown_write();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, _: (), closed: Closed, cx: &mut Context<'_>) {
        assert_eq!(closed.unsent_bytes, 0, "{}", closed.reason);
        cx.stop();
    }
}

fn send_with_waterwheel(addr: SocketAddr, file: File) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let sender = reactor.register(Sender(Some(file)));
    let options = ConnectOptions::default().limits(Limits::default());
    reactor.connect(addr, sender, (), &options);
    reactor.run()
}
