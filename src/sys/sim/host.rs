//! A host: where one reactor lives. The files below hold what it makes, each a handle on the world.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use super::chance::Fault;
use super::event::{MILLI, SECOND};
use super::socket::Owner;
use super::trace::{Call, Note, Outcome};
use super::world::World;
use crate::base::id::Generations;
use crate::options::TurnBudgets;
use crate::sys::Answer;
use crate::sys::os::errors;

/// A host of a world: where one reactor lives.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) index: usize,
    pub(super) edges_are_native: bool,
}

impl Host {
    pub(crate) fn new(world: &Rc<RefCell<World>>, index: usize) -> Self {
        let edges_are_native = world.borrow().hosts[index].edges_are_native;
        Self { world: Rc::clone(world), index, edges_are_native }
    }

    /// The generations of its connections: the same in every run.
    pub(crate) fn generations(&self) -> Generations {
        let start = (self.index as u64) << 32;
        Generations::with(start + 1..start + (1 << 32), false)
    }

    pub(crate) fn edges_are_native(&self) -> bool {
        self.edges_are_native
    }

    /// How much of what waits a turn of its reactor does.
    pub(crate) fn turn_budgets(&self) -> TurnBudgets {
        self.world.borrow().hosts[self.index].budgets
    }

    pub(super) fn owner(&self) -> Owner {
        Owner::Host(self.index as u32)
    }

    /// Makes a system call: time passes, and the world does something.
    pub(super) fn call<R>(&self, run: impl FnOnce(&mut World) -> R) -> R {
        let mut world = self.world.borrow_mut();
        world.enter(self.index);
        run(&mut world)
    }

    /// Makes a system call that returns bytes or an error.
    pub(super) fn call_on(
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

    pub(super) fn open_file(&self) -> io::Result<()> {
        let has_one = self.world.borrow_mut().open_file(self.index);
        if has_one { Ok(()) } else { Err(no_descriptor(false)) }
    }

    pub(crate) fn open_file_limit(&self) -> u64 {
        self.world.borrow().hosts[self.index].files
    }

    /// Looks a name up, after a while, in the world's table. What befalls connects befalls lookups
    /// too: they fail, are slow, and get no answer.
    pub(crate) fn look_up(&self, name: &str, port: u16, answer: Answer) {
        let mut world = self.world.borrow_mut();
        let result = if world.chance.strikes(Fault::ConnectRefused) {
            let text = format!("cannot resolve {name}: the name server failed");
            Err(io::Error::new(ErrorKind::TimedOut, text))
        } else {
            world.addresses(name, port).ok_or_else(|| {
                io::Error::new(ErrorKind::NotFound, format!("cannot resolve {name}: unknown"))
            })
        };
        if world.chance.strikes(Fault::ConnectLost) {
            let text = format!("cannot resolve {name}: no name server has answered");
            let late = Err(io::Error::new(ErrorKind::TimedOut, text));
            let at = world.now + 30 * SECOND;
            return world.arrange_call(at, Box::new(move || answer(late)));
        }
        let is_slow = world.chance.strikes(Fault::ConnectSlow);
        let most = if is_slow { 30 * SECOND } else { 50 * MILLI };
        let at = world.now + world.chance.spread(MILLI / 10, most);
        world.arrange_call(at, Box::new(move || answer(result)));
    }

    /// Looks a name up in no time, and without a fault: what is looked up so is set up by the test.
    pub(crate) fn look_up_now(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.world.borrow().addresses(name, port).ok_or_else(|| {
            io::Error::new(ErrorKind::NotFound, format!("cannot resolve {name}: unknown"))
        })
    }

    pub(crate) fn random(&self) -> u64 {
        self.world.borrow_mut().chance.next()
    }

    /// An address that names no host is this one's.
    pub(super) fn resolve(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            ip if ip.is_unspecified() || ip.is_loopback() => {
                SocketAddr::new(World::ip_of(self.index), addr.port())
            }
            _ => addr,
        }
    }
}

/// The error of a call that finds no descriptor left.
pub(super) fn no_descriptor(is_of_system: bool) -> io::Error {
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
