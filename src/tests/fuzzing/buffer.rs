//! Any pushes and takings of a few queues that share their spare buffers.

use std::sync::LazyLock;

use crate::base::buffer::{Queue, Spares};
use crate::tests::fuzzing::input::Input;

/// A pushed piece is at most this many bits long: twice what a buffer keeps.
const PIECE_BITS: u8 = 17;

/// A queue is pushed to only while it holds less.
const FULL_BYTES: usize = 1 << 19;

/// Bytes pushed by one input at the most, so that it takes microseconds.
const MOST_BYTES: usize = 1 << 21;

/// Prime, so that what went wrong by a power of two shows.
const PERIOD: usize = 251;

/// The stream that every queue carries, from any of its positions on.
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..PERIOD + FULL_BYTES + (1 << PIECE_BITS)).map(|at| (at % PERIOD) as u8).collect()
});

/// A queue and the part of the stream that it should hold.
#[derive(Default)]
struct Pair {
    queue: Queue,
    /// Bytes taken off so far.
    start: usize,
    /// Bytes pushed so far.
    end: usize,
}

impl Pair {
    fn part(&self, start: usize, length: usize) -> &'static [u8] {
        &STREAM[start % PERIOD..][..length]
    }

    fn push(&mut self, length: usize, spares: &mut Spares) {
        let piece = self.part(self.end, length);
        if self.queue.is_empty() && length > 0 {
            self.queue.push_shared(piece, spares);
        } else {
            self.queue.push(piece, spares);
        }
        self.end += length;
    }

    fn consume(&mut self, count: usize, spares: &mut Spares) {
        let count = count.min(self.queue.len());
        self.queue.consume(count, spares);
        self.start += count;
    }

    fn clear(&mut self, spares: &mut Spares) {
        assert_eq!(self.queue.clear(spares), self.end - self.start);
        self.start = self.end;
    }

    fn check(&self) {
        let length = self.end - self.start;
        assert_eq!(self.queue.len(), length);
        assert_eq!(self.queue.is_empty(), length == 0);
        assert!(self.queue.as_slice() == self.part(self.start, length), "other bytes");
    }
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut spares = Spares::default();
    // More than there are places for spare buffers.
    let mut pairs: [Pair; 20] = Default::default();
    let mut pushed = 0;
    while !input.is_empty() && pushed < MOST_BYTES {
        let operation = input.byte();
        let pair = &mut pairs[usize::from(operation >> 3) % 20];
        match operation % 8 {
            0..3 if pair.queue.len() < FULL_BYTES => {
                let length = input.number(PIECE_BITS) as usize;
                pair.push(length, &mut spares);
                pushed += length;
            }
            3..5 => pair.consume(input.number(PIECE_BITS) as usize, &mut spares),
            5 => pair.consume(usize::MAX, &mut spares),
            6 => pair.clear(&mut spares),
            _ => {
                // As it is lent to a handler, and put back.
                let lent = pair.queue.take();
                assert!(pair.queue.is_empty() && pair.queue.as_slice().is_empty());
                pair.queue = lent;
            }
        }
        pair.check();
    }
    pairs.iter().for_each(Pair::check);
}
