//! Time goes on, and what was arranged happens.

use std::cmp::Reverse;
use std::io::ErrorKind;

use super::chance::Fault;
use super::event::{MILLI, SECOND, SimEvent};
use super::trace::Note;
use super::world::{Rest, World};

/// What a system call takes.
pub(super) const CALL_NANOS: u64 = 700;

impl World {
    /// A host makes a system call: it takes time, and things happen meanwhile.
    pub(super) fn enter(&mut self, host: usize) {
        self.hosts[host].calls += 1;
        self.hosts[host].system_calls += 1;
        self.now += CALL_NANOS;
        if self.faults_left > 0 && self.chance.strikes(Fault::ClockJump) {
            self.faults_left -= 1;
            let nanos = self.chance.spread(MILLI, 60 * SECOND);
            self.hosts[host].skew += nanos;
            self.hosts[host].stolen_nanos += nanos;
            self.note(Some(host), Note::Fault { fault: Fault::ClockJump, nanos });
        }
        self.apply_due();
    }

    /// Everything whose time has come happens.
    pub(super) fn apply_due(&mut self) {
        while let Some(&Reverse((at, _, event))) = self.agenda.peek() {
            if at > self.now {
                return;
            }
            self.agenda.pop();
            self.apply(event);
        }
    }

    fn apply(&mut self, event: SimEvent) {
        match event {
            SimEvent::Arrive(socket) => self.arrive(socket),
            SimEvent::Syn(socket, tries) => self.knock(socket, tries),
            SimEvent::Established(socket) => self.establish(socket),
            SimEvent::Acknowledged(listener, child) => self.queue_child(listener, child),
            SimEvent::Refused(socket) => self.fail_connect(socket, ErrorKind::ConnectionRefused),
            SimEvent::TimedOut(socket) => self.fail_connect(socket, ErrorKind::TimedOut),
            SimEvent::Room(socket) => self.make_room(socket),
            SimEvent::Break(socket) => self.break_connection(socket),
            SimEvent::GivenUp(socket) => self.take_reset(socket, ErrorKind::TimedOut),
            SimEvent::Datagram(number) => self.deliver(number),
            SimEvent::Left(socket, bytes) => self.leave(socket, bytes),
            SimEvent::Held => {}
            SimEvent::Peer(peer) => self.go_on(peer as usize),
            SimEvent::Call(index) => {
                if let Some(call) = self.calls[index as usize].take() {
                    call();
                }
            }
            SimEvent::Descriptors(host) => self.hosts[host as usize].taken = 0,
            SimEvent::NetworkFault => self.strike_network(),
        }
    }

    /// The world goes on without this process.
    pub(crate) fn stand_still(&mut self, nanos: u64) {
        let until = self.now + nanos;
        self.pass_until(until);
        self.now = until;
    }

    /// Everything happens that is to happen before the end of the run, without any host.
    pub(crate) fn pass_all(&mut self) {
        self.pass_until(self.end);
        if self.agenda.is_empty() {
            self.rest = Rest::Quiet;
        } else {
            self.now = self.now.max(self.end);
            self.rest = Rest::Over;
        }
    }

    fn pass_until(&mut self, until: u64) {
        while let Some(&Reverse((at, _, _))) = self.agenda.peek() {
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.apply_due();
        }
    }
}
