//! A program under a fault: started, read with a deadline, asked to end, and never left behind.
//!
//! Nothing here panics: a program that does not do as it should is a finding about one case of
//! thousands, to be told with the others.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long to wait before a look at something that no event announces.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A child process and what it says.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// What it prints, line by line.
    lines: Receiver<String>,
    /// What it has said on standard error, once it has closed it.
    errors: Receiver<String>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    pub(crate) errors: String,
}

impl Program {
    /// Starts it without the noise of a log.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .env("RUST_LOG", "off")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let (line_sender, lines) = channel();
        let (error_sender, errors) = channel();
        // Each thread ends with the program.
        thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
            for line in lines.map_while(Result::ok) {
                let _ = line_sender.send(line);
            }
        });
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.read_to_end(&mut bytes);
            }
            let _ = error_sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        Ok(Self { child, lines, errors })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints, unless it has ended or says nothing for so long.
    pub(crate) fn line(&self, patience: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(patience)
    }

    /// The open descriptors that it has; 0 if it has ended.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }

    /// Asks it to end, as an operator would.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        // It may have ended already.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
    }

    /// Waits until it has ended; `None` if it does not.
    pub(crate) fn end(&mut self, patience: Duration) -> Option<End> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                let errors = self.errors.recv_timeout(patience).ok()?;
                return Some(End { status, errors });
            }
            thread::sleep(LOOK_AGAIN);
        }
        None
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
