//! From `send` to the kernel: at once, in a batch, or from the queue.

use std::io;

use crate::datagram::{SocketFlags, SocketLink};
use crate::sys::{self, Route, SendFault};

/// What became of a datagram that was to be sent. Whether it arrives at the peer is not known.
///
/// # Examples
/// ```
/// use std::net::SocketAddr;
/// use waterwheel::udp::{DatagramSocket, SendStatus};
/// fn answer(socket: &mut DatagramSocket<'_>, to: SocketAddr, bytes: &[u8]) {
///     match socket.send_to(to, bytes) {
///         SendStatus::Sent | SendStatus::Queued | SendStatus::Batched => {}
///         SendStatus::Dropped => {} // produce no more until `on_drain`
///         SendStatus::TooLong => {} // send less at a time
///         failed => eprintln!("nothing was sent to {to}: {failed:?}"),
///     }
/// }
/// # let _ = answer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendStatus {
    /// The kernel has taken it.
    Sent,
    /// The buffer of the kernel, or of a receiver on this machine, is full: the datagram waits, and
    /// is sent in order. `on_drain` is called when no datagram waits any more.
    Queued,
    /// The socket sends in [batches](crate::udp::UdpOptions::batch): the datagram leaves with the
    /// others, at the latest at the end of the turn. `on_drain` follows only if the kernel has no
    /// room for them then.
    Batched,
    /// The datagram is lost: the queue is full too, or the system has no memory. `on_drain`
    /// follows.
    Dropped,
    /// The datagram is longer than the socket or the path to the receiver allows. The maximum over
    /// IPv4 is 65,507 bytes.
    TooLong,
    /// The system refuses the datagram: there is no route, the option `broadcast` is off, a packet
    /// filter forbids it, or no Unix socket has that name. `InvalidInput`: the address has port 0,
    /// or is of IPv6 while the socket is of IPv4. `NetworkUnreachable` or `InvalidInput`: the local
    /// address of `DatagramSocket::send_from` is no address of this
    /// machine.
    Failed(io::ErrorKind),
    /// The socket is closed, or has no peer to `send` to.
    Closed,
}

impl SendStatus {
    /// Whether it was sent or waits to be.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Sent | Self::Queued | Self::Batched)
    }
}

/// How often a datagram is tried again that meets with errors: the first may be of an older
/// datagram, and the second too if the network has answered meanwhile.
const SEND_TRIES: usize = 2;

/// The length in a UDP header, without the header.
const MAX_UDP_BYTES: usize = 65_535 - 8;

impl SocketLink<'_> {
    /// Sends a datagram, or queues it: behind those that wait already, in order.
    #[inline]
    pub(crate) fn send(&mut self, route: &Route, bytes: &[u8]) -> SendStatus {
        if route.to.is_none() && self.socket.peer.is_none() {
            return SendStatus::Closed;
        }
        if !self.socket.queue.is_empty() {
            return self.enqueue(route, bytes);
        }
        if self.socket.has_batches() {
            return self.add_to_batch(route, bytes);
        }
        match self.socket.inner.send(bytes, route) {
            Ok(()) => {
                self.count_sent(bytes.len());
                SendStatus::Sent
            }
            Err(error) => self.not_sent(route, bytes, error),
        }
    }

    #[inline]
    pub(super) fn count_sent(&mut self, bytes: usize) {
        self.engine.stats.datagrams_sent += 1;
        self.engine.stats.datagram_bytes_sent += bytes as u64;
    }

    /// The first try to send has failed.
    #[cold]
    fn not_sent(&mut self, route: &Route, bytes: &[u8], first: io::Error) -> SendStatus {
        let mut error = first;
        let (mut tries, mut older) = (0, None);
        let status = loop {
            match (error.kind(), SendFault::of(&error)) {
                (io::ErrorKind::Interrupted, _) => {}
                (io::ErrorKind::WouldBlock, _) => break self.enqueue(route, bytes),
                _ if sys::is_let_go(&error) => {
                    self.watch(true);
                    break self.enqueue(route, bytes);
                }
                (_, SendFault::TooLong) => break SendStatus::TooLong,
                (_, SendFault::NoBuffers) => break self.drop_datagram(),
                (_, SendFault::Family) => break SendStatus::Failed(io::ErrorKind::InvalidInput),
                (kind, _) if tries == SEND_TRIES => return SendStatus::Failed(kind),
                // The error may be of an older datagram, which the system tells at the next call,
                // whatever that is: an answer of the network to a datagram before this one.
                _ => {
                    tries += 1;
                    older = Some(error);
                }
            }
            match self.socket.inner.send(bytes, route) {
                Ok(()) => {
                    self.count_sent(bytes.len());
                    break SendStatus::Sent;
                }
                Err(next) => error = next,
            }
        };
        if let Some(older) = older {
            self.socket.keep_error(older);
            self.queue_ready();
        }
        status
    }

    /// Keeps a datagram for the next batch. A datagram that is longer than any may be is refused at
    /// once.
    fn add_to_batch(&mut self, route: &Route, bytes: &[u8]) -> SendStatus {
        let Some(batch) = &mut self.socket.batch else { return SendStatus::Closed };
        if bytes.len() > MAX_UDP_BYTES {
            return SendStatus::TooLong;
        }
        if batch.len() == 0 {
            self.engine.end_of_turn.push_batch(self.id);
        }
        batch.push(*route, bytes);
        if batch.is_full() {
            self.send_batch();
        }
        SendStatus::Batched
    }

    /// Sends the batch; what the kernel does not take is queued.
    pub(crate) fn send_batch(&mut self) {
        let Some(mut batch) = self.socket.batch.take() else { return };
        let mut next = 0;
        while next < batch.len() {
            let overtakes_none = self.socket.queue.is_empty();
            let sent = overtakes_none.then(|| batch.send(&mut self.socket.inner, next));
            if let Some(Ok(count)) = sent {
                let sent = (next..next + count).filter_map(|index| batch.get(index));
                sent.for_each(|(_, bytes)| self.count_sent(bytes.len()));
                next += count;
                continue;
            }
            let Some((route, bytes)) = batch.get(next) else { break };
            next += 1;
            match sent {
                Some(Err(error)) => {
                    let status = self.not_sent(&route, bytes, error);
                    self.report_lost(&route, bytes.len(), status);
                }
                _ => {
                    self.enqueue(&route, bytes);
                }
            }
        }
        batch.clear();
        self.socket.batch = Some(batch);
    }

    /// What `send` would have returned for a datagram of a batch is an error now.
    fn report_lost(&mut self, route: &Route, bytes: usize, status: SendStatus) {
        let (kind, why) = match status {
            SendStatus::TooLong => {
                let why = "it is longer than the socket or the way there takes".to_owned();
                (io::ErrorKind::InvalidInput, why)
            }
            SendStatus::Failed(io::ErrorKind::InvalidInput) => {
                let why = match route.local {
                    Some(local) => format!("the port is 0, or {local} cannot be its source"),
                    None => "the port is 0, or the socket is of the other family".to_owned(),
                };
                (io::ErrorKind::InvalidInput, why)
            }
            SendStatus::Failed(kind) => (kind, kind.to_string()),
            _ => return,
        };
        let to = route.to.or(self.socket.peer).map_or_else(String::new, |to| format!(" to {to}"));
        let text = format!("a datagram of {bytes} bytes{to} was not sent: {why}");
        self.lose(io::Error::new(kind, text));
    }

    /// A datagram is lost; the reason is reported to the handler.
    pub(super) fn lose(&mut self, error: io::Error) {
        self.socket.keep_error(error);
        self.engine.stats.datagrams_dropped += 1;
        self.queue_ready();
    }

    fn enqueue(&mut self, route: &Route, bytes: &[u8]) -> SendStatus {
        self.socket.flags.set(SocketFlags::OWES_DRAIN);
        let is_kept = self.socket.queue.push(*route, bytes);
        self.ask_writable(true);
        self.queued(is_kept)
    }

    /// Returns the status of a datagram that was to be queued, and counts it if it was not.
    pub(super) fn queued(&mut self, is_kept: bool) -> SendStatus {
        if is_kept {
            return SendStatus::Queued;
        }
        self.engine.stats.datagrams_dropped += 1;
        SendStatus::Dropped
    }

    /// The system has no memory for a datagram. Nothing announces when it has, so that the handler
    /// is told in the next turn.
    fn drop_datagram(&mut self) -> SendStatus {
        self.engine.stats.datagrams_dropped += 1;
        self.socket.flags.set(SocketFlags::OWES_DRAIN);
        self.queue_ready();
        SendStatus::Dropped
    }

    /// Sends what waits, within a budget. Returns whether `on_drain` is due.
    pub(crate) fn flush(&mut self) -> bool {
        if !self.socket.flags.has(SocketFlags::OWES_DRAIN | SocketFlags::ASKS_WRITABLE) {
            return false;
        }
        let budget = self.socket.budget;
        let budget = self.flush_receivers(budget);
        self.flush_queue(budget)
            && self.socket.is_drained()
            && self.socket.flags.take(SocketFlags::OWES_DRAIN)
    }

    /// Sends what is queued, but for other receivers of a Unix socket. Returns whether all of it
    /// has left.
    fn flush_queue(&mut self, mut budget: usize) -> bool {
        let mut has_failed = false;
        while let Some(first) = self.socket.queue.first() {
            if budget == 0 {
                self.queue_ready();
                return false;
            }
            budget -= 1;
            let length = first.bytes.len();
            match self.socket.inner.send(&first.bytes, &first.route) {
                Ok(()) => {
                    self.socket.queue.pop();
                    has_failed = false;
                    self.count_sent(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ask_writable(true);
                    return false;
                }
                Err(error) if sys::is_let_go(&error) => {
                    self.watch(true);
                    return false;
                }
                Err(error) => {
                    // The first failure may be of an older datagram, as in `not_sent`.
                    self.lose_first(error, has_failed);
                    has_failed = !has_failed;
                }
            }
        }
        self.ask_writable(false);
        true
    }

    /// The first that waits could not be sent; it is lost if that was no answer of the network to
    /// an older datagram.
    fn lose_first(&mut self, error: io::Error, is_lost: bool) {
        // An equal error is its own, which was taken for an older one's.
        let last = self.socket.errors.back();
        let is_kept = last.is_some_and(|kept| kept.kind() == error.kind());
        if !(is_lost && is_kept) {
            self.socket.keep_error(error);
        }
        if is_lost {
            self.socket.queue.pop();
            self.engine.stats.datagrams_dropped += 1;
        }
        self.queue_ready();
    }

    /// The socket is about to go: sends what the kernel takes now. No other turn comes for what a
    /// budget would leave.
    pub(super) fn flush_last(&mut self) {
        self.send_batch();
        self.socket.budget = usize::MAX;
        self.retry_all();
        self.flush();
        #[cfg(unix)]
        self.retry_all(); // no timer is left of those that have found no room
    }
}
