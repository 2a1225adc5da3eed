//! Datagram sockets, of UDP and of Unix. A first reading can skip them.

mod flags;
#[cfg(unix)]
mod receiver_queues;
mod send;
mod sessions;
mod socket;
#[cfg(unix)]
mod unix;

pub(crate) use flags::SocketFlags;
pub use send::SendStatus;
pub use sessions::Sessions;
pub(crate) use sessions::{SessionKey, Silence};
pub(crate) use socket::{Socket, Sockets};
