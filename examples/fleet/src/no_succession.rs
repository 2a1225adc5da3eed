//! Where there are no Unix sockets, or they pass no descriptors on.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use waterwheel::fleet::FleetRemote;

pub(crate) struct Control;

impl Control {
    pub(crate) fn bind(path: &str, _: &str) -> io::Result<Self> {
        unsupported("control", path).map(|()| Self)
    }

    pub(crate) fn wait_for_successor(self, _: FleetRemote, _: Duration) -> io::Result<Name> {
        Ok(Name)
    }
}

/// There is none.
pub(crate) struct Name;

pub(crate) struct Predecessor;

impl Predecessor {
    pub(crate) fn ask(path: &str) -> io::Result<(Self, Vec<TcpListener>)> {
        unsupported("take-over", path).map(|()| (Self, Vec::new()))
    }

    pub(crate) fn dismiss(self) -> io::Result<()> {
        Ok(())
    }
}

fn unsupported(option: &str, path: &str) -> io::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let text = format!("--{option} {path}: this platform cannot hand sockets on");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}
