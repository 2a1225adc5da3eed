//! What can be set for a client.

use std::time::Duration;

use crate::options::setters;
use crate::pool::PoolOptions;

/// Options of a [`Client`](super::Client).
///
/// | phase | clock | default |
/// |---|---|---|
/// | waiting for a connection | `pool.acquire_timeout` | 30 s |
/// | connecting, and a handshake of TLS | `pool.connect.timeout` | 10 s |
/// | waiting for a 100 before the body is sent | `continue_timeout` | 1 s |
/// | sending the request, if the kernel takes no byte | `answer_timeout` | 30 s |
/// | from the request to the head of the answer | `answer_timeout` | 30 s |
/// | between two parts of the body | `body_timeout` | 30 s |
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::http::ClientOptions;
/// use waterwheel::pool::PoolOptions;
/// let options = ClientOptions::default()
///     .pool(PoolOptions::default().max_open(64))
///     .answer_timeout(Duration::from_secs(5));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// How connections are made, kept and lent.
    pub pool: PoolOptions,
    /// The value of `Host`. Default: the destination as it was given, without the zone of an IPv6
    /// address.
    pub host: Option<String>,
    /// How long a body waits for the `100 Continue` that
    /// [`Call::expect_continue`](super::Call::expect_continue) asks for. Default 1 s.
    pub continue_timeout: Duration,
    /// How long the head of an answer may take, from when the kernel has taken the request: what
    /// the kernel holds for a server that does not read counts as sent. Behind more than 16 KiB
    /// that the kernel has not taken at once the answer may take up to twice as long; the time in
    /// which a smaller rest leaves may be missing from that of the answer. Default 30 s.
    pub answer_timeout: Duration,
    /// How long the next part of a body may take. Behind a [pause](crate::http::Flow::Pause) that
    /// is up to twice as long, from the end of the pause on. Default 30 s.
    pub body_timeout: Duration,
    /// The largest head of an answer, in bytes. Default 64 KiB.
    pub max_head_bytes: usize,
    /// The largest body that is collected, in bytes. Default 16 MiB.
    pub max_body_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            pool: PoolOptions::default(),
            host: None,
            continue_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            max_head_bytes: 64 << 10,
            max_body_bytes: 16 << 20,
        }
    }
}

impl ClientOptions {
    setters! {
        pool: PoolOptions,
        host: Option<String>,
        continue_timeout: Duration,
        answer_timeout: Duration,
        body_timeout: Duration,
        max_head_bytes: usize,
        max_body_bytes: usize,
    }
}
