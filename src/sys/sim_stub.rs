//! Stands for the simulated world in a build without the feature `sim`: the same names as `sim/`,
//! of types that have no value.
//!
//! A variant without a value adds neither a branch nor a byte to the enums of this room. Their
//! arms stay the same in both builds, and the compiler drops them here.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use super::{Answer, Backlog, Ends, Readiness, Route};
use crate::base::id::Generations;
use crate::options::{Group, TurnBudgets, UdpOptions};

/// See [`crate::sys::OBSERVES_FAST_PATH`].
pub(super) const OBSERVES_FAST_PATH: bool = false;

/// A host of a simulated world.
#[derive(Debug)]
pub(crate) enum Host {}

/// What a poll says of one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {}

/// What one poll reported.
#[derive(Debug)]
pub(crate) enum Events {}

/// An end of a connection.
#[derive(Debug)]
pub(crate) enum Stream {}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {}

/// A UDP socket.
#[derive(Debug)]
pub(crate) enum DatagramSocket {}

/// The poll of a host.
#[derive(Debug)]
pub(crate) enum Poller {}

/// Ends a poll.
#[derive(Debug)]
pub(crate) enum Waker {}

/// The clock of a host.
#[derive(Debug)]
pub(crate) enum Clock {}

/// A descriptor in reserve.
#[derive(Debug)]
pub(crate) enum Spare {}

impl Host {
    pub(crate) fn edges_are_native(&self) -> bool {
        match *self {}
    }

    pub(crate) fn turn_budgets(&self) -> TurnBudgets {
        match *self {}
    }

    pub(crate) fn generations(&self) -> Generations {
        match *self {}
    }

    pub(crate) fn poller(&self) -> io::Result<Poller> {
        match *self {}
    }

    pub(crate) fn clock(&self) -> super::Clock {
        match *self {}
    }

    pub(crate) fn spare(&self) -> Option<Spare> {
        match *self {}
    }

    pub(crate) fn open_file_limit(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn random(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn look_up_now(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        match *self {}
    }

    pub(crate) fn look_up(&self, _: &str, _: u16, _: Answer) {
        match *self {}
    }

    pub(crate) fn connect(&self, _: SocketAddr, _: Option<SocketAddr>) -> io::Result<Stream> {
        match *self {}
    }

    pub(crate) fn bind(&self, _: SocketAddr, _: Option<u32>) -> io::Result<(Listener, Backlog)> {
        match *self {}
    }

    pub(crate) fn bind_udp(
        &self,
        _: SocketAddr,
        _: Option<SocketAddr>,
        _: &UdpOptions,
    ) -> io::Result<DatagramSocket> {
        match *self {}
    }
}

impl Event {
    pub(crate) fn token(self) -> usize {
        match self {}
    }

    pub(crate) fn readiness(self) -> Readiness {
        match self {}
    }
}

impl Events {
    pub(crate) fn is_empty(&self) -> bool {
        match *self {}
    }

    pub(crate) fn for_each_from(&self, _: usize, _: impl FnMut(Event)) {
        match *self {}
    }
}

impl Stream {
    pub(crate) fn key(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn edges_are_native(&self) -> bool {
        match *self {}
    }

    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        match *self {}
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        match *self {}
    }

    pub(crate) fn receive(&self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn send<B: Deref<Target = [u8]>>(&self, _: &[B]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        match *self {}
    }
}

impl Listener {
    pub(crate) fn key(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        match *self {}
    }

    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match *self {}
    }
}

impl DatagramSocket {
    pub(crate) fn key(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        match *self {}
    }

    pub(crate) fn receive(&self, _: &mut [u8], _: &mut Ends) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn send(&self, _: &[u8], _: &Route) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn change_group(&self, _: &Group) -> io::Result<()> {
        match *self {}
    }
}

impl Poller {
    pub(crate) fn events(&self, _: usize) -> super::Events {
        match *self {}
    }

    pub(crate) fn waker(&self, _: usize) -> io::Result<Waker> {
        match *self {}
    }

    pub(crate) fn add(&self, _: u32, _: usize, _: bool) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn add_datagrams(&self, _: u32, _: usize) {
        match *self {}
    }

    pub(crate) fn change(&self, _: u32, _: usize, _: bool) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn poll(&mut self, _: &mut Events, _: Option<Duration>) -> io::Result<()> {
        match *self {}
    }
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        match *self {}
    }
}

impl Clock {
    pub(crate) fn nanos(&self) -> u64 {
        match *self {}
    }
}
