//! Counters of what a reactor has done.

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
    /// Connections refused: at a cap, by `on_accept`, or for want of descriptors.
    pub refused: u64,
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
