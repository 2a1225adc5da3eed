//! Peers of datagrams: machines with a socket that answers what it is sent.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;

use super::event::SimEvent;
use super::script::Script;
use super::socket::{Arrived, Owner, Socket, SocketStage};
use super::world::World;
use crate::sys::Route;

/// What a peer sends for a datagram that it was sent.
type Answer = dyn FnMut(SocketAddr, &[u8]) -> Vec<(SocketAddr, Vec<u8>)>;

/// The socket of a peer of datagrams, and what is to leave it.
pub(super) struct Responder {
    /// `None` while it runs.
    answer: Option<Box<Answer>>,
    /// What the socket has had no room for.
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    received: Vec<(SocketAddr, Vec<u8>)>,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("received", &self.received.len()).finish_non_exhaustive()
    }
}

impl World {
    /// Adds a machine with a UDP socket.
    pub(crate) fn add_datagram_peer(&mut self, answer: Box<Answer>) -> (usize, SocketAddr) {
        let index = self.new_peer(Script::new(), false);
        let addr = self.peers[index].addr;
        let owner = Owner::Peer(index as u32);
        let socket = Socket::new(owner, addr, addr, SocketStage::Datagrams);
        self.peers[index].socket = Some(self.add_udp(socket, false, false));
        self.peers[index].responder =
            Some(Responder { answer: Some(answer), outbox: VecDeque::new(), received: Vec::new() });
        (index, addr)
    }

    /// Has a peer of datagrams send one at a time.
    pub(crate) fn send_as_datagram_peer(&mut self, peer: usize, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(responder) = &mut self.peers[peer].responder {
            responder.outbox.push_back((to, bytes));
            self.arrange(self.now, SimEvent::Peer(peer as u32));
        }
    }

    /// What a peer of datagrams has received, in the order of arrival.
    pub(crate) fn datagrams_of(&self, peer: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        self.peers[peer].responder.as_ref().map_or_else(Vec::new, |it| it.received.clone())
    }

    /// A peer of datagrams answers all that has come, and sends what there is room for.
    pub(super) fn respond(&mut self, peer: usize, socket: u32) {
        while let Some(Arrived { from, bytes, .. }) = self.take_arrived(socket) {
            let Some(responder) = &mut self.peers[peer].responder else { return };
            let Some(mut answer) = responder.answer.take() else { return };
            responder.outbox.extend(answer(from, &bytes));
            responder.answer = Some(answer);
            responder.received.push((from, bytes));
        }
        loop {
            let Some(responder) = &mut self.peers[peer].responder else { return };
            let Some((to, bytes)) = responder.outbox.pop_front() else { return };
            match self.send_to(socket, &bytes, Route { to: Some(to), local: None }) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Some(responder) = &mut self.peers[peer].responder {
                        responder.outbox.push_front((to, bytes));
                    }
                    return;
                }
                // Its machine may lose one too, such as one that is too long.
                Ok(_) | Err(_) => continue,
            }
            if let Some(responder) = &mut self.peers[peer].responder {
                responder.outbox.push_front((to, bytes));
            }
        }
    }
}
