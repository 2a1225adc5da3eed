//! Datagrams on their way, and what became of all of them.

use std::net::SocketAddr;

/// What became of all datagrams of a world. At the end of a run, when nothing is on its way,
/// `sent + doubled` is the sum of all the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Datagrams {
    /// Taken from a sender.
    pub sent: u64,
    /// Copies that the network made.
    pub doubled: u64,
    /// Read by a receiver.
    pub received: u64,
    /// Lost by the network.
    pub lost: u64,
    /// Lost because the receiver's buffer was full.
    pub overflowed: u64,
    /// Sent to an address without a socket.
    pub unclaimed: u64,
    /// Not read when their socket was closed.
    pub unread: u64,
}

/// The post of a world.
#[derive(Debug, Default)]
pub(super) struct Post {
    pub(super) counts: Datagrams,
    /// The open sockets.
    pub(super) open: Vec<u32>,
    /// What is on its way, by number; the free numbers.
    pub(super) flying: Vec<Option<Flying>>,
    pub(super) free: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Flying {
    pub(super) source: u32,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}
