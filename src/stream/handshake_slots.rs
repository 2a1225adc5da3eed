//! The connections of a listener that are in a handshake, by source.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::base::id::ConnId;
use crate::stream::listener::Sources;

/// Places for connections in a handshake. When all are taken, the source that has most gives its
/// oldest up; of several that have as many, the one whose oldest is older.
#[derive(Debug)]
pub(crate) struct HandshakeSlots {
    most: usize,
    /// What one source is.
    kind: Sources,
    /// Places that are taken.
    ///
    /// Invariant: the sum over `sources`, none of which is empty.
    taken: usize,
    /// Who has them, the oldest first, each with its number.
    sources: HashMap<IpAddr, VecDeque<(u64, ConnId)>>,
    /// Number of the next that enters. Without it the choice among sources that have as many would
    /// follow the order of the table, which differs from process to process.
    next: u64,
}

impl HandshakeSlots {
    pub(crate) fn new(most: usize, prefix_v6: u8) -> Self {
        Self { most, kind: Sources::new(prefix_v6), taken: 0, sources: HashMap::new(), next: 0 }
    }

    /// A connection takes a place; returns the one that has given its own up for it, if all are
    /// taken. It ends only later, and the next in the same turn finds another one.
    pub(crate) fn enter(&mut self, source: IpAddr, id: ConnId) -> Option<ConnId> {
        let victim = (self.taken >= self.most).then(|| self.victim()).flatten();
        if let Some((source, id)) = victim {
            self.leave(source, id);
        }
        self.sources.entry(self.kind.of(source)).or_default().push_back((self.next, id));
        self.next += 1;
        self.taken += 1;
        victim.map(|(_, id)| id)
    }

    /// The oldest of the source that has most. An attack makes the search long, and it has at most
    /// as many steps as there are places.
    #[cold]
    fn victim(&self) -> Option<(IpAddr, ConnId)> {
        let most = self
            .sources
            .iter()
            .max_by_key(|(_, ids)| (ids.len(), Reverse(ids.front().map(|&(number, _)| number))));
        let (source, ids) = most?;
        Some((*source, ids.front()?.1))
    }

    /// A connection gives its place back, if it has one.
    pub(crate) fn leave(&mut self, source: IpAddr, id: ConnId) {
        let source = self.kind.of(source);
        let Some(ids) = self.sources.get_mut(&source) else { return };
        let Some(at) = ids.iter().position(|&(_, other)| other == id) else { return };
        ids.remove(at);
        self.taken -= 1;
        if ids.is_empty() {
            self.sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnId {
        ConnId::new(index, 1)
    }

    #[test]
    fn the_source_that_has_most_gives_its_oldest_up() {
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut slots = HandshakeSlots::new(3, 64);
        assert_eq!(slots.enter(other, id(0)), None);
        assert_eq!(slots.enter(one, id(1)), None);
        assert_eq!(slots.enter(one, id(2)), None);
        assert_eq!(slots.enter(other, id(3)), Some(id(1)));
        assert_eq!(slots.enter(one, id(4)), Some(id(0)));
        slots.leave(one, id(1)); // it had none any more
        assert_eq!(slots.taken, 3);
    }

    /// In every process, as a seed of the simulated world gives the same run in each.
    #[test]
    fn of_sources_that_have_as_many_the_one_that_waits_longest_gives_up() {
        for _ in 0..8 {
            let mut slots = HandshakeSlots::new(4, 64);
            for (index, host) in [3, 1, 4, 2].into_iter().enumerate() {
                assert_eq!(slots.enter(IpAddr::from([192, 0, 2, host]), id(index as u32)), None);
            }
            for index in 4..8 {
                let victim = slots.enter(IpAddr::from([198, 51, 100, index as u8]), id(index));
                assert_eq!(victim, Some(id(index - 4)));
            }
        }
    }

    #[test]
    fn a_place_is_given_back_once() {
        let source = IpAddr::from([192, 0, 2, 1]);
        let mut slots = HandshakeSlots::new(1, 64);
        assert_eq!(slots.enter(source, id(0)), None);
        slots.leave(source, id(0));
        slots.leave(source, id(0));
        assert!(slots.sources.is_empty() && slots.taken == 0);
        assert_eq!(slots.enter(source, id(1)), None);
    }

    /// A host has all addresses of a network: one in each place must not look like many hosts.
    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut slots = HandshakeSlots::new(4, 64);
        assert_eq!(slots.enter(ip("2001:db8:0:1::1"), id(0)), None);
        for host in 1..4 {
            assert_eq!(slots.enter(ip(&format!("2001:db8::{host}")), id(host)), None);
        }
        for host in 4..20 {
            let victim = slots.enter(ip(&format!("2001:db8::{host:x}")), id(host));
            assert_eq!(victim, Some(id(host - 3)), "the oldest of the network");
        }
        assert_eq!(slots.enter(ip("192.0.2.1"), id(20)), Some(id(17)));
        slots.leave(ip("::ffff:192.0.2.1"), id(20));
        assert_eq!(slots.taken, 3);
    }
}
