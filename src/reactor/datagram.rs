//! Datagrams: from an event to a callback, within a budget.

use std::io;
use std::net::SocketAddr;

use crate::base::id::{SocketId, Timer};
use crate::base::stats::Stats;
use crate::datagram::SocketFlags;
use crate::engine::observer::What;
use crate::handler::{
    DatagramHandler, DatagramSocket, Entry, HandlerKey, Incoming, Loop, SessionHandler, SocketFace,
};
use crate::options::{Destination, SessionOptions, UdpOptions};
use crate::reactor::Reactor;
use crate::reactor::callback::{Callbacks, Who};
use crate::reactor::dispatch::Dispatcher;
use crate::sys::{self, BATCH, Ends, Inbound, Readiness};

impl Reactor {
    /// Binds a UDP socket and serves it with a handler of datagrams; returns its id, and its
    /// address with the real port. Addresses and names are as those of [`listen`](Self::listen).
    ///
    /// A socket that is bound to all addresses, `0.0.0.0` or `[::]`, answers from the address that
    /// was asked; a handler learns it from [`DatagramSocket::local_addr`].
    ///
    /// # Examples
    /// An echo server:
    /// ```no_run
    /// use std::net::SocketAddr;
    /// use waterwheel::udp::{DatagramSocket, UdpOptions};
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// let echo = reactor.register(
    ///     |socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]| {
    ///         socket.send_to(from, bytes);
    ///     },
    /// );
    /// reactor.bind_udp("127.0.0.1:7000", echo, UdpOptions::default())?;
    /// reactor.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, the text is no address, or the key is of
    ///   another reactor.
    /// - Those of a lookup, of the kinds that [`Destination`] lists.
    /// - `Other`: the reactor is stopping.
    /// - `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` and others of the system; the text
    ///   names the address and says what would do.
    ///
    /// # Platform notes
    /// On other systems than Linux the kernel chooses the source address of answers. A server with
    /// several addresses binds a socket to each of them there.
    pub fn bind_udp<H: DatagramHandler>(
        &mut self,
        addr: impl Into<Destination>,
        handler: HandlerKey<H>,
        options: UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let addr = self.resolve_now(addr)?;
        self.check_handler(handler)?;
        self.context().bind_udp(addr, handler, &options)
    }

    /// Binds a UDP socket as [`bind_udp`](Self::bind_udp) does, and serves it with a handler that
    /// keeps something for each peer. The sessions of a handler are in one table, over all its
    /// sockets: so each of these calls for a handler gets the same [`SessionOptions`].
    ///
    /// # Errors
    /// - Those of [`bind_udp`](Self::bind_udp).
    /// - `InvalidInput`: an option of the sessions is out of range, or the handler has other ones
    ///   already.
    pub fn bind_sessions<H: SessionHandler>(
        &mut self,
        addr: impl Into<Destination>,
        handler: HandlerKey<H>,
        sessions: SessionOptions,
        options: UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let addr = self.resolve_now(addr)?;
        self.check_handler(handler)?;
        self.context().bind_sessions(addr, handler, sessions, &options)
    }

    /// Makes a UDP socket with one peer: the socket gets only the peer's datagrams, `send` needs no
    /// address, and `on_error` reports what the network answers. Returns its id and its own
    /// address.
    ///
    /// # Examples
    /// A client, which has the first word:
    /// ```
    /// use std::net::SocketAddr;
    /// use waterwheel::udp::{DatagramSocket, UdpOptions};
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// let client = reactor.register(
    ///     |socket: &mut DatagramSocket<'_>, _: SocketAddr, answer: &[u8]| {
    ///         println!("{}", answer.escape_ascii());
    ///         socket.close();
    ///     },
    /// );
    /// # let server = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// # let server_addr = server.local_addr()?;
    /// let (id, _) = reactor.connect_udp(server_addr, client, UdpOptions::default())?;
    /// if let Some(mut socket) = reactor.context().socket(id) {
    ///     socket.send(b"hello");
    /// }
    /// # let mut hello = [0; 6];
    /// # assert_eq!(server.recv(&mut hello)?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - Those of [`bind_udp`](Self::bind_udp); `NetworkUnreachable` if there is no route.
    pub fn connect_udp<H: DatagramHandler>(
        &mut self,
        to: impl Into<Destination>,
        handler: HandlerKey<H>,
        options: UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let to = self.resolve_now(to)?;
        self.check_handler(handler)?;
        self.context().connect_udp(to, handler, &options)
    }
}

impl Dispatcher {
    /// An event of a datagram socket, by the slot in its token: output first, then input.
    #[inline(never)]
    pub(super) fn on_socket(&mut self, slot: usize, event: Readiness) {
        let Some((id, socket)) = self.lp.datagrams.by_token(slot) else { return };
        if socket.flags.has(SocketFlags::IN_READY_QUEUE) {
            return; // its turn comes
        }
        if event.writable && socket.flags.has(SocketFlags::ASKS_WRITABLE) {
            self.flush_socket(id);
        }
        self.receive(id, event.broken);
    }

    /// A socket that used up a budget has another; a closed one is torn down.
    pub(super) fn on_ready_socket(&mut self, id: SocketId) {
        let Some(socket) = self.lp.datagrams.slot_mut(id) else { return };
        socket.flags.clear(SocketFlags::IN_READY_QUEUE);
        let handler = socket.service;
        if socket.flags.take(SocketFlags::PANICKED) {
            let what = What::Sessions { id };
            self.enter_socket(id, handler, what, |face, entry, socket| face.recover(entry, socket));
        }
        if self.lp.datagrams.socket(id).is_none() {
            return self.tear_down_socket(id, handler);
        }
        self.flush_socket(id);
        self.report_errors(id, handler);
        self.receive(id, true);
    }

    /// Runs a callback of a socket, whose handler is at this place.
    fn enter_socket(
        &mut self,
        id: SocketId,
        handler: u32,
        what: What<'_>,
        call: impl FnOnce(&dyn SocketFace, &mut Entry, &mut DatagramSocket<'_>),
    ) {
        self.callbacks.enter_socket(&mut self.lp, id, handler, what, call);
    }

    /// Reports the errors of sends that are there now. An error that a callback meets meanwhile is
    /// for the next turn: a handler that answers an error by sending may meet another each time.
    fn report_errors(&mut self, id: SocketId, handler: u32) {
        for _ in 0..self.lp.datagrams.socket(id).map_or(0, |socket| socket.errors.len()) {
            let Some(link) = self.lp.socket_link(id) else { return };
            let Some(error) = link.socket.errors.pop_front() else { return };
            self.report_error(id, handler, error);
        }
    }

    fn report_error(&mut self, id: SocketId, handler: u32, error: io::Error) {
        self.lp.engine.stats.datagram_errors += 1;
        let what = What::SocketError { id };
        self.enter_socket(id, handler, what, |face, entry, socket| {
            face.error(entry, socket, error);
        });
    }

    /// Sends what waits, and says so when all of it has left.
    fn flush_socket(&mut self, id: SocketId) {
        let Some(mut link) = self.lp.socket_link(id) else { return };
        if link.flush() {
            let (handler, what) = (link.socket.service, What::SocketDrain { id });
            self.enter_socket(id, handler, what, |face, entry, socket| face.drain(entry, socket));
        }
    }

    /// Receives until the kernel has no more, or the budget is used up. There may be an error
    /// beside the datagrams.
    fn receive(&mut self, id: SocketId, has_error: bool) {
        let Some(socket) = self.lp.datagrams.socket(id) else { return };
        let (handler, budget, most) = (socket.service, socket.budget, socket.most_bytes);
        if socket.has_batches() {
            return self.receive_batches(id, handler, has_error);
        }
        if socket.back_off.is_some() {
            return;
        }
        let Some(face) = self.lp.datagrams.face(id) else { return };
        let (mut ends, mut is_done) = (Ends::NONE, false);
        for _ in 0..budget {
            let Self { lp, callbacks, buffer, .. } = self;
            let Some(mut link) = lp.socket_link(id) else { break };
            match link.socket.receive(buffer, &mut ends) {
                Ok(count) => {
                    link.socket.flags.set(SocketFlags::OWES_BATCH_END);
                    let datagram = Incoming::new(&buffer[..count], most, &ends);
                    note_received(&mut link.engine.stats, &datagram);
                    hand_over(lp, callbacks, face, (id, handler), &datagram);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Nearly always the end: no callback has run since this link was taken.
                    let is_owed = link.socket.flags.take(SocketFlags::OWES_BATCH_END);
                    return self.tell_batch_end(id, handler, is_owed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if sys::is_let_go(&error) => {
                    link.watch_again();
                    is_done = true;
                    break;
                }
                Err(error) => {
                    let goes_on = link.socket.note_error(&error);
                    self.after_failed_read(id, handler, error, goes_on);
                    if !goes_on {
                        is_done = true;
                        break;
                    }
                }
            }
        }
        self.end_batch(id, handler, is_done);
    }

    /// Queues a socket that is not done, and says that all datagrams have been handed over, if
    /// there were any since the last time.
    fn end_batch(&mut self, id: SocketId, handler: u32, is_done: bool) {
        let Some(mut link) = self.lp.socket_link(id) else { return };
        if !is_done || !link.socket.errors.is_empty() {
            link.queue_ready();
        }
        let is_owed = link.socket.flags.take(SocketFlags::OWES_BATCH_END);
        self.tell_batch_end(id, handler, is_owed);
    }

    #[inline]
    fn tell_batch_end(&mut self, id: SocketId, handler: u32, is_owed: bool) {
        if is_owed {
            let what = What::BatchEnd { id };
            self.enter_socket(id, handler, what, |face, entry, socket| {
                face.batch_end(entry, socket)
            });
        }
    }

    /// A read has failed: reports it. If reads keep failing, the socket is left alone for a while.
    #[cold]
    fn after_failed_read(&mut self, id: SocketId, handler: u32, error: io::Error, goes_on: bool) {
        self.report_error(id, handler, error);
        if let (false, Some(mut link)) = (goes_on, self.lp.socket_link(id)) {
            link.back_off();
        }
    }

    /// Receives several datagrams at a time. Fewer than there was room for are all, unless there is
    /// an error to be told: a call that has received something keeps it for the next one.
    fn receive_batches(&mut self, id: SocketId, handler: u32, has_error: bool) {
        if self.awaits_batch(id) {
            return self.queue_socket(id);
        }
        let was_cut = self.inbound.as_ref().is_some_and(|(_, batch)| !batch.is_empty());
        self.hand_over_batch();
        let Some(socket) = self.lp.datagrams.socket(id) else { return };
        // What a panic has left is handed over also by a socket that is left alone for a while, as
        // the others wait for it. They come next: the next batch may be cut as well.
        let mut is_done = socket.back_off.is_some();
        let mut left = if was_cut || is_done { 0 } else { socket.budget };
        while left > 0 {
            let Self { lp, inbound, .. } = self;
            let Some(mut link) = lp.socket_link(id) else { break };
            let (of, batch) = inbound.get_or_insert_with(|| (id, Inbound::new()));
            *of = id;
            let most = left.min(BATCH);
            match link.socket.receive_batch(batch, most) {
                Ok(count) => {
                    is_done = batch.is_all() && !has_error;
                    // Those that came as one are handed over together.
                    left = left.saturating_sub(count);
                    self.hand_over_batch();
                    if is_done {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_done = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => left -= 1,
                Err(error) if sys::is_let_go(&error) => {
                    link.watch_again();
                    is_done = true;
                    break;
                }
                Err(error) => {
                    left -= 1;
                    let goes_on = link.socket.note_error(&error);
                    self.after_failed_read(id, handler, error, goes_on);
                    if !goes_on {
                        is_done = true;
                        break;
                    }
                }
            }
        }
        self.end_batch(id, handler, is_done);
        let Loop { datagrams, engine, .. } = &mut self.lp;
        if let Some(mut link) = datagrams.slot_link(engine, id) {
            link.send_batch();
        }
    }

    fn queue_socket(&mut self, id: SocketId) {
        if let Some(mut link) = self.lp.socket_link(id) {
            link.queue_ready();
        }
    }

    /// Whether a callback of another socket has panicked in the middle of a batch. That socket is
    /// ready; no other is to lose an event by its next panic.
    fn awaits_batch(&self, id: SocketId) -> bool {
        self.inbound.as_ref().is_some_and(|(of, batch)| {
            *of != id && !batch.is_empty() && self.lp.datagrams.socket(*of).is_some()
        })
    }

    /// Hands over what is left of a batch: all of it, unless a callback has panicked.
    fn hand_over_batch(&mut self) {
        let Self { lp, callbacks, inbound, .. } = self;
        let Some((id, batch)) = inbound else { return };
        let id = *id;
        let Some(face) = lp.datagrams.face(id) else { return };
        while let Some((bytes, ends)) = batch.take() {
            let Some(link) = lp.socket_link(id) else {
                // The one that was taken, and the rest: there is no socket to hand them to.
                lp.engine.stats.datagrams_received += 1 + batch.clear() as u64;
                break;
            };
            let socket = link.socket;
            if socket.is_stranger(ends.peer) {
                continue;
            }
            socket.flags.set(SocketFlags::OWES_BATCH_END);
            let handler = socket.service;
            let datagram = Incoming::new(bytes, socket.most_bytes, ends);
            note_received(&mut link.engine.stats, &datagram);
            hand_over(lp, callbacks, face, (id, handler), &datagram);
        }
    }

    /// A socket that failed to receive tries again.
    pub(super) fn on_receive_timer(&mut self, id: SocketId) {
        if let Some(mut link) = self.lp.socket_link(id) {
            link.end_back_off();
        }
    }

    pub(super) fn on_socket_timer(&mut self, id: SocketId, timer: Timer) {
        if let Some(socket) = self.lp.datagrams.socket(id) {
            let (handler, what) = (socket.service, What::SocketTimer { id, timer: timer.id });
            self.enter_socket(id, handler, what, |face, entry, socket| {
                face.timer(entry, socket, timer);
            });
        }
    }

    pub(super) fn on_session_timer(&mut self, id: SocketId, place: u32) {
        if let Some(socket) = self.lp.datagrams.socket(id) {
            let (handler, what) = (socket.service, What::Sessions { id });
            self.enter_socket(id, handler, what, |face, entry, socket| {
                face.session_due(entry, socket, place);
            });
        }
    }

    /// The sessions of a closed socket end, then it goes, and its handler is told.
    fn tear_down_socket(&mut self, id: SocketId, handler: u32) {
        let what = What::Sessions { id };
        self.enter_socket(id, handler, what, |face, entry, socket| {
            face.end_sessions(entry, socket);
        });
        let face = self.lp.datagrams.face(id);
        self.lp.datagrams.remove(&mut self.lp.engine, id);
        let what = || What::SocketClose { id };
        self.callbacks.enter(&mut self.lp, Who::Closed, handler, what, |entry, lp| {
            if let Some(face) = face {
                face.close(entry, id, lp);
            }
        });
    }

    /// The reactor stops: all sockets are closed.
    pub(super) fn close_sockets(&mut self) {
        while let Some((id, handler)) = self.lp.datagrams.close_any() {
            self.tear_down_socket(id, handler);
        }
    }

    /// A callback of this socket has panicked: what it was about is lost, the rest is served on.
    pub(super) fn after_socket_panic(&mut self, id: SocketId) {
        let Loop { datagrams, engine, .. } = &mut self.lp;
        if let Some(mut link) = datagrams.slot_link(engine, id) {
            link.socket.flags.set(SocketFlags::PANICKED);
            link.queue_ready();
        }
    }
}

#[inline]
fn note_received(stats: &mut Stats, datagram: &Incoming<'_>) {
    stats.datagrams_received += 1;
    stats.datagram_bytes_received += datagram.bytes.len() as u64;
    stats.datagrams_truncated += u64::from(datagram.is_truncated);
}

/// Hands a datagram over to a socket that is open, and to the handler that serves it.
#[inline]
fn hand_over(
    lp: &mut Loop,
    callbacks: &mut Callbacks,
    face: &dyn SocketFace,
    (id, handler): (SocketId, u32),
    datagram: &Incoming<'_>,
) {
    let what = || What::Datagram { id, from: datagram.ends.peer, bytes: datagram.bytes };
    callbacks.enter(lp, Who::Socket(id), handler, what, |entry, lp| {
        face.datagram(entry, lp, id, datagram);
    });
}
