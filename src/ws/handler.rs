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

/// A whole message, lent to [`Handler::on_message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text. What is not UTF-8 does not come this far: it ends the connection with 1007.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Its bytes, whatever it is.
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

    /// What it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }
}

/// How a WebSocket ended: what [`Handler::on_close`] is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// The code of the peer's Close frame; or that of this side, if it has failed the connection;
    /// or [`CloseCode::ABNORMAL`] if the connection ended without either.
    pub code: CloseCode,
    /// The reason that stood behind the code.
    pub reason: &'a str,
    /// Whether both sides have said Close.
    pub is_clean: bool,
    /// The end of the connection beneath. `unsent_bytes` counts the bytes of frames that were
    /// accepted and that the kernel has not taken; they are lost.
    pub closed: &'a Closed,
}

/// The callbacks of a WebSocket, of a server or a client.
///
/// As with [`waterwheel::Handler`](crate::Handler), what connections share is a field of the
/// handler, and what each keeps is its `State`. Callbacks do not nest. Their order:
///
/// ```text
/// on_open (on_message | on_pong | on_drain | on_timer)* on_close
/// on_connect_failed                                      a client whose handshake failed
/// ```
///
/// Pings are answered, and a Close frame is, without a callback.
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

    /// A whole message came in.
    fn on_message(
        &mut self,
        state: &mut Self::State,
        socket: &mut Socket<'_>,
        message: Message<'_>,
    );

    /// A pong came in, with what the ping had said. Default: nothing.
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

    /// A client did not get as far as `on_open`: the connection did not come up, or the server did
    /// not agree to speak WebSocket. Default: drops the state.
    ///
    /// The kind of the error says what has happened: `InvalidData` for an answer that breaks the
    /// protocol, `ConnectionRefused` for one with another status than 101, `TimedOut` for none in
    /// time, `UnexpectedEof` for a connection that ended before it, and the system's for a
    /// connection that did not come up.
    fn on_connect_failed(&mut self, state: Self::State, error: io::Error, cx: &mut Context<'_>) {
        let _ = (state, error, cx);
    }
}
