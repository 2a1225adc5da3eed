//! Phase 6: what was queued is flushed, and what has ended is torn down: its slot, its socket, and
//! the last callback.

use std::io;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::engine::Engine;
use crate::engine::observer::{ConnEnd, What};
use crate::handler::Loop;
use crate::reactor::callback::Who;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::{Connection, Flags};
use crate::stream::{Closed, explain_connect, explain_dial};
use crate::sys::Stream;

impl Dispatcher {
    /// Phase 6. What callbacks end or queue meanwhile is for the next turn, and so is what is above
    /// the budgets.
    pub(super) fn flush_and_close(&mut self) -> usize {
        self.lp.datagrams.send_batches(&mut self.lp.engine);
        self.place_states();
        let flushes = self.flush_queued();
        if self.lp.engine.is_over_queued() {
            self.flush_ready();
            self.lp.streams.shed_output(&mut self.lp.engine);
        }
        let retries = self.report_retries();
        // Connections that were begun and ended meanwhile have states to give back.
        self.place_states();
        let mut closed = self.lp.engine.end_of_turn.closed().len();
        if !self.lp.engine.ends_all() {
            closed = closed.min(self.lp.engine.turn_budgets().closes);
        }
        for _ in 0..closed {
            let Some((id, reason)) = self.lp.engine.end_of_turn.pop_closed() else { break };
            self.tear_down(id, reason);
        }
        let failures = self.lp.streams.failures();
        for _ in 0..failures {
            let Some(failure) = self.lp.streams.pop_failure() else { break };
            self.report_failure(failure);
        }
        self.lp.engine.end_of_turn.give_back();
        self.lp.streams.give_back();
        flushes + retries + closed + failures
    }

    /// Flushes connections as far as the budgets go. There is none while more is queued than may
    /// be: only what no socket takes is to be shed.
    pub(super) fn flush_queued(&mut self) -> usize {
        self.lp.engine.renew_room();
        let budgets = self.lp.engine.turn_budgets();
        let flushes = self.lp.engine.end_of_turn.flushes().len();
        let (mut count, mut sending) = (0, 0);
        while count < flushes {
            let engine = &mut self.lp.engine;
            let is_enough = sending >= budgets.flushes || count >= budgets.closes;
            let has_budget = !is_enough && engine.ready.has_room();
            if !has_budget && !engine.ends_all() && !engine.is_over_queued() {
                break;
            }
            let Some(id) = engine.end_of_turn.pop_flush() else { break };
            count += 1;
            sending += usize::from(self.flush_and_advance(id));
        }
        count
    }

    /// More is queued than may be: those that are ready send too, whatever their places, until it
    /// is not. What is left then is of sockets that take no more. In the last turn all of them do:
    /// their places come in no other.
    #[cold]
    pub(super) fn flush_ready(&mut self) {
        for at in 0..self.lp.engine.ready.connections().len() {
            let Some(&id) = self.lp.engine.ready.connections().get(at) else { return };
            if !self.lp.engine.is_over_queued() && !self.lp.engine.ends_all() {
                return;
            }
            self.flush(id);
        }
    }

    /// Sends what is queued, and takes the next step of a close. Whether there was output.
    fn flush_and_advance(&mut self, id: ConnId) -> bool {
        let Some(mut link) = self.lp.link(id) else { return false };
        link.connection.flags.clear(Flags::IN_FLUSH_LIST);
        if link.flush_plain() {
            return true;
        }
        let has_output = link.connection.has_output();
        self.flush(id);
        if let Some(mut link) = self.lp.link(id) {
            link.advance_close();
            link.connection.drop_unused(); // its next message takes the fast path
        }
        has_output
    }

    /// Tears a connection down: its slot, its socket, and the last callback.
    #[inline(always)] // into the end of a turn
    pub(super) fn tear_down(&mut self, id: ConnId, reason: CloseReason) {
        let Loop { streams, engine, .. } = &mut self.lp;
        let removed = streams.remove(engine, id, |connection| {
            let unsent_bytes = connection.unsent();
            if connection.flags.has(Flags::UNOPENED) {
                return None;
            }
            if log::log_enabled!(log::Level::Debug) {
                log_end(id, connection, &reason, unsent_bytes);
            }
            reset_unless_sent(connection, unsent_bytes);
            Some((connection.state, connection.flags, unsent_bytes))
        });
        let Some(((state, flags, unsent_bytes), connection)) = removed else {
            return self.tear_down_unopened(id, reason);
        };
        let config = connection.into_config();
        self.lp.streams.note_place(&mut self.lp.engine, config.listener);
        count_close(&mut self.lp.engine, &reason, unsent_bytes);
        let dial = config.dial.clone().filter(|dial| dial.options.reconnect.is_some());
        if let Some(dial) = &dial {
            dial.note_end(self.lp.engine.now());
        }
        if !self.lp.engine.observers.is_empty() {
            tell_closed(&mut self.lp.engine, id, flags, &reason, unsent_bytes);
        }
        // Made here: what nothing else has seen is not stored before the handler is given it.
        let closed = Closed { id, reason, unsent_bytes, dial };
        let what = || What::Close { id, unsent_bytes };
        self.callbacks.enter(&mut self.lp, Who::Closed, config.service, what, |entry, lp| {
            entry.handler.close(state, closed, lp);
        });
    }

    /// The end of a connection, if it is there, of which its handler was not told that it is up.
    #[inline(never)]
    fn tear_down_unopened(&mut self, id: ConnId, reason: CloseReason) {
        let Loop { streams, engine, .. } = &mut self.lp;
        let Some(((), connection)) = streams.remove(engine, id, |_| Some(())) else { return };
        streams.note_place(engine, connection.config.listener);
        match connection.config.listener {
            Some(_) => self.tear_down_unaccepted(connection, id, reason),
            None => self.tear_down_unconnected(connection, id, reason),
        }
    }

    /// The end of an outgoing connection that was never up.
    fn tear_down_unconnected(
        &mut self,
        connection: Connection<Stream>,
        id: ConnId,
        reason: CloseReason,
    ) {
        let (state, peer) = (connection.state, connection.peer());
        reset_unless_sent(&connection, connection.unsent());
        let config = connection.into_config();
        self.lp.engine.stats.connect_failures += 1;
        let error = match &config.dial {
            Some(dial) => explain_dial(dial, connect_error(reason)),
            None => explain_connect(&peer.into(), connect_error(reason)),
        };
        log::debug!("{id}: {error}");
        let what = || What::ConnectFailed { id: Some(id) };
        self.callbacks.enter(&mut self.lp, Who::Closed, config.service, what, |entry, lp| {
            entry.handler.connect_failed(state, error, lp);
        });
    }
}

/// Kept out of `tear_down`: what formats is large, and a piece that is large is called.
#[cold]
#[inline(never)]
fn log_end(id: ConnId, connection: &Connection<Stream>, reason: &CloseReason, unsent_bytes: usize) {
    log::debug!("{id}: {} {reason}, {unsent_bytes} bytes unsent", connection.peer());
}

/// Has the peer see by the end of the socket, which comes next, whether all was sent.
#[inline]
fn reset_unless_sent(connection: &Connection<Stream>, unsent_bytes: usize) {
    if connection.flags.has(Flags::MUST_RESET) || unsent_bytes > 0 {
        reset_on_close(connection);
    }
}

#[inline(never)] // as `log_end`
fn reset_on_close(connection: &Connection<Stream>) {
    // A failure here means that the socket is broken already.
    let _ = connection.stream.reset_on_close();
}

#[cold]
fn tell_closed(
    engine: &mut Engine,
    id: ConnId,
    flags: Flags,
    reason: &CloseReason,
    unsent_bytes: usize,
) {
    let end = ConnEnd {
        reason,
        unsent_bytes,
        is_by_handler: flags.has(Flags::CLOSED_BY_HANDLER),
        must_reset: flags.has(Flags::MUST_RESET),
        is_paused: flags.has(Flags::PAUSED),
    };
    engine.observers.tell(|observer| observer.on_closed(id, &end));
}

fn count_close(engine: &mut Engine, reason: &CloseReason, unsent_bytes: usize) {
    let stats = &mut engine.stats;
    stats.closed += 1;
    stats.bytes_unsent += unsent_bytes as u64;
    match reason {
        CloseReason::Idle => stats.closed_idle += 1,
        CloseReason::Timeout(_) => stats.closed_timeout += 1,
        CloseReason::Reset | CloseReason::Io(_) => stats.closed_broken += 1,
        CloseReason::Overflow => stats.closed_overflow += 1,
        _ => {}
    }
}

/// Why a connect failed, as an error.
fn connect_error(reason: CloseReason) -> io::Error {
    match reason {
        CloseReason::Io(error) => error,
        CloseReason::Local => {
            io::Error::new(io::ErrorKind::ConnectionAborted, "it was closed before it was up")
        }
        reason => io::Error::new(io::ErrorKind::ConnectionAborted, reason.to_string()),
    }
}
