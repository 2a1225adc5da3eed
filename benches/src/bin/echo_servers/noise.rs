//! What is sent: bytes that depend on the stream and on the position in it, so that an answer
//! which is lost, doubled, swapped or another connection's does not compare equal.

use std::io;

/// Positions after which a stream repeats itself. A prime, so that messages of any size come to
/// begin at every place.
const PERIOD: u64 = 32_749;

/// How far into the period each stream begins after the one before; prime to the period.
const STRIDE: u64 = 4_099;

/// Bytes that are sent or compared at once, at most.
pub(crate) const MAX_PIECE_BYTES: usize = 64 << 10;

/// Endless streams of bytes, by number. The table is longer than its period by a piece, so that a
/// piece from anywhere is one slice.
pub(crate) struct Noise {
    table: Vec<u8>,
}

impl Noise {
    pub(crate) fn new() -> Self {
        // A linear congruential generator with Knuth's factor; its high bits are the good ones.
        let mut state = 1u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let period: Vec<u8> = (0..PERIOD).map(|_| byte()).collect();
        let len = period.len() + MAX_PIECE_BYTES;
        Self { table: period.into_iter().cycle().take(len).collect() }
    }

    /// At most `most` bytes of a stream from `at` on.
    pub(crate) fn piece(&self, stream: u64, at: u64, most: u64) -> &[u8] {
        let begin = (stream * STRIDE + at) % PERIOD;
        &self.table[begin as usize..][..most.min(MAX_PIECE_BYTES as u64) as usize]
    }

    /// An error unless `bytes`, no more than a piece, are what the stream has at `at`.
    pub(crate) fn check(&self, stream: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.piece(stream, at, bytes.len() as u64) == bytes {
            return Ok(());
        }
        let text = format!("what came back from byte {at} on is not what was sent");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}
