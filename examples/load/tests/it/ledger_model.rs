//! The load tester's ledger of datagrams, held against a list of all that ever happened.

use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::ledger::{Arrival, Counts, Ledger};

const TIMEOUT: u64 = 100;

/// What a datagram met with.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    InFlight,
    Dropped,
    Lost,
    Late,
    Answered,
}

/// All that ever happened.
#[derive(Default)]
struct History {
    now: u64,
    sent: Vec<(u64, Fate)>,
    /// The numbers of those that were answered in time, as they came.
    arrivals: Vec<u64>,
    /// The first that is measured, once that has begun.
    first: Option<u64>,
    counts: Counts,
}

impl History {
    fn one(&self, number: u64) -> u64 {
        u64::from(self.first.is_some_and(|first| number >= first))
    }

    fn send(&mut self, fate: Fate) {
        let one = self.one(self.sent.len() as u64);
        self.counts.sent += one;
        self.counts.dropped += if fate == Fate::Dropped { one } else { 0 };
        self.sent.push((self.now, fate));
    }

    fn expire(&mut self) {
        for number in 0..self.sent.len() {
            let (sent, fate) = self.sent[number];
            if fate == Fate::InFlight && self.now - sent >= TIMEOUT {
                self.sent[number].1 = Fate::Lost;
                self.counts.lost += self.one(number as u64);
            }
        }
    }

    fn arrive(&mut self, number: u64) -> Arrival {
        self.expire();
        let one = self.one(number);
        let Some((sent, fate)) = self.sent.get_mut(number as usize) else {
            return Arrival::NeverSent;
        };
        match fate {
            Fate::Dropped => Arrival::NeverSent,
            Fate::Late | Fate::Answered => {
                self.counts.duplicates += one;
                Arrival::Duplicate
            }
            Fate::Lost => {
                *fate = Fate::Late;
                self.counts.late += one;
                Arrival::Late
            }
            Fate::InFlight => {
                *fate = Fate::Answered;
                let answer = Arrival::Answer { sent: *sent };
                self.counts.answered += one;
                // RFC 4737 to the letter: the arrivals since the first of a larger number.
                let overtaken = self.arrivals.iter().position(|&earlier| earlier > number);
                if let (Some(at), 1) = (overtaken, one) {
                    let extent = (self.arrivals.len() - at) as u64;
                    self.counts.reordered += 1;
                    self.counts.largest_extent = self.counts.largest_extent.max(extent);
                }
                self.arrivals.push(number);
                answer
            }
        }
    }

    fn in_flight(&self, is_counted: impl Fn(u64) -> bool) -> u64 {
        let sent = self.sent.iter().zip(0..);
        sent.filter(|((_, fate), number)| *fate == Fate::InFlight && is_counted(*number)).count()
            as u64
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(u8),
    Drop,
    /// An answer to one that was sent so many before the last.
    Answer(u16),
    /// Answers to the last ones, in order or the other way round.
    Answers(u8, bool),
    /// An answer to one that is still to be sent.
    Nonsense(u64),
    Wait(u16),
    Expire,
    Measure,
}

impl Arbitrary for Step {
    fn arbitrary(random: &mut Gen) -> Self {
        let (kind, number, far) = <(u8, u16, u64)>::arbitrary(random);
        match kind % 23 {
            0..4 => Self::Send(1 + (number % 19) as u8),
            4 => Self::Drop,
            5..9 => Self::Answer(number % 60),
            9..11 => Self::Answer(number),
            11..14 => Self::Answers(1 + (number % 29) as u8, far % 2 == 0),
            14 => Self::Nonsense(far),
            15..19 => Self::Wait(number % 60),
            19 => Self::Wait(60 + number % 540),
            20 => Self::Expire,
            _ => Self::Measure,
        }
    }
}

/// Both, side by side.
struct Pair {
    ledger: Ledger,
    counts: Counts,
    history: History,
}

impl Pair {
    fn answer(&mut self, number: u64) {
        let now = self.history.now;
        let arrival = self.ledger.arrived(number, now, &mut self.counts);
        if arrival == Arrival::Forgotten {
            // Only what is old is forgotten, and that is counted.
            let (sent, _) = self.history.sent[number as usize];
            assert!(now - sent >= 4 * TIMEOUT, "{number} is forgotten after {}", now - sent);
            self.history.counts.forgotten += self.history.one(number);
            self.history.expire();
            return;
        }
        assert_eq!(arrival, self.history.arrive(number), "datagram {number}");
    }

    fn run(&mut self, step: &Step) {
        let now = self.history.now;
        let next = self.ledger.next();
        match *step {
            Step::Send(count) => (0..count).for_each(|_| {
                self.ledger.sent(now, &mut self.counts);
                self.history.send(Fate::InFlight);
            }),
            Step::Drop => {
                self.ledger.dropped(now, &mut self.counts);
                self.history.send(Fate::Dropped);
            }
            Step::Answer(before) if u64::from(before) < next => {
                self.answer(next - 1 - u64::from(before));
            }
            Step::Answers(count, is_back) => {
                let mut numbers: Vec<_> = (next.saturating_sub(count.into())..next).collect();
                if is_back {
                    numbers.reverse();
                }
                numbers.into_iter().for_each(|number| self.answer(number));
            }
            Step::Nonsense(above) => self.answer(next.saturating_add(above)),
            Step::Wait(time) => self.history.now += u64::from(time),
            Step::Measure if self.history.first.is_none() => {
                self.ledger.measure_from(next);
                self.history.first = Some(next);
            }
            _ => {}
        }
        if matches!(step, Step::Expire) {
            self.ledger.expire(now, &mut self.counts);
            self.history.expire();
        }
    }

    fn check(&mut self) {
        // The ledger looks only when there is a reason to.
        self.ledger.expire(self.history.now, &mut self.counts);
        self.history.expire();
        assert_eq!(self.counts, self.history.counts);
        assert_eq!(self.ledger.next(), self.history.sent.len() as u64);
        assert_eq!(self.ledger.in_flight() as u64, self.history.in_flight(|_| true));
        let in_flight = self.ledger.measured_in_flight();
        assert_eq!(in_flight, self.history.in_flight(|number| self.history.one(number) == 1));
        let Counts { sent, dropped, answered, lost, late, .. } = self.counts;
        assert_eq!(sent, answered + lost + dropped + in_flight);
        assert!(late <= lost);
        assert_eq!(self.ledger.is_measured(0), self.history.first == Some(0));
    }
}

#[test]
fn a_ledger_is_right_about_each_datagram() {
    fn property(steps: Vec<Step>, in_flight: usize) {
        let ledger = Ledger::new(TIMEOUT, in_flight % 40);
        let mut pair = Pair { ledger, counts: Counts::default(), history: History::default() };
        for step in &steps {
            pair.run(step);
            // Not after each, since a check looks for what is to be given up.
            if matches!(step, Step::Measure | Step::Expire) {
                pair.check();
            }
        }
        pair.check();
    }
    QuickCheck::new().tests(256).rng(Gen::new(120)).quickcheck(property as fn(_, _));
}

/// 4, 5 and 6 come after 10: all were overtaken by 7, and 6 is the sixth answer since then.
#[test]
fn the_extent_counts_from_the_first_that_has_overtaken() {
    let (mut ledger, mut counts) = (Ledger::new(TIMEOUT, 4), Counts::default());
    ledger.measure_from(0);
    (0..=11).for_each(|_| ledger.sent(0, &mut counts));
    for number in [1, 2, 3, 7, 8, 9, 10, 4, 5, 6, 11] {
        assert_eq!(ledger.arrived(number, 1, &mut counts), Arrival::Answer { sent: 0 });
    }
    assert_eq!((counts.reordered, counts.largest_extent), (3, 6));
}

/// However many come, what is remembered of them is not more than a few timeouts' worth.
#[test]
fn the_old_is_forgotten_and_what_is_in_flight_is_not() {
    let (mut ledger, mut counts) = (Ledger::new(TIMEOUT, 1), Counts::default());
    ledger.measure_from(0);
    for now in 0..100_000 {
        ledger.sent(now, &mut counts);
        let arrival = ledger.arrived(now, now, &mut counts);
        assert_eq!(arrival, Arrival::Answer { sent: now });
    }
    let now = 100_000;
    assert_eq!(ledger.arrived(98_000, now, &mut counts), Arrival::Forgotten);
    assert_eq!(ledger.arrived(now - 4 * TIMEOUT, now, &mut counts), Arrival::Duplicate);
    // All at once: more than there is room for, and none of them lost before its time.
    (0..5_000).for_each(|_| ledger.sent(now, &mut counts));
    assert_eq!(ledger.in_flight(), 5_000);
    assert_eq!(ledger.arrived(now, now + TIMEOUT - 1, &mut counts), Arrival::Answer { sent: now });
    assert_eq!(ledger.arrived(now + 1, now + TIMEOUT, &mut counts), Arrival::Late);
    assert_eq!((counts.answered, counts.lost, counts.forgotten), (100_001, 4_999, 1));
}
