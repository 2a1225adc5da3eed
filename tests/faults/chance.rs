//! Chance that a failure can be repeated with, and streams of bytes that tell where each byte
//! belongs.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % bound as u64) as usize
    }
}

/// A part of the endless stream of a seed. Every word of every stream is another one, so that a
/// byte out of place is a wrong byte.
pub(crate) fn stream_bytes(seed: u64, from: u64, count: usize) -> Vec<u8> {
    let first = from / 8;
    let words = (first..).map(|at| mix((seed << 40) + at));
    let all = words.flat_map(u64::to_le_bytes);
    all.skip((from % 8) as usize).take(count).collect()
}

/// The finalizer of SplitMix64: a bijection of words that look random.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
