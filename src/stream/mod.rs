//! Stream sockets: TCP connections and Unix sockets, and the listeners that accept them.
//!
//! [`Streams`] holds them. What is done to one is done by a [`Link`], which borrows the connection
//! and the engine together: nothing behind it looks the connection up again. User code is not run
//! here.

mod closed;
pub(crate) mod config;
mod connect;
pub(crate) mod connection;
pub(crate) mod first_reads;
mod given_back;
mod handover;
mod handshake_slots;
pub(crate) mod happy_eyeballs;
mod layers;
mod link;
mod listen;
pub(crate) mod listener;
mod parts;
mod refusal;
mod requests;
pub(crate) mod room;
mod send_file;
mod shed;
mod table;
#[cfg(all(test, not(loom)))]
#[path = "../tests/stream/mod.rs"]
mod tests;
mod timers;
#[cfg_attr(not(unix), path = "unix_stub.rs")]
mod unix;
mod watch;
mod write;
mod write_later;

pub use closed::Closed;
pub(crate) use connect::{explain_connect, explain_dial};
pub(crate) use handover::{Handover, Load, Route, reset};
pub(crate) use link::Link;
pub(crate) use listen::{adopt, bind, warn_of_silence};
pub(crate) use refusal::{MAX_REFUSAL_BYTES, refuse_with};
pub(crate) use room::Admission;
pub(crate) use table::{ConnectFailure, Streams};
pub use write::Written;
