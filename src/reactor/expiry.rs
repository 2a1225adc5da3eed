//! What the wheel asks for: a connection whose time may have run out, and timers of connections.

use std::time::Duration;

use crate::base::close::{CloseReason, Deadline, Idle, IdleKind, TimeoutKind};
use crate::base::id::ConnId;
use crate::base::tick::NEVER;
use crate::engine::observer::What;
use crate::engine::{Armed, Fired};
use crate::handler::DeadlineKind;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::Link;
use crate::stream::connection::{Expiry, Flags, Phase};

/// How long a connection whose deadline has passed is kept at the least: a handler that keeps it
/// for no time at all is asked once a tick, and does not keep the loop from sleeping.
const MIN_KEEP: Duration = Duration::from_millis(1);

impl Dispatcher {
    /// The wheel says that a connection must be looked at.
    pub(super) fn on_deadline(&mut self, id: ConnId) {
        let Some(link) = self.lp.link(id) else { return };
        link.connection.armed = Armed::NONE;
        if is_owed(&link) {
            // What the peer has taken counts: a poll that reports edges announces room only when a
            // third of the socket's buffer is free, which may be megabytes.
            self.flush(id);
        }
        if let Some(link) = self.lp.link(id).filter(|link| is_overdue(link)) {
            // Invariant 8: a read in the same turn beats expiry, also one that the poll had no
            // room to announce. Last, for what arrives while output is sent.
            link.connection.flags.set(Flags::READABLE);
            self.read(id);
        }
        if let Some(mut link) = self.lp.link(id).filter(|link| is_silent(link)) {
            // And for what the kernel has taken at once and sends as the peer reads.
            link.note_output_of_kernel();
        }
        let Some(mut link) = self.lp.link(id) else { return };
        match link.expired() {
            None => {}
            Some(Expiry::Connect) => self.on_late_connect(id),
            Some(Expiry::Attempt) => self.lp.continue_connecting(id),
            Some(Expiry::Timeout(TimeoutKind::User)) => self.on_user_deadline(id),
            Some(Expiry::Timeout(kind)) => time_out(&mut link, kind),
            Some(Expiry::Idle(kind)) => self.on_idle(id, kind),
        }
        if let Some(mut link) = self.lp.link(id) {
            link.arm();
        }
    }

    /// A connect, or a header that is waited for, is late.
    fn on_late_connect(&mut self, id: ConnId) {
        // It may be there although the poll had no room to announce it.
        self.look_at_connect(id);
        if let Some(mut link) = self.lp.link(id) {
            if link.expired() == Some(Expiry::Connect) {
                link.time_out_connect();
            }
        }
    }

    fn on_idle(&mut self, id: ConnId, kind: IdleKind) {
        let Some(link) = self.lp.link(id) else { return };
        let limit = link.connection.idle_limits().of(kind).map(Duration::from_millis);
        let what = || What::Idle { id, kind, limit };
        let verdict =
            self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                handler.idle(state, lp, kind)
            });
        let Some(mut link) = self.lp.link(id) else { return };
        let now = link.engine.now();
        match verdict {
            Some(Idle::Keep) => link.connection.keep(kind, now),
            // A handler that closed it in its own way has said enough.
            Some(Idle::Close) if link.connection.is_open() => link.mark_closed(CloseReason::Idle),
            _ => {}
        }
    }

    /// The deadline that the handler has set has passed.
    fn on_user_deadline(&mut self, id: ConnId) {
        let Some(link) = self.lp.link(id) else { return };
        link.connection.set_user_deadline(NEVER); // the handler may set it anew
        let what = || What::Deadline { id };
        let verdict =
            self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                handler.deadline(state, lp, DeadlineKind::User)
            });
        let Some(mut link) = self.lp.link(id) else { return };
        if !link.connection.is_open() {
            return; // a handler that closed it in its own way has said enough
        }
        match verdict {
            Some(Deadline::Keep(wait)) => link.set_user_deadline(Some(wait.max(MIN_KEEP))),
            Some(Deadline::Close) => link.close(),
            Some(Deadline::Reset) | None => time_out(&mut link, TimeoutKind::User),
        }
    }

    /// A timer of a connection fired.
    pub(super) fn on_timer(&mut self, id: ConnId, fired: Fired) {
        let Some(link) = self.lp.link(id) else { return };
        if fired.is_last {
            link.connection.remove_timer(fired.timer.id);
        }
        if link.connection.is_open() {
            let what = || What::Timer { id, timer: fired.timer.id };
            self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                handler.timer(state, lp, fired.timer);
            });
        }
    }
}

/// Whether a wait that input could end has run out, and input would be taken.
fn is_overdue(link: &Link<'_>) -> bool {
    let waits_for_input = !matches!(
        link.expired(),
        None | Some(Expiry::Connect | Expiry::Attempt | Expiry::Timeout(TimeoutKind::User))
    );
    waits_for_input && link.connection.wants_read()
}

/// Whether a wait has run out that output could end which is queued: the handler may judge its peer
/// by how much of that has left.
fn is_owed(link: &Link<'_>) -> bool {
    let waits_for_output = matches!(
        link.expired(),
        Some(
            Expiry::Timeout(TimeoutKind::SendRate | TimeoutKind::Close | TimeoutKind::User)
                | Expiry::Idle(IdleKind::Write | IdleKind::All)
        )
    );
    waits_for_output && link.connection.has_output()
}

/// Whether a wait for progress has run out that output could end which the kernel has.
fn is_silent(link: &Link<'_>) -> bool {
    matches!(
        link.expired(),
        Some(Expiry::Timeout(TimeoutKind::Close) | Expiry::Idle(IdleKind::Write | IdleKind::All))
    )
}

fn time_out(link: &mut Link<'_>, kind: TimeoutKind) {
    if let (TimeoutKind::Close, Phase::Lingering(ending)) = (kind, link.connection.phase()) {
        // Everything was sent; that the peer does not finish is no loss.
        return link.mark_closed(ending.into());
    }
    // Of output that had become impossible the cause was there before.
    let cause = link.connection.take_output_failure();
    link.mark_closed_reset(cause.unwrap_or(CloseReason::Timeout(kind)));
}
