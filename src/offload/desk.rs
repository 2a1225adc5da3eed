//! The end of an offload at the loop: with the reactor its threads end. In a simulated world, where
//! there are no threads, the work is done here.

use std::sync::Arc;
use std::time::Duration;

use super::queue::{Queue, Taken};
use super::worker::Worker;
use crate::base::id::Timer;
use crate::base::panics;
use crate::handler::{Context, HandlerKey, TimerHandler};

/// Shortest time of a simulated job, and how often it may be doubled: 0.1 s at the most.
const SHORTEST: Duration = Duration::from_millis(1);
const DOUBLINGS: u64 = 7;

pub(super) struct Desk<W> {
    queue: Arc<Queue<W>>,
    key: HandlerKey<Self>,
    drain_timeout: Duration,
    /// What stands for the threads in a simulated world.
    simulated: Vec<Simulated<W>>,
}

/// A thread in a simulated world.
pub(super) struct Simulated<W> {
    worker: Worker<W>,
    /// The job that it runs: done when its time is over.
    job: Option<Taken<W>>,
}

impl<W: 'static> Desk<W> {
    pub(super) fn new(
        queue: Arc<Queue<W>>,
        key: HandlerKey<Self>,
        drain_timeout: Duration,
        simulated: Vec<Worker<W>>,
    ) -> Self {
        let idle = |worker| Simulated { worker, job: None };
        let simulated = simulated.into_iter().map(idle).collect();
        Self { queue, key, drain_timeout, simulated }
    }

    /// Begins what can begin, in a simulated world.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) {
        for (index, place) in self.simulated.iter_mut().enumerate() {
            if place.job.is_some() {
                continue;
            }
            let Some(job) = self.queue.try_take() else { return };
            place.job = Some(job);
            let random = cx.random();
            let time = SHORTEST * (1 << (random % DOUBLINGS));
            let part = time.mul_f64((random >> 32) as f64 / f64::from(u32::MAX));
            cx.set_timer(self.key, time + part, index as u64);
        }
    }
}

impl<W: 'static> TimerHandler for Desk<W> {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        let Some(place) = self.simulated.get_mut(timer.token as usize) else { return };
        if let Some(Taken { work, order }) = place.job.take() {
            let has_panicked = place.worker.run(work);
            self.queue.finish(order, has_panicked);
        }
        self.begin(cx);
    }
}

impl<W> Drop for Desk<W> {
    fn drop(&mut self) {
        self.queue.close();
        for place in &mut self.simulated {
            if let Some(Taken { work, order }) = place.job.take() {
                let has_panicked = place.worker.run(work);
                self.queue.finish(order, has_panicked);
            }
        }
        if let Some(place) = self.simulated.first_mut() {
            while let Some(Taken { work, order }) = self.queue.try_take() {
                let has_panicked = place.worker.run(work);
                self.queue.finish(order, has_panicked);
            }
        }
        let left = self.queue.wait_for_end(self.drain_timeout);
        if !left.is_empty() {
            log::error!("{} jobs are dropped: they had not begun in time", left.len());
        }
        left.into_iter().for_each(panics::drop_quietly);
    }
}
