//! State per peer of a datagram socket: who is known, and who has fallen silent.
//!
//! A datagram only stamps its session. The session's entry in the wheel fires when the peer may
//! have been silent for long enough, and is filed anew if it was not.

use std::collections::HashMap;
use std::net::SocketAddr;

use slab::Slab;

use crate::base::id::{SocketId, TimerId};
use crate::base::tick::after;

/// Which socket, and who on the other side.
pub(crate) type SessionKey = (SocketId, SocketAddr);

/// All sessions of a handler, over all its sockets, in no order.
///
/// Lent to the callbacks that belong to no single session: `on_batch_end`, `on_timer` and
/// others of [`SessionHandler`](crate::udp::SessionHandler).
///
/// # Examples
/// Each datagram is sent to all peers. Once a second all peers get their number, and a peer that
/// was silent for ten seconds loses its session:
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
/// use waterwheel::udp::{DatagramSocket, Session, SessionHandler, SessionOptions};
/// use waterwheel::udp::{Sessions, UdpOptions};
/// use waterwheel::{Reactor, Timer};
///
/// #[derive(Default)]
/// struct Chat {
///     said: Vec<Vec<u8>>,
/// }
///
/// /// Seconds for which a peer has said nothing.
/// struct Quiet(u32);
///
/// impl SessionHandler for Chat {
///     type State = Quiet;
///
///     fn on_session(&mut self, _: SocketAddr, _: &[u8]) -> Option<Quiet> {
///         Some(Quiet(0))
///     }
///
///     fn on_datagram(&mut self, quiet: &mut Quiet, _: &mut Session<'_>, bytes: &[u8]) {
///         quiet.0 = 0;
///         self.said.push(bytes.to_vec());
///     }
///
///     fn on_batch_end(&mut self, all: &mut Sessions<Quiet>, socket: &mut DatagramSocket<'_>) {
///         for text in self.said.drain(..) {
///             for (id, peer, _) in all.iter_mut() {
///                 if let Some(mut by) = socket.context().socket(id) {
///                     by.send_to(peer, &text);
///                 }
///             }
///         }
///     }
///
///     fn on_timer(
///         &mut self,
///         all: &mut Sessions<Quiet>,
///         socket: &mut DatagramSocket<'_>,
///         _: Timer,
///     ) {
///         let count = all.len().to_string();
///         let mut gone = Vec::new();
///         for (id, peer, quiet) in all.iter_mut() {
///             quiet.0 += 1;
///             if quiet.0 == 10 {
///                 gone.push((id, peer));
///             } else if let Some(mut socket) = socket.context().socket(id) {
///                 socket.send_to(peer, count.as_bytes());
///             }
///         }
///         for (id, peer) in gone {
///             all.end(id, peer);
///         }
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let chat = reactor.register(Chat::default());
/// let (sessions, options) = (SessionOptions::default(), UdpOptions::default());
/// let (id, _) = reactor.bind_sessions("127.0.0.1:0", chat, sessions, options)?;
/// if let Some(mut socket) = reactor.context().socket(id) {
///     socket.set_periodic_timer(Duration::from_secs(1), 0);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Sessions<S> {
    slots: Slab<Session<S>>,
    /// The default hash has a secret key, so that forged addresses cannot be made to collide.
    ///
    /// Invariant: has each session of `slots` once.
    places: HashMap<SessionKey, u32>,
    most: usize,
    /// Ticks of silence that end a session.
    idle: u64,
    /// Whose datagrams came in this batch, to be stamped anew if it lasted.
    touched: Vec<u32>,
    /// Sessions that the handler has ended, and whose end it has not been called for.
    ///
    /// Invariant: each session of `slots` that is over, once.
    over: Vec<u32>,
}

#[derive(Debug)]
struct Session<S> {
    key: SessionKey,
    /// Where the last datagram arrived, if the system reports it.
    local: Option<SocketAddr>,
    state: S,
    /// The tick of the last datagram.
    active: u64,
    /// Its entry in the wheel.
    timer: Option<TimerId>,
    /// Whether the handler has ended the session, which goes when the callback has returned.
    is_over: bool,
}

/// What is to be done about a session whose entry has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The session has been silent for long enough.
    Over,
    /// The session was not silent for long enough: look again at this tick.
    Until(u64),
    /// There is no such session.
    Unknown,
}

impl<S> Sessions<S> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.over.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state of a peer of one of the handler's sockets, if it has a session.
    pub fn get_mut(&mut self, socket: SocketId, peer: SocketAddr) -> Option<&mut S> {
        let place = *self.places.get(&(socket, peer))?;
        let session = self.slots.get_mut(place as usize).filter(|session| !session.is_over)?;
        Some(&mut session.state)
    }

    /// All of them: by which socket they came, whose they are, and their state. What is sent to a
    /// peer goes by that socket: [`Context::socket`](crate::Context::socket). If that is bound to
    /// all addresses, keep [`Session::local_addr`](crate::udp::Session::local_addr) in the state,
    /// for [`send_from`](crate::udp::DatagramSocket::send_from).
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SocketId, SocketAddr, &mut S)> {
        let open = self.slots.iter_mut().filter(|(_, session)| !session.is_over);
        open.map(|(_, session)| (session.key.0, session.key.1, &mut session.state))
    }

    /// Ends the session of a peer when this callback has returned, with
    /// [`SessionEnd::Local`](crate::udp::SessionEnd::Local); until then it is not found any more.
    /// Whether there was one.
    pub fn end(&mut self, socket: SocketId, peer: SocketAddr) -> bool {
        let Some(&place) = self.places.get(&(socket, peer)) else { return false };
        let Some(session) = self.slots.get_mut(place as usize) else { return false };
        let is_new = !session.is_over;
        if is_new {
            session.is_over = true;
            self.over.push(place);
        }
        is_new
    }

    pub(crate) fn new(most: usize, idle: u64) -> Self {
        let (touched, over) = (Vec::new(), Vec::new());
        Self { slots: Slab::new(), places: HashMap::new(), most, idle, touched, over }
    }

    /// A session that the handler has ended, and whose end it is to be called for.
    #[inline]
    pub(crate) fn next_over(&self) -> Option<u32> {
        self.over.last().copied()
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

    /// Begins a session; returns its place, and when to look whether it has fallen silent.
    ///
    /// Nothing comes before the socket has called for it, so no other session has the key.
    pub(crate) fn begin(&mut self, key: SessionKey, state: S, now: u64) -> (u32, u64) {
        debug_assert!(!self.places.contains_key(&key));
        let (local, timer) = (None, None);
        let session = Session { key, local, state, active: now, timer, is_over: false };
        let place = self.slots.insert(session) as u32;
        self.places.insert(key, place);
        self.touched.push(place);
        (place, after(now, self.idle))
    }

    pub(crate) fn set_timer(&mut self, place: u32, timer: TimerId) {
        if let Some(session) = self.slots.get_mut(place as usize) {
            session.timer = Some(timer);
        }
    }

    /// A datagram of a session has arrived at a local address. Returns the session's state.
    #[inline]
    pub(crate) fn receive(&mut self, place: u32, local: Option<SocketAddr>) -> Option<&mut S> {
        let session = self.slots.get_mut(place as usize)?;
        session.local = local;
        Some(&mut session.state)
    }

    /// Where the last datagram of a session arrived.
    pub(crate) fn local(&self, place: u32) -> Option<SocketAddr> {
        self.slots.get(place as usize)?.local
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

    /// Takes out a session: whose it was, its state, and its entry in the wheel.
    pub(crate) fn remove(&mut self, place: u32) -> Option<(SessionKey, S, Option<TimerId>)> {
        let session = self.slots.try_remove(place as usize)?;
        self.places.remove(&session.key);
        if session.is_over {
            // From the end, where it is as a rule: all may end at once.
            if let Some(at) = self.over.iter().rposition(|&over| over == place) {
                self.over.swap_remove(at);
            }
        }
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
        let timer = TimerId::new(3, 4, 1);
        sessions.set_timer(place, timer);
        assert_eq!(sessions.remove(place).unwrap(), (key(1), "state", Some(timer)));
        assert_eq!(sessions.look(place, 151), Silence::Unknown);
        assert_eq!(sessions.touch(&key(1), 151), None);
        assert!(sessions.remove(place).is_none());
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
            assert_eq!(sessions.receive(place, None), Some(&mut key.clone()));
        }
        assert_eq!(sessions.of_socket(other.0), [places[2]]);
        assert_eq!(sessions.of_socket(key(1).0).len(), 2);
        sessions.remove(places[1]);
        assert_eq!((sessions.len(), sessions.is_full()), (2, false));
    }

    /// Ending all sessions takes minutes if each is searched among all.
    #[test]
    fn all_can_end_at_once() {
        let most = 1 << 17;
        let mut sessions = Sessions::new(most, 100);
        let keys = (0..most).map(|number| (SocketId::new(0, number as u64), key(1).1));
        for key in keys.clone() {
            sessions.begin(key, (), 0);
        }
        assert!(keys.into_iter().all(|(socket, peer)| sessions.end(socket, peer)));
        while let Some(place) = sessions.next_over() {
            assert!(sessions.remove(place).is_some());
        }
        assert!(sessions.is_empty() && !sessions.is_full());
    }

    #[test]
    fn one_that_is_over_is_found_no_more_and_ends_once() {
        let mut sessions = Sessions::new(3, 100);
        let places = [1, 2, 3].map(|port| sessions.begin(key(port), port, 0).0);
        let (socket, peer) = key(2);
        *sessions.get_mut(socket, peer).unwrap() = 7;
        assert!(sessions.end(socket, peer) && !sessions.end(socket, peer));
        assert!(!sessions.end(socket, key(4).1));
        assert_eq!(sessions.get_mut(socket, peer), None);
        assert_eq!(sessions.len(), 2);
        let left: Vec<u16> = sessions.iter_mut().map(|(_, _, port)| *port).collect();
        assert_eq!(left, [1, 3]);
        // Its place is not free before its handler knows.
        assert!(sessions.is_full());
        assert!(sessions.end(socket, key(3).1));
        assert_eq!(sessions.next_over(), Some(places[2]));
        assert_eq!(sessions.remove(places[1]).unwrap().1, 7);
        assert_eq!(sessions.next_over(), Some(places[2]));
        assert_eq!(sessions.remove(places[2]).unwrap().1, 3);
        assert_eq!((sessions.next_over(), sessions.len(), sessions.is_empty()), (None, 1, false));
        // The session that has its place now is not over.
        sessions.begin(key(2), 2, 0);
        assert_eq!((sessions.next_over(), sessions.len()), (None, 2));
    }
}
