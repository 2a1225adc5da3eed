//! How a new process gets the listening sockets of the old one: over a Unix socket, so that it
//! need not be its child. Whoever may open the socket may have them: mind its directory.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use waterwheel::fleet::FleetRemote;
use waterwheel::{receive_listeners, send_listeners};

/// Longest wait for the other process. A successor that fails to start is not waited for: its end
/// of the socket closes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the successor says once it serves.
const READY: u8 = b'!';

/// Where a successor may ask.
pub(crate) struct Control {
    socket: Option<(UnixListener, PathBuf)>,
}

impl Control {
    /// Without a path nobody can.
    pub(crate) fn bind(path: &str) -> io::Result<Self> {
        if path.is_empty() {
            return Ok(Self { socket: None });
        }
        let path = PathBuf::from(path);
        // The predecessor may still be asked at the path; it is this one's once it has a name.
        let mut fresh = path.clone().into_os_string();
        fresh.push(format!(".{}", std::process::id()));
        let socket = UnixListener::bind(&fresh).map_err(|error| explain(error, &path))?;
        Ok(Self { socket: Some((socket, fresh.into())) })
    }

    /// From now on, on a thread of its own, hands the sockets on to whoever asks, until one has
    /// said that it serves; then the fleet drains.
    pub(crate) fn wait_for_successor(
        mut self,
        fleet: FleetRemote,
        drain: Duration,
    ) -> io::Result<()> {
        let Some((_, fresh)) = &self.socket else { return Ok(()) };
        let path = fresh.with_extension("");
        fs::rename(fresh, &path).map_err(|error| explain(error, &path))?;
        let Some((socket, _)) = self.socket.take() else { return Ok(()) };
        thread::spawn(move || {
            for asking in socket.incoming() {
                match asking.and_then(|asking| hand_on(&asking, &fleet)) {
                    Ok(()) => return fleet.drain(drain),
                    Err(error) => log::warn!("a successor has not made it: {error}"),
                }
            }
        });
        Ok(())
    }
}

/// A process that does not get to serve leaves no socket behind.
impl Drop for Control {
    fn drop(&mut self) {
        if let Some((_, fresh)) = &self.socket {
            let _ = fs::remove_file(fresh);
        }
    }
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

fn explain(error: io::Error, path: &std::path::Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
