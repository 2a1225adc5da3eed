//! What a socket is ready for, and how its host's poll learns of it.

use super::chance::Fault;
use super::event::{MICRO, MILLI, SimEvent};
use super::socket::{
    BROKEN, HUNG_UP, Inbox, Owner, READABLE, Registration, Socket, SocketStage, WRITABLE,
};
use super::world::World;

impl World {
    /// What the poll can say of a socket.
    pub(super) fn readiness(&self, socket: u32) -> u8 {
        let socket = &self.sockets[socket as usize];
        let mut bits = if socket.is_readable() { READABLE } else { 0 };
        if matches!(socket.stage, SocketStage::Listening | SocketStage::Connecting) {
            return bits;
        }
        let is_over = socket.is_reset || socket.error.is_some();
        let has_room = socket.inbox.as_ref().is_some_and(Inbox::is_writable);
        if has_room || is_over || socket.fin_sent || self.has_room(socket) {
            bits |= WRITABLE;
        }
        if is_over || socket.has_fin {
            bits |= HUNG_UP;
        }
        if socket.error.is_some() {
            bits |= BROKEN;
        }
        bits
    }

    /// Whether the poll reports room to a writer: a third of the window is free, as in Linux.
    pub(super) fn has_room(&self, socket: &Socket) -> bool {
        let Some(other) = socket.other else { return false };
        let other = &self.sockets[other as usize];
        other.room() * 3 >= other.window && other.room() > 0
    }

    /// Whether a write would take something.
    pub(crate) fn is_writable(&self, socket: u32) -> bool {
        self.readiness(socket) & WRITABLE != 0
    }

    /// Registers a socket with the poll of its host.
    pub(super) fn register(&mut self, socket: u32, token: usize, interest: u8) {
        let Owner::Host(host) = self.socket(socket).owner else { return };
        let armed = interest | HUNG_UP | BROKEN;
        let is_let_go = false;
        self.socket(socket).registration =
            Some(Registration { token, is_listed: false, interest, armed, is_let_go });
        self.hosts[host as usize].registered.push(socket);
        if self.readiness(socket) != 0 {
            self.list(socket);
        }
    }

    /// Changes what was asked for; `false` if the emulation has let go of the socket.
    pub(super) fn change_interest(&mut self, socket: u32, token: usize, interest: u8) -> bool {
        let Some(registration) = &mut self.socket(socket).registration else { return false };
        if registration.is_let_go {
            return false;
        }
        registration.token = token;
        registration.interest = interest;
        registration.armed = interest | HUNG_UP | BROKEN;
        if self.readiness(socket) & (interest | HUNG_UP) != 0 {
            self.list(socket);
        }
        true
    }

    /// A call found the socket not ready: where edges are emulated the poll reports it again.
    pub(super) fn rearm(&mut self, socket: u32) {
        if let Some(registration) = &mut self.socket(socket).registration {
            registration.armed = registration.interest | HUNG_UP | BROKEN;
        }
    }

    /// Something has changed at a socket: its poll reports that, or its script goes on.
    pub(super) fn news(&mut self, socket: u32) {
        match self.sockets[socket as usize].owner {
            Owner::Host(_) => self.list(socket),
            Owner::Peer(peer) => self.go_on(peer as usize),
            Owner::Nobody => {}
        }
    }

    /// Puts a socket on the list of its host's poll.
    pub(super) fn list(&mut self, socket: u32) {
        let entry = &self.sockets[socket as usize];
        let (Owner::Host(host), Some(registration)) = (entry.owner, entry.registration) else {
            return;
        };
        if registration.is_listed {
            return;
        }
        let mut from = self.now;
        if self.chance.strikes(Fault::DelayedEvent) {
            from += self.chance.spread(MICRO, 20 * MILLI);
            self.arrange(from, SimEvent::Held);
        }
        if let Some(registration) = &mut self.sockets[socket as usize].registration {
            registration.is_listed = true;
        }
        self.hosts[host as usize].listed.push_back((socket, from));
    }

    /// A registered socket was closed.
    pub(super) fn forget_token(&mut self, host: usize, socket: u32, token: usize) {
        let host = &mut self.hosts[host];
        if let Some(place) = host.registered.iter().position(|&entry| entry == socket) {
            host.registered.swap_remove(place);
        }
        if host.stale.len() == 16 {
            host.stale.remove(0);
        }
        host.stale.push(token);
    }

    /// The open socket that was registered with this token last.
    pub(crate) fn registered(&self, host: usize, token: usize) -> Option<u32> {
        let sockets = self.hosts[host].registered.iter().rev();
        let is_it = |registration: Registration| registration.token == token;
        sockets.copied().find(|&it| self.sockets[it as usize].registration.is_some_and(is_it))
    }

    /// The socket that a host has accepted last, if it is not registered yet.
    pub(crate) fn accepted(&self, host: usize) -> Option<u32> {
        let socket = self.hosts[host].accepted?;
        let is_new = |socket: &Socket| socket.registration.is_none();
        is_new(&self.sockets[socket as usize]).then_some(socket)
    }

    /// Whether the poll of a host has this socket on its list still.
    pub(crate) fn is_listed(&self, socket: u32) -> bool {
        let socket = &self.sockets[socket as usize];
        socket.registration.is_some_and(|registration| registration.is_listed)
    }
}
