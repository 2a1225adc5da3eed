//! What a pool does in one turn, and how much of it.

/// Connections that a pool ends of its own accord in one turn, and dials that it begins: about a
/// millisecond's work of each, since one costs some system calls.
const CONNECTIONS_PER_TURN: usize = 64;

/// Callbacks of waiters in one turn; about as many as a turn may have messages of one kind before
/// others have their turn.
const CALLS_PER_TURN: usize = 64;

/// What has been done in the turn that goes on.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Which turn it is.
    turn: u64,
    /// Connections that were ended.
    pub(super) ended: usize,
    /// Dials that were begun.
    pub(super) dialled: usize,
    /// Waiters that were served or refused.
    pub(super) called: usize,
}

impl Account {
    /// The account of a turn.
    #[inline]
    pub(super) fn begin(&mut self, turn: u64) -> &mut Self {
        if self.turn != turn {
            *self = Self { turn, ended: 0, dialled: 0, called: 0 };
        }
        self
    }

    /// Whether the turn has room for the end of another connection.
    #[inline]
    pub(super) fn may_end(&self) -> bool {
        self.ended < CONNECTIONS_PER_TURN
    }

    /// Whether the turn has room for another dial.
    pub(super) fn may_dial(&self) -> bool {
        self.dialled < CONNECTIONS_PER_TURN
    }

    /// Whether the turn has room for another waiter.
    pub(super) fn may_call(&self) -> bool {
        self.called < CALLS_PER_TURN
    }
}
