//! A simulated world in virtual time, driven by a seed: sockets, the poll, the clock.
//!
//! Everything is in one [`World`]; what the rest of the crate holds are handles on it. Nothing in
//! it sleeps, and no socket of the operating system is opened.

mod chance;
mod datagram;
mod faults;
mod handshake;
mod peer;
mod socket;
mod trace;
mod world;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::os::errors;
use super::{Answer, Backlog, Readiness};
use crate::id::Generations;
use socket::Owner;
use trace::{Call, Outcome};
use world::{MILLI, SECOND, Step};

pub use chance::{Fault, Faults};
pub(crate) use datagram::DatagramSocket;
pub use datagram::Datagrams;
pub use peer::{PeerEnd, Script};
pub(crate) use socket::SocketStage;
pub(crate) use trace::Note;
pub(crate) use world::{Rest, Stage, World};

/// A host of a world: where one reactor lives.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    world: Rc<RefCell<World>>,
    index: usize,
    edges_are_native: bool,
}

/// What a poll says of one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    token: usize,
    readiness: Readiness,
}

/// What one poll reported.
#[derive(Debug)]
pub(crate) struct Events(Vec<Event>);

/// One end of a connection; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    host: Host,
    key: u32,
}

/// A listening socket; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    host: Host,
    key: u32,
}

/// The poll of a host. It takes a descriptor.
#[derive(Debug)]
pub(crate) struct Poller(Host);

/// Ends a poll.
#[derive(Debug)]
pub(crate) struct Waker(Arc<AtomicBool>);

/// The clock of a host, since the reactor was made.
#[derive(Debug)]
pub(crate) struct Clock {
    host: Host,
    start: u64,
}

/// A descriptor in reserve.
#[derive(Debug)]
pub(crate) struct Spare(Host);

fn no_descriptor(is_of_system: bool) -> io::Error {
    let code = if is_of_system { errors::NO_FILE_OF_SYSTEM } else { errors::NO_FILE_OF_PROCESS };
    io::Error::from_raw_os_error(code)
}

/// A name of an error for the trace, the same on every system.
fn name_of(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::WouldBlock => "WouldBlock",
        ErrorKind::Interrupted => "Interrupted",
        ErrorKind::ConnectionReset => "ConnectionReset",
        ErrorKind::ConnectionRefused => "ConnectionRefused",
        ErrorKind::BrokenPipe => "BrokenPipe",
        ErrorKind::NotConnected => "NotConnected",
        ErrorKind::TimedOut => "TimedOut",
        ErrorKind::ConnectionAborted => "ConnectionAborted",
        ErrorKind::OutOfMemory => "OutOfMemory",
        ErrorKind::PermissionDenied => "PermissionDenied",
        ErrorKind::NetworkDown => "NetworkDown",
        ErrorKind::AddrInUse => "AddrInUse",
        _ => "EMFILE, ENFILE, ENOBUFS or EPROTO",
    }
}

impl Host {
    pub(crate) fn new(world: &Rc<RefCell<World>>, index: usize) -> Self {
        let edges_are_native = world.borrow().hosts[index].edges_are_native;
        Self { world: Rc::clone(world), index, edges_are_native }
    }

    /// The generations of its connections: the same in every run.
    pub(crate) fn generations(&self) -> Generations {
        Generations::of_host(self.index as u32)
    }

    pub(crate) fn edges_are_native(&self) -> bool {
        self.edges_are_native
    }

    fn owner(&self) -> Owner {
        Owner::Host(self.index as u32)
    }

    /// One system call: time passes, and the world does something.
    fn call<R>(&self, run: impl FnOnce(&mut World) -> R) -> R {
        let mut world = self.world.borrow_mut();
        world.enter(self.index);
        run(&mut world)
    }

    /// The same, for one that returns bytes or an error.
    fn call_on(
        &self,
        key: u32,
        call: Call,
        run: impl FnOnce(&mut World) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.call(|world| {
            let result = run(world);
            let outcome = match &result {
                Ok(count) => Outcome::Is(*count as u32),
                Err(error) => Outcome::Failed(name_of(error)),
            };
            world.note(Some(self.index), Note::Call { socket: key, call, result: outcome });
            result
        })
    }

    pub(crate) fn poller(&self) -> io::Result<Poller> {
        self.open_file()?;
        Ok(Poller(self.clone()))
    }

    pub(crate) fn clock(&self) -> super::Clock {
        let start = self.world.borrow().clock(self.index);
        Clock { host: self.clone(), start }.into()
    }

    fn open_file(&self) -> io::Result<()> {
        let has_one = self.world.borrow_mut().open_file(self.index);
        if has_one { Ok(()) } else { Err(no_descriptor(false)) }
    }

    pub(crate) fn spare(&self) -> Option<Spare> {
        self.open_file().ok().map(|()| Spare(self.clone()))
    }

    pub(crate) fn open_file_limit(&self) -> u64 {
        self.world.borrow().hosts[self.index].files
    }

    pub(crate) fn connect(
        &self,
        addr: SocketAddr,
        source: Option<SocketAddr>,
    ) -> io::Result<Stream> {
        self.call(|world| {
            if !world.open_file(self.index) {
                return Err(no_descriptor(false));
            }
            let ip = World::ip_of(self.index);
            let port = 10_000 + (world.sockets.len() % 50_000) as u16;
            let mut local = source.unwrap_or_else(|| SocketAddr::new(ip, port));
            if local.port() == 0 {
                local.set_port(port);
            }
            let local = self.resolve(local);
            let key = world.connect(self.owner(), local, self.resolve(addr));
            Ok(Stream { host: self.clone(), key })
        })
    }

    /// Looks a name up, after a while, in the world's table. What befalls connects befalls lookups
    /// too: they fail, are slow, and get no answer.
    pub(crate) fn look_up(&self, name: &str, port: u16, answer: Answer) {
        let mut world = self.world.borrow_mut();
        let result = if world.chance.strikes(Fault::ConnectRefused) {
            Err(io::Error::other(format!("cannot resolve {name}: the name server failed")))
        } else {
            world.addresses(name, port).ok_or_else(|| {
                io::Error::new(ErrorKind::NotFound, format!("cannot resolve {name}: unknown"))
            })
        };
        if world.chance.strikes(Fault::ConnectLost) {
            return;
        }
        let is_slow = world.chance.strikes(Fault::ConnectSlow);
        let most = if is_slow { 30 * SECOND } else { 50 * MILLI };
        let at = world.now + world.chance.spread(MILLI / 10, most);
        world.arrange_call(at, Box::new(move || answer(result)));
    }

    pub(crate) fn random(&self) -> u64 {
        self.world.borrow_mut().chance.next()
    }

    /// An address that names no host is this one's.
    fn resolve(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            ip if ip.is_unspecified() || ip.is_loopback() => {
                SocketAddr::new(World::ip_of(self.index), addr.port())
            }
            _ => addr,
        }
    }

    pub(crate) fn bind(
        &self,
        addr: SocketAddr,
        backlog: Option<u32>,
    ) -> io::Result<(Listener, Backlog)> {
        const MOST: u32 = 4_096;
        self.call(|world| {
            if !world.open_file(self.index) {
                return Err(no_descriptor(false));
            }
            let most = backlog.unwrap_or(MOST).min(MOST) as usize;
            let addr = self.resolve(addr);
            if addr.ip() != World::ip_of(self.index) {
                world.close_file(self.index);
                return Err(ErrorKind::AddrNotAvailable.into());
            }
            let Some(key) = world.listen(self.owner(), addr, most) else {
                world.close_file(self.index);
                return Err(ErrorKind::AddrInUse.into());
            };
            let listener = Listener { host: self.clone(), key };
            Ok((listener, Backlog { asked: backlog, system_most: Some(MOST) }))
        })
    }
}

impl Stream {
    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn edges_are_native(&self) -> bool {
        self.host.edges_are_native
    }

    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        self.host.call(|world| {
            let socket = &mut world.sockets[self.key as usize];
            if let Some(kind) = socket.error.take() {
                return Some(Err(kind.into()));
            }
            match socket.stage {
                SocketStage::Connecting => None,
                SocketStage::Up if !socket.is_reset => Some(Ok(())),
                _ => Some(Err(ErrorKind::NotConnected.into())),
            }
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.host.world.borrow().sockets[self.key as usize].local
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.host.call_on(self.key, Call::Receive, |world| world.host_read(self.key, buffer))
    }

    pub(crate) fn send<B: Deref<Target = [u8]>>(&self, parts: &[B]) -> io::Result<usize> {
        self.host.call_on(self.key, Call::Send, |world| match parts {
            [part] => world.host_write(self.key, part),
            parts => {
                let parts: Vec<&[u8]> = parts.iter().map(Deref::deref).collect();
                world.host_write(self.key, &parts.concat())
            }
        })
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let finish = |world: &mut World| world.finish(self.key).map(|()| 0);
        self.host.call_on(self.key, Call::Shutdown, finish).map(drop)
    }

    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        self.host.call(|world| world.reset_on_close(self.key));
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.host.call(|world| {
            world.close(self.key);
            world.close_file(self.host.index);
        });
    }
}

impl Listener {
    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.host.world.borrow().sockets[self.key as usize].local
    }

    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let mut accepted = None;
        self.host.call_on(self.key, Call::Accept, |world| {
            accepted = Some(self.accept_in(world)?);
            Ok(accepted.map_or(0, |(key, _)| key as usize))
        })?;
        let (key, peer) = accepted.ok_or(ErrorKind::WouldBlock)?;
        Ok((Stream { host: self.host.clone(), key }, peer))
    }

    fn accept_in(&self, world: &mut World) -> io::Result<(u32, SocketAddr)> {
        let is_waited_for = world.sockets[self.key as usize].is_readable();
        if is_waited_for && world.chance.strikes(Fault::Interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if is_waited_for && world.chance.strikes(Fault::AcceptError) {
            world.hurt_first(self.key);
            return Err(self.draw_error(world));
        }
        if is_waited_for && !world.open_file(self.host.index) {
            world.hurt_first(self.key);
            return Err(no_descriptor(false));
        }
        let Some(child) = world.accept(self.key) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        world.sockets[child as usize].owner = self.host.owner();
        Ok((child, world.sockets[child as usize].remote))
    }

    /// One of the errors of accept4(2). Those of the connection take it with them.
    fn draw_error(&self, world: &mut World) -> io::Error {
        let choice = world.chance.below(8);
        if choice < 2 {
            if let Some(child) = world.accept(self.key) {
                world.reset_on_close(child);
                world.close(child);
            }
        }
        match choice {
            0 => ErrorKind::ConnectionAborted.into(),
            1 => io::Error::from_raw_os_error(errors::BROKEN_CONNECTION[0]),
            2 => no_descriptor(false),
            3 => no_descriptor(true),
            4 => io::Error::from_raw_os_error(errors::NO_BUFFERS[0]),
            5 => ErrorKind::OutOfMemory.into(),
            6 => ErrorKind::PermissionDenied.into(),
            _ => ErrorKind::NetworkDown.into(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.host.call(|world| {
            world.close(self.key);
            world.close_file(self.host.index);
        });
    }
}

impl Event {
    pub(crate) fn token(self) -> usize {
        self.token
    }

    pub(crate) fn readiness(self) -> Readiness {
        self.readiness
    }
}

impl Events {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `each` with every event but the first `skipped`.
    pub(crate) fn for_each_from(&self, skipped: usize, each: impl FnMut(Event)) {
        self.0.iter().copied().skip(skipped).for_each(each);
    }
}

impl Poller {
    /// Room for what one poll reports.
    pub(crate) fn events(&self, capacity: usize) -> super::Events {
        Events(Vec::with_capacity(capacity)).into()
    }

    pub(crate) fn waker(&self, token: usize) -> io::Result<Waker> {
        let Self(host) = self;
        host.open_file()?;
        let woken = Arc::new(AtomicBool::new(false));
        host.world.borrow_mut().hosts[host.index].waker = Some((token, Arc::clone(&woken)));
        Ok(Waker(woken))
    }

    pub(crate) fn add(&self, key: u32, token: usize, writable: bool) -> io::Result<()> {
        self.0.call_on(key, Call::Register, |world| {
            let is_stream = world.sockets[key as usize].stage != SocketStage::Listening;
            if is_stream && world.chance.strikes(Fault::RegisterError) {
                world.hurt(key);
                return Err(ErrorKind::OutOfMemory.into());
            }
            world.register(key, token, 1 | u8::from(writable) << 1);
            Ok(0)
        })?;
        Ok(())
    }

    /// Datagram sockets are registered when they are bound, and that does not fail.
    pub(crate) fn add_datagrams(&self, key: u32, token: usize) {
        self.0.call(|world| world.register(key, token, 1));
    }

    pub(crate) fn change(&self, key: u32, token: usize, writable: bool) -> io::Result<()> {
        let interest = 1 | u8::from(writable) << 1;
        let is_watched = self.0.call(|world| world.change_interest(key, token, interest));
        if is_watched { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    pub(crate) fn poll(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let (Self(host), Events(events)) = (self, events);
        events.clear();
        let most = events.capacity();
        let timeout = timeout.map(|timeout| timeout.as_nanos() as u64);
        host.world.borrow_mut().enter_poll(host.index, timeout);
        loop {
            let step = host.world.borrow_mut().poll_step(host.index, events, most);
            match step {
                Step::Return => break,
                Step::Again => {}
                Step::Drive(other, drive) => drive(other),
            }
        }
        host.world.borrow_mut().leave_poll(host.index);
        Ok(())
    }
}

/// The poll and its waker each have a descriptor.
impl Drop for Poller {
    fn drop(&mut self) {
        let mut world = self.0.world.borrow_mut();
        let files = if world.hosts[self.0.index].waker.take().is_some() { 2 } else { 1 };
        for _ in 0..files {
            world.close_file(self.0.index);
        }
    }
}

impl super::Stream {
    /// The number of the socket in a simulated world.
    pub(crate) fn simulated(&self) -> Option<u32> {
        match self {
            Self::Sim(stream) => Some(stream.key),
            _ => None,
        }
    }
}

impl super::Listener {
    /// The number of the socket in a simulated world.
    pub(crate) fn simulated(&self) -> Option<u32> {
        match self {
            Self::Sim(listener) => Some(listener.key),
            _ => None,
        }
    }
}

impl super::DatagramSocket {
    /// The number of the socket in a simulated world.
    pub(crate) fn simulated(&self) -> Option<u32> {
        match self {
            Self::Sim(socket) => Some(socket.key()),
            _ => None,
        }
    }
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl Clock {
    pub(crate) fn nanos(&self) -> u64 {
        self.host.world.borrow().clock(self.host.index) - self.start
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.0.world.borrow_mut().close_file(self.0.index);
    }
}
