//! Blocking work on other threads: their number is bounded, and the result comes back as a
//! callback.
//!
//! A callback must not block. A query of a database, a password hash, or a file that is not in the
//! kernel's cache would block. Give such work to an [`Offload`], as a *job*: a closure that runs on
//! one of its threads, and a *completion*, a closure that runs on the loop with the handler and the
//! result.
//!
//! # Guarantees
//! - No more jobs run at once than there are [threads](OffloadOptions::threads), and no more wait
//!   than [`OffloadOptions::max_queued`]. One more is refused at once, so the loop never blocks.
//! - Jobs of the same [`Order`] run one after the other, and their completions come in that order.
//!   Other jobs begin in the order in which they were accepted.
//! - The completion of each job that was accepted is called once, unless the job is cancelled
//!   before it begins or the reactor stops. If the work panics, the completion gets [`Failed`]. The
//!   thread goes on with a new state.
//! - The completion of [`Offload::run_for`] is not called if its connection has ended meanwhile.
//! - Of many completions only the first wakes a loop that sleeps, and each turn runs at most
//!   [`messages_per_turn`](crate::ReactorOptions::messages_per_turn).
//! - When the reactor is dropped, jobs that were accepted are still done, within
//!   [`OffloadOptions::drain_timeout`]; their completions are dropped.
//! - An offload without jobs makes no system call.
//!
//! # In a simulated world
//! There are no threads. A job runs on the loop, after a time that the seed decides, and no more
//! jobs are under way at once than there would be threads. So the same seed gives the same run.
//! What the work itself does, such as reading files, is not simulated.
//!
//! # Examples
//! A server that answers with the length of the file that a line names:
//! ```
//! use std::fs;
//! use waterwheel::offload::{Offload, OffloadOptions};
//! use waterwheel::{Conn, Handler, HandlerKey, ListenOptions, Peer, Reactor, frame};
//!
//! struct Lengths {
//!     key: HandlerKey<Lengths>,
//!     offload: Offload,
//! }
//!
//! impl Handler for Lengths {
//!     type State = ();
//!
//!     fn on_accept(&mut self, _: &Peer) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
//!         let mut lines = frame::lines(input, 4_096);
//!         for line in lines.by_ref().flatten() {
//!             let path = String::from_utf8_lossy(line).into_owned();
//!             let work = move |_: &mut ()| fs::metadata(path).map(|found| found.len());
//!             let accepted = self.offload.run_for(conn.id(), self.key, work, |_, conn, result| {
//!                 let text = match result {
//!                     Ok(Ok(length)) => format!("{length}\n"),
//!                     Ok(Err(error)) => format!("{error}\n"),
//!                     Err(failed) => format!("{failed}\n"),
//!                 };
//!                 conn.write(text.as_bytes());
//!                 conn.end_request();
//!             });
//!             match accepted {
//!                 Ok(_) => conn.begin_request(), // after the client's FIN it is awaited
//!                 Err(_) => drop(conn.write(b"busy\n")),
//!             }
//!         }
//!         lines.consumed()
//!     }
//! }
//!
//! let mut reactor = Reactor::new()?;
//! let offload = Offload::new(&mut reactor, OffloadOptions::default().name("files"))?;
//! let lengths = reactor.register_with(|key| Lengths { key, offload });
//! reactor.listen("127.0.0.1:0", lengths, ListenOptions::default())?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Databases
//! Each thread may have a [state](Offload::with_state) of its own, such as a connection to a
//! database, so that no thread waits for a connection of another one. An ordinary, blocking client
//! of the database will do. With SQLite (the crate `rusqlite`) each thread has a connection to the
//! same file, as in `examples/offload` and `examples/web`. With PostgreSQL (the crate `postgres`):
//!
//! ```text
//! let database = Offload::with_state(&mut reactor, options, |_| {
//!     postgres::Client::connect("host=/run/postgresql dbname=notes", postgres::NoTls)
//!         .map_err(io::Error::other)
//! })?;
//! database.run_for(conn.id(), key, move |client| {
//!     if client.is_closed() {
//!         // The server was restarted: connect again.
//!         *client = postgres::Client::connect(CONFIG, postgres::NoTls)?;
//!     }
//!     client.query_opt("select text from notes where id = $1", &[&id])
//! }, |handler, conn, result| { … })?;
//! ```
//!
//! There are as many connections as threads: stay below the server's `max_connections`, and set
//! `statement_timeout`, so that no query holds a thread for ever. A transaction is one job.

mod desk;
mod options;
mod order;
mod queue;
mod stats;
mod worker;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::id::ConnId;
use crate::base::panics;
use crate::handler::{Conn, Context, HandlerKey, Remote};
use crate::reactor::Reactor;
use desk::Desk;
use queue::{Queue, Refusal, Work};
use worker::{Make, Worker};

pub use options::OffloadOptions;
pub use order::{JobId, Order};
pub use stats::OffloadStats;

/// Threads for blocking work, each with a state `W` of its own. Clones share the threads and the
/// queue: handlers can keep them, and other threads too.
///
/// The threads end with the reactor. The [module](self) lists the guarantees, and has an example.
pub struct Offload<W = ()> {
    queue: Arc<Queue<W>>,
    remote: Remote,
    /// What is to be told of each job in a simulated world.
    simulated: Option<HandlerKey<Desk<W>>>,
}

/// Why a job was not accepted; its closures are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAccepted {
    /// As many jobs wait as [`OffloadOptions::max_queued`] allows.
    Full,
    /// The reactor has been dropped.
    Stopped,
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "as many jobs wait as may; try again when some are done",
            Self::Stopped => "the reactor is gone, and takes no more jobs",
        })
    }
}

impl Error for NotAccepted {}

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failed {
    /// The work panicked, with this text.
    Panicked(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Panicked(text) = self;
        write!(f, "the work panicked: {text}")
    }
}

impl Error for Failed {}

/// Numbers of one offload, so that an id never names a job of another.
const NUMBERS: u64 = 1 << 40;

static NEXT_OFFLOAD: AtomicU64 = AtomicU64::new(0);

impl Offload {
    /// Starts the threads, without a state.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range.
    /// - The system's, if a thread cannot be started.
    pub fn new(reactor: &mut Reactor, options: OffloadOptions) -> io::Result<Self> {
        Self::with_state(reactor, options, |_| Ok(()))
    }
}

impl<W: 'static> Offload<W> {
    /// Starts the threads. Each thread calls `make`, with the number of the thread, to make its
    /// state, and again after each panic of a job. If `make` fails then, the thread keeps its old
    /// state, and an error is logged. Returns when all threads have a state.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range.
    /// - The system's, if a thread cannot be started.
    /// - The first error of `make`.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Reactor;
    /// use waterwheel::offload::{Offload, OffloadOptions};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let handler = reactor.register(|_: &mut waterwheel::Conn<'_>, input: &[u8]| input.len());
    /// let options = OffloadOptions::default().threads(1);
    /// let buffers = Offload::with_state(&mut reactor, options, |_| Ok(Vec::new()))?;
    /// for number in [1, 2] {
    ///     let work = move |buffer: &mut Vec<u32>| {
    ///         buffer.push(number);
    ///         buffer.len()
    ///     };
    ///     buffers.run((), handler, work, move |_, cx, length| {
    ///         assert_eq!(length, Ok(number as usize));
    ///         if number == 2 {
    ///             cx.stop();
    ///         }
    ///     })?;
    /// }
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_state(
        reactor: &mut Reactor,
        options: OffloadOptions,
        make: impl Fn(usize) -> io::Result<W> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        options.check()?;
        let make: Make<W> = Arc::new(make);
        let is_simulated = reactor.context().is_simulated();
        let threads = if is_simulated { 0 } else { options.threads };
        let first_number = NEXT_OFFLOAD.fetch_add(1, Ordering::Relaxed).wrapping_mul(NUMBERS);
        let queue = Arc::new(Queue::new(options.max_queued, threads, first_number));
        let mut simulated = Vec::new();
        if is_simulated {
            for index in 0..options.threads {
                simulated.push(Worker::new(index, &make)?);
            }
        } else if let Err(error) = worker::start(&queue, &options, &make) {
            queue.close();
            return Err(error);
        }
        let key = reactor.register_with(|key| {
            Desk::new(Arc::clone(&queue), key, options.drain_timeout, simulated)
        });
        let simulated = is_simulated.then_some(key);
        Ok(Self { queue, remote: reactor.remote(), simulated })
    }

    /// Runs `work` on a thread, and then `then` on the loop, with the handler and the result.
    ///
    /// # Errors
    /// - [`NotAccepted::Full`]: as many jobs wait as [`OffloadOptions::max_queued`] allows.
    /// - [`NotAccepted::Stopped`]: the reactor has been dropped.
    pub fn run<H: 'static, T: Send + 'static>(
        &self,
        order: impl Into<Order>,
        handler: HandlerKey<H>,
        work: impl FnOnce(&mut W) -> T + Send + 'static,
        then: impl FnOnce(&mut H, &mut Context<'_>, Result<T, Failed>) + Send + 'static,
    ) -> Result<JobId, NotAccepted> {
        let remote = self.remote.clone();
        let work = move |state: &mut W| {
            let result = panics::catch(|| work(state));
            let result = result.map_err(|payload| Failed::Panicked(panics::into_text(payload)));
            let has_panicked = result.is_err();
            // A reactor that has stopped waits for nothing.
            let _ = remote.with(handler, move |handler, cx| then(handler, cx, result));
            has_panicked
        };
        self.push(order.into(), Box::new(work), true)
    }

    /// Runs `work` on a thread, in order with the other jobs of a connection, and then `then` on
    /// the loop, with the handler, the connection and the result. If the connection has ended by
    /// then, the result is dropped and nothing is called. To save the work as well, call
    /// [`cancel_all`](Self::cancel_all) in `on_close`. A panic of `then` ends the connection.
    ///
    /// # Errors
    /// - [`NotAccepted::Full`]: as many jobs wait as [`OffloadOptions::max_queued`] allows.
    /// - [`NotAccepted::Stopped`]: the reactor has been dropped.
    ///
    /// # Examples
    /// See the [module](self).
    pub fn run_for<H: 'static, T: Send + 'static>(
        &self,
        id: ConnId,
        handler: HandlerKey<H>,
        work: impl FnOnce(&mut W) -> T + Send + 'static,
        then: impl FnOnce(&mut H, &mut Conn<'_>, Result<T, Failed>) + Send + 'static,
    ) -> Result<JobId, NotAccepted> {
        self.run(id, handler, work, move |handler, cx, result| {
            if cx.call(id, |conn| then(handler, conn, result)).is_none() {
                log::debug!("{id}: ended before its work was done");
            }
        })
    }

    /// Runs `work` on a thread, without a completion. A panic is logged.
    ///
    /// # Errors
    /// - [`NotAccepted::Full`]: as many jobs wait as [`OffloadOptions::max_queued`] allows.
    /// - [`NotAccepted::Stopped`]: the reactor has been dropped.
    pub fn run_alone(
        &self,
        order: impl Into<Order>,
        work: impl FnOnce(&mut W) + Send + 'static,
    ) -> Result<JobId, NotAccepted> {
        self.push(order.into(), alone(work), true)
    }

    /// The same for work that must be done some time, as to remove a file: it is accepted even if
    /// as many jobs wait as may. Its caller bounds how many such jobs there are.
    #[cfg(feature = "http-forms")]
    pub(crate) fn run_past_cap(
        &self,
        order: impl Into<Order>,
        work: impl FnOnce(&mut W) + Send + 'static,
    ) -> Result<JobId, NotAccepted> {
        self.push(order.into(), alone(work), false)
    }

    /// Cancels a job that has not begun: its closures are dropped, and nothing is called. Returns
    /// whether the job was cancelled. A job that has begun goes on, and its completion is called.
    pub fn cancel(&self, job: JobId) -> bool {
        self.queue.cancel(job).is_some()
    }

    /// Cancels all jobs of an order that have not begun, and returns how many. The order of the
    /// jobs of [`run_for`](Self::run_for) is the id of the connection, which `on_close` has in
    /// `closed`.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Closed;
    /// use waterwheel::offload::Offload;
    /// fn forget(offload: &Offload, closed: &Closed) -> usize {
    ///     offload.cancel_all(closed.id)
    /// }
    /// ```
    pub fn cancel_all(&self, order: impl Into<Order>) -> usize {
        self.queue.cancel_all(order.into()).len()
    }

    /// Counters: threads, jobs that wait and run, and jobs done.
    #[must_use]
    pub fn stats(&self) -> OffloadStats {
        self.queue.stats()
    }

    fn push(&self, order: Order, work: Work<W>, is_capped: bool) -> Result<JobId, NotAccepted> {
        let id = self.queue.push(order, work, is_capped).map_err(|(refusal, work)| {
            drop(work); // not under the lock: it is the user's
            match refusal {
                Refusal::Full => NotAccepted::Full,
                Refusal::Closed => NotAccepted::Stopped,
            }
        })?;
        if let Some(desk) = self.simulated {
            // A reactor that has stopped does what is left when it is dropped.
            let _ = self.remote.with(desk, Desk::begin);
        }
        Ok(id)
    }
}

/// Work without a completion: a panic is logged.
fn alone<W>(work: impl FnOnce(&mut W) + Send + 'static) -> Work<W> {
    Box::new(move |state| {
        let result = panics::catch(|| work(state));
        let has_panicked = result.is_err();
        if let Err(payload) = result {
            log::error!("work of an offload panicked: {}", panics::into_text(payload));
        }
        has_panicked
    })
}

impl<W> Clone for Offload<W> {
    fn clone(&self) -> Self {
        let Self { queue, remote, simulated } = self;
        Self { queue: Arc::clone(queue), remote: remote.clone(), simulated: *simulated }
    }
}

impl<W> fmt::Debug for Offload<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").field("stats", &self.queue.stats()).finish_non_exhaustive()
    }
}
