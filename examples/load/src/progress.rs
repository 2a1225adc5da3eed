//! How it goes, while it goes: a bar on a terminal, a line a second elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::plan::{Mode, Plan};
use crate::units::{grouped, plural};

/// Prints a line for people: on stderr if stdout is for a machine.
pub(crate) fn say(plan: &Plan, text: &str) {
    // A reader that has gone is no failure of the run.
    let _ = match plan.json {
        true => writeln!(io::stderr(), "{text}"),
        false => writeln!(io::stdout(), "{text}"),
    };
}

/// What there is to show.
pub(crate) struct View {
    pub(crate) phase: &'static str,
    /// From 0 to 1.
    pub(crate) done: f64,
    /// Exchanges since the beginning.
    pub(crate) answers: u64,
    pub(crate) live: u64,
    pub(crate) faults: u64,
    /// Datagrams that are lost; `None` where there are none.
    pub(crate) lost: Option<u64>,
}

/// Shows how it goes.
pub(crate) struct Progress {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    is_json: bool,
    /// What an exchange is called.
    noun: &'static str,
    began: Instant,
    /// When the bar was last moved.
    moved: Instant,
    /// When the rate was last taken, and the exchanges then.
    rated: Instant,
    answers_then: u64,
}

/// Often enough for the eye.
const MOVE_PERIOD: Duration = Duration::from_millis(100);

/// Rates over less are restless.
const RATE_PERIOD: Duration = Duration::from_secs(1);

/// Steps of the bar.
const STEPS: u64 = 1_000;

impl Progress {
    pub(crate) fn new(plan: &Plan) -> Self {
        let now = Instant::now();
        Self {
            bar: bar(plan.json),
            is_json: plan.json,
            noun: match plan.mode {
                Mode::Storm => "connections",
                Mode::Udp => "datagrams",
                _ if plan.http.is_some() => "requests",
                _ => "messages",
            },
            began: now,
            moved: now,
            rated: now,
            answers_then: 0,
        }
    }

    /// Shows it, unless that was done a moment ago.
    pub(crate) fn show(&mut self, now: Instant, view: &View) {
        if now - self.moved >= MOVE_PERIOD {
            self.moved = now;
            if let Some(bar) = &self.bar {
                bar.set_position((view.done * STEPS as f64) as u64);
            }
        }
        let period = now - self.rated;
        if period < RATE_PERIOD {
            return;
        }
        let rate = (view.answers - self.answers_then) as f64 / period.as_secs_f64();
        self.rated = now;
        self.answers_then = view.answers;
        let lost = view.lost.map(|lost| format!("{} lost, ", grouped(lost))).unwrap_or_default();
        let text = format!(
            "{}, {} {}/s, {} open, {lost}{}",
            view.phase,
            grouped(rate as u64),
            self.noun,
            grouped(view.live),
            plural(view.faults, "error"),
        );
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => self.print(now, view.done, &text),
        }
    }

    fn print(&self, now: Instant, done: f64, text: &str) {
        let seconds = (now - self.began).as_secs_f64();
        let line = format!("{seconds:5.1} s {:3.0} %  {text}\n", done * 100.0);
        let _ = match self.is_json {
            true => io::stderr().write_all(line.as_bytes()),
            false => io::stdout().write_all(line.as_bytes()),
        };
    }

    /// Makes room for the table.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar, if there is a terminal to draw it on.
fn bar(is_json: bool) -> Option<ProgressBar> {
    let (is_terminal, target) = match is_json {
        true => (io::stderr().is_terminal(), ProgressDrawTarget::stderr()),
        false => (io::stdout().is_terminal(), ProgressDrawTarget::stdout()),
    };
    if !is_terminal {
        return None;
    }
    let bar = ProgressBar::with_draw_target(Some(STEPS), target);
    let style = ProgressStyle::with_template("{bar:20} {percent:>3} %  {wide_msg}")
        .expect("the template is well formed");
    bar.set_style(style.progress_chars("█▌ "));
    bar.set_message("dialling");
    Some(bar)
}
