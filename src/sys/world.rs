//! Where a reactor lives, and what it is asked for there: sockets, the poll, the clock.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Answer, Backlog, Listener, Poller, Stream, os, sim};
use crate::base::id::Generations;
use crate::base::tick::NANOS_PER_TICK;
use crate::options::{ConnectOptions, ListenOptions, TurnBudgets};

/// Where a reactor lives: the source of its sockets, its poll and its clock.
#[derive(Debug)]
pub(crate) enum World {
    /// The operating system.
    Os,
    /// A simulated world, as one of its hosts.
    Sim(sim::Host),
}

impl From<sim::Host> for World {
    fn from(host: sim::Host) -> Self {
        Self::Sim(host)
    }
}

impl World {
    pub(crate) fn poller(&self) -> io::Result<Poller> {
        match self {
            Self::Os => os::Poller::new().map(Poller::Os),
            Self::Sim(host) => host.poller().map(Poller::Sim),
        }
    }

    /// A clock that begins now.
    pub(crate) fn clock(&self) -> Clock {
        match self {
            Self::Os => Clock::Os(os::Clock::new()),
            Self::Sim(host) => host.clock(),
        }
    }

    /// Begins to connect; the poll reports when that has ended.
    pub(crate) fn connect(&self, addr: SocketAddr, options: &ConnectOptions) -> io::Result<Stream> {
        match self {
            Self::Os => os::connect(addr, options).map(Stream::Os),
            Self::Sim(host) => host.connect(addr, options.source).map(Stream::Sim),
        }
    }

    /// Looks a name up without blocking; `answer` is called on another thread.
    pub(crate) fn resolve(&self, host: &str, port: u16, answer: Answer) {
        match self {
            Self::Os => os::resolve(host, port, answer),
            Self::Sim(sim) => sim.look_up(host, port, answer),
        }
    }

    /// Whether time and sockets are simulated.
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, Self::Sim(_))
    }

    /// Looks a name up and waits for the answer: before the loop turns.
    pub(crate) fn resolve_now(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Os => os::resolve_now(host, port),
            Self::Sim(sim) => sim.look_up_now(host, port),
        }
    }

    /// A random number, for the jitter of retries.
    pub(crate) fn random(&self) -> u64 {
        match self {
            Self::Os => os::random(),
            Self::Sim(host) => host.random(),
        }
    }

    /// Binds and listens; returns the backlog too, as asked for and as the system will have it.
    pub(crate) fn bind(
        &self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(Listener, Backlog)> {
        match self {
            Self::Os => {
                os::bind(addr, options).map(|(listener, backlog)| (Listener::Os(listener), backlog))
            }
            Self::Sim(host) => host
                .bind(addr, options.backlog)
                .map(|(listener, backlog)| (Listener::Sim(listener), backlog)),
        }
    }

    /// Takes over a socket that was bound and set to listen elsewhere.
    pub(crate) fn adopt(
        &self,
        listener: std::net::TcpListener,
        options: &ListenOptions,
    ) -> io::Result<Listener> {
        match self {
            Self::Os => os::adopt(listener, options).map(Listener::Os),
            Self::Sim(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated world has no sockets of the operating system; listen in it instead",
            )),
        }
    }

    /// A descriptor in reserve, if there is one to be had.
    pub(crate) fn spare(&self) -> Option<Spare> {
        match self {
            Self::Os => os::Spare::open().map(Spare::Os),
            Self::Sim(host) => host.spare().map(Spare::Sim),
        }
    }

    /// How many descriptors may be open; `None` where there is no such limit.
    pub(crate) fn open_file_limit(&self) -> Option<u64> {
        match self {
            Self::Os => os::open_file_limit(),
            Self::Sim(host) => Some(host.open_file_limit()),
        }
    }

    /// How much of what waits a turn does.
    #[inline]
    pub(crate) fn turn_budgets(&self) -> TurnBudgets {
        match self {
            Self::Os => TurnBudgets::USUAL,
            Self::Sim(host) => host.turn_budgets(),
        }
    }

    /// The generations of its connections.
    pub(crate) fn generations(&self) -> Generations {
        match self {
            Self::Os => Generations::new(),
            Self::Sim(host) => host.generations(),
        }
    }

    /// Whether accepted sockets have the options of their listener.
    pub(crate) fn inherits_options(&self) -> bool {
        match self {
            Self::Os => os::OPTIONS_ARE_INHERITED,
            Self::Sim(_) => true,
        }
    }

    /// Whether writability is asked for only while output waits. Where edges are emulated a
    /// standing interest would report "writable" after every read.
    #[inline]
    pub(crate) fn asks_writable_on_demand(&self) -> bool {
        match self {
            Self::Os => !os::EDGES_ARE_NATIVE,
            Self::Sim(host) => !host.edges_are_native(),
        }
    }
}

/// When a simulated world begins: 2020-01-01, so that a run is the same on any day.
const SIMULATED_EPOCH: Duration = Duration::from_secs(1_577_836_800);

/// Monotonic time since the clock was made.
#[derive(Debug)]
pub(crate) enum Clock {
    /// Of the operating system.
    Os(os::Clock),
    /// Of a simulated world.
    Sim(sim::Clock),
}

impl From<sim::Clock> for Clock {
    fn from(clock: sim::Clock) -> Self {
        Self::Sim(clock)
    }
}

impl Clock {
    /// Nanoseconds since the clock was made.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        match self {
            Self::Os(clock) => clock.nanos(),
            Self::Sim(clock) => clock.nanos(),
        }
    }

    /// The time of day.
    pub(crate) fn system_time(&self) -> SystemTime {
        match self {
            Self::Os(_) => SystemTime::now(),
            Self::Sim(clock) => {
                SystemTime::UNIX_EPOCH + SIMULATED_EPOCH + Duration::from_nanos(clock.nanos())
            }
        }
    }

    /// Whole milliseconds since the clock was made.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        self.nanos() / NANOS_PER_TICK
    }
}

/// A descriptor in reserve, to be given up when none is left for accept.
#[derive(Debug)]
pub(crate) enum Spare {
    /// Of the operating system.
    Os(#[expect(dead_code, reason = "it is held, not used")] os::Spare),
    /// Of a simulated world.
    Sim(#[allow(dead_code, reason = "held, not used; without `sim` it has no value")] sim::Spare),
}
