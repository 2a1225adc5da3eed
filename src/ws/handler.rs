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

/// A part of a message, lent to [`Handler::on_part`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part<'a> {
    /// What has come: of a text, whole characters. Empty at most where it is the last part.
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
/// on_open (on_message | on_part | on_pong | on_drain | on_timer)* on_close
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

    /// A whole message came in. With [`Options::parts`](crate::ws::Options::parts) it is
    /// [`on_part`](Self::on_part) instead.
    fn on_message(
        &mut self,
        state: &mut Self::State,
        socket: &mut Socket<'_>,
        message: Message<'_>,
    );

    /// A part of a message came in, where [`Options::parts`](crate::ws::Options::parts) is set:
    /// [`on_message`](Self::on_message) is not called then. Where the parts are divided does not
    /// depend on the frames. The message may never end: `on_close` follows then.
    ///
    /// To stop for a while, as when a disk is behind, call [`Socket::pause_reading`]: nothing more
    /// is held in memory, and TCP holds the peer back.
    ///
    /// Default: closes with [`CloseCode::INTERNAL`], because nothing would notice the messages.
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
