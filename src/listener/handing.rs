//! Connections that one reactor accepts and another one serves, and how many each has.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::sys::{Loose, Stream};

/// How many connections a reactor of several has, for whoever chooses among them.
///
/// It has cache lines of its own: two, since current processors fetch them in pairs. It is written
/// when a connection comes or goes, and not when a message does.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Load {
    /// Connections that hold a slot, and those that are on their way there.
    connections: AtomicUsize,
    /// The reactor stops, or is gone.
    is_leaving: AtomicBool,
}

// Nothing else is published by these, so they need no ordering.
impl Load {
    pub(crate) fn enter(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The reactor wants no more connections.
    pub(crate) fn close(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }
}

/// Where the connections of a listener go that another reactor serves.
pub(crate) trait Route: fmt::Debug {
    /// Hands a connection over; whether somebody has taken it. If nobody has, it was reset.
    fn hand_over(&mut self, stream: Loose, peer: SocketAddr) -> bool;
}

/// A connection on its way to the reactor that serves it. If it does not get there it is reset,
/// so that the client knows.
#[derive(Debug)]
pub(crate) struct Handed {
    stream: Option<Loose>,
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// The listener there that it counts for.
    pub(crate) listener: u32,
    /// The load of the reactor there. It counts the way too: of many that are accepted in one
    /// turn, none has arrived when the last is handed over.
    load: Arc<Load>,
}

impl Handed {
    pub(crate) fn new(stream: Loose, peer: SocketAddr, listener: u32, load: Arc<Load>) -> Self {
        load.enter();
        Self { stream: Some(stream), peer, listener, load }
    }

    /// Takes it off its way.
    pub(crate) fn take(mut self) -> Option<Loose> {
        self.stream.take()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.load.leave();
        if let Some(stream) = self.stream.take() {
            log::debug!("{}: reset, its reactor has stopped", self.peer);
            reset(stream.into_stream());
        }
    }
}

/// Closes a connection that nobody serves so that the client knows.
pub(crate) fn reset(stream: Stream) {
    // A failure means that the client is gone already.
    let _ = stream.reset_on_close();
}
