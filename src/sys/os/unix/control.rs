//! The socket at which a process hands its listening sockets on to the one that takes over.
//!
//! Only the owner's processes come near: the file has mode 0600 from the moment it is there, and
//! each side asks the kernel who the other one is, where the platform tells. Only the socket of a
//! process that has ended is replaced, or that of the process which has handed its sockets on: what
//! is at the path is looked at and replaced under a lock.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::geteuid;
use socket2::{Domain, Socket, Type};

use super::NO_SIGNAL;
use super::pass_fds::{MAX_SOCKETS, receive_any_number, send_any_number};
use super::path_lock::{PathLock, beside};
use super::socket_file::{Identity, SocketFile, bind_name, connect, identity_at, sock_addr};
use crate::options::UnixAddr;
use crate::sys::os::peer_credentials;

/// Longest wait for the other process to hand its sockets on, or to take them. How long it takes to
/// be ready then has no limit; of one that fails, the end of the socket closes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at the path, each of which another process may have made worthless: processes that start
/// at the same moment, or predecessors that end or are replaced before they have handed their
/// sockets on.
const MAX_TRIES: usize = 16;

/// Processes that may ask while one is waited for: as many as the BSDs and macOS take unless they
/// are told otherwise. There a connect that finds no room is refused, as at a socket whose process
/// has ended; on Linux it waits for room.
const MAX_ASKING: i32 = 128;

/// What a successor says once it serves.
const READY: u8 = b'!';

/// The mode of the file: the owner's alone.
const MODE: u32 = 0o600;

/// What a process finds at the path when it starts.
#[derive(Debug)]
pub(crate) enum Before {
    /// No other process. The socket is there from now on, so that a process which starts before
    /// this one is set up waits for it.
    Nothing(Control),
    /// One that serves until this one is ready, and whose socket stays so long.
    Predecessor(Predecessor),
}

impl Before {
    /// Asks the process at a path for its listening sockets; takes the path if there is no process.
    ///
    /// # Errors
    /// - `AlreadyExists`: something that is no socket has the name, or others were faster.
    /// - `PermissionDenied`: another user's process answers, or this user may not write to the
    ///   directory.
    pub(crate) fn find(path: &Path) -> io::Result<(Self, Vec<TcpListener>)> {
        let mut tries = 0;
        loop {
            tries += 1;
            let found = match Predecessor::find(path, PATIENCE)? {
                Some(it) => it.ask(path).map(|listeners| (Self::Predecessor(it), listeners)),
                None => Control::bind(path, None).map(|it| (Self::Nothing(it), Vec::new())),
            };
            match found {
                Err(error) if is_outrun(&error) && tries < MAX_TRIES => {}
                found => return found,
            }
        }
    }
}

/// The process that has served until now.
#[derive(Debug)]
pub(crate) struct Predecessor {
    socket: UnixStream,
    /// Its socket, which may be replaced once it has handed its sockets on.
    identity: Identity,
}

impl Predecessor {
    fn find(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let explain = |error| explain(path, error);
        let Some(identity) = socket_at(path)? else { return Ok(None) };
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Linux: of the connect, too, which waits while the queue of those that ask is full.
        socket.set_write_timeout(Some(patience))?;
        let addr = sock_addr(&UnixAddr::path(path))?;
        let connected = loop {
            match socket.connect(&addr) {
                // With a time limit Linux does not begin the call anew behind a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                connected => break connected,
            }
        };
        match connected {
            // The process has ended without removing it.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
            {
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let text = "the process there is not ready, and too many others wait for it";
                return Err(explain(io::Error::new(error.kind(), text)));
            }
            connected => connected.map_err(explain)?,
        }
        check_owner(&socket).map_err(explain)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Some(Self { socket: OwnedFd::from(socket).into(), identity }))
    }

    /// Gets its listening sockets.
    fn ask(&self, path: &Path) -> io::Result<Vec<TcpListener>> {
        if identity_at(path) != Some(self.identity) {
            // Another one took the path, and which of them is connected is not known.
            return Err(explain(path, outrun()));
        }
        receive_any_number(&self.socket).map_err(|error| {
            let text = format!("{}: no sockets were handed on: {error}", path.display());
            io::Error::new(error.kind(), text)
        })
    }

    /// Whether its socket is the one at the path. The number of a file may be given to another one
    /// once the process has ended, so it must be alive.
    fn is_at(&self, path: &Path) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let says_nothing = rustix::net::recv(&self.socket, &mut [0_u8][..], flags);
        says_nothing == Err(Errno::AGAIN) && identity_at(path) == Some(self.identity)
    }

    /// Tells it that its successor serves.
    pub(crate) fn dismiss(self) -> io::Result<()> {
        rustix::net::send(&self.socket, &[READY], NO_SIGNAL)?; // it may have ended meanwhile
        Ok(())
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
    /// Most sockets that can be handed on.
    pub(crate) const MAX_SOCKETS: usize = MAX_SOCKETS;

    /// Listens at a path, where nothing is, the socket of a process that has ended, or that of the
    /// predecessor. A connection waits until it is accepted.
    ///
    /// # Errors
    /// - `AlreadyExists`: another process has come first, or something that is no socket is there.
    /// - `PermissionDenied`: this user may not write to the directory, or not remove what is there.
    pub(crate) fn bind(path: &Path, predecessor: Option<&Predecessor>) -> io::Result<Self> {
        let bind = || {
            let fresh = beside(path, ".new");
            UnixAddr::path(path).check()?;
            UnixAddr::path(&fresh).check()?; // now, and not when this process is replaced
            let _lock = PathLock::take(path)?;
            if !predecessor.is_some_and(|it| it.is_at(path)) {
                return Self::listen(path.to_owned()).map_err(|error| match error.kind() {
                    ErrorKind::AddrInUse => outrun(),
                    _ => error,
                });
            }
            // Bound beside it and renamed: whoever looks finds a process.
            let mut control = Self::listen(fresh)?;
            control.file.rename(path)?;
            Ok(control)
        };
        bind().map_err(|error| explain(path, error))
    }

    /// Listens where nothing is, or the socket of a process that has ended.
    fn listen(path: PathBuf) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let file = bind_name(&socket, &UnixAddr::path(path), Some(MODE))?;
        let Some(file) = file else { return Err(ErrorKind::InvalidInput.into()) };
        socket.listen(MAX_ASKING)?;
        Ok(Self { file, listener: UnixListener::from(OwnedFd::from(socket)) })
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
        send_any_number(&self.0, listeners)?;
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
        // A successor that is nearly ready may replace the file at this moment.
        let lock = PathLock::take(&self.path);
        if identity_at(&self.path) == Some(self.identity) {
            // It has ended by itself, or others wait to be accepted, which ends its wait as well.
            let _ = connect(&UnixAddr::path(&self.path), Type::STREAM);
            match &lock {
                Ok(_) => drop(fs::remove_file(&self.path)),
                Err(error) => log::warn!("{}: the file stays: {error}", self.path.display()),
            }
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

/// Another process was faster.
fn outrun() -> io::Error {
    let text = "another process has begun to serve at the same moment";
    io::Error::new(ErrorKind::AlreadyExists, text)
}

/// Whether an error says that the path is to be looked at again: another process was faster, or the
/// one that was asked has ended, or has handed its sockets to another.
fn is_outrun(error: &io::Error) -> bool {
    use ErrorKind::{AlreadyExists, BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), AlreadyExists | BrokenPipe | ConnectionReset | UnexpectedEof)
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
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::thread;

    use socket2::SockRef;

    use super::*;

    fn asked(path: &Path) -> Predecessor {
        match Before::find(path).unwrap() {
            (Before::Predecessor(predecessor), _) => predecessor,
            (Before::Nothing(control), _) => panic!("nobody is there: {control:?}"),
        }
    }

    /// One that is slow to be ready takes the path all the same: if nobody waited for its word by
    /// then, both would serve.
    #[test]
    fn a_successor_is_waited_for_until_it_is_ready_or_ends() {
        let path = std::env::temp_dir().join(format!("waterwheel-ready-{}", std::process::id()));
        let control = Control::bind(&path, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for is_ready in [true, false] {
            let (predecessor, successor) = std::thread::scope(|scope| {
                let asking = scope.spawn(|| asked(&path));
                let successor = control.accept().unwrap();
                assert_eq!(successor.0.read_timeout().unwrap(), None);
                send_any_number(&successor.0, &[&listener]).unwrap();
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

    /// The number of its file is given to another one on many file systems, once it has ended.
    #[test]
    fn who_took_the_path_of_a_predecessor_that_has_ended_is_not_displaced() {
        let path = std::env::temp_dir().join(format!("waterwheel-took-{}", std::process::id()));
        let control = Control::bind(&path, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut predecessor, successor) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| asked(&path));
            let successor = control.accept().unwrap();
            send_any_number(&successor.0, &[&listener]).unwrap();
            (asking.join().unwrap(), successor)
        });
        assert!(predecessor.is_at(&path));
        drop((control, successor));
        let other = Control::bind(&path, None).unwrap();
        predecessor.identity = other.file.identity();
        let error = Control::bind(&path, Some(&predecessor)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(identity_at(&path), Some(other.file.identity()));
        drop(other);
        // Nobody is there any more: then it is the first one.
        let control = Control::bind(&path, Some(&predecessor)).unwrap();
        assert_eq!(identity_at(&path), Some(control.file.identity()));
    }

    #[test]
    fn a_path_is_looked_at_and_changed_by_one_at_a_time() {
        let path = std::env::temp_dir().join(format!("waterwheel-turns-{}", std::process::id()));
        let expect_no_change = |is_there: bool| {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(1));
                assert_eq!(path.exists(), is_there);
            }
        };
        std::thread::scope(|scope| {
            let lock = PathLock::take(&path).unwrap();
            let binding = scope.spawn(|| Control::bind(&path, None).unwrap());
            expect_no_change(false);
            drop(lock);
            let control = binding.join().unwrap();
            let lock = PathLock::take(&path).unwrap();
            let waker = control.waker();
            let waking = scope.spawn(move || waker.wake());
            expect_no_change(true);
            drop(lock);
            waking.join().unwrap();
            assert!(!path.exists());
        });
    }

    /// A control socket at whose queue there is no more room. The queue is made a short one: each
    /// place in it takes a descriptor, and on some systems a process may have 256 of them.
    fn full(name: &str) -> (PathBuf, Control, Vec<Socket>) {
        let name = format!("waterwheel-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let control = Control::bind(&path, None).unwrap();
        SockRef::from(&control.listener).listen(4).unwrap();
        let addr = UnixAddr::path(&path);
        let waiting: Vec<_> =
            std::iter::from_fn(|| connect(&addr, Type::STREAM).ok()).take(20).collect();
        assert!(waiting.len() < 20, "the queue has room for any number");
        (path, control, waiting)
    }

    /// Who waits for its successor to be ready accepts nobody else meanwhile.
    #[test]
    fn a_full_queue_of_successors_holds_no_end_up() {
        let (path, control, _waiting) = full("full");
        let (waker, (tell, ended)) = (control.waker(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            waker.wake();
            tell.send(()).unwrap();
        });
        ended.recv_timeout(PATIENCE).unwrap();
        assert!(!path.exists());
    }

    /// Elsewhere than on Linux a full queue refuses, as a process does that has ended.
    #[test]
    fn a_successor_that_finds_no_room_to_ask_gives_up() {
        let (path, control, waiting) = full("no-room");
        let (tell, ended) = std::sync::mpsc::channel();
        thread::spawn(move || tell.send(Predecessor::find(&path, Duration::from_millis(50))));
        match ended.recv_timeout(PATIENCE).expect("it gives up") {
            Ok(found) => assert!(found.is_none(), "the queue has room"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                assert!(error.to_string().contains("too many others"), "{error}");
            }
        }
        drop((control, waiting));
    }

    #[test]
    fn one_at_a_time_has_a_lock_and_nothing_is_left_of_it() {
        let path = std::env::temp_dir().join(format!("waterwheel-lock-{}", std::process::id()));
        let (holders, turns) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lock = PathLock::take(&path).unwrap();
                        assert_eq!(holders.fetch_add(1, SeqCst), 0);
                        thread::yield_now();
                        assert_eq!(holders.fetch_sub(1, SeqCst), 1);
                        turns.fetch_add(1, SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 6 * 200);
        assert!(!beside(&path, ".lock").exists());
    }

    /// A process that was killed has left the file.
    #[test]
    fn a_file_that_nobody_has_locked_is_no_lock() {
        let path = std::env::temp_dir().join(format!("waterwheel-left-{}", std::process::id()));
        fs::write(beside(&path, ".lock"), "").unwrap();
        drop(PathLock::take(&path).unwrap());
        assert!(!beside(&path, ".lock").exists());
    }
}
