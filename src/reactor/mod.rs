//! The loop: owns everything, and turns.

mod accept;
mod callback;
mod channels;
mod datagram;
mod dispatch;
mod expiry;
mod first_read;
mod handshake;
mod layers;
mod outgoing;
mod resolve;
mod stop;
mod teardown;
mod turn;
#[cfg(unix)]
mod unix;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "unix_message_stub.rs")]
mod unix_message;

use std::any::type_name;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::id::{ConnId, TimerId};
use crate::base::panics::drop_quietly;
use crate::base::stats::Stats;
use crate::engine::Running;
use crate::engine::observer::{Observer, ObserverKey};
use crate::handler::{
    Context, Entry, Handler, HandlerKey, Known, Loop, Remote, TimerHandler, first_of,
};
use crate::options::{ConnectOptions, Destination, ListenOptions, ReactorOptions};
use crate::stream::{adopt, warn_of_silence};
use crate::sys::{Events, World};
use dispatch::Dispatcher;
use turn::end_turn;

/// The event loop: one thread, one poll, all connections.
///
/// A reactor is not `Send`, since its handlers need not be. Make it on the thread that runs it, and
/// send its [`Remote`] to the others: see [the pattern](crate::tour::coming_from).
///
/// # Examples
/// An echo server:
/// ```no_run
/// use waterwheel::{Conn, ListenOptions, Reactor};
///
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
///     conn.write(input);
///     input.len()
/// });
/// let addr = reactor.listen("127.0.0.1:0", echo, ListenOptions::default())?;
/// println!("listening on {addr}");
/// reactor.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A test that drives the loop by hand:
/// ```
/// use std::time::Duration;
/// use waterwheel::Reactor;
///
/// let mut reactor = Reactor::new()?;
/// let goes_on = reactor.run_once(Some(Duration::ZERO))?;
/// assert!(goes_on);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Other threads and async runtimes
/// A `Reactor` is not `Send`, because handlers may hold what is not, `Rc` for example. So a thread
/// makes its reactor, runs it and drops it. What leaves the thread is its [`Remote`], its keys and
/// the [`Sender`](crate::Sender) of a channel; each of them is `Send`:
/// ```
/// use std::sync::mpsc;
/// use std::thread;
/// use waterwheel::{Conn, Reactor};
///
/// let (door, opened) = mpsc::channel();
/// let thread = thread::spawn(move || -> std::io::Result<()> {
///     let mut reactor = Reactor::new()?;
///     let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
///         conn.write(input);
///         input.len()
///     });
///     let _ = door.send((reactor.remote(), echo));
///     reactor.run()
/// });
/// let (remote, echo) = opened.recv().expect("the reactor is made");
/// remote.with(echo, |_, cx| cx.stop()).expect("the reactor runs");
/// thread.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
/// A task of an async runtime uses [`Remote::with`], too: the closure sends its answer through a
/// oneshot channel, on which the task awaits. In the other direction a handler spawns a task on the
/// runtime's handle. The task sends its result back with `Remote::with` and a [`ConnId`]. The
/// program `beside_tokio` of the repository does both with tokio.
pub struct Reactor {
    /// What the last poll reported.
    events: Events,
    /// Engine and handlers.
    dispatcher: Dispatcher,
    /// The last turn is counted, and what moved in it is stamped with its end. The caller that
    /// drives the loop may have let time pass since.
    is_stamped: bool,
    /// A descriptor that asks to drain by becoming readable.
    #[cfg(unix)]
    drain_fd: Option<std::os::fd::OwnedFd>,
}

impl Reactor {
    /// A reactor with default options.
    ///
    /// # Errors
    /// - The system's, if no descriptor is left for a poll and a waker: see
    ///   [`raise_open_file_limit`](crate::raise_open_file_limit).
    pub fn new() -> io::Result<Self> {
        Self::with_options(ReactorOptions::default())
    }

    /// A reactor.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range.
    /// - The system's, if no descriptor is left for a poll and a waker: see
    ///   [`raise_open_file_limit`](crate::raise_open_file_limit).
    pub fn with_options(options: ReactorOptions) -> io::Result<Self> {
        Self::in_world(World::Os, options)
    }

    /// A reactor with the sockets, the poll and the clock of a world.
    pub(crate) fn in_world(world: World, options: ReactorOptions) -> io::Result<Self> {
        options.check()?;
        let events_per_turn = options.events_per_turn;
        let dispatcher = Dispatcher::new(Loop::new(world, options)?);
        let events = dispatcher.lp.engine.io.poller().events(events_per_turn);
        Ok(Self {
            events,
            dispatcher,
            is_stamped: true,
            #[cfg(unix)]
            drain_fd: None,
        })
    }

    /// Registers a handler of any kind; returns its key.
    ///
    /// The calls that take the key decide what the handler is called for. Each of them needs the
    /// handler to implement a trait:
    ///
    /// | call | trait |
    /// |---|---|
    /// | `listen`, `adopt`, `connect`, `listen_unix` | [`Handler`]: connections |
    /// | `bind_udp`, `connect_udp` | [`DatagramHandler`](crate::udp::DatagramHandler) |
    /// | `bind_sessions` | [`SessionHandler`](crate::udp::SessionHandler): a state for each peer |
    /// | `bind_unix_datagrams`, `connect_unix_datagrams` | `UnixDatagramHandler` |
    /// | `set_timer`, `set_periodic_timer` | [`TimerHandler`](crate::TimerHandler) |
    /// | `channel`, `unbounded_channel` | [`Receive`](crate::Receive) |
    /// | `post`, `resolve`, [`Remote::with`] | none: their closures get the handler |
    ///
    /// # Examples
    /// A server of questions over UDP and TCP, as a DNS server is, which counts both in one value:
    /// ```
    /// use std::net::SocketAddr;
    /// use waterwheel::udp::{DatagramHandler, DatagramSocket, UdpOptions};
    /// use waterwheel::{Conn, Handler, ListenOptions, Peer, Reactor};
    ///
    /// #[derive(Default)]
    /// struct Server { questions: u64 }
    ///
    /// impl Handler for Server {
    ///     type State = ();
    ///
    ///     fn on_accept(&mut self, _: &Peer) -> Option<()> {
    ///         Some(())
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, question: &[u8]) -> usize {
    ///         self.questions += 1;
    ///         conn.write(b"an answer");
    ///         question.len()
    ///     }
    /// }
    ///
    /// impl DatagramHandler for Server {
    ///     fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, _: &[u8]) {
    ///         self.questions += 1;
    ///         socket.send_to(from, b"an answer");
    ///     }
    /// }
    ///
    /// let mut reactor = Reactor::new()?;
    /// let server = reactor.register(Server::default());
    /// let addr = reactor.listen("127.0.0.1:0", server, ListenOptions::default())?;
    /// reactor.bind_udp(addr, server, UdpOptions::default())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    /// The compiler refuses a call whose trait the handler does not implement:
    /// ```compile_fail,E0277
    /// use waterwheel::udp::UdpOptions;
    /// use waterwheel::{Conn, Reactor};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let streams = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    /// reactor.bind_udp("127.0.0.1:0", streams, UdpOptions::default())?; // no DatagramHandler
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn register<H: 'static>(&mut self, handler: H) -> HandlerKey<H> {
        let Dispatcher { callbacks, lp, .. } = &mut self.dispatcher;
        let index = callbacks.handlers.len() as u32;
        callbacks.handlers.push(Entry::new(handler));
        lp.handlers.push(Known::new::<H>());
        lp.engine.observers.note_handler(type_name::<H>());
        HandlerKey::new(index)
    }

    /// Registers a handler that wants to know its own key: to connect, to set timers, to bind
    /// sockets.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Conn, Handler, Peer, Reactor, HandlerKey};
    ///
    /// struct Client { service: HandlerKey<Client> }
    /// # impl Handler for Client {
    /// #     type State = ();
    /// #     fn on_accept(&mut self, _: &Peer) -> Option<()> { None }
    /// #     fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, i: &[u8]) -> usize { i.len() }
    /// # }
    ///
    /// let mut reactor = Reactor::new()?;
    /// let client = reactor.register_with(|service| Client { service });
    /// assert_eq!(reactor.handler_mut(client).map(|client| client.service), Some(client));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn register_with<H: 'static>(
        &mut self,
        handler: impl FnOnce(HandlerKey<H>) -> H,
    ) -> HandlerKey<H> {
        let service = HandlerKey::new(self.dispatcher.callbacks.handlers.len() as u32);
        self.register(handler(service))
    }

    /// Binds an address and serves it with a handler; returns the address with its real port.
    ///
    /// The address is whatever [`connect`](Self::connect) takes, too: `"127.0.0.1:7000"`,
    /// `("::1", 7000)`, a [`SocketAddr`]. A name such as `"localhost:7000"` is looked up by
    /// [`resolve_now`](Self::resolve_now), which waits. Of several addresses the first that can be
    /// bound is used.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, or the text is no address.
    /// - Those of a lookup, of the kinds that [`Destination`] lists.
    /// - `Other`: the reactor is stopping.
    /// - `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` and others of the system; the text
    ///   names the address and says what to do.
    pub fn listen<H: Handler>(
        &mut self,
        addr: impl Into<Destination>,
        handler: HandlerKey<H>,
        options: ListenOptions,
    ) -> io::Result<SocketAddr> {
        let addrs = self.resolve_now(addr)?;
        self.serve_streams(handler)?;
        let Loop { streams, engine, .. } = &mut self.dispatcher.lp;
        first_of(&addrs, |addr| streams.listen(engine, addr, handler.index(), &options))
    }

    /// Serves a socket that is bound and set to listen already. The options for binding (backlog,
    /// reuse, `only_v6`) do not apply.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range.
    /// - The system's, if the socket does not take an option.
    pub fn adopt<H: Handler>(
        &mut self,
        listener: std::net::TcpListener,
        handler: HandlerKey<H>,
        options: ListenOptions,
    ) -> io::Result<SocketAddr> {
        self.serve_streams(handler)?;
        let Loop { streams, engine, .. } = &mut self.dispatcher.lp;
        let socket = adopt(engine, listener, &options)?;
        let (_, addr) = streams.add_listener(engine, socket, handler.index(), &options)?;
        warn_of_silence(engine, addr, &options.limits);
        Ok(addr)
    }

    /// Returns handles to all listening sockets, in the order in which they were bound or adopted.
    /// Pass them to another reactor, or to the process that takes over from this one
    /// (`send_listeners`). They share their queues of connections with the sockets of this reactor,
    /// and keep the queues when this reactor stops.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Conn, ListenOptions, Reactor};
    /// # let handler = || |_: &mut Conn<'_>, input: &[u8]| input.len();
    ///
    /// let mut old = Reactor::new()?;
    /// let service = old.register(handler());
    /// let addr = old.listen("127.0.0.1:0", service, ListenOptions::default())?;
    ///
    /// let mut new = Reactor::new()?;
    /// let service = new.register(handler());
    /// for listener in old.listeners()? {
    ///     assert_eq!(new.adopt(listener, service, ListenOptions::default())?, addr);
    /// }
    /// old.remote().drain(std::time::Duration::from_secs(5)).expect("it has not stopped");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Unix sockets are not among them.
    ///
    /// # Errors
    /// - The system's, if no descriptor is left.
    pub fn listeners(&self) -> io::Result<Vec<std::net::TcpListener>> {
        self.dispatcher.lp.streams.duplicates(None)
    }

    /// Begins a connection, without waiting: `on_open` or `on_connect_failed` of the handler
    /// follows when the reactor runs. Options that are out of range are reported by
    /// `on_connect_failed`, too. `to` is an address, `"host:port"` or a Unix socket; see
    /// [`Context::connect`] for how names and several addresses are tried.
    pub fn connect<H: Handler>(
        &mut self,
        to: impl Into<Destination>,
        handler: HandlerKey<H>,
        state: H::State,
        options: &ConnectOptions,
    ) -> ConnId {
        self.context().connect(to, handler, state, options)
    }

    /// Sets a timer of a handler, as [`Context::set_timer`] does.
    pub fn set_timer<H: TimerHandler>(
        &mut self,
        handler: HandlerKey<H>,
        wait: Duration,
        token: u64,
    ) -> TimerId {
        self.context().set_timer(handler, wait, token)
    }

    /// Sets a periodic timer of a handler, as [`Context::set_periodic_timer`] does.
    pub fn set_periodic_timer<H: TimerHandler>(
        &mut self,
        handler: HandlerKey<H>,
        period: Duration,
        token: u64,
    ) -> TimerId {
        self.context().set_periodic_timer(handler, period, token)
    }

    /// A registered handler, to read or set its fields before the loop runs, between turns and
    /// after it has stopped. `None` if the key is of another reactor.
    pub fn handler_mut<H: 'static>(&mut self, handler: HandlerKey<H>) -> Option<&mut H> {
        let entry = self.dispatcher.callbacks.handlers.get_mut(handler.index() as usize)?;
        Some(entry.typed()?.0)
    }

    /// The loop as callbacks see it: connections by id, `post`, `stop`.
    pub fn context(&mut self) -> Context<'_> {
        self.refresh_clock();
        Context::new(&mut self.dispatcher.lp)
    }

    /// A handle to this reactor for other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(self.dispatcher.lp.posts.mailbox.clone())
    }

    /// What the reactor has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.event_loop().engine.stats
    }

    /// Adds an observer, which is called for everything that the loop does from now on; see
    /// [`observer`](crate::observer) for an example and for the cost. An observer stays for as long
    /// as the reactor lives. Several are called in the order in which they were added. Returns a
    /// key for [`observer_mut`](Self::observer_mut).
    pub fn observe<O: Observer>(&mut self, observer: O) -> ObserverKey<O> {
        self.dispatcher.lp.engine.observers.add(Box::new(observer))
    }

    /// An observer, to read what it has recorded; `None` if the key is of another reactor.
    pub fn observer_mut<O: Observer>(&mut self, key: ObserverKey<O>) -> Option<&mut O> {
        self.dispatcher.lp.engine.observers.get(key)
    }

    /// Runs turns until the reactor is stopped: by [`Context::stop`](crate::Context::stop), a
    /// drain, or another thread. The loop goes on when no connection is left.
    ///
    /// A reactor that has stopped does not run again: this returns `Ok` at once and calls nothing.
    /// What is begun in it after the stop, such as a connect, ends when the reactor is dropped;
    /// make a new one to go on.
    ///
    /// # Errors
    /// - The system's, if the poll fails; nothing of the reactor is usable then.
    pub fn run(&mut self) -> io::Result<()> {
        while self.go_on(None)? {}
        Ok(())
    }

    /// Runs one turn, and waits for events no longer than `timeout` (`None`: until there is
    /// something to do). Returns `false` once the reactor has stopped.
    ///
    /// If a `timeout` or a timer says when to wake up, a turn waits at most a day, because some
    /// systems cannot wait for weeks. So a turn may return before that time without having done
    /// anything, also with `None`.
    ///
    /// # Errors
    /// - The system's, if the poll fails.
    pub fn run_once(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let goes_on = self.go_on(timeout)?;
        if !std::mem::replace(&mut self.is_stamped, true) {
            let lp = &mut self.dispatcher.lp;
            let end = lp.engine.timers.clock_nanos();
            end_turn(lp, &self.events, end);
        }
        Ok(goes_on)
    }

    /// What a turn works on, to look at between the turns.
    pub(crate) fn event_loop(&self) -> &Loop {
        &self.dispatcher.lp
    }

    /// What a turn works on, for those who join several reactors.
    pub(crate) fn event_loop_mut(&mut self) -> &mut Loop {
        &mut self.dispatcher.lp
    }

    fn go_on(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        if self.dispatcher.lp.engine.running() == Running::Stopped {
            return Ok(false);
        }
        self.turn(timeout)?;
        let goes_on = self.dispatcher.lp.engine.running() != Running::Stopped;
        if !goes_on {
            self.close_posts();
        }
        Ok(goes_on)
    }

    /// Outside a turn the clock may be long behind.
    fn refresh_clock(&mut self) {
        self.dispatcher.lp.engine.timers.sample_clock();
    }

    /// Nothing comes from other threads any more.
    fn close_mailbox(&mut self) {
        // The closures are the user's.
        self.dispatcher.lp.posts.mailbox.close().into_iter().for_each(drop_quietly);
        self.dispatcher.inbox.drain(..).for_each(drop_quietly);
        self.dispatcher.close_channels();
    }

    /// Nor does anything that was posted run.
    fn close_posts(&mut self) {
        self.close_mailbox();
        self.dispatcher.lp.posts.calls.drain(..).for_each(drop_quietly);
    }

    /// Checks a key for a new listener or socket: a reactor that stops serves no new ones.
    pub(crate) fn check_handler<H: 'static>(&mut self, handler: HandlerKey<H>) -> io::Result<()> {
        if self.dispatcher.lp.engine.is_stopping() {
            return Err(io::Error::other("the reactor is stopping and listens no more"));
        }
        self.dispatcher.lp.check_key(handler)
    }

    /// Checks a key for a new listener, whose connections the handler is to serve.
    pub(crate) fn serve_streams<H: Handler>(&mut self, handler: HandlerKey<H>) -> io::Result<()> {
        self.check_handler(handler)?;
        let Dispatcher { callbacks, lp, .. } = &mut self.dispatcher;
        lp.ask_for_streams(handler);
        callbacks.put_behind_streams(&mut lp.handlers, handler.index());
        Ok(())
    }
}

/// A reactor that is dropped while connections are open ends them like one that is stopped, so
/// that `on_close` follows every `on_open`.
impl Drop for Reactor {
    fn drop(&mut self) {
        self.close_mailbox();
        self.dispatcher.stop_at_once();
        // The callbacks of this stop may have posted, and made channels.
        self.close_posts();
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("loop", &self.dispatcher.lp)
            .field("handlers", &self.dispatcher.callbacks.handlers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::id::Timer;
    use crate::base::memory::KEPT_ENTRIES;
    use crate::handler::{Conn, HandlerKey, Peer};
    use crate::options::OnPanic;

    struct Idle;

    impl Handler for Idle {
        type State = [u8; 16];

        fn on_accept(&mut self, _: &Peer) -> Option<Self::State> {
            None
        }

        fn on_data(&mut self, _: &mut Self::State, _: &mut Conn<'_>, input: &[u8]) -> usize {
            input.len()
        }
    }

    impl TimerHandler for Idle {
        fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {}
    }

    /// Far more than a queue may keep room for.
    const BURST: usize = 8 * KEPT_ENTRIES;

    impl Reactor {
        /// Entries for which each queue and each table has room.
        fn rooms(&self) -> Vec<(&'static str, usize)> {
            let Loop { streams, engine, posts, .. } = &self.dispatcher.lp;
            vec![
                ("mailbox", posts.mailbox.room()),
                ("inbox", self.dispatcher.inbox.capacity()),
                ("calls", posts.calls.capacity()),
                ("streams", streams.room()),
                ("ready", engine.ready.room()),
                ("end of turn", engine.end_of_turn.room()),
                ("timers", engine.timers.room()),
            ]
        }

        /// Whether the timers want a turn now: what they have forgotten goes back in pieces.
        fn is_due(&self) -> bool {
            let timers = &self.dispatcher.lp.engine.timers;
            timers.next_deadline().is_some_and(|deadline| deadline <= timers.now())
        }

        #[track_caller]
        fn expect_given_back(&mut self) {
            while self.dispatcher.lp.has_work() || self.dispatcher.has_messages() || self.is_due() {
                self.run_once(Some(Duration::ZERO)).unwrap();
            }
            for (what, room) in self.rooms() {
                assert!(room <= KEPT_ENTRIES, "{what} has room for {room}");
            }
        }
    }

    #[test]
    fn the_memory_of_a_burst_of_messages_and_closures_goes_back() {
        let options = ReactorOptions::default().on_panic(OnPanic::CloseConnection);
        let mut reactor = Reactor::with_options(options).unwrap();
        let key: HandlerKey<Idle> = reactor.register(Idle);
        for panics in [false, true] {
            for number in 0..BURST {
                let call = move || assert!(!panics || number + 1 < BURST, "the last one panics");
                reactor.remote().with(key, move |_, _| call()).unwrap();
                reactor.context().post(key, move |_, _| call());
            }
            assert!(reactor.rooms()[0].1 >= BURST, "{:?}", reactor.rooms());
            reactor.run_once(Some(Duration::ZERO)).unwrap();
            if !panics {
                reactor.remote().with(key, |_, _| {}).unwrap(); // joins those in the inbox
            }
            reactor.expect_given_back();
        }
        assert_eq!(reactor.stats().panics, 2);
    }

    #[test]
    fn the_memory_of_a_burst_of_connects_goes_back() {
        let mut reactor = Reactor::new().unwrap();
        let key = reactor.register(Idle);
        let options = ConnectOptions::default().timeout(Duration::ZERO); // out of range
        for _ in 0..BURST {
            reactor.connect("127.0.0.1:1", key, [0; 16], &options);
        }
        assert!(reactor.rooms()[3].1 >= BURST, "{:?}", reactor.rooms());
        reactor.expect_given_back();
        assert_eq!(reactor.stats().connect_failures, BURST as u64);
    }

    #[test]
    fn the_memory_of_a_burst_of_timers_goes_back() {
        let mut reactor = Reactor::new().unwrap();
        let key = reactor.register(Idle);
        let timers: Vec<_> =
            (0..BURST).map(|_| reactor.set_timer(key, Duration::from_secs(60), 0)).collect();
        assert!(reactor.rooms()[6].1 >= BURST, "{:?}", reactor.rooms());
        let last = timers.last().copied();
        timers.iter().for_each(|&timer| assert!(reactor.context().cancel_timer(timer)));
        reactor.expect_given_back();
        let again = reactor.set_timer(key, Duration::from_secs(60), 0);
        assert!(Some(again) != last && !timers.contains(&again), "an id comes again");
        assert!(!timers.iter().any(|&timer| reactor.context().cancel_timer(timer)));
        assert!(reactor.context().cancel_timer(again));
    }
}
