//! Datagram sockets, and a network that loses, doubles and delays what they send.
//!
//! What a socket sends fills its send buffer until it has left the machine. It arrives after the
//! way of its machines, each datagram at a time of its own, so that one may overtake another. An
//! inbox that is full loses what comes, as does an address without a socket; a connected sender
//! hears of the latter.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use super::chance::Fault;
use super::event::{MICRO, MILLI, SimEvent};
use super::post::{Datagrams, Flying};
use super::socket::{Arrived, Inbox, Owner, Socket};
use super::trace::{Net, Note};
use super::world::World;
use crate::sys::os::errors::TOO_LONG;
use crate::sys::{Ends, Route};

/// The longest datagram over IPv4.
const MAX_BYTES: usize = 65_507;

impl World {
    pub(crate) fn datagrams(&self) -> Datagrams {
        self.post.counts
    }

    pub(super) fn udp_at(&self, addr: SocketAddr) -> Option<u32> {
        self.post.open.iter().copied().find(|&key| {
            let socket = &self.sockets[key as usize];
            socket.local == addr || (socket.local.port() == addr.port() && socket.owns(addr.ip()))
        })
    }

    pub(super) fn add_udp(
        &mut self,
        mut socket: Socket,
        is_connected: bool,
        is_wildcard: bool,
    ) -> u32 {
        socket.inbox = Some(Inbox {
            waiting: VecDeque::new(),
            bytes: 0,
            most_bytes: self.chance.spread(2_048, 256 << 10) as usize,
            leaving_bytes: 0,
            most_leaving_bytes: self.chance.spread(2_048, 256 << 10) as usize,
            is_connected,
            is_wildcard,
        });
        let key = self.add_socket(socket);
        self.post.open.push(key);
        key
    }

    /// A host receives a datagram; what there is no room for in the buffer is lost.
    pub(super) fn receive_from(
        &mut self,
        key: u32,
        buffer: &mut [u8],
        ends: &mut Ends,
    ) -> io::Result<usize> {
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
        let Some(Arrived { from, to, bytes }) = self.take_arrived(key) else {
            self.rearm(key);
            return Err(ErrorKind::WouldBlock.into());
        };
        *ends = Ends { peer: from, local: self.socket(key).owns(to.ip()).then_some(to) };
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// The oldest datagram of an inbox.
    pub(super) fn take_arrived(&mut self, key: u32) -> Option<Arrived> {
        let inbox = self.socket(key).inbox.as_mut()?;
        let arrived = inbox.waiting.pop_front()?;
        inbox.bytes -= cost(&arrived.bytes);
        self.post.counts.received += 1;
        Some(arrived)
    }

    /// A socket sends a datagram: the network takes it, and may lose or double it.
    pub(super) fn send_to(&mut self, key: u32, bytes: &[u8], route: Route) -> io::Result<usize> {
        if self.chance.strikes(Fault::Interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let is_blocked = self.chance.strikes(Fault::BlockedWrite);
        let socket = self.socket(key);
        if let Some(kind) = socket.error.take() {
            return Err(kind.into());
        }
        if bytes.len() > MAX_BYTES {
            return Err(io::Error::from_raw_os_error(TOO_LONG));
        }
        let (mut from, owner, remote) = (socket.local, socket.owner, socket.remote);
        if let Some(local) = route.local.filter(|_| socket.is_wildcard()) {
            if !socket.owns(local.ip()) {
                return Err(ErrorKind::InvalidInput.into());
            }
            from.set_ip(local.ip());
        }
        let Some(inbox) = &mut socket.inbox else { return Err(ErrorKind::NotConnected.into()) };
        if is_blocked || inbox.leaving_bytes >= inbox.most_leaving_bytes {
            socket.wants_room = true;
            self.rearm(key);
            if is_blocked {
                self.arrange(self.now + MILLI / 10, SimEvent::Left(key, 0));
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        inbox.leaving_bytes += cost(bytes);
        let to = route.to.unwrap_or(remote);
        self.trace.mix(bytes);
        self.post.counts.sent += 1;
        let at = self.now + self.chance.spread(MICRO, MILLI);
        self.arrange(at, SimEvent::Left(key, cost(bytes) as u32));
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
        self.arrange(at, SimEvent::Datagram(number));
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
        inbox.waiting.push_back(Arrived { from, to, bytes });
        self.note(None, Note::Net { socket: key, what: Net::Arrives, bytes: length });
        self.news(key);
    }

    /// A connected socket takes datagrams of its peer only.
    fn takes_from(&self, key: u32, from: SocketAddr) -> bool {
        let socket = &self.sockets[key as usize];
        let is_connected = socket.inbox.as_ref().is_some_and(|inbox| inbox.is_connected);
        !is_connected || socket.remote == from
    }

    /// A connected sender is refused, because no socket has the address.
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

impl Socket {
    /// Whether it is a UDP socket that is bound to all addresses of its host.
    fn is_wildcard(&self) -> bool {
        self.inbox.as_ref().is_some_and(|inbox| inbox.is_wildcard)
    }

    /// Whether this is an address of its host, and it is bound to all of them.
    fn owns(&self, ip: IpAddr) -> bool {
        match self.owner {
            Owner::Host(host) => self.is_wildcard() && World::ips_of(host as usize).contains(&ip),
            _ => false,
        }
    }
}

/// What a datagram takes of a buffer: the kernel counts what it spends to keep one.
fn cost(bytes: &[u8]) -> usize {
    bytes.len() + 256
}
