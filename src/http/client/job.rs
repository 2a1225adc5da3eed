//! A call on its way, and how far it is.

use super::answer::AnswerReader;
use super::call::{Body, Call};
use super::options::ClientOptions;
use crate::handler::Conn;
use crate::http::chunk::ChunkDecoder;
use crate::pool::Lease;
use crate::stream::Written;

/// What of a body is still to come.
pub(super) enum Rest {
    Length(u64),
    Chunks(ChunkDecoder),
    UntilEnd,
    /// Another protocol.
    Tunnel,
}

/// Where an answer is.
pub(super) enum Place {
    /// Nothing, or a part of its head.
    Head,
    /// In its body.
    Body(Rest),
    /// None will come: the server was ending the connection, which it took for idle, when the
    /// request was sent.
    TooLate,
}

/// A call on its way: it waits for its connection, or for its answer.
pub(super) struct Job {
    pub(super) call: Call,
    pub(super) reader: Box<dyn AnswerReader>,
    /// Whether it was sent already, on a connection that had ended.
    pub(super) is_retry: bool,
    /// The connection, once there is one.
    pub(super) lease: Option<Lease>,
    /// How far it is on that connection.
    pub(super) sent: Sent,
}

/// How far a call is that was sent.
pub(super) struct Sent {
    pub(super) place: Place,
    /// Whether a byte of the answer has come in.
    pub(super) is_answered: bool,
    /// Whether one has come that is not of an interim answer, which nothing is cut of.
    pub(super) is_begun: bool,
    /// Answers of the class 1xx so far.
    pub(super) interim: u8,
    pub(super) keep_alive: bool,
    /// Whether the body waits for a 100.
    pub(super) is_held: bool,
    /// Bytes that waited to be sent when the clock was set or looked at.
    pub(super) pending_seen: usize,
    /// The program has paused reading since the clock was set.
    pub(super) was_paused: bool,
}

impl Sent {
    pub(super) fn new(is_held: bool) -> Self {
        Self {
            place: Place::Head,
            is_answered: false,
            is_begun: false,
            interim: 0,
            keep_alive: false,
            is_held,
            pending_seen: 0,
            was_paused: false,
        }
    }
}

impl Job {
    pub(super) fn new(call: Call, reader: Box<dyn AnswerReader>) -> Self {
        Self { call, reader, is_retry: false, lease: None, sent: Sent::new(false) }
    }

    /// Whether the call may be made once more, on another connection, if this one brings no answer.
    pub(super) fn may_retry(&self) -> bool {
        let was_idle = self.lease.as_ref().is_some_and(Lease::was_idle);
        was_idle && !self.is_retry && self.call.is_repeatable()
    }

    /// Sends the body, or begins to.
    pub(super) fn send_body(&mut self, conn: &mut Conn<'_>, options: &ClientOptions) {
        self.sent.is_held = false;
        match &mut self.call.body {
            Body::Known(bytes) => {
                let written = conn.write(bytes);
                require(conn, written);
                self.sent.pending_seen = left_waiting(conn);
            }
            Body::Streamed(upload, on_room) => {
                upload.open(conn.id(), options.answer_timeout);
                on_room(upload, &mut conn.context());
            }
            Body::Upgrade(..) => {}
        }
    }

    /// There is room for more of the body.
    pub(super) fn go_on(&mut self, conn: &mut Conn<'_>) {
        match &mut self.call.body {
            Body::Streamed(upload, on_room) | Body::Upgrade(upload, on_room)
                if upload.is_open() =>
            {
                on_room(upload, &mut conn.context());
            }
            _ => {}
        }
    }

    /// Nothing more of the body is written. Whether it was sent whole.
    pub(super) fn finish_body(&self) -> bool {
        match &self.call.body {
            Body::Known(_) => !self.sent.is_held,
            Body::Streamed(upload, _) => upload.finish() && !self.sent.is_held,
            Body::Upgrade(upload, _) => {
                upload.finish();
                true
            }
        }
    }

    /// Whether the body is still being written.
    pub(super) fn is_uploading(&self) -> bool {
        matches!(&self.call.body, Body::Streamed(upload, _) if upload.is_open())
    }

    /// Bytes that waited to be sent when the clock was set or last looked at; `pending` wait now.
    pub(super) fn replace_pending(&mut self, pending: usize) -> usize {
        let at_end = match &self.call.body {
            Body::Streamed(upload, _) => upload.take_pending(),
            Body::Known(_) | Body::Upgrade(..) => 0,
        };
        let seen = std::mem::replace(&mut self.sent.pending_seen, pending);
        if at_end > 0 { at_end } else { seen }
    }
}

/// Small writes of one callback gather to so many bytes at the most: they leave as it returns.
const GATHERED_BYTES: usize = 16 << 10;

/// Bytes of a request that the kernel has not taken at once; 0 if they are so few that they may not
/// have been tried. The answer can come only once they have left, and nothing tells when that is.
/// What the kernel holds is not among them: nothing tells when the server takes that.
pub(super) fn left_waiting(conn: &Conn<'_>) -> usize {
    Some(conn.pending_bytes()).filter(|&pending| pending > GATHERED_BYTES).unwrap_or(0)
}

/// What is refused of a request ends the connection, and the call with it: the server would take
/// what comes next for it.
pub(super) fn require(conn: &mut Conn<'_>, written: Written) {
    if !written.is_accepted() && conn.is_writable() {
        conn.abort();
    }
}
