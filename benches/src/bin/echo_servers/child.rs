//! The servers as processes: where they run, how long they have run, and their end.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How servers are started.
pub(crate) struct Launcher {
    program: PathBuf,
    /// Commands that put something right and become the program named after them.
    prefix: Vec<&'static str>,
    is_pinned: bool,
}

impl Launcher {
    /// Moves this process to CPU 1, if that can be done for it and the servers alike.
    pub(crate) fn new() -> io::Result<Self> {
        let mut prefix = Vec::new();
        // A server must not outlive a parent that was killed and could not see to it.
        let with_parent = ["setpriv", "--pdeathsig", "KILL"];
        if succeeds(&[&with_parent[..], &["true"]].concat()) {
            prefix.extend(with_parent);
        }
        let cpu_0 = ["taskset", "-c", "0"];
        let own_id = process::id().to_string();
        let is_pinned = thread::available_parallelism()?.get() > 1
            && succeeds(&[&cpu_0[..], &["true"]].concat())
            && succeeds(&["taskset", "-p", "-c", "1", &own_id]);
        if is_pinned {
            prefix.extend(cpu_0);
        }
        Ok(Self { program: env::current_exe()?, prefix, is_pinned })
    }

    /// Whether server and load have a processor each.
    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn start(&self, server: &str) -> io::Result<Child> {
        let mut words = self.prefix.iter().map(Path::new).chain([&*self.program]);
        let first = words.next().expect("the program is one of the words");
        let process = Command::new(first)
            .args(words)
            .args(["serve", server])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut process = Reaped(process);
        let addr = read_addr(&mut process.0)?;
        Ok(Child { process, addr })
    }
}

/// A server that runs. It is killed and waited for when this is dropped.
pub(crate) struct Child {
    process: Reaped,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Child {
    /// The processor time that all its threads have had; `None` where the system does not tell.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.0.id())).ok()? {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(Duration::from_nanos(nanos))
    }
}

struct Reaped(process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first line that the server prints.
fn read_addr(process: &mut process::Child) -> io::Result<SocketAddr> {
    let output = process.stdout.take().expect("standard output is piped");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    line.trim().parse().map_err(|_| io::Error::other("the server did not start"))
}

/// Whether a command is there and content.
fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
