//! How one transfer has a part to itself: what the systems offer for it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Reads and writes, and follows no link. On Windows nobody else may open the file meanwhile; it
/// can be named and removed.
pub(crate) fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, NO_FOLLOW);
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, FILE_SHARE_DELETE);
    options
}

/// A link that takes the place of a file between a look at it and its opening is an error.
#[cfg(unix)]
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// See `CreateFile` in Microsoft's documentation, as for the error.
#[cfg(windows)]
const FILE_SHARE_DELETE: u32 = 4;

/// Locks a file that was opened so, without waiting; the lock ends with the file.
#[cfg(unix)]
pub(crate) fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?)
}

/// It is locked since it was opened.
#[cfg(windows)]
pub(crate) fn lock(_: &File) -> io::Result<()> {
    Ok(())
}

/// Whether an error means that somebody else has the lock.
pub(crate) fn is_held(error: &io::Error) -> bool {
    const ERROR_SHARING_VIOLATION: i32 = 32;
    error.kind() == io::ErrorKind::WouldBlock
        || cfg!(windows) && error.raw_os_error() == Some(ERROR_SHARING_VIOLATION)
}

/// Whether a path names this very file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |found: Metadata| (found.dev(), found.ino());
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(own), Ok(found)) => place(own) == place(found),
        _ => false,
    }
}

/// The standard library tells no two files apart here: whether there is one at all.
#[cfg(windows)]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether the file has a second name.
#[cfg(unix)]
pub(crate) fn has_other_names(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(found) > 1
}

/// The standard library does not count them here.
#[cfg(windows)]
pub(crate) fn has_other_names(_: &Metadata) -> bool {
    false
}
