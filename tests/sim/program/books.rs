//! What was written, told and posted in a run, to be compared at the end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use waterwheel::ConnId;
use waterwheel::udp::SocketId;

/// After so many bytes the stream begins again: a prime number, so that a shift of any power of two
/// shows.
const PERIOD: usize = 251;

/// Longest piece that is looked at in one go.
const LONGEST: usize = 256 << 10;

/// The stream, from which pieces are taken: a byte at a time would be most of the work of a run.
static STREAM: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..PERIOD + LONGEST).map(|place| (place % PERIOD) as u8).collect());

/// A piece of what every stream carries, behind the key of who has begun it: each byte tells its
/// place.
pub(super) fn piece(place: usize, count: usize) -> &'static [u8] {
    &STREAM[place % PERIOD..][..count]
}

pub(super) fn stretch(place: usize, count: usize) -> Vec<u8> {
    piece(place, count).to_vec()
}

/// Whether these bytes stand there in every stream.
pub(super) fn is_in_place(place: usize, bytes: &[u8]) -> bool {
    let mut pieces = (place..).step_by(LONGEST).zip(bytes.chunks(LONGEST));
    pieces.all(|(place, bytes)| bytes == piece(place, bytes.len()))
}

/// The stream of a connection's beginner, whose first byte is the key.
pub(super) fn keyed(key: u8, place: usize, count: usize) -> Vec<u8> {
    let mut bytes = stretch(place, count);
    if let (0, Some(first)) = (place, bytes.first_mut()) {
        *first = key;
    }
    bytes
}

/// Keys from here on are of connections that a host has begun.
pub(super) const FIRST_OF_HOSTS: u8 = 128;

/// A direction of a connection: bytes that `write` has accepted, and what was lost of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) accepted: Rc<Cell<usize>>,
    pub(super) unsent: Rc<Cell<Option<usize>>>,
}

/// Everything that one run shares.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// What was written to the connection that began with a key, by whoever accepted it.
    pub(super) down: RefCell<BTreeMap<u8, Account>>,
    /// What was written to it by the host that began it.
    pub(super) up: RefCell<BTreeMap<u8, Account>>,
    /// Where to connect to, and whether a layer is before it.
    pub(super) places: RefCell<Vec<(SocketAddr, bool)>>,
    /// Connections that live or have lived, and those that have ended.
    pub(super) known: RefCell<Vec<ConnId>>,
    pub(super) ended: RefCell<Vec<ConnId>>,
    pub(super) sockets: RefCell<Vec<SocketId>>,
    /// Where datagrams may be sent.
    pub(super) datagram_places: RefCell<Vec<SocketAddr>>,
    /// States of connections that are alive.
    pub(super) states: Rc<()>,
    pub(super) connects: Cell<u8>,
    /// What callbacks have worked for: hosts do so one after the other.
    pub(super) spent: Cell<Duration>,
    /// Messages that were taken for the handler, and those that it has run.
    pub(super) posted: Cell<usize>,
    pub(super) run: Cell<usize>,
    /// The reactor was told to stop or to drain.
    pub(super) is_stopped: Cell<bool>,
}

impl Books {
    /// A peer has seen a clean end: it must have had everything.
    pub(super) fn check_finished(&self, key: u8, received: usize) {
        let down = self.down.borrow();
        let Some(account) = down.get(&key) else { return };
        let accepted = account.accepted.get();
        assert_eq!(accepted, received, "peer {key} has seen a clean end of a stream that was cut");
        let unsent = account.unsent.get();
        assert!(unsent.is_none_or(|unsent| unsent == 0), "peer {key}: a loss and no reset");
    }

    /// The other side of a connection between hosts has ended in order.
    pub(super) fn check_eof(&self, key: u8, received: usize, is_ours: bool) {
        if key < FIRST_OF_HOSTS {
            return;
        }
        let other = if is_ours { self.down.borrow() } else { self.up.borrow() };
        if let Some(account) = other.get(&key) {
            let accepted = account.accepted.get();
            assert_eq!(accepted, received, "connection {key}: a clean end of a stream that is cut");
        }
    }

    /// The run is over.
    pub(super) fn check(&self) {
        assert_eq!(Rc::strong_count(&self.states), 1, "a state outlives its connection");
        if !self.is_stopped.get() {
            assert_eq!(self.posted, self.run, "messages were taken and not run");
        }
        assert!(self.run.get() <= self.posted.get(), "a message was run twice");
    }
}
