//! WebSocket (RFC 6455) with compression (RFC 7692), as server and as client.
//!
//! With the feature `ws`.
//!
//! | to | use |
//! |---|---|
//! | receive and send messages | a [`Handler`], whose callbacks get a [`Socket`] |
//! | accept WebSockets at a server | an [`Endpoint`]; a route calls `upgrade` (feature `http`) |
//! | the same without HTTP, or beside another protocol | [`Endpoint::accept`], a [`Session`] |
//! | connect to a server | a [`Client`], with a [`Request`] |
//! | send the same to many | a [`Room`], and a [`Frame`] |
//! | send to those on all reactors of a fleet | a [`SharedRoom`] |
//!
//! # A page and its WebSockets
//! A single `http::Server` serves both. The value that its routes share is also the [`Handler`] of
//! the WebSockets, so that routes and callbacks see the same fields. A route checks
//! `is_same_origin` and calls `Endpoint::upgrade` with the state of the new WebSocket. From then on
//! the clocks of HTTP do not apply; the limits of the listener do. The program
//! `examples/chat_web.rs` is a page with a chat.
//!
//! # Guarantees
//! - A message is delivered whole, or in parts as they come in ([`Options::parts`]). Limits are
//!   checked before anything is held in memory. A peer that breaks a rule is disconnected with the
//!   close code that RFC 6455 defines for it.
//! - A text that is not UTF-8 is refused at the first byte that cannot be.
//! - An idle WebSocket holds no buffer. Exception: with a compression context that is kept between
//!   messages, it holds the last bytes that were sent and received.
//! - A message in one frame costs no allocation.
//! - A peer that has vanished without closing is detected: see [`Options::ping_interval`].
//! - Bytes that were accepted and not sent are counted when the WebSocket ends: [`Ended::closed`].
//!
//! # Platform notes
//! The masks of a client come from the system's random generator.

mod accept;
mod assembly;
mod client;
mod code;
mod deflate;
mod endpoint;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handler;
mod handshake;
mod header;
mod mask;
mod options;
mod room;
mod session;
mod shared;
mod shared_room;
mod socket;
mod stats;
#[cfg(feature = "http")]
mod upgrade;
mod utf8;
mod wire;

pub use accept::Handshake;
pub use client::{Client, ClientState, Request};
pub use code::CloseCode;
pub use deflate::Deflate;
pub use endpoint::{Accepted, Endpoint};
pub use frame::Frame;
pub use handler::{Ended, Handler, Kind, Message, Part};
pub use handshake::Refused;
pub use options::{Options, Parts};
pub use room::{Published, Room, Slow};
pub use session::Session;
pub use shared_room::{Relayed, RoomPart, SharedRoom};
pub use socket::Socket;
pub use stats::Stats;
#[cfg(feature = "http")]
pub use upgrade::is_same_origin;
