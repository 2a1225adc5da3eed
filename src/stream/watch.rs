//! What the poll is asked to tell of connections.

use std::io;

use crate::base::close::CloseReason;
use crate::engine::Target;
use crate::stream::Link;
use crate::stream::connection::{Flags, Phase, Watch};

impl Link<'_> {
    /// Registers the socket of an accepted connection, once. Whatever is there by then is told at
    /// once: epoll_ctl(2) and kevent(2) look at a socket when it is added. So it may have been read
    /// before.
    #[inline]
    pub(crate) fn register(&mut self) -> io::Result<()> {
        let waits = self.connection.flags.has(Flags::BLOCKED);
        let (token, poller) = (Target::token(self.id), self.engine.io.poller());
        poller.add(&mut self.connection.stream, token, waits)?;
        self.connection.watch = if waits { Watch::Both } else { Watch::Input };
        Ok(())
    }

    /// Whether the connection ends with the turn that it came in, and no event could tell of
    /// anything that would still be done for it.
    #[inline]
    pub(crate) fn needs_no_watch(&self) -> bool {
        let connection = &*self.connection;
        let is_ending = matches!(connection.phase(), Phase::Closing(_))
            && connection.flags.has(Flags::IN_FLUSH_LIST);
        is_ending && !connection.has_output() && connection.ends_without_waiting()
    }

    /// The poll was asked for both directions when the socket was made.
    pub(super) fn note_watched(&mut self) {
        let is_on_demand = self.asks_writable_on_demand();
        self.connection.watch = Watch::Both;
        self.connection.flags.put(Flags::ASKS_WRITABLE, is_on_demand);
    }

    /// Has the poll tell of room for output from the first time on that output waits for it; where
    /// it is asked for on demand, while output waits, and only then.
    pub(crate) fn ask_writable(&mut self, wanted: bool) {
        let is_on_demand = self.asks_writable_on_demand();
        let is_needless = match self.connection.watch {
            Watch::Nothing => true, // registering sees to it
            Watch::Input => !wanted,
            Watch::Both => wanted || !is_on_demand,
        };
        if !is_needless {
            self.watch_anew(wanted, is_on_demand);
        }
    }

    fn watch_anew(&mut self, wanted: bool, is_on_demand: bool) {
        self.connection.watch = if wanted { Watch::Both } else { Watch::Input };
        self.connection.flags.put(Flags::ASKS_WRITABLE, wanted && is_on_demand);
        let token = Target::token(self.id);
        let poller = self.engine.io.poller_mut();
        match poller.set_writable(&mut self.connection.stream, token, wanted) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The poll has let go of a broken socket; reading finds out how it ended.
                self.connection.flags.set(Flags::READABLE);
                self.connection.note_broken();
                let has_more = !self.connection.flags.has(Flags::READ_CLOSED);
                if has_more && self.connection.must_leave_nothing() {
                    // Also what the callback leaves that has just written.
                    self.connection.flags.set(Flags::REPLAY);
                }
                self.queue_ready();
            }
            Err(error) => self.mark_closed(CloseReason::Io(error)),
        }
    }
}
