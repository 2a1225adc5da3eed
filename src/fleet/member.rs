//! One reactor of a fleet while it is set up, and the sockets that all of them listen on.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;

use crate::fleet::handle::FleetRemote;
use crate::fleet::lock;
use crate::fleet::options::{Spread, invalid};
use crate::fleet::publish::Groups;
use crate::handler::{Handler, HandlerKey, Loop, first_of};
use crate::options::{AtCapacity, Destination, ListenOptions};
use crate::reactor::Reactor;
use crate::stream::{adopt, bind, warn_of_silence};

/// A reactor of a [`Fleet`](crate::fleet::Fleet), lent to the closure that sets it up.
///
/// # Examples
/// ```no_run
/// use waterwheel::fleet::{Fleet, FleetOptions, Member};
/// use waterwheel::{Conn, ListenOptions};
///
/// fn set_up(member: &mut Member<'_>) -> std::io::Result<()> {
///     let echo = member.reactor().register(|conn: &mut Conn<'_>, input: &[u8]| {
///         conn.write(input);
///         input.len()
///     });
///     let addr = member.listen("127.0.0.1:7000", echo, ListenOptions::default())?;
///     if member.index() == 0 {
///         println!("listening on {addr}");
///     }
///     Ok(())
/// }
///
/// Fleet::new(FleetOptions::default())?.run(set_up)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Member<'a> {
    reactor: &'a mut Reactor,
    docks: &'a Docks,
    remote: FleetRemote,
    index: usize,
    /// How many times it has listened.
    listened: usize,
    /// How many channels to all it has made.
    channels: usize,
}

impl<'a> Member<'a> {
    pub(super) fn new(
        reactor: &'a mut Reactor,
        docks: &'a Docks,
        remote: FleetRemote,
        index: usize,
    ) -> Self {
        Self { reactor, docks, remote, index, listened: 0, channels: 0 }
    }

    /// The number of this reactor in the fleet, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many reactors the fleet has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.remote.shared.members
    }

    pub(super) fn groups(&self) -> &'a Groups {
        &self.docks.groups
    }

    /// The place of the next channel to all.
    pub(super) fn next_channel(&mut self) -> usize {
        let place = self.channels;
        self.channels += 1;
        place
    }

    /// The reactor: to register handlers, to set timers, to connect. Connections of a listener that
    /// is opened with [`Reactor::listen`](crate::Reactor::listen) all stay in this reactor.
    pub fn reactor(&mut self) -> &mut Reactor {
        self.reactor
    }

    /// A handle to the whole fleet, for handlers to keep.
    #[must_use]
    pub fn fleet(&self) -> FleetRemote {
        self.remote.clone()
    }

    /// Listens together with the other reactors, and serves this reactor's share of the connections
    /// with a handler. Returns the address with its real port, which is the same for all. Every
    /// reactor must listen on the same addresses in the same order. Caps such as `max_connections`
    /// apply to each reactor on its own.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, the address does not parse or is not the one
    ///   that the others listen on, or connections are handed over and `at_capacity` is
    ///   `AtCapacity::Wait`.
    /// - The errors of `Reactor::listen`.
    pub fn listen<H: Handler>(
        &mut self,
        addr: impl Into<Destination>,
        handler: HandlerKey<H>,
        options: ListenOptions,
    ) -> io::Result<SocketAddr> {
        self.dock(addr.into(), None, handler, options)
    }

    /// Serves a socket that is bound and set to listen already. All reactors share it, also with
    /// [`Spread::ReusePort`].
    ///
    /// # Errors
    /// - The errors of [`listen`](Self::listen) and of `Reactor::adopt`.
    pub fn adopt<H: Handler>(
        &mut self,
        listener: &TcpListener,
        handler: HandlerKey<H>,
        options: ListenOptions,
    ) -> io::Result<SocketAddr> {
        self.dock(listener.local_addr()?.into(), Some(listener), handler, options)
    }

    fn dock<H: Handler>(
        &mut self,
        asked: Destination,
        adopted: Option<&TcpListener>,
        handler: HandlerKey<H>,
        mut options: ListenOptions,
    ) -> io::Result<SocketAddr> {
        self.reactor.serve_streams(handler)?;
        let hands_over = matches!(self.docks.spread, Spread::HandOver(_));
        if hands_over && options.at_capacity == AtCapacity::Wait {
            let text = "option at_capacity is Wait; where connections are handed over it must be \
                        Refuse, since the acceptor does not see the caps of the reactors";
            return Err(invalid(text));
        }
        options.reuse_port |= self.docks.spread == Spread::ReusePort && adopted.is_none();
        let mut docks = lock(&self.docks.docks);
        // The first one looks a name up for all.
        let is_first = docks.len() == self.listened;
        let addrs = if is_first { self.reactor.resolve_now(asked.clone())? } else { Vec::new() };
        let Loop { streams, engine, .. } = self.reactor.event_loop_mut();
        let socket = match docks.get(self.listened) {
            None => {
                let inherited = self.docks.inherit(&addrs);
                let socket = match (adopted, inherited) {
                    (Some(listener), _) => adopt(engine, listener.try_clone()?, &options)?,
                    (None, Some(listener)) => adopt(engine, listener, &options)?,
                    (None, None) => first_of(&addrs, |addr| bind(engine, addr, &options))?,
                };
                let is_own = self.docks.spread == Spread::ReusePort && adopted.is_none();
                let shared = if is_own { None } else { Some(socket.duplicate()?) };
                let addr = socket.local_addr()?;
                warn_of_silence(engine, addr, &options.limits);
                docks.push(Dock::new(asked, addr, shared, &options));
                Some(socket)
            }
            Some(dock) => {
                dock.check(&asked)?;
                match &dock.shared {
                    _ if hands_over => None,
                    Some(shared) => Some(adopt(engine, shared.try_clone()?, &options)?),
                    None => Some(bind(engine, dock.addr, &options)?),
                }
            }
        };
        let dock = &mut docks[self.listened];
        let place = match socket {
            Some(socket) if !hands_over => {
                streams.add_listener(engine, socket, handler.index(), &options)?.0
            }
            _ => streams.place_listener(engine, None, dock.addr, handler.index(), &options),
        };
        dock.places.push((self.index, place));
        self.listened += 1;
        Ok(dock.addr)
    }
}

impl fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("index", &self.index).finish_non_exhaustive()
    }
}

/// What the reactors of a fleet have together: what they listen on, and their channels.
#[derive(Debug)]
pub(super) struct Docks {
    spread: Spread,
    docks: Mutex<Vec<Dock>>,
    groups: Groups,
    /// Listening sockets of the process before, which are used instead of new ones.
    inherited: Mutex<Vec<TcpListener>>,
    /// So many addresses there may be.
    max_addresses: usize,
}

/// An address that all reactors of a fleet listen on.
#[derive(Debug)]
pub(super) struct Dock {
    /// As asked for, perhaps with port 0.
    asked: Destination,
    /// With its real port.
    pub(super) addr: SocketAddr,
    /// The socket, if it is one for all.
    pub(super) shared: Option<TcpListener>,
    /// As the first reactor set them.
    pub(super) options: ListenOptions,
    /// Which listener it is in each reactor.
    pub(super) places: Vec<(usize, u32)>,
}

impl Docks {
    pub(super) fn new(spread: Spread, inherited: Vec<TcpListener>, max_addresses: usize) -> Self {
        let (docks, groups) = (Mutex::default(), Groups::default());
        Self { spread, docks, groups, inherited: Mutex::new(inherited), max_addresses }
    }

    /// The inherited socket that listens on one of these addresses; with port 0 any of the IP
    /// address will do.
    fn inherit(&self, addrs: &[SocketAddr]) -> Option<TcpListener> {
        let mut inherited = lock(&self.inherited);
        let listens_on = |listener: &TcpListener, asked: &SocketAddr| {
            listener.local_addr().is_ok_and(|addr| {
                addr.ip() == asked.ip() && (asked.port() == 0 || addr.port() == asked.port())
            })
        };
        let place = inherited
            .iter()
            .position(|listener| addrs.iter().any(|asked| listens_on(listener, asked)))?;
        Some(inherited.remove(place))
    }

    /// All have been set up: what they listen on, each with the reactors in order.
    pub(super) fn finish(&self, members: usize) -> io::Result<Vec<Dock>> {
        self.groups.finish(members)?;
        // A successor that listens elsewhere has no use for the others.
        lock(&self.inherited).clear();
        let mut docks = std::mem::take(&mut *lock(&self.docks));
        let (count, most) = (docks.len(), self.max_addresses);
        if count > most {
            let text =
                format!("the fleet listens on {count} addresses, and hands on {most} at most");
            return Err(invalid(&text));
        }
        for dock in &mut docks {
            dock.places.sort_unstable();
            if dock.places.len() < members {
                let text = format!(
                    "only {} of {members} reactors listen on {}; all must, or use \
                     Member::reactor to listen with one of them",
                    dock.places.len(),
                    dock.addr
                );
                return Err(invalid(&text));
            }
        }
        Ok(docks)
    }
}

impl Dock {
    fn new(
        asked: Destination,
        addr: SocketAddr,
        shared: Option<TcpListener>,
        options: &ListenOptions,
    ) -> Self {
        Self { asked, addr, shared, options: options.clone(), places: Vec::new() }
    }

    fn check(&self, asked: &Destination) -> io::Result<()> {
        if self.asked == *asked {
            return Ok(());
        }
        let text = format!(
            "cannot listen on {asked}: another reactor of the fleet listens on {} in its place; \
             all must listen on the same addresses in the same order",
            self.asked
        );
        Err(invalid(&text))
    }
}
