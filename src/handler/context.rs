//! The loop, lent to a callback.

use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::base::close::CloseReason;
use crate::base::id::{ConnId, SocketId, TimerId};
use crate::base::stats::Stats;
use crate::engine::Stop;
use crate::engine::observer::{LoopState, Observer, ObserverKey};
use crate::handler::datagram::DatagramFace;
use crate::handler::event_loop::{Loop, Posted};
use crate::handler::resolve::{first_of, without_lookup};
use crate::handler::states::LentStates;
use crate::handler::{
    Conn, DatagramHandler, DatagramSocket, Handler, HandlerKey, Remote, TimerHandler,
};
use crate::options::{ConnectOptions, Destination, UdpOptions};
use crate::stream::Closed;

/// The loop, lent to a callback.
///
/// # Examples
/// Passing what one connection says on to another:
/// ```
/// use waterwheel::{Conn, ConnId};
/// fn pass_on(conn: &mut Conn<'_>, other: ConnId, bytes: &[u8]) -> bool {
///     match conn.context().conn(other) {
///         Some(mut other) => other.write(bytes).is_accepted(),
///         None => false, // it has ended meanwhile
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Context<'a> {
    lp: &'a mut Loop,
    /// The states of the handler that runs, but for one that is in use.
    states: LentStates<'a>,
}

/// A connection whose state is lent to a closure: a panic in there ends it, whoever has called.
struct Lent<'a> {
    lp: &'a mut Loop,
    id: ConnId,
}

impl Drop for Lent<'_> {
    /// Comes of a panic only: elsewhere it is forgotten.
    fn drop(&mut self) {
        if let Some(mut link) = self.lp.link(self.id) {
            link.mark_closed_reset(CloseReason::Panic);
        }
    }
}

impl<'a> Context<'a> {
    /// Where no handler runs, or one that has no connections.
    #[inline]
    pub(crate) fn new(lp: &'a mut Loop) -> Self {
        Self::lending(lp, LentStates::NONE)
    }

    /// Where a handler of connections runs.
    #[inline]
    pub(crate) fn lending(lp: &'a mut Loop, states: LentStates<'a>) -> Self {
        Self { lp, states }
    }

    /// What it is a face of, and the states that it lends.
    #[cfg(unix)]
    pub(super) fn parts(&mut self) -> (&mut Loop, LentStates<'_>) {
        (self.lp, self.states.reborrow())
    }

    /// What it is a face of.
    pub(crate) fn event_loop(&mut self) -> &mut Loop {
        self.lp
    }

    /// A connection of any handler of this reactor; `None` if it has ended, or ends in this turn.
    /// In `on_close` the connection that has ended is not found.
    #[must_use]
    pub fn conn(&mut self, id: ConnId) -> Option<Conn<'_>> {
        self.lp.streams.get(id)?;
        Some(Conn::other(self.lp, id, self.states.reborrow()))
    }

    /// Another connection of the handler that runs, with its state, for the time of a closure.
    ///
    /// `handler` is the key of the handler that runs. `with` works in all its callbacks, also
    /// through [`Conn::context`] and [`DatagramSocket::context`], in `on_message` and in closures
    /// that are posted to it. The closure runs at once. It may write, close and set timers as
    /// usual, and what it writes to that connection leaves at the end of the turn. Within the
    /// closure `with` finds further connections; three closures may run within one another, and in
    /// the third it may find none. A panic of the closure counts as a panic of the callback that
    /// called `with`, and ends the connection that was lent as well, because its state and its
    /// output may have been left half-way.
    ///
    /// Returns `None`, and does not run the closure,
    /// - for the connection whose callback runs: its state is lent already;
    /// - for a connection of another handler: [`post`](Self::post) reaches that;
    /// - for a connection that has ended or is marked closed, and for an id of another reactor;
    /// - for a connection that was begun by [`connect`](Self::connect) in this turn: the handler
    ///   has its state from the end of the turn on;
    /// - where no handler runs that serves connections, as in
    ///   [`Reactor::context`](crate::Reactor::context).
    ///
    /// # Examples
    /// A proxy whose upstream reports to the state of the client that it is up:
    /// ```
    /// use waterwheel::{Conn, ConnId, Handler, Peer, HandlerKey};
    ///
    /// struct Proxy { service: HandlerKey<Proxy> }
    ///
    /// enum Side {
    ///     Client { is_ready: bool },
    ///     Upstream { client: ConnId },
    /// }
    ///
    /// impl Handler for Proxy {
    ///     type State = Side;
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<Side> { None }
    /// #   fn on_data(&mut self, _: &mut Side, _: &mut Conn<'_>, i: &[u8]) -> usize { i.len() }
    ///
    ///     fn on_open(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
    ///         let Side::Upstream { client } = *side else { return };
    ///         let told = conn.context().with(self.service, client, |side, conn| {
    ///             if let Side::Client { is_ready } = side {
    ///                 *is_ready = true;
    ///                 conn.write(b"200 connected\r\n");
    ///             }
    ///         });
    ///         if told.is_none() {
    ///             conn.close(); // the client has ended meanwhile
    ///         }
    ///     }
    /// }
    /// ```
    pub fn with<H: Handler, R>(
        &mut self,
        handler: HandlerKey<H>,
        id: ConnId,
        call: impl FnOnce(&mut H::State, &mut Conn<'_>) -> R,
    ) -> Option<R> {
        let (streams, running) = (&self.lp.streams, self.lp.engine.cork.owner_id());
        let handler_of = |id| streams.slot(id).map(|connection| connection.config.service);
        let lent = self.states.handler(|| handler_of(running));
        let connection = streams.get(id)?;
        if (lent, connection.config.service) != (Some(handler.index()), handler.index()) {
            return None;
        }
        let place = connection.state;
        let lent = Lent { lp: self.lp, id };
        let (mut call, mut result) = (Some(call), None);
        self.states.lend(handler.index(), place, |state, mut left| {
            let Some(call) = call.take() else { return };
            result = Some(call(state, &mut Conn::other(lent.lp, id, left.reborrow())));
        });
        mem::forget(lent);
        result
    }

    /// The other connections of the handler that runs, each with its state, one after the other:
    /// those that [`with`](Self::with) finds, in no order. So a handler that publishes keeps no
    /// list of ids.
    ///
    /// A call looks at each connection of the reactor, also those of other handlers, some
    /// nanoseconds each, and at each free place before the last of them: after a burst of 1,000, of
    /// which only the last lives, it looks at 1,000 places. If only a few of many are wanted, keep
    /// their ids, and use `with`.
    ///
    /// # Examples
    /// A chat, in which each line goes to all others:
    /// ```
    /// use waterwheel::{Conn, Handler, HandlerKey, Peer};
    ///
    /// struct Room { key: HandlerKey<Room> }
    ///
    /// #[derive(Default)]
    /// struct Member { is_muted: bool }
    ///
    /// impl Handler for Room {
    ///     type State = Member;
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<Member> { Some(Member::default()) }
    ///
    ///     fn on_data(&mut self, own: &mut Member, conn: &mut Conn<'_>, line: &[u8]) -> usize {
    ///         if !own.is_muted {
    ///             conn.context().with_each(self.key, |_, other| {
    ///                 other.write(line);
    ///             });
    ///         }
    ///         line.len()
    ///     }
    /// }
    /// ```
    pub fn with_each<H: Handler>(
        &mut self,
        handler: HandlerKey<H>,
        mut call: impl FnMut(&mut H::State, &mut Conn<'_>),
    ) {
        let slots = self.lp.engine.stats.connections_peak as u32; // at most 2^24
        let mut left = self.lp.streams.len();
        for slot in 0..slots {
            let id = self.lp.streams.id_at(slot);
            if id == ConnId::NONE {
                continue;
            }
            let before = self.lp.streams.len();
            self.with(handler, id, &mut call);
            // What the call has opened may come before the others.
            left += self.lp.streams.len() - before;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }

    /// Whether connections end because the reactor stops.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lp.engine.is_stopping()
    }

    /// Whether a callback of a connection runs.
    pub(crate) fn is_in_callback(&self) -> bool {
        self.lp.engine.cork.owner().is_some()
    }

    /// The number of the turn that goes on.
    #[inline]
    pub(crate) fn turn(&self) -> u64 {
        self.lp.engine.stats.turns
    }

    /// Runs a callback of a connection that no event of its own brings about; `None` if it has
    /// ended. Only where no other connection's callback runs.
    pub(crate) fn call<R>(
        &mut self,
        id: ConnId,
        call: impl FnOnce(&mut Conn<'_>) -> R,
    ) -> Option<R> {
        debug_assert!(!self.is_in_callback());
        let room = self.lp.streams.get(id)?.cork_room();
        self.lp.engine.timers.note_active(id);
        self.lp.engine.cork.begin(id, room);
        let result = call(&mut Conn::current(self.lp, self.states.reborrow()));
        let written = self.lp.streams.uncork(&mut self.lp.engine, id);
        if written > 0 {
            self.lp.engine.observers.tell(|observer| observer.on_written(id, written));
        }
        Some(result)
    }

    /// A UDP socket, if it has not been closed.
    #[must_use]
    pub fn socket(&mut self, id: SocketId) -> Option<DatagramSocket<'_>> {
        let is_unix = self.lp.datagrams.socket(id)?.inner.is_unix();
        (!is_unix).then(|| DatagramSocket::new(self.lp, id, self.states.reborrow()))
    }

    /// Binds a UDP socket and serves it with a handler of datagrams; returns its id, and its
    /// address with the real port. Of several addresses the first that can be bound is used.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, the key is of another reactor, or the address
    ///   is a name, whose lookup would wait: see [`resolve`](Self::resolve).
    /// - `Other`: the reactor is stopping.
    /// - `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` and others of the system; the text
    ///   names the address and says what would do.
    pub fn bind_udp<H: DatagramHandler>(
        &mut self,
        addr: impl Into<Destination>,
        handler: HandlerKey<H>,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.lp.check_key(handler)?;
        let addrs = without_lookup(addr)?;
        let Loop { datagrams, engine, .. } = &mut *self.lp;
        let by = DatagramFace::of(handler);
        first_of(&addrs, |addr| datagrams.bind_udp(engine, addr, by, options))
    }

    /// Makes a UDP socket with one peer and serves it with a handler of datagrams; returns its id
    /// and its own address.
    ///
    /// # Errors
    /// - Those of [`bind_udp`](Self::bind_udp); `NetworkUnreachable` if there is no route.
    pub fn connect_udp<H: DatagramHandler>(
        &mut self,
        to: impl Into<Destination>,
        handler: HandlerKey<H>,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.lp.check_key(handler)?;
        let addrs = without_lookup(to)?;
        let Loop { datagrams, engine, .. } = &mut *self.lp;
        let by = DatagramFace::of(handler);
        first_of(&addrs, |to| datagrams.connect_udp(engine, to, by, options))
    }

    /// Begins a connection, without waiting: `on_open` or `on_connect_failed` of the handler
    /// follows. Until then writes are queued, under the same cap.
    ///
    /// `to` is an address, `"host:port"` or a Unix socket; see [`Destination`]. Several addresses
    /// are tried in turn, IPv6 and IPv4 alternately: the next one when the one before has failed or
    /// is not up within `attempt_delay`. The first that comes up wins (RFC 8305). One deadline,
    /// `timeout`, covers it all. Until the connection is up, [`Conn::peer_addr`] returns the
    /// address that was passed, or an unspecified one if there are several or a name.
    pub fn connect<H: Handler>(
        &mut self,
        to: impl Into<Destination>,
        handler: HandlerKey<H>,
        state: H::State,
        options: &ConnectOptions,
    ) -> ConnId {
        self.lp.connect(to.into(), handler, state, options)
    }

    /// Connects again after a connection was lost. Call it in `on_close`. The pause and the number
    /// of attempts follow from the [`Reconnect`](crate::Reconnect) policy of the connection that
    /// was lost. `on_open` or `on_connect_failed` follows, with the state that is passed here. An
    /// attempt for which no descriptor is left fails like any other.
    ///
    /// # Errors
    /// The state is returned if the connection was accepted or had no policy, if the state is of
    /// another type than the one that [`connect`](Self::connect) took (an error is logged), if the
    /// last `max_attempts` attempts failed or were lost soon, or if the reactor is stopping.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Closed, Conn, Context, Handler, Peer};
    /// struct Feed;
    /// impl Handler for Feed {
    ///     type State = u64; // the last number that was seen
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<u64> { None }
    ///     fn on_data(&mut self, last: &mut u64, _: &mut Conn<'_>, input: &[u8]) -> usize {
    ///         *last += input.len() as u64;
    ///         input.len()
    ///     }
    ///     fn on_close(&mut self, last: u64, closed: Closed, cx: &mut Context<'_>) {
    ///         if let Err(last) = cx.reconnect(&closed, last) {
    ///             eprintln!("the feed is lost at {last}: {}", closed.reason);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn reconnect<S: 'static>(&mut self, closed: &Closed, state: S) -> Result<ConnId, S> {
        self.lp.reconnect(closed, state)
    }

    /// Connects again like [`Self::reconnect`], where a handshake above the connection has failed:
    /// a failed try, also if the connection was up long enough to count as one that has lasted.
    /// `why` is for the log.
    #[cfg_attr(not(feature = "ws"), expect(dead_code, reason = "a client of WebSocket alone does"))]
    pub(crate) fn retry_handshake<S: 'static>(
        &mut self,
        closed: &Closed,
        state: S,
        why: &dyn fmt::Display,
    ) -> Result<ConnId, S> {
        let Some(dial) = &closed.dial else { return Err(state) };
        dial.recall();
        let id = self.reconnect(closed, state)?;
        log::debug!("{}: {}: {why}; trying again as {id}", closed.id, dial.destination);
        self.lp.engine.stats.connect_retries += 1;
        Ok(id)
    }

    /// Sets a timer of a handler: `on_handler_timer` is called once, not before the time has passed
    /// and at most 1 ms (a tick) after, plus the work of the turn. The callback gets the `token`,
    /// whose meaning is the handler's own: see [`Timer`](crate::Timer). A timer that is set with
    /// the key of another reactor never fires, and an error is logged.
    pub fn set_timer<H: TimerHandler>(
        &mut self,
        handler: HandlerKey<H>,
        wait: Duration,
        token: u64,
    ) -> TimerId {
        self.lp.set_handler_timer(handler, wait, false, token)
    }

    /// Sets a timer of a handler that fires again and again: each time counts from the last
    /// deadline, so that it does not drift; periods that were missed altogether are skipped. At
    /// least 1 ms, at most 49 days. Each call of `on_handler_timer` gets the `token`.
    pub fn set_periodic_timer<H: TimerHandler>(
        &mut self,
        handler: HandlerKey<H>,
        period: Duration,
        token: u64,
    ) -> TimerId {
        self.lp.set_handler_timer(handler, period, true, token)
    }

    /// Cancels a timer of a handler or of a connection. Returns `false` if it has fired already, or
    /// was cancelled before.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.lp.cancel_timer(timer)
    }

    /// Runs a closure with a handler on this thread, in the next mailbox phase, after this callback
    /// has returned. Use it to reach another handler of any kind, or your own one from a function
    /// that has only the context.
    ///
    /// A closure that waits when the reactor stops is dropped, unless it was posted while a panic
    /// unwound: of those a stop runs 4,096. So a callback that has several things to tell can have
    /// a guard whose `Drop` posts what a panic has left of them. If the reactor is dropped by a
    /// thread that unwinds, all that its last callbacks post counts as such.
    pub fn post<H: 'static>(
        &mut self,
        handler: HandlerKey<H>,
        task: impl FnOnce(&mut H, &mut Context<'_>) + 'static,
    ) {
        let (handler, call) = (handler.index(), Box::new(task_for(task)));
        let is_rest = std::thread::panicking();
        self.lp.posts.calls.push_back(Posted { handler, call, is_rest });
    }

    /// Time since the reactor was made, as sampled once at the beginning of the turn, in steps of
    /// 1 ms.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.lp.engine.now())
    }

    /// Returns a time at which the turn of `stamp` was surely over. A stamp is what
    /// [`now`](Self::now) returned in that turn. An event that got this stamp may have happened as
    /// late as the end of the turn. A limit that must give its whole time therefore counts from
    /// there, even if a callback took long:
    ///
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::Context;
    ///
    /// /// Whether a call that was made in the turn of `stamp` has had its time.
    /// fn is_over(stamp: Duration, limit: Duration, cx: &Context<'_>) -> bool {
    ///     let now = cx.now();
    ///     // The second look is for those alone that seem to be over.
    ///     now >= stamp + limit && now >= cx.turn_end(stamp) + limit
    /// }
    /// ```
    ///
    /// For most turns that is a millisecond after `stamp`. The ends of turns are kept for eight
    /// minutes. For older turns the length of the longest turn so far is assumed. Timers and
    /// deadlines do not need this, because the clock is read again when they are set. The loop
    /// records the end of a turn only while a timer is set: see
    /// [`Stats::turn_times`](crate::Stats::turn_times).
    #[must_use]
    pub fn turn_end(&self, stamp: Duration) -> Duration {
        let tick = u64::try_from(stamp.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.lp.engine.timers.turn_end(tick).saturating_add(1))
    }

    /// The time of day, by the system's clock, which may be set back and forth. In a simulated
    /// world it goes on from 2020-01-01, 0:00 UTC, when the world was made.
    #[must_use]
    pub fn system_time(&self) -> SystemTime {
        self.lp.engine.timers.system_time()
    }

    /// Whether the reactor runs in a simulated world (`waterwheel::sim`). There a handler must
    /// start no threads, and use no other clock than this one.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.lp.engine.io.world().is_simulated()
    }

    /// A random number, to spread what many would do at once. This number is no secret. A key, the
    /// id of a DNS question, and whatever else a stranger must not guess need another source, such
    /// as the crate `getrandom`. In a simulated world the number follows from the seed.
    #[must_use]
    pub fn random(&mut self) -> u64 {
        self.lp.engine.io.world().random()
    }

    /// What the reactor has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.lp.engine.stats
    }

    /// How the queues of the loop and its timer wheel stand, in this moment of the turn.
    #[must_use]
    pub fn loop_state(&self) -> LoopState {
        let posts = &self.lp.posts;
        let messages = posts.mailbox.len() + posts.calls.len();
        LoopState { messages, ..self.lp.engine.state() }
    }

    /// Sets a mark that is reported to the observers of the reactor, such as the name of a step
    /// that begins. Without an observer nothing happens. See [`observer`](crate::observer).
    pub fn mark(&mut self, name: &'static str) {
        self.lp.engine.observers.tell(|observer| observer.on_mark(name));
    }

    /// An observer of the reactor, to look at what it has gathered; `None` if the key is of another
    /// reactor. A closure of [`Remote::with`](crate::Remote::with) gets at it from another thread.
    #[must_use]
    pub fn observer<O: Observer>(&mut self, key: ObserverKey<O>) -> Option<&mut O> {
        self.lp.engine.observers.get(key)
    }

    /// Stops the loop at the end of the turn: every connection ends with
    /// `CloseReason::Shutdown`, and `Reactor::run` returns.
    pub fn stop(&mut self) {
        self.lp.engine.stop(Stop::Now);
    }

    /// Stops the loop gracefully. Listeners close, `on_shutdown` is called for each connection,
    /// queued output is sent, and the loop waits for the peers to finish. What is left when
    /// `deadline` has passed is cut. All connections end with `CloseReason::Shutdown`. Until the
    /// deadline the loop also waits for peers that ignore our FIN, and for queued datagrams. Of
    /// several calls the earliest deadline holds.
    pub fn drain(&mut self, deadline: Duration) {
        self.lp.engine.stop(Stop::Drain(deadline));
    }

    /// A handle to this reactor for other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(self.lp.posts.mailbox.clone())
    }
}

/// Makes a closure that knows its handler's type fit the queue that does not.
pub(super) fn task_for<H: 'static>(
    task: impl FnOnce(&mut H, &mut Context<'_>),
) -> impl FnOnce(&mut dyn Any, &mut Context<'_>) {
    move |handler, cx| match handler.downcast_mut::<H>() {
        Some(handler) => task(handler, cx),
        None => log::error!("a closure was posted with the key of another reactor"),
    }
}
