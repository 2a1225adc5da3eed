//! Waiters of a pool: in whose callbacks they are served, and what they are told at the end.

mod support;

#[path = "pool/rig.rs"]
mod rig;

use rig::{Answer, FATAL, PoolRig};
use support::End;
use waterwheel::pool::PoolOptions;

/// Options under which nothing happens by itself.
fn calm() -> PoolOptions {
    PoolOptions::default().idle_timeout(None).lifetime(None).acquire_timeout(None).seed(Some(1))
}

#[test]
fn a_panic_of_a_waiter_ends_its_own_connection() {
    let mut rig = PoolRig::silent(calm().max_open(2));
    rig.panics = 1;
    rig.ask(0);
    rig.until("the first is lent", |rig| rig.client().acquired == [0]);
    let mut innocent = rig.accept();
    rig.ask(1);
    rig.until("both are lent", |rig| rig.client().acquired == [0, 1]);
    let guilty = rig.accept();
    rig.ask(FATAL);
    rig.turns(2);
    assert_eq!(rig.stats().waiting, 1);
    // A callback of the one gives the other back, which goes to the waiter.
    rig.client_mut().frees = Some(1);
    rig.expect(&mut innocent, b"0\n");
    innocent.send(b"free\n");
    rig.until("the waiter is served", |rig| rig.reactor.stats().panics == 1);
    assert_eq!(rig.read_to_end(guilty), (b"1\n".to_vec(), End::Reset));
    innocent.send(b"still here\n");
    rig.until_answered(0, &Answer::Line("still here".to_owned()));
    assert!(rig.client().lost.is_empty());
    rig.ask(2);
    rig.until("the next is lent", |rig| rig.client().acquired == [0, 1, 2]);
}
