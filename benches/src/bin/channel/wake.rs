//! How long a loop that sleeps takes to call back.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{median, on_tokio, on_waterwheel, ratio};

/// The longest time that is told from longer ones.
const MOST: Duration = Duration::from_secs(1);

/// Times from post to callback, in nanoseconds.
pub(crate) type Times = Histogram<u64>;

pub(crate) fn times() -> Times {
    Histogram::new_with_bounds(1, MOST.as_nanos() as u64, 3).expect("the bounds are in order")
}

/// A post was made then and is called back now.
pub(crate) fn note(times: &mut Times, posted: Instant) {
    times.saturating_record(posted.elapsed().as_nanos() as u64);
}

/// A loop on a thread of its own.
pub(crate) trait Sleeper {
    /// Posts the present time, as late as can be.
    fn post(&mut self);
    /// Ends the loop and gives the times of all its posts.
    fn end(self: Box<Self>) -> Times;
}

/// Starts a loop.
type Start = fn() -> Box<dyn Sleeper>;

/// tokio is the reference, and comes first.
const SIDES: [(&str, Start); 4] = [
    ("tokio", || Box::new(on_tokio::Sleeping::new(true))),
    ("tokio without I/O", || Box::new(on_tokio::Sleeping::new(false))),
    ("waterwheel, a channel", || Box::new(on_waterwheel::Channel::new())),
    ("waterwheel, `Remote::with`", || Box::new(on_waterwheel::Posted::new())),
];

pub(crate) fn compare(rounds: usize, wakes: usize, pause: Duration) -> String {
    let mut medians = SIDES.map(|_| Vec::new());
    let mut all = SIDES.map(|_| times());
    let mut order = [0, 1, 2, 3];
    let mut shuffle = Shuffle(1);
    for _ in 0..rounds {
        let mut sleepers = SIDES.map(|(_, start)| start());
        for _ in 0..wakes {
            shuffle.shuffle(&mut order);
            for &at in &order {
                thread::sleep(pause);
                sleepers[at].post();
            }
        }
        for (at, sleeper) in sleepers.into_iter().enumerate() {
            let times = sleeper.end();
            assert_eq!(times.len(), wakes as u64, "every post is called back");
            medians[at].push(times.value_at_quantile(0.5) as f64 / 1e3);
            all[at].add(times).expect("the same bounds");
        }
    }
    let mut text = format!(
        "From a post to its callback, {wakes} a round with pauses of {pause:?}, rounds: {rounds}.\n\
         \n| side | p50 µs | p90 µs | p99 µs | ratio of medians |\n|---|--:|--:|--:|--:|\n"
    );
    for (at, (name, _)) in SIDES.iter().enumerate() {
        let quantile = |q| all[at].value_at_quantile(q) as f64 / 1e3;
        let (p50, p90, p99) = (median(medians[at].clone()), quantile(0.9), quantile(0.99));
        let ratio = ratio(&medians[at], &medians[0]);
        text += &format!("| {name} | {p50:.2} | {p90:.1} | {p99:.1} | {ratio} |\n");
    }
    text
}

/// Orders by chance, the same in each run: who comes after its like finds the caches warm.
struct Shuffle(u64);

impl Shuffle {
    fn shuffle(&mut self, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            // A linear congruential generator with Knuth's factor; its high bits are the good ones.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(last, (self.0 >> 33) as usize % (last + 1));
        }
    }
}
