//! Processes that this one starts and speaks with, a line at a time.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process of this program in another role.
pub(crate) struct Process {
    child: Child,
    asks: ChildStdin,
    tells: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let asks = child.stdin.take().ok_or("no input")?;
        let tells = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, asks, tells })
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.tells.read_line(&mut line)? == 0 {
            return Err("a process has ended before its time; see above".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Says a line, and returns the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String, Box<dyn Error>> {
        writeln!(self.asks, "{line}")?;
        self.line()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to the process that has started this one.
pub(crate) fn say(line: &str) -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// Nanoseconds that this thread has run.
pub(crate) fn time_used() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?)
}

/// Publishes once for each line that is read, and answers with the time that it took. Ends with the
/// process that has started this one.
pub(crate) fn publish_on_demand(
    mut publish: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    for line in std::io::stdin().lines() {
        line?;
        let before = time_used()?;
        publish()?;
        say(&(time_used()? - before).to_string())?;
    }
    Ok(())
}
