//! Compression of messages (permessage-deflate, RFC 7692).
//!
//! A connection that keeps a context keeps the last plain bytes and nothing else. A compressor that
//! all connections share is reset for each message and given those bytes as its dictionary, which
//! comes to the same for the peer. So an idle connection costs its window at the most, and none at
//! all where no context is kept.

mod codec;
mod extension;
mod fast;
mod offer;
mod window;

pub(super) use codec::{Codecs, How, Inflated, Inflater};
pub(super) use offer::{agree, check_answer, offer};
pub(super) use window::Window;

/// How messages are compressed (permessage-deflate).
///
/// # Examples
/// A chat whose lines are much alike, at 8 KiB each way for a connection:
/// ```
/// use waterwheel::ws::{Deflate, Options};
/// let deflate = Deflate::default().keep_context(true).keep_peer_context(true);
/// let deflate = deflate.window_bits(12).peer_window_bits(12);
/// let options = Options::default().deflate(Some(deflate));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deflate {
    /// How hard to try, from 1 (fastest) to 9 (smallest). Default 1, which takes a tenth of the
    /// time of the others for small messages.
    pub level: u8,
    /// Whether a message may refer to those that were sent before, if the peer agrees: smaller
    /// messages, for a window of memory a connection. That memory lasts as long as the connection,
    /// and the limits of queued bytes do not count it. Each message has the window copied, which
    /// counts for when others have their turn: of messages that come in together, 128 to 256 pass
    /// in one with windows of 32 KiB. Default off: an idle connection then costs nothing for
    /// compression.
    pub keep_context: bool,
    /// As above, of what the peer sends. Default off.
    pub keep_peer_context: bool,
    /// Base-2 logarithm of the window of what is sent, 9 to 15: 512 bytes to 32 KiB, which is what
    /// a connection that keeps its context costs. Default 15.
    pub window_bits: u8,
    /// As above, of what the peer sends, if it can do with less than 15. Default 15.
    pub peer_window_bits: u8,
    /// Messages of fewer bytes are sent as they are, and so is one that does not get smaller. With
    /// 0 every message is compressed, even if it gets larger. Default 32.
    pub min_bytes: usize,
}

impl Default for Deflate {
    fn default() -> Self {
        Self {
            level: 1,
            keep_context: false,
            keep_peer_context: false,
            window_bits: 15,
            peer_window_bits: 15,
            min_bytes: 32,
        }
    }
}

impl Deflate {
    /// Sets [`level`](Self#structfield.level); a number out of range counts as the nearest.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// Sets [`keep_context`](Self#structfield.keep_context).
    #[must_use]
    pub fn keep_context(mut self, keep: bool) -> Self {
        self.keep_context = keep;
        self
    }

    /// Sets [`keep_peer_context`](Self#structfield.keep_peer_context).
    #[must_use]
    pub fn keep_peer_context(mut self, keep: bool) -> Self {
        self.keep_peer_context = keep;
        self
    }

    /// Sets [`window_bits`](Self#structfield.window_bits); a number out of range counts as the
    /// nearest.
    #[must_use]
    pub fn window_bits(mut self, bits: u8) -> Self {
        self.window_bits = bits.clamp(MIN_BITS, MAX_BITS);
        self
    }

    /// Sets [`peer_window_bits`](Self#structfield.peer_window_bits); a number out of range counts
    /// as the nearest.
    #[must_use]
    pub fn peer_window_bits(mut self, bits: u8) -> Self {
        self.peer_window_bits = bits.clamp(MIN_BITS, MAX_BITS);
        self
    }

    /// Sets [`min_bytes`](Self#structfield.min_bytes).
    #[must_use]
    pub fn min_bytes(mut self, bytes: usize) -> Self {
        self.min_bytes = bytes;
        self
    }

    /// How to compress with such a window.
    pub(super) fn how(&self, bits: u8) -> How {
        How { bits, level: self.level, is_always: self.min_bytes == 0 }
    }

    /// The same within its bounds, since the fields can be set without the methods.
    pub(super) fn bounded(self) -> Self {
        let (own, peer) = (self.window_bits, self.peer_window_bits);
        self.level(self.level).window_bits(own).peer_window_bits(peer)
    }
}

/// The smallest window that is compressed with. RFC 7692 knows 8, of which zlib makes 9.
const MIN_BITS: u8 = 9;

/// The largest window.
const MAX_BITS: u8 = 15;

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Params {
    /// The window of what is sent, as a base-2 logarithm.
    pub(super) bits: u8,
    /// Whether messages that are sent may refer to earlier ones.
    pub(super) keeps: bool,
    /// The window of what is received.
    pub(super) peer_bits: u8,
    /// Whether messages that are received may refer to earlier ones.
    pub(super) peer_keeps: bool,
}
