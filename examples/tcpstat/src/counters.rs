//! What the kernel has counted since this network began, for all its sockets together.

use std::io;

/// The counters that tell of queues that were full, and what each counts.
const SHOWN: [(&str, &str); 5] = [
    ("ListenOverflows", "connections that found an accept queue full"),
    ("ListenDrops", "the same, and those lost for any other reason before they were accepted"),
    ("TCPReqQFullDrop", "SYNs dropped because a SYN queue was full"),
    ("SyncookiesSent", "SYNs answered by a cookie because a SYN queue was full"),
    ("TCPTimeWaitOverflow", "connections that skipped TIME_WAIT: net.ipv4.tcp_max_tw_buckets"),
];

/// A counter, with what it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    pub(crate) name: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) count: u64,
}

/// The file that they are read from.
const FILE: &str = "/proc/net/netstat";

/// Those that this kernel has.
///
/// # Errors
/// - the file cannot be read, as where /proc is not mounted; the error names it
pub(crate) fn counters() -> io::Result<Vec<Counter>> {
    let text = std::fs::read_to_string(FILE)
        .map_err(|error| io::Error::new(error.kind(), format!("{FILE}: {error}")))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, counts) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let pairs = names.split_whitespace().zip(counts.split_whitespace());
    let counters = pairs.filter_map(|(name, count)| {
        let &(name, meaning) = SHOWN.iter().find(|(shown, _)| *shown == name)?;
        Some(Counter { name, meaning, count: count.parse().ok()? })
    });
    Ok(counters.collect())
}
