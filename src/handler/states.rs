//! The states of a handler's connections, and what of them is lent while one of them is in use.
//!
//! ```text
//!   before         | running | after          the states, by place
//!   lent, erased   | &mut S  | lent, erased   to the callback
//! ```
//! Nothing is taken out and nothing is boxed: the table is split around the state of the running
//! callback, and the two sides travel in the [`Conn`](crate::Conn) or the
//! [`Context`](crate::Context). Callbacks that have no state in the table get it whole. A state
//! that is lent to a closure splits one of the sides in turn, and what is left travels on.

use std::any::Any;
use std::fmt;
use std::mem;

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

/// Into how many stretches a table may be split: by the state of a callback, and by those of three
/// closures within one another.
const STRETCHES: usize = 4;

/// Some states side by side.
struct Stretch<'a, S> {
    /// The place of the first.
    first: u32,
    states: &'a mut [Option<S>],
}

impl<S> Default for Stretch<'_, S> {
    fn default() -> Self {
        Self { first: 0, states: &mut [] }
    }
}

/// The states of a handler that are left when some are lent.
struct Left<'a, S> {
    handler: u32,
    stretches: [Stretch<'a, S>; STRETCHES],
}

impl<S: 'static> Left<'_, S> {
    /// Lends the state at a place, and what is then left.
    fn lend_one(mut self, place: u32, call: Borrower<'_>) {
        let holds = |stretch: &Stretch<'_, S>| {
            let index = place.checked_sub(stretch.first);
            index.is_some_and(|index| (index as usize) < stretch.states.len())
        };
        let Some(stretch) = self.stretches.iter_mut().find(|stretch| holds(stretch)) else {
            return;
        };
        let Stretch { first, states } = mem::take(stretch);
        let (before, rest) = states.split_at_mut((place - first) as usize);
        let Some((Some(state), after)) = rest.split_first_mut() else { return };
        *stretch = Stretch { first, states: before };
        match self.stretches.iter_mut().find(|stretch| stretch.states.is_empty()) {
            Some(free) => {
                *free = Stretch { first: place + 1, states: after };
                call(state, LentStates::new(&mut self));
            }
            None => call(state, LentStates::NONE),
        }
    }
}

/// What a state is lent to, with those that are left.
type Borrower<'a> = &'a mut dyn FnMut(&mut dyn Any, LentStates<'_>);

/// States whose type only the handler knows.
pub(super) trait States {
    /// The place of the handler in the reactor, for two may be of one type; `None` for that of the
    /// connection whose callback runs, which need not be stored for each message.
    fn handler(&self) -> Option<u32>;

    /// Lends the state at a place, if there is one, and the others with it. `handler` is whose they
    /// are.
    fn lend(&mut self, handler: u32, place: u32, call: Borrower<'_>);
}

impl<S: 'static> States for StateTable<S> {
    fn handler(&self) -> Option<u32> {
        Some(self.handler)
    }

    fn lend(&mut self, handler: u32, place: u32, call: Borrower<'_>) {
        let mut stretches: [Stretch<'_, S>; STRETCHES] = Default::default();
        stretches[0].states = &mut self.states;
        Left { handler, stretches }.lend_one(place, call);
    }
}

impl<S: 'static> States for AllButOne<'_, S> {
    fn handler(&self) -> Option<u32> {
        None
    }

    fn lend(&mut self, handler: u32, place: u32, call: Borrower<'_>) {
        let mut stretches: [Stretch<'_, S>; STRETCHES] = Default::default();
        stretches[1].first = self.before.len() as u32 + 1;
        stretches[0].states = self.before;
        stretches[1].states = self.after;
        Left { handler, stretches }.lend_one(place, call);
    }
}

impl<S: 'static> States for Left<'_, S> {
    fn handler(&self) -> Option<u32> {
        Some(self.handler)
    }

    fn lend(&mut self, handler: u32, place: u32, call: Borrower<'_>) {
        let stretches = self.stretches.each_mut();
        let stretches =
            stretches.map(|Stretch { first, states }| Stretch { first: *first, states });
        Left { handler, stretches }.lend_one(place, call);
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

    /// Lends the state at a place of the table of `handler`, if there is one of this type, and the
    /// others with it.
    pub(super) fn lend<S: 'static>(
        &mut self,
        handler: u32,
        place: u32,
        mut call: impl FnMut(&mut S, LentStates<'_>),
    ) {
        let Some(states) = &mut self.0 else { return };
        states.lend(handler, place, &mut |state, left| {
            if let Some(state) = state.downcast_mut() {
                call(state, left);
            }
        });
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

    /// The state at a place, and which of the places up to the tenth are found with it.
    fn found(lent: &mut LentStates<'_>, place: u32) -> Option<(u32, Vec<u32>)> {
        let mut found = None;
        lent.lend(3, place, |state: &mut u32, mut left| {
            let mut places = Vec::new();
            for place in 0..10 {
                left.lend(3, place, |_: &mut u32, _| places.push(place));
            }
            found = Some((*state, places));
        });
        found
    }

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
            for place in (0..7).chain([u32::MAX]) {
                let is_there = place < 5 && place != 1 && place != running;
                let left = [0, 2, 3, 4].into_iter().filter(|&it| it != place && it != running);
                let wanted = is_there.then(|| (10 * place, left.collect()));
                assert_eq!(found(&mut lent.reborrow(), place), wanted, "{running} {place}");
                lent.lend(3, place, |_: &mut i32, _| panic!("of another type"));
            }
        }
        for nobody in [1, 5, u32::MAX] {
            assert!(table.split(nobody).is_none());
        }
        let mut whole = LentStates::new(&mut table);
        assert_eq!(whole.handler(|| None), Some(3));
        assert_eq!(found(&mut whole, 4), Some((40, vec![0, 2, 3])));
        assert_eq!(found(&mut whole, 1), None);
        assert_eq!(LentStates::NONE.handler(|| Some(4)), None);
        let mut none = LentStates::NONE;
        none.lend(3, 4, |_: &mut u32, _| panic!("none are lent"));
    }

    /// Whatever the places are, each of those within one another is another one, and the others
    /// are found with it until the table is in as many pieces as may be.
    #[test]
    fn states_are_lent_within_one_another() {
        fn lend(lent: &mut LentStates<'_>, taken: &[u32]) {
            for place in 0..6 {
                let mut is_lent = false;
                lent.lend(3, place, |state: &mut u32, mut left| {
                    assert_eq!(*state, place);
                    is_lent = true;
                    assert_eq!(left.handler(|| None).is_some(), left.0.is_some());
                    lend(&mut left, &[taken, &[place]].concat());
                });
                let is_left = !taken.contains(&place);
                if taken.len() < STRETCHES {
                    assert_eq!(is_lent, is_left, "{place} within {taken:?}");
                } else {
                    assert!(is_left || !is_lent, "{place} is lent twice");
                }
            }
        }
        let mut table = StateTable::new(3);
        for place in 0..6_u32 {
            table.store(place);
        }
        lend(&mut LentStates::new(&mut table), &[]);
        for running in 0..6 {
            let (_, mut others) = table.split(running).unwrap();
            lend(&mut LentStates::new(&mut others), &[running]);
        }
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
