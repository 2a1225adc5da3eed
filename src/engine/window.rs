//! Marks of the last ticks, a few bits for each.

/// Ticks that are remembered: more than eight minutes.
pub(super) const WINDOW: u64 = 1 << 19;

/// What a tick is marked with.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    /// A turn began that did not end in the same tick.
    Begun,
    /// What such a turn has stamped has the stamp of its start for good.
    Stamped,
    /// Such a turn ended.
    Ended,
}

/// How many marks there are.
const MARKS: usize = 3;

/// Which of the last ticks have which mark.
#[derive(Debug)]
pub(super) struct Window {
    /// A bit for each mark of each tick of the window, by the low bits of the tick.
    bits: Box<[[u64; MARKS]]>,
    /// The window ends before this tick.
    end: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { bits: vec![[0; MARKS]; WINDOW as usize / 64].into_boxed_slice(), end: 0 }
    }

    #[inline]
    fn place(tick: u64) -> (usize, u64) {
        let bit = tick % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Marks a tick, which is none before the last one.
    #[inline]
    pub(super) fn note(&mut self, tick: u64, mark: Mark) {
        if tick >= self.end {
            self.move_on(tick);
        }
        let (word, bit) = Self::place(tick);
        self.bits[word][mark as usize] |= bit;
    }

    /// Forgets what falls out of the window when it comes to end with this tick.
    fn move_on(&mut self, tick: u64) {
        let first = self.end.max((tick + 1).saturating_sub(WINDOW));
        let mut at = first;
        while at <= tick {
            let (word, bit) = (Self::place(at).0, at % 64);
            let count = (tick - at + 1).min(64 - bit);
            let kept = !((u64::MAX >> (64 - count)) << bit);
            for bits in &mut self.bits[word] {
                *bits &= kept;
            }
            at += count;
        }
        self.end = tick + 1;
    }

    /// Whether a tick has a mark; `None` if it is not remembered any more.
    pub(super) fn has(&self, tick: u64, mark: Mark) -> Option<bool> {
        if tick.saturating_add(WINDOW) < self.end {
            return None;
        }
        let (word, bit) = Self::place(tick);
        Some(tick < self.end && self.bits[word][mark as usize] & bit != 0)
    }

    /// The first tick after this one that has a mark.
    pub(super) fn next(&self, tick: u64, mark: Mark) -> Option<u64> {
        let mut tick = tick + 1;
        while tick < self.end {
            let (word, _) = Self::place(tick);
            let rest = self.bits[word][mark as usize] >> (tick % 64);
            if rest != 0 {
                // Behind the end of the window stand bits of its beginning.
                return Some(tick + u64::from(rest.trailing_zeros())).filter(|&it| it < self.end);
            }
            tick = (tick | 63) + 1;
        }
        None
    }
}
