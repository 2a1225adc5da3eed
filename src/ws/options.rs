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
    /// Max frames of one message; more end the connection with 1008. Default 65,536.
    pub max_frames: u32,
    /// Compression of messages, if the peer agrees. Default none. Do not compress messages that
    /// hold a secret beside text that an attacker chooses: their lengths then tell of the secret.
    pub deflate: Option<Deflate>,
    /// A peer that is silent for one to two intervals is sent a ping. Default 30 s; with `None`
    /// lost peers are found by the limits of the listener alone.
    pub ping_interval: Option<Duration>,
    /// How long after that ping the connection is reset if nothing has come. Default 15 s.
    pub pong_timeout: Duration,
    /// How long the peer has to answer a Close frame, and then a client waits for the end of the
    /// connection. Default 5 s.
    pub close_timeout: Duration,
    /// How long a server has to answer the handshake of a client. Default 10 s.
    pub handshake_timeout: Duration,
    /// Subprotocols. A server takes the first of these that the client offers; a client offers
    /// them in this order. Default none.
    pub protocols: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_message_bytes: 1 << 20,
            max_frames: 1 << 16,
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

    /// Sets [`protocols`](Self#structfield.protocols). A name that is no token of HTTP is never
    /// offered or taken; of more than 255 the rest is not.
    #[must_use]
    pub fn protocols<P: Into<String>>(mut self, names: impl IntoIterator<Item = P>) -> Self {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }
}
