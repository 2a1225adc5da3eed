//! Unix sockets: listeners, and the way to one.

use std::io;
use std::rc::Rc;

use crate::base::close::CloseReason;
use crate::base::tick::{NEVER, after};
use crate::engine::Engine;
use crate::options::{ConnectOptions, UnixAddr, UnixListenOptions};
use crate::stream::connection::Flags;
use crate::stream::first_reads::FirstReads;
use crate::stream::happy_eyeballs::{Attempt, Stage};
use crate::stream::listen::log_backlog;
use crate::stream::{Link, Streams};
use crate::sys::{self, NO_ADDR, Stream};

/// Ticks between two tries to connect to a Unix socket whose listener has a full queue: the kernel
/// does not tell when there is room (connect(2), `EAGAIN`).
const FULL_QUEUE_PAUSE: u64 = 5;

impl Streams {
    /// Binds a Unix socket and serves it.
    pub(crate) fn listen_unix(
        &mut self,
        engine: &mut Engine,
        addr: UnixAddr,
        service: u32,
        options: &UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        let bound = options.check().and_then(|()| engine.io.world().bind_unix(&addr, options));
        let (socket, backlog) = bound.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "; its directory must be there",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}{hint}"))
        })?;
        log_backlog(&addr, backlog);
        self.add_unix_listener(engine, socket, &addr, service, options)?;
        Ok(addr)
    }

    /// Serves a Unix socket that is set to listen already.
    pub(crate) fn adopt_unix(
        &mut self,
        engine: &mut Engine,
        listener: std::os::unix::net::UnixListener,
        service: u32,
        options: &UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        options.check()?;
        let (socket, addr) = engine.io.world().adopt_unix(listener).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot adopt the listening socket: {error}"))
        })?;
        self.add_unix_listener(engine, socket, &addr, service, options)?;
        Ok(addr)
    }

    fn add_unix_listener(
        &mut self,
        engine: &mut Engine,
        mut socket: sys::Listener,
        addr: &UnixAddr,
        service: u32,
        options: &UnixListenOptions,
    ) -> io::Result<()> {
        engine.io.poller().add_listener(&mut socket, self.next_listener())?;
        let index = self.place_listener(engine, Some(socket), NO_ADDR, service, &options.shared());
        let Some(listener) = self.listener_mut(index as usize) else { return Ok(()) };
        listener.name = Some(addr.to_string().into());
        if let Some(config) = Rc::get_mut(&mut listener.config) {
            config.flags.set(Flags::UNIX);
            config.tcp = None;
        }
        // A read does not say whether it has emptied a Unix socket.
        listener.first_reads = FirstReads::NEVER;
        log::debug!("listening on {addr}");
        Ok(())
    }
}

impl Link<'_> {
    /// Connects to a Unix socket, now or when its listener has room.
    pub(super) fn try_unix(&mut self, addr: &UnixAddr, options: &ConnectOptions) {
        if let Some(source) = options.source {
            let text = format!("option source is {source}; a Unix socket has no such thing");
            let error = io::Error::new(io::ErrorKind::InvalidInput, text);
            return self.mark_closed(CloseReason::Io(error));
        }
        log::debug!("{}: connecting to {addr}", self.id);
        let now = self.engine.timers.clock_tick();
        let attempt = self.attempt_unix(addr);
        let Some(connector) = self.connection.connector_mut() else { return };
        connector.stage = Stage::Trying;
        connector.next_at = NEVER;
        match attempt {
            Ok(attempt) => connector.attempts.push(attempt),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let text = "the queue of its listener is full";
                connector.note_again(io::Error::new(io::ErrorKind::TimedOut, text));
                connector.next_at = after(now, FULL_QUEUE_PAUSE);
            }
            Err(error) => {
                connector.note_again(error);
                return self.end_round();
            }
        }
        self.arm();
    }

    fn attempt_unix(&mut self, addr: &UnixAddr) -> io::Result<Attempt<Stream>> {
        let mut stream = self.engine.io.world().connect_unix(addr)?;
        let slot = self.engine.io.add_attempt(self.id, &mut stream)?;
        Ok(Attempt { addr: NO_ADDR, stream, slot })
    }
}
