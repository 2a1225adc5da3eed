//! What can be set for a recorder.

use std::time::Duration;

use crate::options::setters;

/// How much a [`Recorder`](super::Recorder) keeps, and what it warns of.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::inspect::RecorderOptions;
/// let options = RecorderOptions::default().slow_callback(Duration::from_millis(5));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecorderOptions {
    /// How many records are kept at least, of 32 bytes each: the next power of two. Default 65,536,
    /// which are 2 MiB.
    pub records: usize,
    /// How far back the recording goes that a slow callback or a panic hands over. Default 2 s.
    pub window: Duration,
    /// A callback that takes so long has held the loop. Default 20 ms.
    pub slow_callback: Duration,
    /// A timer that fires so long after its deadline is late. Default 20 ms.
    pub late_timer: Duration,
    /// How long a connection may be paused, keep input unconsumed, or hold output that the peer
    /// does not read, before a warning says so. Default 10 s.
    pub stuck: Duration,
    /// Bytes of queued output from which that clock runs. Default 64 KiB.
    pub much_output_bytes: usize,
    /// Connections of one source that are reset within ten seconds, before a warning says so.
    /// Default 32.
    pub many_resets: u32,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            records: 1 << 16,
            window: Duration::from_secs(2),
            slow_callback: Duration::from_millis(20),
            late_timer: Duration::from_millis(20),
            stuck: Duration::from_secs(10),
            much_output_bytes: 64 << 10,
            many_resets: 32,
        }
    }
}

impl RecorderOptions {
    setters! {
        records: usize,
        window: Duration,
        slow_callback: Duration,
        late_timer: Duration,
        stuck: Duration,
        much_output_bytes: usize,
        many_resets: u32,
    }
}
