//! Directories where no file can be opened beside another: by canonical paths.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::FileKind;

/// A directory, by its canonical path.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Finds a directory, through whatever links lead to it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::canonicalize(path)?))
    }

    /// Finds a directory in this one; a link is an error.
    pub(crate) fn enter(&self, name: &str) -> io::Result<Self> {
        match self.kind(name)? {
            FileKind::Folder => Ok(Self(self.0.join(name))),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// What a name in this directory is. Another spelling of the name is an error too, as a short
    /// name is on Windows.
    pub(crate) fn kind(&self, name: &str) -> io::Result<FileKind> {
        let path = self.0.join(name);
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_symlink() || fs::canonicalize(&path)? != path {
            return Ok(FileKind::Other);
        }
        Ok(match () {
            () if kind.is_file() => FileKind::File,
            () if kind.is_dir() => FileKind::Folder,
            () => FileKind::Other,
        })
    }

    /// Opens a file in this directory for reading; a link is an error.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        match self.kind(name)? {
            FileKind::File => File::open(self.0.join(name)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// What tells a file from another one of its name: nothing here.
pub(crate) fn file_id(_: &Metadata) -> u64 {
    0
}
