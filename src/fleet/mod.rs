//! Several reactors, each on a thread of its own, that serve the same addresses.
//!
//! Each reactor has its own poll, handlers and connections, so that messages touch no shared data.
//! The threads wait for each other only when the fleet starts and stops. A [`FleetRemote`] controls
//! all reactors, and a [`FleetSender`] sends messages to the handlers of all.

mod acceptor;
#[cfg_attr(not(unix), path = "drain_stub.rs")]
mod drain;
mod handle;
mod member;
mod options;
mod publish;
#[cfg(unix)]
mod replace;

use std::io;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::base::panics;
use crate::engine::default_max_connections;
use crate::reactor::Reactor;
use crate::sys::{Cores, World};
use acceptor::Berth;
use drain::Bell;
use member::{Dock, Docks};

pub use handle::{FleetEnd, FleetFailure, FleetHandle, FleetRemote, FleetStats};
use handle::{Listening, Shared};
pub use member::Member;
pub use options::{Balance, FleetOptions, OnFailure, Pinning, Spread};
pub use publish::{FleetSender, Published};

/// N reactors on N threads from one closure that sets each up: one reactor a core.
///
/// The closure runs on each thread, so handlers need not be `Send`. The threads share what the
/// closure captures, which must therefore be `Send` and `Sync`. [`Spread`] says which reactor gets
/// a connection; it stays there.
///
/// The order of a start:
/// 1. each thread makes its reactor;
/// 2. when all reactors are made, the closure runs on all threads at once, in no order;
///    [`Member::index`] returns the number of the reactor. The runs share nothing but the port that
///    `listen` returns, and must not wait for each other;
/// 3. when all closures have returned, the acceptor is made if the spread needs one. From now on
///    messages that were sent through a [`Member::channel`] are delivered;
/// 4. all reactors run, and connections are accepted. [`start`](Self::start) returns.
///
/// If a step fails on any thread, every reactor is dropped on its thread before it has run a turn.
/// With one thread, [`run`](Self::run) does the same on the calling thread.
///
/// # Examples
/// An echo server on all cores:
/// ```no_run
/// use waterwheel::fleet::{Fleet, FleetOptions};
/// use waterwheel::{Conn, ListenOptions};
///
/// Fleet::new(FleetOptions::default())?.run(|member| {
///     let echo = member.reactor().register(|conn: &mut Conn<'_>, input: &[u8]| {
///         conn.write(input);
///         input.len()
///     });
///     member.listen("127.0.0.1:7000", echo, ListenOptions::default())?;
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Fleet {
    options: FleetOptions,
    threads: usize,
    bell: Option<Bell>,
    /// Listening sockets of the process before.
    inherited: Vec<TcpListener>,
    /// On so many addresses it may listen.
    max_addresses: usize,
}

impl Fleet {
    /// A fleet that does not run yet.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range.
    pub fn new(options: FleetOptions) -> io::Result<Self> {
        let threads = options.check()?;
        Ok(Self { options, threads, bell: None, inherited: Vec::new(), max_addresses: usize::MAX })
    }

    /// The number of reactors.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Starts the reactors and returns when all of them run. No connection is accepted before
    /// every closure has returned.
    ///
    /// # Errors
    /// - An error that the closure returns, a panic of the closure (kind `Other`), and errors of
    ///   the system (threads, descriptors, pinning). Nothing is left running. The text names the
    ///   thread that failed first.
    /// - `InvalidInput`: the reactors do not listen on the same addresses.
    pub fn start<F>(self, set_up: F) -> io::Result<FleetHandle>
    where
        F: Fn(&mut Member<'_>) -> io::Result<()> + Send + Sync + 'static,
    {
        let plan = Arc::new(Plan::new(self));
        let set_up = Arc::new(set_up);
        let mut crew = Crew::default();
        match crew.board(&plan, &set_up) {
            Ok(()) => {
                let remote = FleetRemote { shared: Arc::clone(&plan.shared) };
                crew.go();
                Ok(FleetHandle { remote, threads: crew.threads })
            }
            Err(error) => {
                crew.disband();
                Err(error)
            }
        }
    }

    /// Starts the reactors and waits until all of them have stopped. A fleet of one reactor runs on
    /// this thread, because system calls are cheaper in a process with a single thread.
    ///
    /// # Errors
    /// - Those of [`start`](Self::start).
    /// - `Other`: a reactor failed later; the text says which and why.
    pub fn run<F>(self, set_up: F) -> io::Result<FleetStats>
    where
        F: Fn(&mut Member<'_>) -> io::Result<()> + Send + Sync + 'static,
    {
        if self.threads > 1 || matches!(self.options.spread, Spread::HandOver(_)) {
            return self.start(set_up)?.join().into_result();
        }
        let plan = Plan::new(self);
        let mut reactor = plan.make(0)?;
        plan.set_up(0, &mut reactor, &set_up)?;
        drop(set_up);
        plan.cast_off()?;
        let cores = plan.pin(0)?;
        plan.turn(0, reactor);
        if let Some(Err(error)) = cores.as_ref().map(Cores::apply) {
            log::warn!("the thread stays on its core: {error}");
        }
        plan.shared.end().into_result()
    }
}

/// What the threads go by.
struct Plan {
    shared: Arc<Shared>,
    docks: Docks,
    bell: Option<Bell>,
}

impl Plan {
    fn new(fleet: Fleet) -> Self {
        let Fleet { mut options, threads, bell, inherited, max_addresses } = fleet;
        let most = &mut options.reactor.max_connections;
        most.get_or_insert_with(|| default_max_connections(&World::Os, threads));
        let docks = Docks::new(options.spread, inherited, max_addresses);
        Self { shared: Arc::new(Shared::new(options, threads)), docks, bell }
    }

    /// Makes the reactor of a seat, on its thread.
    fn make(&self, seat: usize) -> io::Result<Reactor> {
        let Shared { options, members, seats, .. } = &*self.shared;
        let is_member = seat < *members;
        let mut reactor = Reactor::with_options(options.reactor.clone())?;
        if is_member {
            reactor.event_loop_mut().streams.set_load(Arc::clone(&seats[seat].load));
        }
        // Where connections are handed over the acceptor stops first, and tells the others.
        if let (Some(bell), true) = (&self.bell, !is_member || seats.len() == *members) {
            bell.watch(&mut reactor)?;
        }
        let _ = seats[seat].door.set((thread::current().id(), reactor.remote()));
        Ok(reactor)
    }

    fn set_up<F>(&self, seat: usize, reactor: &mut Reactor, set_up: &F) -> io::Result<()>
    where
        F: Fn(&mut Member<'_>) -> io::Result<()>,
    {
        let remote = FleetRemote { shared: Arc::clone(&self.shared) };
        set_up(&mut Member::new(reactor, &self.docks, remote, seat))
    }

    /// Keeps the thread of a member to its core, after its `set_up`: a thread that is started on a
    /// pinned one, such as those of an offload, would be pinned to the same core.
    fn pin(&self, seat: usize) -> io::Result<Option<Cores>> {
        self.shared.options.pinning.apply(seat)
    }

    /// All are set up: what they listen on together. The handles that the fleet itself has on the
    /// sockets go with it, so that they close when the reactors do.
    fn cast_off(&self) -> io::Result<Vec<Dock>> {
        let docks = self.docks.finish(self.shared.members)?;
        let listening = |(at, dock): (usize, &Dock)| Listening {
            is_one: dock.shared.is_some(),
            places: match self.shared.options.spread {
                // The acceptor listens, in this order.
                Spread::HandOver(_) => vec![(self.shared.members, at as u32)],
                _ => dock.places.clone(),
            },
        };
        let _ = self.shared.docks.set(docks.iter().enumerate().map(listening).collect());
        Ok(docks)
    }

    /// Has the acceptor listen.
    fn set_up_acceptor(
        &self,
        reactor: &mut Reactor,
        balance: Balance,
        docks: Vec<Dock>,
    ) -> io::Result<()> {
        for Dock { shared, options, places, .. } in docks {
            let Some(socket) = shared else { continue };
            let berths = places.iter().filter_map(|&(seat, place)| {
                let seat = &self.shared.seats[seat];
                let (_, remote) = seat.door.get()?;
                Some(Berth { remote: remote.clone(), load: Arc::clone(&seat.load), place })
            });
            acceptor::route(reactor, socket, &options, balance, berths.collect())?;
        }
        Ok(())
    }

    /// Turns until the reactor stops or fails.
    fn turn(&self, seat: usize, mut reactor: Reactor) {
        let shared = &self.shared;
        let result = caught("it panicked", || reactor.run());
        let stats = reactor.stats();
        shared.seats[seat].load.close();
        // Ends what is open; the `Drop` of a handler may panic.
        let dropped = caught("it panicked when it was dropped", || {
            drop(reactor);
            Ok(())
        });
        if seat == shared.members {
            // Drains that it was asked for, and one that it saw for itself.
            let rung = self.bell.as_ref().filter(|bell| bell.has_rung()).map(Bell::deadline);
            if let Some(deadline) = shared.drain_deadline().into_iter().chain(rung).min() {
                FleetRemote { shared: Arc::clone(shared) }.drain_members(deadline);
            }
        }
        shared.ended(seat, stats, result.and(dropped).err());
    }
}

/// The threads of a fleet while it starts: each does a step, says how it went, and waits for the
/// word to go on.
#[derive(Default)]
struct Crew {
    threads: Vec<JoinHandle<()>>,
    /// The word for each; dropped, it ends.
    words: Vec<Sender<()>>,
    /// How steps went.
    reports: Option<Receiver<io::Result<()>>>,
    reporter: Option<Sender<io::Result<()>>>,
}

impl Crew {
    /// Takes all threads through their steps, up to the word to turn.
    fn board<F>(&mut self, plan: &Arc<Plan>, set_up: &Arc<F>) -> io::Result<()>
    where
        F: Fn(&mut Member<'_>) -> io::Result<()> + Send + Sync + 'static,
    {
        let members = plan.shared.members;
        for seat in 0..members {
            let set_up = Arc::clone(set_up);
            self.hire(plan, seat, move |plan, cue| {
                let mut reactor = cue.step(|| plan.make(seat))?;
                cue.step(|| {
                    let result = plan.set_up(seat, &mut reactor, &*set_up);
                    // What it has captured, a listening socket perhaps, must not outlive it.
                    drop(set_up);
                    result?;
                    plan.pin(seat)
                })?;
                Some(reactor)
            })?;
        }
        self.hear(members)?;
        self.go();
        self.hear(members)?;
        let docks = plan.cast_off()?;
        if let Spread::HandOver(balance) = plan.shared.options.spread {
            self.hire(plan, members, move |plan, cue| {
                cue.step(|| {
                    let mut reactor = plan.make(members)?;
                    plan.set_up_acceptor(&mut reactor, balance, docks)?;
                    Ok(reactor)
                })
            })?;
            self.hear(1)?;
        }
        Ok(())
    }

    /// Starts the thread of a seat, which turns once `prepare` has given a reactor.
    fn hire(
        &mut self,
        plan: &Arc<Plan>,
        seat: usize,
        prepare: impl FnOnce(&Plan, &Cue) -> Option<Reactor> + Send + 'static,
    ) -> io::Result<()> {
        let (word, words) = channel();
        let name = plan.shared.seats[seat].name.clone();
        let reporter = self.reporter.get_or_insert_with(|| {
            let (reporter, reports) = channel();
            self.reports = Some(reports);
            reporter
        });
        let cue = Cue { name: name.clone(), reporter: reporter.clone(), words };
        let plan = Arc::clone(plan);
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            if let Some(reactor) = prepare(&plan, &cue) {
                plan.turn(seat, reactor);
            }
        });
        let thread = thread.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start the thread {name}: {error}"))
        })?;
        self.threads.push(thread);
        self.words.push(word);
        Ok(())
    }

    /// Waits for so many reports; the first error among them.
    fn hear(&self, count: usize) -> io::Result<()> {
        let reports = self.reports.iter().flat_map(|reports| reports.iter());
        // All of them, so that none is taken for one of the next step.
        let reports: Vec<io::Result<()>> = reports.take(count).collect();
        reports.into_iter().collect()
    }

    fn go(&self) {
        for word in &self.words {
            let _ = word.send(()); // it has failed, and said so
        }
    }

    /// Ends all threads before they turn.
    fn disband(self) {
        drop(self.words);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// A thread's side of the start.
struct Cue {
    name: String,
    reporter: Sender<io::Result<()>>,
    words: Receiver<()>,
}

impl Cue {
    /// Does a step, reports how it went, and waits for the word; `None` if it is to end.
    fn step<T>(&self, step: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let result = caught("it panicked", step);
        let (done, report) = match result {
            Ok(done) => (Some(done), Ok(())),
            Err(error) => {
                let text = format!("{} cannot start: {error}", self.name);
                (None, Err(io::Error::new(error.kind(), text)))
            }
        };
        self.reporter.send(report).ok()?;
        self.words.recv().ok()?;
        done
    }
}

/// Locks what the threads of a fleet share. A panic under the lock leaves nothing half done: no
/// code of the user's runs there but the `Clone` of a message.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what is the user's on a thread of the fleet: a panic is an error that begins with `what`.
fn caught<T>(what: &str, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let failed = |payload| io::Error::other(format!("{what}: {}", panics::into_text(payload)));
    panics::catch(run).unwrap_or_else(|payload| Err(failed(payload)))
}
