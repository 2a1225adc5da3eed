//! Where the database stands.

use std::fs::{self, DirBuilder};
use std::path::{Path, PathBuf};
use std::{env, io, process};

/// Names that are tried for a folder: a process that was killed has left one behind.
const MAX_NAMES: u32 = 100;

/// The file of the database, and the folder that was made for it, which is removed at the end.
pub(crate) struct Place {
    file: PathBuf,
    folder: Option<PathBuf>,
}

impl Place {
    /// The file that was asked for.
    pub(crate) fn at(file: PathBuf) -> Self {
        Self { file, folder: None }
    }

    /// A new folder among the temporary files. All users of a machine write there, so a name that
    /// is there already, be it a link, belongs to somebody else.
    pub(crate) fn temporary() -> io::Result<Self> {
        let place = |number| env::temp_dir().join(format!("offload-{}-{number}", process::id()));
        for folder in (0..MAX_NAMES).map(place) {
            match create(&folder) {
                Ok(()) => {
                    return Ok(Self { file: folder.join("offload.db"), folder: Some(folder) });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(with_path(&folder, &error)),
            }
        }
        Err(with_path(&place(0), &"it exists, and so do those with other numbers"))
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(error) = fs::remove_dir_all(folder)
        {
            log::warn!("{} stays: {error}", folder.display());
        }
    }
}

/// Makes a folder that only its owner may look into.
fn create(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn with_path(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
