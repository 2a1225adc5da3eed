//! A simulated world in virtual time, driven by a seed: sockets, the poll, the clock.
//!
//! Everything is in one [`World`]; what the rest of the crate holds are handles on it. Nothing in
//! it sleeps, and no socket of the operating system is opened.
//!
//! The files stand in one line, and each names only files before its own. First comes the state
//! of single things, then the world that holds them, then what happens in it, each file a part of
//! `impl World`. Those parts call each other's methods: a segment that arrives may have a script
//! go on, which sends a segment. Last come the handles.

mod chance;
mod event;
mod link;
mod post;
mod process;
mod replay;
mod script;
mod socket;
mod trace;

mod world;

mod datagram_peer;
mod faults;
mod handshake;
mod peer;
mod poll;
mod readiness;
mod tcp;
mod time;
mod udp;

mod datagram;
mod host;
mod poller;
mod stream;

/// See [`crate::sys::OBSERVES_FAST_PATH`].
pub(super) const OBSERVES_FAST_PATH: bool = true;

pub use chance::{Fault, Faults};
pub(crate) use datagram::DatagramSocket;
pub(crate) use host::Host;
pub(crate) use poller::{Clock, Events, Poller, Spare, Waker};
pub use post::Datagrams;
pub(crate) use process::{Event, Stage};
pub(crate) use replay::{Patch, Step, What};
pub use script::{PeerEnd, Reaction, Script};
pub(crate) use stream::{Listener, Stream};
pub(crate) use trace::Note;
pub(crate) use world::{Rest, World};
