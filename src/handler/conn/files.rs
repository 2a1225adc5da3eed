//! `Conn::send_file`.

use std::fs::File;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::handler::Conn;
use crate::stream::Written;
use crate::sys::range_of;

impl Conn<'_> {
    /// Sends a part of a file, in order with what is written before and after.
    ///
    /// On Linux it goes from the kernel's cache to the socket without passing through this process
    /// (sendfile(2)); elsewhere, and where a file system cannot do that, it is read and written in
    /// pieces. Either way a file costs no memory, whatever its length and however slow the peer:
    /// [`max_output_bytes`](crate::Limits::max_output_bytes) does not count it. The marks do, as
    /// [`pending_bytes`](Self::pending_bytes) does: after a file that crossed the high mark,
    /// `on_drain` is called when what is left falls to the low mark, and until then the connection
    /// is not read from, unless [`pause_at_high_mark`](crate::Limits::pause_at_high_mark) is off.
    ///
    /// In a callback of its own connection, where nothing waits before it, the file begins to leave
    /// at once, else at the end of the turn. Each phase of a turn sends 1 MiB, shared by the
    /// connections that have more to send, but 64 KiB of each at the least; so all connections are
    /// served meanwhile.
    ///
    /// The range is in bytes from the beginning of the file, whose own position is neither used
    /// nor, on Unix, moved: one `Arc<File>` can go to many connections at once. It stays open
    /// until it has left. Up to 1,024 files can be queued; the next one is refused as a write over
    /// the cap is, with `Full`, and the connection ends with `Overflow` then unless
    /// [`on_overflow`](crate::Limits::on_overflow) says otherwise.
    ///
    /// If the file has become shorter, or cannot be read, the connection ends with
    /// `CloseReason::Io` and a reset, so that the peer does not take the part for the whole. If the
    /// file is written to meanwhile, the peer may get the old or the new content, or a mixture.
    ///
    /// [`close`](Self::close) cuts a peer that takes nothing for `close_timeout`, and
    /// [`shutdown_write`](Self::shutdown_write) has no deadline; bound the rate with
    /// [`min_send_rate`](crate::Limits::min_send_rate), or silence with an idle limit.
    ///
    /// # Examples
    /// ```
    /// use std::fs::File;
    /// use waterwheel::{Conn, Written};
    /// fn serve(conn: &mut Conn<'_>, path: &str) -> std::io::Result<Written> {
    ///     let file = File::open(path)?;
    ///     let length = file.metadata()?.len();
    ///     writeln!(conn, "{length}");
    ///     conn.send_file(file, ..length)
    /// }
    /// ```
    ///
    /// # Errors
    /// Nothing is queued then, and the connection goes on:
    /// - `InvalidInput`: the range runs backwards or goes past the end of the file; or it is a
    ///   directory, a pipe or the like; or a disk, whose length is not reported, and the range has
    ///   no end; or it was opened for writing only (Unix; elsewhere the connection ends with
    ///   `CloseReason::Io`).
    /// - The system's, if it does not report the length.
    ///
    /// # Platform notes
    /// What is not in the kernel's cache is read from the disk on the loop's thread, 1 MiB at the
    /// most before others have their turn. On Windows the position of the file moves, so each
    /// connection should have a `File` of its own. On Linux a peer that is gone makes the kernel
    /// send SIGPIPE, which Rust programs ignore from the start; a library in another program has
    /// to see to that.
    ///
    /// A Unix socket has no reset: of a file that was cut short its peer sees an ordinary end, so
    /// tell it the length first. Files under `/proc` say that they are empty.
    pub fn send_file(
        &mut self,
        file: impl Into<Arc<File>>,
        range: impl RangeBounds<u64>,
    ) -> io::Result<Written> {
        let file = file.into();
        let range = range_of(&file, range)?;
        let link = self.link();
        Ok(link.map_or(Written::Closed, |mut link| link.send_file(file, range)))
    }

    /// Sends a part of a file as [`send_file`](Self::send_file) does, without asking the system
    /// what it is: that has been done, and need not be done for each answer. It saves two system
    /// calls, which counts for a file that is kept open and sent often.
    ///
    /// A range that goes past the end, and a file that cannot be read, end the connection as a
    /// file does that turns out shorter: with `CloseReason::Io` and a reset.
    ///
    /// # Panics
    /// If the range runs backwards.
    pub fn send_checked_file(
        &mut self,
        file: impl Into<Arc<File>>,
        range: std::ops::Range<u64>,
    ) -> Written {
        assert!(range.start <= range.end, "the range {range:?} runs backwards");
        let file = file.into();
        self.link().map_or(Written::Closed, |mut link| link.send_file(file, range))
    }

    /// How much of [`pending_bytes`](Self::pending_bytes) is of files: what is left to send, in
    /// bytes, for a program that shows progress.
    #[must_use]
    pub fn pending_file_bytes(&self) -> u64 {
        self.lp.streams.get(self.id()).map_or(0, |connection| connection.file_bytes())
    }
}
