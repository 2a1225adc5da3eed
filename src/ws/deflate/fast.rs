//! A compressor for level 1: one look at a table for each place, and the codes that need no table
//! of their own (RFC 1951).
//!
//! A general one clears its tables for each message that may not refer to the ones before, which
//! costs more than to compress a small message. Here the places in the table are numbers that only
//! grow, so that those of earlier messages are told by being too small.

/// Bits of a hash, and so of the table: 32 KiB.
const HASH_BITS: u32 = 13;

/// The shortest match that is looked for, in bytes.
const MIN_MATCH: usize = 4;

/// The longest match that there is a code for, in bytes.
const MAX_MATCH: usize = 258;

/// The longest text that a block without compression can have, in bytes.
const MAX_STORED: usize = 65_535;

/// The code that ends a block: seven zeros.
const END_BITS: u32 = 7;

/// Misses after which each further place is as much further on.
const SKIP_BITS: u32 = 6;

/// Each literal: its code, the first bit lowest, and its length in bits.
const LITERALS: [(u16, u8); 256] = {
    let mut table = [(0, 0); 256];
    let mut byte = 0;
    while byte < 256 {
        let (code, bits) =
            if byte < 144 { (0x30 + byte as u16, 8) } else { (0x190 + byte as u16 - 144, 9) };
        table[byte] = (code.reverse_bits() >> (16 - bits), bits as u8);
        byte += 1;
    }
    table
};

/// Each length of a match: its code and the bits behind it, and how many bits these are together.
const LENGTHS: [(u32, u8); MAX_MATCH + 1] = {
    let mut table = [(0, 0); MAX_MATCH + 1];
    let mut length = 3;
    while length <= MAX_MATCH {
        let above = length as u32 - 3;
        let extra_bits = if above < 8 || length == MAX_MATCH { 0 } else { above.ilog2() - 2 };
        let symbol =
            if length == MAX_MATCH { 285 } else { 257 + 4 * extra_bits + (above >> extra_bits) };
        let (code, bits) = if symbol < 280 { (symbol - 256, 7) } else { (symbol - 280 + 0xc0, 8) };
        let code = code.reverse_bits() >> (32 - bits);
        let extra = if extra_bits == 0 { 0 } else { above & ((1 << extra_bits) - 1) };
        table[length] = (code | extra << bits, (bits + extra_bits) as u8);
        length += 1;
    }
    table
};

/// The table that all messages share.
pub(super) struct Fast {
    /// By hash: a place in the last text, plus `base`; or less than `base`, of an earlier text.
    table: Box<[u32]>,
    /// More than is in the table of any earlier text.
    base: u32,
    /// The window, and the message behind it.
    text: Vec<u8>,
}

impl Default for Fast {
    fn default() -> Self {
        Self { table: vec![0; 1 << HASH_BITS].into(), base: 1, text: Vec::new() }
    }
}

impl Fast {
    /// Compresses `plain` into `output`, which may refer to `window` and to no more than 2 to the
    /// `bits` bytes back. The last four bytes of the flush are left out.
    pub(super) fn compress(
        &mut self,
        plain: &[u8],
        window: &[u8],
        bits: u8,
        output: &mut Vec<u8>,
        kept: usize,
    ) {
        self.text.clear();
        self.text.extend_from_slice(window);
        self.text.extend_from_slice(plain);
        if u32::MAX - self.base <= self.text.len() as u32 {
            self.table.fill(0);
            self.base = 1;
        }
        self.note_window(window.len());
        let mut writer = Writer::new(output, plain.len());
        writer.put(0b010, 3); // a block that is not the last, with the codes that are fixed
        self.encode(window.len(), 1 << bits, &mut writer);
        writer.put(0, END_BITS);
        writer.put(0, 3); // a block that is not the last, and has nothing in it
        writer.finish();
        if output.len() > plain.len() + 5 * plain.len().div_ceil(MAX_STORED) + 1 {
            store(plain, output);
        }
        self.base += self.text.len() as u32;
        self.text.clear(); // or it could not shrink
        self.text.shrink_to(kept);
    }

    /// Notes places of the window: of a long one not each, because that costs more than it gains.
    fn note_window(&mut self, length: usize) {
        let step = 1 + (length >> 11);
        for at in (0..length.saturating_sub(MIN_MATCH - 1)).step_by(step) {
            let Some(word) = word(&self.text, at) else { return };
            self.table[hash(word)] = self.base + at as u32;
        }
    }

    fn encode(&mut self, start: usize, max_distance: usize, writer: &mut Writer<'_>) {
        let (text, table) = (&self.text[..], &mut self.table[..]);
        let (mut at, mut misses) = (start, 0_usize);
        while let Some(here) = word(text, at) {
            let place = &mut table[hash(here)];
            let earlier = place.checked_sub(self.base).map(|earlier| earlier as usize);
            *place = self.base + at as u32;
            let found =
                earlier.filter(|&from| at - from <= max_distance && word(text, from) == Some(here));
            if let Some(from) = found {
                let length = common(text, from, at);
                writer.put_match(length, at - from);
                at += length;
                misses = 0;
                continue;
            }
            let step = 1 + (misses >> SKIP_BITS);
            misses += 1;
            for &byte in &text[at..text.len().min(at + step)] {
                writer.put_literal(byte);
            }
            at += step;
        }
        for &byte in text.get(at..).unwrap_or_default() {
            writer.put_literal(byte);
        }
    }
}

/// Four bytes of the text, if there are so many.
#[inline(always)]
fn word(text: &[u8], at: usize) -> Option<u32> {
    let bytes = text.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[inline(always)]
fn hash(word: u32) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// How much of the text at `at` is the same as that at `from`.
#[inline]
fn common(text: &[u8], from: usize, at: usize) -> usize {
    let end = text.len().min(at + MAX_MATCH);
    let (here, earlier) = (&text[at..end], &text[from..]);
    let mut length = MIN_MATCH;
    while let (Some(a), Some(b)) = (here.get(length..length + 8), earlier.get(length..length + 8)) {
        let (a, b): ([u8; 8], [u8; 8]) =
            (a.try_into().unwrap_or([0; 8]), b.try_into().unwrap_or([1; 8]));
        let differing = u64::from_le_bytes(a) ^ u64::from_le_bytes(b);
        if differing != 0 {
            return length + differing.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let rest = here[length..].iter().zip(&earlier[length..]);
    length + rest.take_while(|(a, b)| a == b).count()
}

/// Writes blocks without compression instead, which are shorter here.
fn store(plain: &[u8], output: &mut Vec<u8>) {
    output.clear();
    for piece in plain.chunks(MAX_STORED) {
        let length = piece.len() as u16;
        output.push(0);
        output.extend_from_slice(&length.to_le_bytes());
        output.extend_from_slice(&(!length).to_le_bytes());
        output.extend_from_slice(piece);
    }
    output.push(0); // the head of the block that has nothing in it
}

/// Bits, the first lowest.
struct Writer<'a> {
    output: &'a mut Vec<u8>,
    /// Whole bytes that are written.
    length: usize,
    bits: u64,
    count: u32,
}

impl<'a> Writer<'a> {
    /// For a message of so many bytes, of which none takes more than nine bits.
    fn new(output: &'a mut Vec<u8>, plain: usize) -> Self {
        let room = plain + plain / 8 + 32;
        if output.len() < room {
            output.resize(room, 0);
        }
        Self { output, length: 0, bits: 0, count: 0 }
    }

    /// At most 32 bits at once, behind fewer than eight.
    #[inline(always)]
    fn put(&mut self, bits: u32, count: u32) {
        self.bits |= u64::from(bits) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.flush();
        }
    }

    #[inline(always)]
    fn put_literal(&mut self, byte: u8) {
        let (code, bits) = LITERALS[usize::from(byte)];
        self.put(u32::from(code), u32::from(bits));
    }

    #[inline]
    fn put_match(&mut self, length: usize, distance: usize) {
        let (code, bits) = LENGTHS[length];
        self.put(code, u32::from(bits));
        let above = distance as u32 - 1;
        let extra_bits = if above < 4 { 0 } else { above.ilog2() - 1 };
        let symbol = 2 * extra_bits + (above >> extra_bits);
        let code = symbol.reverse_bits() >> (32 - 5);
        let extra = above & ((1 << extra_bits) - 1);
        self.put(code | extra << 5, 5 + extra_bits);
    }

    #[inline(always)]
    fn flush(&mut self) {
        if let Some(place) = self.output.get_mut(self.length..self.length + 8) {
            place.copy_from_slice(&self.bits.to_le_bytes());
        }
        let bytes = self.count / 8;
        self.length += bytes as usize;
        self.bits >>= 8 * bytes;
        self.count %= 8;
    }

    fn finish(mut self) {
        self.count = self.count.next_multiple_of(8);
        let bytes = self.bits.to_le_bytes();
        self.output.truncate(self.length);
        self.output.extend_from_slice(&bytes[..self.count as usize / 8]);
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
    use quickcheck::{Gen, QuickCheck};

    use super::*;

    /// What a peer makes of it that has this window.
    fn inflate(body: &[u8], window: &[u8], length: usize) -> Vec<u8> {
        let mut inflate = Decompress::new(false);
        inflate.set_dictionary(window).unwrap();
        let mut plain = Vec::with_capacity(length + 1);
        let whole = [body, &[0, 0, 0xff, 0xff]].concat();
        inflate.decompress_vec(&whole, &mut plain, FlushDecompress::Sync).unwrap();
        assert_eq!(inflate.total_in(), whole.len() as u64);
        plain
    }

    #[track_caller]
    fn expect_back(fast: &mut Fast, plain: &[u8], window: &[u8], bits: u8) -> usize {
        let mut body = Vec::new();
        fast.compress(plain, window, bits, &mut body, 1 << 20);
        assert!(inflate(&body, window, plain.len()) == plain, "{} bytes", plain.len());
        assert!(body.len() <= plain.len() + 5 * plain.len().div_ceil(MAX_STORED) + 1);
        body.len()
    }

    /// Bytes without a pattern, of `kinds` kinds.
    fn noise(seed: u32, length: usize, kinds: u32) -> Vec<u8> {
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let states = std::iter::successors(Some(seed), next);
        states.take(length).map(|state| ((state >> 16) % kinds) as u8).collect()
    }

    #[test]
    fn there_and_back() {
        fn property(texts: Vec<(u32, usize, u32)>, bits: u8, begin: Option<u32>) {
            let bits = 9 + bits % 7;
            let begin = begin.map_or(1, |below| u32::MAX - 1 - below % 30_000);
            let mut fast = Fast { base: begin, ..Fast::default() };
            let mut before = Vec::new();
            for (seed, length, kinds) in texts {
                let plain = noise(seed, length % 9000, 1 + kinds % 256);
                let window = &before[before.len().saturating_sub(1 << bits)..];
                expect_back(&mut fast, &plain, window, bits);
                before.extend(plain);
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(6)).quickcheck(property as fn(_, _, _));
    }

    #[test]
    fn what_a_long_text_took_is_given_back() {
        let (mut fast, mut body) = (Fast::default(), Vec::new());
        fast.compress(&noise(7, 1 << 20, 30), &[], 15, &mut body, 1 << 10);
        assert!(fast.text.capacity() <= 1 << 10, "{} bytes are kept", fast.text.capacity());
    }

    #[test]
    fn long_texts() {
        let mut fast = Fast::default();
        for kinds in [1, 2, 30, 256] {
            for length in [MAX_STORED, MAX_STORED + 1, 300_000] {
                expect_back(&mut fast, &noise(7, length, kinds), &[], 15);
            }
        }
        for (length, most) in [(258, 10), (100_000, 1_500)] {
            let found = expect_back(&mut fast, &vec![b'x'; length], &[], 15);
            assert!(found <= most, "{found} bytes for {length} that are the same");
        }
    }

    #[test]
    fn text_is_not_much_larger_than_another_would_make_it() {
        let words = ["price", "quantity", "symbol", "open", "close", "volume", "time"];
        let text: String = (0..200_usize)
            .map(|at| format!("{{\"{}\":{}}},", words[at * at % 7], at * 7919 % 1000))
            .collect();
        let found = expect_back(&mut Fast::default(), text.as_bytes(), &[], 15);
        let mut zlib = Compress::new(Compression::fast(), false);
        let mut body = Vec::with_capacity(text.len());
        zlib.compress_vec(text.as_bytes(), &mut body, FlushCompress::Sync).unwrap();
        assert!(found * 10 < body.len() * 11, "{found} of {}, zlib {}", text.len(), body.len());
    }
}
