//! The queue between the senders of a channel and the loop.
//!
//! Senders put messages in under the lock; the loop takes all of them at once, by swapping its
//! empty buffer for the full one. Who puts something into a channel that is not announced
//! announces it. It stays so until the loop has found it empty, so that there is one announcement
//! a batch, and whatever comes in meanwhile is found without one. All of this is decided under
//! the lock.
//!
//! Messages that the loop has taken and not handed over count against the capacity. It gives room
//! back by halves, and wakes senders that are blocked when half of the capacity is free: waking
//! one for each place would cost a system call a message.
//!
//! Under `cfg(loom)` the tests run every interleaving of this (`checks/loom`).

use std::collections::VecDeque;
use std::mem;
use std::sync::PoisonError;
use std::time::Duration;

use super::tasks::Tasks;
use sync::{Condvar, Mutex, MutexGuard};

/// What threads share, as the standard library has it or as the checker of interleavings has it.
mod sync {
    #[cfg(not(all(test, loom)))]
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
    #[cfg(all(test, loom))]
    pub(super) use {
        crate::channel::model::Condvar,
        loom::sync::{Mutex, MutexGuard},
    };
}

/// Where an empty queue may keep room for so many messages, however few came last.
const KEPT_MESSAGES: usize = 4_096;

/// Tells the loop that a channel has something.
pub(super) trait Announce {
    fn announce(&self);
}

/// What the senders of a channel and the loop share.
#[derive(Debug)]
pub(super) struct Queue<T, A> {
    inner: Mutex<Inner<T>>,
    /// Senders that are blocked wait for room, or for the end.
    room: Condvar,
    /// Max messages that were sent and not handed over.
    capacity: usize,
    /// Reaches the loop.
    door: A,
}

/// What is under the lock.
#[derive(Debug)]
pub(super) struct Inner<T> {
    /// Sent, and not taken by the loop.
    ///
    /// Invariant: their number and `held` together are at most the capacity.
    messages: VecDeque<T>,
    /// Taken by the loop, and not given back as handed over.
    held: usize,
    /// Ends of this side.
    senders: usize,
    /// Threads that wait for room.
    blocked: usize,
    /// Tasks of async runtimes that wait for room.
    pub(super) tasks: Tasks,
    /// The loop has been told, or is being told, and has not found the channel empty since.
    ///
    /// Invariant: set if there are messages, or if the last sender is gone.
    is_announced: bool,
    /// The loop takes no more.
    is_closed: bool,
}

/// How long a sender waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Never,
    For(Duration),
    Forever,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no room, after whatever wait.
    Full,
    /// The loop takes no more.
    Closed,
}

/// What the loop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Messages,
    /// Nothing; the next message will be announced.
    Nothing,
    /// Nothing, and no sender is left.
    Gone,
}

impl<T, A: Announce> Queue<T, A> {
    /// A queue with one sender.
    pub(super) fn new(capacity: usize, door: A) -> Self {
        let inner = Inner {
            messages: VecDeque::new(),
            held: 0,
            senders: 1,
            blocked: 0,
            tasks: Tasks::default(),
            is_announced: false,
            is_closed: false,
        };
        Self { inner: Mutex::new(inner), room: Condvar::new(), capacity, door }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Room that is worth giving back: half of all.
    pub(super) fn step(&self) -> usize {
        self.capacity.div_ceil(2)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Puts a message in, once there is room.
    pub(super) fn push(&self, message: T, patience: Patience) -> Result<(), (T, Refusal)> {
        let mut inner = self.lock();
        if self.must_wait(&inner) {
            inner = self.wait(inner, patience);
        }
        if self.must_wait(&inner) {
            return Err((message, Refusal::Full));
        }
        self.put(inner, message)
    }

    /// Puts a message in, for which there is room unless the channel is closed.
    pub(super) fn put(
        &self,
        mut inner: MutexGuard<'_, Inner<T>>,
        message: T,
    ) -> Result<(), (T, Refusal)> {
        if inner.is_closed {
            return Err((message, Refusal::Closed));
        }
        inner.messages.push_back(message);
        let is_news = !mem::replace(&mut inner.is_announced, true);
        drop(inner);
        if is_news {
            self.door.announce();
        }
        Ok(())
    }

    fn wait<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner<T>>,
        patience: Patience,
    ) -> MutexGuard<'a, Inner<T>> {
        if patience == Patience::Never {
            return inner;
        }
        inner.blocked += 1;
        let must_wait = |inner: &mut Inner<T>| self.must_wait(inner);
        let mut inner = if let Patience::For(time) = patience {
            let result = self.room.wait_timeout_while(inner, time, must_wait);
            result.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let result = self.room.wait_while(inner, must_wait);
            result.unwrap_or_else(PoisonError::into_inner)
        };
        inner.blocked -= 1;
        inner
    }

    pub(super) fn must_wait(&self, inner: &Inner<T>) -> bool {
        !inner.is_closed && self.free(inner) == 0
    }

    fn free(&self, inner: &Inner<T>) -> usize {
        self.capacity - inner.held - inner.messages.len()
    }

    /// Moves all messages into `batch`, which is empty: what was taken before has been handed
    /// over.
    pub(super) fn take(&self, batch: &mut VecDeque<T>) -> Taken {
        debug_assert!(batch.is_empty());
        let mut inner = self.lock();
        mem::swap(&mut inner.messages, batch);
        inner.held = batch.len();
        let kept = inner.messages.capacity();
        if kept > KEPT_MESSAGES && batch.len() < kept / 4 {
            inner.messages = VecDeque::new();
        }
        let taken = match (batch.is_empty(), inner.senders) {
            (false, _) => Taken::Messages,
            (true, 0) => Taken::Gone,
            (true, _) => {
                inner.is_announced = false;
                Taken::Nothing
            }
        };
        self.wake_blocked(inner);
        taken
    }

    /// So many of those taken have been handed over.
    pub(super) fn release(&self, count: usize) {
        let mut inner = self.lock();
        inner.held -= count;
        self.wake_blocked(inner);
    }

    /// Wakes as many as there is room for, if that is worth it. When the loop finds the channel
    /// empty all of it is free, so no sender is left to wait for ever.
    fn wake_blocked(&self, mut inner: MutexGuard<'_, Inner<T>>) {
        let (blocked, free) = (inner.blocked, self.free(&inner));
        if free < self.step() {
            return;
        }
        let tasks = inner.tasks.take_all();
        drop(inner);
        tasks.wake();
        if blocked == 0 {
            return;
        }
        if blocked <= free {
            return self.room.notify_all();
        }
        for _ in 0..free {
            self.room.notify_one();
        }
    }

    /// Ends the loop's side. Returns the messages that no handler will take.
    pub(super) fn close(&self) -> VecDeque<T> {
        let mut inner = self.lock();
        inner.is_closed = true;
        let messages = mem::take(&mut inner.messages);
        let tasks = inner.tasks.take_all();
        drop(inner);
        self.room.notify_all();
        tasks.wake();
        messages
    }

    /// There is one more sender.
    pub(super) fn add_sender(&self) {
        self.lock().senders += 1;
    }

    /// There is one less; the last one announces that.
    pub(super) fn remove_sender(&self) {
        let mut inner = self.lock();
        inner.senders -= 1;
        let is_last = inner.senders == 0 && !inner.is_closed;
        let is_news = is_last && !mem::replace(&mut inner.is_announced, true);
        drop(inner);
        if is_news {
            self.door.announce();
        }
    }

    /// A poisoned lock is as good as any: no code of the user's runs under it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
