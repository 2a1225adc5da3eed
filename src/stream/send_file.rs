//! Files on their way out.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use crate::connection::MOST_FILES;
use crate::engine::{Engine, Written};
use crate::id::ConnId;

impl Engine {
    /// Queues a part of a file; it leaves from the end of the turn on.
    pub(crate) fn send_file(&mut self, id: ConnId, file: Arc<File>, range: Range<u64>) -> Written {
        let Some(connection) = self.live(id) else {
            return Written::Closed;
        };
        if !connection.takes_output() {
            return Written::Closed;
        }
        if connection.files_queued() >= MOST_FILES {
            return self.overflow(id);
        }
        if !range.is_empty() {
            let was_empty = !connection.has_output();
            self.queue_gathered(id);
            self.connections[id.index()].queue_file(file, range);
            self.after_queueing(id, was_empty);
        }
        self.side_of_mark(id)
    }

    /// Bytes of files that have not left.
    pub(crate) fn pending_file_bytes(&self, id: ConnId) -> u64 {
        self.live(id).map_or(0, |connection| connection.file_bytes())
    }
}
