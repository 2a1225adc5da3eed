//! The network between machines, and what befalls it.

use super::chance::Fault;
use super::socket::Owner;
use super::trace::Note;
use super::world::{Happening, MICRO, MILLI, SECOND, World};

/// The way from a machine to the network and back.
#[derive(Debug)]
pub(super) struct Link {
    latency: u64,
    nanos_per_byte: u64,
    /// Nothing leaves, or comes in, before this.
    out_from: u64,
    in_from: u64,
}

impl World {
    pub(super) fn draw_link(&mut self) -> Link {
        let is_slow = self.chance.strikes(Fault::SlowLink);
        let latency = match is_slow {
            true => self.chance.spread(MILLI, 2 * SECOND),
            false => self.chance.spread(5 * MICRO, 2 * MILLI),
        };
        let nanos_per_byte = if is_slow { self.chance.spread(1, 100_000) } else { 0 };
        Link { latency, nanos_per_byte, out_from: 0, in_from: 0 }
    }

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
            at = at.max(link.out_from) + link.latency + link.nanos_per_byte * bytes as u64;
        }
        if let Some(link) = self.link(to) {
            at = at.max(link.in_from) + link.latency + link.nanos_per_byte * bytes as u64;
        }
        at
    }

    pub(super) fn arrange_weather(&mut self) {
        if self.strokes > 0 && !self.chance.is_calm {
            self.strokes -= 1;
            let at = self.now + self.chance.spread(MILLI, 20 * SECOND);
            self.arrange(at, Happening::Weather);
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

    /// A stroke of weather: something befalls a host, a machine of a peer, or a connection.
    pub(super) fn strike(&mut self) {
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
            self.arrange(self.now + nanos, Happening::Descriptors(host as u32));
            self.note(Some(host), Note::Fault { fault: Fault::DescriptorsOut, nanos });
        }
        if !self.sockets.is_empty() && self.chance.strikes(Fault::Reset) {
            let socket = self.chance.below(self.sockets.len() as u64);
            self.arrange(self.now, Happening::Break(socket as u32));
        }
        self.arrange_weather();
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
        if goes_out || fault == Fault::Partition {
            link.out_from = link.out_from.max(until);
        }
        if !goes_out || fault == Fault::Partition {
            link.in_from = link.in_from.max(until);
        }
        self.note(None, Note::Fault { fault, nanos });
    }
}

impl Link {
    fn heal(&mut self, now: u64) {
        self.out_from = self.out_from.min(now);
        self.in_from = self.in_from.min(now);
        self.latency = self.latency.min(MILLI);
        self.nanos_per_byte = 0;
    }
}
