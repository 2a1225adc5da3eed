//! The async end of a [`Sender`]: tasks that wait for room, in place of threads.

use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};

use super::queue::{Announce, Patience, Queue, Refusal};
use super::{SendError, Sender};

/// Tasks that wait for room in a channel.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// By ticket.
    wakers: BTreeMap<u64, Waker>,
    /// The next ticket: none comes again, so that a task that was woken removes no other.
    next: u64,
}

impl Tasks {
    /// All that wait. To wake as many as there is room for would not do: a task may be dropped
    /// between its wake and its poll, and its wake with it.
    pub(super) fn take_all(&mut self) -> WokenTasks {
        WokenTasks(mem::take(&mut self.wakers))
    }

    /// Notes a task, and its ticket; returns a waker that is out of date. Both run code of the
    /// runtime's when they are dropped, which must not be under the lock.
    fn note(&mut self, ticket: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let ticket = *ticket.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        self.wakers.insert(ticket, waker)
    }
}

/// Tasks that are to be woken, once the lock is released.
#[derive(Debug)]
pub(super) struct WokenTasks(BTreeMap<u64, Waker>);

impl WokenTasks {
    pub(super) fn wake(self) {
        self.0.into_values().for_each(Waker::wake);
    }
}

impl<T, A: Announce> Queue<T, A> {
    /// Puts a message in if there is room; else the task is woken when there may be. To clone a
    /// waker runs code of the runtime's, too.
    fn push_or_note(
        &self,
        message: T,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Result<(), (T, Refusal)> {
        let (message, refusal) = match self.push(message, Patience::Never) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if refusal == Refusal::Closed {
            return Err((message, refusal));
        }
        let waker = waker.clone();
        let mut inner = self.lock();
        if !self.must_wait(&inner) {
            return self.put(inner, message);
        }
        let old = inner.tasks.note(ticket, waker);
        drop(inner);
        drop(old);
        Err((message, Refusal::Full))
    }

    /// A task waits no longer.
    fn forget_task(&self, ticket: u64) {
        let waker = self.lock().tasks.wakers.remove(&ticket);
        drop(waker);
    }
}

/// A message on its way into a channel.
struct SendAsync<'a, T> {
    sender: &'a Sender<T>,
    /// There until it is sent.
    message: Option<T>,
    /// By which the channel knows the task.
    ticket: Option<u64>,
}

/// The message is moved, and never pinned.
impl<T> Unpin for SendAsync<'_, T> {}

impl<T> Future for SendAsync<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let it = self.get_mut();
        let Some(message) = it.message.take() else { return Poll::Pending };
        match it.sender.shared.queue.push_or_note(message, &mut it.ticket, cx.waker()) {
            Ok(()) => Poll::Ready(Ok(())),
            Err((message, Refusal::Closed)) => Poll::Ready(Err(SendError::Stopped(message))),
            Err((message, Refusal::Full)) => {
                it.message = Some(message);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for SendAsync<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.sender.shared.queue.forget_task(ticket);
        }
    }
}

impl<T> Sender<T> {
    /// Sends a message from a task of an async runtime: the task waits while the channel is full,
    /// and no thread does. Experimental: this may change in any release.
    ///
    /// The future is one of the standard library alone, so that any runtime can drive it. A future
    /// that is dropped before it is ready has not sent its message. Tasks that wait are woken when
    /// half of the channel is free, in no particular order.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{SendError, Sender};
    ///
    /// async fn report(sender: Sender<u64>) -> Result<(), SendError<u64>> {
    ///     for value in 0..1_000 {
    ///         sender.send_async(value).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// - [`SendError::Stopped`]: the reactor has stopped, perhaps while this waited.
    #[cfg_attr(docsrs, doc(cfg(feature = "async-sender")))]
    pub fn send_async(
        &self,
        message: T,
    ) -> impl Future<Output = Result<(), SendError<T>>> + use<'_, T> {
        SendAsync { sender: self, message: Some(message), ticket: None }
    }
}
