//! One live WebSocket, lent to a callback.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::id::{ConnId, TimerId};
use crate::handler::{Conn, Context};
use crate::stream::Written;
use crate::ws::handler::{Kind, Message};
use crate::ws::wire::Wire;
use crate::ws::{CloseCode, Frame};

/// A WebSocket, lent to a callback.
///
/// Each message is accepted whole or refused whole, as with [`Conn::write`]; see [`Written`]. Small
/// messages of one callback leave together when it returns. Messages keep their order.
///
/// # Examples
/// ```
/// use waterwheel::ws::{self, CloseCode, Message};
/// struct Once;
/// impl ws::Handler for Once {
///     type State = ();
///     fn on_message(&mut self, _: &mut (), socket: &mut ws::Socket<'_>, message: Message<'_>) {
///         socket.send_text(&format!("{} bytes", message.bytes().len()));
///         socket.close(CloseCode::NORMAL, "that was all");
///     }
/// }
/// ```
pub struct Socket<'a> {
    pub(super) conn: Conn<'a>,
    pub(super) wire: &'a mut Wire,
}

impl Socket<'_> {
    /// Sends a message.
    #[inline]
    pub fn send(&mut self, message: Message<'_>) -> Written {
        self.wire.send(&mut self.conn, message.kind(), message.bytes())
    }

    /// Sends a text.
    #[inline]
    pub fn send_text(&mut self, text: &str) -> Written {
        self.wire.send(&mut self.conn, Kind::Text, text.as_bytes())
    }

    /// Sends bytes.
    #[inline]
    pub fn send_binary(&mut self, bytes: &[u8]) -> Written {
        self.wire.send(&mut self.conn, Kind::Binary, bytes)
    }

    /// Sends a message that is framed already, such as one for a room.
    pub fn send_frame(&mut self, frame: &Frame) -> Written {
        self.wire.send_framed(&mut self.conn, frame)
    }

    /// Sends a part of a message, as a frame of its own: for what is too large to be held whole, or
    /// is not known whole. `kind` counts for the first part. The parts of a text need not end
    /// between two characters.
    ///
    /// Until the last part is sent, other messages are refused with `Closed` and an error is
    /// logged; pings and the answers to them go between. Parts are not compressed.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::ws::{Kind, Socket};
    /// fn send_all(socket: &mut Socket<'_>, chunks: &[&[u8]]) {
    ///     for chunk in chunks {
    ///         socket.send_part(Kind::Binary, chunk, false);
    ///     }
    ///     socket.send_part(Kind::Binary, b"", true);
    /// }
    /// ```
    pub fn send_part(&mut self, kind: Kind, part: &[u8], is_last: bool) -> Written {
        self.wire.send_part(&mut self.conn, kind, part, is_last)
    }

    /// Sends a ping; `on_pong` gets the payload back. What is past 125 bytes is cut off.
    pub fn ping(&mut self, payload: &[u8]) -> Written {
        self.wire.ping(&mut self.conn, payload)
    }

    /// Sends a Close frame. After that nothing can be sent, and no messages are delivered.
    ///
    /// When the peer has answered, or [`close_timeout`](crate::ws::Options::close_timeout) has
    /// passed, the connection ends, and `on_close` is called. If the code may not be sent
    /// ([`CloseCode::is_sendable`]), the Close frame has no code and no reason. A reason is cut
    /// to 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.wire.say_close(&mut self.conn, code, reason);
    }

    /// Ends the connection at once, with a reset: what is queued is lost, and no messages are
    /// delivered any more.
    pub fn abort(&mut self) {
        self.conn.abort();
    }

    /// Whether messages can be sent: neither side has sent a Close frame.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.wire.is_open()
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        let place = usize::from(self.wire.agreed.protocol?);
        self.wire.shared.options.protocols.get(place).map(String::as_str)
    }

    /// Whether messages are compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.wire.agreed.deflate.is_some()
    }

    /// Stops reading: no `on_message` until reading resumes, and TCP holds the peer back. Once
    /// either side has sent a Close frame the call does nothing, because the peer's answer must be
    /// read. After a reset the messages received so far are delivered despite the pause.
    pub fn pause_reading(&mut self) {
        self.wire.set_paused(&mut self.conn, true);
    }

    /// Reads again.
    pub fn resume_reading(&mut self) {
        self.wire.set_paused(&mut self.conn, false);
    }

    /// Bytes of frames that were accepted and that the kernel has not taken.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.conn.pending_bytes()
    }

    /// The id of the connection under the WebSocket. Rooms know their members by it, and a program
    /// can keep it.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.conn.id()
    }

    /// The other end, as [`Conn::peer_addr`] has it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.conn.peer_addr()
    }

    /// Sets a timer of this connection, as [`Conn::set_timer`] does.
    pub fn set_timer(&mut self, wait: Duration, token: u64) -> TimerId {
        self.conn.set_timer(wait, token)
    }

    /// Sets a timer that fires again and again, as [`Conn::set_periodic_timer`] does.
    pub fn set_periodic_timer(&mut self, period: Duration, token: u64) -> TimerId {
        self.conn.set_periodic_timer(period, token)
    }

    /// Cancels a timer. Returns `false` if it has fired already, or was cancelled before.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.conn.cancel_timer(timer)
    }

    /// The loop: other connections, timers of handlers, the clock. Do not write to the
    /// connection of a WebSocket through it: raw bytes break its frames. A [`Room`](super::Room)
    /// sends to others.
    pub fn context(&mut self) -> Context<'_> {
        self.conn.context()
    }
}

impl fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Socket");
        text.field("id", &self.id()).field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}
