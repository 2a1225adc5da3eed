//! The one entry in the wheel that watches over each connection, and the connection's own timers.

use std::time::Duration;

use crate::base::id::{ConnId, TimerId};
use crate::base::tick::{NEVER, after, ticks};
use crate::engine::{Engine, Owner, Timers};
use crate::stream::config::IdleLimits;
use crate::stream::connection::{Connection, Expiry, Flags};
use crate::stream::{Link, Streams};
use crate::sys::Stream;

/// The longest tick of the kernel's own clock, by which its times are wrong, in ticks of ours.
const KERNEL_TICK: u64 = 10;

impl Streams {
    /// Arms the connections that have lasted, and has TCP probe the peers of outgoing ones.
    pub(crate) fn arm_deferred(&mut self, engine: &mut Engine) {
        let (deferred, lasted) = engine.timers.take_deferred();
        let mut last = ConnId::NONE;
        for &id in &deferred[..lasted] {
            // One that has limits and keepalive is there twice, in a row.
            let is_first = std::mem::replace(&mut last, id) != id;
            if let Some(mut link) = self.link(engine, id).filter(|_| is_first) {
                link.arm();
                link.keep_alive();
            }
        }
        engine.timers.give_back_deferred(deferred);
    }
}

impl Connection<Stream> {
    /// For how long nothing has moved of the output that waits, here or in the kernel; `None` if
    /// none is known to wait.
    pub(crate) fn output_stall(&self, timers: &Timers) -> Option<Duration> {
        // That the kernel has taken output which need not wait says nothing of the peer.
        let moved_at = self.has_output().then(|| timers.latest(self.written_at));
        let own = moved_at.map(|at| Duration::from_millis(timers.now().saturating_sub(at)));
        let of_kernel = if self.config.is_unix() { None } else { self.stream.unsent_stall() };
        own.into_iter().chain(of_kernel).min()
    }
}

impl Link<'_> {
    /// Sees to it that the wheel looks at the connection no later than at its next deadline.
    pub(crate) fn arm(&mut self) {
        let timers = &mut self.engine.timers;
        let deadline = self.connection.deadline(|stamp| timers.latest(stamp));
        timers.arm(self.id, &mut self.connection.armed, deadline);
    }

    /// An outgoing connection has lasted.
    fn keep_alive(&mut self) {
        let Some(keepalive) = &self.connection.config.keepalive else { return };
        if let Err(error) = self.connection.stream.keep_alive(keepalive) {
            // Some systems refuse it for a connection that is broken, which reading finds out.
            log::debug!("{}: keepalive cannot be set: {error}", self.id);
        }
    }

    /// The connection has just opened: arms it, unless there is time to see first whether it
    /// lasts.
    #[inline(always)]
    pub(crate) fn arm_new(&mut self) {
        let now = self.engine.now();
        let shortest = self.connection.shortest_wait(now);
        if !self.connection.flags.is_usual() || !Timers::may_defer(shortest) {
            self.arm();
        } else if shortest != NEVER {
            self.engine.timers.defer(self.id);
        }
    }

    /// What has run out by now.
    pub(crate) fn expired(&self) -> Option<Expiry> {
        let timers = &self.engine.timers;
        self.connection.expired(timers.now(), |stamp| timers.latest(stamp))
    }

    /// Takes progress of what the kernel has of the output for progress, before its silence ends
    /// the connection. Asks the kernel, so it is not for every message.
    pub(crate) fn note_output_of_kernel(&mut self) {
        if self.connection.config.is_unix() {
            return; // what its kernel has, the peer has
        }
        if let Some(ago) = self.connection.stream.sent_ago() {
            let at = self.engine.timers.now().saturating_sub(ticks(ago));
            if at > self.engine.timers.latest(self.connection.written_at) + 2 * KERNEL_TICK {
                self.connection.note_moved(at + KERNEL_TICK);
            }
        }
    }

    /// Sets a timer that ends with the connection.
    pub(crate) fn set_timer(&mut self, wait: Duration, periodic: bool, token: u64) -> TimerId {
        let owner = Owner::Connection(self.id);
        let timer = self.engine.set_user_timer(owner, wait, periodic, token);
        let timers = &self.engine.timers;
        self.connection.add_timer(timer, |timer| timers.has_user(timer));
        timer
    }

    pub(crate) fn set_idle_limits(&mut self, change: impl FnOnce(&mut IdleLimits)) {
        let mut limits = self.connection.idle_limits();
        change(&mut limits);
        self.engine.timers.note_limit(limits.longest());
        self.connection.set_idle_limits(limits);
        self.arm();
    }

    /// Sets the handler's own deadline, or takes it back. One that moves away leaves the entry in
    /// the wheel where it is.
    pub(crate) fn set_user_deadline(&mut self, wait: Option<Duration>) {
        let Some(wait) = wait else { return self.connection.set_user_deadline(NEVER) };
        let (timers, wait) = (&self.engine.timers, ticks(wait));
        // The turn may have been long already.
        let tick = after(timers.clock_tick(), wait);
        self.connection.set_user_deadline(tick);
        if self.connection.is_new() {
            return; // armed in a moment, with this deadline too
        }
        // One that has just opened is armed when it has lasted, by then likewise.
        let is_deferred = timers.deferred().last() == Some(&self.id) && Timers::may_defer(wait);
        if !is_deferred && !self.connection.armed.covers(tick) {
            self.arm();
        }
    }

    /// Reading was held back or goes on: the time of an incomplete message stops or starts.
    pub(crate) fn rewatch_message(&mut self) {
        self.engine.timers.note_active(self.id); // no event and no callback may tell of it
        let is_waiting = self.connection.waits_for_message();
        self.watch_message(is_waiting, false);
    }

    /// Whether a message is incomplete, after the handler has seen what there is.
    pub(crate) fn watch_message(&mut self, incomplete: bool, new: bool) {
        if !incomplete && !self.connection.flags.has(Flags::HAS_COLD) {
            return; // no message was waited for, and none is
        }
        if self.connection.flags.has(Flags::WATCHED) && self.connection.is_open() {
            self.connection.watch_message(incomplete, new, self.engine.now());
            self.arm();
        }
    }
}
