//! Unix sockets: listeners, and the way to one.

use crate::connection::Connection;
use crate::engine::Engine;
use crate::id::ConnId;
use crate::sys::Stream;

#[cfg(unix)]
use {
    crate::close::CloseReason,
    crate::connection::after,
    crate::connector::{Attempt, Stage},
    crate::engine::Target,
    crate::engine::link::log_backlog,
    crate::options::{ConnectOptions, Place, UnixAddr, UnixListenOptions},
    crate::sys::{self, NO_ADDR},
    std::io,
    std::rc::Rc,
};

impl Connection<Stream> {
    /// Whether a read or a write that is short has emptied or filled the socket. The peer of a
    /// Unix socket can send descriptors along, and a read stops at each.
    pub(crate) fn short_means_done(&self) -> bool {
        self.stream.short_means_done() && !self.profile.is_unix
    }
}

/// Ticks between two tries to connect to a Unix socket whose listener has a full queue: the kernel
/// does not tell when there is room (connect(2), `EAGAIN`).
#[cfg(unix)]
const FULL_QUEUE_PAUSE: u64 = 5;

impl Engine {
    /// Whether writability is asked for only while output waits: where edges are emulated, and of
    /// Unix sockets. Linux tells of room in one whenever its peer has read something
    /// (`unix_write_space` in net/unix/af_unix.c), whether or not it had been full: a second event
    /// for each message.
    pub(super) fn asks_writable_on_demand(&self, id: ConnId) -> bool {
        self.world.asks_writable_on_demand() || self.is_unix(id)
    }

    /// Whether a connection is a Unix socket, or will be.
    fn is_unix(&self, id: ConnId) -> bool {
        self.live(id).is_some_and(|connection| connection.profile.is_unix)
    }
}

#[cfg(unix)]
impl Engine {
    /// Binds a Unix socket and serves it.
    pub(crate) fn listen_unix(
        &mut self,
        addr: UnixAddr,
        service: u32,
        options: &UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        let bound = options.check().and_then(|()| self.world.bind_unix(&addr, options));
        let (socket, backlog) = bound.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"))
        })?;
        log_backlog(&addr, backlog);
        self.add_unix_listener(socket, &addr, service, options)?;
        Ok(addr)
    }

    /// Serves a Unix socket that somebody else has set to listen.
    pub(crate) fn adopt_unix(
        &mut self,
        listener: std::os::unix::net::UnixListener,
        service: u32,
        options: &UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        options.check()?;
        let (socket, addr) = self.world.adopt_unix(listener).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot adopt the listening socket: {error}"))
        })?;
        self.add_unix_listener(socket, &addr, service, options)?;
        Ok(addr)
    }

    fn add_unix_listener(
        &mut self,
        mut socket: sys::Listener,
        addr: &UnixAddr,
        service: u32,
        options: &UnixListenOptions,
    ) -> io::Result<()> {
        self.poller.add_listener(&mut socket, self.listeners.vacant_key())?;
        let index = self.place_listener(Some(socket), NO_ADDR, service, &options.shared());
        let listener = &mut self.listeners[index as usize];
        listener.name = Some(addr.to_string().into());
        if let Some(profile) = Rc::get_mut(&mut listener.profile) {
            profile.is_unix = true;
            profile.tcp = None;
        }
        log::debug!("listening on {addr}");
        Ok(())
    }

    /// Connects to a Unix socket, now or when its listener has room.
    pub(super) fn try_unix(&mut self, id: ConnId, addr: &UnixAddr, options: &ConnectOptions) {
        if let Some(source) = options.source {
            let text = format!("option source is {source}; a Unix socket has no such thing");
            let error = io::Error::new(io::ErrorKind::InvalidInput, text);
            return self.doom(id, CloseReason::Io(error));
        }
        log::debug!("{id}: connecting to {addr}");
        let now = self.clock.tick();
        let attempt = self.attempt_unix(id, addr);
        let Some((connector, _)) = self.connector(id) else { return };
        connector.stage = Stage::Trying;
        connector.next_at = u64::MAX;
        match attempt {
            Ok(attempt) => connector.attempts.push(attempt),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let text = "the queue of its listener is full";
                connector.note_again(io::Error::new(io::ErrorKind::TimedOut, text));
                connector.next_at = after(now, FULL_QUEUE_PAUSE);
            }
            Err(error) => {
                connector.note_again(error);
                return self.end_round(id);
            }
        }
        self.file(id);
    }

    /// The pause for a full queue is over; `false` if it was not for one.
    pub(super) fn try_unix_again(&mut self, id: ConnId) -> bool {
        let Some((_, dial)) = self.connector(id) else { return false };
        let Place::Unix(addr) = dial.destination.place() else { return false };
        self.try_unix(id, addr, &dial.options);
        true
    }

    fn attempt_unix(&mut self, id: ConnId, addr: &UnixAddr) -> io::Result<Attempt<Stream>> {
        let mut stream = self.world.connect_unix(addr)?;
        let slot = self.attempts.vacant_key();
        self.poller.add(&mut stream, Target::attempt_token(slot), true)?;
        self.attempts.insert(id);
        Ok(Attempt { addr: NO_ADDR, stream, slot })
    }
}
