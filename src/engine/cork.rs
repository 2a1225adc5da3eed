//! The cork: small writes of one callback to its own connection leave together.

use crate::base::id::ConnId;

/// Bytes that one callback may gather before they are sent although it still runs. Copying so
/// much costs a tenth of the system call that it may save.
pub(crate) const CORK_BYTES: usize = 16 << 10;

/// Gathers the small writes of one callback to its own connection, so that they leave in one
/// write(2) when it returns.
#[derive(Debug)]
pub(crate) struct Cork {
    /// The connection whose callback runs; [`ConnId::NONE`] between callbacks.
    owner: ConnId,
    /// Bytes that the owner may write without a further look at it.
    ///
    /// Invariant: 0 unless `owner` takes output and has none queued.
    room: usize,
    /// What it wrote.
    ///
    /// Invariant: empty unless `owner` is a live connection that has no output queued.
    bytes: Vec<u8>,
}

impl Cork {
    pub(crate) fn new() -> Self {
        Self { owner: ConnId::NONE, room: 0, bytes: Vec::with_capacity(CORK_BYTES) }
    }

    /// A callback of this connection begins: small writes gather, as many as there is `room` for.
    #[inline]
    pub(crate) fn begin(&mut self, id: ConnId, room: usize) {
        debug_assert!(self.bytes.is_empty());
        self.owner = id;
        self.room = room;
    }

    /// The callback has returned. What has gathered is still to be sent.
    #[inline(always)]
    pub(crate) fn end(&mut self) {
        self.owner = ConnId::NONE;
        self.room = 0;
    }

    /// The connection whose callback runs, or was left by a panic.
    #[inline]
    pub(crate) fn owner(&self) -> Option<ConnId> {
        (self.owner != ConnId::NONE).then_some(self.owner)
    }

    /// The connection whose callback runs; an id that finds nothing between callbacks.
    #[inline]
    pub(crate) fn owner_id(&self) -> ConnId {
        self.owner
    }

    /// Whether a callback of this connection runs.
    #[inline]
    pub(crate) fn is_owner(&self, id: ConnId) -> bool {
        self.owner == id
    }

    /// Gathers a write of the owner; `false` if there is no room, and nothing was taken.
    #[inline(always)]
    pub(crate) fn gather(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() < self.room;
        if fits {
            self.room -= bytes.len();
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    /// Gathers several parts of one write of the owner: all of them, or none.
    #[inline]
    pub(crate) fn gather_parts(&mut self, parts: &[&[u8]]) -> bool {
        let total = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        let fits = total < self.room;
        if fits {
            self.room -= total;
            for part in parts {
                self.bytes.extend_from_slice(part);
            }
        }
        fits
    }

    /// Gathers the beginning of a write of the owner, to share a record with what was gathered
    /// before; how much that is: nothing of a long one that stands alone.
    pub(crate) fn fill_up(&mut self, bytes: &[u8]) -> usize {
        let is_alone = self.bytes.is_empty() && bytes.len() >= CORK_BYTES;
        let room = if is_alone { 0 } else { CORK_BYTES.saturating_sub(self.bytes.len()) };
        let count = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }

    /// Takes back the last `count` bytes that the owner has gathered.
    pub(crate) fn take_tail(&mut self, count: usize, mut take: impl FnMut(&[u8])) {
        let rest = self.bytes.len() - count;
        if count > 0 {
            take(&self.bytes[rest..]);
            self.bytes.truncate(rest);
            self.room += count;
        }
    }

    /// How much the owner may gather from now on.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// A connection takes no more output.
    pub(crate) fn shut(&mut self, id: ConnId) {
        if self.owner == id {
            self.room = 0;
        }
    }

    /// What was gathered for a connection that cannot send it any more; how much is lost.
    pub(crate) fn take_back(&mut self, id: ConnId) -> usize {
        if self.owner != id {
            return 0;
        }
        let lost = self.bytes.len();
        self.bytes.clear();
        self.room = 0;
        lost
    }

    /// Bytes that were gathered for a connection and are not sent yet.
    pub(crate) fn gathered(&self, id: ConnId) -> usize {
        if self.owner == id { self.bytes.len() } else { 0 }
    }

    /// What has gathered.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What had gathered was sent or queued.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }
}
