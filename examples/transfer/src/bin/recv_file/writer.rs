//! The file of one transfer, on a thread of its own.
//!
//! Writing to a disk blocks, and syncing a large file may block for seconds: on the loop's thread
//! that would hold up all others. So each transfer has a thread, of which there are no more than
//! transfers at once, and the loop stops reading from a sender that is ahead of its disk.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::{self, JoinHandle};

use crc32fast::Hasher;
use transfer::sum;

use crate::hold;
use crate::part::{self, Part};

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
    /// The last: nothing is written any more.
    Ended(End),
}

/// What has become of a file.
#[derive(Clone)]
pub(crate) enum End {
    /// It is whole, on the disk, and has its name.
    Saved,
    /// It was so already; nothing has been changed.
    WasThere,
    /// It cannot be; what there is of it is kept, as a rule.
    Failed(String),
}

/// Where a file goes.
pub(crate) struct Target {
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    pub(crate) length: u64,
    /// Whether a file of that name may be replaced.
    pub(crate) force: bool,
}

/// Starts the thread of one transfer. It ends soon when the sender of jobs is dropped, unless it is
/// saving.
pub(crate) fn start(
    target: Target,
    jobs: Receiver<Job>,
    mut report: impl FnMut(Report) + Send + 'static,
) -> io::Result<JoinHandle<End>> {
    thread::Builder::new().name("writer".to_owned()).spawn(move || {
        let end = run(&target, &jobs, &mut report).unwrap_or_else(End::Failed);
        report(Report::Ended(end.clone()));
        end
    })
}

fn run(
    target: &Target,
    jobs: &Receiver<Job>,
    report: &mut impl FnMut(Report),
) -> Result<End, String> {
    // There is none to lose: they come once it is told what is there.
    let is_wanted = || !matches!(jobs.try_recv(), Err(TryRecvError::Disconnected));
    if let Some(sum) = sum_of_whole(target, is_wanted) {
        return confirm(target, sum, jobs, report);
    }
    let mut part = Part::open(target, is_wanted)?;
    let result = receive(&mut part, target, jobs, report);
    part.tidy();
    result
}

/// Does what is asked for, up to the end of the file or of the transfer.
fn receive(
    part: &mut Part,
    target: &Target,
    jobs: &Receiver<Job>,
    report: &mut impl FnMut(Report),
) -> Result<End, String> {
    report(Report::Ready(part.length(), part.sum()));
    for job in jobs {
        match job {
            Job::From(offset) => part.go_to(offset)?,
            Job::Bytes(bytes) => {
                part.write(&bytes)?;
                report(Report::Wrote(bytes));
            }
            Job::Finish(sum) => return part.finish(target, sum).map(|()| End::Saved),
        }
    }
    Err(sum::UNWANTED.to_owned())
}

/// The checksum of the file that has the name, if it is as long as the one that is offered and may
/// not be replaced: its sender may have been cut off before it heard that it was saved.
fn sum_of_whole(target: &Target, is_wanted: impl Fn() -> bool) -> Option<u32> {
    if target.force {
        return None;
    }
    let path = target.dir.join(&target.name);
    // A pipe is not opened: that would wait.
    path.symlink_metadata().ok().filter(|found| found.is_file())?;
    let mut file = hold::options().write(false).open(path).ok()?;
    file.metadata().ok().filter(|found| found.len() == target.length)?;
    let mut hasher = Hasher::new();
    sum::add(&mut hasher, &mut file, 0, target.length, is_wanted).ok()?;
    Some(hasher.finalize())
}

/// Offers a whole file as what is there: that is all right for a sender of the same.
fn confirm(
    target: &Target,
    found: u32,
    jobs: &Receiver<Job>,
    report: &mut impl FnMut(Report),
) -> Result<End, String> {
    report(Report::Ready(target.length, found));
    for job in jobs {
        match job {
            Job::From(offset) if offset == target.length => {}
            Job::Finish(sum) if sum.is_none_or(|sum| sum == found) => return Ok(End::WasThere),
            _ => return Err(part::TAKEN.to_owned()),
        }
    }
    Err(sum::UNWANTED.to_owned())
}
