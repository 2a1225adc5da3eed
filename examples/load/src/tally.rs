//! What was counted and timed.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use waterwheel::Closed;

use crate::ledger::Counts;

/// Times in nanoseconds, to three significant figures.
pub(crate) type Times = Histogram<u64>;

/// What went wrong in one way.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) count: u64,
    /// The first of them, in full.
    pub(crate) example: String,
}

/// Something else came back than should.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) kind: String,
    /// This one, in full.
    pub(crate) what: String,
}

impl Mistake {
    /// Other bytes than were sent.
    pub(crate) fn bytes(what: String) -> Self {
        Self { kind: "wrong bytes".to_owned(), what }
    }

    pub(crate) fn boxed(kind: String, what: String) -> Box<Self> {
        Box::new(Self { kind, what })
    }
}

/// What was counted of datagrams.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    pub(crate) counts: Counts,
    /// Those whose time to leave lay in the window, if they have a schedule.
    pub(crate) offered: u64,
    /// Those in flight in the end.
    pub(crate) in_flight: u64,
    /// Those that had to wait because the send buffer was full.
    pub(crate) queued: u64,
    /// Those that were dropped because the queue before it was full as well.
    pub(crate) overflowed: u64,
    /// Sockets that have sent something, also before the window, and got no answer in time.
    pub(crate) silent_sockets: u64,
    /// Those that came and were not of this run.
    pub(crate) foreign: u64,
    /// What the network has answered instead, such as that nobody receives there.
    pub(crate) network_errors: u64,
    /// Those that the kernel dropped because a receive buffer of ours was full, if it tells.
    pub(crate) receive_drops: Option<u64>,
    /// The same of the server in this process.
    pub(crate) server_receive_drops: Option<u64>,
}

/// What was counted and timed.
pub(crate) struct Tally {
    /// Connections that came up.
    pub(crate) opened: u64,
    /// TLS handshakes that are done, in a storm those while it was measured.
    pub(crate) handshakes: u64,
    /// Of these, those that have resumed an earlier session.
    pub(crate) resumed: u64,
    /// Connections that are up.
    pub(crate) live: u64,
    /// Connections that did not come up.
    pub(crate) refused: u64,
    /// Connections that were made again because the server had announced their end.
    pub(crate) reconnects: u64,
    /// Connections that ended although this end wanted them to go on.
    pub(crate) lost: u64,
    /// Connections on which wrong bytes came back, or datagrams or answers of HTTP that did.
    pub(crate) wrong: u64,
    /// The first of them, in full.
    pub(crate) first_wrong: Option<String>,
    /// Exchanges that are complete, since the beginning.
    pub(crate) answers: u64,
    /// Of these, those while it was measured.
    pub(crate) measured: u64,
    /// Bytes of bodies that came while it was measured (HTTP).
    pub(crate) body_bytes: u64,
    /// How long it was measured.
    pub(crate) window: Duration,
    /// What was sent and not answered in the end, or was to be sent and could not.
    pub(crate) unanswered: u64,
    /// Messages or connections whose time to leave lay in the window (open, storm with a rate).
    pub(crate) offered: u64,
    /// Of these, those that left.
    pub(crate) left: u64,
    /// Idle connections that answered in the end (hold).
    pub(crate) woken: u64,
    /// How long it took until all connections were up, or had failed.
    pub(crate) dialling: Duration,
    /// From a message to its answer, or from a dial to the answer.
    pub(crate) exchange: Times,
    /// From a dial to the connection, with the handshake of TLS.
    pub(crate) connect: Times,
    /// How late these left.
    pub(crate) delay: Times,
    /// From a message after a long silence to its answer (hold).
    pub(crate) wake: Times,
    /// What became of datagrams (udp).
    pub(crate) datagrams: Datagrams,
    /// What went wrong, by kind.
    pub(crate) faults: BTreeMap<String, Fault>,
    /// It was ended before its time.
    pub(crate) interrupted: bool,
    /// Why there is nothing to report at all.
    pub(crate) hopeless: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            opened: 0,
            handshakes: 0,
            resumed: 0,
            live: 0,
            refused: 0,
            reconnects: 0,
            lost: 0,
            wrong: 0,
            first_wrong: None,
            answers: 0,
            measured: 0,
            body_bytes: 0,
            window: Duration::ZERO,
            unanswered: 0,
            offered: 0,
            left: 0,
            woken: 0,
            dialling: Duration::ZERO,
            exchange: times(),
            connect: times(),
            delay: times(),
            wake: times(),
            datagrams: Datagrams::default(),
            faults: BTreeMap::new(),
            interrupted: false,
            hopeless: None,
        }
    }

    /// How much went wrong.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.values().map(|fault| fault.count).sum()
    }

    pub(crate) fn fault(&mut self, kind: String, example: String) {
        let fault = self.faults.entry(kind).or_insert(Fault { count: 0, example });
        fault.count += 1;
    }

    /// A connection did not come up.
    pub(crate) fn refuse(&mut self, error: &io::Error) {
        self.refused += 1;
        self.fault(format!("not connected: {}", error.kind()), error.to_string());
    }

    /// A connection ended too early, perhaps within an answer.
    pub(crate) fn lose(&mut self, closed: &Closed, cut: Option<String>) {
        self.lost += 1;
        let example = format!("{}: {}", closed.id, closed.reason);
        match cut {
            Some(cut) => self.fault("cut answer".to_owned(), format!("{example}; {cut}")),
            None => self.fault(format!("lost: {}", closed.reason), example),
        }
    }

    /// Something else came back than should.
    pub(crate) fn mistake(&mut self, Mistake { kind, what }: Mistake) {
        self.wrong += 1;
        self.fault(kind, what.clone());
        self.first_wrong.get_or_insert(what);
    }
}

/// The longest time that is told apart from longer ones: the longest load, and what it waits for
/// at its end.
const LONGEST_NANOS: u64 = 25 * 60 * 60 * 1_000_000_000;

fn times() -> Times {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 3).expect("the bounds are in order")
}

/// Records a time that has passed.
#[inline]
pub(crate) fn record(times: &mut Times, passed: Duration) {
    times.saturating_record(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_answer_that_came_after_a_day_is_told_as_it_was() {
        let mut times = times();
        let day = Duration::from_secs(24 * 60 * 60);
        record(&mut times, day);
        assert!(times.max().abs_diff(day.as_nanos() as u64) <= times.max() / 1_000);
    }
}
