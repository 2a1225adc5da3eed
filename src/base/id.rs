//! Ids that carry a generation, so that a stale one finds nothing.
//!
//! A slot of a slab is used again; its index alone would name the connection that lives there now.
//! Every id therefore holds the index and a generation that is different for each use of the slot.

use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Identifies one connection. After the connection has ended, its id matches nothing.
///
/// A `ConnId` is `Copy` and may be kept anywhere, for example in a table of chat members. A lookup
/// by an id that has outlived its connection returns `None`, also when the slot is in use again.
/// So does a lookup in another reactor: no two reactors of a process give out the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// The index of the slot in the lowest bits, the generation in the others: a word is
    /// compared at once, and it is the token of the poll where tokens have so many bits.
    word: u64,
}

/// Bits of an id that are the index of the slot: at most 16,777,215 connections, and as many
/// datagram sockets. The other 40 are the generation.
pub(crate) const INDEX_BITS: u32 = 24;

/// An index that no slot has.
pub(crate) const NO_INDEX: u32 = (1 << INDEX_BITS) - 1;

impl ConnId {
    /// The id of no connection: none has the generation 0.
    pub(crate) const NONE: Self = Self::new(NO_INDEX, 0);

    pub(crate) const fn new(index: u32, generation: u64) -> Self {
        Self { word: generation << INDEX_BITS | index as u64 }
    }

    pub(crate) const fn index(self) -> usize {
        (self.word as u32 & NO_INDEX) as usize
    }

    /// The slot of the connection: a small number, which another connection has once this one has
    /// ended. For tables beside the reactor's own; keep the whole id in them.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.index()
    }

    pub(crate) const fn generation(self) -> u64 {
        self.word >> INDEX_BITS
    }
}

/// An id as one word, where a token has room for it.
#[cfg(target_pointer_width = "64")]
impl ConnId {
    pub(crate) const fn from_word(word: u64) -> Self {
        Self { word }
    }

    pub(crate) const fn word(self) -> u64 {
        self.word
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
    /// As in a [`ConnId`].
    word: u64,
}

impl SocketId {
    pub(crate) const fn new(index: u32, generation: u64) -> Self {
        Self { word: generation << INDEX_BITS | index as u64 }
    }

    pub(crate) const fn index(self) -> usize {
        (self.word as u32 & NO_INDEX) as usize
    }

    pub(crate) const fn generation(self) -> u64 {
        self.word >> INDEX_BITS
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketId({self})")
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

/// Names one timer from the moment it is set until it has fired for the last time or was
/// cancelled.
///
/// A `TimerId` is unique in the process: any other reactor or
/// [`Wheel`](crate::base::wheel::Wheel) finds nothing by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    key: Key,
    /// The number of the table that made it.
    maker: u64,
}

impl TimerId {
    /// The id of a timer that never fires, wherever it is used.
    pub(crate) const NONE: Self = Self::new(u32::MAX, 0, 0);

    pub(crate) const fn new(index: u32, generation: u32, maker: u64) -> Self {
        Self { key: Key::new(index, generation), maker }
    }
}

impl fmt::Debug for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerId({}.{})", self.key.index(), self.key.generation())
    }
}

/// A timer that has fired, as `on_timer` and `on_handler_timer` get it.
///
/// The token is the number that the handler passed when it set the timer. With it a handler that
/// has several kinds of timers, or one timer for each job, needs no table of ids. The id is there
/// to cancel a periodic timer with, and to tell two timers with one token apart.
///
/// # Examples
/// ```
/// use std::collections::HashMap;
/// use std::time::Duration;
/// use waterwheel::{Context, HandlerKey, Timer, TimerHandler};
///
/// /// Asks again when no answer has come for a second.
/// struct Resolver { service: HandlerKey<Resolver>, queries: HashMap<u64, String> }
///
/// impl Resolver {
///     fn ask(&mut self, number: u64, name: String, cx: &mut Context<'_>) {
///         self.queries.insert(number, name);
///         cx.set_timer(self.service, Duration::from_secs(1), number);
///     }
/// }
///
/// impl TimerHandler for Resolver {
///     fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
///         // No entry: the answer has come, and the timer had not to be cancelled.
///         if let Some(name) = self.queries.remove(&timer.token) {
///             self.ask(timer.token, name, cx);
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Timer {
    /// What `set_timer` or `set_periodic_timer` returned.
    pub id: TimerId,
    /// What the handler gave with it.
    pub token: u64,
}

/// The part of a timer's id that its own table needs; or a place that has a timer without an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The index of an id, or a place and the bit that says so, in the upper half, the generation
    /// in the lower: a word is stored at once, and an id of two words stays in registers.
    word: u64,
}

/// The bit of an index that is a place.
const IS_PLACE: u32 = 1 << 31;

/// Indices that a table of ids adds at a time, so that most timers find one that is free. They
/// divide the number of all indices.
const BATCH: u32 = 64;

impl Key {
    #[inline]
    const fn new(index: u32, generation: u32) -> Self {
        Self { word: (index as u64) << 32 | generation as u64 }
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        (self.word >> 32) as usize
    }

    #[inline]
    const fn generation(self) -> u32 {
        self.word as u32
    }

    /// The place, if it is the key of one.
    #[inline]
    pub(crate) const fn place(self) -> Option<u32> {
        let index = (self.word >> 32) as u32;
        if index < IS_PLACE { None } else { Some(index ^ IS_PLACE) }
    }
}

/// How many tables of ids have been made in this process.
static TABLES_MADE: AtomicU64 = AtomicU64::new(0);

/// Which ids name a live timer.
#[derive(Debug)]
pub(crate) struct IdTable {
    /// Distinguishes the ids of this table from those of all others in the process.
    ///
    /// Invariant: never 0, which is in ids that no table has made.
    maker: u64,
    /// By index: the generation of the live timer, or of the next one; 0 if there will be none.
    generations: Vec<u32>,
    /// Indices without a live timer, to be used again.
    ///
    /// Invariant: no index is in it twice, and none whose generation is 0.
    free: Vec<u32>,
    /// Indices whose generation is 0.
    worn: usize,
    /// The generation of the first timer of an index.
    ///
    /// Invariant: not 0, and no key of an index that was given back has it or one after it.
    first: u32,
}

impl IdTable {
    pub(crate) fn new() -> Self {
        let maker = TABLES_MADE.fetch_add(1, Ordering::Relaxed) + 1;
        Self { maker, generations: Vec::new(), free: Vec::new(), worn: 0, first: 1 }
    }

    pub(crate) const fn id_of(&self, key: Key) -> TimerId {
        TimerId { key, maker: self.maker }
    }

    /// The key of a live timer; `None` if the id names none of this table.
    pub(crate) fn key_of(&self, id: TimerId) -> Option<Key> {
        (id.maker == self.maker && self.is_live(id.key)).then_some(id.key)
    }

    /// Timers alive: all indices but those that are free or given up.
    pub(crate) fn live(&self) -> usize {
        self.generations.len() - self.free.len() - self.worn
    }

    #[inline]
    pub(crate) fn is_live(&self, key: Key) -> bool {
        // A free index has a generation that no id was made with yet.
        self.generations.get(key.index()) == Some(&key.generation())
    }

    /// Whether an index is free.
    #[inline]
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// How many indices there are, free or not.
    pub(crate) fn indices(&self) -> usize {
        self.generations.len()
    }

    /// Adds a batch of indices that are free.
    pub(crate) fn add_indices(&mut self) {
        let first = u32::try_from(self.generations.len()).ok().filter(|&index| index < IS_PLACE);
        let first = first.expect("at most 2^31 timers are set");
        self.generations.resize(first as usize + BATCH as usize, self.first);
        self.free.extend((first..first + BATCH).rev()); // the lowest is used first
    }

    /// The key of a new timer. Its caller has seen to it that an index is free.
    #[inline]
    pub(crate) fn allocate(&mut self) -> Key {
        let index = self.free.pop().expect("an index is free");
        Key::new(index, self.generations[index as usize])
    }

    /// Forgets all indices, if no timer is alive, and returns the memory of them. Their generations
    /// do not come again, and where some index has no more of them, nothing is forgotten.
    pub(crate) fn give_back(&mut self) -> Option<[Vec<u32>; 2]> {
        if self.live() > 0 || self.worn > 0 {
            return None;
        }
        self.first = self.generations.iter().copied().max().unwrap_or(self.first);
        Some([mem::take(&mut self.generations), mem::take(&mut self.free)])
    }

    pub(crate) fn release(&mut self, key: Key) {
        let is_live = self.release_live(key);
        debug_assert!(is_live);
    }

    /// Gives back the index of an id. Returns `false` if the id names no live timer of this table.
    pub(crate) fn release_id(&mut self, id: TimerId) -> bool {
        id.maker == self.maker && self.release_live(id.key)
    }

    /// Gives the index of a key back, if its timer is alive.
    #[inline]
    fn release_live(&mut self, key: Key) -> bool {
        match self.generations.get_mut(key.index()) {
            Some(generation) if *generation == key.generation() => {
                // After the last generation the index is given up for good: four bytes lost, and
                // no id that was ever handed out can come to name another timer.
                *generation = generation.wrapping_add(1);
                if *generation != 0 {
                    self.free.push(key.index() as u32);
                } else {
                    self.worn += 1;
                }
                true
            }
            _ => false,
        }
    }
}

/// For the tests of those who hold a table.
#[cfg(test)]
impl IdTable {
    /// The number in all ids of this table.
    pub(crate) fn maker(&self) -> u64 {
        self.maker
    }

    /// Has a free index come to its last generation.
    pub(crate) fn wear_out(&mut self, index: u32) {
        assert!(self.free.contains(&index));
        self.generations[index as usize] = u32::MAX;
    }
}

/// Which places have a timer. The owner of the timers numbers the places, and each has one timer at
/// the most: so nobody has to keep a key of it.
#[derive(Debug, Default)]
pub(crate) struct PlaceTable {
    /// By place: a generation for each of its timers, odd while the timer is set.
    generations: Vec<u32>,
}

/// The generation of a place that has had no timer. The other even number without one before it, 0,
/// is that of a place whose generations come again.
const FRESH: u32 = 2;

impl PlaceTable {
    #[inline]
    pub(crate) fn is_live(&self, key: Key) -> bool {
        let place = key.index() ^ IS_PLACE as usize;
        self.generations.get(place) == Some(&key.generation())
    }

    /// Whether the timer of a place is set.
    #[inline]
    pub(crate) fn is_open(&self, place: u32) -> bool {
        self.generations.get(place as usize).is_some_and(|generation| generation % 2 == 1)
    }

    /// Whether the next timer of a place has a generation that one of its timers had before.
    #[inline]
    pub(crate) fn is_worn(&self, place: u32) -> bool {
        self.generations.get(place as usize) == Some(&0)
    }

    /// A timer of a place that has none is set.
    #[inline]
    pub(crate) fn open(&mut self, place: u32) -> Key {
        debug_assert!(!self.is_open(place) && place < IS_PLACE);
        if place as usize >= self.generations.len() {
            self.generations.resize(place as usize + 1, FRESH);
        }
        let generation = &mut self.generations[place as usize];
        *generation += 1;
        Key::new(place | IS_PLACE, *generation)
    }

    /// The timer of a place has fired or was cancelled.
    #[inline]
    pub(crate) fn close(&mut self, place: u32) {
        debug_assert!(self.is_open(place));
        let generation = &mut self.generations[place as usize];
        *generation = generation.wrapping_add(1);
    }

    /// Has a place come to its last generation.
    #[cfg(test)]
    pub(crate) fn wear_out(&mut self, place: u32) {
        assert!(!self.is_open(place));
        self.generations[place as usize] = u32::MAX - 1;
    }
}

/// Deals out the generations of one reactor's connections and datagram sockets.
///
/// Reactors of one process draw from one counter, a block at a time, so that an id of one reactor
/// finds nothing in another, and no reactor touches shared memory for each connection. A reactor
/// that ends gives the rest of its block back, so that 2⁴⁰ ids are made before one comes again.
#[derive(Debug)]
pub(crate) struct Generations {
    /// The rest of the block.
    left: Range<u64>,
    /// Blocks are drawn from those of the process.
    is_shared: bool,
}

/// What the reactors of this process draw from.
static POOL: Mutex<BlockPool> = Mutex::new(BlockPool { next: 0, returned: Vec::new() });

/// Generations that no reactor has.
struct BlockPool {
    /// The block that has not been drawn since the process began, or since all had been.
    next: u64,
    /// What reactors that have ended did not use.
    returned: Vec<Range<u64>>,
}

/// Generations in a block. It bounds how often a reactor takes the lock, once in so many
/// connections.
const BLOCK: u64 = 1 << 16;

/// Blocks before the first one comes again.
const BLOCKS: u64 = 1 << (u64::BITS - INDEX_BITS - BLOCK.ilog2());

impl BlockPool {
    fn draw(&mut self) -> Range<u64> {
        if let Some(block) = self.returned.pop() {
            return block;
        }
        let start = self.next * BLOCK;
        self.next = (self.next + 1) % BLOCKS;
        // No generation is 0.
        start.max(1)..start + BLOCK
    }
}

impl Generations {
    pub(crate) const fn new() -> Self {
        Self::with(0..0, true)
    }

    /// First those in `left`, and then such as the process shares, if `is_shared`. Those of a
    /// simulated world are the same in every run.
    pub(crate) const fn with(left: Range<u64>, is_shared: bool) -> Self {
        Self { left, is_shared }
    }

    /// A generation that no living connection has; never 0.
    #[inline]
    pub(crate) fn draw(&mut self) -> u64 {
        if self.left.is_empty() {
            self.draw_block();
        }
        let generation = self.left.start;
        self.left.start += 1;
        generation
    }

    #[cold]
    fn draw_block(&mut self) {
        if self.is_shared {
            self.left = POOL.lock().unwrap_or_else(PoisonError::into_inner).draw();
        }
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        if self.is_shared && !self.left.is_empty() {
            let left = std::mem::take(&mut self.left);
            POOL.lock().unwrap_or_else(PoisonError::into_inner).returned.push(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn generations_of_two_reactors_never_meet() {
        let (mut a, mut b) = (Generations::new(), Generations::new());
        let mut seen = HashSet::new();
        for _ in 0..3 * BLOCK {
            for generation in [a.draw(), b.draw()] {
                assert_ne!(generation, 0);
                assert!(seen.insert(generation), "{generation} was dealt twice");
            }
        }
    }

    #[test]
    fn generations_do_not_come_again_after_many_reactors() {
        let mut first = Generations::new();
        let first = first.draw();
        for _ in 0..200_000 {
            assert_ne!(Generations::new().draw(), first);
        }
    }

    #[test]
    fn a_table_with_a_worn_index_or_a_live_one_forgets_nothing() {
        let mut table = IdTable::new();
        table.add_indices();
        let keys = [table.allocate(), table.allocate()];
        table.release(keys[0]);
        assert!(table.give_back().is_none() && table.is_live(keys[1]));
        table.release(keys[1]);
        table.wear_out(1);
        let last = table.allocate();
        table.release(last);
        assert!(table.give_back().is_none());
        assert_eq!((table.indices(), table.live()), (BATCH as usize, 0));
    }

    #[test]
    fn generations_of_a_table_do_not_come_again_after_it_has_forgotten_them() {
        let mut table = IdTable::new();
        table.add_indices();
        let keys: Vec<_> = (0..3).map(|_| table.allocate()).collect();
        for key in keys {
            table.release(key);
        }
        for _ in 0..5 {
            let key = table.allocate(); // again and again the index that was given back last
            table.release(key);
        }
        assert!(table.give_back().is_some());
        assert_eq!(table.indices(), 0);
        table.add_indices();
        let keys = [table.allocate(), table.allocate()];
        assert_eq!(keys.map(|key| (key.index(), key.generation())), [(0, 7), (1, 7)]);
    }

    /// Else each short-lived reactor would use up a block, and 16,777,216 of them all ids. Tests
    /// beside this one draw from the same pool, so a few blocks more are to be expected.
    #[test]
    fn a_reactor_goes_on_with_the_rest_of_a_block_that_was_given_back() {
        const REACTORS: usize = 10_000;
        let drawn: HashSet<_> = (0..REACTORS).map(|_| Generations::new().draw()).collect();
        assert_eq!(drawn.len(), REACTORS, "what was drawn was given back as well");
        let blocks: HashSet<_> = drawn.iter().map(|generation| generation / BLOCK).collect();
        assert!(blocks.len() < 100, "{} blocks for {REACTORS} reactors", blocks.len());
    }

    #[test]
    fn after_the_last_block_the_first_comes_again_and_every_generation_fits_an_id() {
        let mut pool = BlockPool { next: BLOCKS - 1, returned: Vec::new() };
        let end = 1 << (u64::BITS - INDEX_BITS);
        assert_eq!(pool.draw(), end - BLOCK..end);
        assert_eq!([pool.draw(), pool.draw()], [1..BLOCK, BLOCK..2 * BLOCK]);
        pool.returned.push(7..9);
        assert_eq!([pool.draw(), pool.draw()], [7..9, 2 * BLOCK..3 * BLOCK]);
    }

    #[test]
    fn a_simulated_world_has_the_same_ids_whatever_else_the_process_does() {
        let mut generations = Generations::with(5..7, false);
        assert_eq!([(); 4].map(|()| generations.draw()), [5, 6, 7, 8]);
    }

    #[test]
    fn an_id_keeps_its_index_and_its_whole_generation() {
        let last = (1 << (u64::BITS - INDEX_BITS)) - 1;
        for (index, generation) in [(0, 1), (7, 65_536), (NO_INDEX, last)] {
            let id = ConnId::new(index, generation);
            assert_eq!((id.index(), id.generation()), (index as usize, generation));
            assert_eq!(id.slot(), index as usize);
            #[cfg(target_pointer_width = "64")]
            assert_eq!(ConnId::from_word(id.word()), id);
            let id = SocketId::new(index, generation);
            assert_eq!((id.index(), id.generation()), (index as usize, generation));
        }
    }
}
