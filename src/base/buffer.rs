//! A byte queue for output that the kernel has not taken and input that no handler has consumed.
//!
//! ```text
//!        head                  len
//!  | spent | bytes ............ | spare |
//! ```
//! Bytes go in at the end and out at the front, and always stand in one piece, so that a handler
//! can be lent a slice and a write is one call. A ring would save the moving, and cost the slice.

use std::rc::Rc;

/// A first-in first-out queue of bytes in one contiguous piece.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    /// The bytes, behind those already consumed.
    bytes: Vec<u8>,
    /// How many bytes at the front of `bytes` are consumed.
    ///
    /// Invariant: `head <= bytes.len()`, and both are 0 when the queue is empty.
    head: usize,
}

/// A buffer that outgrew this many bytes gives memory back as it empties.
const KEEP_BYTES: usize = 64 << 10;

/// A buffer grows by this many bytes at least.
const LEAST_GROWTH: usize = 64;

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    /// Puts `bytes` behind those that wait.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for so many bytes behind those that wait.
    fn make_room(&mut self, count: usize) {
        let is_full = |queue: &Self| queue.bytes.len() + count > queue.bytes.capacity();
        // Four bytes are moved at most for each that was consumed, and a peer that reads slowly
        // does not make the memory grow past what its bytes take.
        if is_full(self) && self.head >= self.len() / 4 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
        if is_full(self) {
            // By half, not to the double: with the spent quarter it stays below twice the bytes.
            self.bytes.reserve_exact(count.max(self.bytes.len() / 2).max(LEAST_GROWTH));
        }
    }

    /// Takes `count` bytes off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.head += count;
        if self.head >= self.bytes.len() {
            self.bytes.clear();
            self.head = 0;
        }
        if self.bytes.capacity() > KEEP_BYTES && self.len() <= self.bytes.capacity() / 4 {
            self.bytes.drain(..self.head);
            self.head = 0;
            self.bytes.shrink_to(2 * self.len());
        }
    }

    fn clear(&mut self) {
        self.consume(self.len());
    }

    /// Memory that it takes, with the two counters of its `Rc`.
    fn footprint(&self) -> usize {
        size_of::<[usize; 2]>() + size_of::<Self>() + self.bytes.capacity()
    }
}

/// A queue that holds memory only while it holds bytes.
///
/// The same bytes that were put into many empty queues one after the other stand in memory once:
/// see [`push_shared`](Self::push_shared). A queue that changes them takes a copy first.
#[derive(Debug, Default)]
pub(crate) struct Queue(
    /// Invariant: `Some` exactly while there are bytes.
    Option<Rc<Buffer>>,
);

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |buffer| buffer.as_slice())
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |buffer| {
            let buffer = Rc::make_mut(buffer);
            &mut buffer.bytes[buffer.head..]
        })
    }

    pub(crate) fn push(&mut self, bytes: &[u8], spares: &mut Spares) {
        if !bytes.is_empty() {
            self.own(spares).push(bytes);
        }
    }

    /// The same for the first bytes of an empty queue, which are not empty. If the last queue that
    /// was begun so has the same ones, they are not copied: a message to many is one copy for all.
    pub(crate) fn push_shared(&mut self, bytes: &[u8], spares: &mut Spares) {
        debug_assert!(self.is_empty() && !bytes.is_empty());
        match &spares.shared {
            Some(shared) if shared.as_slice() == bytes => self.0 = Some(Rc::clone(shared)),
            _ => {
                self.push(bytes, spares);
                spares.share(self.0.as_ref().filter(|_| bytes.len() <= MAX_SHARED_BYTES));
            }
        }
    }

    /// Puts several parts behind those that wait; returns how many bytes they have.
    pub(crate) fn push_parts(&mut self, parts: &[&[u8]], spares: &mut Spares) -> usize {
        let length = parts.iter().map(|part| part.len()).sum();
        if length > 0 {
            let buffer = self.own(spares);
            buffer.make_room(length);
            for part in parts {
                buffer.bytes.extend_from_slice(part);
            }
        }
        length
    }

    pub(crate) fn consume(&mut self, count: usize, spares: &mut Spares) {
        debug_assert!(count <= self.len());
        if count >= self.len() {
            self.clear(spares);
        } else if count > 0 {
            self.own(spares).consume(count);
        }
    }

    /// The buffer, for what changes it: one of its own, and a new one if there is none.
    fn own(&mut self, spares: &mut Spares) -> &mut Buffer {
        let buffer = self.0.get_or_insert_with(|| spares.take());
        spares.unshare(buffer);
        if Rc::strong_count(buffer) > 1 {
            let mut copy = spares.take();
            Rc::make_mut(&mut copy).push(buffer.as_slice());
            *buffer = copy;
        }
        Rc::make_mut(buffer)
    }

    /// Lends the memory behind the bytes out, with room for so many more, to those that write there
    /// themselves. [`end_fill`](Self::end_fill) must follow.
    pub(crate) fn begin_fill(&mut self, room: usize, spares: &mut Spares) -> &mut Vec<u8> {
        let buffer = self.own(spares);
        buffer.make_room(room);
        &mut buffer.bytes
    }

    /// What was lent out by [`begin_fill`](Self::begin_fill) is given back.
    pub(crate) fn end_fill(&mut self, spares: &mut Spares) {
        if self.0.as_ref().is_some_and(|buffer| buffer.is_empty()) {
            self.clear(spares);
        }
    }

    /// Drops everything and says how much it was.
    #[inline]
    pub(crate) fn clear(&mut self, spares: &mut Spares) -> usize {
        self.0.take().map_or(0, |buffer| spares.reclaim(buffer))
    }

    /// Moves the content out, so that it can be lent while the connection is borrowed.
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }
}

/// Room for bytes that are made and, as a rule, sent at once. What it held stays initialized, so
/// that room costs nothing once it was used.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    /// Invariant: at most `bytes.len()`.
    len: usize,
}

impl Scratch {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// So many bytes behind those that are there, with any content. [`Self::add`] says how many of
    /// them were written.
    pub(crate) fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.len + count;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.len..end]
    }

    /// The first bytes of the room were written.
    pub(crate) fn add(&mut self, count: usize) {
        self.len += count;
        debug_assert!(self.len <= self.bytes.len());
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.add(bytes.len());
    }

    /// Takes `count` bytes off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// Empty buffers kept for reuse, so that a connection that queues now and then does not allocate
/// each time.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    /// Invariant: all empty, none larger than [`KEEP_BYTES`].
    buffers: Vec<Rc<Buffer>>,
    /// What they take.
    ///
    /// Invariant: at most [`MAX_SPARE_BYTES`].
    bytes: usize,
    /// Bytes of output that wait in the queues of connections: counted here because whatever
    /// queues or takes output has the spares in hand.
    output: usize,
    /// The bytes of the queue that was begun last by [`Queue::push_shared`]: the next one may
    /// begin with the same.
    shared: Option<Rc<Buffer>>,
    /// Where layers write. What it holds is of the last that did.
    pub(crate) scratch: Scratch,
    /// What layers have made of the last bytes that came, and no handler has seen: no more than a
    /// read gives.
    pub(crate) plain: Vec<u8>,
}

/// Memory kept in spares: 16 large buffers, or small ones for some thousand connections that each
/// queue a little in one turn, as those of a proxy do.
const MAX_SPARE_BYTES: usize = 1 << 20;

/// Longer ones are copied for each queue: they are kept for the next one, and may be the last.
const MAX_SHARED_BYTES: usize = 16 << 10;

impl Spares {
    /// Output was queued.
    pub(crate) fn note_queued(&mut self, bytes: usize) {
        self.output += bytes;
    }

    /// Queued output has left, or was dropped.
    pub(crate) fn note_left(&mut self, bytes: usize) {
        self.output = self.output.saturating_sub(bytes);
    }

    /// Bytes of output that wait in the queues of connections.
    pub(crate) fn output(&self) -> usize {
        self.output
    }

    fn take(&mut self) -> Rc<Buffer> {
        let Some(buffer) = self.buffers.pop() else { return Rc::default() };
        self.bytes -= buffer.footprint();
        buffer
    }

    /// Keeps the bytes of a queue for others that begin with the same, or none.
    fn share(&mut self, buffer: Option<&Rc<Buffer>>) {
        if let Some(last) = std::mem::replace(&mut self.shared, buffer.cloned()) {
            self.reclaim(last);
        }
    }

    /// A buffer changes: no other queue begins with it from now on.
    fn unshare(&mut self, buffer: &Rc<Buffer>) {
        if self.shared.as_ref().is_some_and(|shared| Rc::ptr_eq(shared, buffer)) {
            self.shared = None;
        }
    }

    /// Keeps a buffer for reuse, unless others have it too; says how much was in it.
    fn reclaim(&mut self, mut buffer: Rc<Buffer>) -> usize {
        let dropped = buffer.len();
        let Some(own) = Rc::get_mut(&mut buffer) else { return dropped };
        own.clear();
        debug_assert!(buffer.bytes.capacity() <= KEEP_BYTES);
        let bytes = self.bytes + buffer.footprint();
        if bytes <= MAX_SPARE_BYTES {
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use quickcheck::{Gen, QuickCheck};

    use super::*;

    #[test]
    fn a_buffer_is_a_queue() {
        fn property(steps: Vec<(usize, usize)>) {
            let (mut queue, mut spares) = (Queue::default(), Spares::default());
            let mut model: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (push, consume) in steps {
                let bytes = std::iter::repeat_with(|| {
                    next = next.wrapping_add(1);
                    next
                });
                let bytes: Vec<u8> = bytes.take(push % 200_000).collect();
                queue.push(&bytes, &mut spares);
                model.extend(&bytes);
                let consume = (consume % 200_000).min(model.len());
                queue.consume(consume, &mut spares);
                model.drain(..consume);
                assert_eq!(queue.len(), model.len());
                assert_eq!(queue.is_empty(), model.is_empty());
                assert!(queue.as_slice() == model.make_contiguous());
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(40)).quickcheck(property as fn(_));
    }

    /// What one queue does to bytes that others share, the others do not see.
    #[test]
    fn queues_that_share_their_bytes_are_queues() {
        fn property(steps: Vec<(usize, usize, usize, bool)>) {
            let mut queues: [Queue; 4] = Default::default();
            let (mut models, mut spares) = (vec![Vec::new(); 4], Spares::default());
            for (which, piece, count, is_push) in steps {
                let (which, count) = (which % 4, count % 4);
                let (queue, model) = (&mut queues[which], &mut models[which]);
                let bytes = [&b"one"[..], b"other", &[7; MAX_SHARED_BYTES + 1]][piece % 3];
                if is_push {
                    if queue.is_empty() {
                        queue.push_shared(bytes, &mut spares);
                    } else {
                        queue.push(bytes, &mut spares);
                    }
                    model.extend_from_slice(bytes);
                } else {
                    let count = if count == 3 { model.len() } else { count.min(model.len()) };
                    queue.consume(count, &mut spares);
                    model.drain(..count);
                    if count == 1 && !model.is_empty() {
                        queue.as_mut_slice()[0] = b'!';
                        model[0] = b'!';
                    }
                }
                for (queue, model) in queues.iter().zip(&models) {
                    assert!(queue.as_slice() == model && queue.is_empty() == model.is_empty());
                }
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(60)).quickcheck(property as fn(_));
    }

    #[test]
    fn a_message_to_many_is_in_memory_once() {
        let mut spares = Spares::default();
        let mut queues: Vec<Queue> = (0..1_000).map(|_| Queue::default()).collect();
        for message in [[1; 66], [2; 66]] {
            for queue in &mut queues {
                queue.push_shared(&message, &mut spares);
                assert_eq!(queue.as_slice(), message);
            }
            let place = queues[0].as_slice().as_ptr();
            assert!(queues.iter().all(|queue| queue.as_slice().as_ptr() == place));
            for queue in &mut queues {
                assert_eq!(queue.clear(&mut spares), 66);
            }
        }
        // The second is kept for a third that is the same; the memory of the first is free again.
        assert_eq!(spares.buffers.len(), 1);
        assert_eq!(spares.bytes, spares.buffers[0].footprint());
    }

    /// The next message of one of them finds the memory that the last one had.
    #[test]
    fn what_is_not_shared_any_more_is_used_again() {
        let (mut queue, mut spares) = (Queue::default(), Spares::default());
        let mut places = std::collections::HashSet::new();
        for round in 0..100u8 {
            queue.push_shared(&[round; 40], &mut spares);
            queue.push(&[round; 20], &mut spares);
            assert_eq!(queue.as_slice(), [round; 60]);
            places.insert(queue.as_slice().as_ptr());
            queue.clear(&mut spares);
        }
        assert_eq!((places.len(), spares.buffers.len()), (1, 1));
    }

    /// A reader that always leaves most of the queue made its buffer grow to 3.5 times the bytes.
    #[test]
    fn a_slow_reader_does_not_inflate_the_buffer() {
        for most in [1_000, 36_000, 40_000, 65_536, 100_000] {
            let mut buffer = Buffer::default();
            for step in 0..10_000 {
                let room = most - buffer.len();
                buffer.push(&vec![1; room.min(1 + step % 3_000)]);
                let count = (1 + step % 700).min(buffer.len());
                buffer.consume(count);
                let capacity = buffer.bytes.capacity();
                assert!(capacity <= 2 * most + LEAST_GROWTH, "{capacity} for {most}");
            }
        }
    }

    /// A buffer with this much room that is empty.
    fn buffer_with_room(bytes: usize) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.push(&vec![0; bytes]);
        buffer.consume(bytes);
        assert_eq!(buffer.bytes.capacity(), bytes);
        buffer
    }

    #[test]
    fn bytes_stay_in_place_as_long_as_there_is_room() {
        let mut buffer = buffer_with_room(100);
        buffer.push(&[1; 50]);
        buffer.consume(30);
        buffer.push(&[2; 10]);
        assert_eq!((buffer.head, buffer.len()), (30, 30));
        buffer.push(&[3; 40]); // fits exactly
        assert_eq!((buffer.head, buffer.len()), (30, 70));
        assert_eq!(buffer.bytes.capacity(), 100);
    }

    #[test]
    fn a_rest_moves_to_the_front_rather_than_growing_once_a_fifth_is_spent() {
        for (spent, moves) in [(19, false), (20, true), (21, true)] {
            let mut buffer = buffer_with_room(100);
            buffer.push(&[1; 100]);
            buffer.consume(spent);
            buffer.push(&vec![2; spent]);
            assert_eq!(buffer.head == 0, moves, "{spent} of 100 spent");
            assert_eq!(buffer.bytes.capacity() == 100, moves, "{spent} of 100 spent");
            assert_eq!(buffer.len(), 100);
        }
    }

    #[test]
    fn memory_goes_back_when_a_quarter_is_left_and_not_before() {
        let mut buffer = buffer_with_room(KEEP_BYTES);
        buffer.push(&vec![1; 4 * KEEP_BYTES]);
        assert_eq!(buffer.bytes.capacity(), 4 * KEEP_BYTES);
        buffer.consume(3 * KEEP_BYTES - 1);
        assert_eq!((buffer.head, buffer.bytes.capacity()), (3 * KEEP_BYTES - 1, 4 * KEEP_BYTES));
        buffer.consume(1);
        assert_eq!((buffer.head, buffer.bytes.capacity()), (0, 2 * KEEP_BYTES));
        assert_eq!(buffer.len(), KEEP_BYTES);
    }

    #[test]
    fn a_drained_buffer_gives_its_memory_back() {
        let mut buffer = Buffer::default();
        buffer.push(&vec![1; 16 << 20]);
        buffer.consume((16 << 20) - 1);
        assert!(buffer.bytes.capacity() <= KEEP_BYTES, "{}", buffer.bytes.capacity());
        assert_eq!(buffer.as_slice(), [1]);
    }

    #[test]
    fn emptied_buffers_are_kept_up_to_a_bound_and_used_again() {
        let mut spares = Spares::default();
        let most = MAX_SPARE_BYTES / (1_000 + Buffer::default().footprint());
        let mut queues: Vec<Queue> = (0..2 * most).map(|_| Queue::default()).collect();
        for queue in &mut queues {
            queue.push(&[7; 1_000], &mut spares);
        }
        for queue in &mut queues {
            assert_eq!(queue.clear(&mut spares), 1_000);
        }
        assert_eq!(spares.buffers.len(), most);
        for left in (0..most).rev() {
            queues[left].push(&[7; 1_000], &mut spares);
            assert_eq!(spares.buffers.len(), left);
        }
        assert_eq!(spares.bytes, 0);
    }

    #[test]
    fn an_empty_queue_holds_no_memory_and_spares_are_bounded() {
        let mut spares = Spares::default();
        let mut queues: Vec<Queue> = (0..100).map(|_| Queue::default()).collect();
        for queue in &mut queues {
            queue.push(&[7; 1_000_000], &mut spares);
            queue.consume(1_000_000, &mut spares);
            assert!(queue.0.is_none());
        }
        let kept: usize = spares.buffers.iter().map(|buffer| buffer.footprint()).sum();
        assert!(kept <= MAX_SPARE_BYTES && kept == spares.bytes, "{kept}");
        assert!(spares.buffers.iter().all(|buffer| buffer.bytes.capacity() <= KEEP_BYTES));
    }

    #[test]
    fn a_full_buffer_grows_by_half_or_by_what_is_put_in() {
        for (full, more, room) in [(1_000, 1, 1_500), (1_000, 900, 1_900), (100, 1, 164)] {
            let mut buffer = buffer_with_room(full);
            buffer.push(&vec![1; full]);
            buffer.push(&vec![2; more]);
            assert_eq!(buffer.bytes.capacity(), room);
            let counters = 2 * size_of::<usize>();
            assert_eq!(buffer.footprint(), counters + size_of::<Buffer>() + room);
        }
    }

    #[test]
    fn a_queue_that_is_filled_from_outside_has_what_was_written_and_no_memory_for_nothing() {
        let (mut queue, mut spares) = (Queue::default(), Spares::default());
        assert!(queue.begin_fill(100, &mut spares).capacity() >= 100);
        queue.end_fill(&mut spares);
        assert!(queue.is_empty() && spares.buffers.len() == 1);
        queue.begin_fill(3, &mut spares).extend_from_slice(b"abc");
        queue.end_fill(&mut spares);
        assert_eq!((queue.as_slice(), queue.len()), (&b"abc"[..], 3));
    }

    #[test]
    fn where_nothing_is_consumed_nothing_is_copied() {
        let mut spares = Spares::default();
        let mut queues: [Queue; 2] = Default::default();
        for queue in &mut queues {
            queue.push_shared(b"both", &mut spares);
            queue.consume(0, &mut spares);
        }
        assert_eq!(queues[0].as_slice().as_ptr(), queues[1].as_slice().as_ptr());
    }

    #[test]
    fn parts_stand_one_behind_the_other() {
        let (mut queue, mut spares) = (Queue::default(), Spares::default());
        assert_eq!(queue.push_parts(&[b"", b""], &mut spares), 0);
        assert!(queue.is_empty());
        assert_eq!(queue.push_parts(&[b"ab", b"", b"cde"], &mut spares), 5);
        assert_eq!(queue.push_parts(&[b"f"], &mut spares), 1);
        assert_eq!(queue.as_slice(), b"abcdef");
    }

    #[test]
    fn scratch_has_what_was_added_and_loses_it_from_the_front() {
        let mut scratch = Scratch::default();
        scratch.push(b"abc");
        scratch.room(9)[..2].copy_from_slice(b"de");
        assert_eq!(scratch.as_slice(), b"abc");
        scratch.add(2);
        assert_eq!(scratch.as_slice(), b"abcde");
        scratch.consume(2);
        scratch.push(b"fg");
        assert_eq!(scratch.room(40).len(), 40);
        assert_eq!(scratch.as_slice(), b"cdefg");
        scratch.clear();
        scratch.push(b"x");
        assert_eq!(scratch.as_slice(), b"x");
    }
}
