//! How a new process gets the listening sockets of the old one: over a Unix socket, so that it
//! need not be its child. Whoever may open the socket may have them: mind its directory.
//!
//! This is the handing over by hand, for one new process at a time. If several may start at the
//! same moment, take `Fleet::run_replaceable`: there none displaces the socket of another.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use waterwheel::fleet::FleetRemote;
use waterwheel::{receive_listeners, send_listeners};

/// Longest wait for the other process. A successor that fails to start is not waited for: its end
/// of the socket closes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the successor says once it serves.
const READY: u8 = b'!';

/// Device and number of a file. The number is not given to another file as long as the socket that
/// was bound to it is open.
type Identity = (u64, u64);

/// Where a successor may ask.
pub(crate) struct Control {
    socket: Option<Unnamed>,
}

/// A socket that has a name of its own for now, because the predecessor may still be asked at the
/// path.
struct Unnamed {
    listener: UnixListener,
    fresh: PathBuf,
    path: PathBuf,
    /// The socket at the path, if it is the predecessor's, which may be replaced.
    predecessor: Option<Identity>,
}

impl Control {
    /// Without a path nobody can ask. What is at the path must be nothing, the socket of a process
    /// that has ended, or the one that is asked for its listeners.
    pub(crate) fn bind(path: &str, take_over: &str) -> io::Result<Self> {
        if path.is_empty() {
            return Ok(Self { socket: None });
        }
        let path = PathBuf::from(path);
        let taken_over = if take_over.is_empty() { None } else { identity(take_over.as_ref()) };
        let predecessor = taken_over.filter(|&taken_over| identity(&path) == Some(taken_over));
        expect_free(&path, predecessor)?;
        let mut fresh = path.clone().into_os_string();
        fresh.push(format!(".{}", std::process::id()));
        let listener = UnixListener::bind(&fresh).map_err(|error| explain(error, &path))?;
        let socket = Unnamed { listener, fresh: fresh.into(), path, predecessor };
        Ok(Self { socket: Some(socket) })
    }

    /// From now on, on a thread of its own, hands the sockets on to whoever asks, until one has
    /// said that it serves; then the fleet drains.
    pub(crate) fn wait_for_successor(
        mut self,
        fleet: FleetRemote,
        drain: Duration,
    ) -> io::Result<Name> {
        let Some(socket) = self.socket.take() else { return Ok(Name::default()) };
        let name = socket.take_name()?;
        let own_name = Name(Arc::clone(&name.0));
        let listener = socket.listener.try_clone()?;
        thread::spawn(move || {
            for asking in listener.incoming() {
                match asking.and_then(|asking| hand_on(&asking, &fleet)) {
                    Ok(()) => {
                        drop(own_name); // the successor has taken it, or has one of its own
                        return fleet.drain(drain);
                    }
                    Err(error) => {
                        log::warn!("a successor has not made it: {error}");
                        // Without a descriptor, accepting fails at once, and again.
                        thread::sleep(Duration::from_millis(10));
                    }
                }
            }
        });
        Ok(name)
    }
}

impl Unnamed {
    /// From now on successors find it at the path.
    fn take_name(&self) -> io::Result<Name> {
        let is_own = identity(&self.fresh);
        // Others may have come since it was looked at first.
        expect_free(&self.path, self.predecessor)?;
        let result = match self.path.symlink_metadata() {
            Ok(_) => fs::rename(&self.fresh, &self.path),
            // A second name replaces nothing; the first goes when this value does. Not every
            // system gives a socket a second name.
            Err(_) => match fs::hard_link(&self.fresh, &self.path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    fs::rename(&self.fresh, &self.path)
                }
                linked => linked,
            },
        };
        result.map_err(|error| explain(error, &self.path))?;
        let name = is_own.map(|identity| (self.path.clone(), identity));
        Ok(Name(Arc::new(Mutex::new(name))))
    }
}

/// A process that does not get to serve leaves no socket behind.
impl Drop for Unnamed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.fresh);
    }
}

/// The name at which successors find this process. It is removed with the first copy of this value
/// that is dropped, unless another socket has it by then.
#[derive(Default)]
pub(crate) struct Name(Arc<Mutex<Option<(PathBuf, Identity)>>>);

impl Drop for Name {
    fn drop(&mut self) {
        let name = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((path, own)) = name
            && identity(&path) == Some(own)
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a socket may have this name: nothing has it, or what has it may be replaced.
fn expect_free(path: &Path, predecessor: Option<Identity>) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| explain(error, path))?,
    };
    let refuse = |text: &str| Err(explain(io::Error::new(ErrorKind::AlreadyExists, text), path));
    if !found.file_type().is_socket() {
        return refuse("something that is no socket has that name");
    }
    if predecessor.is_some() && identity(path) == predecessor {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
        {
            Ok(())
        }
        Err(error) => Err(explain(error, path)),
        Ok(_) => refuse("a process answers there; --take-over PATH replaces it"),
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let found = path.symlink_metadata().ok()?;
    Some((found.dev(), found.ino()))
}

fn hand_on(mut asking: &UnixStream, fleet: &FleetRemote) -> io::Result<()> {
    asking.set_read_timeout(Some(PATIENCE))?;
    send_listeners(asking, &fleet.listeners()?)?;
    let mut word = [0];
    asking.read_exact(&mut word)
}

/// The process that served until now.
pub(crate) struct Predecessor(Option<UnixStream>);

impl Predecessor {
    /// Gets its listening sockets. Without a path there is none.
    pub(crate) fn ask(path: &str) -> io::Result<(Self, Vec<TcpListener>)> {
        if path.is_empty() {
            return Ok((Self(None), Vec::new()));
        }
        let socket = UnixStream::connect(path).map_err(|error| explain(error, path.as_ref()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let listeners = receive_listeners(&socket)?;
        Ok((Self(Some(socket)), listeners))
    }

    /// Tells it that its successor serves.
    pub(crate) fn dismiss(self) -> io::Result<()> {
        self.0.map_or(Ok(()), |mut socket| socket.write_all(&[READY]))
    }
}

fn explain(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
