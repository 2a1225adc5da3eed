//! Files on their way out.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use crate::stream::connection::MAX_FILES;
use crate::stream::{Link, Written};

impl Link<'_> {
    /// Queues a part of a file; it leaves from the end of the turn on.
    pub(crate) fn send_file(&mut self, file: Arc<File>, range: Range<u64>) -> Written {
        if !self.connection.takes_output() {
            return Written::Closed;
        }
        if self.connection.files_queued() >= MAX_FILES {
            return self.overflow();
        }
        if !range.is_empty() {
            let was_empty = !self.connection.has_output();
            self.queue_gathered();
            self.connection.queue_file(file, range);
            self.after_queueing(was_empty);
        }
        self.side_of_mark()
    }
}
