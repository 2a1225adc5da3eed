//! The file of one transfer, on a thread of its own.
//!
//! Writing to a disk blocks, and syncing a large file may block for seconds: on the loop's thread
//! that would hold up all others. So each transfer has a thread, of which there are no more than
//! transfers at once, and the loop stops reading from a sender that is ahead of its disk.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::part::Part;

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
    report(Report::Ready(part.length(), part.sum()));
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
