//! What became of each datagram of a socket: bookkeeping alone, without a socket or a clock.
//!
//! Datagrams are numbered from 0 as they leave, and each has a slot in a ring until its fate is
//! old. One that stays away for the timeout is lost, and stays lost also if it comes after all:
//! that is late, and told apart. So at any moment those sent are those answered, lost, never let
//! out and in flight, and nothing else.

/// Slots of a socket at the most, unless more are in flight: 16 MiB.
const MOST_SLOTS: usize = 1 << 20;

/// Timeouts for which a datagram is remembered, so that it is known what a late answer is to.
const TIMEOUTS_REMEMBERED: u64 = 4;

/// What became of the datagrams of all sockets, as far as they are measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that were to leave.
    pub(crate) sent: u64,
    /// Of these, those that the system did not let out.
    pub(crate) dropped: u64,
    /// Those that were answered in time.
    pub(crate) answered: u64,
    /// Those that were not.
    pub(crate) lost: u64,
    /// Of the lost, those that came after all.
    pub(crate) late: u64,
    /// Answers beyond the first.
    pub(crate) duplicates: u64,
    /// Of the answered, those that a later one had overtaken.
    pub(crate) reordered: u64,
    /// The largest extent of these: answers that came between it and the first one that had
    /// overtaken it, and that one.
    pub(crate) largest_extent: u64,
    /// Answers to datagrams so old that it is not known whether they are late or duplicates.
    pub(crate) forgotten: u64,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first one, in time; it was sent then.
    Answer {
        sent: u64,
    },
    /// The first one, too late.
    Late,
    Duplicate,
    /// To a datagram too old to say.
    Forgotten,
    /// To one that has never left.
    NeverSent,
}

/// The datagrams of one socket. All times are nanoseconds since some beginning.
pub(crate) struct Ledger {
    /// The slot of a datagram is at its number modulo the length, which is a power of two.
    slots: Box<[Slot]>,
    /// The oldest datagram that has a slot.
    oldest: u64,
    /// The number of the next one.
    next: u64,
    /// All before this one have a fate.
    ///
    /// Invariant: between `oldest` and `next`.
    settled: u64,
    /// Those that have none.
    in_flight: usize,
    /// The number after the largest that was answered: RFC 4737's NextExp.
    expected: u64,
    /// Answers that came in time.
    arrivals: u32,
    timeout: u64,
    /// The first datagram that is counted.
    measured_from: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    sent: u64,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    InFlight,
    /// It never left.
    Dropped,
    Lost,
    Late,
    /// Its answer was the so-and-so-manieth, and none of a later one had come.
    InOrder(u32),
    Reordered,
}

impl Ledger {
    /// `in_flight` is how many there will be as a rule.
    pub(crate) fn new(timeout: u64, in_flight: usize) -> Self {
        let slots = in_flight.saturating_mul(2).clamp(8, MOST_SLOTS).next_power_of_two();
        Self {
            slots: vec![Slot { sent: 0, fate: Fate::Dropped }; slots].into_boxed_slice(),
            oldest: 0,
            next: 0,
            settled: 0,
            in_flight: 0,
            expected: 0,
            arrivals: 0,
            timeout,
            measured_from: u64::MAX,
        }
    }

    /// The number of the next datagram.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Datagrams that have neither an answer nor been given up.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Of these, those that are measured.
    pub(crate) fn measured_in_flight(&self) -> u64 {
        let numbers = self.settled.max(self.measured_from)..self.next;
        numbers.filter(|&number| self.slot(number).fate == Fate::InFlight).count() as u64
    }

    /// Counts datagrams from this one on, and none before: none at all until this is called.
    pub(crate) fn measure_from(&mut self, number: u64) {
        self.measured_from = number;
    }

    pub(crate) fn is_measured(&self, number: u64) -> bool {
        number >= self.measured_from
    }

    /// The next datagram has left.
    #[inline]
    pub(crate) fn sent(&mut self, now: u64, counts: &mut Counts) {
        counts.sent += self.one(self.next);
        self.in_flight += 1;
        self.push(Slot { sent: now, fate: Fate::InFlight });
    }

    /// The next datagram was to leave, and could not.
    pub(crate) fn dropped(&mut self, now: u64, counts: &mut Counts) {
        counts.sent += self.one(self.next);
        counts.dropped += self.one(self.next);
        self.push(Slot { sent: now, fate: Fate::Dropped });
    }

    /// Gives up what has been in flight for the timeout.
    #[inline]
    pub(crate) fn expire(&mut self, now: u64, counts: &mut Counts) {
        while self.settled < self.next {
            let slot = *self.slot(self.settled);
            if slot.fate == Fate::InFlight {
                if now.saturating_sub(slot.sent) < self.timeout {
                    return;
                }
                self.settle(self.settled, Fate::Lost);
                self.in_flight -= 1;
                counts.lost += self.one(self.settled);
            }
            self.settled += 1;
        }
    }

    /// An answer has come.
    #[inline]
    pub(crate) fn arrived(&mut self, number: u64, now: u64, counts: &mut Counts) -> Arrival {
        // So that it does not depend on when somebody looked for what is to be given up.
        self.expire(now, counts);
        let one = self.one(number);
        if number >= self.next {
            return Arrival::NeverSent;
        }
        if number < self.oldest {
            counts.forgotten += one;
            return Arrival::Forgotten;
        }
        let slot = *self.slot(number);
        match slot.fate {
            Fate::InFlight => {
                self.in_flight -= 1;
                counts.answered += one;
                let fate = self.order(number, counts);
                self.settle(number, fate);
                Arrival::Answer { sent: slot.sent }
            }
            Fate::Lost => {
                self.settle(number, Fate::Late);
                counts.late += one;
                Arrival::Late
            }
            Fate::Late | Fate::InOrder(_) | Fate::Reordered => {
                counts.duplicates += one;
                Arrival::Duplicate
            }
            Fate::Dropped => Arrival::NeverSent,
        }
    }

    /// Whether an answer came in order, as RFC 4737 defines it (section 3.3): it is reordered if
    /// its number is smaller than the next expected, which is one more than the largest that has
    /// come. What is lost has not come, and of several copies the first alone counts.
    fn order(&mut self, number: u64, counts: &mut Counts) -> Fate {
        let arrival = self.arrivals;
        self.arrivals = arrival.wrapping_add(1);
        if number >= self.expected {
            self.expected = number + 1;
            return Fate::InOrder(arrival);
        }
        if self.is_measured(number) {
            let extent = arrival.wrapping_sub(self.overtaken_at(number).unwrap_or(arrival));
            counts.reordered += 1;
            counts.largest_extent = counts.largest_extent.max(extent.into());
        }
        Fate::Reordered
    }

    /// When the first one came that had overtaken a datagram (RFC 4737, section 4.2). It came in
    /// order, as each that is larger than all before; and of those that did, numbers and arrivals
    /// rise together, so that it is the next one by number.
    fn overtaken_at(&self, number: u64) -> Option<u32> {
        (number + 1..self.expected).find_map(|number| match self.slot(number).fate {
            Fate::InOrder(arrival) => Some(arrival),
            _ => None,
        })
    }

    /// What a datagram adds to a count.
    fn one(&self, number: u64) -> u64 {
        u64::from(self.is_measured(number))
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[self.index(number)]
    }

    fn settle(&mut self, number: u64, fate: Fate) {
        self.slots[self.index(number)].fate = fate;
    }

    fn index(&self, number: u64) -> usize {
        number as usize & (self.slots.len() - 1)
    }

    fn push(&mut self, slot: Slot) {
        if self.next - self.oldest == self.slots.len() as u64 {
            self.make_room(slot.sent);
        }
        self.slots[self.index(self.next)] = slot;
        self.next += 1;
    }

    /// Forgets the oldest datagram, or makes the ring larger where that is in flight or young.
    fn make_room(&mut self, now: u64) {
        let Slot { sent, fate } = *self.slot(self.oldest);
        let is_young = now.saturating_sub(sent) < self.timeout.saturating_mul(TIMEOUTS_REMEMBERED);
        if fate == Fate::InFlight || is_young && self.slots.len() < MOST_SLOTS {
            self.grow();
        } else {
            self.oldest += 1;
            self.settled = self.settled.max(self.oldest);
        }
    }

    fn grow(&mut self) {
        let empty = Slot { sent: 0, fate: Fate::Dropped };
        let mut slots = vec![empty; self.slots.len() * 2].into_boxed_slice();
        for number in self.oldest..self.next {
            slots[number as usize & (slots.len() - 1)] = *self.slot(number);
        }
        self.slots = slots;
    }
}
