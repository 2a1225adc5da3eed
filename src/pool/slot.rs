//! One place of a pool, and the connection that has it.

use std::time::Duration;

use crate::base::id::ConnId;
use crate::pool::PoolStats;

/// How far the connection of a seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has the seat.
    Free,
    /// It is being connected.
    Dialling,
    /// It is up, and its handshake goes on.
    Greeting,
    /// It is ready to be lent.
    Idle,
    /// It is lent.
    Leased,
    /// It is on its way out, and keeps the seat until it is gone.
    Closing,
}

/// A place of a pool.
#[derive(Debug)]
pub(super) struct Seat<S> {
    pub(super) phase: Phase,
    /// Whose it is; `None` before it is dialled.
    pub(super) id: Option<ConnId>,
    /// What the client keeps for it; `None` while that is lent to a callback.
    pub(super) state: Option<S>,
    /// It was last lent or heard of then.
    pub(super) active_at: Duration,
    /// It came up then.
    pub(super) born_at: Duration,
    /// It is too old then.
    pub(super) dies_at: Duration,
    /// It is not lent from then on, if it is idle: silent for too long, or too old.
    pub(super) idle_until: Duration,
    /// It has been lent before.
    pub(super) was_lent: bool,
}

impl<S> Seat<S> {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Free,
            id: None,
            state: None,
            active_at: Duration::ZERO,
            born_at: Duration::ZERO,
            dies_at: Duration::MAX,
            idle_until: Duration::MAX,
            was_lent: false,
        }
    }

    pub(super) fn is_lent_as(&self, id: ConnId) -> bool {
        self.phase == Phase::Leased && self.id == Some(id)
    }
}

impl PoolStats {
    /// A seat passes from one phase to another.
    #[inline]
    pub(super) fn pass(&mut self, from: Phase, to: Phase) {
        if let Some(count) = self.count_of(from) {
            *count -= 1;
        }
        if let Some(count) = self.count_of(to) {
            *count += 1;
        }
        self.open -= usize::from(from != Phase::Free);
        self.open += usize::from(to != Phase::Free);
    }

    #[inline]
    fn count_of(&mut self, phase: Phase) -> Option<&mut usize> {
        match phase {
            Phase::Free => None,
            Phase::Dialling | Phase::Greeting => Some(&mut self.dialling),
            Phase::Idle => Some(&mut self.idle),
            Phase::Leased => Some(&mut self.leased),
            Phase::Closing => Some(&mut self.closing),
        }
    }
}
