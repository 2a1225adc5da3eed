//! Files on their way out.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use crate::engine::Engine;
use crate::stream::connection::{Flags, MAX_FILES, Sent};
use crate::stream::{Link, Written};
use crate::sys::FileSink;

impl Link<'_> {
    /// Sends a part of a file, and queues what does not leave at once.
    pub(crate) fn send_file(&mut self, file: Arc<File>, mut range: Range<u64>) -> Written {
        if !self.connection.takes_output() {
            return Written::Closed;
        }
        if self.connection.files_queued() >= MAX_FILES {
            return self.overflow();
        }
        if self.sends_at_once() && !self.connection.flags.has(Flags::LAYERED) {
            self.send_first(&file, &mut range);
        }
        if !range.is_empty() {
            let was_empty = !self.connection.has_output();
            self.queue_gathered();
            self.connection.queue_file(file, range);
            self.after_queueing(was_empty);
        }
        self.side_of_mark()
    }

    /// Sends what has gathered and the first share of a file past an empty queue, as far as this
    /// phase has room. What fails is queued, and meets its error when the queue is sent.
    fn send_first(&mut self, file: &File, range: &mut Range<u64>) {
        if range.is_empty() || !self.engine.ready.has_room() {
            return;
        }
        let share = self.engine.ready.share_of_files(self.engine.turn_budgets());
        let Engine { cork, ready, spares, .. } = &mut *self.engine;
        let (stream, head) = (&mut self.connection.stream, cork.bytes());
        let Ok(mut bytes) = (if head.is_empty() { Ok(0) } else { stream.write_before_file(head) })
        else {
            return;
        };
        let mut calls = u64::from(bytes > 0);
        if bytes == head.len() {
            let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let wanted = left.min(share);
            if let Ok(count @ 1..) = stream.send_file(file, range.start, wanted, &mut false) {
                range.start += count as u64;
                (bytes, calls) = (bytes + count, calls + 1);
            }
        } else {
            self.connection.queue_output(&head[bytes..], spares);
        }
        cork.clear();
        ready.use_room(bytes);
        self.after_sending(Sent { bytes, calls, ..Sent::default() });
        self.renew_cork_room();
    }
}
