//! Unix sockets that listen and connect. What an accepted or connected one does goes by the same
//! calls as TCP, so that both are one type of [`Stream`].

use std::io;
use std::os::fd::OwnedFd;

use mio::net::UnixListener;
use socket2::{Domain, SockRef, Socket, Type};

use super::socket_file::{SocketFile, bind_name, check_is_there, connect, name_of};
use crate::options::{UnixAddr, UnixListenOptions};
use crate::sys::os::{self, Backlog, linux, tcp};
use crate::sys::{Listener, Stream, World};

/// A Unix socket that listens.
#[derive(Debug)]
pub(crate) struct LocalListener {
    /// The file to remove at the end; dropped first, so that no other process sees a file without
    /// a socket.
    #[expect(dead_code, reason = "held, to be removed when it is dropped")]
    file: Option<SocketFile>,
    socket: UnixListener,
}

impl World {
    /// Binds a Unix socket and listens; returns the backlog too.
    pub(crate) fn bind_unix(
        &self,
        addr: &UnixAddr,
        options: &UnixListenOptions,
    ) -> io::Result<(Listener, Backlog)> {
        match self {
            Self::Os => bind(addr, options).map(|(local, backlog)| (local.into(), backlog)),
            Self::Sim(_) => Err(not_simulated()),
        }
    }

    /// Takes over a Unix socket that was bound and set to listen elsewhere.
    pub(crate) fn adopt_unix(
        &self,
        listener: std::os::unix::net::UnixListener,
    ) -> io::Result<(Listener, UnixAddr)> {
        match self {
            Self::Os => {
                listener.set_nonblocking(true)?;
                let Some(addr) = name_of(&SockRef::from(&listener).local_addr()?) else {
                    let text = "it has no name, so it is not bound";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                };
                let socket = UnixListener::from_std(listener);
                Ok((LocalListener { file: None, socket }.into(), addr))
            }
            Self::Sim(_) => Err(not_simulated()),
        }
    }

    /// Connects to a Unix socket, at once or not at all: `WouldBlock` says that the listener's
    /// queue is full, and no event will say when it has room.
    pub(crate) fn connect_unix(&self, addr: &UnixAddr) -> io::Result<Stream> {
        match self {
            Self::Os => connect(addr, Type::STREAM).map(into_stream),
            Self::Sim(_) => Err(not_simulated()),
        }
    }
}

/// Sockets of a simulated world are TCP and UDP only.
pub(super) fn not_simulated() -> io::Error {
    let text = "a simulated world has no Unix sockets; use TCP in it";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

impl Stream {
    /// The name of its own end, if it has one.
    pub(crate) fn local_name(&self) -> Option<UnixAddr> {
        name_of(&SockRef::from(self.of_os()?).local_addr().ok()?)
    }

    /// The name of the other end, if it has one.
    pub(crate) fn peer_name(&self) -> Option<UnixAddr> {
        name_of(&SockRef::from(self.of_os()?).peer_addr().ok()?)
    }
}

impl LocalListener {
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        self.socket.accept().map(|(stream, _)| into_stream(stream))
    }

    pub(crate) fn add_to(&mut self, poller: &os::Poller, token: usize) -> io::Result<()> {
        os::add(poller, &mut self.socket, token, false)
    }

    pub(crate) fn remove_from(&mut self, poller: &os::Poller) -> io::Result<()> {
        os::remove(poller, &mut self.socket)
    }
}

fn into_stream(socket: impl Into<OwnedFd>) -> Stream {
    Stream::Os(os::Stream::from(socket.into()))
}

fn bind(addr: &UnixAddr, options: &UnixListenOptions) -> io::Result<(LocalListener, Backlog)> {
    addr.check()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = bind_name(&socket, addr, options.mode)?;
    socket.listen(tcp::backlog(options.backlog))?;
    check_is_there(file.as_ref())?;
    let socket = UnixListener::from_std(OwnedFd::from(socket).into());
    let backlog = Backlog { asked: options.backlog, system_most: linux::largest_backlog() };
    Ok((LocalListener { file, socket }, backlog))
}
