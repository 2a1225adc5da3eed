//! A bit for each of the last ticks.

/// Ticks that are remembered: four minutes.
pub(super) const WINDOW: u64 = 1 << 18;

/// Which of the last ticks were noted.
#[derive(Debug)]
pub(super) struct Window {
    /// A bit for each tick of the window, by the low bits of the tick.
    bits: Box<[u64]>,
    /// The window ends before this tick.
    end: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { bits: vec![0; WINDOW as usize / 64].into_boxed_slice(), end: 0 }
    }

    fn place(tick: u64) -> (usize, u64) {
        let bit = tick % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Notes a tick, which is none before the last one.
    pub(super) fn note(&mut self, tick: u64) {
        if tick >= self.end {
            self.move_on(tick);
        }
        let (word, bit) = Self::place(tick);
        self.bits[word] |= bit;
    }

    /// Forgets what falls out of the window when it comes to end with this tick.
    #[cold]
    fn move_on(&mut self, tick: u64) {
        let first = self.end.max((tick + 1).saturating_sub(WINDOW));
        let mut at = first;
        while at <= tick {
            let (word, bit) = (Self::place(at).0, at % 64);
            let count = (tick - at + 1).min(64 - bit);
            self.bits[word] &= !((u64::MAX >> (64 - count)) << bit);
            at += count;
        }
        self.end = tick + 1;
    }

    /// Whether a tick was noted; `None` if it is not remembered any more.
    pub(super) fn has(&self, tick: u64) -> Option<bool> {
        if tick.saturating_add(WINDOW) < self.end {
            return None;
        }
        let (word, bit) = Self::place(tick);
        Some(tick < self.end && self.bits[word] & bit != 0)
    }

    /// The first tick after this one that was noted.
    pub(super) fn next(&self, tick: u64) -> Option<u64> {
        let mut tick = tick + 1;
        while tick < self.end {
            let (word, _) = Self::place(tick);
            let rest = self.bits[word] >> (tick % 64);
            if rest != 0 {
                // Behind the end of the window stand bits of its beginning.
                return Some(tick + u64::from(rest.trailing_zeros())).filter(|&it| it < self.end);
            }
            tick = (tick | 63) + 1;
        }
        None
    }
}
