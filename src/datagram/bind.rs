//! UDP sockets: bound, or connected to a peer.

use std::io;
use std::net::SocketAddr;

use crate::base::id::SocketId;
use crate::datagram::{ServedBy, Sockets};
use crate::engine::Engine;
use crate::options::UdpOptions;
use crate::sys;

impl<F: Copy> Sockets<F> {
    /// Binds a UDP socket and serves it.
    pub(crate) fn bind_udp(
        &mut self,
        engine: &mut Engine,
        addr: SocketAddr,
        by: ServedBy<F>,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        options.check(addr)?;
        check_goes_on(engine)?;
        let socket = engine
            .io
            .world()
            .bind_udp(addr, options)
            .map_err(|error| explain("bind a UDP socket to", addr, options, &error))?;
        self.insert_udp(engine, socket, None, by, options)
    }

    /// Makes a UDP socket with one peer and serves it.
    pub(crate) fn connect_udp(
        &mut self,
        engine: &mut Engine,
        peer: SocketAddr,
        by: ServedBy<F>,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        options.check(peer)?;
        check_goes_on(engine)?;
        let socket = engine
            .io
            .world()
            .connect_udp(peer, options)
            .map_err(|error| explain("connect a UDP socket to", peer, options, &error))?;
        let peer = socket.peer_addr(peer);
        self.insert_udp(engine, socket, Some(peer), by, options)
    }

    fn insert_udp(
        &mut self,
        engine: &mut Engine,
        socket: sys::DatagramSocket,
        peer: Option<SocketAddr>,
        by: ServedBy<F>,
        options: &UdpOptions,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let link = self.insert(engine, socket, peer, by, options)?;
        if options.batch && !sys::BATCHES_ARE_CALLS {
            log::info!("option batch gains nothing here: it wants Linux and the feature `batch`");
        }
        Ok((link.id, link.socket.addr))
    }
}

/// A reactor that stops opens no more sockets.
pub(super) fn check_goes_on(engine: &Engine) -> io::Result<()> {
    match engine.is_stopping() {
        true => Err(io::Error::other("the reactor is stopping and opens no more sockets")),
        false => Ok(()),
    }
}

fn explain(what: &str, addr: SocketAddr, options: &UdpOptions, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse if options.reuse_port => {
            "; all sockets that share it must set reuse_port and belong to one user"
        }
        io::ErrorKind::AddrInUse => "; stop what is bound to it, or take another port (0: any)",
        io::ErrorKind::AddrNotAvailable => "; the address must be one of this machine's",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 want a privilege, and a broadcast address wants option broadcast"
        }
        io::ErrorKind::NetworkUnreachable => "; there is no route to it",
        _ => sys::shortage_hint(error),
    };
    io::Error::new(error.kind(), format!("cannot {what} {addr}: {error}{hint}"))
}
