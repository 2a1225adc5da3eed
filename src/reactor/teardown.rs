//! The end of a connection: its slot, its socket, and the last callback.

use std::io;
use std::rc::Rc;

use crate::close::{CloseReason, Closed};
use crate::engine::{Engine, explain_connect, explain_dial};
use crate::id::ConnId;
use crate::reactor::dispatch::Dispatcher;

impl Dispatcher {
    /// Takes a connection down: its slot, its socket, and the last callback.
    pub(super) fn bury(&mut self, id: ConnId, reason: CloseReason) {
        let connection = self.engine.remove(id);
        #[cfg(feature = "proxy-protocol")]
        if !connection.was_open && connection.profile.listener.is_some() {
            return self.bury_unaccepted(id, connection, reason);
        }
        let (state, was_open, unsent_bytes) =
            (connection.state, connection.was_open, connection.unsent());
        let (profile, peer) = (Rc::clone(&connection.profile), connection.peer);
        if connection.must_reset || unsent_bytes > 0 {
            // A failure here means that the socket is broken already.
            let _ = connection.stream.reset_on_close();
        }
        drop(connection);
        let Self { engine, services, .. } = self;
        let Some(service) = services.get_mut(profile.service as usize) else {
            return;
        };
        if !was_open {
            engine.stats.connect_failures += 1;
            let error = match &profile.dial {
                Some(dial) => explain_dial(dial, connect_error(reason)),
                None => explain_connect(&peer.into(), connect_error(reason)),
            };
            log::debug!("{id}: {error}");
            service.connect_failed(state, error, engine);
            return;
        }
        count_close(engine, &reason, unsent_bytes);
        log::debug!("{id}: {peer} {reason}, {unsent_bytes} bytes unsent");
        let dial = profile.dial.clone().filter(|dial| dial.options.reconnect.is_some());
        if let Some(dial) = &dial {
            dial.note_end(engine.now);
        }
        let closed = Closed { id, reason, unsent_bytes, dial };
        service.close(state, closed, engine);
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
