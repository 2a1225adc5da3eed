//! A program of the examples as a process: started, read with a deadline, asked to end, and never
//! left behind.
#![allow(dead_code)] // Each test file uses a part of it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Longest wait for anything that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Process {
    child: Child,
    /// What it prints, line by line.
    lines: Receiver<String>,
    /// What it has said on standard error, once it has ended.
    errors: Receiver<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    /// What it printed that nobody had read.
    pub(crate) output: Vec<String>,
    pub(crate) errors: String,
}

impl Process {
    #[track_caller]
    pub(crate) fn start(name: &str, args: &[&str]) -> Self {
        Self::start_by(&[], name, args)
    }

    /// Starts it by a command that becomes it.
    #[track_caller]
    pub(crate) fn start_by(by: &[&str], name: &str, args: &[&str]) -> Self {
        let path = path_of(name);
        let mut words = by.iter().map(OsStr::new).chain([path.as_os_str()]);
        let first = words.next().expect("the program is one of the words");
        Self::spawn(Command::new(first).args(words).args(args).env("RUST_LOG", "off"))
    }

    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command.stdin(Stdio::null()))
    }

    /// Starts one that reads what a person types: gives that end too.
    #[track_caller]
    pub(crate) fn spawn_with_input(command: &mut Command) -> (Self, ChildStdin) {
        let mut process = Self::spawn_with(command.stdin(Stdio::piped()));
        let input = process.child.stdin.take().unwrap();
        (process, input)
    }

    #[track_caller]
    fn spawn_with(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
                let path = command.get_program();
                panic!(
                    "{path:?}: {error}; `cargo test` at the root builds it, `cargo test -p` may not"
                )
            });
        let stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (line_sender, lines) = channel();
        let (error_sender, errors) = channel();
        // Each thread ends with the process.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = line_sender.send(line);
            }
        });
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = error_sender.send(text);
        });
        Self { child, lines, errors }
    }

    /// Starts a server on a port of the system's choice; gives its address too.
    #[track_caller]
    pub(crate) fn serve(name: &str, args: &[&str]) -> (Self, SocketAddr) {
        Self::serve_by(&[], name, args)
    }

    /// The same by a command that becomes it.
    #[track_caller]
    pub(crate) fn serve_by(by: &[&str], name: &str, args: &[&str]) -> (Self, SocketAddr) {
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        Self::start_by(by, name, &args).listening()
    }

    /// Gives the address too that it says it listens on.
    #[track_caller]
    pub(crate) fn listening(self) -> (Self, SocketAddr) {
        let line = self.line();
        let addr = line.strip_prefix("listening on ").expect(&line);
        let addr = addr.parse().expect(&line);
        (self, addr)
    }

    /// The next line that it prints.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => panic!("no line: {error}; {:?}", self.errors.try_recv()),
        }
    }

    /// The next line that it prints, if there is one by then.
    pub(crate) fn line_within(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as an operator would.
    #[track_caller]
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn end(mut self) -> End {
        let mut output = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => output.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
            }
        }
        let errors = self.errors.recv_timeout(PATIENCE).expect("it does not end");
        let code = self.child.wait().unwrap().code();
        End { code, output, errors }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file of a program. An absolute path, such as `CARGO_BIN_EXE_NAME`, is the file already.
/// Programs of other packages, and the examples of the library, are beside the directory of the
/// test programs: `cargo test` at the root builds them all before the first test runs.
pub(crate) fn path_of(name: &str) -> PathBuf {
    if Path::new(name).is_absolute() {
        return name.into();
    }
    let own = std::env::current_exe().unwrap();
    let target = own.parent().and_then(|deps| deps.parent()).unwrap();
    let program = target.join(name);
    if program.is_file() { program } else { target.join("examples").join(name) }
}
