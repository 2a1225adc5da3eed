//! The pool, over real sockets.

mod budget;
mod clients;
mod half_closed;
mod panics;
mod rig;
mod stillborn;
mod waiters;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rig::{Answer, Line, PoolRig};
use waterwheel::pool::{AcquireError, Acquired, IdleOrder, Pool, PoolOptions};
use waterwheel::{ConnectOptions, Limits, Reactor};

use crate::support::{Client, End};

const MS: Duration = Duration::from_millis(1);

/// Options under which nothing happens by itself.
fn calm() -> PoolOptions {
    PoolOptions::default()
        .idle_timeout(None)
        .lifetime(None)
        .acquire_timeout(None)
        .retry_base_delay(5 * MS)
        .retry_max_delay(20 * MS)
        .seed(Some(1))
}

#[test]
fn a_connection_is_reused() {
    let mut rig = PoolRig::new(calm());
    for number in 0..5 {
        rig.ask(number);
        rig.until_answered(number, &Answer::Line(format!("{number}")));
    }
    let stats = rig.stats();
    assert_eq!((stats.created, stats.leases, stats.reused), (1, 5, 4));
    assert_eq!((stats.open, stats.idle, stats.leased), (1, 1, 0));
    assert_eq!(rig.accepted(), 1);
}

#[test]
fn the_cap_holds_and_waiters_are_served_in_order() {
    let mut rig = PoolRig::new(calm().max_open(2));
    for number in 0..20 {
        rig.ask(number);
    }
    rig.until("all answers", |rig| rig.answers().len() == 20);
    assert_eq!(rig.client().acquired, (0..20).collect::<Vec<_>>());
    assert_eq!(rig.accepted(), 2);
    assert_eq!(rig.most_open, 2);
}

#[test]
fn an_idle_connection_is_had_at_once_and_dropping_gives_it_back() {
    let mut rig = PoolRig::new(calm().max_open(1));
    rig.ask(0);
    rig.until_answered(0, &Answer::Line("0".to_owned()));
    let lease = rig.try_acquire().expect("one is idle");
    assert!(lease.is_reused());
    assert!(rig.try_acquire().is_none());
    rig.ask(1);
    rig.turns(3);
    assert_eq!(rig.stats().waiting, 1);
    // Outside of every callback, while somebody waits.
    drop(lease);
    rig.until_answered(1, &Answer::Line("1".to_owned()));
    assert_eq!(rig.accepted(), 1);
}

#[test]
fn a_lease_that_is_dropped_elsewhere_is_seen_by_the_next_acquire() {
    let mut rig = PoolRig::new(calm().max_open(1));
    rig.ask(0);
    rig.until_answered(0, &Answer::Line("0".to_owned()));
    for _ in 0..10 {
        let lease = rig.try_acquire().expect("the last one was dropped");
        drop(lease);
    }
    assert_eq!(rig.stats().leases, 11);
}

#[test]
fn newest_first_or_oldest_first() {
    for (pick, expected) in [(IdleOrder::Lifo, [1, 1, 1]), (IdleOrder::Fifo, [0, 1, 0])] {
        let mut rig = PoolRig::new(calm().max_open(2).min_idle(2).pick(pick));
        rig.until("two are idle", |rig| rig.stats().idle == 2);
        let first = rig.try_acquire().unwrap();
        let second = rig.try_acquire().unwrap();
        let ids = [first.id(), second.id()];
        rig.release(first);
        rig.release(second);
        for place in expected {
            let lease = rig.try_acquire().unwrap();
            assert_eq!(lease.id(), ids[place], "{pick:?}");
            rig.release(lease);
        }
    }
}

#[test]
fn the_end_of_an_idle_connection_evicts_it() {
    for end in [End::Fin, End::Reset] {
        let mut rig = PoolRig::silent(calm());
        let mut peer = rig.warm_peer();
        match end {
            End::Fin => peer.finish(),
            End::Reset => peer.reset(),
        }
        rig.until("it is evicted", |rig| rig.stats().evicted.peer == 1 && rig.stats().open == 0);
        assert!(rig.try_acquire().is_none());
    }
}

#[test]
fn a_stray_byte_evicts() {
    let mut rig = PoolRig::silent(calm());
    let mut peer = rig.warm_peer();
    peer.send(b"?");
    rig.until("it is evicted", |rig| rig.stats().evicted.stray == 1);
    rig.until("its slot is free", |rig| rig.stats().open == 0);
    assert_eq!(peer.try_read(9), Err(End::Reset));
}

#[test]
fn what_comes_back_dirty_is_ended() {
    // A request whose answer is not waited for.
    let mut rig = PoolRig::silent(calm());
    let peer = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    rig.write(&lease, b"one way");
    rig.release(lease);
    assert_eq!(rig.stats().evicted.dirty, 1);
    let (bytes, end) = rig.read_to_end(peer);
    assert_eq!((bytes.as_slice(), end), (&b"one way"[..], End::Fin));
    // A part of an answer that was left.
    let mut rig = PoolRig::silent(calm());
    let mut peer = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    peer.send(b"a part");
    rig.until("it has come", |rig| rig.reactor.stats().bytes_read == 6);
    rig.release(lease);
    assert_eq!((rig.stats().evicted.dirty, rig.stats().idle), (1, 0));
    // Reading paused: there is no telling what is there.
    let mut rig = PoolRig::silent(calm());
    let _peer = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    rig.with_conn(&lease, |conn| conn.pause_reading());
    drop(lease);
    rig.turns(1);
    assert!(rig.try_acquire().is_none());
    assert_eq!(rig.stats().evicted.dirty, 1);
}

#[test]
fn input_that_is_left_when_a_lease_ends_in_on_data_is_dirty() {
    let mut rig = PoolRig::silent(calm().max_open(1));
    let mut peer = rig.warm_peer();
    rig.ask(0);
    rig.ask(1);
    rig.turns(3);
    // The client answers with the first line, and leaves the second.
    peer.send(b"first\nsecond\n");
    rig.until_answered(0, &Answer::Line("first".to_owned()));
    assert_eq!(rig.stats().evicted.dirty, 1);
    rig.until("the waiter has another one", |rig| rig.client().acquired == [0, 1]);
    assert_eq!(rig.most_open, 1);
}

#[test]
fn a_discarded_connection_is_reset_at_once() {
    let mut rig = PoolRig::silent(calm());
    let mut peer = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    lease.discard();
    assert!(rig.try_acquire().is_none());
    rig.until("its slot is free", |rig| rig.stats().open == 0);
    assert_eq!(rig.stats().evicted.discarded, 1);
    assert_eq!(peer.try_read(9), Err(End::Reset));
}

#[test]
fn a_leased_connection_that_ends_is_told_and_its_lease_is_harmless() {
    let mut rig = PoolRig::silent(calm().max_open(1));
    let peer = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    peer.reset();
    rig.until("it is lost", |rig| rig.client().lost.len() == 1);
    assert_eq!(rig.stats().lost, 1);
    let peer = rig.warm_peer();
    let other = rig.try_acquire().expect("a new one has the slot");
    drop(lease); // of the old one, in the same seat
    rig.turns(3);
    assert!(rig.try_acquire().is_none());
    assert_eq!(rig.stats().leased, 1);
    rig.release(other);
    assert_eq!(rig.stats().idle, 1);
    drop(peer);
}

#[test]
fn a_connection_is_new_although_its_place_has_been_lent() {
    let mut rig = PoolRig::silent(calm().max_open(1));
    for round in 1..=3 {
        let peer = rig.warm_peer();
        let lease = rig.try_acquire().expect("one is idle");
        assert!(lease.is_reused(), "it was warmed by a lease");
        drop(lease);
        rig.ask(round);
        rig.until("it is lent", |rig| rig.client().acquired.len() == round as usize);
        let (_, lease) = rig.client_mut().kept.pop().expect("it is lent");
        drop(peer);
        lease.discard();
        rig.until("it is gone", |rig| rig.stats().open == 0);
        let stats = rig.stats();
        let round = u64::from(round);
        assert_eq!((stats.created, stats.leases, stats.reused), (round, 3 * round, 2 * round));
    }
}

#[test]
fn a_failed_dial_is_told_to_the_waiter_in_front_with_its_reason() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = PoolRig::to(nobody, calm().max_open(1));
    for number in 0..3 {
        rig.ask(number);
    }
    rig.until("all are refused", |rig| rig.answers().len() == 3);
    for (number, answer) in rig.answers() {
        let Answer::Refused(text) = answer else { panic!("{number}: {answer:?}") };
        assert!(text.contains(&nobody.to_string()), "{text}");
    }
    let order: Vec<u32> = rig.answers().iter().map(|(number, _)| *number).collect();
    assert_eq!(order, [0, 1, 2]);
    let stats = rig.stats();
    assert_eq!((stats.failed_dials, stats.refused, stats.open, stats.waiting), (3, 3, 0, 0));
}

#[test]
fn a_wait_ends_and_so_does_the_queue() {
    let mut rig = PoolRig::silent(calm().max_open(1).max_waiters(2).acquire_timeout(Some(20 * MS)));
    let _peer = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    for number in 0..3 {
        rig.ask(number);
    }
    rig.until("one is refused and both others time out", |rig| rig.answers().len() == 3);
    // At once, before the others: how soon in time is up to the machine.
    assert!(
        matches!(&rig.answers()[0], (2, Answer::Refused(text)) if text.contains("max_waiters"))
    );
    assert!(
        matches!(&rig.answers()[1], (0, Answer::Refused(text)) if text.contains("acquire_timeout"))
    );
    let stats = rig.stats();
    assert_eq!((stats.timed_out, stats.refused, stats.waiting), (2, 1, 0));
    rig.release(lease);
    assert_eq!(rig.stats().idle, 1);
}

#[test]
fn a_ticket_can_be_taken_back_once() {
    let mut rig = PoolRig::silent(calm().max_open(1));
    let _peer = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    let (waiter, other) = rig.enter(|_, desk, cx| {
        let mut wait = |number| match desk.acquire(number, cx) {
            Acquired::Waits(waiter) => waiter,
            answer => panic!("{answer:?}"),
        };
        (wait(1), wait(2))
    });
    rig.enter(move |_, desk, _| {
        assert_eq!(desk.cancel(waiter), Some(1));
        assert_eq!(desk.cancel(waiter), None);
    });
    drop(lease);
    rig.until("the other is served", |rig| rig.client().acquired == [2]);
    rig.enter(move |_, desk, _| assert_eq!(desk.cancel(other), None));
    assert_eq!(rig.stats().cancelled, 1);
}

#[test]
fn what_is_idle_too_long_or_too_old_goes() {
    let mut rig = PoolRig::silent(calm().idle_timeout(Some(20 * MS)));
    let _peer = rig.warm_peer();
    rig.until("it goes", |rig| rig.stats().evicted.idle_timeout == 1);
    let mut rig = PoolRig::silent(calm().lifetime(Some(20 * MS)));
    let _peer = rig.warm_peer();
    rig.until("it goes", |rig| rig.stats().evicted.lifetime == 1);
    // A leased one goes when it comes back.
    rig.ask(0);
    rig.until("it is lent", |rig| rig.client().acquired == [0]);
    let start = Instant::now();
    rig.until("it is too old", |_| start.elapsed() > 25 * MS);
    assert_eq!(rig.stats().leased, 1);
    rig.client_mut().kept.clear();
    rig.enter(|_, _, _| {});
    assert_eq!((rig.stats().evicted.lifetime, rig.stats().evicted.dirty), (2, 0));
}

/// Nobody called the pool for a lease that was dropped elsewhere, and it was idle for ever.
#[test]
fn a_lease_that_is_dropped_elsewhere_is_idle_from_then_on() {
    let mut rig = PoolRig::silent(calm().idle_timeout(Some(20 * MS)));
    let _peer = rig.warm_peer();
    drop(rig.try_acquire().unwrap());
    rig.until("it goes", |rig| rig.stats().evicted.idle_timeout == 1);
}

#[test]
fn no_more_are_idle_than_may_be() {
    let mut rig = PoolRig::silent(calm().max_open(3).max_idle(Some(1)));
    for number in 0..3 {
        rig.ask(number);
    }
    rig.until("three are lent", |rig| rig.client().acquired.len() == 3);
    let mut peers: Vec<Client> = (0..3).map(|_| rig.accept()).collect();
    for peer in &mut peers {
        peer.send(b"answer\n");
    }
    rig.until("three answers", |rig| rig.answers().len() == 3);
    assert_eq!(rig.stats().idle, 1);
    assert_eq!(rig.stats().evicted.surplus, 2);
}

/// Whoever waits for a dial may be gone when it comes up, and nobody gives that connection back.
#[test]
fn no_more_come_up_for_tickets_that_were_cancelled_than_may_be_idle() {
    let mut rig = PoolRig::silent(calm().max_open(8).max_idle(Some(1)));
    rig.client_mut().greets = true; // so that the peers say when the dials are over
    let tickets = rig.enter(|_, desk, cx| {
        [0, 1, 2, 3, 4, 5, 6, 7].map(|number| match desk.acquire(number, cx) {
            Acquired::Waits(waiter) => waiter,
            answer => panic!("{answer:?}"),
        })
    });
    rig.until("all are dialled", |rig| rig.stats().dialling == 8);
    let mut peers: Vec<Client> = (0..8).map(|_| rig.accept()).collect();
    rig.enter(move |_, desk, _| {
        for (number, ticket) in (0..).zip(tickets) {
            assert_eq!(desk.cancel(ticket), Some(number));
        }
    });
    assert_eq!((rig.stats().cancelled, rig.stats().dialling), (8, 8));
    for peer in &mut peers {
        rig.expect(peer, b"auth\n");
        peer.send(b"ok\n");
    }
    rig.until("all are up", |rig| rig.stats().created == 8);
    rig.until("all but one end", |_| {
        let has_ended = |peer: &mut Client| peer.try_read(1) == Err(End::Fin);
        peers.iter_mut().map(has_ended).filter(|ended| *ended).count() == 7
    });
    let stats = rig.stats();
    assert_eq!((stats.idle, stats.leased, stats.evicted.surplus), (1, 0, 7));
    assert_eq!(rig.client().acquired, [0; 0]);
}

#[test]
fn so_many_are_kept_idle_also_after_failures() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let mut rig = PoolRig::to(addr, calm().min_idle(2).max_open(3));
    rig.until("some dials fail", |rig| rig.stats().failed_dials >= 4);
    assert!(rig.most_open <= 2);
    rig.listen_again(addr);
    rig.until("two are idle", |rig| rig.stats().idle == 2);
    let first = rig.try_acquire().unwrap();
    rig.until("two are idle again", |rig| rig.stats().idle == 2);
    assert_eq!(rig.stats().open, 3);
    let second = rig.try_acquire().unwrap();
    rig.turns(3);
    assert_eq!((rig.stats().open, rig.stats().idle), (3, 1));
    rig.release(first);
    rig.release(second);
    assert_eq!(rig.stats().idle, 3);
}

#[test]
fn closing_ends_all_and_answers_all() {
    let mut rig = PoolRig::silent(calm().max_open(2).min_idle(1));
    let idle = rig.warm_peer();
    let lease = rig.try_acquire().unwrap();
    rig.until("another is idle", |rig| rig.stats().idle == 1);
    let other = rig.accept();
    let leased = rig.try_acquire().unwrap();
    rig.ask(7);
    rig.turns(2);
    rig.release(leased);
    rig.until("the waiter is served", |rig| rig.client().acquired == [7]);
    rig.ask(8);
    rig.turns(2);
    rig.enter(|_, desk, _| desk.close());
    assert_eq!(rig.answers(), [(8, Answer::Refused("the pool is closed".to_owned()))]);
    rig.enter(|_, desk, cx| {
        assert!(matches!(desk.acquire(9, cx), Acquired::Refused(9, AcquireError::Closed)));
    });
    assert_eq!(rig.stats().leased, 2);
    drop(lease);
    rig.turns(2);
    assert_eq!((rig.stats().leased, rig.stats().evicted.shutdown), (1, 1));
    rig.client_mut().kept.clear();
    drop((idle, other));
    rig.until("nothing is left", |rig| rig.stats().open == 0);
}

#[test]
fn a_drain_ends_idle_ones_and_lets_leased_ones_finish() {
    let mut rig = PoolRig::silent(calm().max_open(2));
    rig.ask(0);
    rig.until("it is lent", |rig| rig.client().acquired == [0]);
    let mut busy = rig.accept();
    let idle = rig.warm_peer();
    assert_eq!((rig.stats().idle, rig.stats().leased), (1, 1));
    rig.reactor.context().drain(Duration::from_secs(60));
    rig.until("the idle one goes", |rig| rig.stats().evicted.shutdown == 1);
    drop(idle);
    assert_eq!(rig.stats().leased, 1);
    busy.send(b"answer\n");
    rig.until_answered(0, &Answer::Line("answer".to_owned()));
    drop(busy);
    let mut goes_on = true;
    rig.until("the drain is over", |rig| {
        goes_on &= rig.reactor.run_once(Some(MS)).unwrap();
        !goes_on
    });
    assert_eq!(rig.stats().open, 0);
}

#[test]
fn a_handshake_comes_first() {
    let mut rig = PoolRig::silent(calm().max_open(1));
    rig.client_mut().greets = true;
    rig.ask(0);
    rig.turns(3);
    let mut peer = rig.accept();
    rig.expect(&mut peer, b"auth\n");
    assert_eq!((rig.stats().dialling, rig.stats().created), (1, 0));
    assert!(rig.client().acquired.is_empty());
    peer.send(b"ok\n");
    rig.until("it is lent", |rig| rig.client().acquired == [0]);
    // The next one is refused by its server, and told.
    rig.ask(1);
    rig.enter(|client, desk, _| {
        let (_, lease) = client.kept.pop().expect("it is lent");
        *desk.state_mut(&lease).expect("it lives") = None;
    });
    rig.until("the other is lent", |rig| rig.client().acquired == [0, 1]);
    peer.reset();
    rig.until("it is lost", |rig| !rig.client().lost.is_empty());
    rig.ask(2);
    rig.turns(3);
    let mut peer = rig.accept();
    peer.send(b"no\n");
    rig.until("it is refused", |rig| rig.answers().last().is_some_and(|(n, _)| *n == 2));
    let expected = Answer::Refused("no such user".to_owned());
    assert_eq!(rig.answers().last(), Some(&(2, expected)));
    assert_eq!(rig.stats().failed_dials, 1);
}

#[test]
fn a_handshake_that_hangs_is_given_up() {
    let connect = ConnectOptions::default().timeout(30 * MS);
    let mut rig = PoolRig::silent(calm().max_open(1).connect(connect));
    rig.client_mut().greets = true;
    rig.ask(0);
    rig.until("it is refused", |rig| !rig.answers().is_empty());
    let Answer::Refused(text) = &rig.answers()[0].1 else { panic!() };
    assert!(text.contains("handshake"), "{text}");
    rig.until("its slot is free", |rig| rig.stats().open == 0);
}

#[test]
fn bad_options_are_told_by_name() {
    let limits = Limits::default().max_input_bytes(0);
    let connect = ConnectOptions::default().limits(limits);
    let bad = [
        (calm().max_open(0), "max_open"),
        (calm().max_open(1 << 20), "max_open"),
        (calm().max_open(2).max_idle(Some(3)), "max_idle"),
        (calm().max_idle(Some(1)).min_idle(2), "min_idle"),
        (calm().idle_timeout(Some(Duration::ZERO)), "idle_timeout"),
        (calm().lifetime(Some(Duration::MAX)), "lifetime"),
        (calm().acquire_timeout(Some(Duration::ZERO)), "acquire_timeout"),
        (calm().retry_base_delay(Duration::ZERO), "retry_base_delay"),
        (calm().retry_base_delay(2 * MS).retry_max_delay(MS), "retry_base_delay"),
        (calm().retry_max_delay(Duration::MAX), "retry_max_delay"),
        (calm().connect(connect), "max_input_bytes"),
    ];
    let addr: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (options, name) in bad {
        let mut reactor = Reactor::new().unwrap();
        let error = Pool::register(&mut reactor, Line::default(), addr, options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_panic_in_a_callback_costs_one_connection() {
    let mut rig = PoolRig::silent(calm().max_open(2));
    let mut peer = rig.warm_peer();
    rig.ask(0);
    rig.turns(2);
    peer.send(b"panic\n");
    rig.until("it is lost", |rig| rig.stats().open == 0);
    assert_eq!(rig.reactor.stats().panics, 1);
    rig.ask(1);
    rig.until("the next is lent", |rig| rig.client().acquired.contains(&1));
    rig.panics = 1;
}
