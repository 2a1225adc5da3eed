//! Files that were asked for lately: the bytes of small ones, and large ones that stay open.

use std::collections::HashMap;
use std::time::Duration;

use super::form::Entry;

/// What an entry costs besides its forms, in bytes: the place in the map, and in the list.
const ENTRY_BYTES: usize = 128;

/// An entry, and when it was last compared with the disk.
#[derive(Debug)]
struct Slot {
    path: Box<str>,
    entry: Box<Entry>,
    bytes: usize,
    open_files: usize,
    /// The loop's time.
    checked: Duration,
    /// Whether it was asked for since the hand passed.
    is_used: bool,
}

/// A bounded cache. What was not asked for since the last round makes room.
///
/// Invariant: `bytes` and `open_files` are the sums over `slots`, and `places` has the place of
/// each by its path.
#[derive(Debug)]
pub(super) struct Cache {
    places: HashMap<Box<str>, usize>,
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
        let (places, slots) = (HashMap::new(), Vec::new());
        Self { places, slots, bytes: 0, open_files: 0, hand: 0, max_bytes, max_open_files }
    }

    /// Where a path is, and when its file was last compared with the disk.
    #[inline]
    pub(super) fn find(&self, path: &str) -> Option<(usize, Duration)> {
        let place = *self.places.get(path)?;
        Some((place, self.slots[place].checked))
    }

    /// The entry at a place that was found just now.
    #[inline]
    pub(super) fn get(&mut self, place: usize) -> &Entry {
        let slot = &mut self.slots[place];
        slot.is_used = true;
        &slot.entry
    }

    /// The entry was compared with the disk, and is what it was.
    pub(super) fn confirm(&mut self, place: usize, now: Duration) {
        self.slots[place].checked = now;
    }

    /// Keeps an entry; or returns it, if it has no place in the bounds.
    pub(super) fn insert(
        &mut self,
        path: &str,
        entry: Box<Entry>,
        now: Duration,
    ) -> Result<usize, Box<Entry>> {
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
        self.slots.push(Slot { path, entry, bytes, open_files, checked: now, is_used: false });
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
