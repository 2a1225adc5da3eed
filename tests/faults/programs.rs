//! Programs that a fault is done to: started, read line by line, looked at through /proc, and
//! never left behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Longest wait for anything that should come soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// For the environment of a program whose memory is measured: what the C library's allocator keeps
/// of the memory that is freed follows chance. With this it maps what is a page or more, and gives
/// back what it can, so that what is resident is what is held.
pub(crate) const PAGEWISE: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "4096"), ("MALLOC_TRIM_THRESHOLD_", "0")];

/// Names the part that a copy of this test program plays.
const PART: &str = "WATERWHEEL_FAULTS_PLAYS";

/// A running program; dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    /// The program itself, if the child is what watches over it.
    watched: Option<Pid>,
    stdin: ChildStdin,
    /// What it prints, line by line.
    lines: Receiver<String>,
}

impl Program {
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.env("RUST_LOG", "off").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        // It ends with the program.
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, watched: None, stdin, lines }
    }

    /// Starts a server and gives the address that it prints.
    #[track_caller]
    pub(crate) fn serve(command: &mut Command) -> (Self, SocketAddr) {
        let mut program = Self::start(command);
        let addr = program.expect("listening on ").parse().expect("an address");
        (program, addr)
    }

    /// The same for a server below another program, such as a tracer, that ends with it.
    #[track_caller]
    pub(crate) fn serve_below(command: &mut Command) -> (Self, SocketAddr) {
        let (mut program, addr) = Self::serve(command);
        let tracer = program.child.id();
        let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children"));
        let children = children.expect("it runs");
        let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
        program.watched = child.and_then(Pid::from_raw);
        assert!(program.watched.is_some(), "nobody is below it: {children:?}");
        (program, addr)
    }

    /// Waits for a line with this in it, and gives what follows: the harness of a copy of this
    /// program prints its own things around it.
    #[track_caller]
    pub(crate) fn expect(&mut self, marker: &str) -> String {
        self.expect_within(marker, PATIENCE)
    }

    /// The same with another patience, which counts anew for each line.
    #[track_caller]
    pub(crate) fn expect_within(&mut self, marker: &str, patience: Duration) -> String {
        loop {
            let line = self.lines.recv_timeout(patience);
            let line = line.unwrap_or_else(|error| panic!("no {marker:?}: {error}"));
            if let Some((_, rest)) = line.split_once(marker) {
                return rest.to_owned();
            }
        }
    }

    /// Says a line to it.
    #[track_caller]
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it listens");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.watched.unwrap_or_else(|| Pid::from_child(&self.child));
        kill_process(pid, signal).expect("it runs");
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(self.child.id())
    }

    pub(crate) fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(path).expect("it runs").count()
    }

    /// Time that its threads have spent on a processor.
    pub(crate) fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/task", self.child.id());
        let tasks = fs::read_dir(path).expect("it runs").map_while(Result::ok);
        let nanos = tasks.map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = text.split_whitespace().next();
            first.and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, perhaps.
        let _ = match self.watched {
            Some(watched) => kill_process(watched, Signal::KILL).map_err(Into::into),
            None => self.child.kill(),
        };
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, in bytes, all of it: none may hide a leak. It is counted page by
/// page, since the figure in `status` is allowed to lag behind by hundreds of kilobytes.
pub(crate) fn resident_bytes(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("its size");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kilobytes << 10
}

/// A copy of this test program that runs one test only, which finds that it [`plays`].
pub(crate) fn copy_of_us(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args([test, "--exact", "--include-ignored", "--nocapture"]).env(PART, test);
    command
}

/// Whether this process is a copy that is to play the part of this test. It then ends with the
/// one that started it.
pub(crate) fn plays(test: &str) -> bool {
    let plays = std::env::var(PART).is_ok_and(|part| part == test);
    if plays {
        set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal");
    }
    plays
}
