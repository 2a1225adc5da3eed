//! The file of one transfer, on a thread of its own.
//!
//! Writing to a disk blocks, and syncing a large file may block for seconds: on the loop's thread
//! that would hold up all others. So each transfer has a thread, of which there are no more than
//! transfers at once, and the loop stops reading from a sender that is ahead of its disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crc32fast::Hasher;

use crate::name;
use crate::sum;

/// What the loop asks for.
pub(crate) enum Job {
    /// Go on at this offset: the end of what is there, or 0.
    From(u64),
    /// Write this behind it.
    Bytes(Vec<u8>),
    /// That was all: check it, and give it its name.
    Finish(Option<u32>),
}

/// What has been done.
pub(crate) enum Report {
    /// So much is there, with this checksum.
    Ready(u64, u32),
    /// It was written; the buffer can be used again.
    Wrote(Vec<u8>),
    /// The file is whole, on the disk, and has its name.
    Saved,
    /// It cannot be; what there is of it is kept, as a rule.
    Failed(String),
    /// The last: nothing is written any more.
    Ended,
}

/// Where a file goes.
pub(crate) struct Target {
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    pub(crate) length: u64,
    /// Whether a file of that name may be replaced.
    pub(crate) force: bool,
}

/// Starts the thread of one transfer. It ends when the sender of jobs is dropped.
pub(crate) fn start(
    target: Target,
    mut report: impl FnMut(Report) + Send + 'static,
) -> io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (sender, jobs) = channel();
    let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
        run(&target, &jobs, &mut report);
        report(Report::Ended);
    })?;
    Ok((sender, thread))
}

fn run(target: &Target, jobs: &Receiver<Job>, report: &mut impl FnMut(Report)) {
    let mut part = match Part::open(target) {
        Ok(part) => part,
        Err(text) => return report(Report::Failed(text)),
    };
    report(Report::Ready(part.length, part.hasher.clone().finalize()));
    for job in jobs {
        let result = match job {
            Job::From(offset) => part.go_to(offset).map(|()| None),
            Job::Bytes(bytes) => part.write(&bytes).map(|()| Some(Report::Wrote(bytes))),
            Job::Finish(sum) => part.finish(target, sum).map(|()| Some(Report::Saved)),
        };
        match result {
            Ok(None) => {}
            Ok(Some(done)) => report(done),
            Err(text) => {
                part.tidy();
                return report(Report::Failed(text));
            }
        }
    }
    part.tidy();
}

/// A file that is not whole.
struct Part {
    file: File,
    path: PathBuf,
    /// What it is called, for people.
    name: String,
    length: u64,
    hasher: Hasher,
    is_saved: bool,
}

impl Part {
    /// Opens what an earlier transfer has left, or begins anew.
    fn open(target: &Target) -> Result<Self, String> {
        expect_free(target)?;
        let name = name::part_of(&target.name);
        let path = target.dir.join(&name);
        let explain = |error: io::Error| format!("cannot write {name}: {error}");
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let mut file = match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => {
                return Err(format!("cannot write {name}: something else has that name"));
            }
            Ok(_) => options.open(&path).map_err(explain)?,
            // It does not follow a link that is made meanwhile.
            Err(_) => options.create_new(true).open(&path).map_err(explain)?,
        };
        let mut length = file.metadata().map_err(explain)?.len();
        if length > target.length {
            length = 0; // it is of another file
        }
        let mut hasher = Hasher::new();
        sum::add(&mut hasher, &mut file, 0, length).map_err(explain)?;
        Ok(Self { file, path, name, length, hasher, is_saved: false })
    }

    fn explain(&self, error: &io::Error) -> String {
        format!("cannot write {}: {error}", self.name)
    }

    fn go_to(&mut self, offset: u64) -> Result<(), String> {
        if offset != self.length {
            (self.length, self.hasher) = (0, Hasher::new());
        }
        let result = self.file.set_len(self.length);
        let result = result.and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
        result.map(drop).map_err(|error| self.explain(&error))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(|error| self.explain(&error))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// It is all there: checks it, brings it to the disk, and gives it its name.
    fn finish(&mut self, target: &Target, sum: Option<u32>) -> Result<(), String> {
        let found = self.hasher.clone().finalize();
        if let Some(sum) = sum.filter(|&sum| sum != found) {
            // There is no telling which part of it is wrong.
            self.length = 0;
            return Err(format!("the checksum is {found:08x} and should be {sum:08x}"));
        }
        self.file.sync_all().map_err(|error| self.explain(&error))?;
        self.take_name(target)?;
        self.is_saved = true;
        sync_folder(&target.dir).map_err(|error| format!("cannot sync the folder: {error}"))
    }

    fn take_name(&self, target: &Target) -> Result<(), String> {
        let path = target.dir.join(&target.name);
        let explain = |error: io::Error| format!("cannot name {}: {error}", target.name);
        // A second name never replaces another file, as a rename may; but not every file system
        // knows second names.
        if !target.force && fs::hard_link(&self.path, &path).is_ok() {
            return fs::remove_file(&self.path).map_err(explain);
        }
        expect_free(target)?;
        fs::rename(&self.path, &path).map_err(explain)
    }

    /// Nothing more comes: what there is stays for a later transfer, if there is any.
    fn tidy(&self) {
        if self.length == 0 && !self.is_saved {
            // Somebody else may have removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the name may be given.
fn expect_free(target: &Target) -> Result<(), String> {
    match fs::symlink_metadata(target.dir.join(&target.name)) {
        Ok(found) if found.is_dir() => Err("there is a folder of that name".to_owned()),
        Ok(_) if !target.force => {
            Err("there is a file of that name; recv_file --force replaces it".to_owned())
        }
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
