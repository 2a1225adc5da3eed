//! The table of keys and values, and the wheel that expires them.
//!
//! Only a key that expires pays for it: a second copy of the key and an entry in the wheel, which
//! are counted with the rest. When
//! the wheel turns it names these keys, so nothing ever searches the table for old ones.

use std::collections::HashMap;

use slab::Slab;
use waterwheel::TimerId;
use waterwheel::wheel::{LAST_TICK, Wheel};

use super::text::{Text, TextHashes};

/// What an entry costs beside its key and value, roughly: its share of the table and of the
/// allocator.
const ENTRY_BYTES: usize = 96;

/// What a key that expires costs beside its second copy, roughly: its places in the slab and in the
/// wheel, which grow by doubling.
const EXPIRY_BYTES: usize = 96;

/// Keys, values, and when they expire.
pub(crate) struct Store {
    /// The keys and their values.
    entries: HashMap<Text, Entry, TextHashes>,
    /// Those that expire.
    expiries: Expiries,
    memory: Memory,
    /// Keys that have expired so far.
    expired: u64,
}

/// What is stored, by a rough count.
struct Memory {
    /// Keys, values and what they cost besides.
    bytes: usize,
    /// Most bytes to be stored.
    max_bytes: usize,
}

struct Entry {
    value: Text,
    /// Its place among the keys that expire, if it does.
    expiry: Option<u32>,
}

/// Which keys expire, and when.
struct Expiries {
    /// The keys.
    ///
    /// Invariant: each has an entry, where `expiry` is its place here.
    keys: Slab<Expiring>,
    /// When they do; the payload is a place in `keys`.
    wheel: Wheel<u32>,
}

struct Expiring {
    key: Text,
    deadline: u64,
    timer: TimerId,
}

/// What becomes of a key's time to live when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It does not expire.
    Never,
    /// As before.
    Keep,
    /// At this time.
    At(u64),
}

/// There is no room for more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Store {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            entries: HashMap::default(),
            expiries: Expiries { keys: Slab::new(), wheel: Wheel::new() },
            memory: Memory { bytes: 0, max_bytes },
            expired: 0,
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them expire.
    pub(crate) fn expiring(&self) -> usize {
        self.expiries.keys.len()
    }

    /// How many have expired.
    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    /// Keys, values and what they cost besides, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.bytes
    }

    /// A value. One that has expired is not there, also when the wheel has not turned so far.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], now: u64) -> Option<&[u8]> {
        let entry = self.entries.get(key)?;
        self.expiries.is_live(entry, now).then_some(&*entry.value)
    }

    /// When a key expires: `None` if it is not there, `Some(None)` if it does not expire.
    pub(crate) fn deadline(&self, key: &[u8], now: u64) -> Option<Option<u64>> {
        let entry = self.entries.get(key)?;
        self.expiries.is_live(entry, now).then(|| self.expiries.deadline(entry))
    }

    /// Sets a value.
    #[inline]
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> Result<(), Full> {
        let Some(entry) = self.entries.get_mut(key) else {
            return self.add(key, value, expiry);
        };
        // Nearly all: it does not expire, and did not before.
        if expiry == Expiry::Keep || (expiry, entry.expiry) == (Expiry::Never, None) {
            self.memory.replace(entry.value.len(), value.len())?;
        } else {
            self.expiries.set(key, entry, value, expiry, &mut self.memory)?;
        }
        entry.value.set(value);
        Ok(())
    }

    fn add(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> Result<(), Full> {
        let bytes = key.len() + value.len() + ENTRY_BYTES + expiry.bytes(key);
        self.memory.replace(0, bytes)?;
        let mut entry = Entry { value: value.into(), expiry: None };
        if let Expiry::At(_) = expiry {
            self.expiries.change(key, &mut entry, expiry);
        }
        self.entries.insert(key.into(), entry);
        Ok(())
    }

    /// Removes a key; whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8], now: u64) -> bool {
        let Some(mut entry) = self.entries.remove(key) else {
            return false;
        };
        let was_there = self.expiries.is_live(&entry, now);
        let bytes = key.len() + entry.value.len() + ENTRY_BYTES + entry.expiry_bytes(key);
        self.memory.bytes -= bytes;
        self.expiries.clear(&mut entry);
        was_there
    }

    /// Lets a key expire at a time, whatever was said before, if it is there.
    pub(crate) fn expire_at(&mut self, key: &[u8], deadline: u64) -> Result<(), Full> {
        let Some(entry) = self.entries.get_mut(key) else { return Ok(()) };
        let expiry = Expiry::At(deadline);
        self.memory.replace(entry.expiry_bytes(key), expiry.bytes(key))?;
        self.expiries.change(key, entry, expiry);
        Ok(())
    }

    /// Lets a key expire no more; whether it was going to.
    pub(crate) fn persist(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        self.memory.bytes -= entry.expiry_bytes(key);
        self.expiries.clear(entry)
    }

    /// Removes the keys whose time has come, at most so many.
    pub(crate) fn expire(&mut self, now: u64, budget: usize) {
        for _ in 0..budget {
            let Some((_, place)) = self.expiries.wheel.pop_due(now) else {
                return;
            };
            let Expiring { key, .. } = self.expiries.keys.remove(place as usize);
            if let Some(entry) = self.entries.remove(&key) {
                let bytes = key.len() + entry.value.len() + ENTRY_BYTES;
                self.memory.bytes -= bytes + entry.expiry_bytes(&key);
            }
            self.expired += 1;
        }
    }

    /// When the wheel must turn next.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.expiries.wheel.next_deadline()
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) {
        let (max_bytes, expired) = (self.memory.max_bytes, self.expired);
        *self = Self::new(max_bytes);
        self.expired = expired;
    }
}

impl Memory {
    /// Counts what takes the place of something else, if there is room. There always is for what
    /// is no larger.
    #[inline]
    fn replace(&mut self, old: usize, new: usize) -> Result<(), Full> {
        let bytes = self.bytes - old + new;
        if bytes > self.max_bytes && new > old {
            return Err(Full);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Entry {
    /// What its time to live costs; `key` is its own.
    fn expiry_bytes(&self, key: &[u8]) -> usize {
        if self.expiry.is_some() { key.len() + EXPIRY_BYTES } else { 0 }
    }
}

impl Expiry {
    /// What it costs an entry with this key that has no time to live.
    fn bytes(self, key: &[u8]) -> usize {
        if let Self::At(_) = self { key.len() + EXPIRY_BYTES } else { 0 }
    }
}

impl Expiries {
    /// When an entry expires, if it does.
    #[inline]
    fn deadline(&self, entry: &Entry) -> Option<u64> {
        Some(self.keys.get(entry.expiry? as usize)?.deadline)
    }

    /// Whether it has not expired.
    #[inline]
    fn is_live(&self, entry: &Entry, now: u64) -> bool {
        self.deadline(entry).is_none_or(|deadline| now < deadline)
    }

    /// Says what becomes of the time to live of an entry that gets this value, if there is room.
    /// Not inlined: a `SET` without a time to live would pay for it.
    #[inline(never)]
    fn set(
        &mut self,
        key: &[u8],
        entry: &mut Entry,
        value: &[u8],
        expiry: Expiry,
        memory: &mut Memory,
    ) -> Result<(), Full> {
        let old = entry.value.len() + entry.expiry_bytes(key);
        memory.replace(old, value.len() + expiry.bytes(key))?;
        self.change(key, entry, expiry);
        Ok(())
    }

    fn change(&mut self, key: &[u8], entry: &mut Entry, expiry: Expiry) {
        self.clear(entry);
        if let Expiry::At(deadline) = expiry {
            let deadline = deadline.min(LAST_TICK);
            let place = self.keys.vacant_key() as u32;
            let timer = self.wheel.insert(deadline, place);
            self.keys.insert(Expiring { key: key.into(), deadline, timer });
            entry.expiry = Some(place);
        }
    }

    /// Lets it expire no more; whether it was going to.
    #[inline]
    fn clear(&mut self, entry: &mut Entry) -> bool {
        let Some(place) = entry.expiry.take() else { return false };
        let expiring = self.keys.remove(place as usize);
        self.wheel.cancel(expiring.timer);
        true
    }
}
