//! What other threads posted for the loop, and one wake a batch.
//!
//! A post puts its message under the lock and then looks whether the loop sleeps. The loop says
//! that it sleeps and then looks whether there are messages. The side that is second sees the
//! other, so no message is slept over; and of many posts only the first finds the sleeper and wakes
//! it.
//!
//! `asleep` says which side is second. No side merely loads or stores it: every access is a swap,
//! and so takes its turn after all earlier ones and sees what their threads had done before. That
//! orders `waiting` too, which needs no ordering of its own.
//!
//! Under `cfg(loom)` the tests run every interleaving of this (`checks/loom`).

#[cfg(all(test, loom))]
#[path = "../tests/mailbox.rs"]
mod model;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Arc, PoisonError};

use crate::base::memory::GiveBack;
use crate::sys::Waker;
use sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// What threads share, as the standard library has it or as the checker of interleavings has it.
mod sync {
    #[cfg(all(test, loom))]
    pub(super) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    };
    #[cfg(not(all(test, loom)))]
    pub(super) use std::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    };
}

/// The end that threads post to and the loop takes from.
#[derive(Debug)]
pub(crate) struct Mailbox<M, W = Waker> {
    /// The messages, in the order of the posts.
    inbox: Mutex<Inbox<M>>,
    /// Whether `inbox` may hold messages: spares a turn without any the lock.
    waiting: AtomicBool,
    /// Whether the loop is about to block or blocks in the poll, and has not been woken.
    asleep: AtomicBool,
    /// Ends the poll.
    waker: W,
}

/// Ends the poll of a loop that sleeps, or the next one that it would sleep in.
pub(crate) trait Wake {
    fn wake(&self) -> io::Result<()>;
}

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        Waker::wake(self)
    }
}

#[derive(Debug)]
struct Inbox<M> {
    messages: VecDeque<M>,
    /// The loop is gone; nothing will be taken any more.
    closed: bool,
}

impl<M, W: Wake> Mailbox<M, W> {
    pub(crate) fn new(waker: W) -> Arc<Self> {
        Arc::new(Self {
            inbox: Mutex::new(Inbox { messages: VecDeque::new(), closed: false }),
            waiting: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            waker,
        })
    }

    /// Puts a message in; `false` if the loop is gone.
    pub(crate) fn post(&self, message: M) -> bool {
        self.offer(message).is_ok()
    }

    /// Puts a message in; gives it back if the loop is gone.
    pub(crate) fn offer(&self, message: M) -> Result<(), M> {
        {
            let mut inbox = self.lock();
            if inbox.closed {
                return Err(message);
            }
            inbox.messages.push_back(message);
            self.waiting.store(true, Ordering::Relaxed);
        }
        if self.asleep.swap(false, Ordering::AcqRel) {
            if let Err(error) = self.waker.wake() {
                // The message is in; the loop runs it when anything else ends its poll.
                log::error!("cannot wake the reactor: {error}");
                self.asleep.swap(true, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// The loop is about to block: whether it may, because nothing waits.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.swap(true, Ordering::AcqRel);
        let may = !self.has_messages();
        if !may {
            self.awake();
        }
        may
    }

    /// The poll has returned.
    pub(crate) fn awake(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }

    /// Messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().messages.len()
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Moves all messages to the end of `into`. If that is empty the two are swapped: the lock is
    /// held for no longer, however many messages there are.
    pub(crate) fn take(&self, into: &mut VecDeque<M>) {
        let mut inbox = self.lock();
        self.waiting.store(false, Ordering::Relaxed);
        if into.is_empty() {
            mem::swap(&mut inbox.messages, into);
        } else {
            into.append(&mut inbox.messages);
            inbox.messages.give_back();
        }
    }

    /// The loop ends: posts are refused from now on. Returns the messages that will not be handled.
    pub(crate) fn close(&self) -> VecDeque<M> {
        let mut inbox = self.lock();
        inbox.closed = true;
        self.waiting.store(false, Ordering::Relaxed);
        mem::take(&mut inbox.messages)
    }

    /// Messages for which there is room.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn room(&self) -> usize {
        self.lock().messages.capacity()
    }

    /// A poisoned lock is as good as any: no code that can panic runs under it.
    fn lock(&self) -> MutexGuard<'_, Inbox<M>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
