//! What people see: a bar for each transfer on a terminal, and a line for each that has ended.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::name;

/// Often enough for the eye.
pub const MOVE_PERIOD: Duration = Duration::from_millis(100);

/// A bar while bytes go.
const MOVING: &str = "{bar:20} {percent:>3} %  {bytes_per_sec:>14}  {eta:>4} left  {wide_msg}";

/// A bar when all have gone, and the receiver brings them to its disk.
const SAVING: &str = "{bar:20} {percent:>3} %  saving  {wide_msg}";

/// The bars of all transfers.
pub struct Bars {
    /// `None` where there is no terminal.
    all: Option<MultiProgress>,
}

/// One transfer's bar.
pub struct Bar {
    bar: Option<ProgressBar>,
    began: Instant,
    /// Where it began: what is resumed has gone before.
    from: u64,
}

/// Shown if standard error is a terminal.
impl Default for Bars {
    fn default() -> Self {
        Self { all: io::stderr().is_terminal().then(MultiProgress::new) }
    }
}

impl Bars {
    /// Whether anybody sees them.
    pub fn are_shown(&self) -> bool {
        self.all.is_some()
    }

    pub fn add(&self, name: &str, length: u64, from: u64) -> Bar {
        let bar = self.all.as_ref().map(|all| {
            let bar = all.add(ProgressBar::new(length).with_style(style(MOVING)));
            bar.set_message(name::shown(name));
            bar.set_position(from);
            bar.reset_eta();
            bar
        });
        Bar { bar, began: Instant::now(), from }
    }

    /// A line of what has been done.
    pub fn say(&self, line: &str) {
        // A reader that has gone is no failure of the transfer.
        self.print(|| writeln!(io::stdout(), "{line}").unwrap_or_default());
    }

    /// A line of what has failed.
    pub fn complain(&self, line: &str) {
        self.print(|| writeln!(io::stderr(), "{line}").unwrap_or_default());
    }

    fn print(&self, print: impl FnOnce()) {
        match &self.all {
            Some(all) => all.suspend(print),
            None => print(),
        }
    }
}

impl Bar {
    pub fn show(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            if bar.length() == Some(done) {
                bar.set_style(style(SAVING));
            }
        }
    }

    /// How much it was and how fast.
    pub fn summary(&self, length: u64) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let moved = length.saturating_sub(self.from);
        let rate = moved as f64 / seconds.max(1e-6) / (1 << 20) as f64;
        let resumed = match self.from {
            0 => String::new(),
            from => format!(", resumed at {from}"),
        };
        format!("{length} bytes in {seconds:.1} s, {rate:.0} MiB/s{resumed}")
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    style.progress_chars("█▌ ")
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
