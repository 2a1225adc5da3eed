//! Memory that a burst took and that goes back.

use std::collections::VecDeque;

/// Entries for which an empty queue may keep room. A queue that never holds more allocates nothing
/// once it has grown; one that does allocates again at most once in so many entries.
pub(crate) const KEPT_ENTRIES: usize = 4_096;

/// A queue whose owner tells it when it has been worked off.
pub(crate) trait GiveBack {
    /// Gives back the room for more than [`KEPT_ENTRIES`] entries, if the queue is empty.
    fn give_back(&mut self);
}

impl<T> GiveBack for Vec<T> {
    #[inline]
    fn give_back(&mut self) {
        if self.capacity() > KEPT_ENTRIES && self.is_empty() {
            self.shrink_to(KEPT_ENTRIES);
        }
    }
}

impl<T> GiveBack for VecDeque<T> {
    #[inline]
    fn give_back(&mut self) {
        if self.capacity() > KEPT_ENTRIES && self.is_empty() {
            self.shrink_to(KEPT_ENTRIES);
        }
    }
}
