//! The network between machines, and its faults.

use super::chance::Fault;
use super::event::{MILLI, SECOND, SimEvent};
use super::link::Link;
use super::socket::Owner;
use super::trace::Note;
use super::world::World;

impl World {
    fn link(&mut self, owner: Owner) -> Option<&mut Link> {
        match owner {
            Owner::Host(host) => Some(&mut self.hosts[host as usize].link),
            Owner::Peer(peer) => Some(&mut self.peers[peer as usize].link),
            Owner::Nobody => None,
        }
    }

    /// When something that leaves now will be there.
    pub(super) fn arrival(&mut self, from: Owner, to: Owner, bytes: usize) -> u64 {
        let mut at = self.now;
        if let Some(link) = self.link(from) {
            at = link.pass_out(at, bytes);
        }
        if let Some(link) = self.link(to) {
            at = link.pass_in(at, bytes);
        }
        at
    }

    /// Arranges the next network fault, if there is to be one.
    pub(super) fn arrange_fault(&mut self) {
        if self.faults_left > 0 && !self.chance.is_calm {
            self.faults_left -= 1;
            let at = self.now + self.chance.spread(MILLI, 20 * SECOND);
            self.arrange(at, SimEvent::NetworkFault);
        }
    }

    /// No more faults, and what is broken heals.
    pub(crate) fn heal(&mut self) {
        self.chance.is_calm = true;
        let now = self.now;
        for host in &mut self.hosts {
            host.taken = 0;
            host.link.heal(now);
        }
        for peer in &mut self.peers {
            peer.link.heal(now);
        }
    }

    /// A network fault: something befalls a host, a machine of a peer, or a connection.
    pub(super) fn strike_network(&mut self) {
        for fault in [Fault::Partition, Fault::OneWayPartition, Fault::Clog] {
            if self.chance.strikes(fault) {
                self.cut_off(fault);
            }
        }
        if self.chance.strikes(Fault::DescriptorsOut) && !self.hosts.is_empty() {
            let host = self.chance.below(self.hosts.len() as u64) as usize;
            let state = &mut self.hosts[host];
            state.taken = state.files - state.used.min(state.files);
            state.taken -= self.chance.below(3).min(state.taken);
            let nanos = self.chance.spread(MILLI, 5 * SECOND);
            self.arrange(self.now + nanos, SimEvent::Descriptors(host as u32));
            self.note(Some(host), Note::Fault { fault: Fault::DescriptorsOut, nanos });
        }
        if !self.sockets.is_empty() && self.chance.strikes(Fault::Reset) {
            let socket = self.chance.below(self.sockets.len() as u64);
            self.arrange(self.now, SimEvent::Break(socket as u32));
        }
        if !self.peers.is_empty() && self.chance.strikes(Fault::Vanished) {
            let peer = self.chance.below(self.peers.len() as u64) as usize;
            self.vanish(peer);
        }
        self.arrange_fault();
    }

    fn cut_off(&mut self, fault: Fault) {
        let machines = (self.hosts.len() + self.peers.len()) as u64;
        if machines == 0 {
            return;
        }
        let longest = if fault == Fault::Clog { 200 * MILLI } else { 120 * SECOND };
        let nanos = self.chance.spread(MILLI, longest);
        let until = self.now + nanos;
        let index = self.chance.below(machines) as usize;
        let goes_out = self.chance.one_in(2);
        let hosts = self.hosts.len();
        let link = match index.checked_sub(hosts) {
            None => &mut self.hosts[index].link,
            Some(peer) => &mut self.peers[peer].link,
        };
        let is_both = fault == Fault::Partition;
        link.cut_off(until, goes_out || is_both, !goes_out || is_both);
        self.note(None, Note::Fault { fault, nanos });
    }
}
