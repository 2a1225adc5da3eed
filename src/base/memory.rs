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
    /// Entries of each table that are still to go back.
    left: usize,
    payloads: Vec<T>,
    extras: Vec<E>,
    ids: [Vec<u32>; 2],
}

impl<T, E> Leaving<T, E> {
    pub(crate) const fn none() -> Self {
        Self { left: 0, payloads: Vec::new(), extras: Vec::new(), ids: [Vec::new(), Vec::new()] }
    }

    /// No table has more entries than there are payloads.
    pub(crate) fn new(mut payloads: Vec<T>, mut extras: Vec<E>, mut ids: [Vec<u32>; 2]) -> Self {
        let left = payloads.len();
        payloads.clear();
        extras.clear();
        ids.iter_mut().for_each(Vec::clear);
        Self { left, payloads, extras, ids }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Gives a piece back; returns how many entries of each table it was.
    pub(crate) fn shrink(&mut self) -> usize {
        let count = self.left.min(FORGOTTEN_PER_STEP);
        if count > 0 {
            self.left -= count;
            self.payloads.shrink_to(self.left);
            self.extras.shrink_to(self.left);
            self.ids.iter_mut().for_each(|table| table.shrink_to(self.left));
        }
        count
    }
}

#[cfg(test)]
impl<T, E> Leaving<T, E> {
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Entries for which each table has memory.
    pub(crate) fn room(&self) -> [usize; 4] {
        let [generations, free] = &self.ids;
        [self.payloads.capacity(), self.extras.capacity(), generations.capacity(), free.capacity()]
    }
}
