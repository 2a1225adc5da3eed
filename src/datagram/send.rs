//! Datagram sockets: bound, written to, and closed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::datagram::Datagrams;
use crate::engine::{Due, Engine, Queued, Role, Target};
use crate::id::{SocketId, TimerId};
use crate::options::{Group, UdpOptions};
use crate::sys::{self, SendFault};

/// What became of a datagram that was to be sent. None of these says that it arrives.
///
/// # Examples
/// ```
/// use std::net::SocketAddr;
/// use waterwheel::{DatagramSocket, SendStatus};
/// fn answer(socket: &mut DatagramSocket<'_>, to: SocketAddr, bytes: &[u8]) {
///     match socket.send_to(to, bytes) {
///         SendStatus::Sent | SendStatus::Queued | SendStatus::Gathered => {}
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
    /// The kernel's buffer is full, or that of a receiver on this machine: it follows, in order.
    /// `on_drain` tells when all have.
    Queued,
    /// The socket sends in [batches](UdpOptions::batch): it leaves with the others, at the latest
    /// at the end of the turn. Only if the kernel has no room for them then does `on_drain` follow.
    Gathered,
    /// It is lost: the queue is full as well, or the system has no memory for it. `on_drain`
    /// follows.
    Dropped,
    /// It is longer than the socket or the way there takes. 65,507 bytes is the most over IPv4.
    TooLong,
    /// The system refuses it: there is no route, broadcast was not asked for, a filter forbids it,
    /// or nobody is bound to the name of a Unix socket. `InvalidInput`: the address has port 0, or
    /// is of IPv6 while the socket is of IPv4.
    Failed(io::ErrorKind),
    /// The socket is closed, or has no peer to `send` to.
    Closed,
}

impl SendStatus {
    /// Whether it was sent or waits to be.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Sent | Self::Queued | Self::Gathered)
    }
}

/// How long a socket that keeps failing is left alone.
const RECEIVE_BACKOFF: Duration = Duration::from_millis(64);

impl Engine {
    /// Binds a UDP socket and serves it.
    pub(crate) fn bind_udp(
        &mut self,
        addr: SocketAddr,
        service: u32,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.check_role(service, Role::Datagrams)?;
        options.check(addr)?;
        self.check_goes_on()?;
        let socket = self
            .world
            .bind_udp(addr, options)
            .map_err(|error| explain("bind a UDP socket to", addr, options, &error))?;
        self.add_datagrams(socket, None, service, options)
    }

    /// Makes a UDP socket with one peer and serves it.
    pub(crate) fn connect_udp(
        &mut self,
        peer: SocketAddr,
        service: u32,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        self.check_role(service, Role::Datagrams)?;
        options.check(peer)?;
        self.check_goes_on()?;
        let socket = self
            .world
            .connect_udp(peer, options)
            .map_err(|error| explain("connect a UDP socket to", peer, options, &error))?;
        let peer = socket.peer_addr(peer);
        self.add_datagrams(socket, Some(peer), service, options)
    }

    pub(super) fn check_goes_on(&self) -> io::Result<()> {
        match self.is_stopping() {
            true => Err(io::Error::other("the reactor is stopping and opens no more sockets")),
            false => Ok(()),
        }
    }

    pub(super) fn add_datagrams(
        &mut self,
        socket: sys::DatagramSocket,
        peer: Option<SocketAddr>,
        service: u32,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let addr = socket.local_addr()?;
        let generation = self.generations.draw();
        let slot = self.sockets.vacant_entry();
        let index = slot.key();
        let mut datagrams = Datagrams::new(socket, generation, service, addr, peer, options);
        self.poller.add_datagrams(&mut datagrams.socket, Target::socket_token(index))?;
        let datagrams = slot.insert(datagrams);
        log::debug!("receiving datagrams on {}", datagrams.place());
        if options.batch && !sys::BATCHES_ARE_CALLS {
            log::info!("option batch gains nothing here: it wants Linux and the feature `batch`");
        }
        Ok((SocketId::new(index as u32, generation), addr))
    }

    /// A datagram socket that has not been closed.
    #[inline]
    pub(crate) fn socket(&self, id: SocketId) -> Option<&Datagrams> {
        let socket = self.sockets.get(id.index())?;
        (socket.generation == id.generation() && !socket.is_closed).then_some(socket)
    }

    /// A datagram socket that has not been closed.
    #[inline]
    pub(crate) fn socket_mut(&mut self, id: SocketId) -> Option<&mut Datagrams> {
        let socket = self.sockets.get_mut(id.index())?;
        (socket.generation == id.generation() && !socket.is_closed).then_some(socket)
    }

    /// Sends a datagram, or queues it: behind those that wait already, in order.
    #[inline]
    pub(crate) fn send_datagram(
        &mut self,
        id: SocketId,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> SendStatus {
        let Some(socket) = self.socket_mut(id) else { return SendStatus::Closed };
        if to.is_none() && socket.peer.is_none() {
            return SendStatus::Closed;
        }
        if socket.queue.is_empty() {
            if socket.outbound.is_some() {
                return self.gather(id.index(), to, bytes);
            }
            match socket.socket.send(bytes, to) {
                Ok(()) => {
                    self.count_sent(bytes.len());
                    return SendStatus::Sent;
                }
                Err(error) => return self.not_sent(id.index(), to, bytes, error),
            }
        }
        self.enqueue_datagram(id.index(), to, bytes)
    }

    #[inline]
    pub(crate) fn note_received(&mut self, bytes: usize, is_truncated: bool) {
        self.stats.datagrams_received += 1;
        self.stats.datagram_bytes_received += bytes as u64;
        self.stats.datagrams_truncated += u64::from(is_truncated);
    }

    #[inline]
    pub(super) fn count_sent(&mut self, bytes: usize) {
        self.stats.datagrams_sent += 1;
        self.stats.datagram_bytes_sent += bytes as u64;
    }

    /// The first try to send has failed.
    #[cold]
    fn not_sent(
        &mut self,
        slot: usize,
        to: Option<SocketAddr>,
        bytes: &[u8],
        first: io::Error,
    ) -> SendStatus {
        let mut error = first;
        let (mut tries, mut older) = (0, None);
        let status = loop {
            match (error.kind(), SendFault::of(&error)) {
                (io::ErrorKind::Interrupted, _) => {}
                (io::ErrorKind::WouldBlock, _) => break self.enqueue_datagram(slot, to, bytes),
                _ if sys::is_let_go(&error) => {
                    self.watch_socket(slot, true);
                    break self.enqueue_datagram(slot, to, bytes);
                }
                (_, SendFault::TooLong) => break SendStatus::TooLong,
                (_, SendFault::NoBuffers) => break self.drop_datagram(slot),
                (_, SendFault::Family) => break SendStatus::Failed(io::ErrorKind::InvalidInput),
                (kind, _) if tries == SEND_TRIES => return SendStatus::Failed(kind),
                // It may be an older one, which the system tells at the next call, whatever that
                // is: an answer of the network to a datagram before this one.
                _ => {
                    tries += 1;
                    older = Some(error);
                }
            }
            match self.sockets[slot].socket.send(bytes, to) {
                Ok(()) => {
                    self.count_sent(bytes.len());
                    break SendStatus::Sent;
                }
                Err(next) => error = next,
            }
        };
        if let Some(older) = older {
            self.sockets[slot].keep_error(older);
            self.queue_ready_socket(slot);
        }
        status
    }

    /// Keeps a datagram for the next batch; one that is longer than any may be is not waited for.
    fn gather(&mut self, slot: usize, to: Option<SocketAddr>, bytes: &[u8]) -> SendStatus {
        let Some(outbound) = &mut self.sockets[slot].outbound else { return SendStatus::Closed };
        if bytes.len() > MOST_UDP_BYTES {
            return SendStatus::TooLong;
        }
        if outbound.len() == 0 {
            self.gathering.push(slot as u32);
        }
        outbound.push(to, bytes);
        if outbound.is_full() {
            self.send_gathered(slot);
        }
        SendStatus::Gathered
    }

    /// Sends what was gathered; what the kernel does not take is queued.
    pub(crate) fn send_gathered(&mut self, slot: usize) {
        let Some(socket) = self.sockets.get_mut(slot) else { return };
        let Some(mut outbound) = socket.outbound.take() else { return };
        let mut next = 0;
        while next < outbound.len() {
            let socket = &mut self.sockets[slot];
            let sent = socket.queue.is_empty().then(|| outbound.send(&mut socket.socket, next));
            if let Some(Ok(count)) = sent {
                let sent = (next..next + count).filter_map(|index| outbound.get(index));
                sent.for_each(|(_, bytes)| self.count_sent(bytes.len()));
                next += count;
                continue;
            }
            let Some((to, bytes)) = outbound.get(next) else { break };
            next += 1;
            match sent {
                Some(Err(error)) => {
                    let status = self.not_sent(slot, to, bytes, error);
                    self.tell_lost(slot, to, bytes.len(), status);
                }
                _ => {
                    self.enqueue_datagram(slot, to, bytes);
                }
            }
        }
        outbound.clear();
        self.sockets[slot].outbound = Some(outbound);
    }

    /// What `send` would have said of a datagram is an error now.
    fn tell_lost(&mut self, slot: usize, to: Option<SocketAddr>, bytes: usize, status: SendStatus) {
        let (kind, why) = match status {
            SendStatus::TooLong => {
                let why = "it is longer than the socket or the way there takes".to_owned();
                (io::ErrorKind::InvalidInput, why)
            }
            SendStatus::Failed(io::ErrorKind::InvalidInput) => {
                let why = "the port is 0, or the socket is of the other family of addresses";
                (io::ErrorKind::InvalidInput, why.to_owned())
            }
            SendStatus::Failed(kind) => (kind, kind.to_string()),
            _ => return,
        };
        let socket = &mut self.sockets[slot];
        let to = to.or(socket.peer).map_or_else(String::new, |to| format!(" to {to}"));
        let text = format!("a datagram of {bytes} bytes{to} was not sent: {why}");
        socket.keep_error(io::Error::new(kind, text));
        self.stats.datagrams_dropped += 1;
        self.queue_ready_socket(slot);
    }

    /// Sends whatever was gathered in this turn and has not left.
    pub(crate) fn send_all_gathered(&mut self) {
        while let Some(slot) = self.gathering.pop() {
            self.send_gathered(slot as usize);
        }
    }

    fn enqueue_datagram(
        &mut self,
        slot: usize,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> SendStatus {
        let socket = &mut self.sockets[slot];
        socket.owes_drain = true;
        let is_kept = socket.queue.push(to, bytes);
        self.ask_socket(slot, true);
        if is_kept {
            SendStatus::Queued
        } else {
            self.stats.datagrams_dropped += 1;
            SendStatus::Dropped
        }
    }

    /// The system has no memory for it; nothing announces when it has, so that the handler is
    /// told in the next turn.
    fn drop_datagram(&mut self, slot: usize) -> SendStatus {
        self.stats.datagrams_dropped += 1;
        self.sockets[slot].owes_drain = true;
        self.queue_ready_socket(slot);
        SendStatus::Dropped
    }

    /// Asks the poll for writability, or no longer.
    fn ask_socket(&mut self, slot: usize, writable: bool) {
        if self.sockets[slot].asks_writable != writable {
            self.watch_socket(slot, writable);
        }
    }

    /// The same, also for a socket that the poll has let go of.
    pub(crate) fn watch_socket(&mut self, slot: usize, writable: bool) {
        let socket = &mut self.sockets[slot];
        let token = Target::socket_token(slot);
        match self.poller.ask_datagrams(&mut socket.socket, token, writable) {
            Ok(()) => socket.asks_writable = writable,
            // Without an event to wait for, a timer brings it back.
            Err(error) => {
                log::debug!("{}: cannot change what is polled for: {error}", socket.place());
                let id = SocketId::new(slot as u32, socket.generation);
                self.back_off_socket(id);
            }
        }
    }

    /// Sends what waits, within a budget; whether `on_drain` is due.
    pub(crate) fn flush_datagrams(&mut self, slot: usize) -> bool {
        let Some(socket) = self.sockets.get(slot) else { return false };
        let mut budget = socket.budget;
        #[cfg(unix)]
        self.flush_lanes(slot, &mut budget);
        let mut has_failed = false;
        loop {
            let socket = &mut self.sockets[slot];
            let Some(first) = socket.queue.first() else { break };
            if budget == 0 {
                self.queue_ready_socket(slot);
                return false;
            }
            budget -= 1;
            let length = first.bytes.len();
            match socket.socket.send(&first.bytes, first.to) {
                Ok(()) => {
                    socket.queue.pop();
                    has_failed = false;
                    self.count_sent(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ask_socket(slot, true);
                    return false;
                }
                Err(error) if sys::is_let_go(&error) => {
                    self.watch_socket(slot, true);
                    return false;
                }
                Err(error) => {
                    // The first failure may be of an older datagram, as in `not_sent`.
                    self.lose_first(slot, error, has_failed);
                    has_failed = !has_failed;
                }
            }
        }
        self.ask_socket(slot, false);
        let socket = &mut self.sockets[slot];
        socket.is_drained() && std::mem::take(&mut socket.owes_drain)
    }

    /// The first that waits could not be sent; it is lost if that was no answer of the network to
    /// an older one.
    fn lose_first(&mut self, slot: usize, error: io::Error, is_lost: bool) {
        let socket = &mut self.sockets[slot];
        // The same again is its own, which was taken for an older one's.
        let is_kept = socket.errors.back().is_some_and(|kept| kept.kind() == error.kind());
        if !(is_lost && is_kept) {
            socket.keep_error(error);
        }
        if is_lost {
            socket.queue.pop();
            self.stats.datagrams_dropped += 1;
        }
        self.queue_ready_socket(slot);
    }

    /// Whether nothing is left that a drain waits for: no connection, and no datagram that waits.
    pub(crate) fn is_drained(&self) -> bool {
        self.connections.is_empty() && self.sockets.iter().all(|(_, socket)| socket.is_drained())
    }

    /// Marks a socket closed; it is taken down in the ready phase.
    pub(crate) fn close_socket(&mut self, id: SocketId) {
        if let Some(socket) = self.socket_mut(id) {
            socket.is_closed = true;
            self.queue_ready_socket(id.index());
        }
    }

    /// Takes a socket's slot and timers back. What still waits is lost, but for what the kernel
    /// takes now.
    pub(crate) fn remove_socket(&mut self, slot: usize) {
        if !self.sockets.contains(slot) {
            return;
        }
        self.send_gathered(slot);
        // There is no other turn for what a budget leaves.
        self.sockets[slot].budget = usize::MAX;
        #[cfg(unix)]
        self.hurry_lanes(slot);
        self.flush_datagrams(slot);
        let mut socket = self.sockets.remove(slot);
        self.stats.datagrams_dropped += socket.queue.len() as u64;
        for timer in socket.take_timers() {
            self.wheel.cancel(timer);
        }
        log::debug!("receiving no more datagrams on {}", socket.place());
    }

    /// Invariant 7, for datagram sockets: whoever stops before `WouldBlock` comes here.
    pub(crate) fn queue_ready_socket(&mut self, slot: usize) {
        let Some(socket) = self.sockets.get_mut(slot) else { return };
        if !socket.is_queued {
            socket.is_queued = true;
            self.ready_others.push_back(Queued::Socket(slot as u32));
        }
    }

    /// Reads keep failing, or the poll does: leaves the socket alone for a while.
    pub(crate) fn back_off_socket(&mut self, id: SocketId) {
        if let Some(socket) = self.socket_mut(id).filter(|socket| !socket.is_backing_off) {
            socket.is_backing_off = true;
            let timer = self.set_timer(RECEIVE_BACKOFF, false, Due::Receive(id));
            self.keep_socket_timer(id, timer);
        }
    }

    /// Sets a timer that ends with its socket. If that is closed already, the id is of a timer
    /// that never fires.
    pub(crate) fn set_socket_timer(
        &mut self,
        id: SocketId,
        wait: Duration,
        periodic: bool,
    ) -> TimerId {
        let timer = self.set_timer(wait, periodic, Due::Socket(id));
        match self.socket(id) {
            Some(_) => self.keep_socket_timer(id, timer),
            None => {
                self.wheel.cancel(timer);
            }
        }
        timer
    }

    fn keep_socket_timer(&mut self, id: SocketId, timer: TimerId) {
        let wheel = &self.wheel;
        if let Some(socket) = self.sockets.get_mut(id.index()) {
            socket.add_timer(timer, |timer| wheel.contains(timer));
        }
    }

    /// Has the wheel look at a session at a tick.
    pub(crate) fn file_session(&mut self, id: SocketId, place: u32, deadline: u64) -> TimerId {
        self.next_due = self.next_due.min(deadline);
        self.wheel.insert(deadline, Due::Session(id, place))
    }

    /// Joins a multicast group.
    pub(crate) fn join_group(&mut self, id: SocketId, group: &Group) -> io::Result<()> {
        let socket = self.socket(id).ok_or_else(closed)?;
        group.check(socket.addr)?;
        socket.socket.join(group)
    }

    /// Leaves a multicast group.
    pub(crate) fn leave_group(&mut self, id: SocketId, group: &Group) -> io::Result<()> {
        let socket = self.socket(id).ok_or_else(closed)?;
        group.check(socket.addr)?;
        socket.socket.leave(group)
    }
}

/// How often a datagram is tried again that meets with errors: the first may be of an older
/// datagram, and the second too if the network has answered meanwhile.
const SEND_TRIES: usize = 2;

/// The length in a UDP header, without the header.
const MOST_UDP_BYTES: usize = 65_535 - 8;

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the datagram socket is closed")
}

fn explain(what: &str, addr: SocketAddr, options: &UdpOptions, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse if options.reuse_port => {
            "; all sockets that share it must set reuse_port and belong to one user"
        }
        io::ErrorKind::AddrInUse => "; stop what is bound to it, or take another port (0: any)",
        io::ErrorKind::AddrNotAvailable => "; the address must be one of this machine's",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 want a privilege, and a broadcast address wants option broadcast"
        }
        io::ErrorKind::NetworkUnreachable => "; there is no route to it",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot {what} {addr}: {error}{hint}"))
}
