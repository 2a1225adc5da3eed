//! The way between a machine and the network.

use super::chance::{Chance, Fault};
use super::event::{MICRO, MILLI, SECOND};

/// The way from a machine to the network and back.
#[derive(Debug)]
pub(super) struct Link {
    latency: u64,
    nanos_per_byte: u64,
    /// Nothing leaves, or comes in, before this.
    out_from: u64,
    in_from: u64,
}

impl Link {
    /// A link as the seed has it.
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let is_slow = chance.strikes(Fault::SlowLink);
        let latency = match is_slow {
            true => chance.spread(MILLI, 2 * SECOND),
            false => chance.spread(5 * MICRO, 2 * MILLI),
        };
        let nanos_per_byte = if is_slow { chance.spread(1, 100_000) } else { 0 };
        Self { latency, nanos_per_byte, out_from: 0, in_from: 0 }
    }

    /// When bytes are across that set out at `at`, on a way that is open from a time on.
    fn pass(&self, at: u64, open_from: u64, bytes: usize) -> u64 {
        at.max(open_from) + self.latency + self.nanos_per_byte * bytes as u64
    }

    /// When bytes that leave the machine at `at` are in the network.
    pub(super) fn pass_out(&self, at: u64, bytes: usize) -> u64 {
        self.pass(at, self.out_from, bytes)
    }

    /// When bytes that the network has at `at` are in the machine.
    pub(super) fn pass_in(&self, at: u64, bytes: usize) -> u64 {
        self.pass(at, self.in_from, bytes)
    }

    /// Lets nothing leave, or nothing in, until a time.
    pub(super) fn cut_off(&mut self, until: u64, out: bool, inward: bool) {
        if out {
            self.out_from = self.out_from.max(until);
        }
        if inward {
            self.in_from = self.in_from.max(until);
        }
    }

    /// Ends all faults of the link.
    pub(super) fn heal(&mut self, now: u64) {
        self.out_from = self.out_from.min(now);
        self.in_from = self.in_from.min(now);
        self.latency = self.latency.min(MILLI);
        self.nanos_per_byte = 0;
    }
}
