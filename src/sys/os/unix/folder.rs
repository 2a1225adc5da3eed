//! Directories from which files are opened step by step, so that no link leads out of them.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::retry_on_intr;

use crate::sys::FileKind;

/// Where the system can, the right to search a directory is enough: it need not be readable.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ENTER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const ENTER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// A pipe is opened at once by `NONBLOCK`, instead of when there is a writer.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A directory that is open.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Opens a directory, through whatever links lead to it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| openat(CWD, path, ENTER, Mode::empty()))?))
    }

    /// Opens a directory in this one; a link is an error.
    pub(crate) fn enter(&self, name: &str) -> io::Result<Self> {
        let flags = ENTER | OFlags::NOFOLLOW;
        Ok(Self(retry_on_intr(|| openat(&self.0, name, flags, Mode::empty()))?))
    }

    /// What a name in this directory is, without opening it: to open a device may do something.
    pub(crate) fn kind(&self, name: &str) -> io::Result<FileKind> {
        let stat = retry_on_intr(|| statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Folder,
            _ => FileKind::Other,
        })
    }

    /// Opens a file in this directory for reading, without ever waiting; a link is an error.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        let file = retry_on_intr(|| openat(&self.0, name, READ, Mode::empty()))?;
        Ok(File::from(file))
    }
}

/// What tells a file from another one of its name.
pub(crate) fn file_id(metadata: &Metadata) -> u64 {
    metadata.ino() ^ metadata.dev().rotate_left(40)
}
