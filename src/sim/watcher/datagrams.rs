//! The rules for datagram sockets.

use super::Watcher;
use crate::datagram::SocketFlags;
use crate::handler::Loop;

impl Watcher {
    /// Invariant 7 for datagram sockets.
    pub(super) fn check_sockets(&mut self, lp: &Loop) {
        for (_, socket) in lp.datagrams.iter() {
            let Some(key) = socket.inner.simulated() else { continue };
            let world = self.world.borrow();
            let comes_back =
                socket.flags.has(SocketFlags::IN_READY_QUEUE) || socket.back_off.is_some();
            let is_awaited = world.is_listed(key) || comes_back;
            let owes_drain = socket.flags.has(SocketFlags::OWES_DRAIN);
            let has_input = world.sockets[key as usize].is_readable();
            let has_room = world.is_writable(key) && !world.sockets[key as usize].wants_room;
            drop(world);
            if !is_awaited && has_input {
                self.violate(None, "datagrams wait, and no event for them will come");
            }
            if !is_awaited && has_room && owes_drain {
                self.violate(None, "datagrams have room to leave, and nobody will see it");
            }
            if !comes_back && owes_drain != socket.flags.has(SocketFlags::ASKS_WRITABLE) {
                self.violate(None, "a socket waits for room that it has not asked for");
            }
        }
    }
}
