//! Handler keys of another reactor, where no error can be returned: no other handler is called, and
//! the log says so.

use std::time::{Duration, Instant};

use log::Level;
use waterwheel::{Context, HandlerKey, Reactor, Timer, TimerHandler, TimerId};

use crate::support::{keep_log, logged};

/// Counts its timers. `N` tells types apart.
#[derive(Default)]
struct Count<const N: usize> {
    timers: Vec<TimerId>,
}

impl<const N: usize> TimerHandler for Count<N> {
    fn on_handler_timer(&mut self, timer: Timer, _: &mut Context<'_>) {
        self.timers.push(timer.id);
    }
}

#[test]
fn a_timer_with_a_foreign_key_fires_at_nobody_and_is_told() {
    keep_log();
    let ms = Duration::from_millis;
    let mut other = Reactor::new().unwrap();
    let of_another_type: HandlerKey<Count<1>> = other.register(Count::default());
    let of_nobody: HandlerKey<Count<1>> = other.register(Count::default());

    let mut reactor = Reactor::new().unwrap();
    let service: HandlerKey<Count<0>> = reactor.register(Count::default());
    for foreign in [of_another_type, of_nobody] {
        for timer in [
            reactor.set_timer(foreign, ms(1), 0),
            reactor.set_periodic_timer(foreign, ms(1), 0),
            reactor.context().set_timer(foreign, ms(1), 0),
            reactor.context().set_periodic_timer(foreign, ms(1), 0),
        ] {
            assert!(!reactor.context().cancel_timer(timer), "it was to fire");
        }
    }
    let text = "a timer was set with the key of another reactor: it never fires";
    assert_eq!(logged(Level::Error), [text; 8]);

    let own = reactor.set_timer(service, ms(20), 0);
    let start = Instant::now();
    while reactor.handler_mut(service).unwrap().timers.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain");
        reactor.run_once(Some(ms(1))).unwrap();
    }
    assert_eq!(reactor.handler_mut(service).unwrap().timers, [own]);
}
