//! Input that is gathered, and given back with the end, in many worlds.

use std::time::Duration;

use waterwheel::sim::{Faults, PeerEnd, Script, Seeds};
use waterwheel::{Conn, Handler, ListenOptions, Peer, Timer};

/// Echoes, from when its timer fires; what comes in before that is gathered.
struct Late;

struct State {
    /// What was gathered.
    early: Option<Vec<u8>>,
    /// With more than so much the timer is not waited for.
    most: usize,
    /// Whether the timer pauses the connection for a moment.
    pauses: bool,
}

impl Handler for Late {
    type State = State;

    fn on_accept(&mut self, _: &Peer) -> Option<State> {
        Some(State { early: Some(Vec::new()), most: 0, pauses: false })
    }

    fn on_open(&mut self, state: &mut State, conn: &mut Conn<'_>) {
        state.most = (conn.context().random() % 100) as usize;
        state.pauses = conn.context().random() % 2 == 0;
        let wait = Duration::from_millis(conn.context().random() % 100);
        conn.set_timer(wait, 0);
    }

    fn on_data(&mut self, state: &mut State, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let Some(early) = &mut state.early else {
            conn.write(input);
            return input.len();
        };
        if early.len() > state.most {
            conn.give_back(early);
            state.early = None;
            return 0; // which stands behind that
        }
        let taken = input.len() - (conn.context().random() % 2) as usize;
        early.extend_from_slice(&input[..taken]);
        taken
    }

    fn on_eof(&mut self, state: &mut State, conn: &mut Conn<'_>) {
        if state.early.is_none() {
            conn.write(b".");
            conn.close();
        }
    }

    fn on_timer(&mut self, state: &mut State, conn: &mut Conn<'_>, _: Timer) {
        let Some(early) = state.early.take() else { return conn.resume_reading() };
        if state.pauses {
            conn.pause_reading();
            conn.set_timer(Duration::from_millis(20), 0);
        }
        conn.give_back(&early);
    }
}

/// The watcher's own rules: each byte in its order, and one end, behind the last.
#[test]
fn what_is_given_back_comes_once_and_in_order_and_the_end_behind_it() {
    for (faults, loses) in [(Faults::harmless(), false), (Faults::all(), true)] {
        Seeds::new(300).faults(faults).run(|sim| {
            let (_, addr) = sim.host("server", |reactor| {
                let late = reactor.register(Late);
                reactor.listen("0.0.0.0:7000", late, ListenOptions::default())
            })?;
            let sent: Vec<u8> = (0..90).map(|at| b'A' + at % 50).collect();
            let mut script = Script::new();
            for part in sent.chunks(30) {
                script = script.send(part).wait(Duration::from_millis(20));
            }
            let peer = sim.peer(addr, script.finish().read_to_end());
            sim.run(Duration::from_secs(60));
            let is_finished = sim.end_of(peer) == PeerEnd::Finished;
            assert!(is_finished || loses, "{:?}", sim.end_of(peer));
            let wanted = [&*sent, b"."].concat();
            assert!(!is_finished || sim.received(peer) == wanted, "{:?}", sim.received(peer));
            Ok(())
        });
    }
}
