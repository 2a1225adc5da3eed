//! The body of a request that is sent as it is made.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::job::{left_waiting, require};
use crate::base::id::ConnId;
use crate::handler::{Context, DeadlineKind};
use crate::http::respond::{MAX_DIGITS, digits};
use crate::stream::Written;

/// What of a body is still to be sent, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// Chunks, and the last one.
    Chunks,
    /// So many bytes.
    Length(u64),
    /// Bytes of another protocol.
    Raw,
}

/// What an [`Upload`] and its copies share with the call.
struct Shared {
    /// The connection, for as long as the body may be written.
    conn: Cell<Option<ConnId>>,
    unsent: Cell<Unsent>,
    /// How long the answer may take once the body is complete.
    answer_timeout: Cell<Duration>,
    /// Bytes that waited to be sent when the body was complete.
    pending_at_end: Cell<usize>,
}

/// Sends the body of a request piece by piece: see [`Call::stream_body`](super::Call::stream_body).
/// An `Upload` can be cloned and kept on the thread of its reactor. Once the call is over, its
/// methods do nothing.
#[derive(Clone)]
pub struct Upload(Rc<Shared>);

impl Upload {
    pub(super) fn new(unsent: Unsent) -> Self {
        let conn = Cell::new(None);
        let (answer_timeout, pending_at_end) = (Cell::new(Duration::ZERO), Cell::new(0));
        Self(Rc::new(Shared { conn, unsent: Cell::new(unsent), answer_timeout, pending_at_end }))
    }

    /// The body may be written from now on.
    pub(super) fn open(&self, conn: ConnId, answer_timeout: Duration) {
        self.0.conn.set(Some(conn));
        self.0.answer_timeout.set(answer_timeout);
    }

    /// Nothing more of the body is wanted. Whether it was complete.
    pub(super) fn finish(&self) -> bool {
        let is_raw = self.0.unsent.get() == Unsent::Raw;
        self.0.conn.take().is_none() && !is_raw
    }

    pub(super) fn unsent(&self) -> Unsent {
        self.0.unsent.get()
    }

    /// Bytes that waited to be sent when the body was complete; told once.
    pub(super) fn take_pending(&self) -> usize {
        self.0.pending_at_end.take()
    }

    /// Whether the body may be written: the head of the request was sent, and neither the body nor
    /// the call has ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.conn.get().is_some()
    }

    /// The connection to the server, while the body may be written.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        self.0.conn.get()
    }

    /// Writes a piece of the body.
    ///
    /// | result | means |
    /// |---|---|
    /// | `Below` | accepted |
    /// | `Above` | accepted; write no more until the closure of the call is called again |
    /// | `Full` | refused: the queue would be longer than `max_output_bytes` |
    /// | `Closed` | refused: the body may not be written, or is longer than the length given |
    pub fn write(&self, cx: &mut Context<'_>, piece: &[u8]) -> Written {
        let Some(mut conn) = self.0.conn.get().and_then(|id| cx.conn(id)) else {
            return Written::Closed;
        };
        let count = piece.len() as u64;
        match self.0.unsent.get() {
            _ if piece.is_empty() => Written::Below, // an empty chunk would be the last
            Unsent::Raw => conn.write(piece),
            Unsent::Chunks => {
                let mut room = [0; MAX_DIGITS];
                let size = digits(count, 16, &mut room);
                conn.write_vectored(&[size, b"\r\n", piece, b"\r\n"])
            }
            Unsent::Length(left) if left < count => {
                log::error!("{}: the body of a request is longer than its length", conn.id());
                Written::Closed
            }
            Unsent::Length(left) => {
                let written = conn.write(piece);
                if written.is_accepted() {
                    self.0.unsent.set(Unsent::Length(left - count));
                }
                written
            }
        }
    }

    /// Ends the body. If a length was given and is not reached, the call fails with
    /// [`ClientError::Lost`](super::ClientError::Lost), and an error is logged. After
    /// [`Call::upgrade`](super::Call::upgrade) this sends FIN, and reading goes on.
    pub fn end(&self, cx: &mut Context<'_>) {
        let Some(mut conn) = self.0.conn.take().and_then(|id| cx.conn(id)) else { return };
        match self.0.unsent.get() {
            Unsent::Chunks => {
                let written = conn.write(b"0\r\n\r\n");
                require(&mut conn, written);
            }
            Unsent::Length(0) => {}
            Unsent::Length(left) => {
                log::error!("{}: the body of a request is {left} bytes short", conn.id());
                return conn.abort();
            }
            Unsent::Raw => return conn.shutdown_write(),
        }
        self.0.pending_at_end.set(left_waiting(&conn));
        conn.set_deadline(DeadlineKind::User, Some(self.0.answer_timeout.get()));
    }

    /// Gives the call up: it fails with [`ClientError::Lost`](super::ClientError::Lost). The
    /// connection is reset, so that the server does not take a part of the body for the whole.
    pub fn abort(&self, cx: &mut Context<'_>) {
        if let Some(mut conn) = self.0.conn.take().and_then(|id| cx.conn(id)) {
            conn.abort();
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Upload");
        text.field("conn", &self.0.conn.get()).field("unsent", &self.0.unsent.get()).finish()
    }
}
