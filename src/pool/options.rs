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
    /// The one that came back last, so that connections that are not needed reach their idle
    /// timeout. The default.
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
    /// Max idle connections; one more that comes back is closed. Default `None`: no limit but
    /// `max_open`.
    pub max_idle: Option<usize>,
    /// Idle connections that the pool keeps ready: it connects until there are this many, as far as
    /// `max_open` allows. Default 0.
    pub min_idle: usize,
    /// How long a connection may be idle before it is closed, counted from the last time that it
    /// was lent or that bytes came in. It should be shorter than the server's own timeout. Default
    /// 60 s; 1 ms to 49 days, as all times here.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live. An idle one is closed then, and a leased one when it comes
    /// back. For each connection the time is shortened at random by up to a tenth, so that not all
    /// end together. Default 30 minutes.
    pub lifetime: Option<Duration>,
    /// How long a ticket may wait. Default 30 s.
    pub acquire_timeout: Option<Duration>,
    /// Max tickets that wait at once; more are refused. With 0 no ticket waits, and only idle
    /// connections are lent. Default 1,024.
    pub max_waiters: usize,
    /// Which idle connection is lent. Default [`IdleOrder::Lifo`].
    pub pick: IdleOrder,
    /// For the connections of `min_idle`: max pause after the first failed connect. The maximum
    /// doubles with each failure in a row, and the pause is a random part of it (full jitter). A
    /// connection that ends sooner than `retry_max_delay` without having been lent counts as a
    /// failure, too. Default 100 ms.
    pub retry_base_delay: Duration,
    /// The largest maximum of that pause. Default 30 s.
    pub retry_max_delay: Duration,
    /// The seed of the random numbers. Default `None`: a different one in each process. Set it in a
    /// simulated world, so that each run is the same.
    pub seed: Option<u64>,
    /// Options of the connections. `timeout` applies to connecting, and once more to a handshake of
    /// the client. Idle limits also apply while connections are lent. With a `reconnect` policy a
    /// failed connect is tried again before a ticket is refused; its `acquire_timeout` may pass
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
