//! Unix sockets for datagrams: bound, and written to. For the rest they are as UDP sockets.

use std::io;

use crate::base::id::{SocketId, TimerId};
use crate::datagram::{SendStatus, SocketFlags, Sockets};
use crate::engine::{Due, Engine};
use crate::options::{UnixAddr, UnixDatagramOptions};
use crate::sys::{NO_ADDR, SendFault};

impl Sockets {
    /// Binds a Unix socket for datagrams and serves it.
    pub(crate) fn bind_unix_datagrams(
        &mut self,
        engine: &mut Engine,
        addr: &UnixAddr,
        service: u32,
        options: &UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        self.check_goes_on(engine)?;
        let socket = options
            .check()
            .and_then(|()| engine.io.world().bind_unix_datagrams(addr, options))
            .map_err(|error| explain("bind a datagram socket to", addr, &error))?;
        let (id, _) = self.add_datagrams(engine, socket, None, service, &options.shared())?;
        self.sockets[id.index()].receivers.timeout = options.queue_timeout;
        Ok(id)
    }

    /// Makes a Unix socket for datagrams with one peer and serves it.
    pub(crate) fn connect_unix_datagrams(
        &mut self,
        engine: &mut Engine,
        peer: &UnixAddr,
        service: u32,
        options: &UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        self.check_goes_on(engine)?;
        let socket = options
            .check()
            .and_then(|()| engine.io.world().connect_unix_datagrams(peer, options))
            .map_err(|error| explain("connect a datagram socket to", peer, &error))?;
        let (id, _) =
            self.add_datagrams(engine, socket, Some(NO_ADDR), service, &options.shared())?;
        self.sockets[id.index()].receivers.timeout = options.queue_timeout;
        Ok(id)
    }

    /// Sends a datagram to a name, or queues it: behind those that wait for the same receiver, in
    /// order.
    pub(crate) fn send_to_unix(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        to: &UnixAddr,
        bytes: &[u8],
    ) -> SendStatus {
        let Some(socket) = self.socket_mut(id) else { return SendStatus::Closed };
        let Some(unix) = socket.inner.unix() else { return SendStatus::Closed };
        if unix.peer() == Some(to) {
            // Its queue, and an event when there is room.
            return self.send_datagram(engine, id, None, bytes);
        }
        if socket.receivers.has(to) {
            return self.enqueue_for(engine, id, to, bytes);
        }
        match unix.send_to(bytes, to) {
            Ok(()) => {
                self.count_sent(engine, bytes.len());
                SendStatus::Sent
            }
            Err(error) => self.not_sent_to_unix(engine, id, to, bytes, error),
        }
    }

    /// The first try to send to a name has failed.
    #[cold]
    fn not_sent_to_unix(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        to: &UnixAddr,
        bytes: &[u8],
        first: io::Error,
    ) -> SendStatus {
        use io::ErrorKind::{ConnectionReset, Interrupted, WouldBlock};
        let mut error = first;
        for _ in 0..2 {
            match (error.kind(), SendFault::of(&error)) {
                (WouldBlock, _) | (_, SendFault::NoBuffers) => {
                    return self.enqueue_for(engine, id, to, bytes);
                }
                (_, SendFault::TooLong) => return SendStatus::TooLong,
                // The latter is of the peer, which is connected to somebody else now.
                (Interrupted | ConnectionReset, _) => {}
                (kind, _) => return SendStatus::Failed(kind),
            }
            let Some(unix) = self.socket(id).and_then(|socket| socket.inner.unix()) else { break };
            match unix.send_to(bytes, to) {
                Ok(()) => {
                    self.count_sent(engine, bytes.len());
                    return SendStatus::Sent;
                }
                Err(next) => error = next,
            }
        }
        SendStatus::Failed(error.kind())
    }

    fn enqueue_for(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        to: &UnixAddr,
        bytes: &[u8],
    ) -> SendStatus {
        let Some(socket) = self.socket_mut(id) else { return SendStatus::Closed };
        socket.flags.set(SocketFlags::OWES_DRAIN);
        let is_kept = socket.receivers.may_take(to, bytes.len(), socket.queue.free())
            && socket.queue.set_aside(bytes.len());
        // Where nothing waits that brings `on_drain`, a queue without datagrams does.
        let opened = match is_kept || socket.queue.is_drained() && socket.receivers.is_empty() {
            true => socket.receivers.open(to),
            false => None,
        };
        if is_kept {
            socket.receivers.push(to, bytes);
        }
        if let Some((place, pause)) = opened {
            self.set_retry(engine, id, place, pause);
        }
        if is_kept {
            SendStatus::Queued
        } else {
            engine.stats.datagrams_dropped += 1;
            SendStatus::Dropped
        }
    }

    fn set_retry(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        place: u32,
        pause: std::time::Duration,
    ) {
        let timer = engine.timers.set(pause, Due::Resend(id, place));
        if let Some(socket) = self.sockets.get_mut(id.index()) {
            socket.receivers.set_timer(place, timer);
        }
    }

    /// The pause of a receiver's queue is over.
    pub(crate) fn on_retry_timer(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        place: u32,
        timer: TimerId,
    ) {
        let is_due =
            self.socket_mut(id).is_some_and(|socket| socket.receivers.mark_due(place, timer));
        if is_due {
            self.queue_ready_socket(engine, id.index());
        }
    }

    /// Sends what waits in the queues that are due, within a budget.
    pub(super) fn flush_receivers(&mut self, engine: &mut Engine, slot: usize, budget: &mut usize) {
        loop {
            let socket = &mut self.sockets[slot];
            let Some((to, bytes)) = socket.receivers.first() else { return };
            let Some(unix) = socket.inner.unix() else { return };
            if *budget == 0 {
                socket.receivers.rotate();
                return self.queue_ready_socket(engine, slot);
            }
            *budget -= 1;
            let length = bytes.len();
            match unix.send_to(bytes, to) {
                Ok(()) => {
                    socket.receivers.pop();
                    socket.queue.take_back(1, length);
                    self.count_sent(engine, length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => self.block_receiver(engine, slot),
                Err(error) => {
                    let text = format!("a datagram to {to} is lost: {error}");
                    socket.receivers.pop();
                    socket.queue.take_back(1, length);
                    socket.keep_error(io::Error::new(error.kind(), text));
                    engine.stats.datagrams_dropped += 1;
                    self.queue_ready_socket(engine, slot);
                }
            }
        }
    }

    /// The first queue that is due finds no room: its next try waits for a timer, or it is given up.
    fn block_receiver(&mut self, engine: &mut Engine, slot: usize) {
        let socket = &mut self.sockets[slot];
        if let Some((to, count, bytes)) = socket.receivers.give_up() {
            let timeout = socket.receivers.timeout;
            let text = format!("{count} datagrams to {to} are lost: no room for {timeout:?}");
            socket.queue.take_back(count, bytes);
            socket.keep_error(io::Error::new(io::ErrorKind::TimedOut, text));
            engine.stats.datagrams_dropped += count as u64;
            self.queue_ready_socket(engine, slot);
        } else if let Some((place, pause)) = socket.receivers.block() {
            let id = SocketId::new(slot as u32, socket.generation);
            self.set_retry(engine, id, place, pause);
        }
    }

    /// The socket is about to go: every queue is tried once more.
    pub(super) fn retry_all(&mut self, engine: &mut Engine, slot: usize) {
        for timer in self.sockets[slot].receivers.mark_all_due() {
            engine.timers.cancel(timer);
        }
    }
}

/// Whether a receiver has no room now: Linux says `WouldBlock`, others `ENOBUFS`.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || SendFault::of(error) == SendFault::NoBuffers
}

fn explain(what: &str, addr: &UnixAddr, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "; nobody is bound to it, start what should be",
        io::ErrorKind::PermissionDenied => {
            "; who sends must be allowed to write to the file, and its receiver may have a peer of \
             its own"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot {what} {addr}: {error}{hint}"))
}
