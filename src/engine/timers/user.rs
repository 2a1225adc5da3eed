//! Timers that handlers have set: whose each is, and the token that comes back with it.
//!
//! Their ids are of a table of their own. So an id of the user's never names an entry of the wheel
//! that the loop itself has armed.

use crate::base::id::{ConnId, IdTable, SocketId, Timer, TimerId};
use crate::base::memory::KEPT_ENTRIES;

/// Who has set a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A connection: the timer ends with it.
    Connection(ConnId),
    /// A datagram socket, likewise.
    Socket(SocketId),
    /// A handler, by its place in the reactor.
    Handler(u32),
}

/// A timer of the user's that has fired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fired {
    pub(crate) timer: Timer,
    pub(crate) owner: Owner,
    /// Whether the timer does not fire again.
    pub(crate) is_last: bool,
}

/// All timers of the user's, by place.
#[derive(Debug)]
pub(super) struct UserTimers {
    ids: IdTable,
    /// What each live id is of; a free place has what was there last.
    timers: Vec<UserTimer>,
}

#[derive(Debug)]
struct UserTimer {
    id: TimerId,
    owner: Owner,
    token: u64,
    /// Its entry in the wheel.
    entry: TimerId,
}

impl UserTimers {
    pub(super) fn new() -> Self {
        Self { ids: IdTable::new(), timers: Vec::new() }
    }

    /// A new timer, whose entry is still to be set.
    pub(super) fn add(&mut self, owner: Owner, token: u64) -> (TimerId, u32) {
        let key = self.ids.allocate();
        let id = self.ids.id_of(key);
        let timer = UserTimer { id, owner, token, entry: TimerId::NONE };
        match self.timers.get_mut(key.index()) {
            Some(place) => *place = timer,
            None => self.timers.push(timer),
        }
        (id, key.index() as u32)
    }

    pub(super) fn set_entry(&mut self, place: u32, entry: TimerId) {
        if let Some(timer) = self.timers.get_mut(place as usize) {
            timer.entry = entry;
        }
    }

    pub(super) fn entry(&self, place: u32) -> Option<TimerId> {
        self.timers.get(place as usize).map(|timer| timer.entry)
    }

    pub(super) fn contains(&self, id: TimerId) -> bool {
        self.ids.key_of(id).is_some()
    }

    /// Forgets a timer; whose it was, and its entry in the wheel.
    pub(super) fn remove(&mut self, id: TimerId) -> Option<(Owner, TimerId)> {
        let key = self.ids.key_of(id)?;
        self.ids.release(key);
        let &UserTimer { owner, entry, .. } = self.timers.get(key.index())?;
        if self.ids.live() == 0 && self.timers.len() > KEPT_ENTRIES {
            // What the busiest moment took goes back. Ids of the new table are of another maker.
            *self = Self::new();
        }
        Some((owner, entry))
    }

    /// Timers for which there is room.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.timers.capacity().max(self.ids.indices())
    }

    /// The timer at this place has fired, perhaps for the last time.
    pub(super) fn fired(&mut self, place: u32, is_last: bool) -> Option<Fired> {
        let &UserTimer { id, owner, token, .. } = self.timers.get(place as usize)?;
        if is_last {
            self.remove(id)?;
        }
        Some(Fired { timer: Timer { id, token }, owner, is_last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_used_again_has_another_id() {
        let mut timers = UserTimers::new();
        let (first, place) = timers.add(Owner::Handler(1), 5);
        assert_eq!(timers.fired(place, false).map(|fired| fired.timer.token), Some(5));
        assert!(timers.contains(first));
        assert!(timers.fired(place, true).is_some_and(|fired| fired.timer.id == first));
        assert!(!timers.contains(first) && timers.remove(first).is_none());
        let (second, again) = timers.add(Owner::Handler(2), 6);
        assert_eq!(place, again);
        assert_ne!(first, second);
        assert_eq!(timers.remove(second).map(|(owner, _)| owner), Some(Owner::Handler(2)));
    }

    #[test]
    fn an_id_of_another_table_names_nothing() {
        let (mut one, mut other) = (UserTimers::new(), UserTimers::new());
        let (id, _) = one.add(Owner::Handler(0), 0);
        other.add(Owner::Handler(0), 0);
        assert!(!other.contains(id) && other.remove(id).is_none() && one.contains(id));
    }
}
