//! Datagram sockets, and a network that loses, doubles and delays what they send.
//!
//! What a socket sends fills its send buffer until it has left the machine. It arrives after the
//! way of its machines, each datagram at a time of its own, so that one may overtake another. An
//! inbox that is full loses what comes, as does an address where nobody is; a connected sender
//! hears of the latter.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::chance::Fault;
use super::socket::{Owner, Socket, SocketStage};
use super::trace::{Call, Net, Note};
use super::world::{Happening, MICRO, MILLI, World};
use super::{Host, no_descriptor};
use crate::options::{Group, UdpOptions};
use crate::sys::os::errors::TOO_LONG;

/// A UDP socket; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    host: Host,
    key: u32,
}

/// What a UDP socket has that others have not.
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    most_bytes: usize,
    /// Bytes that have not left the machine.
    leaving_bytes: usize,
    most_leaving_bytes: usize,
    is_connected: bool,
}

/// What became of all datagrams of a world. At the end of a run, when nothing is on its way,
/// `sent + doubled` is the sum of all the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Datagrams {
    /// Taken from a sender.
    pub sent: u64,
    /// Copies that the network made.
    pub doubled: u64,
    /// Read by a receiver.
    pub received: u64,
    /// Lost by the network.
    pub lost: u64,
    /// Lost because the receiver's buffer was full.
    pub overflowed: u64,
    /// Sent to where nobody is.
    pub unclaimed: u64,
    /// Not read when their socket was closed.
    pub unread: u64,
}

/// The post of a world.
#[derive(Debug, Default)]
pub(super) struct Post {
    pub(super) counts: Datagrams,
    /// The open sockets.
    open: Vec<u32>,
    /// What is on its way, by number; the free numbers.
    flying: Vec<Option<Flying>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Flying {
    source: u32,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// The longest datagram over IPv4.
const MOST_BYTES: usize = 65_507;

impl Host {
    pub(crate) fn bind_udp(
        &self,
        addr: SocketAddr,
        peer: Option<SocketAddr>,
        options: &UdpOptions,
    ) -> io::Result<DatagramSocket> {
        if !options.groups.is_empty() {
            return Err(no_multicast());
        }
        self.call(|world| {
            let mut addr = self.resolve(addr);
            if addr.ip() != World::ip_of(self.index) {
                return Err(ErrorKind::AddrNotAvailable.into());
            }
            if addr.port() == 0 {
                addr.set_port(10_000 + (world.sockets.len() % 50_000) as u16);
            }
            if world.udp_at(addr).is_some() {
                return Err(ErrorKind::AddrInUse.into());
            }
            if !world.open_file(self.index) {
                return Err(no_descriptor(false));
            }
            let remote = peer.map_or(addr, |peer| self.resolve(peer));
            let socket = Socket::new(self.owner(), addr, remote, SocketStage::Datagrams);
            let key = world.add_udp(socket, peer.is_some());
            Ok(DatagramSocket { host: self.clone(), key })
        })
    }
}

fn no_multicast() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "a simulated world has no multicast groups")
}

impl DatagramSocket {
    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.host.world.borrow().sockets[self.key as usize].local
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut sender = None;
        let count = self.host.call_on(self.key, Call::Receive, |world| {
            let (count, from) = world.receive_from(self.key, buffer)?;
            sender = Some(from);
            Ok(count)
        })?;
        Ok((count, sender.ok_or(ErrorKind::WouldBlock)?))
    }

    pub(crate) fn send(&self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        let to = to.map(|to| self.host.resolve(to));
        self.host
            .call_on(self.key, Call::Send, |world| world.send_to(self.key, bytes, to))
            .map(drop)
    }

    pub(crate) fn change_group(&self, _: &Group) -> io::Result<()> {
        Err(no_multicast())
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        self.host.call(|world| {
            world.close(self.key);
            world.close_file(self.host.index);
        });
    }
}

impl Inbox {
    pub(super) fn is_readable(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Half of the buffer is free, as Linux has it.
    pub(super) fn is_writable(&self) -> bool {
        2 * self.leaving_bytes <= self.most_leaving_bytes
    }
}

impl World {
    pub(crate) fn datagrams(&self) -> Datagrams {
        self.post.counts
    }

    fn udp_at(&self, addr: SocketAddr) -> Option<u32> {
        self.post.open.iter().copied().find(|&key| self.sockets[key as usize].local == addr)
    }

    fn add_udp(&mut self, mut socket: Socket, is_connected: bool) -> u32 {
        socket.inbox = Some(Inbox {
            waiting: VecDeque::new(),
            bytes: 0,
            most_bytes: self.chance.spread(2_048, 256 << 10) as usize,
            leaving_bytes: 0,
            most_leaving_bytes: self.chance.spread(2_048, 256 << 10) as usize,
            is_connected,
        });
        let key = self.add_socket(socket);
        self.post.open.push(key);
        key
    }

    /// A host receives a datagram; what there is no room for in the buffer is lost.
    fn receive_from(&mut self, key: u32, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let has_news = self.socket(key).is_readable();
        if has_news && self.chance.strikes(Fault::Interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if has_news && self.chance.strikes(Fault::BlockedRead) {
            self.rearm(key);
            self.list(key);
            return Err(ErrorKind::WouldBlock.into());
        }
        let socket = self.socket(key);
        if let Some(kind) = socket.error.take() {
            return Err(kind.into());
        }
        let Some((from, bytes)) = socket.inbox.as_mut().and_then(|inbox| inbox.waiting.pop_front())
        else {
            self.rearm(key);
            return Err(ErrorKind::WouldBlock.into());
        };
        if let Some(inbox) = &mut socket.inbox {
            inbox.bytes -= cost(&bytes);
        }
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.post.counts.received += 1;
        Ok((count, from))
    }

    /// A host sends a datagram: the network takes it, and may lose or double it.
    fn send_to(&mut self, key: u32, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        if self.chance.strikes(Fault::Interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let is_blocked = self.chance.strikes(Fault::BlockedWrite);
        let socket = self.socket(key);
        if let Some(kind) = socket.error.take() {
            return Err(kind.into());
        }
        if bytes.len() > MOST_BYTES {
            return Err(io::Error::from_raw_os_error(TOO_LONG));
        }
        let (from, owner, remote) = (socket.local, socket.owner, socket.remote);
        let Some(inbox) = &mut socket.inbox else { return Err(ErrorKind::NotConnected.into()) };
        if is_blocked || inbox.leaving_bytes >= inbox.most_leaving_bytes {
            socket.wants_room = true;
            self.rearm(key);
            if is_blocked {
                self.arrange(self.now + MILLI / 10, Happening::Left(key, 0));
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        inbox.leaving_bytes += cost(bytes);
        let to = to.unwrap_or(remote);
        self.trace.mix(bytes);
        self.post.counts.sent += 1;
        let at = self.now + self.chance.spread(MICRO, MILLI);
        self.arrange(at, Happening::Left(key, cost(bytes) as u32));
        if self.chance.strikes(Fault::DatagramLost) {
            self.post.counts.lost += 1;
            return Ok(bytes.len());
        }
        let is_doubled = self.chance.strikes(Fault::DatagramDoubled);
        self.post.counts.doubled += u64::from(is_doubled);
        for _ in 0..1 + u32::from(is_doubled) {
            let flying = Flying { source: key, from, to, bytes: bytes.to_vec() };
            self.fly(owner, flying);
        }
        Ok(bytes.len())
    }

    fn fly(&mut self, sender: Owner, flying: Flying) {
        let receiver = self.udp_at(flying.to).map(|key| self.sockets[key as usize].owner);
        let receiver = receiver.unwrap_or(Owner::Nobody);
        let mut at = self.arrival(sender, receiver, flying.bytes.len());
        if self.chance.strikes(Fault::DatagramLate) {
            at += self.chance.spread(MICRO, 50 * MILLI);
        }
        let number = match self.post.free.pop() {
            Some(number) => number,
            None => {
                self.post.flying.push(None);
                self.post.flying.len() as u32 - 1
            }
        };
        self.post.flying[number as usize] = Some(flying);
        self.arrange(at, Happening::Datagram(number));
    }

    /// A datagram has left its machine.
    pub(super) fn leave(&mut self, key: u32, bytes: u32) {
        let socket = self.socket(key);
        let Some(inbox) = &mut socket.inbox else { return };
        inbox.leaving_bytes -= bytes as usize;
        if inbox.is_writable() {
            // Told each time, as Linux does for datagrams (`sock_def_write_space`).
            socket.wants_room = false;
            self.news(key);
        }
    }

    /// A datagram is there.
    pub(super) fn deliver(&mut self, number: u32) {
        let Some(Flying { source, from, to, bytes }) = self.post.flying[number as usize].take()
        else {
            return;
        };
        self.post.free.push(number);
        let Some(key) = self.udp_at(to).filter(|&key| self.takes_from(key, from)) else {
            self.post.counts.unclaimed += 1;
            return self.answer_unreachable(source, to);
        };
        let Some(inbox) = &mut self.socket(key).inbox else { return };
        // One that finds room is taken whole, as the kernel does it.
        if inbox.bytes >= inbox.most_bytes {
            self.post.counts.overflowed += 1;
            return;
        }
        let length = bytes.len() as u32;
        inbox.bytes += cost(&bytes);
        inbox.waiting.push_back((from, bytes));
        self.note(None, Note::Net { socket: key, what: Net::Arrives, bytes: length });
        self.news(key);
    }

    /// A connected socket hears nobody but its peer.
    fn takes_from(&self, key: u32, from: SocketAddr) -> bool {
        let socket = &self.sockets[key as usize];
        let is_connected = socket.inbox.as_ref().is_some_and(|inbox| inbox.is_connected);
        !is_connected || socket.remote == from
    }

    /// Whoever sent it hears that nobody is there, if it is connected.
    fn answer_unreachable(&mut self, source: u32, to: SocketAddr) {
        let socket = self.socket(source);
        let is_connected = socket.inbox.as_ref().is_some_and(|inbox| inbox.is_connected);
        if is_connected && socket.remote == to {
            socket.error = Some(ErrorKind::ConnectionRefused);
            self.note(None, Note::Net { socket: source, what: Net::Refused, bytes: 0 });
            self.news(source);
        }
    }

    /// A UDP socket is closed.
    pub(super) fn close_inbox(&mut self, key: u32) {
        if let Some(inbox) = self.socket(key).inbox.take() {
            self.post.counts.unread += inbox.waiting.len() as u64;
            self.post.open.retain(|&open| open != key);
        }
    }
}

/// What a datagram takes of a buffer: the kernel counts what it spends to keep one.
fn cost(bytes: &[u8]) -> usize {
    bytes.len() + 256
}
