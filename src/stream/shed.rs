//! The cap on what all connections of a reactor have queued.

use std::cmp::Reverse;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::engine::Engine;
use crate::stream::connection::Flags;
use crate::stream::{Link, Streams};

impl Link<'_> {
    /// Has the end of the turn look at all queues, if there is more in them than the cap allows.
    pub(super) fn check_all_queues(&mut self) {
        if self.engine.is_over_queued() {
            self.queue_flush();
        }
    }
}

impl Streams {
    /// Resets the connections with the largest queues, until all queues together are within the
    /// cap. Only those whose sockets are full: the memory is theirs who do not read, and not that
    /// of the connection that has written last.
    #[cold]
    #[inline(never)]
    pub(crate) fn shed_output(&mut self, engine: &mut Engine) {
        let blocked = self.iter().filter(|(_, it)| !it.is_closed() && it.flags.has(Flags::BLOCKED));
        let mut queues: Vec<(usize, ConnId)> =
            blocked.map(|(id, connection)| (connection.plain_in_memory(), id)).collect();
        queues.sort_unstable_by_key(|&(bytes, _)| Reverse(bytes));
        for (bytes, id) in queues {
            if bytes == 0 || !engine.is_over_queued() {
                return;
            }
            let Some(mut link) = self.link(engine, id) else { continue };
            log::debug!("{id}: {bytes} bytes are queued, and too many in all");
            link.mark_closed_reset(CloseReason::Overflow);
        }
    }
}
