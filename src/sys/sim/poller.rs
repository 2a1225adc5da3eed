//! Handles on the poll, its waker, the clock and a descriptor in reserve.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::chance::Fault;
use super::host::Host;
use super::poll::Step;
use super::process::Event;
use super::socket::SocketStage;
use super::trace::Call;
use crate::sys;

/// What one poll reported.
#[derive(Debug)]
pub(crate) struct Events(Vec<Event>);

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

impl Host {
    pub(crate) fn poller(&self) -> io::Result<Poller> {
        self.open_file()?;
        Ok(Poller(self.clone()))
    }

    pub(crate) fn clock(&self) -> sys::Clock {
        let start = self.world.borrow().clock(self.index);
        Clock { host: self.clone(), start }.into()
    }

    pub(crate) fn spare(&self) -> Option<Spare> {
        self.open_file().ok().map(|()| Spare(self.clone()))
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
    pub(crate) fn events(&self, capacity: usize) -> sys::Events {
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
