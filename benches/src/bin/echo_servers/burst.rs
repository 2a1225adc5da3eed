//! The loop under both kinds of load: from a standstill, for a time, to a standstill.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Registry};

/// Events taken from one poll, as many as the servers take.
const EVENTS: usize = 1024;

/// Silence after which the server is taken for stuck.
const SILENCE: Duration = Duration::from_secs(5);

/// Connections and what is done on them.
pub(crate) trait Load {
    /// Begins the first exchanges.
    fn begin(&mut self) -> io::Result<()>;

    /// Something has happened on connection `index`. Exchanges that are over are recorded and,
    /// while `goes_on`, others begin in their place.
    fn step(&mut self, index: usize, goes_on: bool, burst: &mut Burst) -> io::Result<()>;

    /// Exchanges begun and not over.
    fn under_way(&self) -> usize;
}

/// What one burst of load came to.
pub(crate) struct Burst {
    /// From the first message sent to the last that came back.
    pub(crate) elapsed: Duration,
    /// Of each exchange, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Burst {
    fn new() -> Self {
        let most = SILENCE.as_nanos() as u64;
        let latencies = Histogram::new_with_bounds(1, most, 3).expect("the bounds are in order");
        Self { elapsed: Duration::ZERO, latencies }
    }

    /// Exchanges that took the same time are over.
    pub(crate) fn record(&mut self, latency: Duration, exchanges: u64) {
        self.latencies.saturating_record_n(latency.as_nanos() as u64, exchanges);
    }
}

/// A load and the poll that drives it.
pub(crate) struct Generator<L> {
    poll: Poll,
    events: Events,
    load: L,
}

impl<L: Load> Generator<L> {
    pub(crate) fn new(load: impl FnOnce(Registry) -> io::Result<L>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let load = load(poll.registry().try_clone()?)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS), load })
    }

    pub(crate) fn burst(&mut self, time: Duration) -> io::Result<Burst> {
        let mut burst = Burst::new();
        let began = Instant::now();
        self.load.begin()?;
        while self.load.under_way() > 0 {
            self.wait()?;
            let goes_on = began.elapsed() < time;
            for event in &self.events {
                self.load.step(event.token().0, goes_on, &mut burst)?;
            }
        }
        burst.elapsed = began.elapsed();
        Ok(burst)
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(SILENCE)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        if self.events.is_empty() {
            let text = format!("the server has said nothing for {} s", SILENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }
}
