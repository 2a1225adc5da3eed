//! What the seed decides: one stream of numbers, and which faults strike how often.

use std::fmt;

use crate::options::TurnBudgets;

/// A kind of fault that a simulated world can inject.
///
/// Each fault is something that the real world does too, so a correct program survives all of
/// them. [`loses_connections`](Self::loses_connections) and [`takes_long`](Self::takes_long) say
/// what a fault may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// A read returns fewer bytes than there are.
    ShortRead,
    /// A write takes fewer bytes than there is room for.
    ShortWrite,
    /// A read returns `WouldBlock`, and the readiness is reported again.
    BlockedRead,
    /// A write returns `WouldBlock`, and the readiness is reported again.
    BlockedWrite,
    /// A read, a write or an accept is interrupted by a signal.
    Interrupted,
    /// A poll is interrupted by a signal.
    InterruptedPoll,
    /// The network breaks a connection for both ends.
    Reset,
    /// With a reset, the bytes that are still on their way are lost.
    LostTail,
    /// A FIN arrives together with the bytes before it.
    FinWithData,
    /// A connect is refused.
    ConnectRefused,
    /// A connect is never answered.
    ConnectLost,
    /// A connect takes seconds.
    ConnectSlow,
    /// A machine is cut off for up to two minutes, in both directions.
    Partition,
    /// A machine is cut off for up to two minutes, in one direction.
    OneWayPartition,
    /// What a machine sends, or what is sent to it, is held up for up to 200 ms.
    Clog,
    /// The link of a machine has a long delay and a low rate.
    SlowLink,
    /// A connection has room for a few bytes only, down to one.
    SmallWindow,
    /// An accept fails: `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `ECONNABORTED`, `EPROTO`, `EPERM`
    /// or `ENETDOWN`.
    AcceptError,
    /// The process has at most two descriptors left, for up to 5 s.
    DescriptorsOut,
    /// A socket cannot be registered with the poll.
    RegisterError,
    /// The poll reports readiness that is not there.
    SpuriousEvent,
    /// The poll reports a socket that is closed.
    StaleEvent,
    /// An event comes late, merged with those that follow meanwhile.
    DelayedEvent,
    /// An event comes again.
    DuplicateEvent,
    /// The events of a poll come in another order.
    ReorderedEvents,
    /// A poll reports a part of the events, and the rest next time.
    SmallBatch,
    /// The clock jumps ahead, by up to a minute.
    ClockJump,
    /// The process is stopped for up to a minute, as by SIGSTOP.
    Stopped,
    /// A poll ends late by a thousandth of its timeout, which Linux does to save wake-ups.
    LatePoll,
    /// The poll emulates edges, as on Windows. Decided once for each host.
    EmulatedEdges,
    /// A datagram is lost.
    DatagramLost,
    /// A datagram arrives twice.
    DatagramDoubled,
    /// A datagram arrives late, behind others that were sent after it.
    DatagramLate,
    /// The machine of a peer is gone for good, as when it loses power: it neither answers nor ends
    /// its connections. A host that has something to send to it gives up after a quarter of an
    /// hour.
    Vanished,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 34] = [
        Self::ShortRead,
        Self::ShortWrite,
        Self::BlockedRead,
        Self::BlockedWrite,
        Self::Interrupted,
        Self::InterruptedPoll,
        Self::Reset,
        Self::LostTail,
        Self::FinWithData,
        Self::ConnectRefused,
        Self::ConnectLost,
        Self::ConnectSlow,
        Self::Partition,
        Self::OneWayPartition,
        Self::Clog,
        Self::SlowLink,
        Self::SmallWindow,
        Self::AcceptError,
        Self::DescriptorsOut,
        Self::RegisterError,
        Self::SpuriousEvent,
        Self::StaleEvent,
        Self::DelayedEvent,
        Self::DuplicateEvent,
        Self::ReorderedEvents,
        Self::SmallBatch,
        Self::ClockJump,
        Self::Stopped,
        Self::LatePoll,
        Self::EmulatedEdges,
        Self::DatagramLost,
        Self::DatagramDoubled,
        Self::DatagramLate,
        Self::Vanished,
    ];

    /// Whether the fault concerns datagrams and nothing else.
    #[must_use]
    pub const fn is_of_datagrams(self) -> bool {
        matches!(self, Self::DatagramLost | Self::DatagramDoubled | Self::DatagramLate)
    }

    /// Whether it came after seeds were noted: it draws apart, so that a seed without it gives the
    /// run it always gave.
    const fn draws_apart(self) -> bool {
        self.is_of_datagrams() || matches!(self, Self::Vanished)
    }

    /// Whether the fault can end a connection, or keep one from coming up.
    #[must_use]
    pub const fn loses_connections(self) -> bool {
        matches!(
            self,
            Self::Reset
                | Self::LostTail
                | Self::ConnectRefused
                | Self::ConnectLost
                | Self::AcceptError
                | Self::DescriptorsOut
                | Self::RegisterError
                | Self::Vanished
        )
    }

    /// Whether the fault takes so much time that deadlines of seconds may pass.
    #[must_use]
    pub const fn takes_long(self) -> bool {
        matches!(
            self,
            Self::ConnectSlow
                | Self::Partition
                | Self::OneWayPartition
                | Self::SlowLink
                | Self::SmallWindow
                | Self::ClockJump
                | Self::Stopped
                | Self::Vanished
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Which faults a world may inject.
///
/// Each seed turns on a random half of the faults that are allowed, each with a rate of its own. A
/// run with few faults reaches states that a run with all of them never reaches (swarm testing;
/// Groce et al., ISSTA 2012).
///
/// # Examples
/// ```
/// use waterwheel::sim::{Fault, Faults};
///
/// let faults = Faults::all().without(Fault::Stopped);
/// assert!(!faults.allows(Fault::Stopped));
/// assert!(!Faults::harmless().allows(Fault::Reset));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A bit for each fault, in the order of [`Fault::ALL`].
    allowed: u64,
}

impl Faults {
    /// No faults.
    #[must_use]
    pub const fn none() -> Self {
        Self { allowed: 0 }
    }

    /// Every fault.
    #[must_use]
    pub const fn all() -> Self {
        Self { allowed: (1 << Fault::ALL.len()) - 1 }
    }

    /// Faults that neither end a connection, nor take long, nor concern datagrams. A correct
    /// program gives the same results under them as without them, only later.
    #[must_use]
    pub fn harmless() -> Self {
        let mut faults = Self::none();
        for fault in Fault::ALL {
            if !fault.loses_connections() && !fault.takes_long() && !fault.is_of_datagrams() {
                faults = faults.with(fault);
            }
        }
        faults
    }

    /// Returns these faults and `fault`.
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self { allowed: self.allowed | 1 << fault as u32 }
    }

    /// Returns these faults without `fault`.
    #[must_use]
    pub const fn without(self, fault: Fault) -> Self {
        Self { allowed: self.allowed & !(1 << fault as u32) }
    }

    /// Whether `fault` may be injected.
    #[must_use]
    pub const fn allows(self, fault: Fault) -> bool {
        self.allowed & 1 << fault as u32 != 0
    }
}

/// The numbers of a seed, and what is made of them.
#[derive(Debug)]
pub(crate) struct Chance {
    /// What all follow from.
    seed: u64,
    state: u64,
    /// How often each fault strikes where it can, of 65,536 times.
    rates: [u16; Fault::ALL.len()],
    /// How often each has struck.
    pub(crate) struck: [u64; Fault::ALL.len()],
    /// No more faults.
    pub(crate) is_calm: bool,
    /// Faults that strike are kept for a replay, until they are taken.
    pub(super) keeps_struck: bool,
    pub(super) fresh: Vec<Fault>,
}

impl Chance {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut chance = Self {
            seed,
            state: seed,
            rates: [0; Fault::ALL.len()],
            struck: [0; Fault::ALL.len()],
            is_calm: false,
            keeps_struck: false,
            fresh: Vec::new(),
        };
        let mut apart = chance.state ^ 0x6461_7461_6772_616d;
        for fault in Fault::ALL {
            if fault.draws_apart() {
                std::mem::swap(&mut chance.state, &mut apart);
            }
            let is_on = chance.one_in(2);
            let rarity = [2, 5, 20, 100, 500][chance.below(5) as usize];
            if fault.draws_apart() {
                std::mem::swap(&mut chance.state, &mut apart);
            }
            if is_on && faults.allows(fault) {
                chance.rates[fault as usize] = (65_536 / rarity) as u16;
            }
        }
        chance
    }

    /// The next number: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), with the constants of
    /// Vigna's `splitmix64.c`.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias is far below what any run could show.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// A number from `low` to `high`, small ones as likely as large ones.
    pub(crate) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let steps = u64::from(64 - (high / low.max(1)).leading_zeros());
        let top = low.max(1) << self.below(steps);
        let most = top.saturating_mul(2).min(high);
        low + self.below((most - low).saturating_add(1)).min(high - low)
    }

    /// How much of what waits a turn of a host does: in a world with faults so little, for two
    /// hosts in three, that a few small sockets use it up. Drawn apart, so that a seed gives the
    /// peers, the links and the faults that it always gave.
    pub(super) fn draw_budgets(&self, host: u64) -> TurnBudgets {
        let mut apart = Self::new(self.seed ^ 0x7475_726e ^ (host << 32), Faults::none());
        let has_faults = self.rates.iter().any(|&rate| rate > 0);
        if !has_faults || apart.one_in(3) {
            return TurnBudgets::USUAL;
        }
        let room_bytes = apart.spread(1, 8 << 10) as usize;
        TurnBudgets {
            room_bytes,
            min_share_bytes: (room_bytes / 16).max(1),
            flushes: apart.spread(1, 8) as usize,
            closes: apart.spread(1, 8) as usize,
        }
    }

    /// Whether a fault is on in this world.
    pub(crate) fn is_on(&self, fault: Fault) -> bool {
        self.rates[fault as usize] > 0
    }

    /// Whether a fault strikes now; then it is counted.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let rate = self.rates[fault as usize];
        if rate == 0 || self.is_calm {
            return false;
        }
        let strikes = (self.next() & 0xffff) < u64::from(rate);
        self.struck[fault as usize] += u64::from(strikes);
        if strikes && self.keeps_struck {
            self.fresh.push(fault);
        }
        strikes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_faults_is_in_the_order_of_their_numbers() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_reference() {
        // The first outputs of splitmix64.c for the seed 1234567.
        let mut chance = Chance {
            seed: 1_234_567,
            state: 1_234_567,
            rates: [0; Fault::ALL.len()],
            struck: [0; Fault::ALL.len()],
            is_calm: false,
            keeps_struck: false,
            fresh: Vec::new(),
        };
        let numbers: Vec<u64> = (0..3).map(|_| chance.next()).collect();
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_spread_stays_within_its_bounds() {
        let mut chance = Chance::new(1, Faults::none());
        for _ in 0..10_000 {
            assert!((3..=1_000).contains(&chance.spread(3, 1_000)));
            assert_eq!(chance.spread(7, 7), 7);
        }
    }
}
