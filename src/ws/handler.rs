//! What a program that speaks WebSocket is made of.

use std::io;

use crate::base::id::Timer;
use crate::handler::Context;
use crate::stream::Closed;
use crate::ws::{CloseCode, Socket};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text, in UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// A message, lent to [`Handler::on_message`]; or what a [`Part`] of one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text. What is not UTF-8 does not come this far: it ends the connection with 1007.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The bytes of the message, whether it is text or binary.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Its text, unless it is binary.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Whether the message is text or binary.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }
}

/// A part of a message, lent to [`Handler::on_part`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part<'a> {
    /// The bytes of this part; of a text always whole characters. Only the last part can be empty.
    pub content: Message<'a>,
    /// The message begins here.
    pub is_first: bool,
    /// The message ends here.
    pub is_last: bool,
}

/// How a WebSocket ended: what [`Handler::on_close`] is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// The code of the peer's Close frame. If this side ended the connection because of an error,
    /// the code that it sent. [`CloseCode::ABNORMAL`] if the connection ended without either.
    pub code: CloseCode,
    /// The text of the Close frame.
    pub reason: &'a str,
    /// Whether both sides have sent a Close frame.
    pub is_clean: bool,
    /// How the connection under the WebSocket ended. `unsent_bytes` counts the bytes of frames that
    /// were accepted and that the kernel has not taken; they are lost.
    pub closed: &'a Closed,
}

/// The callbacks of a WebSocket, of a server or a client.
///
/// As with [`waterwheel::Handler`](crate::Handler), what connections share is a field of the
/// handler, and what each keeps is its `State`. Callbacks do not nest. Their order:
///
/// ```text
/// on_open (on_message | on_part | on_pong | on_drain | on_timer)* on_close
/// on_connect_failed                                      a client whose handshake failed
/// ```
///
/// Pings and Close frames are answered without a callback.
///
/// # Examples
/// ```
/// use waterwheel::ws::{self, Message};
///
/// struct Echo;
///
/// impl ws::Handler for Echo {
///     type State = ();
///
///     fn on_message(&mut self, _: &mut (), socket: &mut ws::Socket<'_>, message: Message<'_>) {
///         socket.send(message);
///     }
/// }
/// ```
pub trait Handler: 'static {
    /// What each WebSocket keeps. `()` costs nothing.
    type State: 'static;

    /// The handshake is done, and messages may be sent. Default: nothing.
    fn on_open(&mut self, state: &mut Self::State, socket: &mut Socket<'_>) {
        let _ = (state, socket);
    }

    /// A whole message came in. With [`Options::parts`](crate::ws::Options::parts) it is
    /// [`on_part`](Self::on_part) instead.
    fn on_message(
        &mut self,
        state: &mut Self::State,
        socket: &mut Socket<'_>,
        message: Message<'_>,
    );

    /// A part of a message came in. With [`Options::parts`](crate::ws::Options::parts) this is
    /// called in place of [`on_message`](Self::on_message). The parts need not be the frames that
    /// the peer has sent. If the connection ends within a message, `on_close` follows without a
    /// last part.
    ///
    /// If your program cannot keep up, as when a disk is slow, call [`Socket::pause_reading`]:
    /// nothing more is held in memory, and TCP holds the peer back.
    ///
    /// Default: closes with [`CloseCode::INTERNAL`], because the messages would be lost without a
    /// trace.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::ws::{self, Message, Part};
    ///
    /// struct Meter;
    ///
    /// impl ws::Handler for Meter {
    ///     type State = u64;
    ///
    ///     fn on_message(&mut self, _: &mut u64, _: &mut ws::Socket<'_>, _: Message<'_>) {}
    ///
    ///     fn on_part(&mut self, bytes: &mut u64, socket: &mut ws::Socket<'_>, part: Part<'_>) {
    ///         *bytes += part.content.bytes().len() as u64;
    ///         if part.is_last {
    ///             socket.send_text(&format!("{} bytes", std::mem::take(bytes)));
    ///         }
    ///     }
    /// }
    ///
    /// let options = ws::Options::default().parts(Some(ws::Parts::default()));
    /// # let _ = options;
    /// ```
    fn on_part(&mut self, state: &mut Self::State, socket: &mut Socket<'_>, part: Part<'_>) {
        let _ = (state, part);
        log::error!("messages come in parts, and the handler has no on_part");
        socket.close(CloseCode::INTERNAL, "");
    }

    /// A pong came in, with the payload of the ping. Default: nothing.
    fn on_pong(&mut self, state: &mut Self::State, socket: &mut Socket<'_>, payload: &[u8]) {
        let _ = (state, socket, payload);
    }

    /// Output fell to the low mark after it had reached the high mark: once per crossing. Default:
    /// nothing.
    fn on_drain(&mut self, state: &mut Self::State, socket: &mut Socket<'_>) {
        let _ = (state, socket);
    }

    /// A timer of the connection fired ([`Socket::set_timer`]). Default: nothing.
    fn on_timer(&mut self, state: &mut Self::State, socket: &mut Socket<'_>, timer: Timer) {
        let _ = (state, socket, timer);
    }

    /// The connection has ended: exactly once for every `on_open`, and the last callback. Default:
    /// drops the state.
    fn on_close(&mut self, state: Self::State, ended: Ended<'_>, cx: &mut Context<'_>) {
        let _ = (state, ended, cx);
    }

    /// A client did not reach `on_open`: the connection did not come up, or the server refused the
    /// handshake. With a [`Reconnect`](crate::Reconnect) policy it is called after the last try:
    /// see [`Client`](crate::ws::Client). Default: drops the state.
    ///
    /// The kind of the error says what has happened. `InvalidData`: the answer breaks the protocol.
    /// `ConnectionRefused`: the answer has another status than 101. `TimedOut`: no answer in time.
    /// `UnexpectedEof`: the connection ended before the answer. If the connection did not come up,
    /// the error is the system's.
    fn on_connect_failed(&mut self, state: Self::State, error: io::Error, cx: &mut Context<'_>) {
        let _ = (state, error, cx);
    }
}
