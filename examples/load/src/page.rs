//! The file of `--html`: the last page stays until there is a new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where a page goes.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    /// Where it is written first, to be given its name then; `None` if that is no file, as
    /// `/dev/stdout` is none, or its folder takes no other.
    fresh: Option<PathBuf>,
}

impl Page {
    /// Looks whether a page can be written, so that a path which cannot be does not cost a run.
    /// Nothing is left behind or changed.
    pub(crate) fn probe(path: &Path) -> Result<Self, String> {
        let explain = |error| explain(path, &error);
        // A link stays a link.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let found = fs::metadata(path).ok();
        if found.is_some() {
            File::options().append(true).open(path).map_err(explain)?;
        }
        if found.as_ref().is_some_and(|found| !found.is_file()) {
            return Ok(Self { path: path.clone(), fresh: None });
        }
        let mut fresh = path.clone().into_os_string();
        fresh.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(fresh);
        let made = File::create_new(&fresh).and_then(|_| fs::remove_file(&fresh));
        match made {
            Ok(()) => Ok(Self { path: path.clone(), fresh: Some(fresh) }),
            Err(_) if found.is_some() => Ok(Self { path: path.clone(), fresh: None }),
            Err(error) => Err(explain(error)),
        }
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, text: &str) -> Result<(), String> {
        self.replace(text).map_err(|error| explain(&self.path, &error))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let Some(fresh) = &self.fresh else {
            return File::create(&self.path)?.write_all(text.as_bytes());
        };
        let result = fs::write(fresh, text).and_then(|()| fs::rename(fresh, &self.path));
        if result.is_err() {
            let _ = fs::remove_file(fresh);
        }
        result
    }
}

fn explain(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}
