//! What the behaviour tests share: handlers made of closures, a journal that holds every callback
//! against the grammar, client sockets, and a loop that is driven by hand.
//!
//! Most tests drive the reactor with `run_once` in their own thread, with their client sockets
//! beside it, so that the order of things is certain.

mod client;
pub(crate) mod datagrams;
mod descriptors;
mod journal;
mod logged;
mod rig;
mod scratch;
mod script;
mod server;
mod upstream;

pub(crate) use client::{Client, End};
pub(crate) use descriptors::many_descriptors;
pub(crate) use journal::{Call, Journal, Watched};
pub(crate) use logged::{keep_log, logged};
pub(crate) use rig::Rig;
pub(crate) use scratch::{scratch_file, scratch_path};
pub(crate) use script::Script;
pub(crate) use server::Server;
pub(crate) use upstream::{listener, nobody};

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// No wait of a test is longer; a test that gets here has failed. Long enough for a machine that is
/// busy, or emulated.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Tries again and again until there is an answer.
#[track_caller]
pub(crate) fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
    }
}

/// Bytes in which every place is told from its neighbours, also a page or a buffer away.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    pattern_at(0, count)
}

/// A part of the endless [`pattern`]: byte `at` is `at ^ (at >> 8) ^ (at >> 16)`.
///
/// Copied row by row, because without optimization a loop over the bytes takes 30 ms a MiB, on a
/// busy machine longer than some limits that are tested.
pub(crate) fn pattern_at(from: usize, count: usize) -> Vec<u8> {
    const ROW: usize = 256;
    /// Row `key` has the bytes `key ^ 0` to `key ^ 255`.
    static ROWS: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..ROW * ROW).map(|at| (at ^ (at >> 8)) as u8).collect());
    let (mut at, end) = (from, from + count);
    let mut bytes = Vec::with_capacity(count);
    while at < end {
        let (block, column) = (at / ROW, at % ROW);
        let key = (block ^ (block >> 8)) % ROW;
        let part = (ROW - column).min(end - at);
        bytes.extend_from_slice(&ROWS[key * ROW + column..][..part]);
        at += part;
    }
    bytes
}
