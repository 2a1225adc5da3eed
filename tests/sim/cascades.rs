//! Timers that the wheel only moves have a budget of a turn, as those have that fire.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Faults, Simulation};
use waterwheel::{Context, ReactorOptions, Timer, TimerHandler};

/// Notes for each timer its token and in which turn it has fired.
struct Noting(Rc<RefCell<Vec<(u64, u64)>>>);

impl TimerHandler for Noting {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        self.0.borrow_mut().push((timer.token, cx.stats().turns));
    }
}

/// When the first timer is due, the wheel looks through all others, which are due in other ticks of
/// the same slot: from 64 to 127.
#[test]
fn a_cascade_takes_many_turns_if_it_moves_many_timers() {
    const TIMERS: u64 = 6_400;
    let mut sim = Simulation::new(0, Faults::none());
    let fired = Rc::new(RefCell::new(Vec::new()));
    let noting = Noting(Rc::clone(&fired));
    let options = ReactorOptions::default().timers_per_turn(16);
    sim.host_with("server", options, 100, |reactor| {
        let key = reactor.register(noting);
        reactor.set_timer(key, Duration::from_millis(80), 0);
        for token in 1..TIMERS {
            reactor.set_timer(key, Duration::from_millis(100), token);
        }
        Ok(())
    })
    .unwrap();
    sim.run(Duration::from_secs(1));
    let fired = fired.borrow();
    assert!(fired.iter().map(|&(token, _)| token).eq(0..TIMERS));
    let turns = fired[1].1 - fired[0].1;
    // A chunk of 256 is more than the budget of eight times 16.
    assert!(turns >= TIMERS / 256 - 1, "the cascade took {turns} turns");
}
