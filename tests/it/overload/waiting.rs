//! Listeners that wait for room: which of them are recalled when there is some, and that none is
//! forgotten.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::observer::{Observer, Phase};
use waterwheel::{AtCapacity, ConnId, ListenOptions, ReactorOptions};

use crate::support::{Client, Journal, Rig, Script};

/// Counts what is done in the phase of the ready queue.
struct Counter(Rc<Cell<usize>>);

impl Observer for Counter {
    fn on_phase_end(&mut self, phase: Phase, count: usize, _: Duration) {
        if phase == Phase::Ready {
            self.0.set(self.0.get() + count);
        }
    }
}

fn waits() -> ListenOptions {
    ListenOptions::default().at_capacity(AtCapacity::Wait)
}

/// A reactor with a cap, and so many further listeners with the same options.
fn crowd(most: usize, others: usize, options: &ListenOptions) -> (Rig, Vec<SocketAddr>) {
    let reactor = ReactorOptions::default().max_connections(Some(most));
    let mut rig = Rig::with(Script::echo(), Journal::default(), waits(), reactor);
    let others = (0..others).map(|_| rig.add(Script::echo(), options.clone()).1).collect();
    (rig, others)
}

/// From now on, how many are served from the ready queue.
fn count(rig: &mut Rig) -> Rc<Cell<usize>> {
    let count = Rc::default();
    rig.reactor.observe(Counter(Rc::clone(&count)));
    count
}

#[track_caller]
fn leave(rig: &mut Rig, (client, id): (Client, ConnId)) {
    drop(client);
    rig.end_of(id);
}

/// A client that has asked and is not served.
#[track_caller]
fn asks(rig: &mut Rig, addr: SocketAddr) -> Client {
    let accepted = rig.reactor.stats().accepted;
    let mut client = Client::connect(addr);
    client.send(b"?");
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().accepted, accepted, "accepted over the cap");
    client
}

#[test]
fn one_place_recalls_one_listener() {
    const OTHERS: usize = 40;
    let (mut rig, others) = crowd(2, OTHERS, &waits());
    let mut inside = vec![rig.client(), rig.client()];
    let mut waiting: Vec<_> = others.iter().map(|&addr| asks(&mut rig, addr)).collect();
    let count = count(&mut rig);
    leave(&mut rig, inside.pop().unwrap());
    rig.expect(&mut waiting[0], b"?");
    rig.expect_quiet();
    assert!(count.get() <= 3, "{} had a turn for one place", count.get());
    // Those behind it come one by one, in their order.
    for next in 1..OTHERS {
        drop(waiting.remove(0));
        rig.expect(&mut waiting[0], b"?");
        assert!(count.get() <= 3 * (next + 1), "{} turns for {next} places", count.get());
    }
    assert_eq!(rig.reactor.stats().connections_peak, 2);
}

#[test]
fn a_place_that_a_listener_has_no_use_for_goes_to_the_next() {
    let (mut rig, others) = crowd(1, 20, &waits());
    let inside = rig.client();
    let mut waiting: Vec<_> = others.iter().map(|&addr| asks(&mut rig, addr)).collect();
    let mut last = waiting.pop().unwrap();
    waiting.into_iter().for_each(Client::reset);
    leave(&mut rig, inside);
    rig.expect(&mut last, b"?");
}

#[test]
fn all_places_are_used_when_the_cap_opens() {
    let (mut rig, others) = crowd(20, 5, &waits());
    let mut inside: Vec<_> = (0..20).map(|_| rig.client()).collect();
    let mut waiting: Vec<_> = others.iter().map(|&addr| asks(&mut rig, addr)).collect();
    leave(&mut rig, inside.pop().unwrap()); // 19 of 20 is still shut
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().accepted, 20);
    leave(&mut rig, inside.pop().unwrap());
    for client in &mut waiting[..2] {
        rig.expect(client, b"?");
    }
    assert_eq!(rig.reactor.stats().accepted, 22);
    drop(inside);
    for client in &mut waiting[2..] {
        rig.expect(client, b"?");
    }
}

#[test]
fn a_listener_whose_own_cap_is_full_is_recalled_by_an_end_of_its_own() {
    let (mut rig, others) = crowd(100, 1, &waits().max_connections(Some(1)));
    let mut own = Client::connect(others[0]);
    own.send(b"!");
    rig.expect(&mut own, b"!");
    let mut waiting = asks(&mut rig, others[0]);
    let count = count(&mut rig);
    for _ in 0..10 {
        let other = rig.client();
        leave(&mut rig, other);
    }
    assert_eq!(count.get(), 0, "recalled for the places of others");
    drop(own);
    rig.expect(&mut waiting, b"?");
}

#[test]
fn a_listener_that_waits_for_both_caps_is_served_when_both_have_room() {
    let (mut rig, others) = crowd(2, 1, &waits().max_connections(Some(1)));
    let mut own = Client::connect(others[0]);
    own.send(b"!");
    rig.expect(&mut own, b"!");
    let other = rig.client();
    let addr = rig.addr;
    let mut first = asks(&mut rig, addr); // waits for the reactor
    let mut second = asks(&mut rig, others[0]); // waits for both
    drop(own);
    rig.expect(&mut first, b"?");
    rig.expect_quiet();
    assert_eq!(second.try_read(1), Ok(Vec::new()), "served over the cap of the reactor");
    leave(&mut rig, other);
    rig.expect(&mut second, b"?");
    // Once more, the other way round: the reactor has room first.
    let mut third = asks(&mut rig, others[0]);
    drop(first);
    rig.expect_quiet();
    assert_eq!(third.try_read(1), Ok(Vec::new()), "served over its own cap");
    drop(second);
    rig.expect(&mut third, b"?");
}
