//! Requests whose answers come later: how many there are, and what waits for them.

use crate::stream::Link;
use crate::stream::connection::{Flags, Phase};

impl Link<'_> {
    /// One more request is outstanding. With as many as may be, nothing is read.
    pub(crate) fn begin_request(&mut self) {
        let connection = &mut *self.connection;
        connection.set_requests(connection.requests().saturating_add(1));
        if connection.requests() >= connection.config.max_requests {
            connection.hold_back(Flags::MAX_REQUESTS);
            self.rewatch_message();
        }
    }

    /// One request fewer is outstanding. With half of what may be, reading goes on: at each answer
    /// it would stop again at once, for a request each.
    pub(crate) fn end_request(&mut self) {
        let connection = &mut *self.connection;
        let Some(left) = connection.requests().checked_sub(1) else {
            return log::error!("{}: a request was ended that was not begun", self.id);
        };
        connection.set_requests(left);
        connection.drop_unused();
        let is_awaited = left == 0 && connection.phase() == Phase::Open;
        if is_awaited && connection.flags.has(Flags::CLOSED_BY_HANDLER) {
            return self.close();
        }
        let is_full = connection.flags.has(Flags::MAX_REQUESTS);
        if is_full && left <= connection.config.max_requests / 2 {
            connection.flags.clear(Flags::MAX_REQUESTS);
            self.read_again();
        }
    }

    /// `Conn::close_when_answered`: no more input, and `close` behind the last answer.
    pub(crate) fn close_when_answered(&mut self) {
        if self.connection.requests() == 0 || !self.connection.is_open() {
            return self.close();
        }
        self.connection.flags.set(Flags::CLOSED_BY_HANDLER);
        self.connection.clear_input(&mut self.engine.spares);
        self.connection.flags.clear(Flags::REPLAY | Flags::INCOMPLETE);
        self.rewatch_message();
    }
}
