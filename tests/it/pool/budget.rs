//! What a pool does in one turn is bounded, however many connections and waiters it has.

use std::time::Duration;

use waterwheel::pool::{PoolOptions, PoolStats};

use super::rig::{Answer, PoolRig};

/// Connections, more than a turn may end or begin.
const MANY: usize = 200;

/// What one turn may end, begin or answer.
const BUDGET: usize = 64;

fn options() -> PoolOptions {
    PoolOptions::default().max_open(MANY).lifetime(None).acquire_timeout(None).seed(Some(1))
}

/// Runs turns until a count is at its end; the most by which it has changed in one.
fn steps(rig: &mut PoolRig, end: usize, count: impl Fn(PoolStats) -> usize) -> usize {
    let (mut before, mut most) = (count(rig.stats()), 0);
    rig.until("the end", |rig| {
        let now = count(rig.stats());
        most = most.max(now.abs_diff(before));
        before = now;
        now == end
    });
    most
}

/// A pool that keeps all its connections idle.
fn full(options: PoolOptions) -> PoolRig {
    let mut rig = PoolRig::new(options.min_idle(MANY));
    rig.until("all are idle", |rig| rig.stats().idle == MANY);
    rig
}

#[test]
fn a_pool_dials_within_a_budget() {
    let mut rig = PoolRig::new(options().min_idle(MANY));
    let most = steps(&mut rig, MANY, |stats| stats.open);
    assert!((1..=BUDGET).contains(&most), "{most} dials in a turn");
}

#[test]
fn a_pool_that_is_closed_ends_idle_connections_within_a_budget() {
    let mut rig = full(options().idle_timeout(None));
    rig.enter(|_, desk, _| desk.close());
    assert!(rig.stats().idle >= MANY - BUDGET, "{:?}", rig.stats());
    let most = steps(&mut rig, 0, |stats| stats.idle);
    assert!((1..=BUDGET).contains(&most), "{most} ends in a turn");
    rig.until("all are gone", |rig| rig.stats().open == 0);
    assert_eq!(rig.stats().evicted.shutdown, MANY as u64);
}

#[test]
fn connections_that_are_idle_for_too_long_end_within_a_budget() {
    let (mut rig, _, _) = laid_idle_at_once();
    let most = steps(&mut rig, 0, |stats| stats.idle);
    assert!((1..=BUDGET).contains(&most), "{most} ends in a turn");
}

/// A pool whose connections come back at once, so that their times are over at once; how many, and
/// after how long. The slower the machine, the longer the time: else too few are left at the end.
fn laid_idle_at_once() -> (PoolRig, usize, Duration) {
    let mut limit = Duration::from_millis(300);
    loop {
        let mut rig = PoolRig::new(options().idle_timeout(Some(limit)));
        (0..MANY as u32).for_each(|number| rig.ask(number));
        rig.until("all are answered", |rig| rig.answers().len() == MANY);
        let lent = rig.enter(|_, desk, cx| {
            let leases: Vec<_> = std::iter::from_fn(|| desk.try_acquire(cx)).collect();
            leases.len()
        });
        if lent > 2 * BUDGET {
            return (rig, lent, limit);
        }
        limit *= 2;
        assert!(limit < Duration::from_secs(30), "{lent} of {MANY} were lent");
    }
}

/// All of them would be passed over by who acquires next.
#[test]
fn those_that_are_too_old_to_be_lent_are_passed_over_within_a_budget() {
    let (mut rig, lent, limit) = laid_idle_at_once();
    std::thread::sleep(limit + Duration::from_millis(5));
    assert!(rig.try_acquire().is_none());
    assert!(rig.stats().idle >= lent - BUDGET, "{:?}", rig.stats());
    let most = steps(&mut rig, 0, |stats| stats.idle);
    assert!((1..=BUDGET).contains(&most), "{most} ends in a turn");
    rig.ask(MANY as u32);
    rig.until("the next is dialled and lent", |rig| rig.answers().len() == MANY + 1);
}

#[test]
fn leases_of_a_closed_pool_that_come_back_at_once_end_within_a_budget() {
    let mut rig = full(options().idle_timeout(None));
    let leases =
        rig.enter(|_, desk, cx| std::iter::from_fn(|| desk.try_acquire(cx)).collect::<Vec<_>>());
    assert_eq!(leases.len(), MANY);
    rig.enter(|_, desk, _| desk.close());
    rig.enter(move |_, _, _| drop(leases));
    assert!(rig.stats().idle >= MANY - 2 * BUDGET, "{:?}", rig.stats());
    let most = steps(&mut rig, 0, |stats| stats.idle + stats.leased);
    assert!((1..=BUDGET).contains(&most), "{most} ends in a turn");
    assert!(rig.try_acquire().is_none());
}

#[test]
fn those_who_wait_at_a_closed_pool_are_told_within_a_budget() {
    let mut rig = PoolRig::silent(options().max_open(1));
    (0..MANY as u32).for_each(|number| rig.ask(number));
    rig.until("the first is lent", |rig| rig.client().acquired == [0]);
    assert_eq!(rig.stats().waiting, MANY - 1);
    rig.enter(|_, desk, _| desk.close());
    assert!(rig.answers().len() <= BUDGET, "{}", rig.answers().len());
    // What else has the pool look at them does not answer more.
    for _ in 0..4 {
        rig.reactor.context().post(rig.pool, |pool, cx| pool.enter(cx, |_, _, _| {}));
    }
    let most = steps(&mut rig, 0, |stats| stats.waiting);
    assert!((1..=BUDGET).contains(&most), "{most} in a turn");
    let closed = Answer::Refused("the pool is closed".to_owned());
    let expected: Vec<_> = (1..MANY as u32).map(|number| (number, closed.clone())).collect();
    assert_eq!(rig.answers(), expected);
}
