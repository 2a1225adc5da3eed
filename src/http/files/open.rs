//! From a path to the open files that it stands for, without leaving the root.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use super::Settings;
use super::coding::CODINGS;
use super::form::{Form, Stamp};
use super::path::is_allowed;
use crate::sys::{FileKind, Folder};

/// A file that was opened, and what it was then.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) stamp: Stamp,
}

/// What a path stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// A file, and its compressed copies in the order of [`CODINGS`].
    File { plain: Opened, coded: [Option<Opened>; CODINGS.len()], name: String },
    /// A directory, of which the path does not say that it is one.
    Folder,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Settings {
    /// Finds what a path below the root stands for. An error of the kind `NotFound` is a path that
    /// leads nowhere, or to something that is not served.
    pub(super) fn open(&self, path: &str) -> io::Result<Found> {
        let (folders, name) = match path.rsplit_once('/') {
            Some((folders, name)) => (Some(folders), name),
            None => (None, path),
        };
        let name = match name {
            "" => self.index.as_deref().ok_or_else(not_found)?,
            name => name,
        };
        // An empty one, as before a slash at the beginning, is refused with the others.
        let segments = || folders.into_iter().flat_map(|folders| folders.split('/'));
        let mut names = segments().chain([name]);
        if !names.all(|name| is_allowed(name, self.hidden_files)) {
            return Err(not_found());
        }
        if self.symlinks {
            return self.open_linked(folders.unwrap_or_default(), name);
        }
        let mut folder = Folder::open(&self.root)?;
        for name in segments() {
            folder = folder.enter(name)?;
        }
        self.open_in(&folder, name)
    }

    /// Finds a file through links, none of which leads out of the root. What is opened then is the
    /// path without links, so that a link which is made meanwhile leads nowhere.
    fn open_linked(&self, folders: &str, name: &str) -> io::Result<Found> {
        let root = self.root.canonicalize()?;
        let target = root.join(folders).join(name).canonicalize()?;
        let below = target.strip_prefix(&root).map_err(|_| not_found())?;
        let (Some(parent), Some(target)) = (below.parent(), below.file_name()) else {
            return Ok(Found::Folder); // a link to the root itself
        };
        let folder = enter_all(&root, parent)?;
        let found = self.open_in(&folder, target.to_str().ok_or_else(not_found)?)?;
        Ok(match found {
            // The name that was asked for says what it is.
            Found::File { plain, coded, .. } => Found::File { plain, coded, name: name.to_owned() },
            Found::Folder => Found::Folder,
        })
    }

    /// Opens a file in a directory, and its compressed copies.
    fn open_in(&self, folder: &Folder, name: &str) -> io::Result<Found> {
        match folder.kind(name)? {
            FileKind::File => {}
            FileKind::Folder => return Ok(Found::Folder),
            FileKind::Other => return Err(not_found()),
        }
        let plain = open_one(folder, name)?;
        let mut coded = [const { None }; CODINGS.len()];
        for (coding, copy) in CODINGS.iter().zip(&mut coded) {
            let name = format!("{name}{}", coding.ending);
            if self.precompressed && matches!(folder.kind(&name), Ok(FileKind::File)) {
                let found = open_one(folder, &name).ok();
                // A copy of what the file was before is none.
                *copy = found.filter(|copy| copy.stamp.modified >= plain.stamp.modified);
            }
        }
        Ok(Found::File { plain, coded, name: name.to_owned() })
    }
}

fn enter_all(root: &Path, below: &Path) -> io::Result<Folder> {
    let mut folder = Folder::open(root)?;
    for component in below.components() {
        let Component::Normal(name) = component else { return Err(not_found()) };
        folder = folder.enter(name.to_str().ok_or_else(not_found)?)?;
    }
    Ok(folder)
}

fn open_one(folder: &Folder, name: &str) -> io::Result<Opened> {
    let file = folder.file(name)?;
    let stamp = Form::stamp(&file)?;
    Ok(Opened { file, stamp })
}
