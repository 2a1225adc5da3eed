//! Counters of a pool.

/// What a pool has and has done: the first six say "now", the others only grow.
///
/// Invariant: `open == idle + leased + dialling + closing`, and `open` is at most `max_open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that hold a slot.
    pub open: usize,
    /// Of these, ready to be lent.
    pub idle: usize,
    /// Of these, lent. A lease that was dropped outside of the pool's callbacks counts until the
    /// pool next looks.
    pub leased: usize,
    /// Of these, being connected or in their handshake.
    pub dialling: usize,
    /// Of these, on their way out.
    pub closing: usize,
    /// Tickets that wait.
    pub waiting: usize,
    /// Connections that came up and finished their handshake.
    pub created: u64,
    /// Leases.
    pub leases: u64,
    /// Of these, of a connection that had been lent before.
    pub reused: u64,
    /// Connections that failed to come up, or in their handshake.
    pub failed_dials: u64,
    /// Leased connections that ended before they were released.
    pub lost: u64,
    /// Tickets whose wait was too long.
    pub timed_out: u64,
    /// Tickets that were refused for another reason: too many waited, the dial failed, the pool
    /// was closed, the reactor stopped.
    pub refused: u64,
    /// Tickets that were taken back while they waited.
    pub cancelled: u64,
    /// Connections that the pool has ended, and why.
    pub evicted: Evicted,
}

/// Connections that a pool has ended, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// Idle for too long.
    pub idle_timeout: u64,
    /// Too old.
    pub lifetime: u64,
    /// Came back when there were as many idle ones as may be.
    pub surplus: u64,
    /// The peer finished or reset it while it was idle, or it broke.
    pub peer: u64,
    /// The peer sent something while it was idle.
    pub stray: u64,
    /// Came back with output queued, input unconsumed, reading paused, or closed for writing.
    pub dirty: u64,
    /// Came back with `discard`.
    pub discarded: u64,
    /// The pool was closed, or the reactor drains.
    pub shutdown: u64,
}

impl Evicted {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { idle_timeout, lifetime, surplus, peer, stray, dirty, discarded, shutdown } =
            *self;
        idle_timeout + lifetime + surplus + peer + stray + dirty + discarded + shutdown
    }
}

/// Why a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    IdleTimeout,
    Lifetime,
    Surplus,
    Peer,
    Stray,
    Dirty,
    Discarded,
    Shutdown,
}

impl Evicted {
    pub(super) fn count(&mut self, why: Why) {
        *match why {
            Why::IdleTimeout => &mut self.idle_timeout,
            Why::Lifetime => &mut self.lifetime,
            Why::Surplus => &mut self.surplus,
            Why::Peer => &mut self.peer,
            Why::Stray => &mut self.stray,
            Why::Dirty => &mut self.dirty,
            Why::Discarded => &mut self.discarded,
            Why::Shutdown => &mut self.shutdown,
        } += 1;
    }
}
