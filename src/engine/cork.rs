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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnId {
        ConnId::new(index, 1)
    }

    fn cork(room: usize) -> Cork {
        let mut cork = Cork::new();
        cork.begin(id(1), room);
        cork
    }

    #[test]
    fn a_write_gathers_whole_or_not_at_all() {
        let mut cork = cork(10);
        assert!(cork.gather(&[1; 6]) && !cork.gather(&[2; 4]) && cork.gather(&[3; 3]));
        assert!(!cork.gather(&[4; 1]) && cork.gather(&[]));
        assert_eq!(cork.bytes(), [1, 1, 1, 1, 1, 1, 3, 3, 3]);
        cork.clear();
        assert!(cork.bytes().is_empty());
        cork.set_room(8);
        assert!(!cork.gather_parts(&[&[5; 4], &[6; 4]]) && cork.gather_parts(&[&[5; 4], &[6; 2]]));
        assert!(!cork.gather_parts(&[&[7], &[8]]) && cork.gather_parts(&[&[7]]));
        assert_eq!(cork.bytes(), [5, 5, 5, 5, 6, 6, 7]);
    }

    #[test]
    fn only_the_connection_whose_callback_runs_owns_it() {
        let mut cork = cork(10);
        assert!(cork.is_owner(id(1)) && !cork.is_owner(id(2)));
        assert_eq!((cork.owner(), cork.owner_id()), (Some(id(1)), id(1)));
        cork.gather(b"abc");
        assert_eq!((cork.gathered(id(1)), cork.gathered(id(2))), (3, 0));
        cork.shut(id(2));
        assert!(cork.gather(b"d"));
        assert_eq!((cork.take_back(id(2)), cork.bytes()), (0, &b"abcd"[..]));
        assert_eq!((cork.take_back(id(1)), cork.bytes()), (4, &b""[..]));
        assert!(!cork.gather(b"e"), "it cannot send it");
        cork.set_room(10);
        cork.shut(id(1));
        assert!(!cork.gather(b"e"), "it takes no more output");
        cork.set_room(10);
        cork.end();
        assert!(!cork.gather(b"e") && cork.owner().is_none() && !cork.is_owner(id(1)));
    }

    #[test]
    fn a_write_shares_a_record_with_what_gathered_unless_it_is_long_and_alone() {
        let long = [1; CORK_BYTES];
        let mut cork = cork(0);
        assert_eq!(cork.fill_up(&long), 0);
        assert_eq!(cork.fill_up(&long[1..]), CORK_BYTES - 1);
        assert_eq!(cork.fill_up(&long), 1);
        assert_eq!((cork.fill_up(&long), cork.bytes().len()), (0, CORK_BYTES));
    }

    #[test]
    fn what_is_taken_back_from_the_end_has_room_again() {
        let mut cork = cork(10);
        cork.gather(b"abcdefghi");
        cork.take_tail(0, |_| panic!("nothing is taken"));
        let mut tail = Vec::new();
        cork.take_tail(3, |bytes| tail.extend_from_slice(bytes));
        assert_eq!((tail.as_slice(), cork.bytes()), (&b"ghi"[..], &b"abcdef"[..]));
        assert!(!cork.gather(&[0; 4]) && cork.gather(b"xyz"));
        assert_eq!(cork.bytes(), b"abcdefxyz");
    }
}
