//! The states of a handler's connections, and what of them is lent while one of them is in use.
//!
//! ```text
//!   before         | running | after          the states, by place
//!   lent, erased   | &mut S  | lent, erased   to the callback
//! ```
//! Nothing is taken out and nothing is boxed: the table is split around the state of the running
//! callback, and the two sides travel in the [`Conn`](crate::Conn) or the
//! [`Context`](crate::Context). Callbacks that have no state in the table get it whole.

use std::any::Any;
use std::fmt;

use crate::base::memory::KEPT_ENTRIES;

/// The states of one handler's connections.
#[derive(Debug)]
pub(super) struct StateTable<S> {
    /// The place of the handler in the reactor.
    handler: u32,
    /// The states, by place; `None` is free. A state of `()` takes one byte.
    states: Vec<Option<S>>,
    /// The free places.
    free: Vec<u32>,
}

impl<S> StateTable<S> {
    pub(super) fn new(handler: u32) -> Self {
        Self { handler, states: Vec::new(), free: Vec::new() }
    }

    pub(super) fn store(&mut self, state: S) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.states[place as usize] = Some(state);
                place
            }
            None => {
                self.states.push(Some(state));
                (self.states.len() - 1) as u32
            }
        }
    }

    pub(super) fn take(&mut self, place: u32) -> Option<S> {
        let state = self.states.get_mut(place as usize)?.take();
        if state.is_some() {
            self.free.push(place);
            if self.states.len() > KEPT_ENTRIES && self.free.len() == self.states.len() {
                // What the busiest moment took goes back.
                (self.states, self.free) = (Vec::new(), Vec::new());
            }
        }
        state
    }

    /// States for which there is room.
    #[cfg(test)]
    fn room(&self) -> usize {
        self.states.capacity().max(self.free.capacity())
    }

    /// The state at a place, and all others.
    #[inline]
    pub(super) fn split(&mut self, place: u32) -> Option<(&mut S, AllButOne<'_, S>)> {
        let (before, rest) = self.states.split_at_mut_checked(place as usize)?;
        let (state, after) = rest.split_first_mut()?;
        Some((state.as_mut()?, AllButOne { before, after }))
    }
}

/// All states of a handler but that of the connection whose callback runs.
#[derive(Debug)]
pub(super) struct AllButOne<'a, S> {
    before: &'a mut [Option<S>],
    /// What begins one place behind the end of `before`.
    after: &'a mut [Option<S>],
}

/// States whose type only the handler knows.
pub(super) trait States {
    /// The place of the handler in the reactor, for two may be of one type; `None` for that of the
    /// connection whose callback runs, which need not be stored for each message.
    fn handler(&self) -> Option<u32>;

    /// The state at a place.
    fn state_mut(&mut self, place: u32) -> Option<&mut dyn Any>;
}

impl<S: 'static> States for StateTable<S> {
    fn handler(&self) -> Option<u32> {
        Some(self.handler)
    }

    fn state_mut(&mut self, place: u32) -> Option<&mut dyn Any> {
        Some(self.states.get_mut(place as usize)?.as_mut()?)
    }
}

impl<S: 'static> States for AllButOne<'_, S> {
    fn handler(&self) -> Option<u32> {
        None
    }

    fn state_mut(&mut self, place: u32) -> Option<&mut dyn Any> {
        let place = place as usize;
        let state = match place.checked_sub(self.before.len()) {
            None => self.before.get_mut(place),
            Some(behind) => self.after.get_mut(behind.checked_sub(1)?),
        };
        Some(state?.as_mut()?)
    }
}

/// The states that are lent with a [`Conn`](crate::Conn) or a [`Context`](crate::Context), if any.
pub(crate) struct LentStates<'a>(Option<&'a mut (dyn States + 'a)>);

impl<'a> LentStates<'a> {
    /// For callbacks of handlers that have none, and where no handler runs.
    pub(crate) const NONE: Self = Self(None);

    #[inline]
    pub(super) fn new(states: &'a mut (dyn States + 'a)) -> Self {
        Self(Some(states))
    }

    #[inline]
    pub(super) fn reborrow(&mut self) -> LentStates<'_> {
        LentStates(match &mut self.0 {
            Some(states) => Some(&mut **states),
            None => None,
        })
    }

    /// The place of the handler whose states these are, if any are lent. `running` gives that of
    /// the connection whose callback runs.
    pub(super) fn handler(&self, running: impl FnOnce() -> Option<u32>) -> Option<u32> {
        self.0.as_ref()?.handler().or_else(running)
    }

    /// The state at a place.
    pub(super) fn state_mut<S: 'static>(&mut self, place: u32) -> Option<&mut S> {
        self.0.as_mut()?.state_mut(place)?.downcast_mut()
    }
}

impl fmt::Debug for LentStates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LentStates").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_one_are_found_at_their_places() {
        let mut table = StateTable::new(3);
        for place in 0..5_u32 {
            assert_eq!(table.store(10 * place), place);
        }
        assert_eq!(table.take(1), Some(10));
        for running in [0, 2, 3, 4] {
            let (state, mut others) = table.split(running).unwrap();
            assert_eq!(*state, 10 * running);
            let mut lent = LentStates::new(&mut others);
            assert_eq!(lent.handler(|| Some(4)), Some(4));
            for place in 0..7 {
                let is_there = place < 5 && place != 1 && place != running;
                let found = lent.reborrow().state_mut::<u32>(place).copied();
                assert_eq!(found, is_there.then_some(10 * place), "{running} {place}");
                assert_eq!(lent.state_mut::<i32>(place), None, "of another type");
            }
            assert_eq!(lent.state_mut::<u32>(u32::MAX), None);
        }
        for nobody in [1, 5, u32::MAX] {
            assert!(table.split(nobody).is_none());
        }
        let mut whole = LentStates::new(&mut table);
        assert_eq!(whole.handler(|| None), Some(3));
        assert_eq!(whole.state_mut::<u32>(4), Some(&mut 40));
        assert_eq!(whole.state_mut::<u32>(1), None);
        assert_eq!(LentStates::NONE.handler(|| Some(4)), None);
        let mut none = LentStates::NONE;
        assert_eq!(none.state_mut::<u32>(4), None);
    }

    #[test]
    fn the_memory_of_the_busiest_moment_goes_back_with_the_last_state() {
        let mut table = StateTable::new(0);
        let places: Vec<u32> = (0..2 * KEPT_ENTRIES).map(|number| table.store(number)).collect();
        assert!(table.room() >= 2 * KEPT_ENTRIES);
        for (number, &place) in places.iter().enumerate() {
            assert_eq!(table.take(place), Some(number));
        }
        assert_eq!(table.room(), 0);
        assert!(table.take(places[0]).is_none() && table.split(places[0]).is_none());
        let place = table.store(7);
        assert_eq!(table.take(place), Some(7));
        assert!(table.room() > 0, "a small table stays");
    }
}
