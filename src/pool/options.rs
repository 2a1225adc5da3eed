//! What can be set for a pool, as data.

use std::io;
use std::time::Duration;

use crate::options::{
    ConnectOptions, MAX_LIMIT, at_least_1ms, at_most, out_of_range, setters, within,
};

/// Which of several idle connections is lent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdleOrder {
    /// The one that came back last, so that those that are not needed grow old and go. The
    /// default.
    Lifo,
    /// The one that has been idle longest, so that all are used alike.
    Fifo,
}

/// Options of a pool; checked by [`Pool::register`](super::Pool::register).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::pool::{IdleOrder, PoolOptions};
/// let options = PoolOptions::default()
///     .max_open(8)
///     .min_idle(2)
///     .idle_timeout(Some(Duration::from_secs(30)))
///     .pick(IdleOrder::Fifo);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Max connections at once: idle, leased, dialling and closing ones together. Default 16; max
    /// 65,536.
    pub max_open: usize,
    /// Max idle connections; what comes back beyond is closed. Default `None`: as many as may be
    /// open.
    pub max_idle: Option<usize>,
    /// Connections that are kept idle, ready to be lent: the pool dials until there are so many,
    /// as far as `max_open` allows. Default 0.
    pub min_idle: usize,
    /// How long a connection may be idle before it is closed, counted from the last time that it
    /// was lent or heard of. Should be shorter than the server's own. Default 60 s; 1 ms to 49
    /// days, as all times here.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live: an idle one is closed then, a leased one when it comes
    /// back. Shortened at random by up to a tenth, so that not all end together. Default 30
    /// minutes.
    pub lifetime: Option<Duration>,
    /// How long a ticket may wait. Default 30 s.
    pub acquire_timeout: Option<Duration>,
    /// Max tickets that wait at once; 0: no ticket waits, and only what is idle is lent. Default
    /// 1,024.
    pub max_waiters: usize,
    /// Which idle connection is lent. Default [`IdleOrder::Lifo`].
    pub pick: IdleOrder,
    /// Max wait after the first failure to dial a connection that is to be kept idle. The max
    /// doubles with each failure in a row, and the wait is a random part of it (full jitter). A
    /// connection that ends before it is lent, and sooner than `retry_max_delay`, has failed too.
    /// Default 100 ms.
    pub retry_base_delay: Duration,
    /// Where the doubling ends. Default 30 s.
    pub retry_max_delay: Duration,
    /// Where the random numbers begin. Default `None`: somewhere else in each process. To be set
    /// in a simulated world, where runs are to be alike.
    pub seed: Option<u64>,
    /// Options of the connections. The timeout covers connecting, and once more the handshake.
    /// Idle limits of the connections count while they are lent as well. With a `reconnect` policy
    /// a dial is tried again before its failure refuses a waiter, whose `acquire_timeout` may pass
    /// first.
    pub connect: ConnectOptions,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_open: 16,
            max_idle: None,
            min_idle: 0,
            idle_timeout: Some(Duration::from_secs(60)),
            lifetime: Some(Duration::from_secs(30 * 60)),
            acquire_timeout: Some(Duration::from_secs(30)),
            max_waiters: 1_024,
            pick: IdleOrder::Lifo,
            retry_base_delay: Duration::from_millis(100),
            retry_max_delay: Duration::from_secs(30),
            seed: None,
            connect: ConnectOptions::default(),
        }
    }
}

/// A seat is named by as many bits, and no program wants more.
const MOST_OPEN: usize = 1 << 16;

impl PoolOptions {
    setters! {
        max_open: usize,
        max_idle: Option<usize>,
        min_idle: usize,
        idle_timeout: Option<Duration>,
        lifetime: Option<Duration>,
        acquire_timeout: Option<Duration>,
        max_waiters: usize,
        pick: IdleOrder,
        retry_base_delay: Duration,
        retry_max_delay: Duration,
        seed: Option<u64>,
        connect: ConnectOptions,
    }

    pub(super) fn check(&self) -> io::Result<()> {
        within("max_open", Some(self.max_open), MOST_OPEN)?;
        if let Some(most) = self.max_idle.filter(|&most| most > self.max_open) {
            let wanted = format!("at most max_open ({})", self.max_open);
            return Err(out_of_range("max_idle", most, &wanted));
        }
        if self.min_idle > self.most_idle() {
            let wanted = format!("at most max_idle ({})", self.most_idle());
            return Err(out_of_range("min_idle", self.min_idle, &wanted));
        }
        for (name, value) in [
            ("idle_timeout", self.idle_timeout),
            ("lifetime", self.lifetime),
            ("acquire_timeout", self.acquire_timeout),
            ("retry_base_delay", Some(self.retry_base_delay)),
            ("retry_max_delay", Some(self.retry_max_delay)),
        ] {
            at_least_1ms(name, value)?;
            at_most(name, value, MAX_LIMIT)?;
        }
        if self.retry_base_delay > self.retry_max_delay {
            let wanted = format!("at most retry_max_delay ({:?})", self.retry_max_delay);
            return Err(out_of_range(
                "retry_base_delay",
                format!("{:?}", self.retry_base_delay),
                &wanted,
            ));
        }
        self.connect.check()
    }

    pub(super) fn most_idle(&self) -> usize {
        self.max_idle.unwrap_or(self.max_open)
    }
}
