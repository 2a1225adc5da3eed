//! Service keys of another reactor, where no error can be returned: nobody else is called, and the
//! log says so.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use waterwheel::{Conn, Context, Handler, Peer, Reactor, Service, TimerId};

/// What was logged as an error.
static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Errors;

impl log::Log for Errors {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            ERRORS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Counts its timers. `N` tells types apart.
#[derive(Default)]
struct Count<const N: usize> {
    timers: Vec<TimerId>,
}

impl<const N: usize> Handler for Count<N> {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_service_timer(&mut self, timer: TimerId, _: &mut Context<'_>) {
        self.timers.push(timer);
    }
}

#[test]
fn a_timer_with_a_foreign_key_fires_at_nobody_and_is_told() {
    log::set_logger(&Errors).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let ms = Duration::from_millis;
    let mut other = Reactor::new().unwrap();
    let of_another_type: Service<Count<1>> = other.register(Count::default());
    let of_nobody: Service<Count<1>> = other.register(Count::default());

    let mut reactor = Reactor::new().unwrap();
    let service: Service<Count<0>> = reactor.register(Count::default());
    for foreign in [of_another_type, of_nobody] {
        for timer in [
            reactor.set_timer(foreign, ms(1)),
            reactor.set_periodic_timer(foreign, ms(1)),
            reactor.context().set_timer(foreign, ms(1)),
            reactor.context().set_periodic_timer(foreign, ms(1)),
        ] {
            assert!(!reactor.context().cancel_timer(timer), "it was to fire");
        }
    }
    let told = ERRORS.lock().unwrap().clone();
    let text = "a timer was set with the service key of another reactor: it never fires";
    assert_eq!(told, [text; 8]);

    let own = reactor.set_timer(service, ms(20));
    let start = Instant::now();
    while reactor.handler_mut(service).unwrap().timers.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain");
        reactor.run_once(Some(ms(1))).unwrap();
    }
    assert_eq!(reactor.handler_mut(service).unwrap().timers, [own]);
}
