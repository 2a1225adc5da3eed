//! The outside world, in one room: sockets, the poll, the waker, the clock, the open-file limit.
//!
//! Every type is an enum with one variant per world, so that the rest of the crate needs no
//! generics and another world can be added without touching it. With one variant the `match`
//! costs nothing. A [`World`] makes them; what they are asked afterwards stays in their world.
//!
//! `os/` is the operating system. `sim/` is the simulated world; a build without the feature
//! `sim` has `sim_stub.rs` in its place, whose types have no values and cost nothing.

mod batch;
mod datagram;
mod errors;
mod listener;
mod os;
mod poller;
#[cfg_attr(not(feature = "sim"), path = "sim_stub.rs")]
pub(crate) mod sim;
mod stream;
mod world;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub(crate) use batch::{Inbound, Outbound};
pub(crate) use datagram::{DatagramSocket, is_let_go};
pub(crate) use errors::{ReadFault, SendFault, Shortage, shortage_hint};
pub(crate) use listener::Listener;
pub(crate) use os::Unregistered as Loose;
#[cfg(feature = "activation")]
pub use os::activated_listeners;
#[cfg(all(feature = "signals", unix))]
pub(crate) use os::end_bell;
pub(crate) use os::{
    Answer, BATCH, BATCHES_ARE_CALLS, Backlog, Cores, Ends, FileSink, Notifier, Route,
    allowed_cores, interface_addr, pin_to, range_of, read_of,
};
#[cfg(unix)]
pub(crate) use os::{Before, Control, ControlWaker, UnixDatagrams, has_input};
pub use os::{Credentials, raise_open_file_limit};
#[cfg(feature = "http-files")]
pub(crate) use os::{Folder, file_id};
#[cfg(unix)]
pub use os::{receive_listeners, send_listeners};
pub(crate) use poller::{Event, Events, Poller, Waker};
pub(crate) use stream::Stream;
pub(crate) use world::{Clock, Spare, World};

/// Whether observers are told of messages on the fast path too. A simulation watches every
/// callback, and its connections take the way there that they take in the real world.
pub(crate) const OBSERVES_FAST_PATH: bool = sim::OBSERVES_FAST_PATH;

/// What stands for the address of a Unix socket, which has none.
pub(crate) const NO_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What an event says, in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    /// There is something to read, or the end.
    pub(crate) readable: bool,
    /// Output may be taken again.
    pub(crate) writable: bool,
    /// Urgent data is unread: reads stop short at it and must go on to `WouldBlock`.
    pub(crate) urgent: bool,
    /// The peer has sent FIN or the connection is broken: reads must go on to the end.
    pub(crate) hung_up: bool,
    /// The connection is broken.
    pub(crate) broken: bool,
}

/// What a name in a directory is.
#[cfg(feature = "http-files")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    File,
    Folder,
    /// A link, a pipe, a socket, a device.
    Other,
}

#[cold]
fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

#[cold]
fn of_two_worlds() -> io::Error {
    let text = "the socket or descriptor is of another world than the poll";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
