//! Unix sockets for datagrams.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use mio::net::UnixDatagram;
use rustix::io::Errno;
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
    peer: Option<ConnectedTo>,
    /// Whether the kernel tells who has sent a datagram.
    wants_credentials: bool,
    sender: Sender,
}

/// The peer of a socket.
#[derive(Debug)]
struct ConnectedTo {
    /// Where it is looked for.
    addr: UnixAddr,
    /// The name that the peer itself gave its socket, which differs for a relative path or a link.
    /// `None` while the system knows no peer: what arrives meanwhile may be of any sender.
    own_name: Option<UnixAddr>,
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
    if options.credentials {
        linux::ask_credentials(&socket)?;
    }
    let file = bind_name(&socket, addr, options.mode)?;
    check_is_there(file.as_ref())?;
    Ok(UnixDatagrams::new(socket, file, None, options))
}

/// Connects, and then takes a name: while the socket has none, nobody can send to it. So Linux
/// lets only the peer send to it, from the first datagram on.
fn connect(peer: &UnixAddr, options: &UnixDatagramOptions) -> io::Result<UnixDatagrams> {
    peer.check()?;
    if options.mode.is_some() && options.source.is_none() {
        let text = "option mode is set, and a socket without a source has no file; leave it out, \
                    or set source to a path";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let socket = new_socket(options)?;
    socket.connect(&sock_addr(peer)?)?;
    if options.credentials {
        linux::ask_credentials(&socket)?;
    }
    let file = match &options.source {
        Some(source) => bind_source(&socket, source, options).map_err(|error| {
            let text = format!("cannot use {source} as the name of its own: {error}");
            io::Error::new(error.kind(), text)
        })?,
        None => {
            // The system does it for a socket that asks for credentials, at its first datagram.
            if options.autobind || options.credentials {
                linux::autobind(&socket)?;
            }
            None
        }
    };
    let connected = ConnectedTo { addr: peer.clone(), own_name: None };
    let mut socket = UnixDatagrams::new(socket, file, Some(connected), options);
    socket.note_peer()?;
    Ok(socket)
}

/// Datagrams that a reconnect throws away at most before other work goes on: more than the receive
/// buffer of a Unix socket holds, unless the system's limits have been raised.
const MAX_STALE: usize = 4_096;

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
        peer: Option<ConnectedTo>,
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
        self.peer.as_ref().map(|peer| &peer.addr)
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
    /// are closed by the kernel. `Interrupted` for one that is not of the peer, if there is a peer.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.receive_from_any(buffer)?;
        match self.is_of_peer() {
            true => Ok(count),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn receive_from_any(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.wants_credentials {
            return linux::receive_with_credentials(&self.socket, &mut self.sender, buffer);
        }
        let (count, from) = self.socket.recv_from(buffer)?;
        self.sender.note_addr(&from);
        Ok(count)
    }

    /// Whether what was received last may be handed on. Linux sees to that while it knows the
    /// peer; other systems let any sender send to a connected socket.
    fn is_of_peer(&self) -> bool {
        self.peer.as_ref().is_none_or(|peer| {
            peer.own_name.as_ref().is_some_and(|name| self.sender.name.as_ref() == Some(name))
        })
    }

    /// Sends one datagram to the peer. One that has gone may have come back since: Linux then says
    /// so once, and takes the peer away.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.send_to_peer(bytes) {
            Err(error) if is_without_peer(&error) => {
                self.reconnect()?;
                self.send_to_peer(bytes)
            }
            result => result,
        }
    }

    /// Looks for the peer where it was. What has come since it was lost is thrown away, because
    /// anybody could send then, by any name. A datagram of the new peer may be lost with it, if
    /// that one did not wait to be spoken to.
    fn reconnect(&mut self) -> io::Result<()> {
        let Some(peer) = &self.peer else { return Err(io::ErrorKind::NotConnected.into()) };
        SockRef::from(&self.socket).connect(&sock_addr(&peer.addr)?)?;
        self.throw_away_stale()?;
        self.note_peer()
    }

    /// `WouldBlock` if more is there than may be thrown away at once.
    fn throw_away_stale(&self) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        for _ in 0..MAX_STALE {
            match socket.recv(&mut [MaybeUninit::uninit(); 1]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                _ => {} // an error is of that time too
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Keeps the name that the peer has given itself.
    fn note_peer(&mut self) -> io::Result<()> {
        let mut named = Sender::default();
        named.note_addr(&self.socket.peer_addr()?);
        if let Some(peer) = &mut self.peer {
            peer.own_name = named.name;
        }
        Ok(())
    }

    fn lose_peer(&mut self) {
        if let Some(peer) = &mut self.peer {
            peer.own_name = None;
        }
    }

    /// Sends past libc, but not past mio, which must see that there is no room where edges are
    /// emulated: a writable event follows.
    fn send_to_peer(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.peer.as_ref().is_none_or(|peer| peer.own_name.is_none()) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let sent =
            self.socket.try_io(|| Ok(rustix::net::send(&self.socket, bytes, NO_SIGNAL).map(drop)?));
        if sent.as_ref().is_err_and(is_without_peer) {
            self.lose_peer();
        }
        sent
    }

    /// Sends one datagram to a name. `WouldBlock` says that the receiver's queue is full, or our
    /// send buffer; nothing tells when the receiver has room, so mio is not asked.
    pub(crate) fn send_to(&mut self, bytes: &[u8], to: &UnixAddr) -> io::Result<()> {
        let sent = rustix::net::sendto(&self.socket, bytes, NO_SIGNAL, &raw_addr(to)?);
        // Of the peer under another name, which ends at this moment: Linux takes the peer away.
        if sent.is_err_and(|error| is_without_peer(&error.into()))
            && self.socket.peer_addr().is_err()
        {
            self.lose_peer();
        }
        Ok(sent.map(drop)?)
    }
}

/// Whether a send has failed because the system knows no peer, or none any more.
fn is_without_peer(error: &io::Error) -> bool {
    // Some BSDs ask for an address where others say that there is no connection.
    let wants_address = error.raw_os_error() == Some(Errno::DESTADDRREQ.raw_os_error());
    wants_address
        || matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected)
}

impl Sender {
    fn note_addr(&mut self, from: &SocketAddr) {
        let path = from.as_pathname().map(|path| path.as_os_str().as_bytes());
        self.note(path, linux::abstract_name_of(from));
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// As on a system that lets any sender send to a connected socket: here the system believes
    /// that it is connected to the stranger.
    #[test]
    fn a_sender_with_another_name_than_the_peers_is_not_heard() {
        let path = |name: &str| {
            let name = format!("ww-peer-{name}-{}", std::process::id());
            std::env::temp_dir().join(name)
        };
        let bound = |name: &str| std::os::unix::net::UnixDatagram::bind(path(name)).unwrap();
        let (peer, stranger) = (bound("peer"), bound("stranger"));
        let source = Some(UnixAddr::path(path("ours")));
        let options = UnixDatagramOptions::default().source(source);
        let mut ours = connect(&UnixAddr::path(path("peer")), &options).unwrap();
        let mut buffer = [0; 16];
        for (name, sender, is_heard) in [("stranger", &stranger, false), ("peer", &peer, true)] {
            let to = SockRef::from(&ours.socket);
            to.connect(&sock_addr(&UnixAddr::path(path(name))).unwrap()).unwrap();
            sender.send_to(b"hello", path("ours")).unwrap();
            let result = ours.receive(&mut buffer).map_err(|error| error.kind());
            let expected = if is_heard { Ok(5) } else { Err(io::ErrorKind::Interrupted) };
            assert_eq!(result, expected);
        }
        for name in ["peer", "stranger"] {
            std::fs::remove_file(path(name)).unwrap();
        }
    }
}
