//! Sums: what has happened since the recorder was installed.

use std::time::Duration;

use super::conns::Messages;
use crate::base::histogram::Histogram;

/// Nanoseconds, up to 584 years.
#[inline]
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

/// A phase of the turn, by its order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PhaseSum {
    /// Time in it, in nanoseconds.
    pub(super) length: u64,
    /// Things done in it.
    pub(super) count: u64,
}

/// A handler.
#[derive(Clone, Debug, Default)]
pub(super) struct HandlerSum {
    pub(super) name: String,
    /// What the inspector itself does is left out.
    pub(super) is_ignored: bool,
    pub(super) callbacks: u64,
    /// Time in its callbacks, in nanoseconds.
    pub(super) length: u64,
    /// The longest callback, in nanoseconds.
    pub(super) longest: u64,
}

impl HandlerSum {
    /// A callback has taken so long, in nanoseconds.
    #[inline]
    pub(super) fn count(&mut self, length: u64) {
        self.callbacks += 1;
        self.length += length;
        self.longest = self.longest.max(length);
    }
}

/// The most in one turn, since they were shown last. What lasts for one turn is seldom there when
/// a page is told how the loop stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peaks {
    /// The longest turn, in nanoseconds.
    pub(super) turn_length: u64,
    /// Things done in each phase.
    pub(super) counts: [u64; 5],
}

impl Peaks {
    /// A turn has ended, of such phases: length and count.
    #[inline]
    pub(super) fn add(&mut self, length: u64, phases: &[(u64, u64); 5]) {
        self.turn_length = self.turn_length.max(length);
        for (most, (_, count)) in self.counts.iter_mut().zip(phases) {
            *most = (*most).max(*count);
        }
    }
}

/// All sums.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Time in them, in nanoseconds.
    pub(super) turn_length: u64,
    pub(super) turn_lengths: Histogram,
    /// Time between the turns: in the poll.
    pub(super) poll_length: u64,
    pub(super) phases: [PhaseSum; 5],
    pub(super) peaks: Peaks,
    /// Callbacks of ignored handlers, by length: those of all are in the numbers of the reactor.
    pub(super) ignored_lengths: Histogram,
    pub(super) handlers: Vec<HandlerSum>,
    pub(super) begun: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) reset: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    pub(super) timers_armed: u64,
    pub(super) timers_fired: u64,
    /// The sum and the maximum of how late timers were, in nanoseconds.
    pub(super) late: u64,
    pub(super) latest: u64,
    pub(super) woken: u64,
    pub(super) marks: u64,
    pub(super) panics: u64,
}

impl Tally {
    /// A handler, which may be one that the recorder was never told of.
    #[inline]
    pub(super) fn handler(&mut self, index: u32) -> &mut HandlerSum {
        let index = index as usize;
        if index >= self.handlers.len() {
            self.handlers.resize_with(index + 1, HandlerSum::default);
        }
        &mut self.handlers[index]
    }

    /// Whether messages of a handler may be counted by their connections, and recorded with the
    /// handler in 16 bits.
    pub(super) fn can_count(&self, handler: u32) -> bool {
        let sum = self.handlers.get(handler as usize);
        handler < u32::from(u16::MAX) && sum.is_some_and(|sum| !sum.is_ignored)
    }

    /// Messages of a handler that were counted elsewhere.
    pub(super) fn add_messages(&mut self, handler: u32, messages: &Messages) {
        self.bytes_read += messages.bytes_read;
        self.bytes_written += messages.bytes_written;
        let sum = self.handler(handler);
        sum.callbacks += messages.count;
        sum.length += messages.length;
        sum.longest = sum.longest.max(messages.longest);
    }

    #[inline]
    pub(super) fn is_ignored(&self, handler: u32) -> bool {
        self.handlers.get(handler as usize).is_some_and(|it| it.is_ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_end_with_the_largest_number() {
        assert_eq!(nanos(Duration::new(2, 5)), 2_000_000_005);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }
}
