//! The last plain bytes of one direction.

/// What a message may refer to: the end of those before it.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: Vec<u8>,
}

impl Window {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds what was sent or received, and forgets what is further back than 2 to the `bits`.
    pub(crate) fn push(&mut self, plain: &[u8], bits: u8) {
        let cap = 1 << bits;
        let plain = &plain[plain.len().saturating_sub(cap)..];
        let kept = cap - plain.len();
        if self.bytes.len() > kept {
            self.bytes.drain(..self.bytes.len() - kept);
        }
        self.reserve(plain.len(), cap);
        self.bytes.extend_from_slice(plain);
    }

    /// Grows by doubling, and not past the cap.
    fn reserve(&mut self, count: usize, cap: usize) {
        let (length, capacity) = (self.bytes.len(), self.bytes.capacity());
        if length + count > capacity {
            let wanted = (capacity * 2).clamp(length + count, cap);
            self.bytes.reserve_exact(wanted - length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_end_of_all_that_was_pushed() {
        let (mut window, mut all) = (Window::default(), Vec::new());
        for (at, length) in [3, 0, 500, 11, 512, 600, 1, 300, 300].into_iter().enumerate() {
            let piece: Vec<u8> = (0..length).map(|byte| (byte * 7 + at) as u8).collect();
            all.extend_from_slice(&piece);
            window.push(&piece, 9);
            assert_eq!(window.bytes(), &all[all.len().saturating_sub(512)..]);
            assert!(window.bytes.capacity() <= 512);
        }
    }
}
