//! Channels into the loop: typed messages of other threads, in a queue with an end at each side.

#[cfg(all(test, loom))]
#[path = "../tests/channel.rs"]
mod model;
mod queue;
mod receiver;
#[cfg_attr(not(feature = "async-sender"), path = "tasks_stub.rs")]
mod tasks;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::engine::Running;
use crate::engine::mailbox::Mailbox;
use crate::handler::{Context, HandlerKey, Message};
use crate::reactor::Reactor;
use queue::{Announce, Patience, Queue, Refusal};
use receiver::ChannelReceiver;

/// A handler that receives messages of other threads, through a channel.
///
/// A handler may receive messages of many types: it implements the trait for each type, and has
/// channels of its own for each.
///
/// # Examples
/// A total that other threads add to:
/// ```
/// use std::thread;
/// use waterwheel::{Context, Reactor, Receive};
///
/// struct Total { sum: u64 }
///
/// impl Receive<u64> for Total {
///     fn on_message(&mut self, message: u64, _: &mut Context<'_>) {
///         self.sum += message;
///     }
///
///     fn on_senders_gone(&mut self, cx: &mut Context<'_>) {
///         cx.stop();
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let total = reactor.register(Total { sum: 0 });
/// let sender = reactor.channel(total, 16)?;
/// for part in 0..4 {
///     let sender = sender.clone();
///     thread::spawn(move || {
///         for number in 0..100 {
///             sender.send(100 * part + number).expect("the reactor runs");
///         }
///     });
/// }
/// drop(sender);
/// reactor.run()?;
/// assert_eq!(reactor.handler_mut(total).map(|total| total.sum), Some((0..400).sum()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Receive<T>: 'static {
    /// A message came in. The messages of one sender come in the order in which they were sent.
    ///
    /// If the callback panics, its message is lost, and the next one comes in the next turn.
    fn on_message(&mut self, message: T, cx: &mut Context<'_>);

    /// The last sender of a channel has been dropped, and all messages have been delivered. Called
    /// once for each channel, unless the reactor ends before. Default: nothing.
    fn on_senders_gone(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }
}

/// The sending end of a channel, for other threads. It can be cloned, sent to threads and shared by
/// them.
///
/// The other end is a handler ([`Receive`]). `Ok` means that the reactor had not stopped yet. If
/// the reactor stops before it reaches the message, the message is dropped.
///
/// Messages of one sender come in order. There is no order between the messages of its clones, or
/// with those of other channels and of a [`Remote`](crate::Remote).
///
/// # Examples
/// ```
/// use waterwheel::{Context, Reactor, Receive, SendError};
///
/// struct Printer;
/// impl Receive<String> for Printer {
///     fn on_message(&mut self, line: String, _: &mut Context<'_>) {
///         println!("{line}");
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let printer = reactor.register(Printer);
/// let sender = reactor.channel(printer, 1)?;
/// assert_eq!(sender.try_send("one".to_owned()), Ok(()));
/// assert_eq!(sender.try_send("two".to_owned()), Err(SendError::Full("two".to_owned())));
/// drop(reactor);
/// assert_eq!(sender.send("three".to_owned()), Err(SendError::Stopped("three".to_owned())));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// What the two ends of a channel share.
struct Shared<T> {
    queue: Queue<T, Door>,
    /// Where the reactor lives, which must not wait for itself.
    reactor_thread: ThreadId,
}

/// The way to the loop.
#[derive(Debug)]
struct Door {
    mailbox: Arc<Mailbox<Message>>,
    /// The channel's.
    index: u32,
}

impl Announce for Door {
    fn announce(&self) {
        // A loop that is gone closes the channel, which is how senders learn of it.
        let _ = self.mailbox.post(Message::Deliver(self.index));
    }
}

/// Why a message was not sent. Each variant holds the message, to send it elsewhere or again.
///
/// # Examples
/// Work that is refused while its receiver is behind:
/// ```
/// use waterwheel::{SendError, Sender};
/// fn offer(sender: &Sender<String>, work: String) -> Result<(), &'static str> {
///     match sender.try_send(work) {
///         Ok(()) => Ok(()),
///         Err(SendError::Full(_)) => Err("busy, try again"),
///         Err(_) => Err("shutting down"),
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The channel is full ([`Sender::try_send`]).
    Full(T),
    /// The channel was full all the time ([`Sender::send_timeout`]).
    Timeout(T),
    /// The reactor has stopped.
    Stopped(T),
    /// The channel is full, and this is the reactor's own thread: only that thread makes room, so
    /// it would wait for ever ([`Sender::send`], [`Sender::send_timeout`]).
    OwnThread(T),
}

impl<T> Sender<T> {
    /// Sends a message; waits while the channel is full. A sender that has waited goes on when
    /// half of the channel is free.
    ///
    /// In callbacks use [`try_send`](Self::try_send). On the thread of its own reactor `send` does
    /// not wait but returns an error. On the thread of another reactor it would stop the
    /// connections there, and two reactors that send to each other could wait for ever.
    ///
    /// # Errors
    /// - [`SendError::Stopped`]: the reactor has stopped, perhaps while this waited.
    /// - [`SendError::OwnThread`]: the channel is full, and this is the thread of its reactor.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.push(message, Patience::Forever)
    }

    /// Sends a message, unless the channel is full. It never waits, and may be called anywhere.
    ///
    /// # Errors
    /// - [`SendError::Full`]: the channel is full.
    /// - [`SendError::Stopped`]: the reactor has stopped.
    ///
    /// See [`SendError`] for an example.
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        self.push(message, Patience::Never)
    }

    /// Sends a message; waits while the channel is full, and no longer than `timeout`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::{SendError, Sender};
    /// fn report(sender: &Sender<u64>, value: u64) {
    ///     match sender.send_timeout(value, Duration::from_secs(1)) {
    ///         Err(SendError::Timeout(value)) => eprintln!("{value} is dropped: nobody takes it"),
    ///         Err(error) => eprintln!("it is dropped: {error}"),
    ///         Ok(()) => {}
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// - [`SendError::Timeout`]: the channel was full all the time.
    /// - [`SendError::Stopped`]: the reactor has stopped, perhaps while this waited.
    /// - [`SendError::OwnThread`]: the channel is full, and this is the thread of its reactor.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.push(message, Patience::For(timeout))
    }

    fn push(&self, message: T, patience: Patience) -> Result<(), SendError<T>> {
        let queue = &self.shared.queue;
        let Err((message, refusal)) = queue.push(message, Patience::Never) else { return Ok(()) };
        if refusal == Refusal::Closed {
            return Err(SendError::Stopped(message));
        }
        if patience == Patience::Never {
            return Err(SendError::Full(message));
        }
        if thread::current().id() == self.shared.reactor_thread {
            return Err(SendError::OwnThread(message));
        }
        queue.push(message, patience).map_err(|(message, refusal)| match refusal {
            Refusal::Full => SendError::Timeout(message),
            Refusal::Closed => SendError::Stopped(message),
        })
    }

    /// Max messages that may wait, including the ones that the loop has taken and not handed to the
    /// handler; `None` if there is no bound.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        Some(self.shared.queue.capacity()).filter(|&capacity| capacity != usize::MAX)
    }

    /// Whether the reactor has stopped, so that every further message is refused.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.queue.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.queue.add_sender();
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.queue.remove_sender();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl<T> SendError<T> {
    /// The message.
    #[must_use]
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message)
            | Self::Timeout(message)
            | Self::Stopped(message)
            | Self::OwnThread(message) => message,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Full(_) => "Full",
            Self::Timeout(_) => "Timeout",
            Self::Stopped(_) => "Stopped",
            Self::OwnThread(_) => "OwnThread",
        }
    }
}

/// Without the message, of whatever type.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.name())
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the channel is full",
            Self::Timeout(_) => "the channel was full until the time was over",
            Self::Stopped(_) => "the reactor has stopped",
            Self::OwnThread(_) => {
                "the channel is full, and to wait on the reactor's own thread would be for ever; \
                 use try_send there"
            }
        })
    }
}

impl<T> Error for SendError<T> {}

impl Reactor {
    /// Makes a channel from other threads to a handler. No more than `capacity` messages wait in
    /// it: when it is full, [`Sender::send`] waits, and [`Sender::try_send`] refuses.
    ///
    /// Each turn hands over at most
    /// [`messages_per_turn`](crate::ReactorOptions::messages_per_turn) of all that was sent and
    /// posted to the reactor.
    ///
    /// # Errors
    /// - `InvalidInput`: the capacity is 0, or the handler key is of another reactor.
    /// - `Other`: the reactor has stopped.
    ///
    /// # Examples
    /// ```
    /// # use waterwheel::{Context, Reactor, Receive};
    /// # struct Total;
    /// # impl Receive<u64> for Total {
    /// #     fn on_message(&mut self, _: u64, cx: &mut Context<'_>) { cx.stop() }
    /// # }
    /// let mut reactor = Reactor::new()?;
    /// let total = reactor.register(Total); // which is `Receive<u64>`
    /// let sender = reactor.channel::<u64, _>(total, 1_024)?;
    /// std::thread::spawn(move || sender.send(7));
    /// reactor.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn channel<T, H>(
        &mut self,
        handler: HandlerKey<H>,
        capacity: usize,
    ) -> io::Result<Sender<T>>
    where
        T: Send + 'static,
        H: Receive<T>,
    {
        self.event_loop_mut().check_key(handler)?;
        self.context().channel(handler, capacity)
    }

    /// Makes a channel without a bound: sending never waits. Senders that are faster than the
    /// handler fill the memory. So the number of messages must be bounded in another way, for
    /// example by one answer for each question.
    ///
    /// # Errors
    /// - `InvalidInput`: the handler key is of another reactor.
    /// - `Other`: the reactor has stopped.
    ///
    /// # Examples
    /// ```
    /// # use waterwheel::{Context, Reactor, Receive};
    /// # struct Total;
    /// # impl Receive<u64> for Total {
    /// #     fn on_message(&mut self, _: u64, _: &mut Context<'_>) {}
    /// # }
    /// let mut reactor = Reactor::new()?;
    /// let total = reactor.register(Total);
    /// let sender = reactor.unbounded_channel::<u64, _>(total)?;
    /// assert_eq!(sender.capacity(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unbounded_channel<T, H>(&mut self, handler: HandlerKey<H>) -> io::Result<Sender<T>>
    where
        T: Send + 'static,
        H: Receive<T>,
    {
        self.channel(handler, usize::MAX)
    }
}

impl Context<'_> {
    /// Makes a channel as [`Reactor::channel`] does; a handler key of another reactor is found
    /// out, and logged, when the first message comes.
    ///
    /// # Errors
    /// - `InvalidInput`: the capacity is 0.
    /// - `Other`: the reactor has stopped.
    ///
    /// # Examples
    /// A worker for each connection, which ends with it:
    /// ```
    /// # use std::thread;
    /// use waterwheel::{Conn, ConnId, Context, Receive, HandlerKey};
    ///
    /// fn begin_work<H>(service: HandlerKey<H>, conn: &mut Conn<'_>) -> std::io::Result<()>
    /// where
    ///     H: Receive<(ConnId, String)>,
    /// {
    ///     let id = conn.id();
    ///     let sender = conn.context().channel(service, 16)?;
    ///     thread::spawn(move || {
    ///         for step in 0..100 {
    ///             if sender.send((id, format!("step {step}"))).is_err() {
    ///                 return; // the reactor has stopped
    ///             }
    ///         }
    ///     });
    ///     Ok(())
    /// }
    /// ```
    pub fn channel<T, H>(
        &mut self,
        handler: HandlerKey<H>,
        capacity: usize,
    ) -> io::Result<Sender<T>>
    where
        T: Send + 'static,
        H: Receive<T>,
    {
        if capacity == 0 {
            let text = "a channel of capacity 0 could never hold a message; give at least 1";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let lp = self.event_loop();
        if lp.engine.running() == Running::Stopped {
            return Err(io::Error::other("the reactor has stopped and takes no messages"));
        }
        let index = lp.posts.channels.vacant_key() as u32;
        let door = Door { mailbox: Arc::clone(&lp.posts.mailbox), index };
        let queue = Queue::new(capacity, door);
        let shared = Arc::new(Shared { queue, reactor_thread: thread::current().id() });
        let outlet = ChannelReceiver::new(handler, Arc::clone(&shared));
        lp.posts.channels.insert(Some(Box::new(outlet)));
        Ok(Sender { shared })
    }

    /// Makes a channel without a bound, as [`Reactor::unbounded_channel`] does.
    ///
    /// # Errors
    /// - `Other`: the reactor has stopped.
    ///
    /// # Examples
    /// A channel for answers, where the number of questions has a bound already:
    /// ```
    /// use waterwheel::{Context, Receive, Sender, HandlerKey};
    /// fn answers<H>(
    ///     service: HandlerKey<H>,
    ///     cx: &mut Context<'_>,
    /// ) -> std::io::Result<Sender<String>>
    /// where
    ///     H: Receive<String>,
    /// {
    ///     cx.unbounded_channel(service)
    /// }
    /// ```
    pub fn unbounded_channel<T, H>(&mut self, handler: HandlerKey<H>) -> io::Result<Sender<T>>
    where
        T: Send + 'static,
        H: Receive<T>,
    {
        self.channel(handler, usize::MAX)
    }
}
