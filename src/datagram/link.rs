//! One datagram socket and the engine, borrowed together.

use std::io;
use std::time::Duration;

use crate::base::id::{SocketId, TimerId};
use crate::datagram::{Socket, SocketFlags};
use crate::engine::{Due, Engine, Owner, Queued, Target};
use crate::options::Group;

/// A datagram socket, and what it needs of the loop.
///
/// A callback ends the borrow. So code that goes on behind a callback takes a new link, and finds
/// out that way whether the socket is still open.
#[derive(Debug)]
pub(crate) struct SocketLink<'a> {
    /// The socket's id.
    pub(crate) id: SocketId,
    pub(crate) socket: &'a mut Socket,
    pub(crate) engine: &'a mut Engine,
}

/// How long a socket that keeps failing is left alone.
const RECEIVE_BACKOFF: Duration = Duration::from_millis(64);

impl SocketLink<'_> {
    /// Invariant 7, for datagram sockets: what stops before `WouldBlock` is queued here, and only
    /// here. A closed socket is queued too, to be torn down.
    pub(crate) fn queue_ready(&mut self) {
        if !self.socket.flags.has(SocketFlags::IN_READY_QUEUE) {
            self.socket.flags.set(SocketFlags::IN_READY_QUEUE);
            self.engine.ready.push_other(Queued::Socket(self.id));
        }
    }

    /// Marks the socket closed; the next ready phase tears it down.
    pub(crate) fn close(&mut self) {
        self.socket.flags.set(SocketFlags::CLOSED);
        self.queue_ready();
    }

    /// Asks the poll for writability, or no longer.
    pub(super) fn ask_writable(&mut self, writable: bool) {
        if self.socket.flags.has(SocketFlags::ASKS_WRITABLE) != writable {
            self.watch(writable);
        }
    }

    /// Registers the socket again as it was: the poll has let go of it.
    pub(crate) fn watch_again(&mut self) {
        self.watch(self.socket.flags.has(SocketFlags::ASKS_WRITABLE));
    }

    /// Has the poll watch the socket, with or without writability.
    pub(super) fn watch(&mut self, writable: bool) {
        let token = Target::socket_token(self.id.index());
        let poller = self.engine.io.poller_mut();
        match poller.ask_datagrams(&mut self.socket.inner, token, writable) {
            Ok(()) => self.socket.flags.put(SocketFlags::ASKS_WRITABLE, writable),
            // Without an event to wait for, a timer brings the socket back.
            Err(error) => {
                let name = self.socket.display_name();
                log::debug!("{name}: cannot change what is polled for: {error}");
                self.back_off();
            }
        }
    }

    /// Reads keep failing, or the poll does: leaves the socket alone for a while.
    pub(crate) fn back_off(&mut self) {
        if self.socket.back_off.is_none() {
            let timer = self.engine.timers.set(RECEIVE_BACKOFF, Due::Receive(self.id));
            self.socket.back_off = Some(timer);
        }
    }

    /// The timer of `back_off` has fired.
    pub(crate) fn end_back_off(&mut self) {
        self.socket.back_off = None;
        self.queue_ready();
    }

    /// Sets a timer that ends with the socket.
    pub(super) fn set_timer(&mut self, wait: Duration, periodic: bool, token: u64) -> TimerId {
        let timer = self.engine.set_user_timer(Owner::Socket(self.id), wait, periodic, token);
        let timers = &self.engine.timers;
        self.socket.add_timer(timer, |timer| timers.has_user(timer));
        timer
    }

    /// Joins a multicast group.
    pub(crate) fn join(&mut self, group: &Group) -> io::Result<()> {
        group.check(self.socket.addr)?;
        self.socket.inner.join(group)
    }

    /// Leaves a multicast group.
    pub(crate) fn leave(&mut self, group: &Group) -> io::Result<()> {
        group.check(self.socket.addr)?;
        self.socket.inner.leave(group)
    }
}
