//! Stands for `unix.rs` where there are no Unix sockets: no receiver has a queue of its own.

use crate::datagram::{Socket, SocketLink};

/// The queues of the receivers: none.
#[derive(Debug, Default)]
pub(crate) struct ReceiverQueues;

impl ReceiverQueues {
    pub(crate) fn is_empty(&self) -> bool {
        true
    }
}

impl Socket {
    pub(super) fn unix_name(&self) -> Option<String> {
        None
    }
}

impl SocketLink<'_> {
    /// Returns what is left of the budget.
    pub(super) fn flush_receivers(&mut self, budget: usize) -> usize {
        budget
    }

    pub(super) fn retry_all(&mut self) {}
}
