//! What any socket needs from the loop: timers, the ready queue, the lists of the end of the turn,
//! the way to the outside world.
//!
//! The engine runs no user code and knows no connection. What a callback asks for takes effect on
//! a `Link`, which borrows one connection and the engine together.

mod cork;
mod end_of_turn;
mod io;
pub(crate) mod mailbox;
pub mod observer;
mod ready;
mod state;
#[cfg(all(test, not(loom)))]
#[path = "../tests/engine/mod.rs"]
mod tests;
mod timers;
#[cfg_attr(not(target_pointer_width = "64"), path = "token_narrow.rs")]
mod token;
mod turn_ends;
mod window;

use std::time::Duration;

use crate::base::buffer::Spares;
use crate::base::id::TimerId;
use crate::base::stats::Stats;
use crate::base::tick::OncePerSecond;
use crate::options::{FILE_RESERVE, ReactorOptions, TurnBudgets};
use crate::sys::World;

pub(crate) use cork::{CORK_BYTES, Cork};
pub(crate) use end_of_turn::EndOfTurn;
#[cfg(unix)]
pub(crate) use io::DRAIN_TOKEN;
pub(crate) use io::{Io, MAX_SLOTS, Target, WAKER_TOKEN};
use observer::Observers;
pub(crate) use ready::{Queued, ReadyQueue};
#[cfg(feature = "sim")]
pub(crate) use state::Parts;
pub(crate) use state::Tell;
pub(crate) use timers::{Armed, Due, Fired, Owner, TimerList, Timers, due_of};

/// How the reactor was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At once.
    Now,
    /// Once every connection has ended, or after so long.
    Drain(Duration),
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    /// No stop was asked for.
    On,
    /// A stop was asked for and not begun.
    Asked(Stop),
    /// The listeners are closed and connections end; a timer cuts the rest at `deadline`.
    Draining { deadline: u64, timer: TimerId },
    /// The stop is over.
    Stopped,
}

/// Everything that the sockets of a reactor share.
#[derive(Debug)]
pub(crate) struct Engine {
    /// The clock, the wheel, and what moved.
    pub(crate) timers: Timers,
    /// Who stopped before the kernel was done.
    pub(crate) ready: ReadyQueue,
    /// What is left for the end of the turn.
    pub(crate) end_of_turn: EndOfTurn,
    /// The poll and the world.
    pub(crate) io: Io,
    /// Gathers the small writes of one callback.
    pub(crate) cork: Cork,
    /// Empty buffers.
    pub(crate) spares: Spares,
    /// Counters.
    pub(crate) stats: Stats,
    /// Who is told what the loop does.
    pub(crate) observers: Observers,
    /// Whether the loop goes on.
    running: Running,
    /// Panics of callbacks that are logged.
    panic_lines: OncePerSecond,
    /// Slow turns that are logged.
    slow_lines: OncePerSecond,
    /// As given.
    options: ReactorOptions,
}

impl Engine {
    pub(crate) fn new(world: World, options: ReactorOptions) -> std::io::Result<Self> {
        let clock = world.clock();
        Ok(Self {
            timers: Timers::new(clock),
            ready: ReadyQueue::default(),
            end_of_turn: EndOfTurn::default(),
            io: Io::new(world)?,
            cork: Cork::new(),
            spares: Spares::default(),
            stats: Stats::default(),
            observers: Observers::default(),
            running: Running::On,
            panic_lines: OncePerSecond::default(),
            slow_lines: OncePerSecond::default(),
            options,
        })
    }

    /// The turn's tick.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.timers.now()
    }

    #[inline]
    pub(crate) fn options(&self) -> &ReactorOptions {
        &self.options
    }

    /// How much of what waits a turn does.
    #[inline]
    pub(crate) fn turn_budgets(&self) -> TurnBudgets {
        self.io.world().turn_budgets()
    }

    /// A phase begins that sends what is queued.
    #[inline]
    pub(crate) fn renew_room(&mut self) {
        self.ready.renew_room(self.turn_budgets());
    }

    /// Whether more output is queued than all connections together may have.
    #[inline]
    pub(crate) fn is_over_queued(&self) -> bool {
        self.spares.output() > self.options.max_queued_bytes
    }

    #[inline]
    pub(crate) fn running(&self) -> Running {
        self.running
    }

    /// A stop has come a step further.
    pub(crate) fn set_running(&mut self, running: Running) {
        self.running = running;
    }

    /// Asks the loop to stop; a stop at once overrides one that drains, and of two that drain the
    /// earlier deadline holds.
    pub(crate) fn stop(&mut self, stop: Stop) {
        self.running = match (self.running, stop) {
            (Running::On, _) | (Running::Asked(_) | Running::Draining { .. }, Stop::Now) => {
                Running::Asked(stop)
            }
            (Running::Asked(Stop::Drain(first)), Stop::Drain(wait)) => {
                Running::Asked(Stop::Drain(first.min(wait)))
            }
            (Running::Draining { deadline, timer }, Stop::Drain(wait))
                if self.timers.end_of(wait) < deadline =>
            {
                self.timers.cancel(timer);
                self.begin_draining(wait)
            }
            (running, _) => running,
        };
    }

    /// Whether a panic now may be logged as an error: a peer could cause it again and again.
    pub(crate) fn may_log_panic(&mut self) -> bool {
        let now = self.now();
        self.panic_lines.admits(now)
    }

    /// Counts a slow turn that has ended at a tick; whether it may be logged.
    pub(crate) fn count_slow_turn(&mut self, end: u64) -> bool {
        self.stats.slow_turns += 1;
        self.slow_lines.admits(end)
    }

    /// Sets the timer that ends a drain.
    pub(crate) fn begin_draining(&mut self, wait: Duration) -> Running {
        let deadline = self.timers.end_of(wait);
        Running::Draining { deadline, timer: self.timers.set_at(deadline, Due::Drained) }
    }

    /// Whether connections end because the reactor stops.
    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.running != Running::On
    }

    /// Whether this turn is the last: what is left is done in it, however much that is.
    pub(crate) fn ends_all(&self) -> bool {
        self.is_stopping() && !self.is_draining()
    }

    /// Whether connections may still end in their own way.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.running, Running::Draining { .. })
    }

    /// Whether a stop at once was asked for: messages are not run any more.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.running == Running::Asked(Stop::Now)
    }

    /// Sets a timer of a handler, a connection or a socket: once, or every `wait` if `periodic`.
    pub(crate) fn set_user_timer(
        &mut self,
        owner: Owner,
        wait: Duration,
        periodic: bool,
        token: u64,
    ) -> TimerId {
        let timer = self.timers.set_user(owner, wait, periodic, token);
        self.observers.tell_timer(timer, wait);
        timer
    }

    #[inline]
    pub(crate) fn count_read(&mut self, bytes: usize) {
        self.stats.reads += 1;
        self.stats.bytes_read += bytes as u64;
    }
}

/// The open-file limit less a reserve, in equal parts for so many reactors; where there is none,
/// as many as a slab index can name.
pub(crate) fn default_max_connections(world: &World, reactors: usize) -> usize {
    let limit = world.open_file_limit().unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_SLOTS);
    let reserve = FILE_RESERVE.saturating_add(FILES_EACH.saturating_mul(reactors - 1));
    // A tiny limit is shared, so that a reserve does not eat all of it.
    ((limit - reserve.min(limit / 2)) / reactors).max(1)
}

/// Descriptors that a further reactor takes for itself: the poll, the waker, the spare one, and a
/// few listeners.
const FILES_EACH: usize = 8;
