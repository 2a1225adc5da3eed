//! Records in chunks, for the slots of a wheel.

use std::collections::VecDeque;
use std::mem;

/// Records in a chunk: a page of 4 KiB at 16 bytes a record.
///
/// A single growing buffer for a whole slot would copy its records again and again, and leave a
/// third of itself unused.
pub(super) const CHUNK_RECORDS: usize = 256;

/// Records in a slot's first buffer, which doubles until it is a chunk.
const FIRST_RECORDS: usize = 4;

/// Records, those of equal deadline in the order in which their timers were set.
pub(super) struct Chunks<R> {
    /// All records but those in `last`.
    ///
    /// Invariant: each chunk holds `CHUNK_RECORDS`.
    full: VecDeque<Vec<R>>,
    /// The newest records.
    ///
    /// Invariant: capacity at most `CHUNK_RECORDS`; empty only if there are no records.
    pub(super) last: Vec<R>,
}

impl<R> Chunks<R> {
    pub(super) const fn new() -> Self {
        Self { full: VecDeque::new(), last: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.full.len() * CHUNK_RECORDS + self.last.len()
    }

    #[cfg(feature = "sim")]
    pub(super) fn iter(&self) -> impl Iterator<Item = &R> {
        self.full.iter().flatten().chain(&self.last)
    }

    /// All records, in order.
    pub(super) fn into_vecs(self) -> impl Iterator<Item = Vec<R>> {
        self.full.into_iter().chain([self.last])
    }

    /// Takes the oldest records out.
    pub(super) fn pop_front(&mut self) -> Option<Vec<R>> {
        let last = || Some(mem::take(&mut self.last)).filter(|last| !last.is_empty());
        self.full.pop_front().or_else(last)
    }

    /// Whether there is memory for one more record.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.last.len() < self.last.capacity()
    }

    #[inline]
    pub(super) fn push(&mut self, record: R, spare: &mut Vec<Vec<R>>) {
        if !self.has_room() {
            self.make_room(spare);
        }
        self.last.push(record);
    }

    /// Makes room for one more record after `last` has filled its buffer.
    #[cold]
    pub(super) fn make_room(&mut self, spare: &mut Vec<Vec<R>>) {
        let len = self.last.len();
        if len >= CHUNK_RECORDS {
            let buffer = spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_RECORDS));
            self.full.push_back(mem::replace(&mut self.last, buffer));
        } else if len == 0 {
            self.last = spare.pop().unwrap_or_else(|| Vec::with_capacity(FIRST_RECORDS));
        } else {
            self.last.reserve_exact(len.min(CHUNK_RECORDS - len));
        }
    }

    /// Adds records behind those that are there, and returns the buffer that is left over.
    pub(super) fn append(&mut self, mut chunk: Vec<R>) -> Vec<R> {
        if self.last.is_empty() {
            mem::swap(&mut self.last, &mut chunk);
            return chunk;
        }
        let room = (CHUNK_RECORDS - self.last.len()).min(chunk.len());
        self.last.reserve_exact(room);
        self.last.extend(chunk.drain(..room));
        if chunk.is_empty() {
            return chunk;
        }
        self.full.push_back(mem::replace(&mut self.last, chunk));
        Vec::new()
    }
}

#[cfg(test)]
impl<R> Chunks<R> {
    /// Records for which there is memory.
    pub(super) fn room(&self) -> usize {
        self.full.iter().map(Vec::capacity).sum::<usize>() + self.last.capacity()
    }
}
