//! The items, within a bound on their memory: what has not been used for longest makes room.

use std::hash::RandomState;
use std::mem;
use std::time::Duration;

use hashlink::LruCache;

/// What an item costs beside its key and value, roughly.
const ITEM_BYTES: usize = 128;

pub(crate) struct Item {
    pub(crate) flags: u32,
    /// Another number after each change.
    pub(crate) unique: u64,
    /// The time of the loop from which on it counts no more.
    pub(crate) expires: Option<Duration>,
    pub(crate) value: Box<[u8]>,
}

pub(crate) struct Store {
    /// The standard hasher: its seed keeps a client from choosing keys that collide.
    items: LruCache<Box<[u8]>, Item, RandomState>,
    pub(crate) bytes: usize,
    pub(crate) max_bytes: usize,
    pub(crate) evictions: u64,
    last_unique: u64,
}

impl Store {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let items = LruCache::with_hasher(usize::MAX, RandomState::new());
        Self { items, bytes: 0, max_bytes, evictions: 0, last_unique: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn get(&mut self, key: &[u8], now: Duration) -> Option<&mut Item> {
        self.items.get_mut(key).filter(|item| item.expires.is_none_or(|at| now < at))
    }

    pub(crate) fn put(
        &mut self,
        key: &[u8],
        flags: u32,
        expires: Option<Duration>,
        value: Box<[u8]>,
    ) {
        self.last_unique += 1;
        let item = Item { flags, unique: self.last_unique, expires, value };
        self.bytes += cost(key, &item);
        match self.items.get_mut(key) {
            Some(old) => self.bytes -= cost(key, &mem::replace(old, item)),
            None => drop(self.items.insert(key.into(), item)),
        }
        while self.bytes > self.max_bytes {
            let Some((key, item)) = self.items.remove_lru() else { break };
            self.bytes -= cost(&key, &item);
            self.evictions += 1;
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(item) = self.items.remove(key) {
            self.bytes -= cost(key, &item);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }
}

fn cost(key: &[u8], item: &Item) -> usize {
    key.len() + item.value.len() + ITEM_BYTES
}
