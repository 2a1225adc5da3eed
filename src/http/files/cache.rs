//! Files that were asked for lately: the bytes of small ones, and large ones that stay open.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::CHECK_INTERVAL;
use super::form::Entry;

/// What an entry costs besides its forms, in bytes: the place in the map, and in the list.
const ENTRY_BYTES: usize = 128;

/// An entry, and how long it is good for.
#[derive(Debug)]
struct Slot {
    path: Box<str>,
    entry: Arc<Entry>,
    bytes: usize,
    open_files: usize,
    /// Until when it is taken for what is on the disk, by the loop's time.
    fresh_until: Duration,
    /// When it was last asked for to be compared beside the loop.
    asked: Option<Duration>,
    /// Whether it was asked for since the hand passed.
    is_used: bool,
}

/// A bounded cache. What was not asked for since the last round makes room.
///
/// Invariant: `bytes` and `open_files` are the sums over `slots`, and `places` has the place of
/// each by its path.
#[derive(Debug)]
pub(super) struct Cache {
    places: HashMap<Box<str>, usize, PathHash>,
    slots: Vec<Slot>,
    bytes: usize,
    open_files: usize,
    /// Where the next round goes on.
    hand: usize,
    max_bytes: usize,
    max_open_files: usize,
}

impl Cache {
    pub(super) fn new(max_bytes: usize, max_open_files: usize) -> Self {
        let (places, slots) = (HashMap::with_hasher(PathHash::new()), Vec::new());
        Self { places, slots, bytes: 0, open_files: 0, hand: 0, max_bytes, max_open_files }
    }

    /// Where a path is, and until when its file need not be compared with the disk.
    #[inline]
    pub(super) fn find(&self, path: &str) -> Option<(usize, Duration)> {
        let place = *self.places.get(path)?;
        Some((place, self.slots[place].fresh_until))
    }

    /// The entry at a place that was found just now.
    #[inline]
    pub(super) fn get(&mut self, place: usize) -> &Entry {
        let slot = &mut self.slots[place];
        slot.is_used = true;
        &slot.entry
    }

    /// The entry at a place, to be compared with the disk beside the loop; `None` if that was done,
    /// or asked for, a short time ago.
    pub(super) fn ask(&mut self, place: usize, now: Duration) -> Option<Arc<Entry>> {
        let slot = &mut self.slots[place];
        let is_recent = |at: Duration| now.saturating_sub(at) < CHECK_INTERVAL;
        if now < slot.fresh_until || slot.asked.is_some_and(is_recent) {
            return None;
        }
        slot.asked = Some(now);
        Some(Arc::clone(&slot.entry))
    }

    /// The entry was compared with the disk, and is what it was.
    pub(super) fn confirm(&mut self, place: usize, now: Duration) {
        self.slots[place].fresh_until = now + CHECK_INTERVAL;
    }

    /// Keeps an entry; or returns it, if it has no place in the bounds.
    pub(super) fn insert(
        &mut self,
        path: &str,
        entry: Arc<Entry>,
        now: Duration,
    ) -> Result<usize, Arc<Entry>> {
        self.remove(path);
        let bytes = entry.bytes() + 2 * path.len() + ENTRY_BYTES;
        let open_files = entry.open_files();
        if bytes > self.max_bytes || open_files > self.max_open_files {
            return Err(entry);
        }
        while self.bytes + bytes > self.max_bytes {
            self.evict(|_| true);
        }
        while self.open_files + open_files > self.max_open_files {
            self.evict(|slot| slot.open_files > 0);
        }
        self.bytes += bytes;
        self.open_files += open_files;
        let (place, path) = (self.slots.len(), Box::<str>::from(path));
        self.places.insert(path.clone(), place);
        let (asked, is_used) = (None, false);
        let fresh_until = now + CHECK_INTERVAL;
        self.slots.push(Slot { path, entry, bytes, open_files, fresh_until, asked, is_used });
        Ok(place)
    }

    /// Lets go of one that was not asked for since the hand passed it, of those that would help.
    fn evict(&mut self, helps: impl Fn(&Slot) -> bool) {
        // After one round nothing is marked as used.
        for _ in 0..2 * self.slots.len() {
            self.hand = if self.hand < self.slots.len() { self.hand } else { 0 };
            let slot = &mut self.slots[self.hand];
            if helps(slot) && !std::mem::take(&mut slot.is_used) {
                return self.remove_at(self.hand);
            }
            self.hand += 1;
        }
    }

    /// Lets go of a path.
    pub(super) fn remove(&mut self, path: &str) {
        if let Some(&place) = self.places.get(path) {
            self.remove_at(place);
        }
    }

    fn remove_at(&mut self, place: usize) {
        let slot = self.slots.swap_remove(place);
        self.places.remove(&slot.path);
        self.bytes -= slot.bytes;
        self.open_files -= slot.open_files;
        if let Some(moved) = self.slots.get(place) {
            if let Some(known) = self.places.get_mut(&moved.path) {
                *known = place;
            }
        }
    }

    /// Lets go of all files that are open: descriptors have run out.
    pub(super) fn close_files(&mut self) {
        while self.open_files > 0 {
            self.evict(|slot| slot.open_files > 0);
        }
    }
}

/// Hashes paths in a tenth of the time of the standard library. The keys are names of files, which
/// a client cannot choose to collide; who can make files does not know the seed.
#[derive(Debug)]
struct PathHash {
    seed: u64,
}

impl PathHash {
    fn new() -> Self {
        Self { seed: RandomState::new().build_hasher().finish() }
    }
}

impl BuildHasher for PathHash {
    type Hasher = PathHasher;

    fn build_hasher(&self) -> PathHasher {
        PathHasher(self.seed)
    }
}

struct PathHasher(u64);

impl PathHasher {
    #[inline(always)]
    fn add(&mut self, word: u64) {
        // The upper half of a product depends on all bits, and comes down with the fold.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15_u128;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for PathHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            self.add(word.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
        }
        let rest = words.remainder();
        let last = rest.iter().fold(rest.len() as u64, |word, &byte| word << 8 | u64::from(byte));
        self.add(last);
    }

    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.0 = self.0.rotate_left(8) ^ u64::from(byte);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn paths_that_are_alike_have_hashes_that_are_not() {
        let hash = PathHash::new();
        let (mut low, mut high) = (HashSet::new(), HashSet::new());
        for number in 0..1_000 {
            let value = hash.hash_one(format!("a/file{number}.html").as_str());
            low.insert(value & 0xffff);
            high.insert(value >> 57);
        }
        assert!(low.len() > 950, "{}", low.len());
        assert!(high.len() > 110, "{}", high.len());
        assert_ne!(hash.hash_one("a"), hash.hash_one("a\0"));
    }
}
