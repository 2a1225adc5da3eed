//! How much of what waits a turn does: the rest is for the next.

use crate::options::DEFAULT_ACCEPT_BUDGET;

/// Budgets of a turn that are no options of a program. A simulated world has small ones now and
/// then, so that its few small sockets use them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TurnBudgets {
    /// Bytes of queued output that each phase of a turn sends.
    pub(crate) room_bytes: usize,
    /// What each connection may send of its files all the same, however many are ready.
    pub(crate) min_share_bytes: usize,
    /// Connections whose output phase 6 sends.
    pub(crate) flushes: usize,
    /// Connections that phase 6 brings a step nearer to their ends, and as many that it tears
    /// down.
    pub(crate) closes: usize,
}

impl TurnBudgets {
    /// Those of every loop outside a simulated world.
    ///
    /// - The kernel copies a MiB in about 0.15 ms, of which the calls of a turn take two
    ///   hundredths; a quarter of it would make that a tenth. A disk that has to be read first
    ///   takes some milliseconds for it.
    /// - Less of a file than 64 KiB would go into calls.
    /// - A message to ten thousand must not keep all others waiting for 60 ms. Each flush is a
    ///   system call of 3 to 6 us, and one more poll costs a tenth of that.
    /// - As many end as a turn accepts by default, so that a storm does not leave more and more
    ///   behind.
    pub(crate) const USUAL: Self = Self {
        room_bytes: 1 << 20,
        min_share_bytes: 64 << 10,
        flushes: 64,
        closes: DEFAULT_ACCEPT_BUDGET,
    };
}
