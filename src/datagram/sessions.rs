//! State per peer of a datagram socket: who is known, and who has fallen silent.
//!
//! A datagram only stamps its session. The session's entry in the wheel fires when the peer may
//! have been silent for long enough, and is filed anew if it was not.

use std::collections::HashMap;
use std::net::SocketAddr;

use slab::Slab;

use crate::connection::after;
use crate::id::{SocketId, TimerId};

/// Which socket, and who on the other side.
pub(crate) type SessionKey = (SocketId, SocketAddr);

/// The sessions of one handler.
#[derive(Debug)]
pub(crate) struct Sessions<S> {
    slots: Slab<Session<S>>,
    /// The default hash has a secret key: whoever forges addresses cannot make them collide.
    ///
    /// Invariant: has each session of `slots` once.
    places: HashMap<SessionKey, u32>,
    most: usize,
    /// Ticks of silence that end a session.
    idle: u64,
    /// Whose datagrams came in this batch, to be stamped anew if it lasted.
    touched: Vec<u32>,
}

#[derive(Debug)]
struct Session<S> {
    key: SessionKey,
    state: S,
    /// The tick of the last datagram.
    active: u64,
    /// Its entry in the wheel.
    timer: Option<TimerId>,
}

/// What is to be done about a session whose entry has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It has been silent for long enough.
    Over,
    /// It was not: look again at this tick.
    Until(u64),
    /// There is no such session.
    Unknown,
}

impl<S> Sessions<S> {
    pub(crate) fn new(most: usize, idle: u64) -> Self {
        Self { slots: Slab::new(), places: HashMap::new(), most, idle, touched: Vec::new() }
    }

    /// The session of a peer, which is active now.
    #[inline]
    pub(crate) fn touch(&mut self, key: &SessionKey, now: u64) -> Option<u32> {
        let place = *self.places.get(key)?;
        let session = self.slots.get_mut(place as usize)?;
        session.active = now;
        if self.touched.last() != Some(&place) {
            self.touched.push(place);
        }
        Some(place)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= self.most
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.slots.len()
    }

    /// Begins a session; gives its place, and when to look whether it has fallen silent.
    ///
    /// Nothing comes before the socket has called for it, so nobody else has the key.
    pub(crate) fn begin(&mut self, key: SessionKey, state: S, now: u64) -> (u32, u64) {
        debug_assert!(!self.places.contains_key(&key));
        let place = self.slots.insert(Session { key, state, active: now, timer: None }) as u32;
        self.places.insert(key, place);
        self.touched.push(place);
        (place, after(now, self.idle))
    }

    pub(crate) fn set_timer(&mut self, place: u32, timer: TimerId) {
        if let Some(session) = self.slots.get_mut(place as usize) {
            session.timer = Some(timer);
        }
    }

    #[inline]
    pub(crate) fn state_mut(&mut self, place: u32) -> Option<&mut S> {
        self.slots.get_mut(place as usize).map(|session| &mut session.state)
    }

    /// The batch has ended at this tick: what came in it came no later.
    pub(crate) fn restamp(&mut self, end: u64) {
        for place in self.touched.drain(..) {
            if let Some(session) = self.slots.get_mut(place as usize) {
                session.active = session.active.max(end);
            }
        }
    }

    /// The entry of a session has fired.
    pub(crate) fn look(&mut self, place: u32, now: u64) -> Silence {
        let Some(session) = self.slots.get_mut(place as usize) else { return Silence::Unknown };
        session.timer = None;
        let deadline = after(session.active, self.idle);
        if now >= deadline { Silence::Over } else { Silence::Until(deadline) }
    }

    /// Ends a session: whose it was, its state, and its entry in the wheel.
    pub(crate) fn end(&mut self, place: u32) -> Option<(SessionKey, S, Option<TimerId>)> {
        let session = self.slots.try_remove(place as usize)?;
        self.places.remove(&session.key);
        Some((session.key, session.state, session.timer))
    }

    /// The sessions of one socket.
    pub(crate) fn of_socket(&self, socket: SocketId) -> Vec<u32> {
        let of = self.slots.iter().filter(|(_, session)| session.key.0 == socket);
        of.map(|(place, _)| place as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> SessionKey {
        (SocketId::new(0, 1), SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn a_session_ends_when_it_was_silent_for_long_enough_and_not_before() {
        let mut sessions = Sessions::new(10, 100);
        let (place, deadline) = sessions.begin(key(1), "state", 5);
        assert_eq!(deadline, 106);
        assert_eq!(sessions.touch(&key(1), 50), Some(place));
        assert_eq!(sessions.look(place, 106), Silence::Until(151));
        assert_eq!(sessions.look(place, 150), Silence::Until(151));
        assert_eq!(sessions.look(place, 151), Silence::Over);
        assert_eq!(sessions.end(place).unwrap().1, "state");
        assert_eq!(sessions.look(place, 151), Silence::Unknown);
        assert_eq!(sessions.touch(&key(1), 151), None);
        assert!(sessions.end(place).is_none());
    }

    #[test]
    fn what_came_in_a_long_batch_came_at_its_end() {
        let mut sessions = Sessions::new(10, 100);
        let (one, _) = sessions.begin(key(1), (), 0);
        let (two, _) = sessions.begin(key(2), (), 0);
        sessions.restamp(0);
        sessions.touch(&key(1), 10);
        sessions.restamp(30);
        sessions.restamp(60);
        assert_eq!(sessions.look(one, 0), Silence::Until(131));
        assert_eq!(sessions.look(two, 0), Silence::Until(101));
    }

    #[test]
    fn peers_and_sockets_are_told_apart() {
        let mut sessions = Sessions::new(3, 100);
        let other = (SocketId::new(0, 2), key(1).1);
        let places = [key(1), key(2), other].map(|key| sessions.begin(key, key, 0).0);
        assert!(sessions.is_full());
        for (key, place) in [key(1), key(2), other].iter().zip(places) {
            assert_eq!(sessions.touch(key, 1), Some(place));
            assert_eq!(sessions.state_mut(place), Some(&mut key.clone()));
        }
        assert_eq!(sessions.of_socket(other.0), [places[2]]);
        assert_eq!(sessions.of_socket(key(1).0).len(), 2);
        sessions.end(places[1]);
        assert_eq!((sessions.len(), sessions.is_full()), (2, false));
    }
}
