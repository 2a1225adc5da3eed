//! Requests that are answered later, in many worlds: held back, resumed, and answered to the last.

use std::time::Duration;

use waterwheel::sim::{Faults, PeerEnd, Script, Seeds};
use waterwheel::{Conn, Handler, Limits, ListenOptions, Peer, Timer};

const MAX_OUTSTANDING: u32 = 5;

/// Answers each byte, by a timer of its own, with the next letter.
struct Later;

impl Handler for Later {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut taken = 0;
        while conn.is_reading() && taken < input.len() {
            conn.begin_request();
            let wait = Duration::from_millis(conn.context().random() % 20);
            conn.set_timer(wait, input[taken].into());
            taken += 1;
        }
        assert!(conn.outstanding_requests() <= MAX_OUTSTANDING);
        taken
    }

    fn on_timer(&mut self, (): &mut (), conn: &mut Conn<'_>, timer: Timer) {
        conn.write(&[timer.token as u8 + 1]);
        conn.end_request();
    }
}

/// In worlds that lose nothing each request is answered, whatever the peer's end comes before; in
/// the others a clean end never comes before the last answer.
#[test]
fn every_request_is_answered_before_the_end() {
    let requests: Vec<u8> = (0..60).map(|at| b'a' + at % 20).collect();
    for (faults, loses) in [(Faults::harmless(), false), (Faults::all(), true)] {
        Seeds::new(300).faults(faults).run(|sim| {
            let (_, addr) = sim.host("server", |reactor| {
                let later = reactor.register(Later);
                let limits = Limits::default().max_outstanding_requests(MAX_OUTSTANDING);
                reactor.listen("0.0.0.0:7000", later, ListenOptions::default().limits(limits))
            })?;
            let (first, second) = requests.split_at(7);
            let script = Script::new().send(first).wait(Duration::from_millis(30)).send(second);
            let peer = sim.peer(addr, script.finish().read_to_end());
            sim.run(Duration::from_secs(60));
            let mut answers = sim.received(peer);
            answers.iter_mut().for_each(|answer| *answer -= 1);
            answers.sort_unstable();
            let mut wanted = requests.clone();
            wanted.sort_unstable();
            let is_finished = sim.end_of(peer) == PeerEnd::Finished;
            assert!(is_finished || loses, "{} answers", answers.len());
            assert!(!is_finished || answers == wanted, "{} answers", answers.len());
            Ok(())
        });
    }
}
