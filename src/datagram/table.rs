//! All datagram sockets that hold a slot.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use slab::Slab;

use crate::base::id::{SocketId, TimerId};
use crate::datagram::{Socket, SocketFlags, SocketLink};
use crate::engine::{Engine, Target};
use crate::options::UdpOptions;
use crate::sys;

/// All datagram sockets of a reactor. `F` is what a socket reports to, beside the place of its
/// handler: its kind, which this room does not know.
#[derive(Debug)]
pub(crate) struct Sockets<F> {
    sockets: Slab<Socket>,
    /// What the socket in the slot of this index reports to.
    ///
    /// Invariant: at least as long as the highest slot that is taken.
    faces: Vec<F>,
}

/// Who serves a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServedBy<F> {
    /// The place of the handler in the reactor.
    pub(crate) handler: u32,
    /// What the socket reports to.
    pub(crate) face: F,
}

impl<F: Copy> Sockets<F> {
    pub(crate) fn new() -> Self {
        Self { sockets: Slab::new(), faces: Vec::new() }
    }

    /// What a socket reports to that has its slot.
    #[inline]
    pub(crate) fn face(&self, id: SocketId) -> Option<F> {
        self.faces.get(id.index()).copied()
    }

    /// A socket that has not been closed.
    #[inline]
    pub(crate) fn socket(&self, id: SocketId) -> Option<&Socket> {
        let socket = self.sockets.get(id.index())?;
        (socket.generation == id.generation() && !socket.is_closed()).then_some(socket)
    }

    /// A socket that has its slot, and may be closed.
    #[inline]
    pub(crate) fn slot_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.index())?;
        (socket.generation == id.generation()).then_some(socket)
    }

    /// A socket that has not been closed, with the engine.
    #[inline]
    pub(crate) fn link<'a>(
        &'a mut self,
        engine: &'a mut Engine,
        id: SocketId,
    ) -> Option<SocketLink<'a>> {
        let socket = self.slot_mut(id)?;
        if socket.is_closed() {
            return None;
        }
        Some(SocketLink { id, socket, engine })
    }

    /// A socket that has its slot, and may be closed, with the engine.
    pub(crate) fn slot_link<'a>(
        &'a mut self,
        engine: &'a mut Engine,
        id: SocketId,
    ) -> Option<SocketLink<'a>> {
        let socket = self.slot_mut(id)?;
        Some(SocketLink { id, socket, engine })
    }

    /// The socket that an event's token is of; it may be closed.
    #[inline]
    pub(crate) fn by_token(&self, slot: usize) -> Option<(SocketId, &Socket)> {
        let socket = self.sockets.get(slot)?;
        Some((SocketId::new(slot as u32, socket.generation), socket))
    }

    /// All that have a slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, &Socket)> {
        let sockets = self.sockets.iter();
        sockets.map(|(slot, it)| (SocketId::new(slot as u32, it.generation), it))
    }

    /// Whether no datagram waits at any socket.
    pub(crate) fn are_drained(&self) -> bool {
        self.iter().all(|(_, socket)| socket.is_drained())
    }

    /// Gives a socket its slot, and has the poll watch it.
    pub(super) fn insert<'a>(
        &'a mut self,
        engine: &'a mut Engine,
        mut inner: sys::DatagramSocket,
        peer: Option<SocketAddr>,
        by: ServedBy<F>,
        options: &UdpOptions,
    ) -> io::Result<SocketLink<'a>> {
        let addr = inner.local_addr()?;
        let generation = engine.io.draw_generation();
        let slot = self.sockets.vacant_entry();
        let id = SocketId::new(slot.key() as u32, generation);
        engine.io.poller_mut().add_datagrams(&mut inner, Target::socket_token(slot.key()))?;
        match self.faces.get_mut(slot.key()) {
            Some(face) => *face = by.face,
            None => self.faces.resize(slot.key() + 1, by.face),
        }
        let socket = slot.insert(Socket::new(inner, generation, by.handler, addr, peer, options));
        log::debug!("receiving datagrams on {}", socket.display_name());
        Ok(SocketLink { id, socket, engine })
    }

    /// Marks any socket closed that is left, for the end of the reactor. Returns its id and the
    /// place of its handler.
    pub(crate) fn close_any(&mut self) -> Option<(SocketId, u32)> {
        let (slot, socket) = self.sockets.iter_mut().next()?;
        socket.flags.set(SocketFlags::CLOSED);
        Some((SocketId::new(slot as u32, socket.generation), socket.service))
    }

    /// Takes a socket's slot and timers back. What still waits is lost, but for what the kernel
    /// takes now.
    pub(crate) fn remove(&mut self, engine: &mut Engine, id: SocketId) {
        let Some(mut link) = self.slot_link(engine, id) else { return };
        link.flush_last();
        let mut socket = self.sockets.remove(id.index());
        engine.stats.datagrams_dropped += socket.queue.len() as u64;
        if let Some(timer) = socket.back_off {
            engine.timers.cancel(timer);
        }
        for timer in socket.take_timers() {
            engine.timers.cancel_user(timer);
        }
        log::debug!("receiving no more datagrams on {}", socket.display_name());
    }

    /// Sends all batches of this turn that have not left.
    pub(crate) fn send_batches(&mut self, engine: &mut Engine) {
        while let Some(id) = engine.end_of_turn.pop_batch() {
            if let Some(mut link) = self.slot_link(engine, id) {
                link.send_batch();
            }
        }
    }

    /// Sets a timer that ends with its socket. If that is closed already, the id is of a timer
    /// that never fires.
    pub(crate) fn set_socket_timer(
        &mut self,
        engine: &mut Engine,
        id: SocketId,
        wait: Duration,
        periodic: bool,
        token: u64,
    ) -> TimerId {
        let link = self.link(engine, id);
        link.map_or(TimerId::NONE, |mut link| link.set_timer(wait, periodic, token))
    }
}
