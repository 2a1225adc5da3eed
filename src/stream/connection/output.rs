//! The output of a connection that the kernel has not taken: bytes, files, and what was written
//! behind them.
//!
//! ```text
//!  output | file, behind | file, behind | ...
//! ```
//! What was written before the first file is in the connection's own queue; once a file has left,
//! what stands behind it moves there.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::iter;
use std::ops::Range;
use std::sync::Arc;

use crate::base::buffer::{Queue, Spares};
use crate::stream::connection::{Connection, Flags};
use crate::sys::{FileSink, read_of};

/// Calls for one share of files: where they are copied, each moves 16 KiB.
const FILE_BUDGET_CALLS: usize = 72;

/// Parts of one write that a call takes. The array for them stands on the stack: 1 KiB.
const PARTS_PER_CALL: usize = 64;

/// Files queued at one connection. Each is open, and holds some memory beside what is written.
pub(crate) const MAX_FILES: usize = 1_024;

/// What sending gave: how much the kernel took, in how many calls, and what ended it.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Bytes taken.
    pub(crate) bytes: usize,
    /// Writes that took bytes.
    pub(crate) calls: u64,
    /// The socket is full: the poll tells when it takes more.
    pub(crate) is_blocked: bool,
    /// The error that ended it, if one did.
    pub(crate) error: Option<io::Error>,
}

/// The files in a connection's output.
#[derive(Debug)]
pub(super) struct Files {
    /// The one that leaves now. It is seldom followed by another.
    first: Piece,
    #[expect(clippy::box_collection, reason = "they are few, and what is cold is to be small")]
    others: Option<Box<VecDeque<Piece>>>,
    /// Bytes of files that have not left.
    ///
    /// Invariant: the sum over all of them of what is `left`, each of which is more than 0.
    bytes: u64,
    /// Bytes written behind files.
    ///
    /// Invariant: the sum over all of them of what is `behind`.
    behind: usize,
}

impl Files {
    fn new(first: Piece) -> Self {
        Self { bytes: first.left, first, others: None, behind: 0 }
    }

    fn push(&mut self, piece: Piece) {
        // No file has more than 2^63 bytes, but the same one may be queued often.
        self.bytes = self.bytes.saturating_add(piece.left);
        self.others.get_or_insert_default().push_back(piece);
    }

    /// Puts bytes behind the last file.
    fn push_behind(&mut self, bytes: &[u8], spares: &mut Spares) {
        let others = self.others.as_mut().and_then(|others| others.back_mut());
        let last = others.unwrap_or(&mut self.first);
        last.behind.push(bytes, spares);
        self.behind += bytes.len();
    }
}

/// A part of a file, and what was written behind it.
#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    /// Where it goes on.
    offset: u64,
    /// Bytes that have not left.
    left: u64,
    /// Whether the file can only be sent by reading and writing.
    is_copied: bool,
    behind: Queue,
}

impl Piece {
    /// Makes one call, of at most `most` bytes. A file without the bytes that it had is an error.
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
        self.cold.as_ref()?.files.as_ref()
    }

    /// Whether anything that was written or queued has not left.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.flags.has(Flags::HAS_OUTPUT)
    }

    pub(super) fn note_output(&mut self) {
        let has_output = !self.output.is_empty()
            || self.flags.has(Flags::HAS_COLD) && (self.has_files() || self.encoded_len() > 0);
        self.flags.put(Flags::HAS_OUTPUT, has_output);
    }

    pub(crate) fn has_files(&self) -> bool {
        self.files().is_some()
    }

    /// How many files wait.
    pub(crate) fn files_queued(&self) -> usize {
        self.files().map_or(0, |files| 1 + files.others.as_ref().map_or(0, |others| others.len()))
    }

    /// Bytes of files that have not left.
    pub(crate) fn file_bytes(&self) -> u64 {
        let in_files = self.files().map_or(0, |files| files.bytes);
        in_files.saturating_add(self.encoded_output().1 as u64)
    }

    /// Bytes of output that are held in memory: those of files are not.
    pub(crate) fn output_in_memory(&self) -> usize {
        self.plain_in_memory() + self.encoded_output().0
    }

    /// The same without what a layer has encoded: what [`Spares`] counts.
    pub(crate) fn plain_in_memory(&self) -> usize {
        self.output.len() + self.files().map_or(0, |files| files.behind)
    }

    /// Bytes that have not left, those of files too.
    #[inline]
    pub(crate) fn output_left(&self) -> usize {
        if self.has_output() { self.all_output_left() } else { 0 }
    }

    fn all_output_left(&self) -> usize {
        let of_files = usize::try_from(self.file_bytes()).unwrap_or(usize::MAX);
        self.output_in_memory().saturating_add(of_files)
    }

    /// Queues a part of a file, which is not empty, behind what is queued already.
    pub(crate) fn queue_file(&mut self, file: Arc<File>, range: Range<u64>) {
        debug_assert!(!range.is_empty());
        let (offset, left) = (range.start, range.end - range.start);
        let piece = Piece { file, offset, left, is_copied: false, behind: Queue::default() };
        match &mut self.cold_mut().files {
            Some(files) => files.push(piece),
            none => *none = Some(Files::new(piece)),
        }
        self.flags.set(Flags::HAS_OUTPUT);
    }

    /// Queues output behind what is queued already.
    pub(crate) fn queue_output(&mut self, bytes: &[u8], spares: &mut Spares) {
        spares.note_queued(bytes.len());
        let files = self.cold.as_mut().and_then(|cold| cold.files.as_mut());
        match files {
            Some(files) => files.push_behind(bytes, spares),
            None if self.output.is_empty() && !bytes.is_empty() => {
                self.output.push_shared(bytes, spares);
            }
            None => self.output.push(bytes, spares),
        }
        self.note_output();
    }

    /// The same, not for nothing, where nothing is queued and nothing is kept that few need.
    pub(crate) fn begin_output(&mut self, bytes: &[u8], spares: &mut Spares) {
        debug_assert!(!self.flags.has(Flags::HAS_OUTPUT | Flags::HAS_COLD));
        spares.note_queued(bytes.len());
        self.output.push_shared(bytes, spares);
        self.flags.set(Flags::HAS_OUTPUT);
    }

    /// Queues several parts behind what is queued already.
    pub(crate) fn queue_parts(&mut self, parts: &[&[u8]], spares: &mut Spares) {
        if self.has_files() {
            return parts.iter().for_each(|part| self.queue_output(part, spares));
        }
        let length = self.output.push_parts(parts, spares);
        spares.note_queued(length);
        self.note_output();
    }

    /// Drops everything that has not left, and says how much it was.
    pub(crate) fn clear_output(&mut self, spares: &mut Spares) -> usize {
        spares.note_left(self.plain_in_memory());
        let mut lost = self.output.clear(spares) + self.clear_encoded(spares);
        if let Some(cold) = &mut self.cold {
            cold.sending = None;
        }
        if let Some(files) = self.cold.as_mut().and_then(|cold| cold.files.take()) {
            let Files { first, others, bytes, .. } = files;
            lost = lost.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
            for mut piece in iter::once(first).chain(others.into_iter().flat_map(|others| *others))
            {
                lost = lost.saturating_add(piece.behind.clear(spares));
            }
        }
        self.note_output();
        lost
    }

    /// The first file has left: what was written behind it is next.
    fn finish_file(&mut self) {
        debug_assert!(self.output.is_empty());
        let Some(cold) = &mut self.cold else { return };
        let Some(files) = &mut cold.files else { return };
        self.output = files.first.behind.take();
        files.behind -= self.output.len();
        match files.others.as_mut().and_then(|others| others.pop_front()) {
            Some(next) => files.first = next,
            None => {
                debug_assert_eq!((files.bytes, files.behind), (0, 0));
                cold.files = None;
            }
        }
    }
}

impl<S: Write> Connection<S> {
    /// Sends `first` and then `second` past an empty queue, as far as `sent` has not done it, and
    /// queues what the kernel does not take. `short_is_full` says that a short write means a full
    /// socket.
    pub(crate) fn send(
        &mut self,
        first: &[u8],
        second: &[u8],
        mut sent: Sent,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        debug_assert!(!self.has_output());
        let total = first.len() + second.len();
        while sent.bytes < total && !sent.is_over() {
            let rest = &first[sent.bytes.min(first.len())..];
            let behind = &second[sent.bytes.saturating_sub(first.len())..];
            let result = match (rest, behind) {
                (rest, []) => self.stream.write(rest),
                ([], behind) => self.stream.write(behind),
                (rest, behind) => {
                    self.stream.write_vectored(&[IoSlice::new(rest), IoSlice::new(behind)])
                }
            };
            sent.count(result, rest.len() + behind.len(), short_is_full);
        }
        if sent.bytes < total {
            self.queue_output(&first[sent.bytes.min(first.len())..], spares);
            self.queue_output(&second[sent.bytes.saturating_sub(first.len())..], spares);
        }
        sent
    }

    /// Sends `first` and then `parts` past an empty queue, and queues what the kernel does not
    /// take. `short_is_full` says that a short write means a full socket.
    pub(crate) fn send_parts(
        &mut self,
        first: &[u8],
        parts: &[&[u8]],
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        debug_assert!(!self.has_output());
        let mut sent = Sent::default();
        while !sent.is_over() {
            let mut slices = [IoSlice::new(&[]); PARTS_PER_CALL];
            let (mut used, mut wanted) = (0, 0);
            for (slice, part) in slices.iter_mut().zip(unsent_parts(first, parts, sent.bytes)) {
                *slice = IoSlice::new(part);
                (used, wanted) = (used + 1, wanted + part.len());
            }
            if used == 0 {
                break;
            }
            let result = self.stream.write_vectored(&slices[..used]);
            sent.count(result, wanted, short_is_full);
        }
        for part in unsent_parts(first, parts, sent.bytes) {
            self.queue_output(part, spares);
        }
        sent
    }

    /// Sends what is queued, in one call, where there are no files. As a rule all leaves: how much
    /// that was.
    #[inline]
    pub(crate) fn flush_whole(
        &mut self,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Result<usize, Sent> {
        let wanted = self.output.len();
        let result = self.stream.write(self.output.as_slice());
        if matches!(result, Ok(count) if count == wanted) {
            self.output.clear(spares);
            spares.note_left(wanted);
            self.flags.clear(Flags::HAS_OUTPUT);
            return Ok(wanted);
        }
        let mut sent = Sent::default();
        sent.count(result, wanted, short_is_full);
        self.output.consume(sent.bytes, spares);
        spares.note_left(sent.bytes);
        Err(sent)
    }

    /// Sends what is queued, in at most `budget` calls.
    pub(crate) fn flush(
        &mut self,
        budget: usize,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        let mut sent = Sent::default();
        for _ in 0..budget {
            if self.output.is_empty() || sent.is_over() {
                break;
            }
            let before = sent.bytes;
            let wanted = self.output.len();
            let result = self.stream.write(self.output.as_slice());
            sent.count(result, wanted, short_is_full);
            self.output.consume(sent.bytes - before, spares);
            spares.note_left(sent.bytes - before);
        }
        self.note_output();
        sent
    }
}

/// What of `first` and then `parts` stands behind the first `sent` bytes; no part is empty.
fn unsent_parts<'a>(
    first: &'a [u8],
    parts: &'a [&'a [u8]],
    mut sent: usize,
) -> impl Iterator<Item = &'a [u8]> {
    iter::once(first).chain(parts.iter().copied()).filter_map(move |part| {
        let gone = sent.min(part.len());
        sent -= gone;
        Some(&part[gone..]).filter(|rest| !rest.is_empty())
    })
}

impl Sent {
    /// Whether no other write should follow.
    pub(crate) fn is_over(&self) -> bool {
        self.is_blocked || self.error.is_some()
    }

    /// Counts what another call gave.
    pub(crate) fn add(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.calls += more.calls;
        self.is_blocked = more.is_blocked;
        self.error = more.error;
    }

    /// Counts one write of `wanted` bytes.
    pub(crate) fn count(&mut self, result: io::Result<usize>, wanted: usize, short_is_full: bool) {
        match result {
            Ok(0) => self.error = Some(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.bytes += count;
                self.calls += 1;
                self.is_blocked = count < wanted && short_is_full;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => self.is_blocked = true,
                _ => self.error = Some(error),
            },
        }
    }
}

impl<S: FileSink> Connection<S> {
    /// Sends what is queued: bytes in at most `budget` calls, and at most so many bytes of files.
    /// Under a layer files are bytes.
    pub(crate) fn flush_all(
        &mut self,
        budget: usize,
        most_of_files: usize,
        short_is_full: bool,
        spares: &mut Spares,
    ) -> Sent {
        if self.flags.has(Flags::LAYERED) {
            return self.flush_layered(budget, short_is_full, spares);
        }
        if !self.has_files() {
            return self.flush(budget, short_is_full, spares);
        }
        let mut sent = Sent::default();
        self.flush_files(&mut sent, most_of_files, short_is_full, spares);
        self.note_output();
        sent
    }

    /// Sends files and what stands around them.
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
            if self.output.is_empty() {
                let Some(count) = self.send_of_file(most, sent) else { return };
                most -= count;
            } else if self.has_files() {
                self.flush_before_file(sent, short_is_full, spares);
            } else {
                sent.add(self.flush(1, short_is_full, spares));
            }
        }
    }

    /// Sends what stands before the first file, in one call. A part of the file follows at once,
    /// unless the socket is full or broken: so no packet waits for it in the kernel in vain.
    fn flush_before_file(&mut self, sent: &mut Sent, short_is_full: bool, spares: &mut Spares) {
        let (before, wanted) = (sent.bytes, self.output.len());
        let result = self.stream.write_before_file(self.output.as_slice());
        sent.count(result, wanted, short_is_full);
        self.output.consume(sent.bytes - before, spares);
        spares.note_left(sent.bytes - before);
    }

    /// Reads at most `most` bytes of the first file into `bytes`, which is empty; how many.
    pub(super) fn read_of_file(&mut self, most: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let files = self.cold.as_mut().and_then(|cold| cold.files.as_mut());
        let Some(files) = files else { return Ok(0) };
        let piece = &mut files.first;
        bytes.resize(usize::try_from(piece.left).map_or(most, |left| left.min(most)), 0);
        let result = read_of(&piece.file, bytes, piece.offset);
        bytes.truncate(*result.as_ref().unwrap_or(&0));
        let count = result?;
        if count == 0 {
            return Err(piece.cut_short());
        }
        (piece.offset, piece.left) = (piece.offset + count as u64, piece.left - count as u64);
        files.bytes -= count as u64;
        if piece.left == 0 {
            self.finish_file();
        }
        Ok(count)
    }

    /// Makes one call for the first file; returns `None` if there is none.
    ///
    /// A part does not say that the socket is full: a signal may have cut the call, and the file
    /// may be at its end. Only `WouldBlock` says so.
    fn send_of_file(&mut self, most: usize, sent: &mut Sent) -> Option<usize> {
        let files = self.cold.as_mut()?.files.as_mut()?;
        let piece = &mut files.first;
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
