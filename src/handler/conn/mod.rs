//! One live connection, lent to a callback.

mod files;
mod given_back;
mod parts;
mod requests;
#[cfg(unix)]
mod unix;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::close::IdleKind;
use crate::base::id::{ConnId, TimerId};
use crate::base::tcp_info::TcpInfo;
use crate::handler::event_loop::Loop;
use crate::handler::states::LentStates;
use crate::handler::{Context, Handler, HandlerKey};
#[cfg(feature = "tls")]
use crate::options::Layer;
use crate::options::{MAX_LIMIT, at_most};
use crate::stream::connection::{Connection, Flags};
use crate::stream::{Link, Written};
use crate::sys::{Credentials, Stream};

/// A connection, lent to a callback.
///
/// No call blocks, and each takes effect on this side at once. After `close` or `abort` the `Conn`
/// can still be used until the callback returns: every call is then harmless, and
/// [`write`](Self::write) returns `Closed`.
///
/// # Examples
/// ```
/// use waterwheel::{Conn, Reactor};
///
/// let mut reactor = Reactor::new()?;
/// let greet = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
///     conn.write(b"hello, ");
///     write!(conn, "{}", conn.peer_addr()); // both leave in one packet
///     conn.close();
///     input.len()
/// });
/// # let _ = greet;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Conn<'a> {
    lp: &'a mut Loop,
    /// Which one it is; [`ConnId::NONE`] for the one whose callback runs, which the cork knows:
    /// its small writes gather.
    other: ConnId,
    /// The states of the handler that runs, but for one that is in use.
    states: LentStates<'a>,
}

/// The kind of deadline that a handler sets, and that
/// [`Handler::on_deadline`](crate::Handler::on_deadline) gets.
///
/// The deadlines for the first byte, a message, a rate and the close follow from the limits of
/// the listener ([`Limits`](crate::Limits)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadlineKind {
    /// Whatever the handler waits for. Unless `on_deadline` says otherwise, the connection ends
    /// with `TimeoutKind::User` when it passes.
    User,
}

impl<'a> Conn<'a> {
    /// The connection whose callback runs.
    #[inline]
    pub(crate) fn current(lp: &'a mut Loop, states: LentStates<'a>) -> Self {
        Self { lp, other: ConnId::NONE, states }
    }

    /// Any connection.
    pub(crate) fn other(lp: &'a mut Loop, id: ConnId, states: LentStates<'a>) -> Self {
        let is_current = lp.engine.cork.is_owner(id);
        Self { lp, other: if is_current { ConnId::NONE } else { id }, states }
    }

    /// The slot stays until the callback has returned, whatever the callback does.
    fn slot(&self) -> &Connection<Stream> {
        self.lp.streams.slot(self.id()).expect("a connection keeps its slot while it is lent")
    }

    /// The connection's id. Keep it, and find the connection again with [`Context::conn`].
    #[must_use]
    pub fn id(&self) -> ConnId {
        if self.is_current() { self.lp.engine.cork.owner_id() } else { self.other }
    }

    /// Whether it is the one whose callback runs.
    #[inline]
    fn is_current(&self) -> bool {
        self.other == ConnId::NONE
    }

    /// The connection with the engine, if it has not ended.
    #[inline]
    fn link(&mut self) -> Option<Link<'_>> {
        self.lp.link(self.id())
    }

    /// Sends bytes: accepted whole, or refused whole.
    ///
    /// Small writes of one callback to its own connection leave together when it returns; writes to
    /// other connections leave at the end of the turn. What the kernel does not take is queued, and
    /// the reactor sends it in order. See [`Written`] for what the result means.
    ///
    /// A single write is also bounded by [`max_output_bytes`](crate::Limits::max_output_bytes),
    /// 16 MiB by default, less what is queued: write more in parts, as `on_drain` asks for them, or
    /// from a file with [`send_file`](Self::send_file).
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Written {
        if self.is_current() && self.lp.engine.cork.gather(bytes) {
            return Written::Below;
        }
        write_past_cork(self.lp, self.id(), bytes)
    }

    /// Ends the connection once everything written has left: flush, FIN, then `on_close`.
    ///
    /// A connection that is still connecting and has nothing to send fails with
    /// `on_connect_failed`; what was written before is sent once the connection is up.
    ///
    /// No more input is delivered. Until the peer finishes as well, or `close_timeout` has passed,
    /// what the peer still sends is read and dropped. If the socket were closed earlier, the kernel
    /// would answer with a reset, which can destroy output on its way. The timeout begins again
    /// whenever the socket takes some of the output, so a slow reader gets all of it.
    pub fn close(&mut self) {
        if let Some(mut link) = self.link() {
            link.close();
        }
    }

    /// Sends FIN once everything written has left, and goes on reading. When the peer has finished
    /// as well, the connection ends, with `CloseReason::Peer`. The call sets no deadline. If the
    /// connection is not up yet, what was written and FIN are sent once it is.
    pub fn shutdown_write(&mut self) {
        if let Some(mut link) = self.link() {
            link.shutdown_write();
        }
    }

    /// Ends the connection as [`close`](Self::close) does, but does not wait for the peer's end:
    /// once everything written has left, the socket is closed. It saves two system calls.
    ///
    /// Use it only if, by the protocol, the peer sends nothing more, and all that it has sent was
    /// read. Otherwise the kernel answers with a reset, which can destroy output on its way. Under
    /// TLS, and where bytes are known to be unread, the call does what `close` does.
    pub fn close_without_waiting(&mut self) {
        if let Some(mut link) = self.link() {
            link.close_without_waiting();
        }
    }

    /// Ends the connection at once: queued output is dropped and the peer gets a reset.
    ///
    /// A Unix socket has no reset: the peer reads what was sent so far, and then the end. On Linux
    /// the peer gets an error (`ConnectionReset`) only if it has sent something that was not read
    /// here. So a protocol over Unix sockets must mark the end of a message itself.
    pub fn abort(&mut self) {
        if let Some(mut link) = self.link() {
            link.abort();
        }
    }

    /// Stops reading: no `on_data` and no `on_eof` until reading resumes. The kernel's buffer
    /// fills, and TCP holds the peer back.
    ///
    /// Reading stays paused until `resume_reading` is called, however often it was paused. If the
    /// peer finishes (FIN) meanwhile, this is noticed only after that; a reset is noticed at once.
    /// After a reset, or when a file cannot be sent, the bytes received so far are delivered
    /// despite the pause.
    pub fn pause_reading(&mut self) {
        if let Some(mut link) = self.link() {
            link.pause_reading();
        }
    }

    /// Reads again, if reading is paused. Bytes that were left unconsumed before the pause, or that
    /// this callback leaves, are delivered again first, on their own, after this callback.
    pub fn resume_reading(&mut self) {
        if let Some(mut link) = self.link() {
            link.resume_reading();
        }
    }

    /// Whether the handler has paused reading.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lp.streams.get(self.id()).is_some_and(|connection| connection.flags.has(Flags::PAUSED))
    }

    /// Sets the idle limit of one kind for this connection, or none, from 1 ms to 49 days.
    ///
    /// The silence so far counts: a limit that has passed already ends the connection in this
    /// turn.
    ///
    /// # Errors
    /// - `InvalidInput`: the limit is out of range; the old one stays.
    pub fn set_idle_timeout(&mut self, kind: IdleKind, limit: Option<Duration>) -> io::Result<()> {
        crate::options::at_least_1ms("idle timeout", limit)?;
        at_most("idle timeout", limit, MAX_LIMIT)?;
        let limit = limit.map(crate::base::tick::ticks);
        if let Some(mut link) = self.link() {
            link.set_idle_limits(|limits| match kind {
                IdleKind::Read => limits.read = limit,
                IdleKind::Write => limits.write = limit,
                IdleKind::All => limits.all = limit,
            });
        }
        Ok(())
    }

    /// Sets the time after which `on_deadline` is called; `None` removes it. A connection has one
    /// deadline: setting it again replaces it, and bytes do not move it. By default
    /// `on_deadline` ends the connection with a reset and `CloseReason::Timeout`. A deadline that
    /// passes before the connection is up is reported after `on_open`.
    ///
    /// To move the deadline costs one reading of the clock and one store.
    pub fn set_deadline(&mut self, kind: DeadlineKind, wait: Option<Duration>) {
        let Some(mut link) = self.link() else { return };
        match kind {
            DeadlineKind::User => link.set_user_deadline(wait),
        }
    }

    /// Declares that a message is incomplete although `on_data` has consumed all bytes: a body that
    /// is streamed, for example. `message_timeout` and `min_receive_rate` then apply. Unconsumed
    /// bytes always count as an incomplete message.
    pub fn declare_incomplete(&mut self, incomplete: bool) {
        let Some(mut link) = self.link() else { return };
        if link.connection.flags.has(Flags::INCOMPLETE) != incomplete {
            link.connection.flags.put(Flags::INCOMPLETE, incomplete);
            // While reading is held back the peer is not the one who keeps us waiting.
            let is_timed = link.connection.waits_for_message();
            link.watch_message(is_timed, true);
        }
    }

    /// Sets a timer, which is dropped when the connection ends. `on_timer` is called once, not
    /// before the time has passed and at most 1 ms (a tick) after, plus the work of the turn. A
    /// timer that fires before the connection is up is lost: `on_timer` is not called. `on_timer`
    /// gets the `token`, whose meaning is the handler's own.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::{Conn, Handler, Peer, Timer};
    ///
    /// const PING: u64 = 0;
    /// const GIVE_UP: u64 = 1;
    ///
    /// struct Client;
    ///
    /// impl Handler for Client {
    /// #   type State = ();
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<()> { Some(()) }
    /// #   fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, i: &[u8]) -> usize { i.len() }
    ///     fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
    ///         conn.set_periodic_timer(Duration::from_secs(20), PING);
    ///         conn.set_timer(Duration::from_secs(3600), GIVE_UP);
    ///     }
    ///
    ///     fn on_timer(&mut self, _: &mut (), conn: &mut Conn<'_>, timer: Timer) {
    ///         if timer.token == PING {
    ///             conn.write(b"ping\n");
    ///         } else {
    ///             conn.close();
    ///         }
    ///     }
    /// }
    /// ```
    pub fn set_timer(&mut self, wait: Duration, token: u64) -> TimerId {
        self.link().map_or(TimerId::NONE, |mut link| link.set_timer(wait, false, token))
    }

    /// Sets a timer of this connection that fires again and again: each time counts from the last
    /// deadline, so that it does not drift; periods that were missed altogether are skipped. At
    /// least 1 ms, at most 49 days. Each call of `on_timer` gets the `token`.
    pub fn set_periodic_timer(&mut self, period: Duration, token: u64) -> TimerId {
        self.link().map_or(TimerId::NONE, |mut link| link.set_timer(period, true, token))
    }

    /// Cancels a timer. Returns `false` if it has fired already, or was cancelled before.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.lp.cancel_timer(timer)
    }

    /// Whether the connection is a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.slot().config.is_unix()
    }

    /// User, group and process of the peer, over a Unix socket, where the platform reports them;
    /// `None` otherwise. For an outgoing connection they are those of the process that made the
    /// listener.
    #[must_use]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        let connection = self.slot();
        if connection.config.is_unix() { connection.stream.credentials() } else { None }
    }

    /// The peer's address. Unspecified (`0.0.0.0:0`) for a Unix socket, which has no address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.slot().peer()
    }

    /// The address of this end.
    ///
    /// # Errors
    /// - `Unsupported`: it is a Unix socket, which has no address.
    /// - The system's, if the connection is broken already.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        if self.is_unix() {
            let text = "a Unix socket has no IP address; ask for its name instead";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.slot().stream.local_addr()
    }

    /// What the kernel knows of the connection now: its state, round-trip time, segments that are
    /// under way and that were sent again.
    ///
    /// A call takes seven system calls, some 30 microseconds: call it now and then, and not for
    /// every message.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Conn, Reactor};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
    ///     if let Ok(info) = conn.tcp_info() {
    ///         let again = info.retransmitted_segments;
    ///         println!("{}: {:?}, {again} sent again", info.state, info.round_trip_time);
    ///     }
    ///     conn.write(input);
    ///     input.len()
    /// });
    /// # let _ = echo;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - `NotConnected`: the kernel has no such connection, because it has ended or is not begun,
    ///   as while a name is looked up.
    /// - `Unsupported`: it is a Unix socket, the system is not Linux, or the world is simulated.
    /// - The system's: no descriptor is left, or a sandbox forbids sock_diag(7).
    ///
    /// # Platform notes
    /// Linux only, in the network namespace in which the connection was made. There is no safe call
    /// for `TCP_INFO` by descriptor, so the kernel is asked through a socket of its own that lives
    /// for the call.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        if self.is_unix() {
            let text = "a Unix socket has no TCP_INFO: there is no TCP in it";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let connection = self.slot();
        connection.stream.tcp_info(connection.peer())
    }

    /// For how long the peer has taken nothing of the output that waits for it; `None` if none
    /// waits. What is sent now stands behind that output. So a protocol that asks a silent peer for
    /// a sign of life takes the peer for lost when neither input has come nor output has moved.
    ///
    /// On Linux the output that waits in the kernel is counted, at the cost of a few system calls.
    /// On other systems only the output that the kernel has not taken is.
    #[must_use]
    pub fn output_stall(&self) -> Option<Duration> {
        self.lp.streams.get(self.id())?.output_stall(&self.lp.engine.timers)
    }

    /// Whether a connection of this reactor has not ended yet. For tables of ids, from which those
    /// that have ended are removed now and then; to use it, see [`other_conn`](Self::other_conn).
    #[must_use]
    pub fn knows(&self, id: ConnId) -> bool {
        self.lp.streams.get(id).is_some()
    }

    /// Bytes that were written and that the kernel has not taken, those of files among them.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        let gathered = self.lp.engine.cork.gathered(self.id());
        let connection = self.lp.streams.get(self.id());
        connection.map_or(0, |connection| connection.output_left().saturating_add(gathered))
    }

    /// Whether a write of so many bytes leaves at most `max_pending_bytes` pending, or meets an
    /// empty queue; `false` if the connection takes no output any more. For a publisher whose cap
    /// for slow readers is lower than `Limits::max_output_bytes`: the socket first gets what it
    /// takes, so that what was written in this turn makes nobody slow who reads.
    #[must_use]
    pub fn fits_under(&mut self, max_pending_bytes: usize, bytes: usize) -> bool {
        let fits = self.pending_bytes().saturating_add(bytes) <= max_pending_bytes;
        self.link().is_some_and(|mut link| {
            link.connection.takes_output() && (fits || link.fits_under(max_pending_bytes, bytes))
        })
    }

    /// The layer that its bytes pass through.
    #[cfg(feature = "tls")]
    pub(crate) fn layer(&self) -> Option<&dyn Layer> {
        self.lp.streams.get(self.id())?.layer()
    }

    /// Whether the peer's stream was cut: the socket has ended, but under TLS the peer had not sent
    /// `close_notify`. `on_eof` is called as for any end. A protocol in which the end of the stream
    /// is the end of a message must check this. Without TLS a cut cannot be recognised, and the
    /// result is `false`.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.lp.streams.get(self.id()).is_some_and(|connection| connection.is_truncated())
    }

    /// Bytes of input that `on_data` has left unconsumed; 0 within `on_data`.
    #[must_use]
    pub fn unconsumed_bytes(&self) -> usize {
        self.lp.streams.get(self.id()).map_or(0, |connection| connection.input().len())
    }

    /// The input that `on_data` has left unconsumed; empty within `on_data`. In `on_eof` it is a
    /// message that will never be complete, or a last line that no line break ends.
    ///
    /// # Examples
    /// A server of lines that takes a last line without a line break, too:
    /// ```
    /// use waterwheel::{Conn, Handler, Peer, frame};
    ///
    /// struct Shout;
    ///
    /// fn answer(conn: &mut Conn<'_>, line: &[u8]) {
    ///     conn.write_vectored(&[&line.to_ascii_uppercase(), b"\n"]);
    /// }
    ///
    /// impl Handler for Shout {
    ///     type State = ();
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<()> { Some(()) }
    ///
    ///     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
    ///         let mut lines = frame::lines(input, 1_024);
    ///         for line in lines.by_ref() {
    ///             match line {
    ///                 Ok(line) => answer(conn, line),
    ///                 Err(_) => conn.abort(), // the line is too long
    ///             }
    ///         }
    ///         lines.consumed()
    ///     }
    ///
    ///     fn on_eof(&mut self, _: &mut (), conn: &mut Conn<'_>) {
    ///         let last = conn.unconsumed().to_vec();
    ///         if !last.is_empty() {
    ///             answer(conn, &last);
    ///         }
    ///         conn.close();
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn unconsumed(&self) -> &[u8] {
        self.lp.streams.get(self.id()).map_or(&[], |connection| connection.input())
    }

    /// Another connection, or `None` if it has ended. `conn.context().conn(id)` finds the same, but
    /// the compiler lets you use that result in one statement only.
    #[must_use]
    pub fn other_conn(&mut self, id: ConnId) -> Option<Conn<'_>> {
        self.lp.streams.get(id)?;
        Some(Conn::other(self.lp, id, self.states.reborrow()))
    }

    /// Passes input on to another connection, as a proxy does in `on_data`. Returns how many bytes
    /// that is: all of them. They leave at the end of the turn; 16 KiB or more leave at once, if
    /// the other connection has no layer, such as TLS, and no output that waits, and if the turn
    /// has room: about 1 MiB leaves so before others go first.
    ///
    /// When the output of the other connection reaches the high mark, reading of this one is
    /// paused. `on_drain` of the other one must then call [`resume_reading`](Self::resume_reading)
    /// for this one. If the other one has ended, or has no room, this one is
    /// [aborted](Self::abort), because its peer must not take a part for the whole. Both need
    /// [`pause_at_high_mark(false)`](crate::Limits::pause_at_high_mark), because each is held back
    /// by the other one and not by its own output. The chapter [`tour::coming_from`] has a whole
    /// proxy.
    ///
    /// [`tour::coming_from`]: crate::tour::coming_from
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Conn, ConnId, Handler, Peer};
    ///
    /// struct Pipe;
    ///
    /// impl Handler for Pipe {
    ///     type State = Option<ConnId>; // the other side
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<Self::State> { None }
    ///
    ///     fn on_data(&mut self, to: &mut Self::State, conn: &mut Conn<'_>, data: &[u8]) -> usize {
    ///         match *to {
    ///             Some(to) => conn.pass_on(to, data),
    ///             None => 0, // it comes again
    ///         }
    ///     }
    ///
    ///     fn on_drain(&mut self, from: &mut Self::State, conn: &mut Conn<'_>) {
    ///         if let Some(mut from) = from.and_then(|id| conn.other_conn(id)) {
    ///             from.resume_reading();
    ///         }
    ///     }
    /// }
    /// ```
    pub fn pass_on(&mut self, to: ConnId, input: &[u8]) -> usize {
        match pass_on(self.lp, to, input) {
            Written::Below => {}
            Written::Above => self.pause_reading(),
            Written::Full | Written::Closed => self.abort(),
        }
        input.len()
    }

    /// Borrows this connection for a shorter time, for a struct of yours that holds a `Conn` by
    /// value.
    #[must_use]
    #[inline]
    pub fn reborrow(&mut self) -> Conn<'_> {
        Conn { lp: self.lp, other: self.other, states: self.states.reborrow() }
    }

    /// The key of the handler that serves the connection, for a handler that does not store its own
    /// key. The type `H` is not checked: with the wrong type the key finds nothing where it is
    /// used.
    #[must_use]
    pub fn handler_key<H: Handler>(&self) -> HandlerKey<H> {
        HandlerKey::new(self.slot().config.service)
    }

    /// Whether writes are accepted: the connection is neither closed nor shut down for writing.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.lp.streams.get(self.id()).is_some_and(|connection| connection.takes_output())
    }

    /// The loop: other connections and their states, timers of handlers, the clock.
    pub fn context(&mut self) -> Context<'_> {
        Context::lending(self.lp, self.states.reborrow())
    }
}

/// A write for which the cork has no room. Apart from the method, and without the [`Conn`]: what
/// a callback does not use of that need not even be stored.
#[inline(never)]
fn write_past_cork(lp: &mut Loop, id: ConnId, bytes: &[u8]) -> Written {
    lp.link(id).map_or(Written::Closed, |mut link| link.write(bytes))
}

/// A write of what another connection has received. Apart from the method, like the one above.
#[inline(never)]
fn pass_on(lp: &mut Loop, to: ConnId, input: &[u8]) -> Written {
    if lp.engine.cork.is_owner(to) && lp.engine.cork.gather(input) {
        return Written::Below;
    }
    lp.link(to).map_or(Written::Closed, |mut link| link.pass_on(input))
}
