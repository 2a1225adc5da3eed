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

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: TurnBudgets = TurnBudgets::USUAL;

    fn id(index: u32) -> ConnId {
        ConnId::new(index, 1)
    }

    #[test]
    fn each_has_its_turn_in_the_order_in_which_it_stopped() {
        let mut queue = ReadyQueue::default();
        assert!(queue.is_empty());
        queue.push(id(1));
        queue.push(id(2));
        assert!(!queue.is_empty() && queue.connections().iter().eq(&[id(1), id(2)]));
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(id(1)), Some(id(2)), None]);
        let socket = Queued::Socket(SocketId::new(1, 1));
        for queued in [Queued::Listener(3), socket, Queued::Listener(4)] {
            queue.push_other(queued);
        }
        assert!(!queue.is_empty() && queue.others() == 3);
        assert_eq!(queue.pop_other(), Some(Queued::Listener(3)));
        queue.forget_listeners();
        assert_eq!([queue.pop_other(), queue.pop_other()], [Some(socket), None]);
        assert!(queue.is_empty() && queue.others() == 0);
    }

    #[test]
    fn a_phase_sends_so_much_and_files_share_it() {
        let mut queue = ReadyQueue::default();
        assert!(!queue.has_room(), "no phase has begun");
        assert_eq!(
            queue.share_of_files(USUAL),
            USUAL.min_share_bytes,
            "and yet there is a last look"
        );
        queue.renew_room(USUAL);
        assert_eq!(queue.share_of_files(USUAL), USUAL.room_bytes);
        queue.push(id(1));
        queue.push(id(2));
        queue.push(id(3));
        assert_eq!(queue.share_of_files(USUAL), USUAL.room_bytes / 4);
        queue.use_room(USUAL.room_bytes - 100_000);
        assert!(queue.has_room() && queue.share_of_files(USUAL) == 100_000);
        queue.use_room(99_999);
        assert!(queue.has_room() && queue.share_of_files(USUAL) == USUAL.min_share_bytes);
        queue.use_room(1);
        assert!(!queue.has_room());
        queue.renew_room(USUAL);
        queue.use_room(USUAL.room_bytes + 1);
        assert!(!queue.has_room(), "the last to send may overrun it");
        (3..100).for_each(|index| queue.push(id(index)));
        queue.renew_room(USUAL);
        assert_eq!(queue.share_of_files(USUAL), USUAL.min_share_bytes);
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let mut queue = ReadyQueue::default();
        for index in 0..100_000 {
            queue.push(id(index));
            queue.push_other(Queued::Listener(index));
        }
        while queue.pop().is_some() && queue.pop_other().is_some() {}
        assert!(queue.room() >= 100_000);
        queue.give_back();
        assert!(queue.room() < 10_000, "{}", queue.room());
    }
}
