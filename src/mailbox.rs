//! What other threads posted for the loop, and one wake a batch.
//!
//! A post puts its message under the lock and then looks whether the loop sleeps. The loop says
//! that it sleeps and then looks whether there are messages. Whoever is second sees the other, so
//! no message is slept over; and of many posts only the first finds the sleeper and wakes it.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::planted::{self, Bug};
use crate::sys::Waker;

/// The end that threads post to and the loop takes from.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    /// The messages, in the order of the posts.
    inbox: Mutex<Inbox<M>>,
    /// Whether `inbox` may hold messages: spares a turn without any the lock.
    waiting: AtomicBool,
    /// Whether the loop is about to block or blocks in the poll, and nobody has woken it.
    asleep: AtomicBool,
    /// Ends the poll.
    waker: Waker,
}

#[derive(Debug)]
struct Inbox<M> {
    messages: Vec<M>,
    /// The loop is gone; nothing will be taken any more.
    closed: bool,
}

impl<M> Mailbox<M> {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            inbox: Mutex::new(Inbox { messages: Vec::new(), closed: false }),
            waiting: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            waker,
        })
    }

    /// Puts a message in; `false` if the loop is gone.
    pub(crate) fn post(&self, message: M) -> bool {
        {
            let mut inbox = self.lock();
            if inbox.closed {
                return false;
            }
            inbox.messages.push(message);
            self.waiting.store(true, Ordering::SeqCst);
        }
        if self.asleep.swap(false, Ordering::SeqCst) && !planted::is(Bug::WakeLost) {
            if let Err(error) = self.waker.wake() {
                // The message is in; the loop runs it when anything else ends its poll.
                log::error!("cannot wake the reactor: {error}");
                self.asleep.store(true, Ordering::SeqCst);
            }
        }
        true
    }

    /// The loop is about to block: whether it may, because nothing waits.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let may = !self.waiting.load(Ordering::SeqCst);
        if !may {
            self.asleep.store(false, Ordering::SeqCst);
        }
        may
    }

    /// The poll has returned.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Moves all messages to the end of `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<M>) {
        let mut inbox = self.lock();
        self.waiting.store(false, Ordering::SeqCst);
        into.extend(inbox.messages.drain(..));
    }

    /// The loop ends: posts are refused from now on. Gives back what nobody will run.
    pub(crate) fn close(&self) -> Vec<M> {
        let mut inbox = self.lock();
        inbox.closed = true;
        self.waiting.store(false, Ordering::SeqCst);
        mem::take(&mut inbox.messages)
    }

    /// A poisoned lock is as good as any: no code that can panic runs under it.
    fn lock(&self) -> MutexGuard<'_, Inbox<M>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
