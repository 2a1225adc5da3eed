//! How long the phases of a connection may last.

use std::time::Duration;

use super::drive::ms;
use super::options::Options;
use super::refusal::Refusal;
use super::server::Server;
use super::state::{Phase, State};
use crate::base::close::Deadline;
use crate::handler::{Conn, Context, DeadlineKind};

impl<A: 'static> Server<A> {
    /// How long a phase may last that began at `state.since`, and what follows when it is over.
    pub(super) fn patience(&self, state: &State<A>) -> Duration {
        let options = &self.shared.options;
        match (&state.phase, state.searched, state.exchanges) {
            (Phase::Head, 0, 0) => options.first_byte_timeout,
            (Phase::Head, 0, _) => options.keep_alive_timeout,
            (Phase::Head, _, _) => options.head_timeout,
            _ => options.keep_alive_timeout,
        }
    }

    /// A connection has been without an exchange for some time, or its head has been incomplete.
    pub(super) fn check_head(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) -> Deadline {
        let passed = lasted(state.since, &conn.context());
        let patience = self.patience(state);
        if passed < patience {
            return Deadline::Keep(patience - passed);
        }
        if state.searched > 0 {
            let refusal = Refusal::new(408, "the head of the request took too long");
            self.driver().refuse(state, conn, refusal, false);
        } else if conn.is_above_high_mark() && !matches!(state.phase, Phase::Ended) {
            // The client is not idle: it reads, and what it asks next is not looked at before it
            // has read. How slowly it may read is for `Limits::min_send_rate`.
            return Deadline::Keep(patience);
        }
        Deadline::Close
    }

    /// The body that is due has had some seconds more.
    pub(super) fn check_rate(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) -> Deadline {
        let options = &self.shared.options;
        let (rate, soon) = (options.min_body_rate, options.keep_alive_timeout);
        let (Phase::Busy(exchange), Some(rate)) = (&mut state.phase, rate) else {
            return Deadline::Keep(soon);
        };
        let soon = soon.min(rate.grace());
        let now = ms(conn.context().now());
        if !exchange.waits_for_body() {
            exchange.spare(now);
            return Deadline::Keep(soon);
        }
        if conn.is_above_high_mark() && !conn.is_reading() {
            // The loop reads no more of the body before the client has read of the answer. How
            // slowly it may read is for `Limits::min_send_rate`.
            state.since = now;
            exchange.rate_anew(now);
            return Deadline::Keep(soon);
        }
        let spare = Duration::from_millis(u64::from(exchange.spare_ms));
        let passed = lasted(state.since, &conn.context()).saturating_sub(spare);
        if passed < rate.grace() {
            return Deadline::Keep(soon.min(rate.grace() - passed));
        }
        let came = exchange.body_bytes - exchange.rated_bytes;
        let wanted = u128::from(rate.bytes_per_second()) * passed.as_millis() / 1_000;
        state.since = now;
        exchange.rate_anew(now);
        if u128::from(came) >= wanted {
            return Deadline::Keep(soon);
        }
        let mut driver = self.driver();
        driver.give_up_body(state, conn);
        Deadline::Keep(soon)
    }
}

/// How long a phase has surely lasted that is stamped with the turn in which it began: the callback
/// may have held the loop up first.
pub(super) fn lasted(since: u32, cx: &Context<'_>) -> Duration {
    let now = cx.now();
    let most = Duration::from_millis(u64::from(ms(now).wrapping_sub(since)));
    now.saturating_sub(cx.turn_end(now.saturating_sub(most)))
}

/// Sets the deadline at which the clocks are looked at. It is set for each phase that needs one
/// sooner, and never later than the next phase may need it.
pub(super) fn arm(options: &Options, conn: &mut Conn<'_>, wait: Duration) {
    conn.set_deadline(DeadlineKind::User, Some(wait.min(options.keep_alive_timeout)));
}
