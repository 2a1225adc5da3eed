//! The end of a connection: its slot, its socket, and the last callback.

use std::io;
use std::rc::Rc;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::engine::Engine;
use crate::engine::observer::{ConnEnd, What};
use crate::reactor::callback::Who;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::Flags;
use crate::stream::{Closed, explain_connect, explain_dial};

impl Dispatcher {
    /// Tears a connection down: its slot, its socket, and the last callback.
    pub(super) fn tear_down(&mut self, id: ConnId, reason: CloseReason) {
        let Some(connection) = self.lp.streams.remove(&mut self.lp.engine, id) else { return };
        let was_open = !connection.flags.has(Flags::UNOPENED);
        if !was_open && connection.config.listener.is_some() {
            return self.tear_down_unaccepted(connection, id, reason);
        }
        let (state, unsent_bytes) = (connection.state, connection.unsent());
        let (config, peer) = (Rc::clone(&connection.config), connection.peer());
        if connection.flags.has(Flags::MUST_RESET) || unsent_bytes > 0 {
            // A failure here means that the socket is broken already.
            let _ = connection.stream.reset_on_close();
        }
        let flags = connection.flags;
        drop(connection);
        if !was_open {
            self.lp.engine.stats.connect_failures += 1;
            let error = match &config.dial {
                Some(dial) => explain_dial(dial, connect_error(reason)),
                None => explain_connect(&peer.into(), connect_error(reason)),
            };
            log::debug!("{id}: {error}");
            let what = What::ConnectFailed { id: Some(id) };
            self.callbacks.enter(&mut self.lp, Who::Closed, config.service, what, |entry, lp| {
                entry.handler.connect_failed(state, error, lp);
            });
            return;
        }
        count_close(&mut self.lp.engine, &reason, unsent_bytes);
        log::debug!("{id}: {peer} {reason}, {unsent_bytes} bytes unsent");
        let dial = config.dial.clone().filter(|dial| dial.options.reconnect.is_some());
        if let Some(dial) = &dial {
            dial.note_end(self.lp.engine.now());
        }
        let closed = Closed { id, reason, unsent_bytes, dial };
        self.lp.engine.observers.tell(|observer| {
            let end = ConnEnd {
                reason: &closed.reason,
                unsent_bytes,
                is_by_handler: flags.has(Flags::CLOSED_BY_HANDLER),
                must_reset: flags.has(Flags::MUST_RESET),
                is_paused: flags.has(Flags::PAUSED),
            };
            observer.on_closed(id, &end);
        });
        let what = What::Close { id, unsent_bytes };
        self.callbacks.enter(&mut self.lp, Who::Closed, config.service, what, |entry, lp| {
            entry.handler.close(state, closed, lp);
        });
    }
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
