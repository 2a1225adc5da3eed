//! A fleet that runs, seen from outside: its doors, its counters, its end.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::ops::Deref;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crate::base::stats::Stats;
use crate::fleet::lock;
use crate::fleet::options::{FleetOptions, OnFailure, Spread};
use crate::handler::Remote;
use crate::handler::{Loop, Message};
use crate::stream::Load;

/// How long a reactor may take to answer: only a callback that blocks takes longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A fleet that runs: gives a [`FleetRemote`], and waits for the end of the fleet. If the handle is
/// dropped, the fleet goes on.
#[derive(Debug)]
pub struct FleetHandle {
    pub(super) remote: FleetRemote,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl FleetHandle {
    /// A handle for other threads.
    #[must_use]
    pub fn remote(&self) -> FleetRemote {
        self.remote.clone()
    }

    /// Waits until every reactor has stopped, and returns how the fleet ended. A callback of the
    /// fleet must not call this, because it would wait for itself.
    #[must_use]
    pub fn join(self) -> FleetEnd {
        self.remote.shared.wait();
        for thread in self.threads {
            // What it had to say it has said: nothing of it panics outside of a landing pad.
            let _ = thread.join();
        }
        self.remote.shared.end()
    }
}

impl Deref for FleetHandle {
    type Target = FleetRemote;

    fn deref(&self) -> &FleetRemote {
        &self.remote
    }
}

/// A handle to a fleet for any thread. It can be cloned, sent to other threads, and kept anywhere,
/// also by handlers of the fleet.
///
/// # Examples
/// ```
/// use waterwheel::fleet::{Fleet, FleetOptions};
/// use waterwheel::{Conn, ListenOptions};
///
/// let fleet = Fleet::new(FleetOptions::default().threads(Some(2)))?.start(|member| {
///     let echo = member.reactor().register(|conn: &mut Conn<'_>, input: &[u8]| {
///         conn.write(input);
///         input.len()
///     });
///     member.listen("127.0.0.1:0", echo, ListenOptions::default())?;
///     Ok(())
/// })?;
/// assert_eq!(fleet.stats().members.len(), 2);
/// fleet.stop();
/// let end = fleet.join();
/// assert!(end.failures.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct FleetRemote {
    pub(super) shared: Arc<Shared>,
}

impl FleetRemote {
    /// Stops all reactors at once, as [`Remote::stop`] does.
    pub fn stop(&self) {
        for remote in self.shared.remotes().chain(self.shared.acceptor()) {
            let _ = remote.stop(); // it has stopped already
        }
    }

    /// Drains all reactors, as [`Remote::drain`] does, with one deadline. An acceptor stops first;
    /// the reactors still serve what it has handed over.
    pub fn drain(&self, deadline: Duration) {
        let shared = &self.shared;
        lock(&shared.progress).ask_to_drain(deadline);
        // Whatever the acceptor has handed over is in the mailboxes before this.
        let passes_on = shared.acceptor().is_some_and(|acceptor| acceptor.drain(deadline).is_ok());
        if !passes_on {
            self.drain_members(deadline);
        }
    }

    pub(super) fn drain_members(&self, deadline: Duration) {
        for remote in self.shared.remotes() {
            let _ = remote.drain(deadline); // it has stopped already
        }
    }

    /// A [`Remote`] for each reactor, by its [index](crate::fleet::Member::index). In the set-up
    /// closure all of them are there already; what they post is handled once the fleet has started.
    #[must_use]
    pub fn remotes(&self) -> Vec<Remote> {
        self.shared.remotes().cloned().collect()
    }

    /// The counters of each reactor and their sum. Each call asks the reactors, so counting costs
    /// messages nothing. If a reactor does not answer within a second, because a callback blocks or
    /// makes this very call, its last known counters are returned.
    #[must_use]
    pub fn stats(&self) -> FleetStats {
        let shared = &self.shared;
        let asked: Vec<_> =
            shared.seats.iter().map(|seat| seat.ask(|lp| lp.engine.stats)).collect();
        for (index, answer) in asked.into_iter().enumerate() {
            if let Some(stats) = answer.and_then(|answer| answer.recv_timeout(PATIENCE).ok()) {
                lock(&shared.progress).note(index, stats);
            }
        }
        shared.stats()
    }

    /// Returns handles to the sockets on which the reactors listen together, for the process that
    /// takes over (`send_listeners`): one for each address, or with [`Spread::ReusePort`] one for
    /// each address and reactor.
    ///
    /// # Errors
    /// - `NotConnected`: the fleet listens no more.
    /// - `TimedOut`: a reactor does not answer within a second.
    /// - The system's, if no descriptor is left.
    pub fn listeners(&self) -> io::Result<Vec<TcpListener>> {
        let mut listeners = Vec::new();
        for dock in self.shared.docks.get().into_iter().flatten() {
            let before = listeners.len();
            for &(seat, place) in &dock.places {
                let Some(seat) = self.shared.seats.get(seat) else { continue };
                let answer = seat.ask(move |lp: &mut Loop| lp.streams.duplicates(Some(place)));
                match answer.map(|answer| answer.recv_timeout(PATIENCE)) {
                    Some(Ok(found)) => listeners.append(&mut found?),
                    Some(Err(RecvTimeoutError::Timeout)) => {
                        let text = format!("{} does not answer: a callback blocks it", seat.name);
                        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                    }
                    Some(Err(RecvTimeoutError::Disconnected)) | None => {}
                }
                if listeners.len() > before && dock.is_one {
                    break;
                }
            }
            if listeners.len() == before {
                let text = "the fleet has stopped and listens no more";
                return Err(io::Error::new(io::ErrorKind::NotConnected, text));
            }
        }
        Ok(listeners)
    }
}

impl fmt::Debug for FleetRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetRemote")
            .field("threads", &self.shared.members)
            .field("spread", &self.shared.options.spread)
            .finish_non_exhaustive()
    }
}

/// The counters of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetStats {
    /// The counters of each reactor, by its index.
    pub members: Vec<Stats>,
    /// The counters of the acceptor, with [`Spread::HandOver`].
    pub acceptor: Option<Stats>,
    /// The sum of all; its `connections_peak` is the sum of the peaks, which need not have been
    /// reached at once.
    pub total: Stats,
}

/// How a fleet ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct FleetEnd {
    /// The last counters.
    pub stats: FleetStats,
    /// The reactors that failed, in the order in which they failed.
    pub failures: Vec<FleetFailure>,
}

impl FleetEnd {
    /// Returns the counters, or the first failure as an error.
    ///
    /// # Errors
    /// - `Other`: a reactor failed; the text says which and why.
    pub fn into_result(self) -> io::Result<FleetStats> {
        match self.failures.into_iter().next() {
            None => Ok(self.stats),
            Some(failed) => Err(io::Error::other(failed)),
        }
    }
}

/// A reactor of a fleet that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct FleetFailure {
    /// The name of its thread.
    pub thread: String,
    /// What happened: the error of its poll, or the text of a panic.
    pub error: io::Error,
}

impl fmt::Display for FleetFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.thread, self.error)
    }
}

impl std::error::Error for FleetFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What the threads of a fleet share. None of it is touched while messages are served.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: FleetOptions,
    /// How many reactors serve connections.
    pub(super) members: usize,
    /// The members, then the acceptor if there is one.
    pub(super) seats: Vec<Seat>,
    /// The addresses that all listen on.
    pub(super) docks: OnceLock<Vec<Listening>>,
    progress: Mutex<Progress>,
    /// A thread has ended.
    ended: Condvar,
}

/// Who listens on one address.
#[derive(Debug)]
pub(super) struct Listening {
    /// All have the same socket.
    pub(super) is_one: bool,
    /// Whose listeners they are, by seat and place.
    pub(super) places: Vec<(usize, u32)>,
}

/// A thread of a fleet.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) name: String,
    /// Set once it has a reactor.
    pub(super) door: OnceLock<(ThreadId, Remote)>,
    pub(super) load: Arc<Load>,
}

#[derive(Debug)]
struct Progress {
    /// Threads that have not ended.
    running: usize,
    /// What each last said, by seat.
    stats: Vec<Stats>,
    /// Whether that was its last word.
    is_final: Vec<bool>,
    failures: Vec<FleetFailure>,
    /// What the acceptor passes on when it has drained: the shortest that was asked for.
    drain_deadline: Option<Duration>,
}

impl Progress {
    /// An answer that comes late does not replace the last word.
    fn note(&mut self, seat: usize, stats: Stats) {
        if !self.is_final[seat] {
            self.stats[seat] = stats;
        }
    }

    fn ask_to_drain(&mut self, deadline: Duration) {
        let first = self.drain_deadline.get_or_insert(deadline);
        *first = deadline.min(*first);
    }
}

impl Seat {
    /// Asks its reactor; `None` if it is gone, or would have to answer itself.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Loop) -> T + Send + 'static,
    ) -> Option<Receiver<T>> {
        let (thread, remote) = self.door.get()?;
        if *thread == thread::current().id() {
            return None;
        }
        let (answer, answers) = sync_channel(1);
        let query = move |lp: &mut Loop| {
            let _ = answer.send(question(lp)); // the caller may have lost patience
        };
        remote.offer(Message::Query(Box::new(query))).ok()?;
        Some(answers)
    }
}

impl Shared {
    pub(super) fn new(options: FleetOptions, members: usize) -> Self {
        let mut names: Vec<String> =
            (0..members).map(|index| format!("{}-{index}", options.name)).collect();
        if matches!(options.spread, Spread::HandOver(_)) {
            names.push(format!("{}-accept", options.name));
        }
        let seat = |name| Seat { name, door: OnceLock::new(), load: Arc::default() };
        let seats: Vec<Seat> = names.into_iter().map(seat).collect();
        let progress = Progress {
            running: seats.len(),
            stats: vec![Stats::default(); seats.len()],
            is_final: vec![false; seats.len()],
            failures: Vec::new(),
            drain_deadline: None,
        };
        Self {
            options,
            members,
            seats,
            docks: OnceLock::new(),
            progress: Mutex::new(progress),
            ended: Condvar::new(),
        }
    }

    fn remotes(&self) -> impl Iterator<Item = &Remote> {
        self.seats[..self.members].iter().filter_map(|seat| Some(&seat.door.get()?.1))
    }

    fn acceptor(&self) -> Option<&Remote> {
        Some(&self.seats.get(self.members)?.door.get()?.1)
    }

    /// How long a drain may take that was asked for; `None` if none was, through a door.
    pub(super) fn drain_deadline(&self) -> Option<Duration> {
        lock(&self.progress).drain_deadline
    }

    /// A thread's reactor has ended.
    pub(super) fn ended(self: &Arc<Self>, seat: usize, stats: Stats, error: Option<io::Error>) {
        let has_failed = error.is_some();
        if let Some(error) = error {
            let failed = FleetFailure { thread: self.seats[seat].name.clone(), error };
            log::error!("{failed}{}", self.consequence(seat));
            lock(&self.progress).failures.push(failed);
        }
        let remote = FleetRemote { shared: Arc::clone(self) };
        match self.options.on_failure {
            _ if !has_failed => {}
            OnFailure::GoOn => {}
            OnFailure::Drain(deadline) => remote.drain(deadline),
            OnFailure::Stop => remote.stop(),
        }
        let mut progress = lock(&self.progress);
        progress.stats[seat] = stats;
        progress.is_final[seat] = true;
        progress.running -= 1;
        self.ended.notify_all();
        let have_all_ended = progress.is_final[..self.members].iter().all(|&is_final| is_final);
        drop(progress);
        if let (true, Some(acceptor)) = (have_all_ended, self.acceptor()) {
            let _ = acceptor.stop(); // nobody is left whom it could hand a connection
        }
    }

    /// What a failure brings, for the log.
    fn consequence(&self, seat: usize) -> &'static str {
        match self.options.on_failure {
            OnFailure::GoOn if seat == self.members => "; nobody accepts any more",
            OnFailure::GoOn => "; the rest go on",
            OnFailure::Drain(_) => "; the rest drain",
            OnFailure::Stop => "; the rest stop",
        }
    }

    fn wait(&self) {
        let mut progress = lock(&self.progress);
        while progress.running > 0 {
            progress = self.ended.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stats(&self) -> FleetStats {
        let stats = lock(&self.progress).stats.clone();
        FleetStats {
            members: stats[..self.members].to_vec(),
            acceptor: stats.get(self.members).copied(),
            total: stats.iter().copied().sum(),
        }
    }

    pub(super) fn end(&self) -> FleetEnd {
        let failures = std::mem::take(&mut lock(&self.progress).failures);
        FleetEnd { stats: self.stats(), failures }
    }
}
