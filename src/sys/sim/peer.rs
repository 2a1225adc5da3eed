//! Scripted peers: the other end of a connection, step by step.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::event::SimEvent;
use super::link::Link;
use super::script::{Action, Peer, PeerEnd, React, Reaction, Script};
use super::socket::{Owner, SocketStage};
use super::trace::{Net, Note};
use super::world::World;

/// What one look at a step came to.
enum Progress {
    Done,
    Waits,
    /// Other steps have come before it.
    Later,
}

/// The address of a peer's machine.
fn ip_of(peer: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + peer as u32))
}

impl World {
    pub(super) fn new_peer(&mut self, script: Script, is_listening: bool) -> usize {
        let index = self.peers.len();
        let ip = ip_of(index);
        let addr = SocketAddr::new(ip, 50_000);
        let link = Link::draw(&mut self.chance);
        let (steps, script) = match is_listening {
            true => (VecDeque::new(), Some(script)),
            false => (script.steps, None),
        };
        self.peers.push(Peer {
            socket: None,
            steps,
            sent: 0,
            until: None,
            is_reading: true,
            received: Vec::new(),
            done: 0,
            end: PeerEnd::Open,
            link,
            script,
            addr,
            responder: None,
        });
        index
    }

    /// Adds a peer that connects at a time.
    pub(crate) fn add_peer(&mut self, at: u64, to: SocketAddr, script: Script) -> usize {
        let index = self.new_peer(script, false);
        self.peers[index].until = Some(at);
        self.peers[index].addr = to;
        self.arrange(at, SimEvent::Peer(index as u32));
        index
    }

    /// Adds a machine that listens, whose every connection follows a script.
    pub(crate) fn add_listening_peer(&mut self, backlog: usize, script: Script) -> SocketAddr {
        let index = self.new_peer(script, true);
        let addr = self.peers[index].addr;
        self.peers[index].socket = self.listen(Owner::Peer(index as u32), addr, backlog);
        addr
    }

    /// A connection has come in for a listening peer.
    pub(super) fn peer_accepts(&mut self, listener: usize, socket: u32) {
        let Some(child) = self.accept(socket) else { return };
        let Some(script) = self.peers[listener].script.clone() else { return };
        let index = self.new_peer(script, false);
        self.peers[index].socket = Some(child);
        self.sockets[child as usize].owner = Owner::Peer(index as u32);
        self.arrange(self.now, SimEvent::Peer(index as u32));
    }

    /// The socket of a peer.
    pub(crate) fn socket_of(&self, peer: usize) -> Option<u32> {
        self.peers[peer].socket
    }

    /// Whether a peer's script is at its end.
    pub(crate) fn is_done(&self, peer: usize) -> bool {
        self.peers[peer].steps.is_empty() || self.peers[peer].end == PeerEnd::Broken
    }

    /// Where a peer is in its script.
    pub(crate) fn explain_peer(&self, index: usize) -> String {
        let peer = &self.peers[index];
        let step = match peer.steps.front() {
            Some(Action::Send(bytes)) => format!("sends, {} of {} bytes", peer.sent, bytes.len()),
            Some(Action::Dribble(bytes, _)) => {
                format!("dribbles, {} of {} bytes", peer.sent, bytes.len())
            }
            Some(step) => format!("{step:?}"),
            None => "is done".to_owned(),
        };
        let socket = peer.socket.map_or_else(|| "none".to_owned(), |socket| format!("s{socket}"));
        format!("socket {socket}, {} bytes received, {step}", peer.received.len())
    }

    /// A peer looks what it can do now.
    pub(super) fn go_on(&mut self, peer: usize) {
        if self.peers[peer].script.is_some() || self.peers[peer].end == PeerEnd::Closed {
            return;
        }
        let Some(socket) = self.peers[peer].socket else { return self.begin(peer) };
        if self.peers[peer].responder.is_some() {
            return self.respond(peer, socket);
        }
        if self.sockets[socket as usize].stage == SocketStage::Connecting {
            return;
        }
        self.read_as_peer(peer, socket);
        while let Some(action) = self.peers[peer].steps.front().cloned() {
            if self.peers[peer].end == PeerEnd::Broken {
                return self.shut_peer(peer, socket, false);
            }
            match self.perform(peer, socket, &action) {
                Progress::Waits => return,
                Progress::Later => {}
                Progress::Done => {
                    self.peers[peer].steps.pop_front();
                    self.peers[peer].sent = 0;
                    self.peers[peer].until = None;
                }
            }
            if self.peers[peer].end == PeerEnd::Closed {
                return;
            }
        }
        if matches!(self.peers[peer].end, PeerEnd::Finished | PeerEnd::Broken) {
            self.shut_peer(peer, socket, false);
        }
    }

    fn begin(&mut self, peer: usize) {
        if self.peers[peer].until.is_some_and(|until| until > self.now) {
            return;
        }
        self.peers[peer].until = None;
        let ip = ip_of(peer);
        let to = self.peers[peer].addr;
        let from = SocketAddr::new(ip, 40_000);
        self.peers[peer].socket = Some(self.connect(Owner::Peer(peer as u32), from, to));
    }

    fn read_as_peer(&mut self, peer: usize, socket: u32) {
        let mut buffer = [0; 4096];
        let is_open = |peer: &Peer| matches!(peer.end, PeerEnd::Open);
        while self.peers[peer].is_reading && is_open(&self.peers[peer]) {
            match self.read(socket, &mut buffer) {
                Ok(0) => self.peers[peer].end = PeerEnd::Finished,
                Ok(count) => self.peers[peer].received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.peers[peer].end = PeerEnd::Broken,
            }
        }
        // One that has seen FIN, or does not read, still learns that all is over.
        if self.sockets[socket as usize].is_reset && self.peers[peer].end != PeerEnd::Closed {
            self.peers[peer].end = PeerEnd::Broken;
        }
    }

    fn perform(&mut self, peer: usize, socket: u32, action: &Action) -> Progress {
        match action {
            Action::Send(bytes) => self.send_as_peer(peer, socket, bytes),
            Action::Dribble(bytes, pause) => {
                if self.pauses(peer, *pause) {
                    return Progress::Waits;
                }
                let sent = self.peers[peer].sent;
                let byte = &bytes[sent..bytes.len().min(sent + 1)];
                if let Ok(count) = self.write(socket, byte) {
                    self.peers[peer].sent += count;
                    self.peers[peer].until = None;
                }
                match self.peers[peer].sent == bytes.len() {
                    true => Progress::Done,
                    false => {
                        self.pauses(peer, *pause);
                        Progress::Waits
                    }
                }
            }
            Action::Wait(time) => match self.pauses(peer, *time) {
                true => Progress::Waits,
                false => Progress::Done,
            },
            Action::Read(total) => {
                let peer = &self.peers[peer];
                let is_done = peer.received.len() >= *total || peer.end != PeerEnd::Open;
                if is_done { Progress::Done } else { Progress::Waits }
            }
            Action::ReadEnd => match self.peers[peer].end {
                PeerEnd::Open => Progress::Waits,
                _ => Progress::Done,
            },
            Action::React(react) => self.react(peer, react),
            _ => self.perform_at_once(peer, socket, action),
        }
    }

    /// Has a peer look at what it was sent.
    fn react(&mut self, peer: usize, react: &React) -> Progress {
        let peer = &mut self.peers[peer];
        let left = peer.received.len() - peer.done;
        let reaction = react.look(&peer.received[peer.done..]);
        if let Reaction::Done(count) | Reaction::Then(count, _) = reaction {
            assert!(count <= left, "a reaction is done with {count} bytes, and {left} are there");
            peer.done += count;
        }
        match reaction {
            Reaction::Wait if peer.end == PeerEnd::Open => Progress::Waits,
            Reaction::Wait | Reaction::Done(_) => Progress::Done,
            Reaction::Then(count, script) => {
                let is_something = count > 0 || !script.is_empty();
                assert!(is_something, "a reaction takes no byte and no step: it would never end");
                for step in script.steps.into_iter().rev() {
                    peer.steps.push_front(step);
                }
                Progress::Later
            }
        }
    }

    fn perform_at_once(&mut self, peer: usize, socket: u32, action: &Action) -> Progress {
        match action {
            Action::StopReading => self.peers[peer].is_reading = false,
            Action::ResumeReading => {
                self.peers[peer].is_reading = true;
                self.read_as_peer(peer, socket);
            }
            Action::Finish => {
                self.note(None, Note::Net { socket, what: Net::PeerEnds, bytes: 0 });
                // One that is broken has nothing to finish.
                let _ = self.finish(socket);
            }
            Action::Reset => self.shut_peer(peer, socket, true),
            _ => self.shut_peer(peer, socket, false),
        }
        Progress::Done
    }

    fn send_as_peer(&mut self, peer: usize, socket: u32, bytes: &[u8]) -> Progress {
        while self.peers[peer].sent < bytes.len() {
            match self.write(socket, &bytes[self.peers[peer].sent..]) {
                Ok(count) => {
                    self.note(
                        None,
                        Note::Net { socket, what: Net::PeerSends, bytes: count as u32 },
                    );
                    self.peers[peer].sent += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waits,
                Err(_) => {
                    self.peers[peer].end = PeerEnd::Broken;
                    return Progress::Waits;
                }
            }
        }
        Progress::Done
    }

    /// Whether a pause of the current step is still on; begins it if it has not begun.
    fn pauses(&mut self, peer: usize, time: Duration) -> bool {
        let now = self.now;
        match self.peers[peer].until {
            Some(until) => until > now,
            None => {
                let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let until = now.saturating_add(nanos.max(1));
                self.peers[peer].until = Some(until);
                self.arrange(until, SimEvent::Peer(peer as u32));
                true
            }
        }
    }

    fn shut_peer(&mut self, peer: usize, socket: u32, must_reset: bool) {
        if self.sockets[socket as usize].owner == Owner::Nobody {
            return;
        }
        if must_reset {
            self.reset_on_close(socket);
        }
        self.close(socket);
        if self.peers[peer].end == PeerEnd::Open {
            self.peers[peer].end = PeerEnd::Closed;
        }
    }
}
