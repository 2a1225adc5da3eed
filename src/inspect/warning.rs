//! Warnings: what a running loop shows that its author should know.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::id::ConnId;

/// What a [`Warning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WarningKind {
    /// A callback took long, and everything else waited for it.
    HeldLoop,
    /// Timers fired long after their deadlines.
    LateTimers,
    /// A connection has been paused for long.
    PausedLong,
    /// A connection has input that its handler does not consume.
    Unconsumed,
    /// A connection has much output that its peer does not read.
    MuchOutput,
    /// Nearly all descriptors of the process are in use.
    FewDescriptors,
    /// Connections of one source are reset again and again.
    ManyResets,
    /// A callback panicked.
    Panicked,
}

impl WarningKind {
    /// In a word or two.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HeldLoop => "loop held",
            Self::LateTimers => "timers late",
            Self::PausedLong => "paused long",
            Self::Unconsumed => "input unconsumed",
            Self::MuchOutput => "output unread",
            Self::FewDescriptors => "few descriptors",
            Self::ManyResets => "many resets",
            Self::Panicked => "panic",
        }
    }

    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::HeldLoop => {
                "One thread runs every callback. While this one ran, nothing else was served."
            }
            Self::LateTimers => {
                "The loop was busy when timers were due. Timeouts are longer than they were set."
            }
            Self::PausedLong => {
                "Its handler paused reading and has not resumed. The peer cannot send any more."
            }
            Self::Unconsumed => {
                "`on_data` returns 0 although there is input: a message that never gets complete."
            }
            Self::MuchOutput => {
                "More is written than the peer reads. The queue takes memory until it is read."
            }
            Self::FewDescriptors => {
                "When none is left, no connection can be accepted and no file opened."
            }
            Self::ManyResets => {
                "A peer ends its connections with a reset, or is gone when output is sent to it."
            }
            Self::Panicked => "The connection of the callback was reset; the others are served on.",
        }
    }

    /// What to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::HeldLoop => {
                "Do the work in pieces with `Context::post`, or on another thread with `Remote`."
            }
            Self::LateTimers => "Look for callbacks that hold the loop, or spread the load.",
            Self::PausedLong => {
                "Call `resume_reading` on every path, or set an idle limit on the listener."
            }
            Self::Unconsumed => {
                "Close when a message is malformed; set `Limits::max_input_bytes` to one message."
            }
            Self::MuchOutput => {
                "Stop writing at `Written::Above` until `on_drain`; set a minimum rate of sending."
            }
            Self::FewDescriptors => {
                "Call `raise_open_file_limit`, set `max_connections`, and set an idle limit."
            }
            Self::ManyResets => {
                "A health check does so. From a stranger, set `max_per_source` on the listener."
            }
            Self::Panicked => "Its text is in the log. Mend the handler.",
        }
    }
}

/// A warning. Warnings of one kind about one handler are one warning, with a count.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// How often it was seen.
    pub count: u64,
    /// When it was seen last, since the reactor was made.
    pub at: Duration,
    /// The index of the handler, if it is about one.
    pub handler: Option<u32>,
    /// The connection that it was seen at last, if it is about one.
    pub conn: Option<ConnId>,
    /// What was seen last, with its figures.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, text, .. } = self;
        write!(f, "{}: {text}. {} {}", kind.name(), kind.meaning(), kind.advice())
    }
}

/// No more warnings are kept; the one that was seen longest ago goes.
const MAX_WARNINGS: usize = 64;

/// At most one warning is logged in so many nanoseconds; the list counts all.
const LOG_INTERVAL: u64 = 1_000_000_000;

/// The warnings so far.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    list: Vec<Warning>,
    /// When one was logged last.
    logged_at: Option<u64>,
    /// How many there were, those included that are not kept.
    pub(super) total: u64,
}

/// What was seen, before it is counted.
pub(super) struct Seen {
    pub(super) kind: WarningKind,
    pub(super) handler: Option<u32>,
    pub(super) conn: Option<ConnId>,
}

impl Warnings {
    /// Counts what was seen at this time, in nanoseconds.
    #[cold]
    pub(super) fn add(&mut self, seen: Seen, now: u64, text: String) {
        let Seen { kind, handler, conn } = seen;
        let at = Duration::from_nanos(now);
        self.total += 1;
        let known = self.list.iter().position(|it| it.kind == kind && it.handler == handler);
        let count = known.map_or(0, |place| self.list.remove(place).count) + 1;
        if self.list.len() == MAX_WARNINGS {
            self.list.remove(0);
        }
        let warning = Warning { kind, count, at, handler, conn, text };
        let may_log = self.logged_at.is_none_or(|last| now.saturating_sub(last) >= LOG_INTERVAL);
        if may_log {
            self.logged_at = Some(now);
            log::warn!("{warning} (one such line a second, {} seen so far)", self.total);
        }
        self.list.push(warning);
    }

    /// From the one that was seen longest ago to the one that was seen last.
    pub(super) fn list(&self) -> &[Warning] {
        &self.list
    }
}

/// Sources of which resets are counted; the count of more is lost.
const MAX_SOURCES: usize = 256;

/// Over so many nanoseconds resets are counted.
const RESET_WINDOW: u64 = 10_000_000_000;

/// Resets by source, in the present window.
#[derive(Debug, Default)]
pub(super) struct Resets {
    counts: HashMap<IpAddr, u32>,
    /// When the window began.
    since: u64,
}

impl Resets {
    /// Counts a reset; whether it makes the number full.
    #[cold]
    pub(super) fn add(&mut self, source: IpAddr, now: u64, many: u32) -> bool {
        if now.saturating_sub(self.since) >= RESET_WINDOW {
            self.counts.clear();
            self.since = now;
        }
        if self.counts.len() >= MAX_SOURCES && !self.counts.contains_key(&source) {
            return false;
        }
        let count = self.counts.entry(source).or_default();
        *count += 1;
        *count == many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(handler: u32) -> Seen {
        Seen { kind: WarningKind::HeldLoop, handler: Some(handler), conn: None }
    }

    #[test]
    fn the_list_is_bounded_and_counts_repetitions() {
        let mut warnings = Warnings::default();
        for at in 0..5 {
            warnings.add(seen(1), at, format!("{at}"));
        }
        assert_eq!(warnings.list().len(), 1);
        assert_eq!((warnings.list()[0].count, warnings.list()[0].text.as_str()), (5, "4"));
        for handler in 2..100 {
            warnings.add(seen(handler), 9, String::new());
        }
        assert_eq!(warnings.list().len(), MAX_WARNINGS);
        assert_eq!(warnings.list()[MAX_WARNINGS - 1].handler, Some(99));
        assert_eq!(warnings.total, 103);
    }

    #[test]
    fn resets_are_told_once_a_window() {
        let mut resets = Resets::default();
        let source = "192.0.2.1".parse().unwrap();
        let told: Vec<bool> = (0..4).map(|at| resets.add(source, at, 2)).collect();
        assert_eq!(told, [false, true, false, false]);
        assert!(!resets.add(source, RESET_WINDOW, 2));
        assert!(resets.add(source, RESET_WINDOW, 2));
    }
}
