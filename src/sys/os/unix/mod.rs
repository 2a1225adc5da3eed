//! Unix sockets that listen and connect. What an accepted or connected one does goes by the same
//! calls as TCP, so both are one type of [`Stream`].

mod datagram;
mod pass_fds;

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::super::{Backlog, Listener, Stream, World, os};
use crate::options::{UnixAddr, UnixListenOptions, UnixName};

pub(crate) use datagram::UnixDatagrams;
pub use pass_fds::{receive_listeners, send_listeners};

/// A Unix socket that listens.
#[derive(Debug)]
pub(crate) struct Local {
    /// The file that it is to remove; dropped first, so that a file without a socket is seen by
    /// nobody.
    #[expect(dead_code, reason = "it is held for its end")]
    file: Option<OwnFile>,
    socket: UnixListener,
}

/// The file of a socket that was bound here. Goes with it, unless another one has taken its place.
#[derive(Debug)]
struct OwnFile {
    /// As bound; absolute, since the working directory may change.
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl World {
    /// Binds a Unix socket and listens; gives the backlog too.
    pub(crate) fn bind_unix(
        &self,
        addr: &UnixAddr,
        options: &UnixListenOptions,
    ) -> io::Result<(Listener, Backlog)> {
        match self {
            Self::Os => {
                bind(addr, options).map(|(local, backlog)| (Listener::Local(local), backlog))
            }
            Self::Sim(_) => Err(not_simulated()),
        }
    }

    /// Takes over a Unix socket that somebody else has bound and set to listen.
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
                Ok((Listener::Local(Local { file: None, socket }), addr))
            }
            Self::Sim(_) => Err(not_simulated()),
        }
    }

    /// Connects to a Unix socket, which is done at once or not at all: `WouldBlock` says that the
    /// listener's queue is full, and nothing will tell when it has room.
    pub(crate) fn connect_unix(&self, addr: &UnixAddr) -> io::Result<Stream> {
        match self {
            Self::Os => connect(addr, Type::STREAM).map(into_stream),
            Self::Sim(_) => Err(not_simulated()),
        }
    }
}

/// Only TCP listeners are handed on.
pub(crate) fn not_handed_on() -> io::Error {
    let text = "a listening Unix socket cannot be handed on; let the other one bind its own";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

fn not_simulated() -> io::Error {
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

    /// One read, and whether it stopped at something that is not in the bytes, so that there may
    /// be more.
    ///
    /// A read of a Unix socket that returns less than was asked for has emptied it, unless it
    /// came upon descriptors that the peer has sent along: there it stops in any case
    /// (`unix_stream_read_generic` in net/unix/af_unix.c). We take none, so the kernel closes
    /// them and says "truncated". Urgent data stops it as with TCP.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn receive_noting(&self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};
        let Some(stream) = self.of_os() else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut parts = [io::IoSliceMut::new(buffer)];
        let mut none = RecvAncillaryBuffer::default();
        let received = recvmsg(stream, &mut parts, &mut none, RecvFlags::empty())?;
        Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)))
    }
}

impl Local {
    pub(in super::super) fn accept(&self) -> io::Result<Stream> {
        self.socket.accept().map(|(stream, _)| into_stream(stream))
    }

    pub(in super::super) fn add_to(&mut self, poller: &os::Poller, token: usize) -> io::Result<()> {
        os::add(poller, &mut self.socket, token, false)
    }

    pub(in super::super) fn remove_from(&mut self, poller: &os::Poller) -> io::Result<()> {
        os::remove(poller, &mut self.socket)
    }
}

fn into_stream(socket: impl Into<OwnedFd>) -> Stream {
    Stream::Os(os::Stream::from(socket.into()))
}

fn sock_addr(addr: &UnixAddr) -> io::Result<SockAddr> {
    match addr.name() {
        UnixName::Path(path) => SockAddr::unix(path),
        UnixName::Abstract(name) => {
            let marked = [b"\0", &**name].concat();
            SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(&marked)))
        }
    }
}

fn name_of(addr: &SockAddr) -> Option<UnixAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_namespace() {
        return Some(UnixAddr::abstract_name(name));
    }
    addr.as_pathname().map(UnixAddr::path)
}

fn connect(addr: &UnixAddr, kind: Type) -> io::Result<Socket> {
    addr.check()?;
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&sock_addr(addr)?) {
        Err(error) if !os::is_in_progress(&error) => Err(error),
        _ => Ok(socket),
    }
}

fn bind(addr: &UnixAddr, options: &UnixListenOptions) -> io::Result<(Local, Backlog)> {
    addr.check()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = bind_name(&socket, addr, options.mode)?;
    socket.listen(os::backlog(options.backlog))?;
    check_is_there(file.as_ref())?;
    let socket = UnixListener::from_std(OwnedFd::from(socket).into());
    let backlog = Backlog { asked: options.backlog, system_most: os::largest_backlog() };
    Ok((Local { file, socket }, backlog))
}

/// Gives a socket its name, and gives the file that it is to remove.
fn bind_name(socket: &Socket, addr: &UnixAddr, mode: Option<u32>) -> io::Result<Option<OwnFile>> {
    match addr.as_path() {
        Some(path) => bind_path(socket, path, addr, mode).map(Some),
        None if mode.is_some() => {
            let text = "option mode is set, and an abstract name has none: whoever is in the \
                        network namespace may connect; leave it out, and look at credentials";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
        None => {
            socket.bind(&sock_addr(addr)?)?;
            Ok(None)
        }
    }
}

/// Gives a socket its file, with its mode.
///
/// The umask belongs to the whole process, so it is left alone. Linux makes the file with the mode
/// of the socket itself, less the umask: set before, it is never too wide. What the umask has
/// taken, and everything on other systems, is set after: nobody can connect before `listen`.
/// Datagrams need no `listen`, so that elsewhere than on Linux their file is for a moment what the
/// umask leaves.
/// Rejected: to bind in a private directory and rename. That would leave something behind in a
/// crash, has less room for the path, and could replace what somebody else has put there, which
/// `bind` cannot.
fn bind_path(
    socket: &Socket,
    path: &Path,
    addr: &UnixAddr,
    mode: Option<u32>,
) -> io::Result<OwnFile> {
    let permissions = mode.map(Permissions::from_mode);
    if let Some(permissions) = &permissions {
        // Refused elsewhere than on Linux, and not needed there.
        let _ = File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(permissions.clone());
    }
    let (name, absolute) = (sock_addr(addr)?, std::path::absolute(path)?);
    if let Err(error) = socket.bind(&name) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
        remove_stale(path, addr, socket.r#type()?)?;
        socket.bind(&name)?;
    }
    let found = fs::symlink_metadata(path)?;
    let file = OwnFile { path: absolute, identity: identity(&found) };
    if let Some(permissions) = permissions {
        if found.mode() & 0o777 != permissions.mode() {
            fs::set_permissions(path, permissions)?;
        }
    }
    Ok(file)
}

/// An error if another one has been bound to the path since.
fn check_is_there(file: Option<&OwnFile>) -> io::Result<()> {
    match file {
        Some(file) if !file.is_there() => {
            let text = "another process has taken the path at the same moment";
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
        _ => Ok(()),
    }
}

/// Removes a socket file that nobody listens on, or for datagrams is bound to; an error if it is
/// anything else.
fn remove_stale(path: &Path, addr: &UnixAddr, kind: Type) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let in_use = |text: String| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    if !found.file_type().is_socket() {
        return in_use(
            "there is something that is no socket, and it is left alone; remove it, or take \
             another path"
                .to_owned(),
        );
    }
    match connect(addr, kind) {
        // Linux: no socket is bound to the file, or one that does not listen.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            return in_use(format!(
                "a socket is there, and whether it is in use cannot be told ({error}); remove it \
                 if it is not"
            ));
        }
        // Connected, or waiting in a full queue.
        _ => {
            let does = if kind == Type::DGRAM { "receives" } else { "listens" };
            return in_use(format!("somebody {does} there; stop what does, or take another path"));
        }
    }
    let file = OwnFile { path: path.to_owned(), identity: identity(&found) };
    log::debug!("{addr}: the socket that is there is nobody's; it is removed");
    drop(file); // removes it, if it is still the one that was looked at
    Ok(())
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

impl OwnFile {
    /// Whether the path still leads to it.
    fn is_there(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| identity(&found) == self.identity && found.file_type().is_socket())
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if !self.is_there() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("{}: the socket file cannot be removed: {error}", self.path.display());
        }
    }
}
