//! Sockets come in: listeners, and the connections that they accept.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::connection::Phase;
use crate::engine::{Engine, Target};
use crate::id::ConnId;
use crate::listener::Listener;
use crate::options::ListenOptions;
use crate::planted::{self, Bug};
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
        options.check()?;
        let (socket, backlog) =
            self.world.bind(addr, options).map_err(|error| explain_bind(addr, options, &error))?;
        log_backlog(addr, backlog);
        self.add_listener(socket, service, options)
    }

    /// Serves a socket that listens already.
    pub(crate) fn add_listener(
        &mut self,
        socket: sys::Listener,
        service: u32,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        let addr = socket.local_addr()?;
        let slot = self.listeners.vacant_entry();
        let index = slot.key();
        let mut profile = Profile::new(&options.limits, service);
        profile.listener = Some(index as u32);
        profile.tcp = (!self.world.inherits_options()).then(|| options.tcp.clone());
        let mut listener = Listener::new(socket, addr, Rc::new(profile), options);
        self.poller.add_listener(listener.socket_mut(), index)?;
        slot.insert(listener);
        log::debug!("listening on {addr}");
        Ok(addr)
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
        let connection = &mut self.connections[id.index()];
        let token = Target::token(id);
        let writable = !self.world.asks_writable_on_demand();
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
        if planted::is(Bug::SlotLeaked) {
            return;
        }
        // It was not counted at its listener yet.
        let mut connection = self.connections.remove(id.index());
        for timer in connection.take_timers() {
            self.wheel.cancel(timer);
        }
        self.gate.leave();
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

fn log_backlog(addr: SocketAddr, backlog: Backlog) {
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
