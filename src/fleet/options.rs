//! What can be set for a fleet: plain data, checked when it is made.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::options::{ReactorOptions, setters};
use crate::sys::{self, Cores};

/// Options of a [`Fleet`](crate::fleet::Fleet).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::fleet::{Balance, FleetOptions, OnFailure, Pinning, Spread};
/// let options = FleetOptions::default()
///     .threads(Some(4))
///     .spread(Spread::HandOver(Balance::LeastConnections))
///     .pinning(Pinning::Cores)
///     .on_failure(OnFailure::Drain(Duration::from_secs(5)));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetOptions {
    /// How many reactors there are, each on a thread of its own; 1 to 1,024. Default: as many as
    /// the process may use cores (`std::thread::available_parallelism`).
    pub threads: Option<usize>,
    /// How connections spread over them. Default [`Spread::Shared`].
    pub spread: Spread,
    /// Whether each thread stays on one core. Default [`Pinning::Off`].
    pub pinning: Pinning,
    /// What the rest do when one reactor fails. Default [`OnFailure::Stop`].
    pub on_failure: OnFailure,
    /// Options of each reactor. `max_connections` of each defaults to an equal part of the
    /// open-file limit less a reserve, because all reactors share one process.
    pub reactor: ReactorOptions,
    /// The prefix of the names of the threads: `NAME-0`, `NAME-1` and so on, and `NAME-accept`.
    /// Default `wheel`. Linux shows the first 15 bytes of a thread's name.
    pub name: String,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            threads: None,
            spread: Spread::Shared,
            pinning: Pinning::Off,
            on_failure: OnFailure::Stop,
            reactor: ReactorOptions::default(),
            name: "wheel".to_owned(),
        }
    }
}

impl FleetOptions {
    setters! {
        threads: Option<usize>,
        spread: Spread,
        pinning: Pinning,
        on_failure: OnFailure,
        reactor: ReactorOptions,
        name: String,
    }

    /// Checks the options and returns the number of threads.
    pub(super) fn check(&self) -> io::Result<usize> {
        let threads = match self.threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        };
        if !(1..=MOST_THREADS).contains(&threads) {
            let text = format!("option threads is {threads}; it must be 1 to {MOST_THREADS}");
            return Err(invalid(&text));
        }
        if self.pinning == Pinning::To(Vec::new()) {
            return Err(invalid("option pinning names no core; give one, or Pinning::Off"));
        }
        if self.name.contains('\0') {
            return Err(invalid("option name has a NUL in it, which no thread's name can have"));
        }
        self.reactor.check()?;
        Ok(threads)
    }
}

/// More threads than cores of any machine are a slip.
const MOST_THREADS: usize = 1_024;

pub(super) fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// How connections spread over the reactors of a fleet.
///
/// | | `Shared` | `ReusePort` | `HandOver` |
/// |---|---|---|---|
/// | which reactor | the first that is awake | by a hash of both addresses | see `Balance` |
/// | equal shares | roughly; a busy reactor gets fewer | by chance | yes |
/// | while a reactor blocks | the others accept | its share waits | its share waits |
/// | extra cost of a connection | wakes all reactors that sleep | none | wakes one more thread |
/// | a restart under load | resets none | resets queued connections | resets none |
/// | address in use | error | error, unless of the same user with the same option | error |
///
/// Use `Shared` by default. Use `ReusePort` for many short connections on many cores, unless the
/// server must restart without resets. Use `HandOver` for few, long, unequal connections, or if all
/// connections of a client must meet in one reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// A single listening socket, shared by all reactors: the reactor that is first accepts. The
    /// default.
    ///
    /// Each new connection wakes every reactor that sleeps, because the poll has no exclusive wait.
    /// All but one of them find nothing to accept.
    Shared,
    /// A socket with `SO_REUSEPORT` for each reactor; the kernel spreads connections by a hash of
    /// the addresses.
    ///
    /// When one of the sockets is closed, the connections in its queue are reset, although other
    /// sockets listen on the address. This includes connections whose handshake is under way. Since
    /// version 5.14 Linux can move them to another socket (`net.ipv4.tcp_migrate_req`, off by
    /// default). See [`ListenOptions::reuse_port`](crate::ListenOptions::reuse_port).
    ReusePort,
    /// An acceptor, a reactor on a thread of its own, accepts and hands over.
    ///
    /// The reactor that gets the connection calls `on_accept`, and its caps apply: a connection
    /// over a cap is reset. `AtCapacity::Wait` is an error with this spread. The acceptor skips
    /// reactors that have stopped.
    HandOver(Balance),
}

/// The reactor to which an acceptor hands the next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// To the reactor with the fewest connections. Outgoing ones count, and so do those that were
    /// handed over and have not arrived yet.
    LeastConnections,
    /// To each reactor in turn.
    RoundRobin,
    /// All connections from one IP address go to the same reactor.
    SourceAddress,
}

/// Whether the thread of each reactor stays on one core.
///
/// A thread is pinned when the closure that sets its reactor up has returned. So threads that the
/// closure starts, such as those of an offload, are not pinned, nor are those that look names up.
/// Linux pins a thread that a callback starts to the core of the reactor. [`Fleet::run`] with one
/// thread frees the calling thread again before it returns.
///
/// [`Fleet::run`]: crate::fleet::Fleet::run
///
/// # Platform notes
/// Linux and Android only; elsewhere every value but `Off` is an error of kind `Unsupported`. The
/// acceptor of [`Spread::HandOver`] is not pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pinning {
    /// The system moves threads as it likes. The default.
    Off,
    /// Each thread stays on one of the cores that the process may use, in order. If there are more
    /// threads than cores, several threads share a core.
    Cores,
    /// Thread `n` stays on the `n`th core of this list of core numbers; a shorter list is used
    /// again from its beginning.
    To(Vec<usize>),
}

impl Pinning {
    /// Keeps this thread, the `index`th, to its core. Returns where it might run before, unless
    /// that is still so.
    pub(super) fn apply(&self, index: usize) -> io::Result<Option<Cores>> {
        let cores = match self {
            Self::Off => return Ok(None),
            Self::Cores => sys::allowed_cores()?,
            Self::To(cores) => cores.clone(),
        };
        match cores.len() {
            0 => Ok(None),
            count => sys::pin_to(cores[index % count]).map(Some),
        }
    }
}

/// What the other reactors of a fleet do when one reactor fails: because its poll fails, or because
/// a panic leaves its `run` (see [`OnPanic::Unwind`](crate::OnPanic)). The failure is logged in any
/// case, and reported by [`FleetHandle::join`](crate::fleet::FleetHandle::join).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The other reactors go on. The connections of the failed reactor are lost, and new
    /// connections go to the others. When the last one has failed, the fleet ends.
    ///
    /// With [`Spread::HandOver`] the acceptor may fail, too: nobody accepts any more then, and a
    /// descriptor or a signal ([`Fleet::drain_when_readable`](crate::fleet::Fleet)) is heard by
    /// nobody. [`FleetRemote::drain`](crate::fleet::FleetRemote::drain) drains the others.
    GoOn,
    /// The other reactors drain for at most this time, and the fleet ends.
    Drain(Duration),
    /// The other reactors stop at once, and the fleet ends. The default, because it is safest to
    /// restart a process of which a part has failed.
    Stop,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::ReusePort => "reuse-port",
            Self::HandOver(Balance::LeastConnections) => "least-connections",
            Self::HandOver(Balance::RoundRobin) => "round-robin",
            Self::HandOver(Balance::SourceAddress) => "source-address",
        })
    }
}

impl std::str::FromStr for Spread {
    type Err = io::Error;

    /// The words that `Display` writes.
    fn from_str(text: &str) -> io::Result<Self> {
        Ok(match text {
            "shared" => Self::Shared,
            "reuse-port" => Self::ReusePort,
            "least-connections" => Self::HandOver(Balance::LeastConnections),
            "round-robin" => Self::HandOver(Balance::RoundRobin),
            "source-address" => Self::HandOver(Balance::SourceAddress),
            _ => {
                return Err(invalid(&format!(
                    "{text:?} is no way to spread; it is shared, reuse-port, least-connections, \
                     round-robin or source-address"
                )));
            }
        })
    }
}
