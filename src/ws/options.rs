//! How an endpoint behaves, as plain data.

use std::time::Duration;

use crate::ws::Deflate;

/// How the WebSockets of an endpoint behave.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::ws::{Deflate, Options};
///
/// let options = Options::default()
///     .max_message_bytes(64 << 10)
///     .ping_interval(Some(Duration::from_secs(20)))
///     .protocols(["chat.v2", "chat.v1"])
///     .deflate(Some(Deflate::default()));
/// assert_eq!(options.protocols.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Max size of a message that comes in, in bytes, whether in one frame or in many, and
    /// decompressed if it was compressed. A larger one ends the connection with 1009, before more
    /// than that is held in memory. Default 1 MiB.
    pub max_message_bytes: usize,
    /// Max frames of one message; more end the connection with 1008. In a message that is delivered
    /// in parts, only empty frames count. Default 65,536.
    pub max_frames: u32,
    /// Delivers messages in parts, as they come in, with [`Handler::on_part`]: for messages that
    /// are too large to be held whole, or that last. `max_message_bytes` does not apply to them.
    /// Default none: messages are delivered whole.
    ///
    /// [`Handler::on_part`]: crate::ws::Handler::on_part
    pub parts: Option<Parts>,
    /// Compression of messages, if the peer agrees. Default none. Do not compress messages in which
    /// a secret stands beside text that an attacker chooses, because their lengths reveal something
    /// of the secret.
    pub deflate: Option<Deflate>,
    /// A peer that is silent for one to two intervals gets a ping. Default 30 s. With `None` there
    /// are no pings, and only the limits of the listener or of the connect find a lost peer.
    pub ping_interval: Option<Duration>,
    /// If nothing comes in for this long after the ping, the connection is reset. While output
    /// waits, a peer that still takes some of it is not lost: the ping stands behind it. Once the
    /// output has left, the peer has this time for its answer. How slowly a peer may read is for
    /// `Limits::min_send_rate`. Default 15 s.
    pub pong_timeout: Duration,
    /// How long to wait for the answer to a Close frame, which counts from when the peer last took
    /// some of the output that stands before it: up to twice this time, if there was any. A client
    /// then waits as long again for the server to end the connection. Default 5 s.
    ///
    /// Output that the kernel had taken before the Close frame counts only if some of it still
    /// waits when the time is over, which is known on Linux. What has left by then is the peer's,
    /// although its program may not have read it. So a peer that needs longer for a full socket
    /// buffer than this time ends with
    /// [`CloseCode::ABNORMAL`](crate::ws::CloseCode::ABNORMAL), although it would have answered:
    /// give slow peers more time. For `pong_timeout` the same holds.
    pub close_timeout: Duration,
    /// How long a server has to answer the handshake of a client. With a
    /// [`Reconnect`](crate::Reconnect) policy each try has so long, and no callback comes between
    /// the tries. Default 10 s.
    pub handshake_timeout: Duration,
    /// Subprotocols. A server takes the first of these that the client offers; a client offers
    /// them in this order. Default none.
    pub protocols: Vec<String>,
}

/// Limits for messages that are delivered in parts.
///
/// A connection holds at most 256 KiB of such a message, compressed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parts {
    /// Max size of a message, in bytes, decompressed if it was compressed. A larger one ends the
    /// connection with 1009. Default none: `u64::MAX`.
    pub max_bytes: u64,
    /// Min rate of a message that has begun, in bytes a second as they are on the wire. The rate is
    /// checked each [`ping_interval`](Options#structfield.ping_interval), and never without such an
    /// interval. A slower message ends the connection with 1008. Only time in which reading was not
    /// paused counts; if that is less than half an interval, the next check counts it too. If the
    /// peer has left output unread, the measurement begins anew: such a peer is bounded by
    /// [`min_send_rate`](crate::Limits::min_send_rate). Default 240; 0 for messages that last
    /// without end, such as a log.
    pub min_bytes_per_second: u32,
}

impl Default for Parts {
    fn default() -> Self {
        Self { max_bytes: u64::MAX, min_bytes_per_second: 240 }
    }
}

impl Parts {
    /// Sets [`max_bytes`](Self#structfield.max_bytes).
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets [`min_bytes_per_second`](Self#structfield.min_bytes_per_second).
    #[must_use]
    pub fn min_bytes_per_second(mut self, rate: u32) -> Self {
        self.min_bytes_per_second = rate;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message_bytes: 1 << 20,
            max_frames: 1 << 16,
            parts: None,
            deflate: None,
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(15),
            close_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            protocols: Vec::new(),
        }
    }
}

impl Options {
    /// Sets [`max_message_bytes`](Self#structfield.max_message_bytes).
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets [`max_frames`](Self#structfield.max_frames).
    #[must_use]
    pub fn max_frames(mut self, frames: u32) -> Self {
        self.max_frames = frames;
        self
    }

    /// Sets [`parts`](Self#structfield.parts).
    #[must_use]
    pub fn parts(mut self, parts: Option<Parts>) -> Self {
        self.parts = parts;
        self
    }

    /// Sets [`deflate`](Self#structfield.deflate).
    #[must_use]
    pub fn deflate(mut self, deflate: Option<Deflate>) -> Self {
        self.deflate = deflate;
        self
    }

    /// Sets [`ping_interval`](Self#structfield.ping_interval).
    #[must_use]
    pub fn ping_interval(mut self, interval: Option<Duration>) -> Self {
        self.ping_interval = interval;
        self
    }

    /// Sets [`pong_timeout`](Self#structfield.pong_timeout).
    #[must_use]
    pub fn pong_timeout(mut self, timeout: Duration) -> Self {
        self.pong_timeout = timeout;
        self
    }

    /// Sets [`close_timeout`](Self#structfield.close_timeout).
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Sets [`handshake_timeout`](Self#structfield.handshake_timeout).
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sets [`protocols`](Self#structfield.protocols). At most 255 names are used. A name that is
    /// not a token of HTTP is ignored.
    #[must_use]
    pub fn protocols<P: Into<String>>(mut self, names: impl IntoIterator<Item = P>) -> Self {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }
}
