//! The way to the outside world: the poll and its tokens, and where sockets come from.

use std::io;

use slab::Slab;

use crate::base::id::{ConnId, Generations};
use crate::engine::token;
use crate::sys::{Poller, Spare, Stream, World};

/// The poll, what it names, and the world behind it.
#[derive(Debug)]
pub(crate) struct Io {
    /// Where the reactor lives.
    world: World,
    /// Tells what is ready.
    poller: Poller,
    /// Deals out the generations of connections and datagram sockets.
    generations: Generations,
    /// Addresses that are being connected to beside others: the connection that each may become.
    attempts: Slab<ConnId>,
    /// Given up to accept and refuse when no descriptor is left.
    spare: Option<Spare>,
}

impl Io {
    /// The poll of a world. The descriptor in reserve is still to be taken.
    pub(crate) fn new(world: World) -> io::Result<Self> {
        let (poller, generations) = (world.poller()?, world.generations());
        Ok(Self { world, poller, generations, attempts: Slab::new(), spare: None })
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn poller(&self) -> &Poller {
        &self.poller
    }

    pub(crate) fn poller_mut(&mut self) -> &mut Poller {
        &mut self.poller
    }

    /// A generation that no living connection or socket has.
    #[inline]
    pub(crate) fn draw_generation(&mut self) -> u64 {
        self.generations.draw()
    }

    /// Polls for one of the attempts of a connection; its slot.
    pub(crate) fn add_attempt(&mut self, id: ConnId, stream: &mut Stream) -> io::Result<usize> {
        let slot = self.attempts.vacant_key();
        self.poller.add(stream, Target::attempt_token(slot), true)?;
        Ok(self.attempts.insert(id))
    }

    /// An attempt has ended, or has become its connection.
    pub(crate) fn remove_attempt(&mut self, slot: usize) {
        self.attempts.remove(slot);
    }

    /// The connection that an attempt may become.
    pub(crate) fn attempt(&self, slot: usize) -> Option<ConnId> {
        self.attempts.get(slot).copied()
    }

    /// How many attempts are under way.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Gives the descriptor in reserve up; `false` if there was none.
    pub(crate) fn give_up_spare(&mut self) -> bool {
        self.spare.take().is_some()
    }

    /// Takes a descriptor in reserve again; `false` if there is none to be had.
    pub(crate) fn renew_spare(&mut self) -> bool {
        self.spare = self.world.spare();
        self.spare.is_some()
    }
}

/// The token of the waker: no connection and no listener has so large an index.
pub(crate) const WAKER_TOKEN: usize = (1 << token::INDEX_BITS) - 1;

/// The token of the descriptor whose readability asks to drain.
pub(crate) const DRAIN_TOKEN: usize = WAKER_TOKEN - 1;

/// The tokens of attempts to connect begin here: no listener has so large an index either.
const ATTEMPT_TOKENS: usize = 1 << (token::INDEX_BITS - 1);

/// The tokens of datagram sockets begin here, below those of attempts.
const SOCKET_TOKENS: usize = ATTEMPT_TOKENS / 2;

/// Connections at one time: so many slots have a token.
pub(crate) const MAX_SLOTS: usize = WAKER_TOKEN;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A connection, by its token.
    Connection(usize),
    /// An attempt at one of several addresses, by slot.
    Attempt(usize),
    /// A listener, by slot.
    Listener(usize),
    /// A datagram socket, by slot.
    Socket(usize),
    /// The waker.
    Waker,
    /// The descriptor whose readability asks to drain.
    Drain,
}

impl Target {
    #[inline]
    pub(crate) const fn of(token: usize) -> Self {
        // Nearly always.
        if token > WAKER_TOKEN {
            return Self::Connection(token);
        }
        match token {
            WAKER_TOKEN => Self::Waker,
            DRAIN_TOKEN => Self::Drain,
            0..SOCKET_TOKENS => Self::Listener(token),
            SOCKET_TOKENS..ATTEMPT_TOKENS => Self::Socket(token - SOCKET_TOKENS),
            _ => Self::Attempt(token - ATTEMPT_TOKENS),
        }
    }

    /// The token of an attempt to connect.
    pub(crate) const fn attempt_token(slot: usize) -> usize {
        ATTEMPT_TOKENS + slot
    }

    /// The token of a datagram socket.
    pub(crate) const fn socket_token(slot: usize) -> usize {
        SOCKET_TOKENS + slot
    }

    /// The token of a connection.
    pub(crate) const fn token(id: ConnId) -> usize {
        token::of(id)
    }

    /// The connection that a token is of, which may have ended. `generation` gives that of a slot,
    /// 0 for none.
    #[inline]
    pub(crate) fn id(token: usize, generation: impl Fn(usize) -> u64) -> ConnId {
        token::id(token, generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_their_targets_apart() {
        assert_eq!(Target::of(WAKER_TOKEN), Target::Waker);
        assert_eq!(Target::of(DRAIN_TOKEN), Target::Drain);
        assert_eq!(Target::of(3), Target::Listener(3));
        assert_eq!(Target::of(Target::attempt_token(3)), Target::Attempt(3));
        assert_eq!(Target::of(Target::socket_token(3)), Target::Socket(3));
        for generation in [1, 2, 65_536, u64::MAX >> crate::base::id::INDEX_BITS] {
            let token = Target::token(ConnId::new(7, generation));
            assert_eq!(Target::of(token), Target::Connection(token));
        }
    }
}
