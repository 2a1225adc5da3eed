//! Messages to a service manager: the protocol of sd_notify(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, sendto};
use socket2::{Domain, Socket, Type};

use super::NO_SIGNAL;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::linux;
use crate::sys::Poller;

/// The way to the service manager that has started this process.
#[derive(Debug)]
pub(crate) struct Notifier {
    /// Never waits: a manager that does not read must not hold up the loop.
    socket: Socket,
    /// Of the manager.
    addr: SocketAddrUnix,
    /// A process that says nothing for so long is taken to hang.
    watchdog: Option<Duration>,
    /// The manager knows that this process ends.
    is_stopping: bool,
}

impl Poller {
    /// The service manager, if one wants to be told. A simulated world has none.
    pub(crate) fn notifier(&self) -> io::Result<Option<Notifier>> {
        match self {
            Self::Os(_) => Notifier::from_env(),
            Self::Sim(_) => Ok(None),
        }
    }
}

impl Notifier {
    /// The variables stay: to take one out of the environment is not safe beside other threads.
    fn from_env() -> io::Result<Option<Self>> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let addr = parse(&name).map_err(|error| {
            let text =
                format!("the variable NOTIFY_SOCKET is {}: {error}", Path::new(&name).display());
            io::Error::new(error.kind(), text)
        })?;
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, addr, watchdog: watchdog_of_env(), is_stopping: false }))
    }

    /// How often the manager wants to hear of this process, if at all: twice as often as needed.
    pub(crate) fn watchdog_pause(&self) -> Option<Duration> {
        self.watchdog.map(|wait| wait / 2)
    }

    pub(crate) fn tell_ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// The loop turns. The manager that is behind hears of it at the next time.
    pub(crate) fn tell_alive(&self) {
        self.send_or_log("WATCHDOG=1");
    }

    /// The process ends: told once, since a drain may be cut short by a stop.
    pub(crate) fn tell_stopping(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            self.send_or_log("STOPPING=1");
        }
    }

    fn send_or_log(&self, state: &str) {
        if let Err(error) = self.send(state) {
            log::warn!("the service manager was not told {state}: {error}");
        }
    }

    fn send(&self, state: &str) -> io::Result<()> {
        loop {
            match sendto(&self.socket, state.as_bytes(), NO_SIGNAL, &self.addr) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }
}

/// A path, or an abstract name after `@`.
fn parse(name: &OsStr) -> io::Result<SocketAddrUnix> {
    match name.as_bytes() {
        [b'/', ..] => Ok(SocketAddrUnix::new(name)?),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => linux::raw_abstract(name),
        _ => {
            let text = "it must be a path from the root, or a name after @ on Linux";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// The limit that systemd sets for this process, unless it is for the parent: see
/// sd_watchdog_enabled(3).
fn watchdog_of_env() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    if env::var_os("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(process::id().into())
    {
        return None;
    }
    number("WATCHDOG_USEC").filter(|&micros| micros > 0).map(Duration::from_micros)
}
