//! HTTP/1.1 as a handler: a server with routes, bodies in both directions, and answers that may
//! come later; and a client over a pool.
//!
//! A [`Server`] is an ordinary [`Handler`](crate::Handler): register it and pass its key to
//! `listen`. It works over TLS and in a simulated world, too. A [`Router`] maps a method and a path
//! to a closure. The closure gets the value that all routes share, the [`Request`], and the
//! [`Response`] to fill. With the feature `ws` a route may also begin a WebSocket: see the module
//! `ws`.
//!
//! # Guarantees
//! - One exchange at a time per connection: pipelined requests are answered in order, and their
//!   answers leave together.
//! - Malformed input has one exact answer, and ends its connection. No option makes the parser
//!   accept more, because a request that two readers understand differently can hide another one
//!   (request smuggling).
//! - A request with a head of ordinary size and an answer of known length allocate nothing.
//! - The body of a request is read only if the handler asks for it. A client that waits for
//!   `100 Continue` gets it then. If the handler answers without reading the body, the answer still
//!   reaches the client.
//! - An answer that is cut short ends with a reset; it never looks whole.
//! - Each phase of a connection has a clock ([`Options`]), except the time in which your handler
//!   owes an answer: if the answer to a [`Response::later`] never comes, the exchange lasts until
//!   the connection breaks or the reactor stops.
//!
//! # What the server does by itself
//! | | |
//! |---|---|
//! | HEAD | the handler of GET, without the body |
//! | OPTIONS | 204 with `Allow` |
//! | no route | 404; a [`Router::fallback`] gives another answer |
//! | no handler for the method | 405 with `Allow`; [`Route::any`] gives another answer |
//! | `Date`, `Content-Length`, `Connection`, chunks | set by the server, as the answer requires |
//! | HTTP/1.0 | closed after the answer, unless the client asks otherwise |
//! | a drain of the reactor | idle connections end at once, busy ones when all is answered |
//!
//! Streams of events, for an `EventSource` of a page, are answers too: see [`Response::events`].
//!
//! # Files
//! [`Response::file`] answers with a part of a file. The feature `http-files` adds `Files`, which
//! serves the files of a directory: with ranges, conditions and compressed copies.
//!
//! # Forms, uploads, sessions
//! The feature `http-forms` adds `Response::form` for URL-encoded forms and
//! `Response::receive_multipart` for multipart forms. `Response::receive_files` writes the files of
//! a form to a directory, on other threads.
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
mod cut;
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
mod params;
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
