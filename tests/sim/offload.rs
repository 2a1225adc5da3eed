//! Blocking work in a simulated world: on the loop, after a time of the seed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::sim::{Faults, PeerEnd, Script, Seeds, Simulation};
use waterwheel::{Closed, Conn, Context, Handler, HandlerKey, ListenOptions, Peer, frame};

/// What happened, in order: the number of a job that ran, or minus that of one that was told.
type Events = Rc<RefCell<Vec<i64>>>;

/// Squares numbers, a line each, two at a time.
struct Squares {
    key: HandlerKey<Squares>,
    offload: Offload,
    told: Events,
}

impl Handler for Squares {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, 80);
        for line in lines.by_ref().flatten() {
            let Ok(number) = String::from_utf8_lossy(line).parse::<i64>() else { continue };
            let work = move |(): &mut ()| number * number;
            let told = move |squares: &mut Squares, conn: &mut Conn<'_>, result| {
                let square: i64 = Result::unwrap(result);
                squares.told.borrow_mut().push(number);
                conn.write(format!("{square}\n").as_bytes());
            };
            self.offload.run_for(conn.id(), self.key, work, told).expect("there is room");
        }
        lines.consumed()
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        self.offload.cancel_all(closed.id);
    }
}

fn serve(sim: &mut Simulation) -> std::io::Result<(std::net::SocketAddr, Events)> {
    let told = Events::default();
    let events = Rc::clone(&told);
    let (_, addr) = sim.host("server", |reactor| {
        let options = OffloadOptions::default().threads(2);
        let offload = Offload::new(reactor, options)?;
        let squares = reactor.register_with(|key| Squares { key, offload, told: events });
        reactor.listen("0.0.0.0:7000", squares, ListenOptions::default())
    })?;
    Ok((addr, told))
}

fn script(first: i64) -> Script {
    let numbers = first..first + 10;
    let text: String = numbers.clone().map(|number| format!("{number}\n")).collect();
    let answer: String = numbers.map(|number| format!("{}\n", number * number)).collect();
    Script::new().send(text).read(answer.len()).finish().read_to_end()
}

fn run(sim: &mut Simulation) -> std::io::Result<Vec<i64>> {
    let (addr, told) = serve(sim)?;
    let peers: Vec<_> = (0..3).map(|at| sim.peer(addr, script(10 * at + 1))).collect();
    sim.run(Duration::from_secs(3_600));
    for (at, peer) in (0..).zip(peers) {
        if sim.end_of(peer) == PeerEnd::Open {
            continue;
        }
        let numbers = 10 * at + 1..10 * at + 11_i64;
        let answer: String = numbers.map(|number| format!("{}\n", number * number)).collect();
        let received = sim.received(peer).to_vec();
        assert!(answer.as_bytes().starts_with(&received), "{}", String::from_utf8_lossy(&received));
    }
    let told = told.borrow().clone();
    Ok(told)
}

#[test]
fn jobs_of_connections_keep_their_order_in_a_world_of_faults() {
    let orders = Mutex::new(std::collections::HashSet::new());
    Seeds::new(500).faults(Faults::harmless()).run(|sim| {
        let told = run(sim)?;
        assert_eq!(told.len(), 30);
        for first in [1, 11, 21] {
            let of_one = told.iter().filter(|number| (first..first + 10).contains(*number));
            assert!(of_one.is_sorted(), "{told:?}");
        }
        orders.lock().unwrap().insert(told);
        Ok(())
    });
    // Times are of the seed: the connections come in many different orders.
    assert!(orders.lock().unwrap().len() > 100);
}

#[test]
fn connections_that_end_are_not_answered() {
    Seeds::new(500).run(|sim| {
        sim.allow_unfinished();
        run(sim).map(drop)
    });
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let once = |seed| {
        let mut sim = Simulation::new(seed, Faults::harmless());
        let told = run(&mut sim).unwrap();
        sim.finish();
        (told, sim.hash())
    };
    for seed in 0..20 {
        assert_eq!(once(seed), once(seed));
    }
}
