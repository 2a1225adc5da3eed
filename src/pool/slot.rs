//! One place of a pool, and the connection that has it.

use std::time::Duration;

use crate::base::id::ConnId;
use crate::handler::Context;
use crate::pool::PoolStats;

/// How far the connection of a seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection has the seat.
    Free,
    /// The connection is being dialled.
    Dialling,
    /// The connection is up, and its handshake goes on.
    Greeting,
    /// The connection is ready to be lent.
    Idle,
    /// The connection is lent.
    Leased,
    /// The same, and a callback of it has panicked: its end is told, whoever has the lease by then.
    Lost,
    /// The connection is on its way out, and keeps the seat until it is gone.
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
    /// When the connection was last lent or heard of.
    pub(super) active_at: Duration,
    /// The turn in which the connection came up.
    pub(super) born_at: Duration,
    /// The number of that turn.
    pub(super) born_in: u64,
    /// How long the connection may live.
    pub(super) life: Duration,
    /// From when on an idle connection may be silent for too long, or too old, to be lent: see
    /// [`lasts_until`](Self::lasts_until).
    pub(super) idle_until: Duration,
    /// Whether the connection has been lent before.
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
            born_in: 0,
            life: Duration::MAX,
            idle_until: Duration::MAX,
            was_lent: false,
        }
    }

    /// From when on it is not lent, if it is idle: as long as the limit, from the end of the turn
    /// in which it was last of use.
    #[inline]
    pub(super) fn lasts_until(&self, limit: Option<Duration>, cx: &Context<'_>) -> Duration {
        if cx.now() < self.idle_until {
            return self.idle_until;
        }
        let silent = limit.map(|limit| cx.turn_end(self.active_at).saturating_add(limit));
        silent.unwrap_or(Duration::MAX).min(self.age_ends(self.life, cx))
    }

    /// When the connection has an age, counted from the end of the turn in which it came up.
    #[inline]
    pub(super) fn age_ends(&self, age: Duration, cx: &Context<'_>) -> Duration {
        let first = self.born_at.saturating_add(age);
        if cx.now() < first {
            return first;
        }
        cx.turn_end(self.born_at).saturating_add(age)
    }

    /// Whether it has lived for so long.
    #[inline]
    pub(super) fn is_older_than(&self, age: Duration, cx: &Context<'_>) -> bool {
        cx.now() >= self.age_ends(age, cx)
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
            Phase::Leased | Phase::Lost => Some(&mut self.leased),
            Phase::Closing => Some(&mut self.closing),
        }
    }
}
