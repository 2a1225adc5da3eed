//! Sockets that listen.

use std::io;
use std::net::SocketAddr;

use super::{NO_ADDR, Stream, of_two_worlds, os, sim};

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Of the operating system.
    Os(os::Listener),
    /// A Unix socket.
    Local(os::LocalListener),
    /// Of a simulated world.
    Sim(sim::Listener),
}

impl From<os::LocalListener> for Listener {
    fn from(listener: os::LocalListener) -> Self {
        Self::Local(listener)
    }
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Os(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Os(stream.into()), peer))
            }
            Self::Local(local) => local.accept().map(|stream| (stream, NO_ADDR)),
            Self::Sim(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Sim(stream), peer))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(listener) => listener.local_addr(),
            Self::Local(_) => Ok(NO_ADDR),
            Self::Sim(listener) => Ok(listener.local_addr()),
        }
    }

    /// Another handle on the same socket, with the same queue.
    pub(crate) fn duplicate(&self) -> io::Result<std::net::TcpListener> {
        match self {
            Self::Os(listener) => os::duplicate(listener),
            Self::Local(_) => Err(not_handed_over()),
            Self::Sim(_) => Err(of_two_worlds()),
        }
    }
}

/// Only TCP listeners go to another process.
fn not_handed_over() -> io::Error {
    let text = "a listening Unix socket cannot be handed on; let the other one bind its own";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
