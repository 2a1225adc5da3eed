//! The bytes of a fuzzer, shared by a program and its handlers; zeros follow when they are used up.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The bytes, and how many of them are used up. Clones share both.
#[derive(Clone, Debug)]
pub(super) struct Tape {
    bytes: Rc<[u8]>,
    at: Rc<Cell<usize>>,
}

impl Tape {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), at: Rc::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at.get() >= self.bytes.len()
    }

    pub(super) fn byte(&self) -> u8 {
        let at = self.at.replace(self.at.get() + 1);
        self.bytes.get(at).copied().unwrap_or(0)
    }

    pub(super) fn flag(&self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `bound`, of one byte.
    pub(super) fn below(&self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&self, all: &[T]) -> Option<T> {
        let at = usize::from(self.byte());
        all.get(at % all.len().max(1)).copied()
    }

    /// A count of bytes of any magnitude, of one byte: 0 to 15, and then ever larger steps up to
    /// 45 thousand.
    pub(super) fn count(&self) -> usize {
        let byte = usize::from(self.byte());
        if byte < 32 { byte } else { (32 + (byte & 15)) << ((byte - 32) >> 4) >> 3 }
    }

    /// A time of any magnitude from a millisecond to four minutes, of one byte.
    pub(super) fn time(&self) -> Duration {
        let byte = u64::from(self.byte());
        Duration::from_millis((16 + (byte & 15)) << (byte >> 4) >> 4)
    }

    /// A time, or none as often as not.
    pub(super) fn some_time(&self) -> Option<Duration> {
        self.flag().then(|| self.time())
    }
}
