//! A program that a fault is done to, or that has a part in one: started, told lines and read line
//! by line with a deadline, asked to end, and never left behind.
//!
//! Most tests want all to go well, and what panics here says what did not. Where it is one case of
//! thousands that goes wrong, to be told with the others, there are [`Program::try_start`],
//! [`Program::line`] and [`Program::end`].

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything that should come soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before a look at something that no event announces.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A child process and what it says; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// The program itself, if the child is what watches over it.
    watched: Option<Pid>,
    /// Where it is told things, until there is no more to tell.
    stdin: Option<ChildStdin>,
    /// What it prints, line by line.
    lines: Receiver<String>,
    /// What it has said on standard error, once it has closed it, if that is kept.
    errors: Option<Receiver<String>>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// What it said on standard error, if that is kept.
    pub(crate) errors: String,
}

impl Program {
    /// Starts it; what it says on standard error is for the reader of the test's own.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The same, without a panic; what it says on standard error is kept for its [`End`].
    pub(crate) fn try_start(command: &mut Command) -> io::Result<Self> {
        Self::spawn(command.env("RUST_BACKTRACE", "0").stderr(Stdio::piped()))
    }

    /// Without the noise of a log.
    fn spawn(command: &mut Command) -> io::Result<Self> {
        let command = command.env("RUST_LOG", "off").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        // Each thread ends with the program.
        let lines = child.stdout.take().map(|stdout| gather(stdout, send_lines));
        let errors = child.stderr.take().map(|stderr| gather(stderr, send_all));
        let lines = lines.expect("it was asked for");
        Ok(Self { child, watched: None, stdin, lines, errors })
    }

    /// Starts a server and gives the address that it prints.
    #[track_caller]
    pub(crate) fn serve(command: &mut Command) -> (Self, SocketAddr) {
        let program = Self::start(command);
        let addr = program.hear("listening on", PATIENCE).parse().expect("an address");
        (program, addr)
    }

    /// The same for a server below another program, such as a tracer, that ends with it.
    #[track_caller]
    pub(crate) fn serve_below(command: &mut Command) -> (Self, SocketAddr) {
        let (mut program, addr) = Self::serve(command);
        let tracer = program.id();
        let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children"));
        let children = children.expect("it runs");
        let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
        program.watched = child.and_then(Pid::from_raw);
        assert!(program.watched.is_some(), "nobody is below it: {children:?}");
        (program, addr)
    }

    /// The number of the child, by which /proc knows it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints, unless it has ended or says nothing for so long.
    pub(crate) fn line(&self, patience: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(patience)
    }

    /// Waits for a line with this in it, and gives what follows: the harness of a copy of this
    /// program prints its own things around it.
    #[track_caller]
    pub(crate) fn hear(&self, marker: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let line = self.line(deadline.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| panic!("waited for {marker:?}: {error}"));
            if let Some((_, rest)) = line.split_once(marker) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Tells it a line.
    #[track_caller]
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is still told things");
        writeln!(stdin, "{line}").expect("it listens");
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, order: &str, marker: &str, patience: Duration) -> String {
        self.tell(order);
        self.hear(marker, patience)
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.watched.unwrap_or_else(|| Pid::from_child(&self.child));
        // One that has ended by itself is there until somebody has waited for it.
        kill_process(pid, signal).expect("it is there");
    }

    /// Waits until it has ended; `None` if it does not.
    pub(crate) fn end(&mut self, patience: Duration) -> Option<End> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                let errors = match &self.errors {
                    Some(errors) => errors.recv_timeout(patience).ok()?,
                    None => String::new(),
                };
                return Some(End { status, errors });
            }
            thread::sleep(LOOK_AGAIN);
        }
        None
    }

    /// Tells it no more, upon which it is to end, and well.
    #[track_caller]
    pub(crate) fn finish(mut self, patience: Duration) {
        drop(self.stdin.take());
        let end = self.end(patience).expect("it ends");
        assert!(end.status.success(), "{}", end.status);
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

/// Reads a pipe on a thread of its own, so that the program never waits for who reads it.
fn gather<P: Read + Send + 'static>(
    pipe: P,
    read: fn(BufReader<P>, &Sender<String>),
) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || read(BufReader::new(pipe), &sender));
    receiver
}

/// Reads on also if nobody listens any more.
fn send_lines(pipe: impl BufRead, sender: &Sender<String>) {
    for line in pipe.lines().map_while(Result::ok) {
        let _ = sender.send(line);
    }
}

fn send_all(mut pipe: impl BufRead, sender: &Sender<String>) {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
}

/// The same command with words in front, such as those that choose a network namespace; there may
/// be none.
pub(crate) fn behind(front: &str, command: &Command) -> Command {
    let mut words = front.split_whitespace();
    let mut changed = match words.next() {
        Some(first) => {
            let mut changed = Command::new(first);
            changed.args(words).arg(command.get_program());
            changed
        }
        None => Command::new(command.get_program()),
    };
    changed.args(command.get_args());
    changed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    changed
}
