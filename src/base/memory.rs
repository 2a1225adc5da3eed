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

/// Entries of each table that go back in one step: those of timers with what each carries are some
/// 160 KiB, which the kernel takes back in about 15 us.
pub(crate) const FORGOTTEN_PER_STEP: usize = 4_096;

/// The tables of a wheel whose ids were all forgotten. The kernel takes some milliseconds to take
/// the memory of a million back, so it goes piece by piece.
pub(crate) struct Leaving<T, E> {
    /// As many as there are entries of each table that are still to go back.
    payloads: Vec<T>,
    /// Empty, with memory.
    extras: Vec<E>,
    /// Likewise.
    ids: [Vec<u32>; 2],
}

impl<T, E> Leaving<T, E> {
    pub(crate) const fn none() -> Self {
        Self { payloads: Vec::new(), extras: Vec::new(), ids: [Vec::new(), Vec::new()] }
    }

    /// No table has more entries than there are payloads.
    pub(crate) fn new(payloads: Vec<T>, mut extras: Vec<E>, mut ids: [Vec<u32>; 2]) -> Self {
        extras.clear();
        ids.iter_mut().for_each(Vec::clear);
        Self { payloads, extras, ids }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// Gives a piece back; returns how many entries of each table it was.
    pub(crate) fn shrink(&mut self) -> usize {
        let count = self.payloads.len().min(FORGOTTEN_PER_STEP);
        if count > 0 {
            let left = self.payloads.len() - count;
            self.payloads.truncate(left);
            self.payloads.shrink_to(left);
            self.extras.shrink_to(left);
            self.ids.iter_mut().for_each(|table| table.shrink_to(left));
        }
        count
    }
}

#[cfg(test)]
impl<T, E> Leaving<T, E> {
    pub(crate) fn left(&self) -> usize {
        self.payloads.len()
    }

    /// Entries for which each table has memory.
    pub(crate) fn room(&self) -> [usize; 4] {
        let [generations, free] = &self.ids;
        [self.payloads.capacity(), self.extras.capacity(), generations.capacity(), free.capacity()]
    }
}
