//! What user code sees: the callbacks, and the things lent to them.

mod conn;
mod context;
pub(crate) mod datagram;
mod erased;
mod event_loop;
mod receiver;
mod remote;
mod resolve;
mod states;
mod timer;

use std::io;
use std::net::SocketAddr;

use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::stream::Closed;
use crate::stream::happy_eyeballs::ConnectRetry;
use crate::sys::Credentials;

pub use conn::{Conn, DeadlineKind};
pub use context::Context;
pub use datagram::{DatagramHandler, DatagramSocket, Session, SessionEnd, SessionHandler};
pub(crate) use datagram::{Incoming, SocketFace};
pub use erased::HandlerKey;
pub(crate) use erased::{AnyHandler, Entry, StreamFace};
pub(crate) use event_loop::{Known, Loop, Message, Posted, PostedCall};
pub(crate) use receiver::{Delivery, ErasedReceiver, Rest};
pub use remote::{Remote, Stopped};
pub(crate) use resolve::first_of;
pub(crate) use states::LentStates;
pub(crate) use timer::TimerFace;
pub use timer::TimerHandler;

/// A peer that has connected to a listener and is not accepted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The peer's address. Behind a balancer that speaks the PROXY protocol it is the client's.
    /// Unspecified (`0.0.0.0:0`) for a Unix socket, which has no address.
    pub addr: SocketAddr,
    /// The address of the listener; unspecified for a Unix socket.
    pub listener: SocketAddr,
    /// The balancer's end of the connection, on a listener that wants the PROXY protocol.
    pub proxy: Option<SocketAddr>,
    /// The address that the client connected to, as the balancer reports it. To know it later, keep
    /// it in the state.
    pub destination: Option<SocketAddr>,
    /// Whether the peer has connected over a Unix socket.
    pub is_unix: bool,
    /// User, group and process of the peer, over a Unix socket, where the platform reports them.
    pub credentials: Option<Credentials>,
}

/// The callbacks of a server or a client.
///
/// A handler serves many connections: what they share is a field of the handler, what each keeps is
/// its `State`. All callbacks run on the thread of the reactor, one at a time; nothing that a
/// callback calls runs another callback before it returns. The order of callbacks for one
/// connection:
///
/// ```text
/// accepted:   on_accept        on_open (on_data | other)* on_eof? other* on_close
/// refused:    on_accept        on_refuse
/// connected:  connect(state)   on_connect_retry*
///                              the same from on_open on, or on_connect_failed
/// other:      on_drain | on_timer | on_deadline | on_idle | on_shutdown
/// ```
/// `*` means any number of times, `?` at most once, and `|` one of both.
///
/// A callback that panics ends its connection with `CloseReason::Panic`; the others are served
/// on (see [`OnPanic`](crate::OnPanic)).
///
/// A callback gets the state of its own connection; [`Context::with`] reaches the states of the
/// others.
///
/// A closure `FnMut(&mut Conn<'_>, &[u8]) -> usize` is a handler too; it is `on_data`, with a
/// `State` of `()`.
///
/// # Examples
/// Counting what each connection sends:
/// ```
/// use waterwheel::{Closed, Conn, Context, Handler, Peer};
///
/// struct Count { total: u64 }
///
/// impl Handler for Count {
///     type State = u64;
///
///     fn on_accept(&mut self, _: &Peer) -> Option<u64> {
///         Some(0)
///     }
///
///     fn on_data(&mut self, bytes: &mut u64, _: &mut Conn<'_>, input: &[u8]) -> usize {
///         *bytes += input.len() as u64;
///         input.len()
///     }
///
///     fn on_close(&mut self, bytes: u64, closed: Closed, _: &mut Context<'_>) {
///         self.total += bytes;
///         println!("{}: {bytes} bytes, {}", closed.id, closed.reason);
///     }
/// }
/// ```
pub trait Handler: 'static {
    /// What each connection keeps. `()` costs nothing.
    type State: 'static;

    /// A peer connected: returns the connection's state, or refuses the connection with `None`
    /// before anything else is allocated. The peer then gets a reset, or what
    /// [`on_refuse`](Self::on_refuse) returns.
    fn on_accept(&mut self, peer: &Peer) -> Option<Self::State>;

    /// Called when `on_accept` has refused a peer: returns a last message for the peer. Default:
    /// nothing, and the peer gets a reset.
    ///
    /// The message is sent in one write, followed by FIN. No connection is made for that: there is
    /// no id, no state and no further callback. If the socket does not take the message at once, or
    /// if it has more than 4,096 bytes, the peer gets a reset. If the peer sends something at that
    /// moment, a reset may follow the message, because the socket is closed. Behind TLS or the
    /// PROXY protocol the connection exists already: the message passes through them, and the
    /// connection ends as with [`Conn::close`].
    ///
    /// A peer that is refused by a cap of [`ListenOptions`](crate::ListenOptions) gets only a
    /// reset.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Conn, Handler, Peer};
    ///
    /// struct Chat { room: usize }
    ///
    /// impl Handler for Chat {
    ///     type State = ();
    ///
    ///     fn on_accept(&mut self, _: &Peer) -> Option<()> {
    ///         self.room = self.room.checked_sub(1)?;
    ///         Some(())
    ///     }
    ///
    ///     fn on_refuse(&mut self, _: &Peer) -> &[u8] {
    ///         b"the room is full, try again later\n"
    ///     }
    /// #   fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, i: &[u8]) -> usize { i.len() }
    /// }
    /// ```
    fn on_refuse(&mut self, peer: &Peer) -> &[u8] {
        let _ = peer;
        &[]
    }

    /// The connection is up, and writing may begin. Default: nothing.
    fn on_open(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        let _ = (state, conn);
    }

    /// Bytes came in: `input` has all bytes that are not consumed yet, in order. Returns how many
    /// of them, from the front, are consumed. The rest is kept, and comes again in front of the
    /// next bytes. A rest of more than `max_input_bytes` ends the connection with
    /// `CloseReason::Overflow`.
    ///
    /// The rest comes again without new bytes after [`Conn::resume_reading`], and when reading
    /// goes on after a pause that output above the high mark has caused. A reset or a failed write
    /// ends every such wait: what was left then comes again, for as long as some of it is consumed,
    /// and then `on_close`. After `on_eof` the rest does not come again.
    ///
    /// A number larger than `input.len()` counts as `input.len()`.
    fn on_data(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, input: &[u8]) -> usize;

    /// Output fell to the low mark after it had reached the high mark: once per crossing.
    /// Default: nothing.
    fn on_drain(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        let _ = (state, conn);
    }

    /// The peer has finished sending; bytes that `on_data` has left unconsumed do not come again.
    /// Default: [`Conn::close_when_answered`]: close, once the output has left; later writes are
    /// refused. A handler whose answers come later, from a pool or another thread, counts them with
    /// [`Conn::begin_request`] and [`Conn::end_request`]: the connection is then closed with the
    /// last one.
    fn on_eof(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        let _ = state;
        conn.close_when_answered();
    }

    /// An idle limit has passed. Default: close, unless [requests](Conn::begin_request) are
    /// outstanding: a peer that waits for an answer is not idle.
    fn on_idle(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        let _ = (state, kind);
        if conn.outstanding_requests() > 0 { Idle::Keep } else { Idle::Close }
    }

    /// The deadline that the handler has set with [`Conn::set_deadline`] has passed. Here the
    /// handler can tell the peer why, before the end: a 408, a goodbye. [`Keep`](Deadline::Keep)
    /// keeps the connection and sets the next deadline, in the place of one that the callback has
    /// set. Default: reset, with `CloseReason::Timeout(TimeoutKind::User)`.
    ///
    /// Each connection has one deadline. It costs messages nothing, and moving it does not touch
    /// the timer wheel. So for a time that starts again with each request it is cheaper than a
    /// timer.
    ///
    /// # Examples
    /// A request must come within 10 seconds; if it does not, the peer gets a 408:
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::{Conn, Deadline, DeadlineKind, Handler, Peer};
    ///
    /// const PATIENCE: Duration = Duration::from_secs(10);
    ///
    /// struct Server;
    ///
    /// impl Handler for Server {
    ///     type State = ();
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<()> { Some(()) }
    ///
    ///     fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
    ///         conn.set_deadline(DeadlineKind::User, Some(PATIENCE));
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
    ///         conn.set_deadline(DeadlineKind::User, Some(PATIENCE));
    ///         conn.write(b"HTTP/1.1 204 No Content\r\n\r\n");
    ///         input.len()
    ///     }
    ///
    ///     fn on_deadline(
    ///         &mut self,
    ///         _: &mut (),
    ///         conn: &mut Conn<'_>,
    ///         _: DeadlineKind,
    ///     ) -> Deadline {
    ///         conn.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
    ///         Deadline::Close
    ///     }
    /// }
    /// ```
    fn on_deadline(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        kind: DeadlineKind,
    ) -> Deadline {
        let _ = (state, conn, kind);
        Deadline::Reset
    }

    /// A timer of the connection fired. Default: nothing.
    fn on_timer(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, timer: Timer) {
        let _ = (state, conn, timer);
    }

    /// The reactor is asked to stop gracefully ([`Context::drain`]). Default:
    /// [`Conn::close_when_answered`]. A handler in the middle of an answer may finish the answer
    /// first, and close then. What is still open at the deadline of the drain is cut.
    fn on_shutdown(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        let _ = state;
        conn.close_when_answered();
    }

    /// The connection has ended: exactly once for every `on_open`, and the last callback.
    /// Default: drops the state.
    fn on_close(&mut self, state: Self::State, closed: Closed, cx: &mut Context<'_>) {
        let _ = (state, closed, cx);
    }

    /// A connect has failed and will be tried again, as its [`Reconnect`](crate::Reconnect) policy
    /// says. Here the handler can report the failure, or give up: `conn.abort()` gives up at once,
    /// and `on_connect_failed` follows. What is written here waits until the connection is up.
    /// Default: nothing.
    ///
    /// # Examples
    /// ```
    /// # use std::io::ErrorKind;
    /// use waterwheel::{Conn, ConnectRetry, Handler, Peer};
    /// # struct Feed;
    /// impl Handler for Feed {
    /// #   type State = ();
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<()> { None }
    /// #   fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, i: &[u8]) -> usize { i.len() }
    ///     fn on_connect_retry(&mut self, _: &mut (), conn: &mut Conn<'_>, retry: &ConnectRetry) {
    ///         eprintln!("{}; again in {:?}", retry.error, retry.pause);
    ///         if retry.error.kind() == ErrorKind::PermissionDenied {
    ///             conn.abort(); // no pause mends a firewall
    ///         }
    ///     }
    /// }
    /// ```
    fn on_connect_retry(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        retry: &ConnectRetry,
    ) {
        let _ = (state, conn, retry);
    }

    /// An outgoing connection did not come up; `error` says which address and why. If the lookup
    /// of a name failed, its kind is one of those that [`Destination`](crate::Destination) lists.
    /// The state that was passed to `connect` comes back. Default: drops it, and logs a warning;
    /// the loop goes on.
    fn on_connect_failed(&mut self, state: Self::State, error: io::Error, cx: &mut Context<'_>) {
        let _ = (state, cx);
        log::warn!("{error} (the handler has no on_connect_failed)");
    }
}

impl<F> Handler for F
where
    F: FnMut(&mut Conn<'_>, &[u8]) -> usize + 'static,
{
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        self(conn, input)
    }
}
