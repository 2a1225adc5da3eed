//! Least rates, with peers that are slow by the clock and not by a busy machine.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Faults, HostClock, Script, Simulation};
use waterwheel::{Closed, Conn, Context, Handler, Limits, ListenOptions, MinRate, Peer};

/// Takes a message in pieces, and notes how and when it was cut.
struct Streamed {
    clock: Rc<Cell<Option<HostClock>>>,
    end: Rc<Cell<Option<(Duration, String)>>>,
}

impl Handler for Streamed {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.declare_incomplete(true);
        input.len()
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        let clock = self.clock.take().expect("it is set");
        self.end.set(Some((clock.now(), format!("{:?}", closed.reason))));
    }
}

/// When a message is cut of which there is a byte every so often, for 3 s.
fn cut_at(pause: Duration) -> Duration {
    let (clock, end) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
    let handler = Streamed { clock: Rc::clone(&clock), end: Rc::clone(&end) };
    let rate = MinRate::new(1_000, Duration::from_millis(300));
    let limits = Limits::default().min_receive_rate(Some(rate));
    let mut sim = Simulation::new(0, Faults::none());
    sim.allow_unfinished();
    let (host, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(handler);
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default().limits(limits))
        })
        .unwrap();
    clock.set(Some(sim.clock(host)));
    let count = Duration::from_secs(3).as_micros() / pause.as_micros();
    let bytes = vec![b'x'; count as usize];
    sim.peer(addr, Script::new().dribble(bytes, pause).wait(Duration::from_secs(60)));
    sim.run(Duration::from_secs(30));
    let (at, reason) = end.take().expect("it ends");
    assert_eq!(reason, "Timeout(ReceiveRate)");
    at
}

#[test]
fn a_streamed_message_that_is_slow_and_above_the_rate_is_left_alone() {
    let at = cut_at(Duration::from_micros(800));
    assert!(at >= Duration::from_millis(3_000), "cut at {at:?}, while it came");
    assert!(at <= Duration::from_millis(3_500), "cut at {at:?}, long after it came");
    let at = cut_at(Duration::from_micros(1_600));
    assert!(at <= Duration::from_millis(1_000), "cut at {at:?}, although it was too slow");
}
