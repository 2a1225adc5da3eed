//! The table of keys and values, and the wheel that expires them.
//!
//! Only a key that expires pays for it: a second copy of the key and an entry in the wheel. When
//! the wheel turns it names these keys, so nothing ever searches the table for old ones.

use std::collections::HashMap;

use slab::Slab;
use waterwheel::TimerId;
use waterwheel::wheel::{LAST_TICK, Wheel};

use super::text::Text;

/// What an entry costs beside its key and value, roughly: its share of the table and of the
/// allocator.
const ENTRY_BYTES: usize = 96;

/// Keys, values, and when they expire.
pub(crate) struct Store {
    /// The standard hasher: its seed keeps a client from choosing keys that collide.
    entries: HashMap<Text, Entry>,
    /// The keys that expire.
    ///
    /// Invariant: each is in `entries`, where `expiry` is its place here.
    expiring: Slab<Expiring>,
    /// When they do; the payload is a place in `expiring`.
    wheel: Wheel<u32>,
    /// Keys, values and what they cost besides.
    bytes: usize,
    /// Most bytes to be stored.
    max_bytes: usize,
    /// Keys that have expired so far.
    expired: u64,
}

struct Entry {
    value: Text,
    /// Its place in `expiring`, if it expires.
    expiry: Option<u32>,
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
            entries: HashMap::new(),
            expiring: Slab::new(),
            wheel: Wheel::new(),
            bytes: 0,
            max_bytes,
            expired: 0,
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them expire.
    pub(crate) fn expiring(&self) -> usize {
        self.expiring.len()
    }

    /// How many have expired.
    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    /// Keys, values and what they cost besides, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A value. One that has expired is not there, also when the wheel has not turned so far.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], now: u64) -> Option<&[u8]> {
        let entry = self.entries.get(key)?;
        let deadline = entry.expiry.and_then(|place| self.deadline_at(place));
        if deadline.is_some_and(|deadline| deadline <= now) {
            return None;
        }
        Some(&entry.value)
    }

    /// When a key expires: `None` if it is not there, `Some(None)` if it does not expire.
    pub(crate) fn deadline(&self, key: &[u8], now: u64) -> Option<Option<u64>> {
        self.get(key, now)?;
        let entry = self.entries.get(key)?;
        Some(entry.expiry.and_then(|place| self.deadline_at(place)))
    }

    /// Sets a value.
    #[inline]
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> Result<(), Full> {
        match self.entries.get_mut(key) {
            Some(entry) => {
                let bytes = self.bytes - entry.value.len() + value.len();
                if bytes > self.max_bytes && value.len() > entry.value.len() {
                    return Err(Full);
                }
                self.bytes = bytes;
                entry.value = value.into();
            }
            None => return self.add(key, value, expiry),
        }
        match expiry {
            Expiry::Keep => {}
            Expiry::Never => {
                self.persist(key);
            }
            Expiry::At(deadline) => {
                self.expire_at(key, deadline);
            }
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> Result<(), Full> {
        let bytes = self.bytes + key.len() + value.len() + ENTRY_BYTES;
        if bytes > self.max_bytes {
            return Err(Full);
        }
        self.bytes = bytes;
        let value = value.into();
        self.entries.insert(key.into(), Entry { value, expiry: None });
        if let Expiry::At(deadline) = expiry {
            self.expire_at(key, deadline);
        }
        Ok(())
    }

    /// Removes a key; whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8], now: u64) -> bool {
        let was_there = self.get(key, now).is_some();
        self.persist(key);
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.value.len() + ENTRY_BYTES;
        }
        was_there
    }

    /// Lets a key expire at a time, whatever was said before; whether it was there.
    pub(crate) fn expire_at(&mut self, key: &[u8], deadline: u64) -> bool {
        self.persist(key);
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let deadline = deadline.min(LAST_TICK);
        let place = self.expiring.vacant_key() as u32;
        let timer = self.wheel.insert(deadline, place);
        self.expiring.insert(Expiring { key: key.into(), deadline, timer });
        entry.expiry = Some(place);
        true
    }

    /// Lets a key expire no more; whether it was going to.
    pub(crate) fn persist(&mut self, key: &[u8]) -> bool {
        let place = self.entries.get_mut(key).and_then(|entry| entry.expiry.take());
        let Some(place) = place else { return false };
        let expiring = self.expiring.remove(place as usize);
        self.wheel.cancel(expiring.timer);
        true
    }

    /// Removes the keys whose time has come, at most so many.
    pub(crate) fn expire(&mut self, now: u64, budget: usize) {
        for _ in 0..budget {
            let Some((_, place)) = self.wheel.pop_due(now) else {
                return;
            };
            let Expiring { key, .. } = self.expiring.remove(place as usize);
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= key.len() + entry.value.len() + ENTRY_BYTES;
            }
            self.expired += 1;
        }
    }

    /// When the wheel must turn next.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) {
        let (max_bytes, expired) = (self.max_bytes, self.expired);
        *self = Self::new(max_bytes);
        self.expired = expired;
    }

    fn deadline_at(&self, place: u32) -> Option<u64> {
        let expiring = self.expiring.get(place as usize)?;
        Some(expiring.deadline)
    }
}
