//! What few connections need, kept apart so that the others do not pay for it.

use crate::base::close::CloseReason;
use crate::base::tick::{NEVER, after};
use crate::engine::TimerList;
use crate::stream::config::{IdleLimits, Rate};
use crate::stream::connection::Expiry;
use crate::stream::connection::layers::Layers;
use crate::stream::connection::output::Files;
use crate::stream::happy_eyeballs::Connector;

/// What few connections need.
#[derive(Debug)]
pub(super) struct ColdState<S> {
    /// What it still has to try before it is up.
    pub(super) connector: Option<Box<Connector<S>>>,
    /// Idle limits of its own.
    pub(super) idle: Option<Box<IdleLimits>>,
    /// The one wait that its phase knows: to connect, for the first byte, for the rest of a
    /// message, to close.
    pub(super) wait: Option<(u64, Expiry)>,
    /// Whether `wait` has begun, or had progress, in a turn that has not been found to be long.
    pub(super) is_wait_new: bool,
    /// An incomplete message arriving.
    pub(super) receiving: Option<Meter>,
    /// Queued output leaving.
    ///
    /// Invariant: `None` while there is none.
    pub(super) sending: Option<Meter>,
    /// Files in its output. Not in a box: where many are asked for, each would take another one.
    ///
    /// Invariant: `Some` exactly while there are any.
    pub(super) files: Option<Files>,
    /// What stands between its socket and its handler.
    ///
    /// Invariant: `LAYERED` is set exactly when it is there.
    pub(super) layers: Option<Box<Layers>>,
    /// Its timers.
    pub(super) timers: TimerList,
    /// Requests that its handler has begun to answer and has not ended.
    pub(super) requests: u32,
    /// Why output has become impossible.
    pub(super) output_failure: Option<CloseReason>,
    /// Output dropped so far.
    pub(super) unsent: usize,
}

impl<S> Default for ColdState<S> {
    fn default() -> Self {
        Self {
            connector: None,
            idle: None,
            wait: None,
            is_wait_new: false,
            receiving: None,
            sending: None,
            files: None,
            layers: None,
            timers: TimerList::default(),
            requests: 0,
            output_failure: None,
            unsent: 0,
        }
    }
}

impl<S> ColdState<S> {
    /// Has it wait until a tick, unless it waits already.
    pub(super) fn begin_wait(&mut self, tick: u64, expiry: Expiry) {
        if self.wait.is_none() {
            (self.wait, self.is_wait_new) = (Some((tick, expiry)), true);
        }
    }

    /// Whether it says nothing any more.
    pub(super) fn is_unused(&self) -> bool {
        self.connector.is_none()
            && self.idle.is_none()
            && self.wait.is_none()
            && self.receiving.is_none()
            && self.sending.is_none()
            && self.files.is_none()
            && self.layers.is_none()
            && self.requests == 0
            && self.timers.is_empty()
            && self.output_failure.is_none()
            && self.unsent == 0
    }
}

/// The credit of time that a peer has under a least rate. It begins with the grace, time spends it
/// and bytes earn it, and it is never more than the grace: what was fast before pays for no longer
/// silence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    /// The tick at which the credit is spent, as far as it counts from stamps.
    until: u64,
    /// What the bytes so far have earned beyond that, as thousandths of a byte of the rate.
    ///
    /// Invariant: less than the bytes of a second.
    rest: u64,
    /// The stamp of the turn in which it was given its whole grace last, which may have been long;
    /// [`NEVER`] if that is accounted for.
    since: u64,
}

impl Meter {
    pub(super) fn new(now: u64, rate: Rate) -> Self {
        Self { until: after(now, rate.grace), rest: 0, since: now }
    }

    /// Bytes have moved.
    pub(super) fn add(&mut self, bytes: usize, now: u64, rate: Rate) {
        let earned = self.rest.saturating_add((bytes as u64).saturating_mul(1_000));
        self.until = self.until.saturating_add(earned / rate.bytes_per_second);
        self.rest = earned % rate.bytes_per_second;
        let most = after(now, rate.grace);
        if self.until >= most {
            (self.until, self.rest) = (most, 0);
            if self.since != NEVER {
                self.since = now; // a long turn is accounted for once: the next begins at its end
            }
        }
    }

    /// What has its whole grace since the start of a long turn has it since its end: once, for the
    /// next turn begins at that end.
    pub(super) fn refresh(&mut self, start: u64, end: u64, rate: Rate) {
        if self.since == start {
            (self.until, self.since) = (self.until.max(after(end, rate.grace)), NEVER);
        }
    }

    /// The tick at which the bytes so far are too few.
    pub(super) fn deadline(self, latest: impl Fn(u64) -> u64) -> u64 {
        self.until.saturating_add(latest(self.since) - self.since)
    }
}

/// When a limit passes that has been given its whole time in a turn that may have ended in a later
/// tick than its own, which is known by now.
pub(super) fn put_off(tick: u64, limit: u64, latest: impl Fn(u64) -> u64) -> u64 {
    let begun = tick.saturating_sub(after(0, limit));
    tick.saturating_add(latest(begun) - begun)
}
