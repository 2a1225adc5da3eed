//! Masking: what a client sends is xored with four bytes of its choice.

/// Copies `from` to the beginning of `to`, xored with the key.
///
/// # Panics
/// If `to` is the shorter one.
#[inline]
pub(super) fn copy_masked(to: &mut [u8], from: &[u8], key: [u8; 4]) {
    let word = wide(key);
    let to = &mut to[..from.len()];
    let mut targets = to.chunks_exact_mut(BLOCK);
    let mut sources = from.chunks_exact(BLOCK);
    for (target, source) in (&mut targets).zip(&mut sources) {
        for at in (0..BLOCK).step_by(8) {
            copy_word(&mut target[at..at + 8], &source[at..at + 8], word);
        }
    }
    let mut targets = targets.into_remainder().chunks_exact_mut(8);
    let mut sources = sources.remainder().chunks_exact(8);
    for (target, source) in (&mut targets).zip(&mut sources) {
        copy_word(target, source, word);
    }
    let rest = targets.into_remainder().iter_mut().zip(sources.remainder());
    for ((target, source), key) in rest.zip(key.iter().cycle()) {
        *target = source ^ key;
    }
}

/// Bytes that are unmasked in one step, which the compiler makes a few wide instructions of.
const BLOCK: usize = 32;

/// Eight bytes.
#[inline(always)]
fn copy_word(target: &mut [u8], source: &[u8], word: u64) {
    let masked = u64::from_ne_bytes(source.try_into().expect("eight bytes")) ^ word;
    target.copy_from_slice(&masked.to_ne_bytes());
}

/// The key for the bytes that follow `count` others.
pub(super) fn advance(mut key: [u8; 4], count: usize) -> [u8; 4] {
    key.rotate_left(count % 4);
    key
}

/// The key twice, in the order of the bytes in memory.
fn wide(key: [u8; 4]) -> u64 {
    let [a, b, c, d] = key;
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn model(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().enumerate().map(|(at, byte)| byte ^ KEY[at % 4]).collect()
    }

    #[test]
    fn every_length_and_every_cut() {
        let bytes: Vec<u8> = (0..70).map(|at| at * 3 + 1).collect();
        for length in 0..bytes.len() {
            let expected = model(&bytes[..length]);
            for cut in 0..=length {
                let mut parts = vec![0; length + 3];
                copy_masked(&mut parts, &bytes[..cut], KEY);
                copy_masked(&mut parts[cut..], &bytes[cut..length], advance(KEY, cut));
                assert_eq!(parts[..length], expected);
            }
        }
    }
}
