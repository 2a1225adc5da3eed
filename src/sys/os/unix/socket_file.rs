//! The name of a Unix socket, and the file that a name of the file system makes.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::is_in_progress;
use crate::options::unix::{UnixAddr, UnixName};

/// The file of a socket that was bound here, removed with it unless another file has taken its
/// place.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// The path as bound; absolute, because the working directory may change.
    path: PathBuf,
    /// Device and inode.
    identity: Identity,
}

/// Device and number of a file. The number is not given to another file as long as the socket that
/// was bound to it is open.
pub(super) type Identity = (u64, u64);

/// A name as socket2 takes it.
pub(super) fn sock_addr(addr: &UnixAddr) -> io::Result<SockAddr> {
    match addr.name() {
        UnixName::Path(path) => SockAddr::unix(path),
        UnixName::Abstract(name) => {
            let marked = [b"\0", &**name].concat();
            SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(&marked)))
        }
    }
}

/// The name in an address, if it has one.
pub(super) fn name_of(addr: &SockAddr) -> Option<UnixAddr> {
    let name = addr.as_abstract_namespace().map(UnixAddr::abstract_name);
    name.or_else(|| addr.as_pathname().map(UnixAddr::path))
}

/// Connects a new socket, at once or not at all.
pub(super) fn connect(addr: &UnixAddr, kind: Type) -> io::Result<Socket> {
    addr.check()?;
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&sock_addr(addr)?) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(socket),
    }
}

/// Binds a socket to its name; returns the file that is to go with it.
pub(super) fn bind_name(
    socket: &Socket,
    addr: &UnixAddr,
    mode: Option<u32>,
) -> io::Result<Option<SocketFile>> {
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

/// Binds a socket to a path, and sets the mode of its file.
///
/// The umask belongs to the whole process, so it is left alone. Linux makes the file with the mode
/// of the socket itself, less the umask: set before, it is never too wide. What the umask has
/// taken, and everything on other systems, is set after: no client can connect before `listen`.
/// Datagrams need no `listen`, so that elsewhere than on Linux their file is for a moment what the
/// umask leaves.
///
/// Rejected: to bind in a private directory and rename. That would leave something behind in a
/// crash, has less room for the path, and could replace what another process has put there,
/// which `bind` cannot.
fn bind_path(
    socket: &Socket,
    path: &Path,
    addr: &UnixAddr,
    mode: Option<u32>,
) -> io::Result<SocketFile> {
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
    let file = SocketFile { path: absolute, identity: identity(&found) };
    if let Some(permissions) = permissions {
        if found.mode() & 0o777 != permissions.mode() {
            fs::set_permissions(path, permissions)?;
        }
    }
    Ok(file)
}

/// An error if another socket has been bound to the path since.
pub(super) fn check_is_there(file: Option<&SocketFile>) -> io::Result<()> {
    match file {
        Some(file) if !file.is_there() => {
            let text = "another process has taken the path at the same moment";
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
        _ => Ok(()),
    }
}

/// Removes the file of a socket that no process listens on, or for datagrams is bound to; an error
/// if the file is anything else.
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
    let file = SocketFile { path: path.to_owned(), identity: identity(&found) };
    log::debug!("{addr}: the socket that is there is nobody's; it is removed");
    drop(file); // removes it, if it is still the one that was looked at
    Ok(())
}

/// What tells a file from any other.
pub(super) fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// The file at a path, links not followed.
pub(super) fn identity_at(path: &Path) -> Option<Identity> {
    Some(identity(&fs::symlink_metadata(path).ok()?))
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Gives the file another name, in place of what has it.
    pub(super) fn rename(&mut self, to: &Path) -> io::Result<()> {
        let to = std::path::absolute(to)?;
        fs::rename(&self.path, &to)?;
        self.path = to;
        Ok(())
    }

    /// Whether the path still leads to it.
    fn is_there(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| identity(&found) == self.identity && found.file_type().is_socket())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_there() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("{}: the socket file cannot be removed: {error}", self.path.display());
        }
    }
}
