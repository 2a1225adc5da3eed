//! One world: hosts with reactors, scripted peers, and the clock that they share.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::coverage::Landmarks;
use super::replay::{self, Keeper, Replay};
use super::watcher::{Told, Watcher};
use crate::options::ReactorOptions;
use crate::reactor::Reactor;
use crate::sys::sim::{Datagrams, Fault, Faults, Host, PeerEnd, Rest, Script, Stage, World};

/// A host of a simulation: one process with one reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostId(usize);

/// A scripted peer of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(usize);

/// A world with reactors and scripted peers, in virtual time, driven by a seed.
///
/// The [module](super) says what it is for, and [`Seeds`](super::Seeds) runs a test under many
/// seeds.
///
/// # Examples
/// An hour of silence, which takes no real time:
/// ```
/// use std::time::Duration;
/// use waterwheel::{Conn, ListenOptions};
/// use waterwheel::sim::{Faults, PeerEnd, Script, Simulation};
///
/// let mut sim = Simulation::new(1, Faults::none());
/// let (_, addr) = sim.host("server", |reactor| {
///     let silent = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
///     let options = ListenOptions::default().idle_timeout(Duration::from_secs(3_600));
///     reactor.listen("0.0.0.0:7000", silent, options)
/// })?;
/// let peer = sim.peer(addr, Script::new());
/// sim.run(Duration::from_secs(3_000));
/// assert_eq!(sim.end_of(peer), PeerEnd::Open);
/// sim.run(Duration::from_secs(1_000));
/// assert_ne!(sim.end_of(peer), PeerEnd::Open);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Simulation {
    seed: u64,
    world: Rc<RefCell<World>>,
    hosts: Rc<Hosts>,
    /// Who watches each host; they outlive the reactors.
    watchers: Vec<Rc<RefCell<Watcher>>>,
    /// Scripts may be left unfinished.
    allows_unfinished: bool,
    is_finished: bool,
}

/// The reactors; `None` while one is in its turn.
#[derive(Default)]
struct Hosts {
    seats: RefCell<Vec<Seat>>,
    /// What callbacks say that panic on purpose.
    allowed_panic: Cell<Option<&'static str>>,
}

struct Seat {
    reactor: Option<Box<Reactor>>,
    watcher: Rc<RefCell<Watcher>>,
}

/// Descriptors of a host unless it is given others.
const FILES: u64 = 256;

/// Virtual time that a healed world has to come to rest.
const LAST_HOURS: Duration = Duration::from_secs(4 * 3_600);

/// Virtual time that what is still under way has when the last script is at its end.
const SETTLES: Duration = Duration::from_secs(60);

/// What reactors have to drain at the end.
const DRAIN: Duration = Duration::from_secs(60);

/// Turns of one run at the most, and as many more for each virtual second.
const MOST_TURNS: u64 = 2_000_000;
const TURNS_A_SECOND: u64 = 10_000;

impl Simulation {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let world = Rc::new(RefCell::new(World::new(seed, faults)));
        let hosts = Rc::new(Hosts::default());
        let driven = Rc::downgrade(&hosts);
        let driver = move |host: usize| {
            if let Some(hosts) = driven.upgrade() {
                hosts.turn(host);
            }
        };
        world.borrow_mut().driver = Some(Rc::new(driver));
        Self {
            seed,
            world,
            hosts,
            watchers: Vec::new(),
            allows_unfinished: false,
            is_finished: false,
        }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a host with a reactor of default options. In `set_up` register handlers and listen.
    /// `0.0.0.0` and `127.0.0.1` stand for the host's own address; `listen` returns the real one.
    ///
    /// # Errors
    /// - The error that `set_up` returns.
    pub fn host<R>(
        &mut self,
        name: &str,
        set_up: impl FnOnce(&mut Reactor) -> io::Result<R>,
    ) -> io::Result<(HostId, R)> {
        self.host_with(name, ReactorOptions::default(), FILES, set_up)
    }

    /// Adds a host with options, and with a limit of open files. The poll takes two of them, and
    /// the reactor keeps one in reserve.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range.
    /// - `EMFILE`: the open files do not suffice for the poll.
    /// - The error that `set_up` returns.
    pub fn host_with<R>(
        &mut self,
        name: &str,
        options: ReactorOptions,
        open_files: u64,
        set_up: impl FnOnce(&mut Reactor) -> io::Result<R>,
    ) -> io::Result<(HostId, R)> {
        let index = self.world.borrow_mut().add_host(name, open_files);
        let host = Host::new(&self.world, index);
        let watcher = Rc::new(RefCell::new(Watcher::new(&self.world, index)));
        let mut reactor = Reactor::in_world(host.into(), options).inspect_err(|_| {
            self.world.borrow_mut().hosts.pop();
        })?;
        self.watchers.push(Rc::clone(&watcher));
        let told = Box::new(Told(Rc::clone(&watcher)));
        reactor.event_loop_mut().engine.observers.add(told);
        if self.world.borrow().replay.is_some() {
            Keeper::install(&self.world, index, &mut reactor);
        }
        let result = set_up(&mut reactor);
        let reactor = Some(Box::new(reactor));
        self.hosts.seats.borrow_mut().push(Seat { reactor, watcher });
        self.world.borrow_mut().hosts[index].stage = Stage::Between;
        result.map(|result| (HostId(index), result))
    }

    /// Runs a closure with the reactor of a host, between its turns. The closure may read and set
    /// fields of a handler ([`Reactor::handler_mut`]) or use [`Reactor::context`].
    ///
    /// # Panics
    /// If the host is of another simulation.
    pub fn with<R>(&mut self, host: HostId, run: impl FnOnce(&mut Reactor) -> R) -> R {
        let mut seats = self.hosts.seats.borrow_mut();
        let seat = &mut seats[host.0];
        seat.watcher.borrow_mut().forget_due();
        let reactor = seat.reactor.as_mut().expect("no turn is on between two runs");
        run(reactor)
    }

    /// Adds a peer that connects to `to` as soon as the run goes on.
    pub fn peer(&mut self, to: SocketAddr, script: Script) -> PeerId {
        self.peer_after(Duration::ZERO, to, script)
    }

    /// Adds a peer that connects to `to` after the time `wait`.
    pub fn peer_after(&mut self, wait: Duration, to: SocketAddr, script: Script) -> PeerId {
        let mut world = self.world.borrow_mut();
        let at = world.now.saturating_add(nanos(wait));
        PeerId(world.add_peer(at, to, script))
    }

    /// Adds a machine that listens, for a reactor to connect to, and returns its address. Each of
    /// its connections follows the script. `backlog` is the number of connections that may wait to
    /// be accepted.
    pub fn listening_peer(&mut self, backlog: usize, script: Script) -> SocketAddr {
        self.world.borrow_mut().add_listening_peer(backlog, script)
    }

    /// Adds a machine with a UDP socket, and returns its address. `answer` gets the sender and the
    /// bytes of each datagram that comes in, and returns the datagrams to send, with their
    /// receivers. It must not touch the simulation. Its datagrams are lost, doubled and delayed
    /// like all others.
    ///
    /// # Examples
    /// A reactor asks, a machine answers:
    /// ```
    /// use std::net::SocketAddr;
    /// use std::time::Duration;
    /// use waterwheel::sim::{Faults, Simulation};
    /// use waterwheel::udp::{DatagramSocket, UdpOptions};
    ///
    /// let mut sim = Simulation::new(1, Faults::none());
    /// let (server, addr) = sim.datagram_peer(|from, bytes| {
    ///     let answer = if bytes == b"ping" { &b"pong"[..] } else { b"what?" };
    ///     vec![(from, answer.to_vec())]
    /// });
    /// sim.host("client", |reactor| {
    ///     let told = |_: &mut DatagramSocket<'_>, _: SocketAddr, bytes: &[u8]| {
    ///         assert_eq!(bytes, b"pong");
    ///     };
    ///     let client = reactor.register(told);
    ///     let (socket, _) = reactor.connect_udp(addr, client, UdpOptions::default())?;
    ///     reactor.context().socket(socket).expect("it is new").send(b"ping");
    ///     Ok(())
    /// })?;
    /// sim.run(Duration::from_secs(1));
    /// assert_eq!(sim.datagrams_of(server).len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn datagram_peer(
        &mut self,
        answer: impl FnMut(SocketAddr, &[u8]) -> Vec<(SocketAddr, Vec<u8>)> + 'static,
    ) -> (PeerId, SocketAddr) {
        let (peer, addr) = self.world.borrow_mut().add_datagram_peer(Box::new(answer));
        (PeerId(peer), addr)
    }

    /// Makes a machine of [`datagram_peer`](Self::datagram_peer) send a datagram by itself, when
    /// the run goes on.
    pub fn send_datagram(&mut self, peer: PeerId, to: SocketAddr, bytes: impl Into<Vec<u8>>) {
        self.world.borrow_mut().send_as_datagram_peer(peer.0, to, bytes.into());
    }

    /// The datagrams that a machine of [`datagram_peer`](Self::datagram_peer) has received so far,
    /// with their senders, in the order of arrival.
    #[must_use]
    pub fn datagrams_of(&self, peer: PeerId) -> Vec<(SocketAddr, Vec<u8>)> {
        self.world.borrow().datagrams_of(peer.0)
    }

    /// The addresses of a host. The second is for datagrams: a UDP socket that is bound to
    /// `0.0.0.0` receives at both, and one that is bound to `127.0.0.1` at the first.
    #[must_use]
    pub fn ips_of(&self, host: HostId) -> [IpAddr; 2] {
        World::ips_of(host.0)
    }

    /// Defines a name and its addresses, for a reactor that connects to `"name:port"`. The faults
    /// of connects apply to lookups, too.
    pub fn name(&mut self, name: &str, addrs: &[IpAddr]) {
        self.world.borrow_mut().names.insert(name.to_owned(), addrs.to_vec());
    }

    /// Calls a closure after the time `wait`, as another thread would: in the middle of a turn or
    /// of a poll. The closure may use a [`Remote`](crate::Remote) or a [`Sender`](crate::Sender),
    /// but neither the simulation nor a [`Dice`] or [`HostClock`] of it.
    pub fn call_after(&mut self, wait: Duration, call: impl FnOnce() + 'static) {
        let mut world = self.world.borrow_mut();
        let at = world.now.saturating_add(nanos(wait));
        world.arrange_call(at, Box::new(call));
    }

    /// What a peer has received so far.
    #[must_use]
    pub fn received(&self, peer: PeerId) -> Vec<u8> {
        self.world.borrow().peers[peer.0].received.clone()
    }

    /// The state of a peer's connection: open, or how it has ended. A peer that has not connected
    /// yet is `Open`.
    #[must_use]
    pub fn end_of(&self, peer: PeerId) -> PeerEnd {
        self.world.borrow().peers[peer.0].end
    }

    /// Whether a fault has broken the connection of a peer, or kept it from coming up. An end by a
    /// cap or a deadline of the reactor does not count, even if the clock has jumped over the
    /// deadline.
    #[must_use]
    pub fn was_hurt(&self, peer: PeerId) -> bool {
        let world = self.world.borrow();
        world.socket_of(peer.0).is_some_and(|socket| world.sockets[socket as usize].was_hurt)
    }

    /// Random numbers that follow from the seed, for the decisions of a test. A handler takes them
    /// from [`Context::random`](crate::Context::random).
    #[must_use]
    pub fn dice(&self) -> Dice {
        Dice { world: Rc::clone(&self.world) }
    }

    /// The clock of a host, to the nanosecond, for its handlers.
    #[must_use]
    pub fn clock(&self, host: HostId) -> HostClock {
        HostClock { world: Rc::clone(&self.world), host: host.0 }
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.world.borrow().now)
    }

    /// A hash of all that has happened: the same for the same seed.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.world.borrow().trace.hash()
    }

    /// How many lines the trace has, whether they are kept or not.
    #[must_use]
    pub fn trace_len(&self) -> u64 {
        self.world.borrow().trace.len
    }

    /// Keeps the lines of the trace, from now on: [`trace`](Self::trace) returns them.
    pub fn keep_trace(&mut self) {
        self.world.borrow_mut().trace.keeps_lines = true;
    }

    /// The trace, if it was kept: virtual time in seconds; the host by its number, or `net` for
    /// what happens between machines; and what happened. Sockets are `s1`, the slots of a
    /// reactor's connections `c1`. Behind a callback stands the length of its input, the number
    /// of the idle kind, or the count of unsent bytes; faults of a whole host begin with `!`.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.world.borrow().trace.lines.clone()
    }

    /// Records all steps from now on, for [`replay`](Self::replay). Call it before the first host
    /// is added. The run itself stays the same.
    pub fn keep_replay(&mut self) {
        self.world.borrow_mut().keep_replay();
    }

    /// What was recorded so far; empty without [`keep_replay`](Self::keep_replay).
    #[must_use]
    pub fn replay(&self) -> Replay<'_> {
        Replay { seed: self.seed, world: self.world.borrow(), failure: None }
    }

    /// What was recorded of a run that has failed, with the reason, which the page shows.
    #[must_use]
    pub fn failed_replay(&self, why: &str) -> Replay<'_> {
        Replay { failure: Some(why.to_owned()), ..self.replay() }
    }

    /// How often each fault has struck so far.
    #[must_use]
    pub fn struck(&self) -> Vec<(Fault, u64)> {
        let world = self.world.borrow();
        Fault::ALL.into_iter().map(|fault| (fault, world.chance.struck[fault as usize])).collect()
    }

    /// Counts of all datagrams so far: sent, lost, doubled and delivered.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams {
        self.world.borrow().datagrams()
    }

    /// The number of system calls and the number of turns so far, of all hosts together.
    #[must_use]
    pub fn work(&self) -> (u64, u64) {
        let world = self.world.borrow();
        let calls = world.hosts.iter().map(|host| host.system_calls).sum();
        (calls, world.hosts.iter().map(|host| host.polls).sum())
    }

    /// The states and code paths of the reactors that were reached.
    #[must_use]
    pub fn landmarks(&self) -> Landmarks {
        let mut landmarks = Landmarks::default();
        for watcher in &self.watchers {
            landmarks.merge(watcher.borrow().landmarks);
        }
        landmarks
    }

    /// Allows scripts of peers to be unfinished at the end of the run.
    pub fn allow_unfinished(&mut self) {
        self.allows_unfinished = true;
    }

    /// Allows callbacks to panic with this text, for tests of what follows a panic.
    ///
    /// [`resume_unwind`](std::panic::resume_unwind) with the text panics without a message on the
    /// terminal.
    pub fn allow_panics(&mut self, text: &'static str) {
        self.hosts.allowed_panic.set(Some(text));
    }

    /// Runs for the virtual time `time`, or until nothing will ever happen again. Returns whether
    /// that is so.
    ///
    /// The clock stops with the last thing that happens: if no timer is set, no time passes. To let
    /// an hour pass all the same, for example for a cache that looks at the clock, call
    /// [`call_after`](Self::call_after) with an empty closure.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::sim::{Faults, Simulation};
    ///
    /// const HOUR: Duration = Duration::from_secs(3_600);
    /// let mut sim = Simulation::new(1, Faults::none());
    /// assert!(sim.run(HOUR)); // an empty world: nothing will happen
    /// assert!(sim.now() < HOUR);
    /// sim.call_after(HOUR, || {});
    /// sim.run(2 * HOUR);
    /// assert!(sim.now() >= HOUR);
    /// ```
    ///
    /// # Panics
    /// If one of the crate's guarantees was broken, or if a handler keeps the loop busy without
    /// end.
    pub fn run(&mut self, time: Duration) -> bool {
        {
            let mut world = self.world.borrow_mut();
            world.end = world.now.saturating_add(nanos(time));
            world.rest = Rest::Busy;
        }
        for seat in self.hosts.seats.borrow().iter() {
            seat.watcher.borrow_mut().forget_due();
        }
        let (mut turns, start) = (0, self.now());
        while self.goes_on() {
            let Some(host) = self.next_host() else {
                self.run_without_hosts();
                break;
            };
            self.hosts.turn(host);
            turns += 1;
            let seconds = self.now().saturating_sub(start).as_secs();
            if turns > MOST_TURNS + seconds * TURNS_A_SECOND {
                self.world.borrow_mut().violate("the world does not come to rest".to_owned());
            }
            self.expect_no_violation();
        }
        let is_quiet = self.world.borrow().rest == Rest::Quiet;
        if is_quiet {
            for seat in self.hosts.seats.borrow().iter() {
                let Some(reactor) = &seat.reactor else { continue };
                seat.watcher.borrow_mut().check_quiet(reactor.event_loop());
            }
            self.expect_no_violation();
        }
        is_quiet
    }

    fn goes_on(&self) -> bool {
        let world = self.world.borrow();
        world.rest == Rest::Busy && world.now < world.end
    }

    fn next_host(&self) -> Option<usize> {
        self.world.borrow().hosts.iter().position(|host| host.stage == Stage::Between)
    }

    /// All reactors have stopped: what is under way comes to its end.
    fn run_without_hosts(&self) {
        let mut world = self.world.borrow_mut();
        world.pass_all();
    }

    fn expect_no_violation(&self) {
        let world = self.world.borrow();
        if let Some(first) = world.violations.first() {
            let first = first.clone();
            drop(world);
            panic!("a rule was broken at {:?}: {first}", self.now());
        }
    }

    /// Ends all faults: what was cut off is connected again, and descriptors come back.
    pub fn heal(&mut self) {
        self.world.borrow_mut().heal();
    }

    /// Ends the run: heals the world, lets it come to rest, stops the reactors, and checks that
    /// every script has come to its end and that nothing is left behind.
    ///
    /// [`Seeds::run`](super::Seeds::run) calls this after the test.
    ///
    /// # Panics
    /// If one of the crate's guarantees was broken, a script is not at its end, or something is
    /// left behind.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        self.heal();
        self.run_out();
        self.check_scripts();
        self.drain();
        let seats = std::mem::take(&mut *self.hosts.seats.borrow_mut());
        for (index, seat) in seats.into_iter().enumerate() {
            self.world.borrow_mut().hosts[index].stage = Stage::Idle;
            drop(seat.reactor);
            seat.watcher.borrow_mut().check_end();
        }
        self.expect_no_violation();
    }

    /// Runs until nothing will happen any more, or every script is at its end and only timers
    /// are left, or the last hours are over.
    fn run_out(&mut self) {
        let (start, mut slice) = (self.now(), Duration::from_secs(1));
        while !self.run(slice) && self.now() - start < LAST_HOURS {
            let world = self.world.borrow();
            if (0..world.peers.len()).all(|peer| world.is_done(peer)) && slice > SETTLES {
                return;
            }
            slice *= 2;
        }
    }

    /// Stops the reactors that still run, and lets them drain.
    fn drain(&mut self) {
        for seat in self.hosts.seats.borrow().iter() {
            if let Some(reactor) = &seat.reactor {
                // One that has stopped already is where it should be.
                let _ = reactor.remote().drain(DRAIN);
            }
        }
        self.run(LAST_HOURS);
        for seat in self.hosts.seats.borrow().iter() {
            let Some(reactor) = &seat.reactor else { continue };
            seat.watcher.borrow_mut().check_stopped(reactor.event_loop());
        }
        self.expect_no_violation();
    }

    fn check_scripts(&self) {
        let mut world = self.world.borrow_mut();
        for peer in 0..world.peers.len() {
            let is_stuck = world.peers[peer].end == PeerEnd::Open && !world.is_done(peer);
            if is_stuck && !self.allows_unfinished && world.socket_of(peer).is_some() {
                let what = world.explain_peer(peer);
                world.violate(format!("peer {peer} waits in vain: {what}"));
            }
        }
    }
}

/// Random numbers that follow from the seed of a simulation.
#[derive(Clone, Debug)]
pub struct Dice {
    world: Rc<RefCell<World>>,
}

impl Dice {
    /// A random number below `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        self.world.borrow_mut().chance.below(bound)
    }

    /// Returns `true` with a probability of one in `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    #[must_use]
    pub fn one_in(&self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// A random number from `low` to `high`; small numbers are far more likely than large ones.
    ///
    /// # Panics
    /// If `high` is below `low`.
    #[must_use]
    pub fn spread(&self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "there is no number from {low} to {high}");
        self.world.borrow_mut().chance.spread(low, high)
    }
}

/// The clock of a simulated host.
#[derive(Clone, Debug)]
pub struct HostClock {
    world: Rc<RefCell<World>>,
    host: usize,
}

impl HostClock {
    /// The time that it shows, counted from the beginning of the run; faults make it jump ahead.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.world.borrow().clock(self.host))
    }

    /// Lets time pass in a callback, as one that computes for so long does. The rest of the world
    /// goes on meanwhile.
    pub fn spend(&self, time: Duration) {
        self.world.borrow_mut().stand_still(nanos(time));
    }

    /// How much time the faults [`Stopped`](super::Fault::Stopped) and
    /// [`ClockJump`](super::Fault::ClockJump) have taken from this host so far. A timer may be late
    /// by that much.
    #[must_use]
    pub fn stolen(&self) -> Duration {
        Duration::from_nanos(self.world.borrow().hosts[self.host].stolen_nanos)
    }
}

impl Hosts {
    /// Runs a turn of a host.
    fn turn(&self, host: usize) {
        let taken = {
            let mut seats = self.seats.borrow_mut();
            let seat = &mut seats[host];
            seat.reactor.take().map(|reactor| (reactor, Rc::clone(&seat.watcher)))
        };
        let Some((mut reactor, watcher)) = taken else { return };
        let world = Rc::clone(&watcher.borrow().world);
        world.borrow_mut().hosts[host].stage = Stage::Turning;
        let goes_on = reactor.run_once(None);
        watcher.borrow_mut().check(reactor.event_loop());
        if world.borrow().replay.is_some() {
            replay::state::keep_loop(&world, host, reactor.event_loop());
        }
        let stage = match goes_on {
            Ok(true) => Stage::Between,
            Ok(false) => Stage::Idle,
            Err(error) => {
                world.borrow_mut().violate(format!("the turn failed: {error}"));
                Stage::Idle
            }
        };
        for text in watcher.borrow_mut().take_panic_texts() {
            if self.allowed_panic.get() != Some(&*text) {
                world.borrow_mut().violate(format!("a callback panicked: {text}"));
            }
        }
        world.borrow_mut().hosts[host].stage = stage;
        self.seats.borrow_mut()[host].reactor = Some(reactor);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// The world and its hosts name each other; the hosts go first.
impl Drop for Simulation {
    fn drop(&mut self) {
        let seats = std::mem::take(&mut *self.hosts.seats.borrow_mut());
        drop(seats);
        self.world.borrow_mut().driver = None;
    }
}
