//! What can be set for a server.

use std::time::Duration;

use crate::options::{Limits, MinRate, setters};

/// Limits and times of a [`Server`](super::Server).
///
/// | clock | begins | default | when it passes |
/// |---|---|---|---|
/// | `first_byte_timeout` | when the connection is up | 10 s | it is closed |
/// | `head_timeout` | with the first byte of a request | 10 s | 408, and it is closed |
/// | `keep_alive_timeout` | when an answer has been written | 75 s | it is closed |
/// | `min_body_rate` | when the body is asked for | 240 B/s, grace 5 s | 408, and it is closed |
///
/// While a handler owes the answer no clock runs, because then it is the client that waits. Nor
/// does `keep_alive_timeout` end a connection whose output is above the high mark, or
/// `min_body_rate` one that is not read meanwhile: how slowly a client may read is for
/// [`Limits::min_send_rate`], which [`limits`] sets.
/// A balancer in front must give up idle connections sooner than `keep_alive_timeout`, so that
/// none of its requests meets an end that is under way.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::http::Options;
/// let options = Options::default()
///     .max_body_bytes(8 << 20)
///     .keep_alive_timeout(Duration::from_secs(20));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The largest head, in bytes: request line and fields. Default 16 KiB. A larger one is
    /// answered 431.
    pub max_head_bytes: usize,
    /// The longest target, in bytes. Default 8,192. A longer one is answered 414.
    pub max_target_bytes: usize,
    /// The largest body of a request, in bytes, where the route sets no other. Default 1 MiB. A
    /// larger one is answered 413, which arrives although the body is not read.
    pub max_body_bytes: u64,
    /// How long a new connection may say nothing. Default 10 s.
    pub first_byte_timeout: Duration,
    /// How long the head of a request may take. Default 10 s.
    pub head_timeout: Duration,
    /// How long a connection may be kept without a request, from when the answer was written. If
    /// that reached the high mark, from when the client has read it down to the low mark. Default
    /// 75 s.
    pub keep_alive_timeout: Duration,
    /// The least rate at which a body must come in that is asked for. Default 240 bytes a second
    /// with a grace of 5 s; `None` for no minimum.
    pub min_body_rate: Option<MinRate>,
    /// Requests of one connection, after which it is closed. Default: no limit.
    pub max_requests: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_head_bytes: 16 << 10,
            max_target_bytes: 8_192,
            max_body_bytes: 1 << 20,
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            min_body_rate: Some(MinRate::new(240, Duration::from_secs(5))),
            max_requests: None,
        }
    }
}

impl Options {
    setters! {
        max_head_bytes: usize,
        max_target_bytes: usize,
        max_body_bytes: u64,
        first_byte_timeout: Duration,
        head_timeout: Duration,
        keep_alive_timeout: Duration,
        min_body_rate: Option<MinRate>,
        max_requests: Option<u32>,
    }
}

/// Limits of a listener for a [`Server`](super::Server): those of [`Limits::internet`], without the
/// clocks that the server has itself, and which can say 408.
///
/// # Examples
/// ```
/// use waterwheel::{ListenOptions, http};
/// let options = ListenOptions::default().limits(http::limits());
/// # let _ = options;
/// ```
#[must_use]
pub fn limits() -> Limits {
    Limits::internet().first_byte_timeout(None).min_receive_rate(None)
}
