//! One request and its answer.

use std::fmt;
use std::time::Duration;

use super::body::Body;
use super::chunk::ChunkDecoder;
use super::head::{Framing, Head, Version};
use super::method::Method;
use super::record::Saved;
use super::response::Response;
use super::upgrade::Upgraded;
use crate::base::id::ConnId;

/// Bytes of a body that nobody asked for and that are read all the same, so that the connection can
/// serve another request. More than that is cheaper to send again on a new connection.
const MAX_SKIPPED_BYTES: u64 = 64 << 10;

/// Which exchange an answer belongs to, for an answer that comes later. It can be copied and sent
/// anywhere; once the exchange is over it finds nothing.
///
/// See [`Response::later`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyId {
    pub(super) conn: ConnId,
    /// Which one of its server. Counted over all connections: one alone may have more exchanges
    /// than 32 bits can tell apart, and a number of its own would make an idle one larger.
    pub(super) exchange: u64,
}

impl ReplyId {
    /// The connection of the client.
    #[must_use]
    pub fn conn(self) -> ConnId {
        self.conn
    }
}

impl fmt::Display for ReplyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.conn, self.exchange)
    }
}

/// What is still to come of the body of a request.
#[derive(Debug)]
pub(super) enum Input {
    /// Nothing.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(ChunkDecoder),
}

/// What is called with a collected body.
pub(super) type Then<A> = Box<dyn FnOnce(&mut A, &[u8], &mut Response<'_, A>)>;

/// Who takes the body of a request.
pub(super) enum Reader<A> {
    /// Not asked for so far: it is left where it is.
    Unasked,
    /// A handler, piece by piece.
    Body(Box<dyn Body<A>>),
    /// A handler, when it is complete.
    Collect { bytes: Vec<u8>, then: Then<A> },
    /// The answer is given: what comes is dropped.
    Skip,
}

/// What of the body of a streamed answer is still to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Chunks, and the last one.
    Chunks,
    /// So many bytes.
    Length(u64),
    /// Bytes until the connection closes, for clients of HTTP/1.0.
    UntilClose,
    /// Nothing: what is written is dropped, as for HEAD.
    Nothing,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// There is none so far.
    Unanswered,
    /// The head is written.
    Stream(Rest),
    /// All of it is written.
    Done,
}

/// Who goes on with a streamed answer when there is room.
pub(super) type OnDrain<A> = Box<dyn FnMut(&mut A, &mut Response<'_, A>)>;

/// A request and its answer.
pub(super) struct Exchange<A> {
    /// Which one of its server.
    pub(super) number: u64,
    pub(super) method: Method,
    pub(super) version: Version,
    /// Whether another request may follow.
    pub(super) keep_alive: bool,
    /// Whether the client has nothing more to say, by its own word, and nothing more was seen.
    pub(super) is_last_word: bool,
    /// Whether the client waits for a 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// Whether the body is compressed.
    pub(super) is_encoded: bool,
    /// Whether the answer comes later.
    pub(super) is_late: bool,
    /// Whether the body was asked for, and is not complete.
    pub(super) is_reading: bool,
    /// Whether the answer is a stream of events.
    pub(super) is_events: bool,
    /// How often such a stream says that it lives.
    pub(super) heartbeat: Option<Duration>,
    /// Whether reading is paused for a [`Body`].
    pub(super) is_paused: bool,
    /// Since when no body is due, in milliseconds of the loop: it is not asked for, or paused.
    pub(super) spare_since: u32,
    /// How long none was due, in milliseconds, since its rate was looked at.
    pub(super) spare_ms: u32,
    /// Whether the program was told that it has ended without its answer.
    pub(super) is_gone: bool,
    /// Whether the handler has set something that cannot be sent.
    pub(super) is_failed: bool,
    /// Whether `on_drain` is new, and to be called without waiting for a drain.
    pub(super) wants_drain: bool,
    pub(super) input: Input,
    pub(super) reader: Reader<A>,
    /// The largest body that is taken.
    pub(super) max_body_bytes: u64,
    /// Bytes of the body so far.
    pub(super) body_bytes: u64,
    /// What `body_bytes` was when its rate was looked at.
    pub(super) rated_bytes: u64,
    pub(super) output: Output,
    /// The status of the answer.
    pub(super) status: u16,
    /// Bytes of the answer's body so far.
    pub(super) sent_bytes: u64,
    /// Fields of the answer, between callbacks.
    pub(super) fields: Vec<u8>,
    pub(super) on_drain: Option<OnDrain<A>>,
    /// Whether the answer may be compressed, and by which rules.
    pub(super) gzip: Option<super::gzip::Plan>,
    pub(super) upgrade: Option<Box<dyn Upgraded<A>>>,
    /// What the record of the exchange will say, if somebody wants it.
    pub(super) saved: Option<Box<Saved>>,
}

impl<A> Exchange<A> {
    #[inline]
    pub(super) fn new(number: u64, head: &Head<'_>, is_all: bool) -> Self {
        Self {
            number,
            method: head.method,
            version: head.version,
            keep_alive: head.keep_alive,
            is_last_word: is_all && !head.keep_alive && head.framing == Framing::None,
            expects_continue: head.expects_continue,
            is_encoded: head.is_encoded,
            input: match head.framing {
                Framing::None => Input::None,
                Framing::Length(length) => Input::Length(length),
                Framing::Chunked => Input::Chunked(ChunkDecoder::new()),
            },
            ..Self::none()
        }
    }

    /// What stands in the place of one that was taken.
    #[inline]
    pub(super) const fn none() -> Self {
        Self {
            number: 0,
            method: Method::Get,
            version: Version::Http11,
            keep_alive: false,
            is_last_word: false,
            expects_continue: false,
            is_encoded: false,
            is_late: false,
            is_reading: false,
            is_events: false,
            heartbeat: None,
            is_paused: false,
            spare_since: 0,
            spare_ms: 0,
            is_gone: false,
            is_failed: false,
            wants_drain: false,
            input: Input::None,
            reader: Reader::Unasked,
            max_body_bytes: 0,
            body_bytes: 0,
            rated_bytes: 0,
            output: Output::Unanswered,
            status: 200,
            sent_bytes: 0,
            fields: Vec::new(),
            on_drain: None,
            gzip: None,
            upgrade: None,
            saved: None,
        }
    }

    /// Drops what it has of others.
    pub(super) fn clear(&mut self) {
        self.reader = Reader::Skip;
        self.fields = Vec::new();
        self.on_drain = None;
        #[cfg(feature = "http-gzip")]
        {
            self.gzip = None;
        }
        self.upgrade = None;
        self.saved = None;
    }

    /// Whether it is over, the next request may follow, and nobody need be told.
    #[inline(always)]
    pub(super) fn is_usual_end(&self) -> bool {
        self.output == Output::Done
            && matches!(self.input, Input::None)
            && self.keep_alive
            && self.upgrade.is_none()
            && self.saved.is_none()
    }

    /// No body was due up to now, in milliseconds of the loop: that time does not count.
    pub(super) fn spare(&mut self, now: u32) {
        self.spare_ms = self.spare_ms.wrapping_add(now.wrapping_sub(self.spare_since));
        self.spare_since = now;
    }

    /// The rate of the body is looked at from now on, in milliseconds of the loop.
    pub(super) fn rate_anew(&mut self, now: u32) {
        self.rated_bytes = self.body_bytes;
        (self.spare_since, self.spare_ms) = (now, 0);
    }

    /// Whether more of the body is due from the client, and is wanted now.
    pub(super) fn waits_for_body(&self) -> bool {
        let is_due = !matches!(self.input, Input::None);
        is_due && !matches!(self.reader, Reader::Unasked) && !self.is_paused
    }

    /// Whether the body was asked for when all of it had come already: it has none, as a rule.
    #[inline]
    pub(super) fn lacks_end(&self) -> bool {
        let is_open = self.output != Output::Done; // an answer ends the receiving
        self.is_reading && is_open && matches!(self.input, Input::None)
    }

    /// Whether the connection can serve another request once this one is answered: what is left of
    /// the body must be small, and sure to come.
    #[inline]
    pub(super) fn can_keep_alive(&self) -> bool {
        let is_skippable = match &self.input {
            Input::None => true,
            Input::Length(left) => *left <= MAX_SKIPPED_BYTES && !self.expects_continue,
            Input::Chunked(_) => false,
        };
        self.keep_alive && is_skippable
    }
}

impl<A> fmt::Debug for Exchange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Exchange");
        text.field("number", &self.number).field("input", &self.input);
        text.field("output", &self.output).finish_non_exhaustive()
    }
}
