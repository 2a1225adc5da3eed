//! How connections come to be: listening, the SYN and what becomes of it, accepting.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::chance::Fault;
use super::event::{MILLI, SECOND, SimEvent};
use super::replay::{Packet, What};
use super::socket::{Owner, Socket, SocketStage};
use super::trace::{Call, Net, Note, Outcome};
use super::world::World;

/// How often the system sends a SYN before it gives up: after 1, 3, 7, 15 and 31 s.
const SYN_TRIES: u8 = 6;

impl World {
    /// Binds and listens.
    pub(super) fn listen(&mut self, owner: Owner, addr: SocketAddr, backlog: usize) -> Option<u32> {
        let mut addr = addr;
        if addr.port() == 0 {
            addr.set_port(30_000);
            while self.is_taken(addr) {
                addr.set_port(addr.port() + 1);
            }
        } else if self.is_taken(addr) {
            return None;
        }
        let mut socket = Socket::new(owner, addr, addr, SocketStage::Listening);
        socket.backlog = backlog.max(1);
        let key = self.add_socket(socket);
        self.tell(key, Call::Bind(addr), Outcome::Is(key));
        self.enter_state(key, "LISTEN");
        self.record_queue(key);
        Some(key)
    }

    fn is_taken(&self, addr: SocketAddr) -> bool {
        let mut listeners = self.sockets.iter();
        listeners.any(|socket| socket.stage == SocketStage::Listening && socket.local == addr)
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, owner: Owner, local: SocketAddr, addr: SocketAddr) -> u32 {
        let key = self.add_socket(Socket::new(owner, local, addr, SocketStage::Connecting));
        self.tell(key, Call::Connect(addr), Outcome::Is(key));
        let arrival = self.arrival(owner, Owner::Nobody, 0);
        self.record_packet(Packet {
            from: key,
            to: None,
            kind: "SYN",
            bytes: 0,
            arrives: Some(arrival),
        });
        self.enter_state(key, "SYN_SENT");
        if self.chance.strikes(Fault::ConnectRefused) {
            self.hurt(key);
            self.arrange(arrival, SimEvent::Refused(key));
        } else if self.chance.strikes(Fault::ConnectLost) {
            self.hurt(key);
            self.arrange(self.now + 127 * SECOND, SimEvent::TimedOut(key));
        } else if self.chance.strikes(Fault::ConnectSlow) {
            let late = self.chance.spread(MILLI, 30 * SECOND);
            self.arrange(arrival + late, SimEvent::Syn(key, 1));
        } else {
            self.arrange(arrival, SimEvent::Syn(key, 1));
        }
        key
    }

    /// A SYN reaches its address.
    pub(super) fn knock(&mut self, socket: u32, tries: u8) {
        if self.socket(socket).stage != SocketStage::Connecting {
            return; // closed meanwhile
        }
        let addr = self.socket(socket).remote;
        let listener = self.sockets.iter().position(|entry| {
            entry.stage == SocketStage::Listening
                && entry.local.port() == addr.port()
                && (entry.local.ip() == addr.ip() || entry.local.ip().is_unspecified())
        });
        if tries > 1 {
            let (kind, arrives) = ("SYN", Some(self.now));
            self.record_packet(Packet { from: socket, to: None, kind, bytes: 0, arrives });
        }
        let Some(listener) = listener.map(|listener| listener as u32) else {
            let at = self.arrival(Owner::Nobody, self.sockets[socket as usize].owner, 0);
            return self.arrange(at, SimEvent::Refused(socket));
        };
        if self.socket(listener).waiting.len() >= self.socket(listener).backlog {
            let wait = SECOND << (tries - 1);
            self.record_drop(socket, listener, tries);
            return match tries {
                SYN_TRIES => self.arrange(self.now + wait, SimEvent::TimedOut(socket)),
                _ => self.arrange(self.now + wait, SimEvent::Syn(socket, tries + 1)),
            };
        }
        let from = self.socket(socket).local;
        let owner = self.socket(listener).owner;
        let mut child = Socket::new(owner, addr, from, SocketStage::Up);
        child.other = Some(socket);
        let child = self.add_socket(child);
        self.socket(socket).other = Some(child);
        let client = self.sockets[socket as usize].owner;
        let at = self.arrival(owner, client, 0);
        self.socket(socket).last_arrival = at;
        self.arrange(at, SimEvent::Established(socket));
        // The listener learns of it with the answer to its answer.
        let back = at + self.arrival(client, owner, 0) - self.now;
        let (kind, bytes) = ("SYN, ACK", 0);
        self.record_packet(Packet {
            from: child,
            to: Some(socket),
            kind,
            bytes,
            arrives: Some(at),
        });
        self.enter_state(child, "SYN_RECEIVED");
        self.socket(child).last_arrival = back;
        self.arrange(back, SimEvent::Acknowledged(listener, child));
    }

    /// The queue of a listener is full: a SYN is dropped.
    fn record_drop(&mut self, socket: u32, listener: u32, tries: u8) {
        let backlog = self.sockets[listener as usize].backlog;
        self.record(None, || What::Network {
            text: format!(
                "the accept queue of s{listener} is full ({backlog}): SYN {tries} of s{socket} is \
                 dropped"
            ),
            socket,
        });
    }

    /// A handshake is complete: the connection queues to be accepted.
    pub(super) fn queue_child(&mut self, listener: u32, child: u32) {
        if self.socket(listener).stage != SocketStage::Listening {
            self.reset_on_close(child);
            return self.close(child);
        }
        self.socket(listener).waiting.push_back(child);
        self.record(None, || What::Network {
            text: format!("s{child} is complete and queues at s{listener}"),
            socket: child,
        });
        self.enter_state(child, "ESTABLISHED");
        self.record_queue(listener);
        self.list(listener);
        if let Owner::Peer(peer) = self.socket(listener).owner {
            self.peer_accepts(peer as usize, listener);
        }
    }

    /// A fault has broken a connection, for both its ends.
    pub(super) fn hurt(&mut self, socket: u32) {
        let other = self.socket(socket).other;
        for end in [Some(socket), other].into_iter().flatten() {
            self.socket(end).was_hurt = true;
        }
    }

    /// An accept fails: it may be the end of the connection that is first in the queue.
    pub(super) fn hurt_first(&mut self, listener: u32) {
        if let Some(&child) = self.socket(listener).waiting.front() {
            self.hurt(child);
        }
    }

    pub(super) fn establish(&mut self, socket: u32) {
        if self.socket(socket).stage != SocketStage::Connecting {
            return;
        }
        self.socket(socket).stage = SocketStage::Up;
        self.note(None, Note::Net { socket, what: Net::Up, bytes: 0 });
        self.enter_state(socket, "ESTABLISHED");
        self.news(socket);
    }

    pub(super) fn fail_connect(&mut self, socket: u32, kind: ErrorKind) {
        if self.socket(socket).stage != SocketStage::Connecting {
            return;
        }
        self.socket(socket).stage = SocketStage::Over;
        self.socket(socket).error = Some(kind);
        self.note(None, Note::Net { socket, what: Net::Refused, bytes: 0 });
        self.enter_state(socket, "CLOSED");
        self.news(socket);
    }

    /// Takes a connection off a listener's queue.
    pub(super) fn accept(&mut self, listener: u32) -> Option<u32> {
        let child = self.socket(listener).waiting.pop_front();
        self.record_queue(listener);
        if child.is_none() {
            self.rearm(listener);
        }
        child
    }
}
