//! Sockets come in: listeners, and the connections that they accept.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::connection::Phase;
use crate::engine::{Engine, Queued, Target};
use crate::id::ConnId;
use crate::listener::Listener;
use crate::options::ListenOptions;
#[cfg(feature = "proxy-protocol")]
use crate::profile::Greeting;
use crate::profile::Profile;
use crate::sys::{self, Backlog, Stream};

impl Engine {
    /// Binds an address and serves it.
    pub(crate) fn listen(
        &mut self,
        addr: SocketAddr,
        service: u32,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        let socket = self.bind(addr, options)?;
        let (_, addr) = self.add_listener(socket, service, options)?;
        Ok(addr)
    }

    /// Binds an address.
    pub(crate) fn bind(
        &self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<sys::Listener> {
        options.check()?;
        let (socket, backlog) =
            self.world.bind(addr, options).map_err(|error| explain_bind(addr, options, &error))?;
        log_backlog(addr, backlog);
        Ok(socket)
    }

    /// Takes over a socket that somebody else has bound.
    pub(crate) fn adopt(
        &self,
        listener: std::net::TcpListener,
        options: &ListenOptions,
    ) -> io::Result<sys::Listener> {
        options.check()?;
        self.world.adopt(listener, options).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot adopt the listening socket: {error}"))
        })
    }

    /// Serves a socket that listens already; gives its place and where it listens.
    pub(crate) fn add_listener(
        &mut self,
        mut socket: sys::Listener,
        service: u32,
        options: &ListenOptions,
    ) -> io::Result<(u32, SocketAddr)> {
        let addr = socket.local_addr()?;
        self.poller.add_listener(&mut socket, self.listeners.vacant_key())?;
        let index = self.place_listener(Some(socket), addr, service, options);
        log::debug!("listening on {addr}");
        Ok((index, addr))
    }

    /// Gives a listener its place. Without a socket another reactor accepts for it.
    pub(crate) fn place_listener(
        &mut self,
        socket: Option<sys::Listener>,
        addr: SocketAddr,
        service: u32,
        options: &ListenOptions,
    ) -> u32 {
        let index = self.listeners.vacant_key() as u32;
        let mut profile = Profile::new(&options.limits, service);
        profile.listener = Some(index);
        profile.tcp = (!self.world.inherits_options()).then(|| options.tcp.clone());
        #[cfg(feature = "proxy-protocol")]
        {
            profile.greeting =
                options.proxy_protocol.as_ref().map(|options| Greeting::new(options, addr));
        }
        self.listeners.insert(Listener::new(socket, addr, Rc::new(profile), options));
        index
    }

    /// Closes the listening sockets. Those without one stay: what another reactor has accepted for
    /// them may be on its way.
    pub(crate) fn close_listeners(&mut self) {
        if let Some(load) = &self.load {
            load.close();
        }
        let poller = &self.poller;
        self.listeners.retain(|_, listener| {
            let title = listener.title();
            let Some(socket) = listener.socket_mut() else { return true };
            if let Err(error) = poller.remove_listener(socket) {
                log::warn!("{title}: cannot be taken off the poll: {error}");
            }
            false
        });
        self.ready_others.retain(|queued| matches!(queued, Queued::Socket(_)));
    }

    /// Other handles on the listening sockets, or on one of them, in the order of their places.
    pub(crate) fn duplicates(&self, only: Option<u32>) -> io::Result<Vec<std::net::TcpListener>> {
        let listeners = self.listeners.iter().filter(|(_, listener)| listener.name.is_none());
        let listeners =
            listeners.filter(|(index, _)| only.is_none_or(|only| only as usize == *index));
        listeners.filter_map(|(_, listener)| Some(listener.socket()?.duplicate())).collect()
    }

    /// Gives an accepted connection its slot and registers it once, for both directions.
    pub(crate) fn admit(
        &mut self,
        stream: Stream,
        peer: SocketAddr,
        profile: Rc<Profile>,
    ) -> io::Result<ConnId> {
        if let Some(tcp) = &profile.tcp {
            stream.set_options(tcp)?;
        }
        let id = self.insert(stream, peer, profile, Phase::Open);
        let token = Target::token(id);
        let writable = !self.asks_writable_on_demand(id);
        let connection = &mut self.connections[id.index()];
        match self.poller.add(&mut connection.stream, token, writable) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.release(id);
                Err(error)
            }
        }
    }

    /// Gives the slot of a connection back that never opened.
    pub(super) fn release(&mut self, id: ConnId) {
        // It was not counted at its listener yet.
        let mut connection = self.connections.remove(id.index());
        for timer in connection.take_timers() {
            self.wheel.cancel(timer);
        }
        self.leave_gate();
        self.stats.connections -= 1;
    }
}

fn explain_bind(addr: SocketAddr, options: &ListenOptions, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse if options.reuse_port => {
            "; all sockets that share it must set reuse_port and belong to one user"
        }
        io::ErrorKind::AddrInUse => "; stop what listens there, or take another port (0: any)",
        io::ErrorKind::AddrNotAvailable => "; the address must be one of this machine's",
        io::ErrorKind::PermissionDenied => "; ports below 1024 want a privilege, take a higher one",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}{hint}"))
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
