//! Datagram sockets: bound, written to, and closed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::id::{SocketId, TimerId};
use crate::datagram::{Socket, SocketFlags, Sockets};
use crate::engine::{Due, Engine, Owner, Queued, Target};
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
    /// The kernel's buffer is full, or that of a receiver on this machine: it follows, in order.
    /// `on_drain` tells when all have.
    Queued,
    /// The socket sends in [batches](UdpOptions::batch): the datagram leaves with the others, at
    /// the latest at the end of the turn. Only if the kernel has no room for them then does `on_drain` follow.
    Batched,
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
        matches!(self, Self::Sent | Self::Queued | Self::Batched)
    }
}

/// How long a socket that keeps failing is left alone.
const RECEIVE_BACKOFF: Duration = Duration::from_millis(64);

impl Sockets {
    /// Binds a UDP socket and serves it.
    pub(crate) fn bind_udp(
        &mut self,
        engine: &mut Engine,
        addr: SocketAddr,
        service: u32,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        options.check(addr)?;
        self.check_goes_on(engine)?;
        let socket = engine
            .io
            .world()
            .bind_udp(addr, options)
            .map_err(|error| explain("bind a UDP socket to", addr, options, &error))?;
        self.add_datagrams(engine, socket, None, service, options)
    }

    /// Makes a UDP socket with one peer and serves it.
    pub(crate) fn connect_udp(
        &mut self,
        engine: &mut Engine,
        peer: SocketAddr,
        service: u32,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        options.check(peer)?;
        self.check_goes_on(engine)?;
        let socket = engine
            .io
            .world()
            .connect_udp(peer, options)
            .map_err(|error| explain("connect a UDP socket to", peer, options, &error))?;
        let peer = socket.peer_addr(peer);
        self.add_datagrams(engine, socket, Some(peer), service, options)
    }

    pub(super) fn check_goes_on(&self, engine: &mut Engine) -> io::Result<()> {
        match engine.is_stopping() {
            true => Err(io::Error::other("the reactor is stopping and opens no more sockets")),
            false => Ok(()),
        }
    }

    pub(super) fn add_datagrams(
        &mut self,
        engine: &mut Engine,
        socket: sys::DatagramSocket,
        peer: Option<SocketAddr>,
        service: u32,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let addr = socket.local_addr()?;
        let generation = engine.io.draw_generation();
        let slot = self.sockets.vacant_entry();
        let index = slot.key();
        let mut socket = Socket::new(socket, generation, service, addr, peer, options);
        engine.io.poller_mut().add_datagrams(&mut socket.inner, Target::socket_token(index))?;
        let socket = slot.insert(socket);
        log::debug!("receiving datagrams on {}", socket.display_name());
        if options.batch && !sys::BATCHES_ARE_CALLS {
            log::info!("option batch gains nothing here: it wants Linux and the feature `batch`");
        }
        Ok((SocketId::new(index as u32, generation), addr))
    }

    /// Sends a datagram, or queues it: behind those that wait already, in order.
    #[inline]
    pub(crate) fn send_datagram(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> SendStatus {
        let Some(socket) = self.socket_mut(id) else { return SendStatus::Closed };
        if to.is_none() && socket.peer.is_none() {
            return SendStatus::Closed;
        }
        if socket.queue.is_empty() {
            if socket.batch.is_some() {
                return self.add_to_batch(engine, id.index(), to, bytes);
            }
            match socket.inner.send(bytes, to) {
                Ok(()) => {
                    self.count_sent(engine, bytes.len());
                    return SendStatus::Sent;
                }
                Err(error) => return self.not_sent(engine, id.index(), to, bytes, error),
            }
        }
        self.enqueue_datagram(engine, id.index(), to, bytes)
    }

    #[inline]
    pub(super) fn count_sent(&self, engine: &mut Engine, bytes: usize) {
        engine.stats.datagrams_sent += 1;
        engine.stats.datagram_bytes_sent += bytes as u64;
    }

    /// The first try to send has failed.
    #[cold]
    fn not_sent(
        &mut self,
        engine: &mut Engine,
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
                (io::ErrorKind::WouldBlock, _) => {
                    break self.enqueue_datagram(engine, slot, to, bytes);
                }
                _ if sys::is_let_go(&error) => {
                    self.watch_socket(engine, slot, true);
                    break self.enqueue_datagram(engine, slot, to, bytes);
                }
                (_, SendFault::TooLong) => break SendStatus::TooLong,
                (_, SendFault::NoBuffers) => break self.drop_datagram(engine, slot),
                (_, SendFault::Family) => break SendStatus::Failed(io::ErrorKind::InvalidInput),
                (kind, _) if tries == SEND_TRIES => return SendStatus::Failed(kind),
                // It may be an older one, which the system tells at the next call, whatever that
                // is: an answer of the network to a datagram before this one.
                _ => {
                    tries += 1;
                    older = Some(error);
                }
            }
            match self.sockets[slot].inner.send(bytes, to) {
                Ok(()) => {
                    self.count_sent(engine, bytes.len());
                    break SendStatus::Sent;
                }
                Err(next) => error = next,
            }
        };
        if let Some(older) = older {
            self.sockets[slot].keep_error(older);
            self.queue_ready_socket(engine, slot);
        }
        status
    }

    /// Keeps a datagram for the next batch; one that is longer than any may be is not waited for.
    fn add_to_batch(
        &mut self,
        engine: &mut Engine,
        slot: usize,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> SendStatus {
        let Some(batch) = &mut self.sockets[slot].batch else { return SendStatus::Closed };
        if bytes.len() > MOST_UDP_BYTES {
            return SendStatus::TooLong;
        }
        if batch.len() == 0 {
            engine.end_of_turn.push_batch(slot as u32);
        }
        batch.push(to, bytes);
        if batch.is_full() {
            self.send_batch(engine, slot);
        }
        SendStatus::Batched
    }

    /// Sends the batch; what the kernel does not take is queued.
    pub(crate) fn send_batch(&mut self, engine: &mut Engine, slot: usize) {
        let Some(socket) = self.sockets.get_mut(slot) else { return };
        let Some(mut batch) = socket.batch.take() else { return };
        let mut next = 0;
        while next < batch.len() {
            let socket = &mut self.sockets[slot];
            let sent = socket.queue.is_empty().then(|| batch.send(&mut socket.inner, next));
            if let Some(Ok(count)) = sent {
                let sent = (next..next + count).filter_map(|index| batch.get(index));
                sent.for_each(|(_, bytes)| self.count_sent(engine, bytes.len()));
                next += count;
                continue;
            }
            let Some((to, bytes)) = batch.get(next) else { break };
            next += 1;
            match sent {
                Some(Err(error)) => {
                    let status = self.not_sent(engine, slot, to, bytes, error);
                    self.tell_lost(engine, slot, to, bytes.len(), status);
                }
                _ => {
                    self.enqueue_datagram(engine, slot, to, bytes);
                }
            }
        }
        batch.clear();
        self.sockets[slot].batch = Some(batch);
    }

    /// What `send` would have said of a datagram is an error now.
    fn tell_lost(
        &mut self,
        engine: &mut Engine,
        slot: usize,
        to: Option<SocketAddr>,
        bytes: usize,
        status: SendStatus,
    ) {
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
        engine.stats.datagrams_dropped += 1;
        self.queue_ready_socket(engine, slot);
    }

    /// Sends all batches of this turn that have not left.
    pub(crate) fn send_batches(&mut self, engine: &mut Engine) {
        while let Some(slot) = engine.end_of_turn.pop_batch() {
            self.send_batch(engine, slot as usize);
        }
    }

    fn enqueue_datagram(
        &mut self,
        engine: &mut Engine,
        slot: usize,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> SendStatus {
        let socket = &mut self.sockets[slot];
        socket.flags.set(SocketFlags::OWES_DRAIN);
        let is_kept = socket.queue.push(to, bytes);
        self.ask_socket(engine, slot, true);
        if is_kept {
            SendStatus::Queued
        } else {
            engine.stats.datagrams_dropped += 1;
            SendStatus::Dropped
        }
    }

    /// The system has no memory for it; nothing announces when it has, so that the handler is
    /// told in the next turn.
    fn drop_datagram(&mut self, engine: &mut Engine, slot: usize) -> SendStatus {
        engine.stats.datagrams_dropped += 1;
        self.sockets[slot].flags.set(SocketFlags::OWES_DRAIN);
        self.queue_ready_socket(engine, slot);
        SendStatus::Dropped
    }

    /// Asks the poll for writability, or no longer.
    fn ask_socket(&mut self, engine: &mut Engine, slot: usize, writable: bool) {
        if self.sockets[slot].flags.has(SocketFlags::ASKS_WRITABLE) != writable {
            self.watch_socket(engine, slot, writable);
        }
    }

    /// The same, also for a socket that the poll has let go of.
    pub(crate) fn watch_socket(&mut self, engine: &mut Engine, slot: usize, writable: bool) {
        let socket = &mut self.sockets[slot];
        let token = Target::socket_token(slot);
        match engine.io.poller_mut().ask_datagrams(&mut socket.inner, token, writable) {
            Ok(()) => socket.flags.put(SocketFlags::ASKS_WRITABLE, writable),
            // Without an event to wait for, a timer brings it back.
            Err(error) => {
                log::debug!("{}: cannot change what is polled for: {error}", socket.display_name());
                let id = SocketId::new(slot as u32, socket.generation);
                self.back_off_socket(engine, id);
            }
        }
    }

    /// Sends what waits, within a budget; whether `on_drain` is due.
    pub(crate) fn flush_datagrams(&mut self, engine: &mut Engine, slot: usize) -> bool {
        let Some(socket) = self.sockets.get(slot) else { return false };
        let mut budget = socket.budget;
        #[cfg(unix)]
        self.flush_receivers(engine, slot, &mut budget);
        let mut has_failed = false;
        loop {
            let socket = &mut self.sockets[slot];
            let Some(first) = socket.queue.first() else { break };
            if budget == 0 {
                self.queue_ready_socket(engine, slot);
                return false;
            }
            budget -= 1;
            let length = first.bytes.len();
            match socket.inner.send(&first.bytes, first.to) {
                Ok(()) => {
                    socket.queue.pop();
                    has_failed = false;
                    self.count_sent(engine, length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ask_socket(engine, slot, true);
                    return false;
                }
                Err(error) if sys::is_let_go(&error) => {
                    self.watch_socket(engine, slot, true);
                    return false;
                }
                Err(error) => {
                    // The first failure may be of an older datagram, as in `not_sent`.
                    self.lose_first(engine, slot, error, has_failed);
                    has_failed = !has_failed;
                }
            }
        }
        self.ask_socket(engine, slot, false);
        let socket = &mut self.sockets[slot];
        socket.is_drained() && socket.flags.take(SocketFlags::OWES_DRAIN)
    }

    /// The first that waits could not be sent; it is lost if that was no answer of the network to
    /// an older one.
    fn lose_first(&mut self, engine: &mut Engine, slot: usize, error: io::Error, is_lost: bool) {
        let socket = &mut self.sockets[slot];
        // The same again is its own, which was taken for an older one's.
        let is_kept = socket.errors.back().is_some_and(|kept| kept.kind() == error.kind());
        if !(is_lost && is_kept) {
            socket.keep_error(error);
        }
        if is_lost {
            socket.queue.pop();
            engine.stats.datagrams_dropped += 1;
        }
        self.queue_ready_socket(engine, slot);
    }

    /// Marks a socket closed; it is torn down in the ready phase.
    pub(crate) fn close_socket(&mut self, engine: &mut Engine, id: SocketId) {
        if let Some(socket) = self.socket_mut(id) {
            socket.flags.set(SocketFlags::CLOSED);
            self.queue_ready_socket(engine, id.index());
        }
    }

    /// Marks any socket closed that is left, for the end of the reactor.
    pub(crate) fn mark_one_closed(&mut self) -> Option<SocketId> {
        let (slot, socket) = self.sockets.iter_mut().next()?;
        socket.flags.set(SocketFlags::CLOSED);
        Some(SocketId::new(slot as u32, socket.generation))
    }

    /// Takes a socket's slot and timers back. What still waits is lost, but for what the kernel
    /// takes now.
    pub(crate) fn remove_socket(&mut self, engine: &mut Engine, slot: usize) {
        if !self.sockets.contains(slot) {
            return;
        }
        self.send_batch(engine, slot);
        // There is no other turn for what a budget leaves.
        self.sockets[slot].budget = usize::MAX;
        #[cfg(unix)]
        self.retry_all(engine, slot);
        self.flush_datagrams(engine, slot);
        let mut socket = self.sockets.remove(slot);
        engine.stats.datagrams_dropped += socket.queue.len() as u64;
        if let Some(timer) = socket.back_off {
            engine.timers.cancel(timer);
        }
        for timer in socket.take_timers() {
            engine.timers.cancel_user(timer);
        }
        log::debug!("receiving no more datagrams on {}", socket.display_name());
    }

    /// Invariant 7, for datagram sockets: whoever stops before `WouldBlock` comes here.
    pub(crate) fn queue_ready_socket(&mut self, engine: &mut Engine, slot: usize) {
        let Some(socket) = self.sockets.get_mut(slot) else { return };
        if !socket.flags.has(SocketFlags::IN_READY_QUEUE) {
            socket.flags.set(SocketFlags::IN_READY_QUEUE);
            engine.ready.push_other(Queued::Socket(slot as u32));
        }
    }

    /// Reads keep failing, or the poll does: leaves the socket alone for a while.
    pub(crate) fn back_off_socket(&mut self, engine: &mut Engine, id: SocketId) {
        if let Some(socket) = self.socket_mut(id).filter(|socket| socket.back_off.is_none()) {
            let timer = engine.timers.set(RECEIVE_BACKOFF, Due::Receive(id));
            socket.back_off = Some(timer);
        }
    }

    /// Sets a timer that ends with its socket. If that is closed already, the id is of a timer
    /// that never fires.
    pub(crate) fn set_socket_timer(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        wait: Duration,
        periodic: bool,
        token: u64,
    ) -> TimerId {
        let Some(socket) = self.socket_mut(id) else { return TimerId::NONE };
        let timer = engine.timers.set_user(Owner::Socket(id), wait, periodic, token);
        socket.add_timer(timer, |timer| engine.timers.has_user(timer));
        timer
    }

    /// Joins a multicast group.
    pub(crate) fn join_group(&mut self, id: SocketId, group: &Group) -> io::Result<()> {
        let socket = self.socket(id).ok_or_else(closed)?;
        group.check(socket.addr)?;
        socket.inner.join(group)
    }

    /// Leaves a multicast group.
    pub(crate) fn leave_group(&mut self, id: SocketId, group: &Group) -> io::Result<()> {
        let socket = self.socket(id).ok_or_else(closed)?;
        group.check(socket.addr)?;
        socket.inner.leave(group)
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
