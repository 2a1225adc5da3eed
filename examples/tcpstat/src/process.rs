//! The processes that hold sockets, and how near they are to their limit of open files.

use std::collections::{BTreeMap, HashSet};
use std::io;

use procfs::process::{FDTarget, LimitValue, Process, all_processes};

/// A process that holds one of the sockets.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) open_files: Option<u64>,
    /// `None` also if there is no limit.
    pub(crate) open_files_limit: Option<u64>,
    /// Those of the sockets that it holds.
    pub(crate) inodes: HashSet<u64>,
}

/// What is there for this process if processes can be looked at.
const OWN: &str = "/proc/self/fd";

/// Who holds these sockets, as far as this process may know.
///
/// # Errors
/// - no process can be looked at, as where /proc is not mounted; the error names the file
pub(crate) fn holders(inodes: &HashSet<u64>) -> io::Result<Vec<Holder>> {
    std::fs::metadata(OWN)
        .map_err(|error| io::Error::new(error.kind(), format!("{OWN}: {error}")))?;
    // A process may end while it is looked at: it is then left out.
    let processes = all_processes().into_iter().flatten().filter_map(Result::ok);
    let holders = processes.filter_map(|process| holder(&process, inodes));
    let by_pid: BTreeMap<i32, Holder> = holders.map(|holder| (holder.pid, holder)).collect();
    Ok(by_pid.into_values().collect())
}

fn holder(process: &Process, inodes: &HashSet<u64>) -> Option<Holder> {
    let files = process.fd().ok()?.filter_map(Result::ok);
    let held: HashSet<u64> = files
        .filter_map(|file| match file.target {
            FDTarget::Socket(inode) if inodes.contains(&inode) => Some(inode),
            _ => None,
        })
        .collect();
    if held.is_empty() {
        return None;
    }
    let limit = process.limits().ok().map(|limits| limits.max_open_files.soft_limit);
    Some(Holder {
        pid: process.pid(),
        name: process.stat().ok()?.comm,
        open_files: process.fd_count().ok().map(|count| count as u64),
        open_files_limit: match limit {
            Some(LimitValue::Value(limit)) => Some(limit),
            Some(LimitValue::Unlimited) | None => None,
        },
        inodes: held,
    })
}
