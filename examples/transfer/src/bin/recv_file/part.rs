//! A file that is not whole: held by one transfer alone, written, and given its name.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use transfer::name;
use transfer::sum;

use crate::hold;
use crate::writer::Target;

/// How often a part is opened anew because its name was given to another file meanwhile.
const MOST_TRIES: u32 = 8;

/// Why a file is not received, as a rule.
pub(crate) const TAKEN: &str = "there is a file of that name; recv_file --force replaces it";

/// A file that is not whole.
pub(crate) struct Part {
    /// Locked as long as it is open.
    file: File,
    path: PathBuf,
    /// What it is called, for people.
    name: String,
    length: u64,
    hasher: Hasher,
    /// Whether this transfer has made it or written to it.
    is_ours: bool,
    is_saved: bool,
}

impl Part {
    /// Opens what an earlier transfer has left, or begins anew; gives up when it is not wanted any
    /// more.
    pub(crate) fn open(target: &Target, is_wanted: impl Fn() -> bool) -> Result<Self, String> {
        expect_free(target)?;
        let name = name::part_of(&target.name);
        let path = target.dir.join(&name);
        let name = name::shown(&name);
        let explain = |error: io::Error| match hold::is_held(&error) {
            true => format!("cannot write {name}: somebody else is writing it"),
            false => format!("cannot write {name}: {error}"),
        };
        let (mut file, is_ours) = open_alone(&path).map_err(explain)?;
        let mut length = file.metadata().map_err(explain)?.len();
        if length > target.length {
            length = 0; // it is of another file
        }
        let mut hasher = Hasher::new();
        sum::add(&mut hasher, &mut file, 0, length, is_wanted).map_err(explain)?;
        Ok(Self { file, path, name, length, hasher, is_ours, is_saved: false })
    }

    /// How much there is that can be gone on from.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The checksum of that.
    pub(crate) fn sum(&self) -> u32 {
        self.hasher.clone().finalize()
    }

    fn explain(&self, error: &io::Error) -> String {
        format!("cannot write {}: {error}", self.name)
    }

    pub(crate) fn go_to(&mut self, offset: u64) -> Result<(), String> {
        self.is_ours = true;
        if offset != self.length {
            (self.length, self.hasher) = (0, Hasher::new());
        }
        let result = self.file.set_len(self.length);
        let result = result.and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
        result.map(drop).map_err(|error| self.explain(&error))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(|error| self.explain(&error))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// It is all there: checks it, brings it to the disk, and gives it its name.
    pub(crate) fn finish(&mut self, target: &Target, sum: Option<u32>) -> Result<(), String> {
        let found = self.sum();
        if let Some(sum) = sum.filter(|&sum| sum != found) {
            // There is no telling which part of it is wrong.
            self.length = 0;
            return Err(format!("the checksum is {found:08x} and should be {sum:08x}"));
        }
        self.file.sync_all().map_err(|error| self.explain(&error))?;
        self.expect_untouched()?;
        self.take_name(target)?;
        self.is_saved = true;
        sync_folder(&target.dir).map_err(|error| format!("cannot sync the folder: {error}"))
    }

    /// Not everybody asks for the lock.
    fn expect_untouched(&mut self) -> Result<(), String> {
        let found = self.file.metadata().map_err(|error| self.explain(&error))?;
        if found.len() == self.length && hold::is_at(&self.file, &self.path) {
            return Ok(());
        }
        self.length = 0; // there is no telling what is in it
        Err(format!("somebody else has changed {} meanwhile", self.name))
    }

    fn take_name(&self, target: &Target) -> Result<(), String> {
        let path = target.dir.join(&target.name);
        let name = name::shown(&target.name);
        let explain = |error: io::Error| format!("cannot name {name}: {error}");
        // A second name never replaces another file, as a rename may; but not every file system
        // knows second names.
        if !target.force && fs::hard_link(&self.path, &path).is_ok() {
            return fs::remove_file(&self.path).map_err(explain);
        }
        expect_free(target)?;
        fs::rename(&self.path, &path).map_err(explain)
    }

    /// Nothing more comes: what there is stays for a later transfer, if there is any; and so does
    /// what this one has only looked at.
    pub(crate) fn tidy(&self) {
        let is_in_vain = self.is_ours && self.length == 0 && !self.is_saved;
        if is_in_vain && hold::is_at(&self.file, &self.path) {
            // Somebody else may have removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a part, or makes one, and locks it; whether it was made.
fn open_alone(path: &Path) -> io::Result<(File, bool)> {
    for _ in 0..MOST_TRIES {
        let Some((file, is_new)) = open_or_make(path)? else { continue };
        hold::lock(&file)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(something_else());
        }
        // Whoever had the lock before may have given the file its name.
        if !hold::is_at(&file, path) {
            continue;
        }
        // It is a whole file too: its receiver has died between giving it its name and taking
        // this one away. Or somebody wants another file to be written to.
        if hold::has_other_names(&found) {
            fs::remove_file(path)?;
            continue;
        }
        return Ok((file, is_new));
    }
    Err(io::Error::other("others are at it all the time"))
}

/// Opens what has that name, or makes it, and whether it was made; `None` if it went meanwhile.
fn open_or_make(path: &Path) -> io::Result<Option<(File, bool)>> {
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err(something_else());
    }
    match hold::options().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return Ok(Some((made?, true))),
    }
    match hold::options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => Ok(Some((opened?, false))),
    }
}

fn something_else() -> io::Error {
    io::Error::other("something else has that name")
}

/// Whether the name may be given.
fn expect_free(target: &Target) -> Result<(), String> {
    match fs::symlink_metadata(target.dir.join(&target.name)) {
        Ok(found) if found.is_dir() => Err("there is a folder of that name".to_owned()),
        Ok(_) if !target.force => Err(TAKEN.to_owned()),
        _ => Ok(()),
    }
}

/// Brings the name to the disk.
#[cfg(unix)]
fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Windows has no such thing.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
