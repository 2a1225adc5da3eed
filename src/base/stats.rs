//! Counters of what a reactor has done.

use std::iter::Sum;
use std::ops::AddAssign;

use crate::base::histogram::Histogram;

/// What a reactor has done so far: counters that only grow, except those that say "now".
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
    /// Connections refused: at a cap, by `on_accept`, or because no descriptor was left.
    pub refused: u64,
    /// Of these, refused because there was no valid header of the PROXY protocol from a trusted
    /// source.
    pub proxy_refused: u64,
    /// Of these, refused because a handshake before `on_accept` failed or was late. With TLS,
    /// `tls::ServerConfig::failures` counts them by reason.
    pub handshakes_failed: u64,
    /// Errors of accept, other than the peer having gone.
    pub accept_errors: u64,
    /// Outgoing connections that came up.
    pub connected: u64,
    /// Outgoing connections that failed.
    pub connect_failures: u64,
    /// Tries to connect that failed and were followed by another. A handshake of
    /// `ws::Client` counts too.
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
    /// Datagrams received and handed to a handler; also the rest of a batch whose socket was closed
    /// meanwhile, which is not handed to a handler.
    pub datagrams_received: u64,
    /// Datagrams that the kernel took.
    pub datagrams_sent: u64,
    /// Bytes in the datagrams that were received.
    pub datagram_bytes_received: u64,
    /// Bytes in the datagrams that were sent.
    pub datagram_bytes_sent: u64,
    /// Datagrams that were lost on this side before they were sent: because the queue was full, the
    /// kernel had no room or refused them later, or they still waited when their socket was closed.
    /// Datagrams for which the send itself returned `TooLong` or `Failed` do not count.
    pub datagrams_dropped: u64,
    /// Received datagrams that were longer than `max_datagram_bytes` of their socket, and cut.
    pub datagrams_truncated: u64,
    /// Errors of datagram sockets, as told by `on_error`.
    pub datagram_errors: u64,
    /// Sessions of datagram sockets now.
    pub sessions: u64,
    /// Datagrams that began no session: at the cap, or refused by `on_session`.
    pub sessions_refused: u64,
    /// Sessions that ended because nothing came for too long.
    pub sessions_idle: u64,
    /// How long turns took, from the return of their poll to the next poll. A turn is counted at
    /// its end, and only if the loop reads its clock there. It does so while a timer, an idle limit
    /// or another deadline is set, with an observer, and when the program calls
    /// [`Reactor::run_once`]. Without any of these it does not, and the turn is left out.
    ///
    /// [`Reactor::run_once`]: crate::Reactor::run_once
    pub turn_times: Histogram,
    /// Turns that took a tenth of a second or more, of those that `turn_times` counts: a callback
    /// has held the loop up, or the machine was too busy to let it run. One in a second is logged
    /// as a warning.
    pub slow_turns: u64,
    /// How long callbacks took, as observers measure it: see [`observer`](crate::observer). Counted
    /// only while an observer is installed, because only then the clock is read after each
    /// callback.
    pub callback_times: Histogram,
}

/// Adds the counters of another reactor. The sum of the peaks is a bound: they need not have been
/// reached at once.
impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        // Named one by one, so that none is forgotten.
        macro_rules! add {
            ($($field:ident),* $(,)?) => {
                let Self { $($field),* } = other;
                $(self.$field += $field;)*
            };
        }
        add! {
            turns, events, accepted, handed_over, refused, proxy_refused, handshakes_failed,
            accept_errors, connected, connect_failures, connect_retries, closed, closed_idle,
            closed_timeout, closed_broken, closed_overflow, reads, writes, bytes_read,
            bytes_written, bytes_unsent, writes_refused, timers_fired, messages, panics,
            connections, connections_peak, datagrams_received, datagrams_sent,
            datagram_bytes_received,
            datagram_bytes_sent, datagrams_dropped, datagrams_truncated, datagram_errors,
            sessions, sessions_refused, sessions_idle, turn_times, slow_turns,
            callback_times,
        }
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
