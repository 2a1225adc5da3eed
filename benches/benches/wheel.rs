//! The timer wheel beside four other ways to keep timers.
//!
//! Each benchmark does a million operations, so that a millisecond in the report is a nanosecond
//! for each. Ticks are milliseconds and deadlines are uniform over a minute.
//!
//! - `insert`: a million timers are set.
//! - `cancel`: they are cancelled in random order.
//! - `expire`: time runs for a minute in steps of a tick, until all have fired.
//! - `rearm`: one of ten thousand timers is put off to three seconds ahead, a million times; time
//!   moves by a tick every hundred times. Where a structure has no call for that, the timer is
//!   cancelled and set again. Waterwheel moves a timer only when its old deadline has come, which
//!   each does three times meanwhile.

#[path = "slab/wheel.rs"]
mod slab;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main};
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::{
    CancellableTimerEntry, QuadWheelWithOverflow,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::time::{DelayQueue, delay_queue};
use waterwheel::TimerId;
use waterwheel::wheel::Wheel;

/// Timers in the benchmarks that fill and empty a structure, and rearmings in the other.
const OPERATIONS: u32 = 1_000_000;

/// Ticks over which deadlines are spread.
const SPAN: u64 = 60_000;

/// Timers in the benchmark that rearms them.
const REARMED: usize = 10_000;

/// Ticks by which a timer is rearmed.
const REARM_AHEAD: u64 = 3_000;

/// Rearmings in a tick.
const REARMS_PER_TICK: u32 = 100;

/// What the five have in common. Time starts at tick 0.
trait Timers {
    /// Names a timer that was set.
    type Key: Clone;

    fn new() -> Self;

    /// Sets a timer that carries `payload`.
    fn insert(&mut self, deadline: u64, payload: u32) -> Self::Key;

    fn cancel(&mut self, key: Self::Key);

    /// Puts a timer off that carries `payload`.
    fn rearm(&mut self, key: &mut Self::Key, deadline: u64, payload: u32) {
        self.cancel(key.clone());
        *key = self.insert(deadline, payload);
    }

    /// Moves the time to `tick` and takes all that is due, one by one; returns how many that were.
    fn advance(&mut self, tick: u64) -> usize;
}

struct Waterwheel(Wheel<u32>);

impl Timers for Waterwheel {
    type Key = TimerId;

    fn new() -> Self {
        Self(Wheel::new())
    }

    fn insert(&mut self, deadline: u64, payload: u32) -> TimerId {
        self.0.insert(deadline, payload)
    }

    fn cancel(&mut self, key: TimerId) {
        self.0.cancel(key);
    }

    fn rearm(&mut self, key: &mut TimerId, deadline: u64, _: u32) {
        self.0.postpone(*key, deadline);
    }

    fn advance(&mut self, tick: u64) -> usize {
        let mut fired = 0;
        while let Some(timer) = self.0.pop_due(tick) {
            black_box(timer);
            fired += 1;
        }
        fired
    }
}

impl Timers for slab::Wheel {
    type Key = u32;

    fn new() -> Self {
        Self::new()
    }

    fn insert(&mut self, deadline: u64, payload: u32) -> u32 {
        self.insert(deadline, payload)
    }

    fn cancel(&mut self, key: u32) {
        self.cancel(key);
    }

    fn rearm(&mut self, key: &mut u32, deadline: u64, _: u32) {
        self.rearm(*key, deadline);
    }

    fn advance(&mut self, tick: u64) -> usize {
        let mut fired = 0;
        self.advance(tick, |payload| {
            black_box(payload);
            fired += 1;
        });
        fired
    }
}

/// Timers by deadline and then by a number that makes the key unique.
struct Tree {
    timers: BTreeMap<(u64, u32), u32>,
    sequence: u32,
}

impl Timers for Tree {
    type Key = (u64, u32);

    fn new() -> Self {
        Self { timers: BTreeMap::new(), sequence: 0 }
    }

    fn insert(&mut self, deadline: u64, payload: u32) -> Self::Key {
        let key = (deadline, self.sequence);
        self.sequence += 1;
        self.timers.insert(key, payload);
        key
    }

    fn cancel(&mut self, key: Self::Key) {
        self.timers.remove(&key);
    }

    fn advance(&mut self, tick: u64) -> usize {
        let mut fired = 0;
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= tick) {
            black_box(timer.remove_entry());
            fired += 1;
        }
        fired
    }
}

/// The queue on a runtime whose clock is paused.
struct Queue {
    queue: DelayQueue<u32>,
    runtime: Runtime,
    start: tokio::time::Instant,
    tick: u64,
}

impl Timers for Queue {
    type Key = delay_queue::Key;

    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs no resource that can lack");
        let guard = runtime.enter();
        let (queue, start) = (DelayQueue::new(), tokio::time::Instant::now());
        drop(guard);
        Self { queue, runtime, start, tick: 0 }
    }

    fn insert(&mut self, deadline: u64, payload: u32) -> Self::Key {
        let _guard = self.runtime.enter();
        self.queue.insert_at(payload, self.start + Duration::from_millis(deadline))
    }

    fn cancel(&mut self, key: Self::Key) {
        let _guard = self.runtime.enter();
        self.queue.remove(&key);
    }

    fn rearm(&mut self, key: &mut Self::Key, deadline: u64, _: u32) {
        let _guard = self.runtime.enter();
        self.queue.reset_at(key, self.start + Duration::from_millis(deadline));
    }

    fn advance(&mut self, tick: u64) -> usize {
        let step = Duration::from_millis(tick - self.tick);
        self.tick = tick;
        let queue = &mut self.queue;
        // Unconstrained, or the task would yield whenever its budget is spent.
        self.runtime.block_on(tokio::task::unconstrained(async {
            tokio::time::advance(step).await;
            let mut fired = 0;
            poll_fn(|context| {
                while let Poll::Ready(Some(timer)) = queue.poll_expired(context) {
                    black_box(timer);
                    fired += 1;
                }
                Poll::Ready(fired)
            })
            .await
        }))
    }
}

#[derive(Debug)]
struct Entry {
    id: u32,
    payload: u32,
}

impl CancellableTimerEntry for Entry {
    type Id = u32;

    fn id(&self) -> &u32 {
        &self.id
    }
}

/// A wheel that moves tick by tick and says how many it may skip.
struct HashWheel {
    wheel: QuadWheelWithOverflow<Entry>,
    sequence: u32,
    tick: u64,
}

impl Timers for HashWheel {
    type Key = u32;

    fn new() -> Self {
        Self { wheel: QuadWheelWithOverflow::new(), sequence: 0, tick: 0 }
    }

    fn insert(&mut self, deadline: u64, payload: u32) -> u32 {
        let id = self.sequence;
        self.sequence += 1;
        let delay = Duration::from_millis(deadline - self.tick);
        let inserted = self.wheel.insert_ref_with_delay(Rc::new(Entry { id, payload }), delay);
        inserted.expect("the deadline lies ahead");
        id
    }

    fn cancel(&mut self, key: u32) {
        self.wheel.cancel(&key).expect("the timer has not fired");
    }

    fn advance(&mut self, tick: u64) -> usize {
        let mut fired = 0;
        while self.tick < tick {
            if let Skip::Millis(idle) = self.wheel.can_skip() {
                let idle = u64::from(idle).min(tick - self.tick);
                self.wheel.skip(idle as u32);
                self.tick += idle;
            } else {
                for timer in self.wheel.tick() {
                    black_box(timer.payload);
                    fired += 1;
                }
                self.tick += 1;
            }
        }
        fired
    }
}

/// The same numbers for all, from a generator of the xorshift family.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn deadlines(&mut self) -> Vec<u64> {
        (0..OPERATIONS).map(|_| 1 + self.below(SPAN)).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Sets a timer for each deadline and keeps the keys in the same order.
fn fill<T: Timers>(timers: &mut T, deadlines: &[u64], keys: &mut Vec<T::Key>) {
    for (payload, &deadline) in (0..).zip(deadlines) {
        keys.push(timers.insert(deadline, payload));
    }
}

fn insert<T: Timers>() -> Duration {
    let deadlines = Random(1).deadlines();
    // Else every fourth page that is touched for the first time would be one of the keys.
    let mut keys = Vec::new();
    keys.resize(deadlines.len(), T::new().insert(1, 0));
    keys.clear();
    let mut timers = T::new();
    let start = Instant::now();
    fill(&mut timers, &deadlines, &mut keys);
    start.elapsed()
}

fn cancel<T: Timers>() -> Duration {
    let mut random = Random(2);
    let mut keys = Vec::new();
    let mut timers = T::new();
    fill(&mut timers, &random.deadlines(), &mut keys);
    random.shuffle(&mut keys);
    let start = Instant::now();
    for key in keys {
        timers.cancel(key);
    }
    let elapsed = start.elapsed();
    assert_eq!(timers.advance(SPAN + 1), 0);
    elapsed
}

fn expire<T: Timers>() -> Duration {
    let mut timers = T::new();
    fill(&mut timers, &Random(3).deadlines(), &mut Vec::new());
    let start = Instant::now();
    // One tick more than the span: a `DelayQueue` fires a millisecond after the deadline.
    let fired: usize = (1..=SPAN + 1).map(|tick| timers.advance(tick)).sum();
    let elapsed = start.elapsed();
    assert_eq!(fired, OPERATIONS as usize);
    elapsed
}

fn rearm<T: Timers>() -> Duration {
    let mut random = Random(4);
    let mut timers = T::new();
    let mut keys = Vec::new();
    for payload in 0..REARMED as u32 {
        keys.push(timers.insert(REARM_AHEAD, payload));
    }
    let start = Instant::now();
    for done in 0..OPERATIONS {
        let now = u64::from(done / REARMS_PER_TICK);
        if done % REARMS_PER_TICK == 0 {
            assert_eq!(timers.advance(now), 0);
        }
        let i = random.below(REARMED as u64) as usize;
        timers.rearm(&mut keys[i], now + REARM_AHEAD, i as u32);
    }
    start.elapsed()
}

/// One of the five by name, and the benchmark of it, which measures itself.
type Row = (&'static str, fn() -> Duration);

fn run(group: &mut BenchmarkGroup<'_, WallTime>, (name, operation): Row) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| operation()).sum());
    });
}

fn group(criterion: &mut Criterion, name: &str, rows: [Row; 5]) {
    let mut group = criterion.benchmark_group(name);
    // An operation takes up to a second, most of it to prepare: as few of them as can be.
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(100));
    for row in rows {
        run(&mut group, row);
    }
    group.finish();
}

/// One group: the same operation on each of the five.
macro_rules! compare {
    ($criterion:expr, $operation:ident) => {
        group(
            $criterion,
            stringify!($operation),
            [
                ("waterwheel", $operation::<Waterwheel>),
                ("slab wheel", $operation::<slab::Wheel>),
                ("BTreeMap", $operation::<Tree>),
                ("tokio-util DelayQueue", $operation::<Queue>),
                ("hierarchical_hash_wheel_timer", $operation::<HashWheel>),
            ],
        );
    };
}

fn timers(criterion: &mut Criterion) {
    compare!(criterion, insert);
    compare!(criterion, cancel);
    compare!(criterion, expire);
    compare!(criterion, rearm);
}

criterion_group!(benches, timers);
criterion_main!(benches);
