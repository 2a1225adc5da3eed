//! Counters of what a reactor has done.

use std::iter::Sum;
use std::ops::AddAssign;

/// What a reactor has done so far: plain counters that only grow, except those that say "now".
///
/// # Examples
/// ```
/// let reactor = waterwheel::Reactor::new()?;
/// assert_eq!(reactor.stats().accepted, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop: one poll each.
    pub turns: u64,
    /// Readiness events that the poll reported.
    pub events: u64,
    /// Connections accepted and handed to a handler.
    pub accepted: u64,
    /// Connections accepted for other reactors of a fleet and handed over to them, where they
    /// count as accepted or refused.
    pub handed_over: u64,
    /// Connections refused: at a cap, by `on_accept`, or for want of descriptors.
    pub refused: u64,
    /// Of these, refused for want of a good header of the PROXY protocol from a trusted source.
    pub proxy_refused: u64,
    /// Errors of accept, other than the peer having gone.
    pub accept_errors: u64,
    /// Outgoing connections that came up.
    pub connected: u64,
    /// Outgoing connections that failed.
    pub connect_failures: u64,
    /// Tries to connect that failed and were followed by another.
    pub connect_retries: u64,
    /// Connections that ended after they had been open.
    pub closed: u64,
    /// Of these, ended by an idle limit.
    pub closed_idle: u64,
    /// Of these, ended by a deadline or a minimum rate.
    pub closed_timeout: u64,
    /// Of these, reset by the peer or broken by an error.
    pub closed_broken: u64,
    /// Of these, over a cap of input or output.
    pub closed_overflow: u64,
    /// Reads that returned bytes.
    pub reads: u64,
    /// Writes that the kernel took at least in part.
    pub writes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes that the kernel took.
    pub bytes_written: u64,
    /// Bytes that were accepted from handlers and lost, as told by `on_close`.
    pub bytes_unsent: u64,
    /// Writes refused because they would have overrun the output cap.
    pub writes_refused: u64,
    /// Timers that fired, those for idle limits and deadlines included.
    pub timers_fired: u64,
    /// Messages from other threads that were run, or handed over by channels.
    pub messages: u64,
    /// Callbacks that panicked.
    pub panics: u64,
    /// Connections now, those that are still connecting or closing included.
    pub connections: u64,
    /// The most connections there were at once.
    pub connections_peak: u64,
}

/// Adds the counters of another reactor. The sum of the peaks is a bound: they need not have been
/// reached at once.
impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        // Named one by one, so that none is forgotten.
        let Self {
            turns,
            events,
            accepted,
            handed_over,
            refused,
            proxy_refused,
            accept_errors,
            connected,
            connect_failures,
            connect_retries,
            closed,
            closed_idle,
            closed_timeout,
            closed_broken,
            closed_overflow,
            reads,
            writes,
            bytes_read,
            bytes_written,
            bytes_unsent,
            writes_refused,
            timers_fired,
            messages,
            panics,
            connections,
            connections_peak,
        } = other;
        self.turns += turns;
        self.events += events;
        self.accepted += accepted;
        self.handed_over += handed_over;
        self.refused += refused;
        self.proxy_refused += proxy_refused;
        self.accept_errors += accept_errors;
        self.connected += connected;
        self.connect_failures += connect_failures;
        self.connect_retries += connect_retries;
        self.closed += closed;
        self.closed_idle += closed_idle;
        self.closed_timeout += closed_timeout;
        self.closed_broken += closed_broken;
        self.closed_overflow += closed_overflow;
        self.reads += reads;
        self.writes += writes;
        self.bytes_read += bytes_read;
        self.bytes_written += bytes_written;
        self.bytes_unsent += bytes_unsent;
        self.writes_refused += writes_refused;
        self.timers_fired += timers_fired;
        self.messages += messages;
        self.panics += panics;
        self.connections += connections;
        self.connections_peak += connections_peak;
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(stats: I) -> Self {
        stats.fold(Self::default(), |mut sum, stats| {
            sum += stats;
            sum
        })
    }
}
