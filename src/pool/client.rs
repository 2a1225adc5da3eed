//! What the user of a pool writes: the callbacks, and what the pool answers.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::{Conn, Context, DeadlineKind};
use crate::pool::{Lease, PoolHandle};
use crate::stream::Closed;

/// The callbacks of a pool's connections: a smaller [`Handler`](crate::Handler).
///
/// These callbacks are called for leased connections; the pool itself looks after idle ones. Each
/// callback gets the [`PoolHandle`], so that it can acquire and release. The order for one
/// connection:
///
/// ```text
/// on_connected on_handshake* ( lent
///                              (on_data | on_drain | on_timer | on_deadline | on_idle)* on_eof?
///                              released )*
/// ```
/// `on_lost` follows if the connection ends while it is lent. If [`PoolHandle::acquire`] returns a
/// lease at once, there is no callback for it. A ticket that has waited is answered exactly once,
/// by `on_acquired` or by `on_refused`.
///
/// The state of a connection is moved for each callback; put a large one into a `Box`.
///
/// # Examples
/// Asks a Redis server for the time of its last save, and prints the answer:
/// ```
/// use waterwheel::pool::{AcquireError, PoolHandle, Lease, Pool, PoolClient, PoolOptions};
/// use waterwheel::{Conn, Context, Reactor, frame};
///
/// struct Time;
///
/// impl PoolClient for Time {
///     type State = Option<Lease>; // kept until the answer is there
///     type Ticket = &'static str; // the command
///
///     fn on_acquired(
///         &mut self,
///         state: &mut Option<Lease>,
///         conn: &mut Conn<'_>,
///         lease: Lease,
///         command: &'static str,
///         _: &mut PoolHandle<Self>,
///     ) {
///         conn.write(command.as_bytes());
///         *state = Some(lease);
///     }
///
///     fn on_data(
///         &mut self,
///         state: &mut Option<Lease>,
///         conn: &mut Conn<'_>,
///         input: &[u8],
///         _: &mut PoolHandle<Self>,
///     ) -> usize {
///         let mut lines = frame::lines(input, 1024);
///         for line in lines.by_ref().flatten() {
///             println!("{}: {}", conn.peer_addr(), String::from_utf8_lossy(line));
///             *state = None; // dropped: back in the pool, once this callback has returned
///         }
///         lines.consumed()
///     }
///
///     fn on_refused(&mut self, _: &'static str, error: AcquireError, _: &mut PoolHandle<Self>,
///         cx: &mut Context<'_>,
///     ) {
///         println!("no connection: {error}");
///         cx.stop();
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let pool = Pool::register(&mut reactor, Time, "127.0.0.1:6379", PoolOptions::default())?;
/// reactor.context().post(pool, |pool, cx| {
///     pool.request("LASTSAVE\r\n", cx);
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait PoolClient: Sized + 'static {
    /// What each connection keeps, also while it is idle. The pool makes it, since it dials by
    /// itself.
    type State: Default + 'static;

    /// What an acquire carries until it has its connection.
    type Ticket: 'static;

    /// The connection is up. If the protocol begins with a handshake, a password for example, write
    /// its first message here and return [`Handshake::Pending`]. Default: [`Handshake::Done`].
    fn on_connected(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) -> Handshake {
        let _ = (state, conn);
        Handshake::Done
    }

    /// Bytes came in during the handshake. Returns how many bytes are consumed, and the state of
    /// the handshake. With [`Handshake::Done`] all bytes must be consumed. The connect timeout,
    /// counted from `on_connected`, ends a handshake that takes too long. Default: fails, because
    /// there is no handshake.
    fn on_handshake(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> (usize, Handshake) {
        let _ = (state, conn);
        (input.len(), Handshake::Failed(io::Error::other("the peer spoke first")))
    }

    /// A ticket that has waited has its connection.
    fn on_acquired(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        lease: Lease,
        ticket: Self::Ticket,
        desk: &mut PoolHandle<Self>,
    );

    /// Bytes came in on a leased connection; see [`Handler::on_data`](crate::Handler::on_data).
    ///
    /// A lease that is released here is lent again when this has returned. If some of the input is
    /// left unconsumed then, the connection is ended instead, because the bytes may belong to
    /// another answer.
    fn on_data(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        input: &[u8],
        desk: &mut PoolHandle<Self>,
    ) -> usize;

    /// Output of a leased connection fell to the low mark; see
    /// [`Handler::on_drain`](crate::Handler::on_drain). Default: nothing.
    fn on_drain(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        desk: &mut PoolHandle<Self>,
    ) {
        let _ = (state, conn, desk);
    }

    /// The peer of a leased connection has finished sending. Default: close; `on_lost` follows.
    fn on_eof(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        desk: &mut PoolHandle<Self>,
    ) {
        let _ = (state, desk);
        conn.close();
    }

    /// An idle limit of a leased connection has passed; see
    /// [`Handler::on_idle`](crate::Handler::on_idle). Default: close; `on_lost` follows.
    fn on_idle(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        kind: IdleKind,
        desk: &mut PoolHandle<Self>,
    ) -> Idle {
        let _ = (state, conn, kind, desk);
        Idle::Close
    }

    /// The deadline of a leased connection has passed (`Conn::set_deadline`). When a connection is
    /// released, its deadline is removed. Default: reset.
    fn on_deadline(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        kind: DeadlineKind,
        desk: &mut PoolHandle<Self>,
    ) -> Deadline {
        let _ = (state, conn, kind, desk);
        Deadline::Reset
    }

    /// A timer of a leased connection fired. A timer of an earlier borrower may fire, too: compare
    /// the ids, or use other tokens for each borrower. Timers that fire while the connection is
    /// idle are not reported. Default: nothing.
    fn on_timer(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        timer: Timer,
        desk: &mut PoolHandle<Self>,
    ) {
        let _ = (state, conn, timer, desk);
    }

    /// A leased connection has ended before it was released. This is the last callback of the
    /// connection. Whether the peer has got what was sent is not known; the pool sends nothing
    /// again. Default: drops the state.
    ///
    /// A panic of a callback of the connection is such an end, also if the callback had released
    /// the lease by then, or the panic has dropped it. The state is as the callback has left it.
    fn on_lost(
        &mut self,
        state: Self::State,
        closed: Closed,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        let _ = (state, closed, desk, cx);
    }

    /// A ticket that has waited gets no connection. If you acquire again here after a failed
    /// connect, the pool connects again without a pause.
    fn on_refused(
        &mut self,
        ticket: Self::Ticket,
        error: AcquireError,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    );

    /// A timer that was set with the pool's [`handler`](PoolHandle::handler) fired. Default:
    /// nothing.
    fn on_handler_timer(
        &mut self,
        timer: Timer,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        let _ = (timer, desk, cx);
    }

    /// The reactor drains, and this connection is leased. It ends when it is released. Default:
    /// nothing.
    fn on_shutdown(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        desk: &mut PoolHandle<Self>,
    ) {
        let _ = (state, conn, desk);
    }
}

/// The state of the handshake of a new connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Handshake {
    /// There is none, or it is over: the connection may be lent.
    Done,
    /// An answer is to come.
    Pending,
    /// The handshake failed: the connection is ended, and the waiter in front is refused with the
    /// error.
    Failed(io::Error),
}

/// The result of an acquire.
#[derive(Debug)]
#[must_use = "a lease that is dropped is released, and a ticket in it is lost"]
pub enum Acquired<T> {
    /// A connection was idle: here it is, with the ticket.
    Now(Lease, T),
    /// The ticket waits; `on_acquired` or `on_refused` follows.
    Waits(WaiterId),
    /// No connection, and no room to wait: the ticket comes back.
    Refused(T, AcquireError),
}

/// The id of a ticket that waits. Once the ticket has been answered, and in any other pool, the id
/// finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId {
    /// Where it stands in the order of its pool.
    pub(super) number: u64,
    /// Which pool of the process it waits at.
    pub(super) pool: u64,
}

/// Why an acquire got no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// The ticket waited for as long as [`acquire_timeout`](super::PoolOptions::acquire_timeout)
    /// allows.
    TimedOut {
        /// The time.
        limit: Duration,
        /// Connections that are lent now.
        leased: usize,
        /// Connections that are being dialled now.
        dialling: usize,
    },
    /// The queue is full: this many tickets wait, which is
    /// [`max_waiters`](super::PoolOptions::max_waiters).
    TooManyWaiters(usize),
    /// A connection failed to come up while it was the next to get one, or ended before it could be
    /// lent.
    Connect(io::Error),
    /// The pool is closed.
    Closed,
    /// The reactor stops, and no connection is left that it could wait for.
    Stopping,
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { limit, leased: 0, dialling } => write!(
                f,
                "no connection came up within {limit:?} (acquire_timeout): none is lent, and \
                 {dialling} are being dialled; look whether the server is there"
            ),
            Self::TimedOut { limit, leased, dialling } => write!(
                f,
                "no connection came free within {limit:?} (acquire_timeout): {leased} are lent, \
                 and {dialling} are being dialled; release sooner, or raise max_open"
            ),
            Self::TooManyWaiters(most) => write!(f, "{most} others wait already (max_waiters)"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("the pool is closed"),
            Self::Stopping => {
                f.write_str("the reactor is stopping, and the pool has no connection left")
            }
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Its own text is part of this one.
            Self::Connect(error) => error.source(),
            _ => None,
        }
    }
}
