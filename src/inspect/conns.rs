//! The connections that a recorder knows, by their slots.

use std::net::SocketAddr;

use crate::base::id::ConnId;
use crate::engine::observer::ConnFacts;

/// The handler of a connection that is not known yet.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// A state that may last too long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since {
    /// Since when it lasts, in nanoseconds.
    since: Option<u64>,
    /// A warning has told of it.
    is_told: bool,
}

impl Since {
    /// The state lasts, or has ended.
    #[inline]
    fn set(&mut self, lasts: bool, now: u64) {
        match (lasts, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(_)) => *self = Self::default(),
            _ => {}
        }
    }

    /// How long it has lasted, once it is too long: then it counts as told.
    pub(super) fn overdue(&mut self, now: u64, patience: u64) -> Option<u64> {
        let length = now.saturating_sub(self.since?);
        if self.is_told || length < patience {
            return None;
        }
        self.is_told = true;
        Some(length)
    }
}

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: ConnId,
    /// By its index, or [`UNKNOWN`].
    pub(super) handler: u32,
    /// Of one that was accepted.
    pub(super) peer: Option<SocketAddr>,
    /// Since when it is known, in nanoseconds.
    pub(super) since: u64,
    pub(super) is_open: bool,
    pub(super) is_ended: bool,
    pub(super) is_outgoing: bool,
    pub(super) callbacks: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    pub(super) output_bytes: u64,
    pub(super) is_paused: bool,
    pub(super) paused: Since,
    pub(super) unconsumed: Since,
    pub(super) much_output: Since,
    /// Something of the five above may be set. Invariant: none is if this is not.
    has_state: bool,
}

impl Entry {
    fn new(id: ConnId, now: u64) -> Self {
        Self {
            id,
            handler: UNKNOWN,
            peer: None,
            since: now,
            is_open: true,
            is_ended: false,
            is_outgoing: false,
            callbacks: 0,
            bytes_read: 0,
            bytes_written: 0,
            output_bytes: 0,
            is_paused: false,
            paused: Since::default(),
            unconsumed: Since::default(),
            much_output: Since::default(),
            has_state: false,
        }
    }

    /// A message was handled in one go: nothing is unusual about the connection.
    #[inline]
    pub(super) fn note_message(&mut self, handler: u32, read: usize, written: usize) {
        self.handler = handler;
        self.callbacks += 1;
        self.bytes_read += read as u64;
        self.bytes_written += written as u64;
        if self.has_state {
            self.forget_state();
        }
    }

    #[cold]
    fn forget_state(&mut self) {
        (self.output_bytes, self.is_paused, self.has_state) = (0, false, false);
        self.paused = Since::default();
        self.unconsumed = Since::default();
        self.much_output = Since::default();
    }

    /// How it stands after a callback.
    #[inline]
    pub(super) fn note(&mut self, facts: ConnFacts, now: u64, much: usize) {
        self.has_state = true;
        self.output_bytes = facts.output_bytes as u64;
        self.is_paused = facts.is_paused;
        self.paused.set(facts.is_paused, now);
        self.much_output.set(facts.output_bytes >= much, now);
    }

    /// The handler was lent input, and has consumed some of it or none.
    #[inline]
    pub(super) fn note_consumed(&mut self, has_consumed: bool, now: u64) {
        self.has_state = true;
        self.unconsumed.set(!has_consumed, now);
    }

    /// The kernel has taken bytes.
    #[inline]
    pub(super) fn note_written(&mut self, bytes: usize, much: usize, now: u64) {
        self.has_state = true;
        self.bytes_written += bytes as u64;
        self.output_bytes = self.output_bytes.saturating_sub(bytes as u64);
        self.much_output.set(self.output_bytes >= much as u64, now);
    }
}

/// Connections by slot.
#[derive(Debug, Default)]
pub(super) struct Conns {
    slots: Vec<Option<Entry>>,
    /// How many there are.
    count: usize,
}

impl Conns {
    /// The entry of a connection; a new one if it is not known, as where it is older than the
    /// recorder.
    #[inline]
    pub(super) fn get(&mut self, id: ConnId, now: u64) -> &mut Entry {
        let slot = id.slot();
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
        }
        let entry = &mut self.slots[slot];
        if !matches!(entry, Some(entry) if entry.id == id) {
            self.count += usize::from(entry.is_none());
            *entry = Some(Entry::new(id, now));
        }
        entry.as_mut().expect("it was put there")
    }

    /// The entry of a connection that has one.
    #[inline]
    pub(super) fn known(&mut self, id: ConnId) -> Option<&mut Entry> {
        self.slots.get_mut(id.slot())?.as_mut().filter(|entry| entry.id == id)
    }

    pub(super) fn remove(&mut self, id: ConnId) {
        let slot = self.slots.get_mut(id.slot());
        let Some(slot) = slot.filter(|slot| matches!(slot, Some(entry) if entry.id == id)) else {
            return;
        };
        *slot = None;
        self.count -= 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// In the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().flatten()
    }
}
