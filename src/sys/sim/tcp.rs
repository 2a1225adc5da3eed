//! TCP between sockets, as far as a program can tell.
//!
//! Segments of one direction arrive in order; what is on the way and what has arrived and is not
//! read share one window. A close with unread input, and input for a closed socket, are answered
//! with RST, as Linux does; what had arrived before an RST can still be read.

use std::io::{self, ErrorKind};

use super::chance::Fault;
use super::event::{MILLI, SECOND, SimEvent};
use super::script::PeerEnd;
use super::socket::{Owner, Segment, SocketStage};
use super::trace::{Call, Net, Note, Outcome};
use super::world::World;

/// Linux tries 15 times to send something again before it gives a connection up (`tcp_retries2`).
const GIVES_UP: u64 = 924 * SECOND;

fn failed(kind: ErrorKind) -> io::Error {
    kind.into()
}

impl World {
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
        self.record_segment(from, to, &segment, at);
        let target = self.socket(to);
        target.arriving.push_back((at, segment));
        self.arrange(at, SimEvent::Arrive(to));
    }

    /// The next segment is there.
    pub(super) fn arrive(&mut self, socket: u32) {
        let now = self.now;
        let target = self.socket(socket);
        if target.arriving.front().is_none_or(|&(at, _)| at > now) {
            return; // lost on the way, with a reset
        }
        let Some((_, segment)) = target.arriving.pop_front() else { return };
        if target.is_gone {
            return self.lose(socket, &segment);
        }
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
        if what == Net::Fin {
            self.record_fin(socket);
        }
        self.news(socket);
    }

    fn answer_with_reset(&mut self, socket: u32) {
        let target = self.socket(socket);
        target.is_reset = true;
        target.arriving.clear();
        target.arriving_bytes = 0;
        self.send_segment(socket, Segment::Rst);
    }

    /// A segment has come for a machine that is gone. The window that it takes stays taken, and its
    /// sender goes on trying until it gives up.
    fn lose(&mut self, socket: u32, segment: &Segment) {
        let target = self.socket(socket);
        if matches!(segment, Segment::Rst) || std::mem::replace(&mut target.is_awaited, true) {
            return; // a reset is not acknowledged
        }
        if let Some(other) = target.other {
            self.arrange(self.now + GIVES_UP, SimEvent::GivenUp(other));
        }
    }

    /// A peer's machine is gone for good. What it has sent before is still on its way.
    pub(super) fn vanish(&mut self, peer: usize) {
        let Some(socket) = self.peers[peer].socket else { return };
        if self.socket(socket).stage != SocketStage::Up || self.socket(socket).is_reset {
            return;
        }
        self.note(None, Note::Fault { fault: Fault::Vanished, nanos: 0 });
        self.hurt(socket);
        let entry = self.socket(socket);
        (entry.is_gone, entry.owner) = (true, Owner::Nobody);
        self.peers[peer].steps.clear();
        self.peers[peer].end = PeerEnd::Broken;
    }

    pub(super) fn take_reset(&mut self, socket: u32, kind: ErrorKind) {
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
        self.enter_state(socket, "CLOSED");
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

    /// Reports room to a writer that found none.
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
        self.arrange(self.now + after, SimEvent::Room(socket));
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
        self.socket(socket).sends += 1;
        if is_up && self.socket(socket).fin_sent {
            self.violate(format!("s{socket}: a write behind its own FIN"));
        }
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
            if source.has_fin {
                return Ok(0); // also if a reset came behind it, as in Linux
            }
            if let Some(kind) = source.error.take() {
                return Err(failed(kind));
            }
            if source.is_reset || source.stage == SocketStage::Over {
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
                self.arrange(at, SimEvent::Room(other));
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
