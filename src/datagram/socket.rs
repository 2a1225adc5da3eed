//! One datagram socket: what it may use, and what waits to be sent.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use crate::base::id::TimerId;
use crate::datagram::SocketFlags;
use crate::datagram::unix::ReceiverQueues;
use crate::engine::TimerList;
use crate::options::UdpOptions;
use crate::sys::{self, Ends, Route};

/// A socket and its numbers.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) inner: sys::DatagramSocket,
    pub(crate) generation: u64,
    /// The handler that serves it, by its place in the reactor.
    pub(crate) service: u32,
    /// Where it is bound, with the real port; unspecified if it is a Unix socket.
    pub(crate) addr: SocketAddr,
    /// Its only peer, if it is connected; unspecified likewise.
    pub(crate) peer: Option<SocketAddr>,
    /// Datagrams a turn.
    pub(crate) budget: usize,
    /// Max bytes of a datagram that are handed on.
    pub(crate) most_bytes: usize,
    /// The datagrams of the next batch, if the socket sends in batches.
    ///
    /// Invariant: empty while `queue` is not.
    pub(crate) batch: Option<Box<sys::Outbound>>,
    /// What the kernel has not taken.
    pub(crate) queue: Queue,
    /// Queued datagrams of a Unix socket, one queue per receiver. Datagrams for the connected peer
    /// are in `queue`.
    ///
    /// Invariant: `queue` counts what is in them as set aside.
    pub(crate) receivers: Box<ReceiverQueues>,
    /// States that come and go on their own.
    pub(crate) flags: SocketFlags,
    /// Errors that a send has met and the handler has not been told.
    pub(crate) errors: VecDeque<io::Error>,
    /// Reads that failed since one did not.
    errors_in_row: u32,
    /// The timer that ends a pause; `None` unless the socket is left alone.
    pub(crate) back_off: Option<TimerId>,
    /// Timers of the handler's; some have fired already.
    timers: TimerList,
}

/// Reads that may fail in a row. An error that comes from the network is reported once. An error
/// that is reported again and again is of the system, and is waited for.
const ERRORS_IN_ROW: u32 = 64;

/// Errors of sends that are kept for the handler; they say that datagrams were lost before, and
/// more of them say no more.
const ERRORS_KEPT: usize = 16;

impl Socket {
    pub(crate) fn new(
        inner: sys::DatagramSocket,
        generation: u64,
        service: u32,
        addr: SocketAddr,
        peer: Option<SocketAddr>,
        options: &UdpOptions,
    ) -> Self {
        let batch = options.batch.then(|| Box::new(sys::Outbound::new(&inner)));
        Self {
            inner,
            generation,
            service,
            addr,
            peer,
            budget: options.receive_budget,
            most_bytes: options.max_datagram_bytes,
            batch,
            queue: Queue::new(options.max_queued_datagrams, options.max_queued_bytes),
            receivers: Box::default(),
            flags: SocketFlags::default(),
            errors: VecDeque::new(),
            errors_in_row: 0,
            back_off: None,
            timers: TimerList::default(),
        }
    }

    /// Whether it has been closed, and is still to be torn down.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.flags.has(SocketFlags::CLOSED)
    }

    /// Whether several datagrams are received and sent at a time.
    #[inline]
    pub(crate) fn has_batches(&self) -> bool {
        self.batch.is_some()
    }

    /// Receives one datagram, and a byte more of it than is handed on, which tells a longer one:
    /// how much that was. `Interrupted` if it was not for the handler.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut [u8], ends: &mut Ends) -> io::Result<usize> {
        let count = self.inner.receive(&mut buffer[..self.most_bytes + 1], ends)?;
        self.errors_in_row = 0;
        if self.is_stranger(ends.peer) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(count)
    }

    /// Whether a datagram is not of the peer, if there is one. The system sees to that once it
    /// knows the peer, and a socket that has an address before may have been sent others.
    #[inline]
    pub(crate) fn is_stranger(&self, from: SocketAddr) -> bool {
        self.peer.is_some_and(|peer| (peer.ip(), peer.port()) != (from.ip(), from.port()))
    }

    /// Receives several, up to `most`; how many.
    pub(crate) fn receive_batch(
        &mut self,
        inbound: &mut sys::Inbound,
        most: usize,
    ) -> io::Result<usize> {
        let is_v4 = self.addr.is_ipv4();
        inbound.fill(&mut self.inner, is_v4, most)?;
        self.errors_in_row = 0;
        if let Some(error) = inbound.take_error() {
            self.keep_error(error);
        }
        Ok(inbound.len())
    }

    /// Whether no datagram waits, for any receiver, and no empty queue is there for `on_drain`.
    pub(crate) fn is_drained(&self) -> bool {
        self.receivers.is_empty() && self.queue.is_drained()
    }

    /// Datagrams in the batch, which have not been sent.
    pub(crate) fn batch_len(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.len())
    }

    /// Bytes of them.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.bytes())
    }

    /// Its name for people: where it is bound.
    pub(crate) fn display_name(&self) -> String {
        self.unix_name().unwrap_or_else(|| self.addr.to_string())
    }

    /// A read has failed; whether to read on.
    pub(crate) fn note_error(&mut self, error: &io::Error) -> bool {
        // Windows answers so to each datagram for a port without a receiver, also to those of a
        // socket without a peer, and reports each answer once.
        if cfg!(windows) && error.kind() == io::ErrorKind::ConnectionReset {
            return true;
        }
        self.errors_in_row += 1;
        self.errors_in_row % ERRORS_IN_ROW != 0
    }

    /// Keeps an error of a send for the handler.
    pub(crate) fn keep_error(&mut self, error: io::Error) {
        if self.errors.len() < ERRORS_KEPT {
            self.errors.push_back(error);
        }
    }

    /// Keeps a timer, to be cancelled with the socket.
    pub(crate) fn add_timer(&mut self, timer: TimerId, live: impl Fn(TimerId) -> bool) {
        self.timers.add(timer, live);
    }

    pub(crate) fn take_timers(&mut self) -> Vec<TimerId> {
        self.timers.take()
    }
}

/// Datagrams that wait for the kernel, in order, under two caps.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    most: usize,
    /// How many wait elsewhere under the same caps.
    ///
    /// Invariant: with those in `waiting` at most `most`.
    aside: usize,
    /// Invariant: the sum of the lengths in `waiting` and elsewhere, at most `most_bytes`.
    bytes: usize,
    most_bytes: usize,
}

/// A datagram that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) route: Route,
    pub(crate) bytes: Box<[u8]>,
}

impl Queue {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self { waiting: VecDeque::new(), most, aside: 0, bytes: 0, most_bytes }
    }

    /// Takes a datagram, unless that would overrun a cap.
    pub(crate) fn push(&mut self, route: Route, bytes: &[u8]) -> bool {
        let has_room = self.has_room(bytes.len());
        if has_room {
            self.bytes += bytes.len();
            self.waiting.push_back(Waiting { route, bytes: bytes.into() });
        }
        has_room
    }

    fn has_room(&self, length: usize) -> bool {
        self.len() < self.most && length <= self.most_bytes - self.bytes
    }

    pub(crate) fn first(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    /// The first is sent, or lost.
    pub(crate) fn pop(&mut self) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.bytes -= waiting.bytes.len();
        }
    }

    /// Whether none waits here.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether none waits, here or elsewhere.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_empty() && self.aside == 0
    }

    /// How many wait, here and elsewhere.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.aside
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// For the queues of a Unix socket's receivers.
#[cfg(unix)]
impl Queue {
    /// Counts a datagram that waits elsewhere, unless that would overrun a cap.
    pub(crate) fn set_aside(&mut self, length: usize) -> bool {
        let has_room = self.has_room(length);
        if has_room {
            self.aside += 1;
            self.bytes += length;
        }
        has_room
    }

    /// So many of those are sent, or lost.
    pub(crate) fn take_back(&mut self, count: usize, bytes: usize) {
        self.aside -= count;
        self.bytes -= bytes;
    }

    /// Datagrams and bytes that there is room for.
    pub(crate) fn free(&self) -> (usize, usize) {
        (self.most - self.len(), self.most_bytes - self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Socket {
        let (addr, options) = (SocketAddr::from(([127, 0, 0, 1], 0)), UdpOptions::default());
        let socket = sys::World::Os.bind_udp(addr, &options).unwrap();
        Socket::new(socket, 1, 0, addr, None, &options)
    }

    #[test]
    fn many_errors_in_a_row_are_of_the_system_and_a_datagram_ends_the_row() {
        let mut socket = bound();
        let error = io::Error::from(io::ErrorKind::Other);
        for _ in 0..2 {
            for _ in 1..ERRORS_IN_ROW {
                assert!(socket.note_error(&error));
            }
            assert!(!socket.note_error(&error));
        }
        assert!(socket.note_error(&error));
        let to = socket.inner.local_addr().unwrap();
        bound().inner.send(b"x", &Route { to: Some(to), local: None }).unwrap();
        let (mut buffer, mut ends) = ([0; 1 << 16], Ends::NONE);
        assert_eq!(socket.receive(&mut buffer, &mut ends).unwrap(), 1);
        for _ in 1..ERRORS_IN_ROW {
            assert!(socket.note_error(&error));
        }
        assert!(!socket.note_error(&error));
    }

    #[test]
    fn few_errors_of_sends_are_kept() {
        let mut socket = bound();
        for number in 0..100 {
            socket.keep_error(io::Error::from_raw_os_error(number));
        }
        let kept = socket.errors.iter().map(|error| error.raw_os_error().unwrap());
        assert!(kept.eq(0..ERRORS_KEPT as i32), "the oldest");
    }

    #[test]
    fn a_queue_keeps_order_and_both_caps() {
        let mut queue = Queue::new(3, 10);
        assert!(queue.push(Route::TO_PEER, b"four"));
        assert!(queue.push(Route::TO_PEER, b""));
        assert!(!queue.push(Route::TO_PEER, b"seven b"), "11 bytes");
        assert!(queue.push(Route::TO_PEER, b"six by"));
        assert!(!queue.push(Route::TO_PEER, b""), "a fourth");
        assert_eq!((queue.len(), queue.bytes()), (3, 10));
        for expected in [&b"four"[..], b"", b"six by"] {
            assert_eq!(&*queue.first().unwrap().bytes, expected);
            queue.pop();
        }
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        queue.pop();
        assert!(queue.is_empty());
    }
}
