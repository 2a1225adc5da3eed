//! The queue of jobs, which threads take from in order.
//!
//! A job is ready when no earlier one of its order is queued or runs. Ready jobs are taken in the
//! order in which they were accepted.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::order::{JobId, Order};
use super::stats::OffloadStats;

/// What a job does with the state of its thread; whether its work panicked.
pub(super) type Work<W> = Box<dyn FnOnce(&mut W) -> bool + Send>;

/// Why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Closed,
}

/// A job that was taken to be run.
pub(super) struct Taken<W> {
    pub(super) work: Work<W>,
    pub(super) order: Order,
}

pub(super) struct Queue<W> {
    inner: Mutex<Inner<W>>,
    /// Threads wait here for jobs.
    jobs: Condvar,
    /// The end of the reactor waits here for the threads.
    end: Condvar,
    max_queued: usize,
}

struct Inner<W> {
    /// Jobs that may begin, by number.
    ready: BTreeMap<u64, Taken<W>>,
    /// The jobs behind the first of each order that has one queued or running, by number.
    behind: HashMap<Order, BTreeMap<u64, Work<W>>>,
    next_number: u64,
    /// Threads that have not ended.
    threads: usize,
    is_closed: bool,
    stats: OffloadStats,
}

impl<W> Inner<W> {
    /// The first job of an order is over: the next one may begin. Whether there is one.
    fn release(&mut self, order: Order) -> bool {
        let Some(behind) = self.behind.get_mut(&order) else { return false };
        if let Some((number, work)) = behind.pop_first() {
            self.ready.insert(number, Taken { work, order });
            return true;
        }
        self.behind.remove(&order);
        false
    }

    fn take(&mut self) -> Option<Taken<W>> {
        let (_, taken) = self.ready.pop_first()?;
        self.stats.queued -= 1;
        self.stats.running += 1;
        Some(taken)
    }
}

impl<W> Queue<W> {
    pub(super) fn new(max_queued: usize, threads: usize, first_number: u64) -> Self {
        let inner = Inner {
            ready: BTreeMap::new(),
            behind: HashMap::new(),
            next_number: first_number,
            threads,
            is_closed: false,
            stats: OffloadStats::default(),
        };
        let (jobs, end) = (Condvar::new(), Condvar::new());
        Self { inner: Mutex::new(inner), jobs, end, max_queued }
    }

    /// Accepts a job, or returns it. One that is not capped is accepted even if as many wait as
    /// may.
    pub(super) fn push(
        &self,
        order: Order,
        work: Work<W>,
        is_capped: bool,
    ) -> Result<JobId, (Refusal, Work<W>)> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err((Refusal::Closed, work));
        }
        if is_capped && inner.stats.queued >= self.max_queued {
            inner.stats.refused += 1;
            return Err((Refusal::Full, work));
        }
        let number = inner.next_number;
        inner.next_number += 1;
        inner.stats.queued += 1;
        if order.is_any() {
            inner.ready.insert(number, Taken { work, order });
        } else if let Some(behind) = inner.behind.get_mut(&order) {
            behind.insert(number, work);
            return Ok(JobId { number, order });
        } else {
            inner.behind.insert(order, BTreeMap::new());
            inner.ready.insert(number, Taken { work, order });
        }
        drop(inner);
        self.jobs.notify_one();
        Ok(JobId { number, order })
    }

    /// The next job, without waiting.
    pub(super) fn try_take(&self) -> Option<Taken<W>> {
        self.lock().take()
    }

    /// The next job; `None` once the queue is closed and empty.
    pub(super) fn wait_and_take(&self) -> Option<Taken<W>> {
        let mut inner = self.lock();
        loop {
            if let Some(taken) = inner.take() {
                return Some(taken);
            }
            if inner.is_closed && inner.stats.queued == 0 {
                return None;
            }
            inner = self.jobs.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job has been run.
    pub(super) fn finish(&self, order: Order, has_panicked: bool) {
        let mut inner = self.lock();
        inner.stats.running -= 1;
        inner.stats.finished += 1;
        inner.stats.panicked += u64::from(has_panicked);
        if inner.release(order) {
            drop(inner);
            self.jobs.notify_one();
        } else if inner.is_closed {
            drop(inner);
            self.jobs.notify_all();
        }
    }

    /// Takes a job back that has not begun.
    pub(super) fn cancel(&self, id: JobId) -> Option<Work<W>> {
        let mut inner = self.lock();
        let work = match inner.ready.remove(&id.number) {
            Some(taken) => {
                if inner.release(taken.order) {
                    self.jobs.notify_one();
                }
                taken.work
            }
            None => inner.behind.get_mut(&id.order)?.remove(&id.number)?,
        };
        inner.stats.queued -= 1;
        inner.stats.cancelled += 1;
        Some(work)
    }

    /// Takes all jobs of an order back that have not begun.
    pub(super) fn cancel_all(&self, order: Order) -> Vec<Work<W>> {
        let mut inner = self.lock();
        let Some(behind) = inner.behind.get_mut(&order) else { return Vec::new() };
        let mut works: Vec<_> = mem::take(behind).into_values().collect();
        let first = inner.ready.iter().find(|(_, taken)| taken.order == order);
        if let Some(number) = first.map(|(&number, _)| number) {
            works.extend(inner.ready.remove(&number).map(|taken| taken.work));
            inner.behind.remove(&order);
        }
        inner.stats.queued -= works.len();
        inner.stats.cancelled += works.len() as u64;
        works
    }

    pub(super) fn stats(&self) -> OffloadStats {
        self.lock().stats
    }

    /// A thread has ended.
    pub(super) fn thread_ended(&self) {
        self.lock().threads -= 1;
        self.end.notify_all();
    }

    /// Accepts no more jobs; the threads end when all are done.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.jobs.notify_all();
    }

    /// Waits until all threads have ended, and no longer than so long. Returns the jobs that have
    /// not begun by then.
    pub(super) fn wait_for_end(&self, timeout: Duration) -> Vec<Work<W>> {
        let waiting = |inner: &mut Inner<W>| inner.threads > 0;
        let result = self.end.wait_timeout_while(self.lock(), timeout, waiting);
        let mut inner = result.unwrap_or_else(PoisonError::into_inner).0;
        let ready = mem::take(&mut inner.ready);
        let behind = mem::take(&mut inner.behind);
        inner.stats.queued = 0;
        drop(inner);
        self.jobs.notify_all();
        let ready = ready.into_values().map(|taken| taken.work);
        ready.chain(behind.into_values().flat_map(BTreeMap::into_values)).collect()
    }

    /// A poisoned lock is as good as any: no code of the user's runs under it.
    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
