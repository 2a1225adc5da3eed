//! Sockets and the TCP between them, as far as a program can tell.
//!
//! Segments of one direction arrive in order; what is on the way and what has arrived and is not
//! read share one window. A close with unread input, and input for a closed socket, are answered
//! with RST, as Linux does; what had arrived before an RST can still be read.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::chance::Fault;
use super::datagram::Inbox;
use super::trace::{Call, Net, Note, Outcome};
use super::world::{Happening, MILLI, World};

/// What a socket can be reported as.
const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const HUNG_UP: u8 = 4;
const BROKEN: u8 = 8;

/// One end of a connection, or a listener.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) owner: Owner,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// The other end, once there is one.
    pub(super) other: Option<u32>,
    pub(crate) stage: SocketStage,
    /// Arrived and not read.
    pub(super) received: VecDeque<u8>,
    /// On the way here.
    arriving: VecDeque<(u64, Segment)>,
    arriving_bytes: usize,
    pub(super) last_arrival: u64,
    /// Most bytes on the way and not read.
    window: usize,
    pub(super) has_fin: bool,
    pub(super) is_reset: bool,
    /// To be told once.
    pub(super) error: Option<ErrorKind>,
    fin_sent: bool,
    resets_on_close: bool,
    /// A write found no room.
    pub(crate) wants_room: bool,
    pub(super) registration: Option<Registration>,
    /// Of a listener: connections that are not accepted yet, and most of them.
    pub(super) waiting: VecDeque<u32>,
    pub(super) backlog: usize,
    /// Of a UDP socket.
    pub(super) inbox: Option<Inbox>,
    /// Read by a host, and not looked at by whoever watches it.
    pub(crate) tap: Vec<u8>,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    /// When bytes last moved, by the owner's clock.
    pub(crate) read_at: u64,
    pub(crate) written_at: u64,
    /// Arrived and not read when it was closed.
    pub(crate) unread_at_close: usize,
    /// A read said `WouldBlock` although there is something, and none has been made since.
    pub(crate) has_lied: bool,
    /// A fault has broken it.
    pub(crate) was_hurt: bool,
}

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Host(u32),
    Peer(u32),
    /// It is closed.
    Nobody,
}

/// Where a socket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketStage {
    Listening,
    Connecting,
    /// It is no stream.
    Datagrams,
    Up,
    /// The connect failed, or the owner has closed it.
    Over,
}

#[derive(Debug)]
enum Segment {
    Data(Vec<u8>),
    Fin,
    Rst,
}

/// How a socket is registered with its host's poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) token: usize,
    /// On the list of what the poll has to look at.
    pub(super) is_listed: bool,
    /// What was asked for.
    pub(super) interest: u8,
    /// What may be reported: where edges are emulated, not what was reported already.
    pub(super) armed: u8,
    /// The emulation watches a broken socket no longer.
    pub(super) is_let_go: bool,
}

impl Socket {
    pub(super) fn new(
        owner: Owner,
        local: SocketAddr,
        remote: SocketAddr,
        stage: SocketStage,
    ) -> Self {
        Self {
            owner,
            local,
            remote,
            other: None,
            stage,
            received: VecDeque::new(),
            arriving: VecDeque::new(),
            arriving_bytes: 0,
            last_arrival: 0,
            window: 0,
            has_fin: false,
            is_reset: false,
            error: None,
            fin_sent: false,
            resets_on_close: false,
            wants_room: false,
            registration: None,
            waiting: VecDeque::new(),
            backlog: 0,
            inbox: None,
            tap: Vec::new(),
            bytes_read: 0,
            bytes_written: 0,
            read_at: 0,
            written_at: 0,
            unread_at_close: 0,
            has_lied: false,
            was_hurt: false,
        }
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.received.len() + self.arriving_bytes)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_reset || self.error.is_some()
    }

    /// Whether a read would find something: bytes, an end or an error.
    pub(crate) fn is_readable(&self) -> bool {
        match self.stage {
            SocketStage::Listening => !self.waiting.is_empty(),
            SocketStage::Connecting => false,
            SocketStage::Datagrams => {
                self.error.is_some() || self.inbox.as_ref().is_some_and(Inbox::is_readable)
            }
            _ => !self.received.is_empty() || self.has_fin || self.is_reset || self.error.is_some(),
        }
    }
}

fn failed(kind: ErrorKind) -> io::Error {
    kind.into()
}

impl World {
    pub(super) fn add_socket(&mut self, mut socket: Socket) -> u32 {
        let is_small = self.chance.strikes(Fault::SmallWindow);
        let least = if is_small { 1 } else { 16 << 10 };
        socket.window = self.chance.spread(least, 256 << 10) as usize;
        self.sockets.push(socket);
        self.sockets.len() as u32 - 1
    }

    pub(super) fn socket(&mut self, socket: u32) -> &mut Socket {
        &mut self.sockets[socket as usize]
    }

    pub(super) fn tell(&mut self, socket: u32, call: Call, result: Outcome) {
        if let Owner::Host(host) = self.sockets[socket as usize].owner {
            self.note(Some(host as usize), Note::Call { socket, call, result });
        }
    }

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

    /// Whether a writer is told that it may go on: a third of the window is free, as in Linux.
    fn has_room(&self, socket: &Socket) -> bool {
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

    /// Something has changed at a socket: its poll or its script is told.
    pub(super) fn news(&mut self, socket: u32) {
        match self.sockets[socket as usize].owner {
            Owner::Host(_) => self.list(socket),
            Owner::Peer(peer) => self.go_on(peer as usize),
            Owner::Nobody => {}
        }
    }

    // Moving bytes.

    fn send_segment(&mut self, from: u32, segment: Segment) {
        let Some(to) = self.socket(from).other else { return };
        let bytes = match &segment {
            Segment::Data(bytes) => bytes.len(),
            _ => 0,
        };
        let (sender, receiver) = (self.socket(from).owner, self.socket(to).owner);
        let mut at = self.arrival(sender, receiver, bytes);
        if matches!(segment, Segment::Fin) && self.chance.strikes(Fault::FinWithData) {
            at = self.now;
        }
        let target = self.socket(to);
        at = at.max(target.last_arrival);
        target.last_arrival = at;
        target.arriving_bytes += bytes;
        target.arriving.push_back((at, segment));
        self.arrange(at, Happening::Arrive(to));
    }

    /// The next segment is there.
    pub(super) fn arrive(&mut self, socket: u32) {
        let now = self.now;
        let target = self.socket(socket);
        if target.arriving.front().is_none_or(|&(at, _)| at > now) {
            return; // lost on the way, with a reset
        }
        let Some((_, segment)) = target.arriving.pop_front() else { return };
        let is_closed = target.stage == SocketStage::Over;
        let (what, count) = match segment {
            Segment::Data(bytes) => {
                target.arriving_bytes -= bytes.len();
                if is_closed && !target.is_reset {
                    return self.answer_with_reset(socket);
                }
                if !target.is_reset {
                    target.received.extend(&bytes);
                }
                (Net::Arrives, bytes.len() as u32)
            }
            Segment::Fin => {
                target.has_fin = true;
                (Net::Fin, 0)
            }
            Segment::Rst => {
                self.take_reset(socket, ErrorKind::ConnectionReset);
                return;
            }
        };
        self.note(None, Note::Net { socket, what, bytes: count });
        self.news(socket);
    }

    fn answer_with_reset(&mut self, socket: u32) {
        let target = self.socket(socket);
        target.is_reset = true;
        target.arriving.clear();
        target.arriving_bytes = 0;
        self.send_segment(socket, Segment::Rst);
    }

    fn take_reset(&mut self, socket: u32, kind: ErrorKind) {
        let target = self.socket(socket);
        target.arriving.clear();
        target.arriving_bytes = 0;
        if target.is_reset || target.stage == SocketStage::Over {
            target.is_reset = true;
            return;
        }
        target.is_reset = true;
        target.error = Some(kind);
        self.note(None, Note::Net { socket, what: Net::Rst, bytes: 0 });
        self.news(socket);
    }

    /// The network breaks a connection for both ends.
    pub(super) fn break_connection(&mut self, socket: u32) {
        if self.socket(socket).stage != SocketStage::Up {
            return;
        }
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::TimedOut, ErrorKind::HostUnreachable];
        let kind = kinds[self.chance.below(3) as usize];
        self.note(None, Note::Net { socket, what: Net::Broken, bytes: 0 });
        self.hurt(socket);
        let other = self.socket(socket).other;
        for end in [Some(socket), other].into_iter().flatten() {
            if self.socket(end).stage == SocketStage::Connecting {
                self.fail_connect(end, ErrorKind::TimedOut);
            } else {
                self.take_reset(end, kind);
            }
        }
    }

    /// A writer that found no room is told that there is some.
    pub(super) fn make_room(&mut self, socket: u32) {
        if !self.has_room(&self.sockets[socket as usize]) {
            return; // the next read of the other end makes some
        }
        if std::mem::take(&mut self.socket(socket).wants_room) {
            self.news(socket);
        }
    }

    fn arrange_room(&mut self, socket: u32, after: u64) {
        self.socket(socket).wants_room = true;
        self.arrange(self.now + after, Happening::Room(socket));
    }

    /// Takes bytes of a writer: how many, or an error.
    pub(super) fn write(&mut self, socket: u32, bytes: &[u8]) -> io::Result<usize> {
        let source = self.socket(socket);
        if let Some(kind) = source.error.take() {
            return Err(failed(kind));
        }
        match source.stage {
            SocketStage::Up if !source.is_reset && !source.fin_sent => {}
            SocketStage::Connecting => {
                self.rearm(socket);
                return Err(failed(ErrorKind::WouldBlock));
            }
            _ => return Err(failed(ErrorKind::BrokenPipe)),
        }
        let Some(other) = source.other else { return Err(failed(ErrorKind::NotConnected)) };
        let count = bytes.len().min(self.socket(other).room());
        if count < bytes.len() {
            self.socket(socket).wants_room = true;
        }
        if count == 0 && !bytes.is_empty() {
            self.rearm(socket);
            return Err(failed(ErrorKind::WouldBlock));
        }
        self.push_bytes(socket, &bytes[..count]);
        Ok(count)
    }

    fn push_bytes(&mut self, socket: u32, bytes: &[u8]) {
        let now = self.clock_of(self.sockets[socket as usize].owner);
        let source = self.socket(socket);
        source.bytes_written += bytes.len() as u64;
        source.written_at = now;
        self.trace.mix(bytes);
        self.send_segment(socket, Segment::Data(bytes.to_vec()));
    }

    /// A host writes: like [`World::write`], with faults.
    pub(super) fn host_write(&mut self, socket: u32, bytes: &[u8]) -> io::Result<usize> {
        let is_up = self.socket(socket).error.is_none()
            && self.socket(socket).stage == SocketStage::Up
            && !self.socket(socket).is_reset;
        if is_up && self.chance.strikes(Fault::Interrupted) {
            return Err(failed(ErrorKind::Interrupted));
        }
        if is_up && self.chance.strikes(Fault::BlockedWrite) {
            self.rearm(socket);
            self.arrange_room(socket, MILLI / 10);
            return Err(failed(ErrorKind::WouldBlock));
        }
        let mut bytes = bytes;
        let mut is_cut = false;
        if is_up && bytes.len() > 1 && self.chance.strikes(Fault::ShortWrite) {
            bytes = &bytes[..1 + self.chance.below(bytes.len() as u64 - 1) as usize];
            is_cut = true;
        }
        let result = self.write(socket, bytes);
        if is_cut && result.is_ok() {
            // A short write says that there is no room: that there is some is news again.
            self.rearm(socket);
            self.arrange_room(socket, MILLI / 10);
        }
        result
    }

    /// Gives bytes to a reader.
    pub(super) fn read(&mut self, socket: u32, buffer: &mut [u8]) -> io::Result<usize> {
        let now = self.clock_of(self.sockets[socket as usize].owner);
        let source = self.socket(socket);
        if source.received.is_empty() {
            if let Some(kind) = source.error.take() {
                return Err(failed(kind));
            }
            if source.has_fin || source.is_reset || source.stage == SocketStage::Over {
                return Ok(0);
            }
            self.rearm(socket);
            return Err(failed(ErrorKind::WouldBlock));
        }
        let count = buffer.len().min(source.received.len());
        for (place, byte) in buffer.iter_mut().zip(source.received.drain(..count)) {
            *place = byte;
        }
        source.bytes_read += count as u64;
        source.read_at = now;
        if let Some(other) = source.other {
            let writer = &self.sockets[other as usize];
            if writer.wants_room && self.has_room(writer) {
                let at = self.arrival(self.sockets[socket as usize].owner, writer.owner, 0);
                self.arrange(at, Happening::Room(other));
            }
        }
        Ok(count)
    }

    /// A host reads: like [`World::read`], with faults.
    pub(super) fn host_read(&mut self, socket: u32, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.socket(socket).received.len().min(buffer.len());
        if there > 0 && self.chance.strikes(Fault::Interrupted) {
            return Err(failed(ErrorKind::Interrupted));
        }
        // Of a broken connection no system says "not now".
        let may_block = there > 0 && !self.socket(socket).is_broken();
        if may_block && self.chance.strikes(Fault::BlockedRead) {
            self.socket(socket).has_lied = true;
            self.rearm(socket);
            self.list(socket);
            return Err(failed(ErrorKind::WouldBlock));
        }
        self.socket(socket).has_lied = false;
        let mut most = buffer.len();
        if there > 1 && self.chance.strikes(Fault::ShortRead) {
            most = 1 + self.chance.below(there as u64 - 1) as usize;
            // A short read says that there is no more: what is left is news again.
            self.rearm(socket);
            self.list(socket);
        }
        let result = self.read(socket, &mut buffer[..most]);
        if let Ok(count) = result {
            self.socket(socket).tap.extend_from_slice(&buffer[..count]);
        }
        result
    }

    // Ending.

    /// Sends FIN.
    pub(super) fn finish(&mut self, socket: u32) -> io::Result<()> {
        let source = self.socket(socket);
        if source.stage != SocketStage::Up || source.is_reset {
            return Err(failed(ErrorKind::NotConnected));
        }
        if !source.fin_sent {
            source.fin_sent = true;
            self.send_segment(socket, Segment::Fin);
        }
        Ok(())
    }

    pub(super) fn reset_on_close(&mut self, socket: u32) {
        self.socket(socket).resets_on_close = true;
    }

    /// The owner closes a socket.
    pub(super) fn close(&mut self, socket: u32) {
        self.tell(socket, Call::Close, Outcome::Is(0));
        let source = self.socket(socket);
        let stage = std::mem::replace(&mut source.stage, SocketStage::Over);
        source.unread_at_close = source.received.len();
        // The answer to a SYN of a socket that is gone is a reset.
        let is_half_open = stage == SocketStage::Connecting && source.other.is_some();
        let must_reset = source.resets_on_close || !source.received.is_empty() || is_half_open;
        let is_up = (stage == SocketStage::Up || is_half_open) && !source.is_reset;
        source.received.clear();
        self.close_inbox(socket);
        let source = self.socket(socket);
        let waiting = std::mem::take(&mut source.waiting);
        let registration = source.registration.take();
        if let (Owner::Host(host), Some(registration)) = (source.owner, registration) {
            self.forget_token(host as usize, socket, registration.token);
        }
        if is_up && must_reset {
            self.drop_tail(socket);
            self.send_segment(socket, Segment::Rst);
            self.socket(socket).is_reset = true;
        } else if is_up && !self.socket(socket).fin_sent {
            self.socket(socket).fin_sent = true;
            self.send_segment(socket, Segment::Fin);
        }
        for child in waiting {
            self.reset_on_close(child);
            self.close(child);
        }
        self.socket(socket).owner = Owner::Nobody;
    }

    /// A reset overtakes what was sent last.
    fn drop_tail(&mut self, socket: u32) {
        let Some(other) = self.socket(socket).other else { return };
        if !self.chance.strikes(Fault::LostTail) {
            return;
        }
        let count = self.socket(other).arriving.len() as u64;
        let kept = self.chance.below(count + 1) as usize;
        let target = self.socket(other);
        for (_, segment) in target.arriving.drain(kept..) {
            if let Segment::Data(bytes) = segment {
                target.arriving_bytes -= bytes.len();
            }
        }
        let last = target.arriving.back().map_or(0, |&(at, _)| at);
        target.last_arrival = last;
    }
}
