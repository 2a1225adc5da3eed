//! Sockets come in: listeners, and the connections that they accept.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::engine::{Engine, Target};
use crate::options::{Limits, ListenOptions};
use crate::stream::config::ConnConfig;
use crate::stream::connection::{Flags, Phase, Watch};
use crate::stream::first_reads::FirstReads;
use crate::stream::listener::Listener;
use crate::stream::{Link, Streams, reset};
use crate::sys::{self, Backlog, Stream, World};

impl Streams {
    /// Binds an address and serves it.
    pub(crate) fn listen(
        &mut self,
        engine: &mut Engine,
        addr: SocketAddr,
        service: u32,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        let socket = bind(engine, addr, options)?;
        let (_, addr) = self.add_listener(engine, socket, service, options)?;
        warn_of_silence(engine, addr, &options.limits);
        Ok(addr)
    }

    /// Serves a socket that listens already; returns its place and where it listens.
    pub(crate) fn add_listener(
        &mut self,
        engine: &mut Engine,
        mut socket: sys::Listener,
        service: u32,
        options: &ListenOptions,
    ) -> io::Result<(u32, SocketAddr)> {
        let addr = socket.local_addr()?;
        engine.io.poller().add_listener(&mut socket, self.next_listener())?;
        let index = self.place_listener(engine, Some(socket), addr, service, options);
        log::debug!("listening on {addr}");
        Ok((index, addr))
    }

    /// Gives a listener its place. Without a socket another reactor accepts for it.
    pub(crate) fn place_listener(
        &mut self,
        engine: &mut Engine,
        socket: Option<sys::Listener>,
        addr: SocketAddr,
        service: u32,
        options: &ListenOptions,
    ) -> u32 {
        let index = self.next_listener() as u32;
        let mut config = ConnConfig::new(&options.limits, service);
        config.listener = Some(index);
        config.listen_addr = addr;
        config.tcp = (!engine.io.world().inherits_options()).then(|| options.tcp.clone());
        config.layers = options.layers();
        engine.timers.note_limit(config.longest_limit());
        if config.layers.first().is_some_and(|factory| factory.names_source()) {
            config.flags.set(Flags::SOURCE_UNKNOWN);
        }
        let listener = Listener::new(socket, addr, Rc::new(config), options);
        let listener = self.insert_listener(listener);
        if engine.io.world().asks_writable_on_demand() {
            listener.first_reads = FirstReads::NEVER; // mio must know a socket before it is read
        }
        index
    }

    /// Other handles on the listening sockets, or on one of them, in the order of their places.
    pub(crate) fn duplicates(&self, only: Option<u32>) -> io::Result<Vec<std::net::TcpListener>> {
        let listeners = self.listeners().filter(|(_, listener)| listener.name.is_none());
        let listeners =
            listeners.filter(|(index, _)| only.is_none_or(|only| only as usize == *index));
        listeners.filter_map(|(_, listener)| Some(listener.socket()?.duplicate())).collect()
    }

    /// Gives an accepted connection its slot, and registers it: not yet if it `is_read_first`.
    #[inline(always)] // else the socket and the address are moved there
    pub(crate) fn admit<'a>(
        &'a mut self,
        engine: &'a mut Engine,
        mut stream: Stream,
        peer: &SocketAddr,
        config: Rc<ConnConfig>,
        is_read_first: bool,
    ) -> io::Result<Link<'a>> {
        if let Some(tcp) = &config.tcp {
            stream.set_options(tcp)?;
        }
        let id = self.next_id(engine);
        if !is_read_first {
            if let Err(error) = engine.io.poller().add(&mut stream, Target::token(id), false) {
                // The client was accepted by the kernel, and must not wait for an answer.
                reset(stream);
                return Err(error);
            }
        }
        let link = self.insert(engine, id, stream, peer, config, Phase::Open);
        link.connection.watch = if is_read_first { Watch::Nothing } else { Watch::Input };
        Ok(link)
    }
}

/// Binds an address.
pub(crate) fn bind(
    engine: &Engine,
    addr: SocketAddr,
    options: &ListenOptions,
) -> io::Result<sys::Listener> {
    options.check()?;
    let bound = engine.io.world().bind(addr, options);
    let (socket, backlog) = bound.map_err(|error| explain_bind(addr, options, &error))?;
    log_backlog(addr, backlog);
    Ok(socket)
}

/// Takes over a socket that is bound already.
pub(crate) fn adopt(
    engine: &Engine,
    listener: std::net::TcpListener,
    options: &ListenOptions,
) -> io::Result<sys::Listener> {
    options.check()?;
    engine.io.world().adopt(listener, options).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot adopt the listening socket: {error}"))
    })
}

fn explain_bind(addr: SocketAddr, options: &ListenOptions, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse if options.reuse_port => {
            "; all sockets that share it must set reuse_port and belong to one user"
        }
        io::ErrorKind::AddrInUse => "; stop what listens there, or take another port (0: any)",
        io::ErrorKind::AddrNotAvailable => "; the address must be one of this machine's",
        io::ErrorKind::PermissionDenied => "; ports below 1024 want a privilege, take a higher one",
        _ => sys::shortage_hint(error),
    };
    io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}{hint}"))
}

/// Warns of a listener that strangers can reach and whose connections may be silent for ever. A
/// simulated world has no strangers.
pub(crate) fn warn_of_silence(engine: &Engine, addr: SocketAddr, limits: &Limits) {
    let is_reachable =
        matches!(engine.io.world(), World::Os) && !addr.ip().to_canonical().is_loopback();
    if is_reachable && limits.allow_silence() {
        log::warn!(
            "{addr}: a peer can hold a connection for ever by saying nothing, as these limits are \
             not set: {}; use Limits::internet(), or set them",
            limits.missing().join(", ")
        );
    }
}

pub(super) fn log_backlog(addr: impl Display, backlog: Backlog) {
    let Backlog { asked: Some(asked), system_most: Some(most) } = backlog else {
        return;
    };
    if asked > most {
        log::warn!(
            "{addr}: a backlog of {asked} was asked for, the system caps it at {most} \
             (net.core.somaxconn)"
        );
    }
}
