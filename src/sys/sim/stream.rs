//! Handles on connections and on listeners.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Deref;

use super::chance::Fault;
use super::host::{Host, no_descriptor};
use super::socket::SocketStage;
use super::trace::Call;
use super::world::World;
use crate::sys;
use crate::sys::Backlog;
use crate::sys::os::errors;

/// An end of a connection; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    host: Host,
    key: u32,
}

/// A listening socket; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    host: Host,
    key: u32,
}

impl Host {
    pub(crate) fn connect(
        &self,
        addr: SocketAddr,
        source: Option<SocketAddr>,
    ) -> io::Result<Stream> {
        self.call(|world| {
            if !world.open_file(self.index) {
                return Err(no_descriptor(false));
            }
            let ip = World::ip_of(self.index);
            let port = 10_000 + (world.sockets.len() % 50_000) as u16;
            let mut local = source.unwrap_or_else(|| SocketAddr::new(ip, port));
            if local.port() == 0 {
                local.set_port(port);
            }
            let local = self.resolve(local);
            let key = world.connect(self.owner(), local, self.resolve(addr));
            Ok(Stream { host: self.clone(), key })
        })
    }

    pub(crate) fn bind(
        &self,
        addr: SocketAddr,
        backlog: Option<u32>,
    ) -> io::Result<(Listener, Backlog)> {
        const MAX_BACKLOG: u32 = 4_096;
        self.call(|world| {
            if !world.open_file(self.index) {
                return Err(no_descriptor(false));
            }
            let most = backlog.unwrap_or(MAX_BACKLOG).min(MAX_BACKLOG) as usize;
            let addr = self.resolve(addr);
            if addr.ip() != World::ip_of(self.index) {
                world.close_file(self.index);
                return Err(ErrorKind::AddrNotAvailable.into());
            }
            let Some(key) = world.listen(self.owner(), addr, most) else {
                world.close_file(self.index);
                return Err(ErrorKind::AddrInUse.into());
            };
            let listener = Listener { host: self.clone(), key };
            Ok((listener, Backlog { asked: backlog, system_most: Some(MAX_BACKLOG) }))
        })
    }
}

impl Stream {
    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn edges_are_native(&self) -> bool {
        self.host.edges_are_native
    }

    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        self.host.call(|world| {
            let socket = &mut world.sockets[self.key as usize];
            if let Some(kind) = socket.error.take() {
                return Some(Err(kind.into()));
            }
            match socket.stage {
                SocketStage::Connecting => None,
                SocketStage::Up if !socket.is_reset => Some(Ok(())),
                _ => Some(Err(ErrorKind::NotConnected.into())),
            }
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.host.world.borrow().sockets[self.key as usize].local
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.host.call_on(self.key, Call::Receive, |world| world.host_read(self.key, buffer))
    }

    pub(crate) fn send<B: Deref<Target = [u8]>>(&self, parts: &[B]) -> io::Result<usize> {
        self.host.call_on(self.key, Call::Send, |world| match parts {
            [part] => world.host_write(self.key, part),
            parts => {
                let parts: Vec<&[u8]> = parts.iter().map(Deref::deref).collect();
                world.host_write(self.key, &parts.concat())
            }
        })
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let finish = |world: &mut World| world.finish(self.key).map(|()| 0);
        self.host.call_on(self.key, Call::Shutdown, finish).map(drop)
    }

    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        self.host.call(|world| world.reset_on_close(self.key));
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.host.call(|world| {
            world.close(self.key);
            world.close_file(self.host.index);
        });
    }
}

impl Listener {
    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.host.world.borrow().sockets[self.key as usize].local
    }

    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let mut accepted = None;
        self.host.call_on(self.key, Call::Accept, |world| {
            accepted = Some(self.accept_in(world)?);
            Ok(accepted.map_or(0, |(key, _)| key as usize))
        })?;
        let (key, peer) = accepted.ok_or(ErrorKind::WouldBlock)?;
        Ok((Stream { host: self.host.clone(), key }, peer))
    }

    fn accept_in(&self, world: &mut World) -> io::Result<(u32, SocketAddr)> {
        let is_waited_for = world.sockets[self.key as usize].is_readable();
        if is_waited_for && world.chance.strikes(Fault::Interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if is_waited_for && world.chance.strikes(Fault::AcceptError) {
            world.hurt_first(self.key);
            return Err(self.draw_error(world));
        }
        // Linux takes the descriptor before it looks at the queue, which may be empty.
        if !world.open_file(self.host.index) {
            world.hurt_first(self.key);
            return Err(no_descriptor(false));
        }
        let Some(child) = world.accept(self.key) else {
            world.close_file(self.host.index);
            return Err(ErrorKind::WouldBlock.into());
        };
        world.sockets[child as usize].owner = self.host.owner();
        world.hosts[self.host.index].accepted = Some(child);
        Ok((child, world.sockets[child as usize].remote))
    }

    /// Draws an error of accept4(2). An error of the connection ends the connection.
    fn draw_error(&self, world: &mut World) -> io::Error {
        let choice = world.chance.below(8);
        if choice < 2 {
            if let Some(child) = world.accept(self.key) {
                world.reset_on_close(child);
                world.close(child);
            }
        }
        match choice {
            0 => ErrorKind::ConnectionAborted.into(),
            1 => io::Error::from_raw_os_error(errors::BROKEN_CONNECTION[0]),
            2 => no_descriptor(false),
            3 => no_descriptor(true),
            4 => io::Error::from_raw_os_error(errors::NO_BUFFERS[0]),
            5 => ErrorKind::OutOfMemory.into(),
            6 => ErrorKind::PermissionDenied.into(),
            _ => ErrorKind::NetworkDown.into(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.host.call(|world| {
            world.close(self.key);
            world.close_file(self.host.index);
        });
    }
}

impl sys::Stream {
    /// The number of the socket in a simulated world.
    pub(crate) fn simulated(&self) -> Option<u32> {
        match self {
            Self::Sim(stream) => Some(stream.key),
            _ => None,
        }
    }
}

impl sys::Listener {
    /// The number of the socket in a simulated world.
    pub(crate) fn simulated(&self) -> Option<u32> {
        match self {
            Self::Sim(listener) => Some(listener.key),
            _ => None,
        }
    }
}
