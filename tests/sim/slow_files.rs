//! A file and a close behind it, with a reader that is slow by the clock and not by a busy machine.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Faults, HostClock, PeerEnd, Script, Simulation};
use waterwheel::{Closed, Conn, Context, Handler, Limits, ListenOptions, Peer};

use crate::scratch::scratch_file;

const MILLISECOND: Duration = Duration::from_millis(1);
const CLOSE: Duration = Duration::from_millis(400);

/// More than the reader takes before it reads all at once.
const ALL: usize = 4 << 20;

fn contents() -> Vec<u8> {
    (0..ALL as u32).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Whoever is accepted gets the file, and FIN behind it.
struct Sends {
    clock: Rc<RefCell<Option<HostClock>>>,
    ended: Rc<RefCell<Option<(Duration, String, usize)>>>,
}

impl Handler for Sends {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.send_file(scratch_file(&contents()), ..).expect("the file is there");
        conn.close();
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        let now = self.clock.borrow().as_ref().expect("it is set").now();
        let reason = format!("{:?}", closed.reason);
        *self.ended.borrow_mut() = Some((now, reason, closed.unsent_bytes));
    }
}

/// What a reader gets that takes what there is twelve times, with a pause before each, and then
/// all; and when the connection ended at the server, how, and with how much unsent.
fn read_with_pauses(seed: u64, pause: Duration) -> (Vec<u8>, PeerEnd, (Duration, String, usize)) {
    let mut sim = Simulation::new(seed, Faults::none());
    let (clock, ended) = (Rc::default(), Rc::default());
    let (clock_of, ended_of) = (Rc::clone(&clock), Rc::clone(&ended));
    let handler = Sends { clock: clock_of, ended: ended_of };
    let limits = Limits::default().close_timeout(CLOSE);
    let (host, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(handler);
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default().limits(limits))
        })
        .unwrap();
    *clock.borrow_mut() = Some(sim.clock(host));
    let mut script = Script::new();
    for _ in 0..12 {
        script = script.stop_reading().wait(pause).resume_reading();
    }
    let peer = sim.peer(addr, script.read_to_end());
    sim.run(Duration::from_secs(60));
    let (received, end) = (sim.received(peer), sim.end_of(peer));
    sim.finish();
    (received, end, ended.take().expect("it ends"))
}

#[test]
fn a_close_does_not_cut_a_file_whose_reader_goes_on_reading() {
    for seed in 0..6 {
        let pause = 300 * MILLISECOND;
        let (received, end, (at, reason, unsent)) = read_with_pauses(seed, pause);
        assert_eq!((received.len(), end), (ALL, PeerEnd::Finished), "seed {seed}: {reason}");
        assert!(received == contents(), "seed {seed}");
        assert_eq!((reason.as_str(), unsent), ("Local", 0), "seed {seed}");
        assert!(at > 8 * CLOSE, "seed {seed}: {at:?} is no slow reader");
    }
}

#[test]
fn a_close_cuts_a_file_whose_reader_rests_for_longer_than_it_may() {
    let (received, end, (at, reason, unsent)) = read_with_pauses(0, 2 * CLOSE);
    assert_eq!((reason.as_str(), end), ("Timeout(Close)", PeerEnd::Broken));
    assert!(unsent > 0 && received.len() + unsent <= ALL);
    assert!(at >= CLOSE && at < 2 * CLOSE, "{at:?}");
}
