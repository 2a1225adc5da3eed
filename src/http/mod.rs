//! HTTP/1.1 as a handler: a server with routes, bodies in both directions, and answers that may
//! come later; and a client over a pool.
//!
//! [`Server`] is a [`Handler`](crate::Handler) that uses only what every handler can use: it is
//! registered and passed to `listen` like any other, under TLS too, and in a simulated world. A
//! [`Router`] leads from a method and a path to a closure. The closure is lent the value that all
//! routes share, the [`Request`], and the [`Response`] to fill. With the feature `ws` a route may
//! also begin a WebSocket: see the module `ws`.
//!
//! # Guarantees
//! - One exchange at a time per connection: pipelined requests are answered in order, and their
//!   answers leave together.
//! - Malformed input has one exact answer, and ends its connection. That cannot be switched off:
//!   where two readers would understand a request differently, requests can be smuggled.
//! - A request with a head of ordinary size and an answer of known length allocate nothing.
//! - The body of a request is read only if the handler asks for it, and a client that waits for a
//!   100 gets it then. An answer that is given before the body is read still arrives.
//! - An answer that is cut short ends with a reset; it never looks whole.
//! - Each phase of a connection has a clock ([`Options`]), except while your handler has not
//!   answered yet: a [`Response::later`] that is forgotten waits until the client goes.
//!
//! # What the server does by itself
//! | | |
//! |---|---|
//! | HEAD | the handler of GET, without the body |
//! | OPTIONS | 204 with `Allow` |
//! | no route; no handler for the method | 404; 405 with `Allow` |
//! | `Date`, `Content-Length`, `Connection`, chunks | from what the answer is |
//! | HTTP/1.0 | closed after the answer, unless the client asks otherwise |
//! | a drain of the reactor | idle connections end at once, busy ones after their answer |
//!
//! Streams of events, for an `EventSource` of a page, are answers too: see [`Response::events`].
//!
//! # Files
//! [`Response::file`] answers with a part of a file. The feature `http-files` adds `Files`, which
//! serves a directory: with ranges, conditions and compressed copies.
//!
//! # Forms, uploads, sessions
//! The feature `http-forms` adds `Response::form` for forms that are one text,
//! `Response::receive_multipart` for those in parts, and `Response::receive_files` for those whose
//! files go to a directory, beside the loop.
//!
//! The feature `http-session` adds `Request::cookie`, `Response::set_cookie`, `CookieKeys` and
//! `Sessions`.
//!
//! # Examples
//! See [`Server`] and [`Client`], `examples/http_hello.rs` and `examples/http_client.rs`.

mod body;
mod chunk;
mod client;
mod clocks;
mod date;
mod drive;
mod durations;
mod events;
mod exchange;
mod field_list;
mod fields;
mod file;
#[cfg(feature = "http-files")]
mod files;
#[cfg(feature = "http-forms")]
mod forms;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg_attr(not(feature = "http-gzip"), path = "gzip/stub.rs")]
mod gzip;
mod head;
mod held;
mod known;
mod method;
mod metrics;
mod offload;
mod options;
mod record;
mod refusal;
mod request;
mod respond;
mod response;
mod router;
mod server;
#[cfg(feature = "http-session")]
mod session;
mod shared;
mod state;
mod stats;
mod status;
mod target;
mod upgrade;
mod usual;

pub use body::{Body, Flow};
pub use client::{
    Answer, AnswerReader, Call, CallPhase, Client, ClientError, ClientOptions, Redirects, Upload,
};
pub use events::Event;
pub use exchange::ReplyId;
pub use fields::{Fields, InvalidField};
#[cfg(feature = "http-files")]
pub use files::Files;
#[cfg(feature = "http-forms")]
pub use forms::{
    Form, InvalidForm, Multipart, Part, Received, UploadOptions, UploadedFile, Uploads,
};
#[cfg(feature = "http-gzip")]
pub use gzip::Gzip;
pub use head::Version;
pub use method::Method;
pub use options::{Options, limits};
pub use record::Record;
pub use request::Request;
pub use response::Response;
pub use router::{Next, Route, Router};
pub use server::Server;
#[cfg(feature = "http-session")]
pub use session::{
    CookieKeys, SameSite, Session, SessionId, SessionOf, SessionStore, Sessions, SessionsFull,
    SessionsOptions, SetCookie, StoredSession, StoredSessions,
};
pub use stats::HttpStats;
pub use status::reason;
pub use upgrade::Upgraded;
