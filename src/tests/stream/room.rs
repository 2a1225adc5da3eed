//! Room for further connections, and the listeners that wait for it.

use super::*;
use crate::engine::Queued;
use crate::options::AtCapacity;

fn waits() -> ListenOptions {
    ListenOptions::default().at_capacity(AtCapacity::Wait)
}

impl Rig {
    fn asks_in_vain(&mut self, listener: usize) {
        assert_eq!(self.streams.admits(listener), Admission::Wait);
        assert!(!self.streams.has_room(listener));
    }

    /// The listeners that are to accept again.
    fn recalled(&mut self) -> Vec<usize> {
        let mut recalled = Vec::new();
        while let Some(queued) = self.engine.ready.pop_other() {
            let Queued::Listener(index) = queued else { panic!("{queued:?}") };
            self.streams.listener_mut(index as usize).unwrap().is_queued = false;
            recalled.push(index as usize);
        }
        recalled
    }
}

#[test]
fn a_connection_comes_in_only_if_both_caps_have_room() {
    let mut rig = Rig::with_cap(2);
    let own = rig.listener(&ListenOptions::default().max_connections(Some(1)));
    let other = rig.listener(&ListenOptions::default());
    assert!(rig.streams.has_room(own) && rig.streams.has_room(other));
    rig.accept(own);
    assert_eq!(rig.streams.admits(own), Admission::Refuse, "its own is full");
    assert!(!rig.streams.has_room(own) && rig.streams.has_room(other));
    let last = rig.accept(other);
    assert_eq!(rig.streams.admits(other), Admission::Refuse, "that of the reactor is full");
    assert!(!rig.streams.has_room(own) && !rig.streams.has_room(other));
    assert_eq!(rig.streams.counted(), 2);
    rig.end(last);
    assert_eq!((rig.streams.counted(), rig.recalled().len()), (1, 0), "none waits");
    assert_eq!(rig.streams.admits(99), Admission::Wait, "it is closed");
    assert!(!rig.streams.has_room(99));
}

#[test]
fn as_many_listeners_are_recalled_as_there_are_places_in_the_order_in_which_they_came() {
    let mut rig = Rig::with_cap(20);
    let listeners: Vec<usize> = (0..5).map(|_| rig.listener(&waits())).collect();
    let inside: Vec<ConnId> = (0..20).map(|_| rig.accept(listeners[0])).collect();
    for listener in [&listeners[1..], &listeners[1..]].concat() {
        rig.asks_in_vain(listener);
    }
    rig.streams.listeners.remove(listeners[1]); // closed meanwhile
    rig.end(inside[0]);
    assert_eq!(rig.recalled(), [], "19 of 20 is still shut");
    rig.end(inside[1]);
    assert_eq!(rig.recalled(), listeners[2..4]);
    rig.end(inside[2]);
    assert_eq!(rig.recalled(), listeners[4..], "for the third place");
    rig.end(inside[3]);
    assert_eq!(rig.recalled(), [], "none waits");
}

#[test]
fn a_place_that_a_recalled_listener_has_not_used_goes_to_the_next() {
    let mut rig = Rig::with_cap(1);
    let [first, second, third] = [(); 3].map(|()| rig.listener(&waits()));
    let inside = rig.accept(first);
    rig.asks_in_vain(second);
    rig.asks_in_vain(third);
    rig.end(inside);
    assert_eq!(rig.recalled(), [second]);
    rig.streams.recall_others(&mut rig.engine);
    assert_eq!(rig.recalled(), [third]);
    rig.streams.recall_others(&mut rig.engine);
    assert_eq!(rig.recalled(), []);
}

#[test]
fn a_listener_whose_own_cap_is_full_waits_for_an_end_of_its_own() {
    let mut rig = Rig::with_cap(3);
    let other = rig.listener(&waits());
    let full = rig.listener(&waits().max_connections(Some(1)));
    let own = rig.accept(full);
    rig.asks_in_vain(full);
    let last = rig.accept(other);
    rig.end(last);
    assert_eq!(rig.recalled(), [], "a place of the reactor does not help it");
    rig.end(own);
    assert_eq!(rig.recalled(), [full]);
}

#[test]
fn a_listener_that_waits_for_both_caps_comes_back_when_both_have_room() {
    let mut rig = Rig::with_cap(2);
    let other = rig.listener(&waits());
    let full = rig.listener(&waits().max_connections(Some(1)));
    let (own, last) = (rig.accept(full), rig.accept(other));
    rig.asks_in_vain(other);
    rig.asks_in_vain(full);
    rig.end(own);
    assert_eq!(rig.recalled(), [other], "it came first");
    rig.accept(other);
    rig.streams.recall_others(&mut rig.engine);
    assert_eq!(rig.recalled(), []);
    rig.end(last);
    assert_eq!(rig.recalled(), [full]);
}
