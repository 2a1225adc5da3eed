//! Unix sockets for datagrams.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;

use mio::net::UnixDatagram;
use rustix::net::SocketAddrUnix;
use socket2::{Domain, SockRef, Socket, Type};

use super::listener::not_simulated;
use super::socket_file::{SocketFile, bind_name, check_is_there, name_of, sock_addr};
use super::{NO_SIGNAL, linux};
use crate::options::unix::UnixName;
use crate::options::{UnixAddr, UnixDatagramOptions};
use crate::sys::{Credentials, DatagramSocket, World};

/// A Unix socket for datagrams.
#[derive(Debug)]
pub(crate) struct UnixDatagrams {
    /// The file to remove at the end; dropped first, so that no other process sees a file without
    /// a socket.
    #[expect(dead_code, reason = "held, to be removed when it is dropped")]
    file: Option<SocketFile>,
    socket: UnixDatagram,
    /// Its own name, if it has one.
    name: Option<UnixAddr>,
    /// Its peer, if it has one.
    peer: Option<UnixAddr>,
    /// Whether the kernel tells who has sent a datagram.
    wants_credentials: bool,
    sender: Sender,
}

/// Who has sent a datagram.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    /// The name of its socket, if it has one. Kept from datagram to datagram, so that several of
    /// one sender cost one allocation.
    pub(crate) name: Option<UnixAddr>,
    /// The process, if the kernel was asked.
    pub(crate) credentials: Option<Credentials>,
}

/// A [`UnixDatagrams`] as [`DatagramSocket`] holds it: boxed, so that UDP sockets stay small.
pub(crate) type UnixDatagramSocket = Box<UnixDatagrams>;

impl DatagramSocket {
    /// The Unix socket, if it is one.
    #[inline]
    pub(crate) fn unix(&self) -> Option<&UnixDatagrams> {
        match self {
            Self::Unix(socket) => Some(socket),
            _ => None,
        }
    }

    /// The Unix socket, if it is one.
    #[inline]
    pub(crate) fn unix_mut(&mut self) -> Option<&mut UnixDatagrams> {
        match self {
            Self::Unix(socket) => Some(socket),
            _ => None,
        }
    }
}

impl World {
    /// Binds a Unix socket for datagrams.
    pub(crate) fn bind_unix_datagrams(
        &self,
        addr: &UnixAddr,
        options: &UnixDatagramOptions,
    ) -> io::Result<DatagramSocket> {
        match self {
            Self::Os => bind(addr, options).map(into_socket),
            Self::Sim(_) => Err(not_simulated()),
        }
    }

    /// A Unix socket for datagrams that has one peer.
    pub(crate) fn connect_unix_datagrams(
        &self,
        peer: &UnixAddr,
        options: &UnixDatagramOptions,
    ) -> io::Result<DatagramSocket> {
        match self {
            Self::Os => connect(peer, options).map(into_socket),
            Self::Sim(_) => Err(not_simulated()),
        }
    }
}

fn into_socket(socket: UnixDatagrams) -> DatagramSocket {
    UnixDatagramSocket::new(socket).into()
}

fn bind(addr: &UnixAddr, options: &UnixDatagramOptions) -> io::Result<UnixDatagrams> {
    addr.check()?;
    let socket = new_socket(options)?;
    let file = bind_name(&socket, addr, options.mode)?;
    check_is_there(file.as_ref())?;
    Ok(UnixDatagrams::new(socket, file, None, options))
}

fn connect(peer: &UnixAddr, options: &UnixDatagramOptions) -> io::Result<UnixDatagrams> {
    peer.check()?;
    let socket = new_socket(options)?;
    let file = match &options.source {
        Some(source) => bind_source(&socket, source, options).map_err(|error| {
            let text = format!("cannot use {source} as the name of its own: {error}");
            io::Error::new(error.kind(), text)
        })?,
        None if options.mode.is_some() => {
            let text = "option mode is set, and a socket without a source has no file; leave it \
                        out, or set source to a path";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        None => {
            if options.autobind {
                linux::autobind(&socket)?;
            }
            None
        }
    };
    socket.connect(&sock_addr(peer)?)?;
    forget_strangers(&socket);
    Ok(UnixDatagrams::new(socket, file, Some(peer.clone()), options))
}

/// Throws away what has come to a socket that was bound before it had a peer: it may be of any
/// sender. The peer itself has not been sent anything to answer, and must not hold this up.
fn forget_strangers(socket: &Socket) {
    let strangers = std::iter::from_fn(|| socket.recv(&mut [MaybeUninit::uninit(); 1]).ok());
    strangers.take(MAX_STRANGERS).for_each(drop);
}

/// More datagrams than the receive buffer of a Unix socket holds.
const MAX_STRANGERS: usize = 4_096;

fn bind_source(
    socket: &Socket,
    source: &UnixAddr,
    options: &UnixDatagramOptions,
) -> io::Result<Option<SocketFile>> {
    source.check()?;
    let file = bind_name(socket, source, options.mode)?;
    check_is_there(file.as_ref())?;
    Ok(file)
}

fn new_socket(options: &UnixDatagramOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    if options.credentials {
        linux::ask_credentials(&socket)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(socket)
}

/// A name as the system takes it; nothing is allocated.
fn raw_addr(addr: &UnixAddr) -> io::Result<SocketAddrUnix> {
    addr.check()?;
    match addr.name() {
        UnixName::Path(path) => Ok(SocketAddrUnix::new(path.as_os_str().as_bytes())?),
        UnixName::Abstract(name) => linux::raw_abstract(name),
    }
}

impl UnixDatagrams {
    fn new(
        socket: Socket,
        file: Option<SocketFile>,
        peer: Option<UnixAddr>,
        options: &UnixDatagramOptions,
    ) -> Self {
        let name = socket.local_addr().ok().and_then(|addr| name_of(&addr));
        let socket = UnixDatagram::from_std(std::os::fd::OwnedFd::from(socket).into());
        let wants_credentials = options.credentials;
        Self { file, socket, name, peer, wants_credentials, sender: Sender::default() }
    }

    pub(crate) fn name(&self) -> Option<&UnixAddr> {
        self.name.as_ref()
    }

    pub(crate) fn peer(&self) -> Option<&UnixAddr> {
        self.peer.as_ref()
    }

    /// What the poll watches.
    pub(crate) fn source(&mut self) -> &mut UnixDatagram {
        &mut self.socket
    }

    /// Who has sent the datagram that was received last; put back for the next one.
    pub(crate) fn sender_mut(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Receives one datagram: how much of it there was room for. Descriptors that were sent along
    /// are closed by the kernel.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.wants_credentials {
            return linux::receive_with_credentials(&self.socket, &mut self.sender, buffer);
        }
        let (count, from) = self.socket.recv_from(buffer)?;
        let path = from.as_pathname().map(|path| path.as_os_str().as_bytes());
        self.sender.note(path, linux::abstract_name_of(&from));
        Ok(count)
    }

    /// Sends one datagram to the peer. One that has gone may have come back since: Linux then says
    /// so once, and takes the peer away.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        use io::ErrorKind::{ConnectionRefused, NotConnected};
        match (self.send_to_peer(bytes), &self.peer) {
            (Err(error), Some(peer))
                if matches!(error.kind(), ConnectionRefused | NotConnected) =>
            {
                SockRef::from(&self.socket).connect(&sock_addr(peer)?)?;
                self.send_to_peer(bytes)
            }
            (result, _) => result,
        }
    }

    /// Sends past libc, but not past mio, which must see that there is no room where edges are
    /// emulated: a writable event follows.
    fn send_to_peer(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.try_io(|| Ok(rustix::net::send(&self.socket, bytes, NO_SIGNAL).map(drop)?))
    }

    /// Sends one datagram to a name. `WouldBlock` says that the receiver's queue is full, or our
    /// send buffer; nothing tells when the receiver has room, so mio is not asked.
    pub(crate) fn send_to(&self, bytes: &[u8], to: &UnixAddr) -> io::Result<()> {
        Ok(rustix::net::sendto(&self.socket, bytes, NO_SIGNAL, &raw_addr(to)?).map(drop)?)
    }
}

impl Sender {
    /// Keeps a name, unless it is the one that is known. A path may fill `sun_path` without its
    /// zero; no datagram can be sent there, so that it is none.
    pub(super) fn note(&mut self, path: Option<&[u8]>, name: Option<&[u8]>) {
        let known = self.name.as_ref();
        let known_path = known.and_then(UnixAddr::as_path);
        let is_path = known_path.map(|path| path.as_os_str().as_bytes()) == path;
        if is_path && known.and_then(UnixAddr::as_abstract_name) == name {
            return;
        }
        let path = path.map(|path| UnixAddr::path(OsStr::from_bytes(path)));
        let name = path.or_else(|| name.map(UnixAddr::abstract_name));
        self.name = name.filter(|name| name.check().is_ok());
    }
}
