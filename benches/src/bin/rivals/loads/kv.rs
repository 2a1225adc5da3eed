//! redis-benchmark, and a look at what it has left behind.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use super::{Load, ask, connect};

/// Keys that are set and got.
const KEYS: usize = 1_000;

struct Benchmark {
    addr: SocketAddr,
    lanes: usize,
    depth: usize,
}

pub(crate) fn start(addr: SocketAddr, lanes: usize) -> io::Result<Box<dyn Load>> {
    Ok(Box::new(Benchmark { addr, lanes, depth: 1 }))
}

pub(crate) fn start_pipelined(addr: SocketAddr, lanes: usize) -> io::Result<Box<dyn Load>> {
    Ok(Box::new(Benchmark { addr, lanes, depth: 16 }))
}

impl Load for Benchmark {
    /// Half of them are `SET`, then half are `GET`.
    fn run(&mut self, operations: usize) -> io::Result<()> {
        let output = Command::new("redis-benchmark")
            .args(["-h", "127.0.0.1", "-t", "set,get", "-q"])
            .args(["-p", &self.addr.port().to_string()])
            .args(["-c", &self.lanes.to_string(), "-P", &self.depth.to_string()])
            .args(["-n", &(operations / 2).to_string(), "-r", &KEYS.to_string()])
            .output()
            .map_err(|error| io::Error::other(format!("cannot start redis-benchmark: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || text.contains("rror") || !output.stderr.is_empty() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("redis-benchmark: {text} {errors}")));
        }
        self.look(operations / 2)
    }

    /// Each is a process of its own, which cannot be told to pause.
    fn run_apart(&mut self, operations: usize) -> io::Result<()> {
        self.run(operations)
    }
}

impl Benchmark {
    /// Values of three bytes under keys of the range, and nothing else.
    fn look(&self, sets: usize) -> io::Result<()> {
        let mut stream = connect(self.addr)?;
        if sets > 20 * KEYS {
            // So many sets leave out no key but once in ten thousand runs.
            let answer = format!(":{KEYS}\r\n");
            ask(&stream, b"*1\r\n$6\r\nDBSIZE\r\n", answer.as_bytes())?;
            let (mut first, key) = ([0; 9], "key:000000000007");
            write!(stream, "*2\r\n$3\r\nGET\r\n$16\r\n{key}\r\n")?;
            stream.read_exact(&mut first)?;
            if !first.starts_with(b"$3\r\n") || !first.ends_with(b"\r\n") {
                return Err(io::Error::other(format!("{key} is {}", first.escape_ascii())));
            }
        }
        Ok(())
    }
}
