//! Files in a connection's output, and what was written behind them.
//!
//! ```text
//!  output | file, behind | file, behind | ...
//! ```
//! What was written before the first file is in the connection's own queue; once a file has left,
//! what stands behind it moves there.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::buffer::{Queue, Spares};
use crate::connection::{Connection, Sent};
use crate::sys::FileSink;

/// Bytes of files that a turn sends, shared by those that are ready. The kernel copies so much in
/// about 0.15 ms, of which the calls of a turn take two hundredths; a quarter of it would make that
/// a tenth. A disk that has to be read first takes some milliseconds for it.
const FILE_BUDGET_BYTES: usize = 1 << 20;

/// What each may send all the same, however many are ready: less would go into calls.
const LEAST_FILE_BUDGET_BYTES: usize = 64 << 10;

/// Calls for it: where files are copied, each moves 16 KiB.
const FILE_BUDGET_CALLS: usize = 72;

/// Files queued at one connection. Each is open, and holds some memory beside what is written.
pub(crate) const MOST_FILES: usize = 1_024;

/// The files in a connection's output.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Invariant: not empty, except for a moment.
    queue: VecDeque<Piece>,
    /// Bytes of files that have not left.
    ///
    /// Invariant: the sum over `queue` of what is `left`, each of which is more than 0.
    bytes: u64,
    /// Bytes written behind files.
    ///
    /// Invariant: the sum over `queue` of what is `behind`.
    behind: usize,
}

/// A part of a file, and what was written behind it.
#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    /// Where it goes on.
    offset: u64,
    /// Bytes that have not left.
    left: u64,
    /// It can only be sent by reading and writing.
    is_copied: bool,
    behind: Queue,
}

impl Piece {
    /// One call, of at most `most` bytes. A file without the bytes that it had is an error.
    fn send(&mut self, stream: &mut impl FileSink, most: usize) -> io::Result<usize> {
        match stream.send_file(&self.file, self.offset, most, &mut self.is_copied)? {
            0 => Err(self.cut_short()),
            count => {
                self.offset += count as u64;
                self.left -= count as u64;
                Ok(count)
            }
        }
    }

    #[cold]
    fn cut_short(&self) -> io::Error {
        let text = format!(
            "the file that is being sent was cut short: it ends at byte {} or before, {} bytes \
             are missing",
            self.offset, self.left
        );
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    }
}

impl<S> Connection<S> {
    fn files(&self) -> Option<&Files> {
        self.rare.as_ref()?.files.as_deref()
    }

    /// Whether anything that was written or queued has not left.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.has_files()
    }

    pub(crate) fn has_files(&self) -> bool {
        self.files().is_some()
    }

    /// How many files wait.
    pub(crate) fn files_queued(&self) -> usize {
        self.files().map_or(0, |files| files.queue.len())
    }

    /// Bytes of files that have not left.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files().map_or(0, |files| files.bytes)
    }

    /// Bytes of output that are held in memory: those of files are not.
    pub(crate) fn output_in_memory(&self) -> usize {
        self.output.len() + self.files().map_or(0, |files| files.behind)
    }

    /// Bytes that have not left, those of files too.
    pub(crate) fn output_left(&self) -> usize {
        let of_files = usize::try_from(self.file_bytes()).unwrap_or(usize::MAX);
        self.output_in_memory().saturating_add(of_files)
    }

    /// Queues a part of a file, which is not empty, behind what is queued already.
    pub(crate) fn queue_file(&mut self, file: Arc<File>, range: Range<u64>) {
        debug_assert!(!range.is_empty());
        let (offset, left) = (range.start, range.end - range.start);
        let files = self.rare_mut().files.get_or_insert_default();
        // No file has more than 2^63 bytes, but the same one may be queued often.
        files.bytes = files.bytes.saturating_add(left);
        files.queue.push_back(Piece {
            file,
            offset,
            left,
            is_copied: false,
            behind: Queue::default(),
        });
    }

    /// Queues output behind what is queued already.
    pub(crate) fn queue_output(&mut self, bytes: &[u8], spares: &mut Spares) {
        self.is_plain = false;
        let files = self.rare.as_mut().and_then(|rare| rare.files.as_deref_mut());
        match files.and_then(|files| Some((files.queue.back_mut()?, &mut files.behind))) {
            Some((piece, behind)) => {
                piece.behind.push(bytes, spares);
                *behind += bytes.len();
            }
            None => self.output.push(bytes, spares),
        }
    }

    /// Drops everything that has not left, and says how much it was.
    pub(crate) fn clear_output(&mut self, spares: &mut Spares) -> usize {
        let mut lost = self.output.clear(spares);
        if let Some(files) = self.rare.as_mut().and_then(|rare| rare.files.take()) {
            lost = lost.saturating_add(usize::try_from(files.bytes).unwrap_or(usize::MAX));
            for mut piece in files.queue {
                lost = lost.saturating_add(piece.behind.clear(spares));
            }
        }
        lost
    }

    /// The first file has left: what was written behind it is next.
    fn finish_file(&mut self) {
        debug_assert!(self.output.is_empty());
        let Some(rare) = &mut self.rare else { return };
        let Some(files) = &mut rare.files else { return };
        if let Some(piece) = files.queue.pop_front() {
            files.behind -= piece.behind.len();
            self.output = piece.behind;
        }
        if files.queue.is_empty() {
            debug_assert_eq!((files.bytes, files.behind), (0, 0));
            rare.files = None;
        }
    }
}

impl<S: FileSink> Connection<S> {
    /// Sends what is queued: bytes in at most `budget` calls, and files within a budget of bytes
    /// that is shared with `others`.
    pub(crate) fn flush_all(
        &mut self,
        budget: usize,
        others: usize,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        let mut sent = self.flush(budget, short_is_full, spares);
        if self.has_files() {
            let most = (FILE_BUDGET_BYTES / (1 + others)).max(LEAST_FILE_BUDGET_BYTES);
            self.flush_files(&mut sent, most, short_is_full, spares);
        }
        sent
    }

    fn flush_files(
        &mut self,
        sent: &mut Sent,
        mut most: usize,
        short_is_full: bool,
        spares: &mut Spares,
    ) {
        for _ in 0..FILE_BUDGET_CALLS {
            if sent.is_over() || most == 0 {
                return;
            }
            if !self.output.is_empty() {
                sent.add(self.flush(1, short_is_full, spares));
                continue;
            }
            let Some(count) = self.send_of_file(most, sent) else { return };
            most -= count;
        }
    }

    /// One call for the first file; `None` if there is none.
    ///
    /// A part does not say that the socket is full: a signal may have cut the call, and the file
    /// may be at its end. Only `WouldBlock` says so.
    fn send_of_file(&mut self, most: usize, sent: &mut Sent) -> Option<usize> {
        let files = self.rare.as_mut()?.files.as_deref_mut()?;
        let piece = files.queue.front_mut()?;
        let wanted = usize::try_from(piece.left).map_or(most, |left| left.min(most));
        let result = piece.send(&mut self.stream, wanted);
        let is_done = piece.left == 0;
        let before = sent.bytes;
        sent.count(result, wanted, false);
        let count = sent.bytes - before;
        files.bytes -= count as u64;
        if is_done {
            self.finish_file();
        }
        Some(count)
    }
}
