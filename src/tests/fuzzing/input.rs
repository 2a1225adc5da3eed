//! What a fuzzer gave, taken off piece by piece; when it is used up, zeros follow.

/// The bytes that are left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, or all that are left.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `bound`, of one byte.
    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// A number of any magnitude up to so many bits: the magnitude, and then as many bytes as
    /// that takes.
    pub(crate) fn number(&mut self, most_bits: u8) -> u64 {
        debug_assert!(most_bits <= 64);
        let bits = u32::from(self.below(most_bits + 1));
        let bytes = self.take(bits.div_ceil(8) as usize);
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        number & u64::MAX.checked_shr(64 - bits).unwrap_or(0)
    }
}

/// Runs every file of a target's corpus, in the order of their names.
#[cfg(test)]
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        return; // a published package has no fuzzers
    }
    let entries = std::fs::read_dir(fuzz.join("corpus").join(target)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    for file in files {
        println!("{}", file.display()); // shown if it fails
        run(&std::fs::read(&file).unwrap());
    }
}
