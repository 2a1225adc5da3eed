//! The ready queue: those that stopped before the kernel was done, in the order in which they did;
//! and how much a phase of the turn may send before the others stop too.

use std::collections::VecDeque;

use crate::base::id::{ConnId, SocketId};
use crate::base::memory::GiveBack;
use crate::options::TurnBudgets;

/// Invariant 7: a turn that finds it not empty polls with timeout zero.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    connections: VecDeque<ConnId>,
    others: VecDeque<Queued>,
    /// Bytes of queued output that this phase may send yet. The last to send may overrun it: one
    /// call sends as much as the socket takes.
    room: usize,
}

/// What is on the ready queue beside connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// A listener, by slot.
    Listener(u32),
    /// A datagram socket that stopped before it was empty, or that has ended.
    Socket(SocketId),
}

impl ReadyQueue {
    /// Queues a connection, which its caller has marked as queued.
    #[inline]
    pub(crate) fn push(&mut self, id: ConnId) {
        self.connections.push_back(id);
    }

    /// Queues a listener or a datagram socket, likewise.
    pub(crate) fn push_other(&mut self, queued: Queued) {
        self.others.push_back(queued);
    }

    pub(crate) fn pop(&mut self) -> Option<ConnId> {
        self.connections.pop_front()
    }

    pub(crate) fn pop_other(&mut self) -> Option<Queued> {
        self.others.pop_front()
    }

    /// The connections in the queue.
    #[inline]
    pub(crate) fn connections(&self) -> &VecDeque<ConnId> {
        &self.connections
    }

    /// A phase begins that sends what is queued.
    #[inline]
    pub(crate) fn renew_room(&mut self, budgets: TurnBudgets) {
        self.room = budgets.room_bytes;
    }

    /// Whether this phase may send any more of what is queued: who finds no room has its turn
    /// behind those that wait already.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.room > 0
    }

    /// So many bytes of what was queued have been sent.
    #[inline]
    pub(crate) fn use_room(&mut self, bytes: usize) {
        self.room = self.room.saturating_sub(bytes);
    }

    /// Bytes of its files that a connection may send now, beside the others that are ready. Never
    /// 0, also where no room is left: a limit that is about to strike has a last look at the
    /// socket, and the last turn sends all.
    pub(crate) fn share_of_files(&self, budgets: TurnBudgets) -> usize {
        let share = budgets.room_bytes / (1 + self.connections.len());
        share.min(self.room).max(budgets.min_share_bytes)
    }

    /// Listeners and datagram sockets in the queue.
    pub(crate) fn others(&self) -> usize {
        self.others.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.others.is_empty()
    }

    /// The queue has been worked off: gives back what a burst took.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        self.connections.give_back();
        self.others.give_back();
    }

    /// Entries for which there is room.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.connections.capacity().max(self.others.capacity())
    }

    /// Listeners are closed: none has a turn any more.
    pub(crate) fn forget_listeners(&mut self) {
        self.others.retain(|queued| matches!(queued, Queued::Socket(_)));
    }
}
