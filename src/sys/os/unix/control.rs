//! The socket at which a process hands its listening sockets on to the one that takes over.
//!
//! Only the owner's processes come near: the file has mode 0600 from the moment it is there, and
//! each side asks the kernel who the other one is, where the platform tells. Only the socket of a
//! process that has ended is replaced, or that of the process which has handed its sockets on.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::geteuid;
use socket2::{Domain, Socket, Type};

use super::socket_file::{Identity, SocketFile, bind_name, identity_at};
use super::{receive_listeners, send_listeners};
use crate::options::UnixAddr;
use crate::sys::os::peer_credentials;

/// Longest wait for the other process to hand its sockets on, or to take them. How long it takes to
/// be ready then has no limit; of one that fails, the end of the socket closes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Predecessors that may end or be replaced before they have handed their sockets on: processes
/// that start at the same moment.
const MAX_TRIES: usize = 16;

/// What a successor says once it serves.
const READY: u8 = b'!';

/// The mode of the file: the owner's alone.
const MODE: u32 = 0o600;

/// The process that has served until now.
#[derive(Debug)]
pub(crate) struct Predecessor {
    socket: UnixStream,
    /// Its socket, which may be replaced once it has handed its sockets on.
    identity: Identity,
}

impl Predecessor {
    /// Finds the process at a path, and gets its listening sockets; `None` if there is none.
    ///
    /// # Errors
    /// - `AlreadyExists`: something that is no socket has the name.
    /// - `PermissionDenied`: another user's process answers.
    pub(crate) fn ask(path: &Path) -> io::Result<Option<(Self, Vec<TcpListener>)>> {
        let mut tries = 0;
        loop {
            let Some(predecessor) = Self::find(path)? else { return Ok(None) };
            if identity_at(path) != Some(predecessor.identity) {
                continue; // another one took the path, and which one is connected is not known
            }
            tries += 1;
            match receive_listeners(&predecessor.socket) {
                Ok(listeners) => return Ok(Some((predecessor, listeners))),
                // It has handed them to another one meanwhile, or has ended: look again.
                Err(error) if is_gone(&error) && tries < MAX_TRIES => {}
                Err(error) => {
                    let text = format!("{}: no sockets were handed on: {error}", path.display());
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
    }

    fn find(path: &Path) -> io::Result<Option<Self>> {
        let explain = |error| explain(path, error);
        let Some(identity) = socket_at(path)? else { return Ok(None) };
        let socket = match UnixStream::connect(path) {
            // The process has ended without removing it.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
            {
                return Ok(None);
            }
            connected => connected.map_err(explain)?,
        };
        check_owner(&socket).map_err(explain)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Some(Self { socket, identity }))
    }

    /// Tells it that its successor serves.
    pub(crate) fn dismiss(mut self) -> io::Result<()> {
        self.socket.write_all(&[READY])
    }
}

/// Where a successor may ask.
#[derive(Debug)]
pub(crate) struct Control {
    /// Removed with this, unless the successor has its own there by then; first, so that one whose
    /// connection ends with the listener does not find it again.
    file: SocketFile,
    listener: UnixListener,
}

impl Control {
    /// Listens at a path, where nothing is, the socket of a process that has ended, or that of the
    /// predecessor. A connection waits until it is accepted.
    ///
    /// # Errors
    /// - `AlreadyExists`: another process has come first, or something that is no socket is there.
    /// - `PermissionDenied`: this user may not write to the directory, or not remove what is there.
    pub(crate) fn bind(path: &Path, predecessor: Option<&Predecessor>) -> io::Result<Self> {
        // Bound beside it and renamed: while a predecessor lives a successor finds one.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut fresh = path.to_owned().into_os_string();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        fresh.push(format!(".{}.{count}", process::id()));
        let bound = Self::bind_fresh(PathBuf::from(fresh)).and_then(|mut control| {
            let found = control.expect_free(path, predecessor.map(|it| it.identity))?;
            match (found, predecessor) {
                (Some(found), Some(predecessor)) if found == predecessor.identity => {
                    control.file.rename(path)?;
                }
                (found, _) => control.file.claim(path, found)?,
            }
            Ok(control)
        });
        bound.map_err(|error| explain(path, error))
    }

    fn bind_fresh(path: PathBuf) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let file = bind_name(&socket, &UnixAddr::path(path), Some(MODE))?;
        let Some(file) = file else { return Err(ErrorKind::InvalidInput.into()) };
        socket.listen(8)?;
        Ok(Self { file, listener: UnixListener::from(std::os::fd::OwnedFd::from(socket)) })
    }

    /// Whether the path may be taken: others may have come since it was looked at first. Returns
    /// the socket that is there.
    fn expect_free(
        &self,
        path: &Path,
        predecessor: Option<Identity>,
    ) -> io::Result<Option<Identity>> {
        let Some(found) = socket_at(path)? else { return Ok(None) };
        if Some(found) == predecessor {
            return Ok(Some(found));
        }
        match UnixStream::connect(path) {
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
            {
                Ok(Some(found))
            }
            Err(error) => Err(error),
            Ok(_) => {
                let text = "another process has begun to serve at the same moment";
                Err(io::Error::new(ErrorKind::AlreadyExists, text))
            }
        }
    }

    /// Waits for a process of the owner's that asks.
    pub(crate) fn accept(&self) -> io::Result<Successor> {
        let (socket, _) = self.listener.accept()?;
        check_owner(&socket)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Successor(socket))
    }

    /// Ends the wait of `accept` in another thread, if this socket is still at its path.
    pub(crate) fn waker(&self) -> ControlWaker {
        ControlWaker { path: self.file.path().to_owned(), identity: self.file.identity() }
    }
}

/// A process that asks for the sockets.
#[derive(Debug)]
pub(crate) struct Successor(UnixStream);

impl Successor {
    /// Hands the sockets on, and waits for the word that they are served.
    pub(crate) fn hand_on(self, listeners: &[TcpListener]) -> io::Result<()> {
        send_listeners(&self.0, listeners)?;
        self.wait()
    }

    /// However long it takes to be ready: if this one gave up, both would serve from then on.
    fn wait(mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0])
    }
}

/// Ends the wait for a successor.
#[derive(Debug)]
pub(crate) struct ControlWaker {
    path: PathBuf,
    identity: Identity,
}

impl ControlWaker {
    /// Connects, as a successor does that goes at once, and removes the file.
    pub(crate) fn wake(&self) {
        if identity_at(&self.path) == Some(self.identity) {
            let _ = UnixStream::connect(&self.path); // it has ended by itself
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The other end is a process of this user's, or of root's, which could do anything anyway.
fn check_owner(socket: &impl AsFd) -> io::Result<()> {
    let Some(uid) = peer_credentials(socket).map(|peer| peer.uid) else { return Ok(()) };
    let own = geteuid().as_raw();
    if uid == own || uid == 0 {
        return Ok(());
    }
    let text = format!("the process at the other end is of user {uid}, and not of {own}");
    Err(io::Error::new(ErrorKind::PermissionDenied, text))
}

/// The socket at a path, if anything is there; an error if it is something else.
fn socket_at(path: &Path) -> io::Result<Option<Identity>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(path, error)),
        Ok(found) if found.file_type().is_socket() => Ok(identity_at(path)),
        Ok(_) => {
            let text = "something that is no socket has that name; remove it, or take another path";
            Err(explain(path, io::Error::new(ErrorKind::AlreadyExists, text)))
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn explain(path: &Path, error: io::Error) -> io::Error {
    let path = path.display().to_string();
    let text = error.to_string();
    let text = if text.starts_with(&path) { text } else { format!("{path}: {text}") };
    let hint = match error.kind() {
        ErrorKind::NotFound => "; its directory must be there",
        _ => "",
    };
    io::Error::new(error.kind(), text + hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is slow to be ready takes the path all the same: if nobody waited for its word by
    /// then, both would serve.
    #[test]
    fn a_successor_is_waited_for_until_it_is_ready_or_ends() {
        let path = std::env::temp_dir().join(format!("waterwheel-ready-{}", process::id()));
        let control = Control::bind(&path, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for is_ready in [true, false] {
            let (predecessor, successor) = std::thread::scope(|scope| {
                let asking = scope.spawn(|| Predecessor::ask(&path).unwrap().unwrap().0);
                let successor = control.accept().unwrap();
                assert_eq!(successor.0.read_timeout().unwrap(), None);
                send_listeners(&successor.0, &[&listener]).unwrap();
                (asking.join().unwrap(), successor)
            });
            if is_ready {
                predecessor.dismiss().unwrap();
            } else {
                drop(predecessor);
            }
            assert_eq!(successor.wait().is_ok(), is_ready);
        }
    }
}
