//! A lock on a path, between processes: whoever changes what is at the path holds it meanwhile.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::flock;
use super::socket_file::{identity, identity_at};

/// Longest wait for the lock. It is held for a few system calls.
const PATIENCE: Duration = Duration::from_secs(30);

/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// How its file is opened: made if it is not there, and no link is followed.
const FLAGS: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A lock that is held until it is dropped: a file beside the path, which goes with it. The system
/// gives up the lock of a process that ends, and its file is used by the next one.
#[derive(Debug)]
pub(super) struct PathLock {
    path: PathBuf,
    #[expect(dead_code, reason = "the lock goes when it is closed")]
    file: File,
}

impl PathLock {
    /// Takes the lock of a path.
    ///
    /// # Errors
    /// - `TimedOut`: another process has had it for 30 s.
    /// - Those of the system, if the file system has no locks, or the file cannot be made.
    pub(super) fn take(of: &Path) -> io::Result<Self> {
        let path = beside(of, ".lock");
        let explain = |error: io::Error| {
            let text = format!("cannot lock {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        };
        let begun = Instant::now();
        loop {
            if let Some(file) = try_take(&path).map_err(explain)? {
                return Ok(Self { path, file });
            }
            if begun.elapsed() > PATIENCE {
                let text = format!("another process holds {} for {PATIENCE:?}", path.display());
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("{}: the lock file cannot be removed: {error}", self.path.display());
        }
    }
}

/// The path with something added to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(suffix);
    path.into()
}

/// Returns the file, locked; `None` if another process has the lock, or has just given it up, and
/// removed the file that was opened here.
fn try_take(path: &Path) -> io::Result<Option<File>> {
    let file = File::from(openat(CWD, path, FLAGS, Mode::RUSR | Mode::WUSR)?);
    let is_locked = flock::try_lock(&file)?;
    let is_there = identity_at(path) == Some(identity(&file.metadata()?));
    Ok((is_locked && is_there).then_some(file))
}
