//! The rules for datagram sockets.

use super::Watcher;
use crate::handler::Loop;

impl Watcher {
    /// Invariant 7 for datagram sockets.
    pub(super) fn check_sockets(&mut self, lp: &Loop) {
        for (_, socket) in lp.datagrams.iter() {
            let Some(key) = socket.socket.simulated() else { continue };
            let world = self.world.borrow();
            let is_awaited = world.is_listed(key) || socket.is_queued || socket.is_backing_off;
            let has_input = world.sockets[key as usize].is_readable();
            let has_room = world.is_writable(key) && !world.sockets[key as usize].wants_room;
            drop(world);
            if !is_awaited && has_input {
                self.violate(None, "datagrams wait, and no event for them will come");
            }
            if !is_awaited && has_room && socket.owes_drain {
                self.violate(None, "datagrams have room to leave, and nobody will see it");
            }
            let comes_back = socket.is_queued || socket.is_backing_off;
            if !comes_back && socket.owes_drain != socket.asks_writable {
                self.violate(None, "a socket waits for room that it has not asked for");
            }
        }
    }
}
