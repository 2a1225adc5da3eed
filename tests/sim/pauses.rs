//! Limits on a peer's silence and slowness, which stand still while the handler does not read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Faults, HostClock, PeerEnd, Script, Simulation};
use waterwheel::{Closed, Conn, Context, Handler, Limits, ListenOptions, MinRate, Peer, Timer};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Pauses once, with the first bytes, of which it takes some or none; notes when what happened.
struct PausesOnce {
    pause: Duration,
    takes: usize,
    has_paused: bool,
    clock: Rc<RefCell<Option<HostClock>>>,
    resumed: Rc<Cell<Option<Duration>>>,
    ended: Rc<RefCell<Option<(Duration, String)>>>,
}

impl PausesOnce {
    fn now(&self) -> Duration {
        self.clock.borrow().as_ref().expect("it is set").now()
    }
}

impl Handler for PausesOnce {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, _: &[u8]) -> usize {
        if !std::mem::replace(&mut self.has_paused, true) {
            conn.pause_reading();
            conn.set_timer(self.pause, 0);
        }
        self.takes
    }

    fn on_timer(&mut self, (): &mut (), conn: &mut Conn<'_>, _: Timer) {
        self.resumed.set(Some(self.now()));
        conn.resume_reading();
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        *self.ended.borrow_mut() = Some((self.now(), format!("{:?}", closed.reason)));
    }
}

/// How long after the end of its pause a connection ends whose peer has sent four bytes and is
/// silent, and why. A connection that ends within its pause fails the test.
#[track_caller]
fn end_after_pause(pause: Duration, takes: usize, limits: Limits) -> (Duration, String) {
    let mut sim = Simulation::new(0, Faults::none());
    let (clock, resumed, ended) = (Rc::default(), Rc::default(), Rc::default());
    let handler = PausesOnce {
        pause,
        takes,
        has_paused: false,
        clock: Rc::clone(&clock),
        resumed: Rc::clone(&resumed),
        ended: Rc::clone(&ended),
    };
    let (host, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(handler);
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default().limits(limits))
        })
        .unwrap();
    *clock.borrow_mut() = Some(sim.clock(host));
    let peer = sim.peer(addr, Script::new().send("part").read_to_end());
    sim.run(pause + Duration::from_secs(60));
    let (at, reason) = ended.take().expect("it ends");
    let resumed = resumed.get();
    let resumed = resumed.unwrap_or_else(|| panic!("{reason} at {at:?}, while nobody read"));
    assert_ne!(sim.end_of(peer), PeerEnd::Open);
    sim.finish();
    (at - resumed, reason)
}

#[test]
fn a_pause_is_no_silence_of_the_peer() {
    let silence = 200 * MILLISECOND;
    let limits = Limits::default().read_idle(Some(silence));
    let (after, reason) = end_after_pause(500 * MILLISECOND, usize::MAX, limits);
    assert_eq!(reason, "Idle");
    assert!(after >= silence, "{after:?} after the pause");
    assert!(after <= silence + 3 * MILLISECOND, "{after:?} after the pause");
}

/// What is left makes a message incomplete, which the peer could not complete.
#[test]
fn a_pause_with_a_rest_left_does_not_count_against_the_least_rate() {
    let grace = 300 * MILLISECOND;
    let limits = Limits::default().min_receive_rate(Some(MinRate::new(1_000, grace)));
    let (after, reason) = end_after_pause(Duration::from_secs(60), 0, limits);
    assert_eq!(reason, "Timeout(ReceiveRate)");
    assert!(after >= grace, "{after:?} after the pause");
    assert!(after <= 2 * grace, "{after:?} after the pause");
}
