//! What is sent: bytes that depend on the connection and on their position in it, so that bytes
//! swapped, lost, doubled or led astray do not look right.

use waterwheel::{Conn, Written};

/// Bytes that a stream takes from one place of the table before it goes to another.
const BLOCK_BYTES: usize = 4 << 10;

/// Places where a block may begin: few enough that the table stays in the processor's caches.
const PLACES: usize = 32 << 10;

/// An endless stream of bytes for each connection.
///
/// Each block of a stream is a stretch of one random table, which begins at a place that a hash
/// of stream and block number chooses. So bytes are sent from the table and compared with it in
/// whole slices: nothing is made or copied for a message.
pub(crate) struct Pattern {
    table: Box<[u8]>,
    seed: u64,
}

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        let words = (PLACES + BLOCK_BYTES) as u64 / 8;
        let table = (0..words).flat_map(|word| mix(seed ^ mix(word)).to_le_bytes());
        Self { table: table.collect(), seed }
    }

    /// The bytes of a stream from `at` on: `most` of them, or as many as lie together.
    #[inline]
    fn piece(&self, stream: u64, at: u64, most: usize) -> &[u8] {
        let block = at / BLOCK_BYTES as u64;
        let within = (at % BLOCK_BYTES as u64) as usize;
        let place = mix(self.seed ^ mix(stream) ^ block) as usize % PLACES;
        let count = most.min(BLOCK_BYTES - within);
        &self.table[place + within..][..count]
    }

    /// Writes `count` bytes of a stream from `at` on.
    #[inline]
    pub(crate) fn write(&self, conn: &mut Conn<'_>, stream: u64, at: u64, count: usize) -> Written {
        let mut done = 0;
        loop {
            let piece = self.piece(stream, at + done as u64, count - done);
            let written = conn.write(piece);
            done += piece.len();
            if done == count || !written.is_accepted() {
                return written;
            }
        }
    }

    /// Copies a stream from `at` on.
    #[inline]
    pub(crate) fn fill(&self, stream: u64, at: u64, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let piece = self.piece(stream, at + done as u64, bytes.len() - done);
            bytes[done..][..piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
    }

    /// The first of `bytes` that is not what the stream has at and after `at`: its index, and
    /// what it should be.
    #[inline]
    pub(crate) fn difference(&self, stream: u64, at: u64, bytes: &[u8]) -> Option<(usize, u8)> {
        let mut done = 0;
        while done < bytes.len() {
            let piece = self.piece(stream, at + done as u64, bytes.len() - done);
            let came = &bytes[done..][..piece.len()];
            if came != piece {
                let index = piece.iter().zip(came).position(|(is, came)| is != came)?;
                return Some((done + index, piece[index]));
            }
            done += piece.len();
        }
        None
    }
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
