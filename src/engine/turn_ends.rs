//! When turns ended, for what counts from a stamp of their start.
//!
//! The clock is read once a turn, so what moves or begins in a turn is stamped with the tick of its
//! start: a message costs no look at the clock. However, it may have moved as late as at the end of
//! the turn. A check that takes a silence or a time for over asks here first, which is seldom. A
//! turn within its tick has nothing to note.
//!
//! What the loop itself stamps could be stamped anew instead. That costs each message of a turn, so
//! only a turn of which nothing exact can be remembered has its stamps renewed. What programs and
//! protocols have stamped the loop does not know.

use super::window::{Mark, WINDOW, Window};

/// A longer turn has its stamps renewed, in ticks.
pub(super) const LONGEST_TURN: u64 = 100;

/// The longest limit that counts from stamps which are not renewed, in ticks: when it is over, the
/// turn of its stamp is remembered. A rate whose grace lasts longer than that, and a connection
/// whose limit is made longer meanwhile, may end earlier than they should by [`LONGEST_TURN`].
pub(super) const LONGEST_LIMIT: u64 = WINDOW - 2 * LONGEST_TURN;

/// When the turns of the last minutes ended that did not end in the tick of their start.
#[derive(Debug)]
pub(crate) struct TurnEnds {
    /// Of two turns that begin in one tick the first ends in it, and is not marked.
    ticks: Window,
    /// The longest of them, in ticks.
    longest: u64,
    /// The longest limit that counts from stamps, in ticks.
    longest_limit: u64,
    /// The tick that stamps were renewed with last, which the next turn may begin in.
    renewed: Option<u64>,
}

impl TurnEnds {
    pub(crate) fn new() -> Self {
        Self { ticks: Window::new(), longest: 0, longest_limit: 0, renewed: None }
    }

    /// A limit of so many ticks counts from stamps from now on.
    pub(crate) fn note_limit(&mut self, limit: u64) {
        self.longest_limit = self.longest_limit.max(limit);
    }

    /// A turn has ended in a later tick than it began in; `is_first` if none began in that tick
    /// before, `is_small` if it has stamped little. Returns whether what it has stamped keeps the
    /// stamp of its start: [`latest`] finds its end then.
    ///
    /// [`latest`]: Self::latest
    pub(crate) fn note(&mut self, start: u64, end: u64, is_first: bool, is_small: bool) -> bool {
        debug_assert!(start < end);
        let length = end - start;
        let is_alone = is_first && self.renewed != Some(start);
        let is_exact = is_alone && length <= LONGEST_TURN && self.longest_limit <= LONGEST_LIMIT;
        // What has the same stamp and is not of this turn seems a tick younger than it is then: not
        // for a turn in which nothing, or little, has moved.
        let is_kept = is_exact || (length == 1 && !is_small);
        self.ticks.note(start, Mark::Begun);
        if is_kept {
            self.ticks.note(start, Mark::Stamped);
        } else {
            self.renewed = Some(end);
        }
        self.ticks.note(end, Mark::Ended);
        self.longest = self.longest.max(length);
        is_kept
    }

    /// The tick in which something surely had moved that the loop has stamped with this one. Of
    /// what is not remembered any more it is the next, so that nothing is taken for older than it
    /// is.
    #[inline]
    pub(crate) fn latest(&self, stamp: u64) -> u64 {
        match self.ticks.has(stamp, Mark::Stamped) {
            Some(false) => stamp,
            Some(true) => self.ticks.next(stamp, Mark::Ended).unwrap_or(stamp),
            None => stamp.saturating_add(1),
        }
    }

    /// The tick in which the turn ended that began in this one. Of a turn that is not remembered
    /// any more it is the latest that it can have been.
    pub(crate) fn of(&self, start: u64) -> u64 {
        match self.ticks.has(start, Mark::Begun) {
            Some(true) => self.ticks.next(start, Mark::Ended).unwrap_or(start),
            Some(false) => start,
            None => start.saturating_add(self.longest),
        }
    }
}
