//! Sockets that listen.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Stream, of_two_worlds, os, sim};

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Of the operating system.
    Os(os::Listener),
    /// A Unix socket.
    #[cfg(unix)]
    Local(os::Local),
    /// Of a simulated world.
    Sim(sim::Listener),
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Os(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Os(stream), peer))
            }
            #[cfg(unix)]
            Self::Local(local) => local.accept().map(|stream| (stream, NO_ADDR)),
            Self::Sim(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Sim(stream), peer))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Os(listener) => listener.local_addr(),
            #[cfg(unix)]
            Self::Local(_) => Ok(NO_ADDR),
            Self::Sim(listener) => Ok(listener.local_addr()),
        }
    }

    /// Another handle on the same socket, with the same queue.
    pub(crate) fn duplicate(&self) -> io::Result<std::net::TcpListener> {
        match self {
            Self::Os(listener) => os::duplicate(listener),
            #[cfg(unix)]
            Self::Local(_) => Err(os::not_handed_on()),
            Self::Sim(_) => Err(of_two_worlds()),
        }
    }
}

/// What stands for the address of a Unix socket, which has none.
pub(crate) const NO_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// How many connections the kernel queues for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// What the options ask for; `None` for as many as the system takes.
    pub(crate) asked: Option<u32>,
    /// What the system takes at the most, where that can be known.
    pub(crate) system_most: Option<u32>,
}
