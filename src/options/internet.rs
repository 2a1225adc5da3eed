//! Limits for listeners that anybody can reach.

use std::time::Duration;

use super::{Limits, MinRate};

/// The least rate at which a peer must move: a quarter of what the slowest mobile network carries.
const BYTES_PER_SECOND: u32 = 1_000;

impl Limits {
    /// Limits for a listener that anybody can reach: every phase of a connection has a clock, and
    /// none of them ends a peer that goes on sending or reading.
    ///
    /// | limit | value | because |
    /// |---|---|---|
    /// | `first_byte_timeout` | 30 s | four segments lost in a row take 15 s |
    /// | `min_receive_rate` | 1,000 B/s, grace 30 s | GPRS carries 4,000 B/s; the grace as above |
    /// | `min_send_rate` | 1,000 B/s, grace 60 s | as above; a receiver makes room in large steps |
    /// | `all_idle` | 5 min | many NATs forget a silent connection by then |
    /// | `close_timeout` | 10 s | without progress: three segments lost in a row take 7 s |
    /// | `message_timeout` | none | it counts the whole message; `min_receive_rate` its progress |
    ///
    /// Caps on memory are as in [`Limits::default`].
    ///
    /// Remove what does not fit your protocol: `first_byte_timeout` if clients may wait for the
    /// server to speak, `all_idle` if they may be silent for longer and `TcpOptions::keepalive` is
    /// enough, `min_send_rate` if they pause a download. Set `message_timeout` where messages are
    /// small.
    ///
    /// A message that comes whole stays on the fast path: an echo costs some 660 instructions
    /// instead of 450, and the same system calls. What is left is the clock, which a turn reads
    /// once more where a timer runs.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Limits, ListenOptions};
    /// let limits = Limits::internet().first_byte_timeout(None);
    /// let options = ListenOptions::default().limits(limits).max_per_source(Some(100));
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn internet() -> Self {
        let rate = |grace| Some(MinRate::new(BYTES_PER_SECOND, Duration::from_secs(grace)));
        Self::default()
            .first_byte_timeout(Some(Duration::from_secs(30)))
            .min_receive_rate(rate(30))
            .min_send_rate(rate(60))
            .all_idle(Some(Duration::from_secs(300)))
            .close_timeout(Duration::from_secs(10))
    }

    /// The limits that are not set, and of which each would end peers that hold a connection and
    /// give nothing.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let silent = self.allow_silence();
        let sends_slowly = self.message_timeout.is_none() && self.min_receive_rate.is_none();
        let reads_slowly = self.min_send_rate.is_none();
        [
            (silent, "all_idle or read_idle"),
            (silent && self.first_byte_timeout.is_none(), "first_byte_timeout"),
            (sends_slowly, "min_receive_rate or message_timeout"),
            (reads_slowly, "min_send_rate"),
        ]
        .into_iter()
        .filter_map(|(is_missing, name)| is_missing.then_some(name))
        .collect()
    }

    /// Whether a peer may hold a connection for ever by saying nothing.
    pub(crate) fn allow_silence(&self) -> bool {
        self.all_idle.is_none() && self.read_idle.is_none()
    }
}
