//! What is left for the end of the turn: flushes, closes, and the last callbacks.

use std::collections::VecDeque;

use crate::base::close::CloseReason;
use crate::base::id::{ConnId, SocketId};
use crate::base::memory::GiveBack;

/// Lists of the end of the turn, each worked off in order.
#[derive(Debug, Default)]
pub(crate) struct EndOfTurn {
    /// Connections that want a flush, or the next step of a close.
    flush: VecDeque<ConnId>,
    /// Connections that have ended and are torn down.
    closed: VecDeque<(ConnId, CloseReason)>,
    /// Outgoing connections that failed to come up and try again, of which their handlers are to
    /// be told.
    retries: VecDeque<ConnId>,
    /// Datagram sockets that have a batch to send; some have sent it since.
    batches: Vec<SocketId>,
}

impl EndOfTurn {
    pub(crate) fn push_flush(&mut self, id: ConnId) {
        self.flush.push_back(id);
    }

    pub(crate) fn pop_flush(&mut self) -> Option<ConnId> {
        self.flush.pop_front()
    }

    /// The connections that want a flush.
    pub(crate) fn flushes(&self) -> &VecDeque<ConnId> {
        &self.flush
    }

    pub(crate) fn push_closed(&mut self, id: ConnId, reason: CloseReason) {
        self.closed.push_back((id, reason));
    }

    pub(crate) fn pop_closed(&mut self) -> Option<(ConnId, CloseReason)> {
        self.closed.pop_front()
    }

    /// The connections that have ended.
    pub(crate) fn closed(&self) -> &VecDeque<(ConnId, CloseReason)> {
        &self.closed
    }

    pub(crate) fn push_retry(&mut self, id: ConnId) {
        self.retries.push_back(id);
    }

    pub(crate) fn pop_retry(&mut self) -> Option<ConnId> {
        self.retries.pop_front()
    }

    pub(crate) fn retries(&self) -> usize {
        self.retries.len()
    }

    pub(crate) fn push_batch(&mut self, id: SocketId) {
        self.batches.push(id);
    }

    pub(crate) fn pop_batch(&mut self) -> Option<SocketId> {
        self.batches.pop()
    }

    /// The lists have been worked off: gives back what a burst took.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        self.flush.give_back();
        self.closed.give_back();
        self.retries.give_back();
        self.batches.give_back();
    }

    /// Entries for which the lists have room.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        let queues = [&self.flush, &self.retries].map(VecDeque::capacity);
        let others = [self.closed.capacity(), self.batches.capacity()];
        queues.into_iter().chain(others).max().unwrap_or(0)
    }

    /// Whether all lists are empty.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.flush.is_empty()
            && self.closed.is_empty()
            && self.retries.is_empty()
            && self.batches.is_empty()
    }
}
