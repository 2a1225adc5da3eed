//! Unix sockets for datagrams: bound, and written to. For the rest they are as UDP sockets.

use std::io;
use std::time::Duration;

use crate::base::id::{SocketId, TimerId};
use crate::datagram::bind::check_goes_on;
pub(super) use crate::datagram::receiver_queues::ReceiverQueues;
use crate::datagram::{SendStatus, ServedBy, Socket, SocketFlags, SocketLink, Sockets};
use crate::engine::{Due, Engine};
use crate::options::{UnixAddr, UnixDatagramOptions};
use crate::sys::{NO_ADDR, Route, SendFault};

impl<F: Copy> Sockets<F> {
    /// Binds a Unix socket for datagrams and serves it.
    pub(crate) fn bind_unix_datagrams(
        &mut self,
        engine: &mut Engine,
        addr: &UnixAddr,
        by: ServedBy<F>,
        options: &UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        check_goes_on(engine)?;
        let socket = options
            .check()
            .and_then(|()| engine.io.world().bind_unix_datagrams(addr, options))
            .map_err(|error| explain("bind a datagram socket to", addr, &error))?;
        let link = self.insert(engine, socket, None, by, &options.shared())?;
        link.socket.receivers.timeout = options.queue_timeout;
        Ok(link.id)
    }

    /// Makes a Unix socket for datagrams with one peer and serves it.
    pub(crate) fn connect_unix_datagrams(
        &mut self,
        engine: &mut Engine,
        peer: &UnixAddr,
        by: ServedBy<F>,
        options: &UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        check_goes_on(engine)?;
        let socket = options
            .check()
            .and_then(|()| engine.io.world().connect_unix_datagrams(peer, options))
            .map_err(|error| explain("connect a datagram socket to", peer, &error))?;
        let link = self.insert(engine, socket, Some(NO_ADDR), by, &options.shared())?;
        link.socket.receivers.timeout = options.queue_timeout;
        Ok(link.id)
    }
}

impl Socket {
    /// Its name for people, if it is a Unix socket.
    pub(super) fn unix_name(&self) -> Option<String> {
        let name = self.inner.unix()?.name().map(|name| name.to_string());
        Some(name.unwrap_or_else(|| "a Unix socket without a name".to_owned()))
    }
}

impl SocketLink<'_> {
    /// Sends a datagram to a name, or queues it: behind those that wait for the same receiver, in
    /// order.
    pub(crate) fn send_to_unix(&mut self, to: &UnixAddr, bytes: &[u8]) -> SendStatus {
        let Some(unix) = self.socket.inner.unix_mut() else { return SendStatus::Closed };
        if unix.peer() == Some(to) {
            // Its queue, and an event when there is room.
            return self.send(&Route::TO_PEER, bytes);
        }
        if self.socket.receivers.has(to) {
            return self.enqueue_for(to, bytes);
        }
        match unix.send_to(bytes, to) {
            Ok(()) => {
                self.count_sent(bytes.len());
                SendStatus::Sent
            }
            Err(error) => self.not_sent_to_unix(to, bytes, error),
        }
    }

    /// The first try to send to a name has failed.
    #[cold]
    fn not_sent_to_unix(&mut self, to: &UnixAddr, bytes: &[u8], first: io::Error) -> SendStatus {
        use io::ErrorKind::{ConnectionReset, Interrupted, WouldBlock};
        let mut error = first;
        for _ in 0..2 {
            match (error.kind(), SendFault::of(&error)) {
                (WouldBlock, _) | (_, SendFault::NoBuffers) => return self.enqueue_for(to, bytes),
                (_, SendFault::TooLong) => return SendStatus::TooLong,
                // The latter is of the peer, which is connected to another socket now.
                (Interrupted | ConnectionReset, _) => {}
                (kind, _) => return SendStatus::Failed(kind),
            }
            let Some(unix) = self.socket.inner.unix_mut() else { break };
            match unix.send_to(bytes, to) {
                Ok(()) => {
                    self.count_sent(bytes.len());
                    return SendStatus::Sent;
                }
                Err(next) => error = next,
            }
        }
        SendStatus::Failed(error.kind())
    }

    fn enqueue_for(&mut self, to: &UnixAddr, bytes: &[u8]) -> SendStatus {
        let socket = &mut *self.socket;
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
            self.set_retry(place, pause);
        }
        self.queued(is_kept)
    }

    /// The queue at this place is tried again after a pause.
    fn set_retry(&mut self, place: u32, pause: Duration) {
        let timer = self.engine.timers.set(pause, Due::Resend(self.id, place));
        self.socket.receivers.set_timer(place, timer);
    }

    /// The pause of a receiver's queue is over.
    pub(crate) fn on_retry_timer(&mut self, place: u32, timer: TimerId) {
        if self.socket.receivers.mark_due(place, timer) {
            self.queue_ready();
        }
    }

    /// Sends what waits in the queues that are due, within a budget. Returns what is left of it.
    pub(super) fn flush_receivers(&mut self, mut budget: usize) -> usize {
        while let Some((to, bytes)) = self.socket.receivers.first() {
            let Some(unix) = self.socket.inner.unix_mut() else { break };
            if budget == 0 {
                self.socket.receivers.rotate();
                self.queue_ready();
                break;
            }
            budget -= 1;
            let length = bytes.len();
            match unix.send_to(bytes, to) {
                Ok(()) => {
                    self.pop_due(length);
                    self.count_sent(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => self.block_receiver(),
                Err(error) => {
                    let text = format!("a datagram to {to} is lost: {error}");
                    self.pop_due(length);
                    self.lose(io::Error::new(error.kind(), text));
                }
            }
        }
        budget
    }

    /// The first datagram of the first queue that is due is sent, or lost.
    fn pop_due(&mut self, length: usize) {
        self.socket.receivers.pop();
        self.socket.queue.take_back(1, length);
    }

    /// The first queue that is due finds no room: its next try waits for a timer, or it is given
    /// up.
    fn block_receiver(&mut self) {
        let socket = &mut *self.socket;
        if let Some((to, count, bytes)) = socket.receivers.give_up() {
            let timeout = socket.receivers.timeout;
            let text = format!("{count} datagrams to {to} are lost: no room for {timeout:?}");
            socket.queue.take_back(count, bytes);
            socket.keep_error(io::Error::new(io::ErrorKind::TimedOut, text));
            self.engine.stats.datagrams_dropped += count as u64;
            self.queue_ready();
        } else if let Some((place, pause)) = socket.receivers.block() {
            self.set_retry(place, pause);
        }
    }

    /// The socket is about to go: every queue is tried once more.
    pub(super) fn retry_all(&mut self) {
        for timer in self.socket.receivers.mark_all_due() {
            self.engine.timers.cancel(timer);
        }
    }
}

/// Whether a receiver has no room now: Linux says `WouldBlock`, others `ENOBUFS`.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || SendFault::of(error) == SendFault::NoBuffers
}

fn explain(what: &str, addr: &UnixAddr, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound if what.starts_with("bind") => "; its directory must be there",
        // An error of its own name has a text of its own, and no code of the system.
        io::ErrorKind::NotFound if error.raw_os_error().is_some() => {
            "; no socket has that name, start what should make it"
        }
        io::ErrorKind::ConnectionRefused => "; nobody is bound to it, start what should be",
        io::ErrorKind::PermissionDenied => {
            "; who sends must be allowed to write to the file, and its receiver may have a peer of \
             its own"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot {what} {addr}: {error}{hint}"))
}
