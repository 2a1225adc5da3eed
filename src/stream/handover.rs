//! Connections that one reactor accepts and another one serves, and how many each has.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::sys::{Loose, Stream};

/// How many connections a reactor of several has, for the acceptor that chooses among them.
///
/// A `Load` has cache lines of its own: two, because current processors fetch them in pairs. The
/// count is written when a connection comes or goes, and not when a message does.
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
    /// Hands a connection over; returns whether a reactor has taken it. If none has, it was reset.
    fn hand_over(&mut self, stream: Loose, peer: SocketAddr) -> bool;
}

/// A place in the count of a reactor, given back when it is dropped.
///
/// A connection has it from the moment it is handed over: of many that are accepted in one turn,
/// none has arrived when the last is handed over. The connection keeps its place when it arrives,
/// so that a look meanwhile never finds one too few or too many.
#[derive(Debug)]
pub(crate) struct LoadGuard(Option<Arc<Load>>);

impl LoadGuard {
    fn new(load: Arc<Load>) -> Self {
        load.enter();
        Self(Some(load))
    }

    /// The connection has arrived, and counts as any other from now on.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.leave();
        }
    }
}

/// A connection on its way to the reactor that serves it. If it does not get there it is reset,
/// so that the client knows.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Both are there until it has arrived.
    content: Option<(Loose, LoadGuard)>,
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// The listener there that it counts for.
    pub(crate) listener: u32,
}

impl Handover {
    pub(crate) fn new(stream: Loose, peer: SocketAddr, listener: u32, load: Arc<Load>) -> Self {
        Self { content: Some((stream, LoadGuard::new(load))), peer, listener }
    }

    /// Takes it off its way.
    pub(crate) fn take(mut self) -> Option<(Loose, LoadGuard)> {
        self.content.take()
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some((stream, _)) = self.content.take() {
            log::debug!("{}: reset, its reactor has stopped", self.peer);
            reset(stream.into_stream());
        }
    }
}

/// Closes a connection that no reactor serves so that the client knows.
pub(crate) fn reset(stream: Stream) {
    // A failure means that the client is gone already.
    let _ = stream.reset_on_close();
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};

    use super::*;
    use crate::options::{ConnectOptions, ListenOptions};
    use crate::sys::World;

    /// A connection that was accepted, and its client.
    fn accepted() -> (Loose, Stream) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, _) = World::Os.bind(any, &ListenOptions::default()).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = World::Os.connect(addr, &ConnectOptions::default()).unwrap();
        loop {
            // The handshake may take a moment.
            if let Ok((stream, _)) = listener.accept() {
                return (Loose::new(stream).unwrap(), client);
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_does_not_arrive_is_reset_and_counted_no_more() {
        let load = Arc::new(Load::default());
        let (stream, mut client) = accepted();
        let peer = client.local_addr().unwrap();
        let handed = Handover::new(stream, peer, 0, Arc::clone(&load));
        assert_eq!(load.connections(), 1);
        drop(handed);
        assert_eq!(load.connections(), 0);
        let end = loop {
            match client.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                end => break end.map_err(|error| error.kind()),
            }
        };
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }

    #[test]
    fn what_arrives_is_counted_once_all_the_way() {
        let load = Arc::new(Load::default());
        let (stream, client) = accepted();
        let peer = client.local_addr().unwrap();
        let (_stream, ticket) = Handover::new(stream, peer, 0, Arc::clone(&load)).take().unwrap();
        assert_eq!(load.connections(), 1);
        ticket.keep();
        assert_eq!(load.connections(), 1);
    }

    #[test]
    fn the_counts_of_two_reactors_share_no_cache_line() {
        assert_eq!((size_of::<Load>(), align_of::<Load>()), (128, 128));
    }
}
