//! What was written, lost, posted and run, to be compared at the end.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use waterwheel::Destination;

/// Bytes of a key, in front of its stream.
pub(crate) const KEY_BYTES: usize = 8;

/// The books of one run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Where to connect to.
    pub(crate) upstreams: Vec<SocketAddr>,
    /// Which of them have a layer.
    pub(crate) layered: Vec<SocketAddr>,
    /// Keys of peers that say what makes the layer of the other side fail.
    faulty: HashSet<u64>,
    /// What was written to the connection with a key, and what of that was told to be lost.
    pages: HashMap<u64, Page>,
    threads: Vec<Thread>,
}

#[derive(Debug, Default)]
struct Page {
    accepted: u64,
    unsent: Option<usize>,
    /// Its end was none that the peer may take for a clean one, whatever had been sent.
    is_cut: bool,
    connections: u32,
}

#[derive(Debug, Default)]
struct Thread {
    posted: usize,
    /// Numbers of the messages that were run, in order.
    run: Vec<usize>,
    /// How many had been posted when it stopped the reactor.
    stopped: Option<usize>,
}

/// A piece of the stream of a key: first the key itself, then bytes that follow from it.
pub(crate) fn stream(key: u64, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|place| byte(key, place)).collect()
}

/// One byte of the stream of a key.
pub(crate) fn byte(key: u64, place: usize) -> u8 {
    match key.to_le_bytes().get(place) {
        Some(&byte) => byte,
        None => ((key ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8,
    }
}

impl Ledger {
    /// Whether what listens there wants a layer; of several, the first that is known.
    pub(crate) fn is_layered(&self, destination: &Destination) -> bool {
        let text = destination.to_string();
        self.layered.iter().any(|addr| {
            let place = self.upstreams.iter().position(|upstream| upstream == addr);
            let name = place.map(|place| format!("upstream-{place}:"));
            text.contains(&addr.to_string()) || name.is_some_and(|name| text.starts_with(&name))
        })
    }

    /// The peer with this key says what makes the layer of the other side fail.
    pub(crate) fn add_faulty(&mut self, key: u64) {
        self.faulty.insert(key);
    }

    /// Whether the peer with this key does, or any whose key has not come.
    pub(crate) fn is_faulty(&self, key: Option<u64>) -> bool {
        key.map_or(!self.faulty.is_empty(), |key| self.faulty.contains(&key))
    }

    /// A connection has told its key.
    pub(crate) fn met(&mut self, key: u64) {
        self.pages.entry(key).or_default().connections += 1;
    }

    /// So many bytes were accepted for a connection.
    pub(crate) fn accepted(&mut self, key: u64, bytes: usize) {
        self.pages.entry(key).or_default().accepted += bytes as u64;
    }

    pub(crate) fn closed(&mut self, key: u64, unsent: usize, is_cut: bool) {
        let page = self.pages.entry(key).or_default();
        (page.unsent, page.is_cut) = (Some(unsent), is_cut);
    }

    /// A peer has seen a clean end: it must have had everything.
    pub(crate) fn check_finished(&self, key: u64, received: usize) {
        let Some(page) = self.pages.get(&key) else {
            assert_eq!(received, 0, "peer {key} was answered by nobody");
            return;
        };
        assert_eq!(
            page.accepted, received as u64,
            "peer {key} has seen a clean end of a stream that was cut"
        );
        assert!(page.unsent.is_none_or(|unsent| unsent == 0), "peer {key}: a loss and no reset");
        assert!(!page.is_cut, "peer {key} has seen a clean end and no reset");
    }

    pub(crate) fn add_thread(&mut self) -> usize {
        self.threads.push(Thread::default());
        self.threads.len() - 1
    }

    pub(crate) fn posted(&mut self, thread: usize) {
        self.threads[thread].posted += 1;
    }

    /// A thread is about to stop the reactor; whether it is the first. Messages are still run
    /// while it `drains`.
    pub(crate) fn stop(&mut self, thread: usize, drains: bool) -> bool {
        let is_first = self.threads.iter().all(|thread| thread.stopped.is_none());
        let posted = if drains { usize::MAX } else { self.threads[thread].posted };
        if is_first {
            self.threads[thread].stopped = Some(posted);
        }
        is_first
    }

    /// A message is run.
    pub(crate) fn ran(&mut self, thread: usize, number: usize) {
        let thread = &mut self.threads[thread];
        assert!(thread.run.last().is_none_or(|&last| last < number), "messages out of order");
        assert!(
            thread.stopped.is_none_or(|posted| thread.run.len() < posted),
            "a message was run that was posted after the stop"
        );
        thread.run.push(number);
    }

    /// Every message that was taken has been run, unless the reactor was stopped.
    pub(crate) fn check_messages(&self) {
        if self.threads.iter().any(|thread| thread.stopped.is_some()) {
            return;
        }
        for thread in &self.threads {
            assert_eq!(thread.run.len(), thread.posted, "messages were taken and not run");
        }
    }
}
