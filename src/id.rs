//! Ids that carry a generation, so that a stale one finds nothing.
//!
//! A slot of a slab is used again; its index alone would name whoever lives there now. Every id
//! therefore holds the index and a generation that is different for each use of the slot.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::planted::{self, Bug};

/// Names one connection for as long as it lives, and nobody afterwards.
///
/// It is `Copy` and may be kept anywhere, for example in a table of chat members: looking a
/// connection up by an id that has outlived it gives `None`, also when its slot is in use again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// The generation in the upper half, the index of the slot in the lower one: a word is
    /// compared at once, and it is the token of the poll where tokens have so many bits.
    word: u64,
}

impl ConnId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { word: (generation as u64) << 32 | index as u64 }
    }

    pub(crate) const fn from_word(word: u64) -> Self {
        Self { word }
    }

    pub(crate) const fn word(self) -> u64 {
        self.word
    }

    pub(crate) const fn index(self) -> usize {
        self.word as u32 as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.word >> 32) as u32
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({self})")
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

/// Names one datagram socket for as long as it is open, and no other one afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    index: u32,
    generation: u32,
}

impl SocketId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketId({self})")
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Names one timer from the moment it is set until it has fired for the last time or was
/// cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

impl TimerId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerId({}.{})", self.index, self.generation)
    }
}

/// Deals out the generations of one reactor's connections.
///
/// Reactors of one process draw from one counter, a block at a time, so that an id of one reactor
/// finds nothing in another, and no reactor touches shared memory for each connection.
#[derive(Debug)]
pub(crate) struct Generations {
    /// The next one to deal out; the block is used up when its low bits are all zero again.
    next: u32,
    /// Blocks are drawn from the counter of the process.
    is_shared: bool,
}

/// How many blocks of generations have been drawn in this process.
static BLOCKS_DRAWN: AtomicU32 = AtomicU32::new(0);

/// Generations in a block: 65,536 blocks of as many before the first one comes again.
const BLOCK: u32 = 1 << 16;

impl Generations {
    pub(crate) const fn new() -> Self {
        Self { next: 0, is_shared: true }
    }

    /// Those of a reactor in a simulated world, which are the same in every run.
    #[cfg(feature = "sim")]
    pub(crate) const fn of_host(host: u32) -> Self {
        Self { next: (host << 24) + 1, is_shared: false }
    }

    /// A generation that no living connection has; never 0.
    pub(crate) fn draw(&mut self) -> u32 {
        if self.next % BLOCK == 0 && self.is_shared {
            let block = BLOCKS_DRAWN.fetch_add(1, Ordering::Relaxed);
            self.next = block.wrapping_mul(BLOCK) + 1;
        }
        let generation = self.next;
        let step = if planted::is(Bug::GenerationNotRaised) { 0 } else { 1 };
        self.next = self.next.wrapping_add(step);
        generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_of_two_reactors_never_meet() {
        let (mut a, mut b) = (Generations::new(), Generations::new());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 * BLOCK {
            for generation in [a.draw(), b.draw()] {
                assert_ne!(generation, 0);
                assert!(seen.insert(generation), "{generation} was dealt twice");
            }
        }
    }
}
