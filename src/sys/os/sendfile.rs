//! From a file to a socket: within the kernel where it can, else by reading and writing.

use std::fs::File;
use std::io::{self, Write};
use std::ops::{Bound, Range, RangeBounds};

use super::{linux, native, system};
use crate::sys::Stream;

/// What bytes of a file can be sent to.
pub(crate) trait FileSink: Write {
    /// Sends at most `most` bytes of a file, from `offset` on; 0 says that it has no more.
    ///
    /// `is_copied` says that the file cannot go without passing through this process; it is set
    /// where that turns out.
    fn send_file(
        &mut self,
        file: &File,
        offset: u64,
        most: usize,
        is_copied: &mut bool,
    ) -> io::Result<usize> {
        *is_copied = true;
        copy(self, file, offset, most)
    }

    /// Writes once, where a part of a file follows at once: the kernel may wait for it, and send
    /// both as one packet.
    fn write_before_file(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }
}

impl FileSink for Stream {
    fn send_file(
        &mut self,
        file: &File,
        offset: u64,
        most: usize,
        is_copied: &mut bool,
    ) -> io::Result<usize> {
        if !*is_copied {
            match self.send_within_kernel(file, offset, most) {
                Err(error) if cannot(&error) => *is_copied = true,
                result => return result,
            }
        }
        copy(self, file, offset, most)
    }

    fn write_before_file(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => native::call(stream, || linux::send_more(stream, bytes)),
            Self::Sim(_) | Self::Absent => self.write(bytes),
        }
    }
}

impl Stream {
    fn send_within_kernel(&self, file: &File, offset: u64, most: usize) -> io::Result<usize> {
        match self {
            Self::Os(stream) => {
                native::call(stream, || linux::sendfile(stream, file, offset, most))
            }
            Self::Sim(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Absent => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Whether the kernel cannot send this file by itself, though it may well read it: some file
/// systems and devices answer with `EINVAL`, and a sandbox may know no sendfile at all.
fn cannot(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Bytes that are copied at once: they lie on the stack, and a page fault for each page of more
/// would cost what fewer calls save.
const COPY_BYTES: usize = 16 << 10;

/// Reads and writes once. What the socket does not take is read again later, so that nothing of a
/// file waits in memory.
fn copy<W: Write + ?Sized>(
    stream: &mut W,
    file: &File,
    offset: u64,
    most: usize,
) -> io::Result<usize> {
    let mut bytes = [0; COPY_BYTES];
    let most = most.min(COPY_BYTES);
    let count = read_of(file, &mut bytes[..most], offset)?;
    if count == 0 {
        return Ok(0);
    }
    match stream.write(&bytes[..count])? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        sent => Ok(sent),
    }
}

/// Reads a part of a file that is being sent.
pub(crate) fn read_of(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match system::read_at(file, bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(explain_read),
        }
    }
}

fn explain_read(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read the file that is being sent: {error}"))
}

/// The bytes of a file that a range means; they must be there.
pub(crate) fn range_of(file: &File, range: impl RangeBounds<u64>) -> io::Result<Range<u64>> {
    let metadata = file.metadata()?;
    if !(metadata.is_file() || system::is_disk(&metadata)) {
        // A pipe or a terminal has no bytes at an offset.
        return Err(invalid("it is neither a file nor a disk".to_owned()));
    }
    if !system::is_readable(file)? {
        return Err(invalid("it was opened for writing only".to_owned()));
    }
    // A disk does not say its length here.
    let length = metadata.is_file().then_some(metadata.len());
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => Some(end.saturating_add(1)),
        Bound::Excluded(&end) => Some(end),
        Bound::Unbounded => length,
    };
    let Some(end) = end else {
        return Err(invalid("give the end of the range, the length is not known".to_owned()));
    };
    if let Some(length) = length.filter(|&length| start > length || end > length) {
        let text = format!("the range {start}..{end} goes past the end of its {length} bytes");
        return Err(invalid(text));
    }
    if start > end {
        return Err(invalid(format!("the range {start}..{end} runs backwards")));
    }
    Ok(start..end)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("cannot send the file: {text}"))
}
