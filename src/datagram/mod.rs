//! Datagram sockets, of UDP and of Unix. A first reading can skip them.

mod bind;
mod flags;
mod link;
#[cfg(unix)]
mod receiver_queues;
mod send;
mod sessions;
mod socket;
mod table;
#[cfg_attr(not(unix), path = "unix_stub.rs")]
mod unix;

pub(crate) use flags::SocketFlags;
pub(crate) use link::SocketLink;
pub use send::SendStatus;
pub use sessions::Sessions;
pub(crate) use sessions::{SessionKey, Silence};
pub(crate) use socket::Socket;
pub(crate) use table::{ServedBy, Sockets};
