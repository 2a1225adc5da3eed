//! The reactor in a simulated world.

#[path = "../../examples/simulate/src/workload/mod.rs"]
mod workload;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::observer::{Callback, Observer, Outcome, Span, What};
use waterwheel::sim::{Fault, Faults, HostClock, PeerEnd, Script, Seeds, Simulation};
use waterwheel::{
    Closed, Conn, ConnId, Context, DeadlineKind, Handler, Idle, IdleKind, Limits, ListenOptions,
    MinRate, Peer, Timer, frame,
};

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn lines_are_answered() {
    Seeds::new(1_000).faults(Faults::harmless()).run(|sim| {
        let (_, addr) = sim.host("server", |reactor| {
            let capitals = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
                let mut lines = frame::lines(input, 80);
                for line in lines.by_ref().flatten() {
                    conn.write(&line.to_ascii_uppercase());
                    conn.write(b"\n");
                }
                lines.consumed()
            });
            reactor.listen("0.0.0.0:7000", capitals, ListenOptions::default())
        })?;
        let script = Script::new().send("hello\nwor").wait(5 * MILLISECOND).send("ld\n");
        let peer = sim.peer(addr, script.read(12).finish().read_to_end());
        sim.run(Duration::from_secs(60));
        assert_eq!(sim.received(peer), b"HELLO\nWORLD\n");
        Ok(())
    });
}

#[test]
fn a_random_program_survives_a_random_world() {
    let report = Seeds::new(3_000).run(workload::run);
    assert_eq!(report.runs, 3_000);
    for (fault, struck) in Fault::ALL.into_iter().zip(&report.struck) {
        // The program has no datagram sockets; tests/datagrams.rs has them.
        assert!(*struck > 0 || fault.is_of_datagrams(), "no {fault} in {} runs", report.runs);
    }
    assert_eq!(report.landmarks.missing(), [""; 0], "never reached");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let hash = |seed| {
        let mut sim = Simulation::new(seed, Faults::all());
        workload::run(&mut sim).unwrap();
        sim.finish();
        sim.hash()
    };
    for seed in 0..20 {
        assert_eq!(hash(seed), hash(seed));
    }
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_trace_does_not_change_what_it_shows() {
    for seed in 0..10 {
        let mut plain = Simulation::new(seed, Faults::all());
        let mut traced = Simulation::new(seed, Faults::all());
        traced.keep_trace();
        for sim in [&mut plain, &mut traced] {
            workload::run(sim).unwrap();
            sim.finish();
        }
        assert_eq!(plain.hash(), traced.hash());
        assert_eq!(traced.trace().len() as u64, traced.trace_len());
    }
}

/// Counts callbacks that have begun and those that have ended, and bytes.
#[derive(Clone, Default)]
struct Counts(Rc<RefCell<[usize; 4]>>);

impl Observer for Counts {
    fn on_callback_begin(&mut self, callback: &Callback<'_>, _: Duration) {
        self.0.borrow_mut()[0] += 1;
        if let What::Data { input, .. } = callback.what {
            self.0.borrow_mut()[2] += input.len();
        }
    }

    fn on_callback_end(&mut self, _: &Callback<'_>, _: Outcome, _: Span) {
        self.0.borrow_mut()[1] += 1;
    }

    fn on_read(&mut self, _: ConnId, bytes: usize) {
        self.0.borrow_mut()[3] += bytes;
    }
}

#[test]
fn the_rules_hold_for_observed_connections_too() {
    Seeds::new(300).faults(Faults::all()).run(|sim| {
        let counts = Counts::default();
        let (host, addr) = sim.host("server", |reactor| {
            reactor.observe(counts.clone());
            let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
                conn.write(input);
                input.len()
            });
            reactor.listen("0.0.0.0:7000", echo, ListenOptions::default())
        })?;
        let peers = [5, 50_000].map(|length| {
            let script = Script::new().send(vec![7; length]).read(length);
            (sim.peer(addr, script.send("again").read(5).finish().read_to_end()), length)
        });
        sim.run(Duration::from_secs(600));
        for (peer, length) in peers {
            let wanted = [vec![7; length], b"again".to_vec()].concat();
            assert!(wanted.starts_with(&sim.received(peer)));
        }
        let [begun, ended, delivered, read] = *counts.0.borrow();
        assert_eq!(begun, ended);
        assert!(delivered <= read);
        let stats = sim.with(host, |reactor| reactor.stats());
        assert_eq!(stats.bytes_read, read as u64);
        Ok(())
    });
}

/// Notes when each connection ended, and spends time in its callbacks.
struct Slow {
    clock: Rc<RefCell<Option<HostClock>>>,
    works_for: Duration,
    deadline: Option<Duration>,
    opened: Duration,
    ended: Rc<RefCell<Vec<Duration>>>,
}

impl Slow {
    fn new(clock: &Rc<RefCell<Option<HostClock>>>, ended: &Rc<RefCell<Vec<Duration>>>) -> Self {
        Self {
            clock: Rc::clone(clock),
            works_for: Duration::ZERO,
            deadline: None,
            opened: Duration::ZERO,
            ended: Rc::clone(ended),
        }
    }

    fn now(&self) -> Duration {
        self.clock.borrow().as_ref().unwrap().now()
    }
}

impl Handler for Slow {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        self.clock.borrow().as_ref().unwrap().spend(self.works_for);
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        self.opened = self.now();
        conn.set_deadline(DeadlineKind::User, self.deadline);
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_idle(&mut self, (): &mut (), _: &mut Conn<'_>, _: IdleKind) -> Idle {
        Idle::Close
    }

    fn on_close(&mut self, (): (), _: Closed, _: &mut Context<'_>) {
        self.ended.borrow_mut().push(self.now() - self.opened);
    }
}

/// How long a connection lives that is opened at the end of a turn that `works_for` so long.
#[track_caller]
fn life_after_work(works_for: Duration, idle: Duration, deadline: Option<Duration>) -> Duration {
    let mut sim = Simulation::new(0, Faults::none());
    let clock = Rc::new(RefCell::new(None));
    let ended = Rc::new(RefCell::new(Vec::new()));
    let handler = Slow { works_for, deadline, ..Slow::new(&clock, &ended) };
    let (host, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(handler);
            let options = ListenOptions::default().idle_timeout(idle);
            reactor.listen("0.0.0.0:7000", service, options)
        })
        .unwrap();
    *clock.borrow_mut() = Some(sim.clock(host));
    let peer = sim.peer(addr, Script::new());
    sim.run(Duration::from_secs(3_600));
    assert_ne!(sim.end_of(peer), PeerEnd::Open);
    sim.finish();
    let ended = ended.borrow();
    assert_eq!(ended.len(), 1);
    ended[0]
}

/// A connection that was accepted in a long turn was taken for idle since the turn's start.
#[test]
fn idle_limits_count_from_the_end_of_the_turn_that_accepts() {
    for works_for in [Duration::ZERO, Duration::from_micros(1_500), 90 * MILLISECOND] {
        for idle in [40 * MILLISECOND, 400 * MILLISECOND] {
            let life = life_after_work(works_for, idle, None);
            assert!(life >= idle, "{life:?} of {idle:?}, after {works_for:?} of work");
            assert!(life <= idle + 3 * MILLISECOND, "{life:?} of {idle:?}");
        }
    }
}

/// Linux ends a long poll late by a thousandth: a limit of a minute passed 60 ms late.
#[test]
fn a_far_limit_passes_on_time_although_polls_end_late() {
    Seeds::new(40).faults(Faults::none().with(Fault::LatePoll)).run(|sim| {
        let idle = Duration::from_secs(60);
        let ended = Rc::new(RefCell::new(Vec::new()));
        let clock = Rc::new(RefCell::new(None));
        let handler = Slow::new(&clock, &ended);
        let (host, addr) = sim.host("server", |reactor| {
            let service = reactor.register(handler);
            let options = ListenOptions::default().idle_timeout(idle);
            reactor.listen("0.0.0.0:7000", service, options)
        })?;
        *clock.borrow_mut() = Some(sim.clock(host));
        sim.peer(addr, Script::new());
        sim.run(2 * idle);
        let life = ended.borrow()[0];
        assert!(life >= idle && life <= idle + 3 * MILLISECOND, "{life:?}");
        Ok(())
    });
}

/// Pauses, says a second later that a message is incomplete, and reads on a minute later.
struct Pausing;

impl Handler for Pausing {
    type State = bool;

    fn on_accept(&mut self, _: &Peer) -> Option<bool> {
        Some(false)
    }

    fn on_data(&mut self, _: &mut bool, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.pause_reading();
        conn.set_timer(Duration::from_secs(1), 0);
        input.len()
    }

    fn on_timer(&mut self, has_declared: &mut bool, conn: &mut Conn<'_>, _: Timer) {
        if std::mem::replace(has_declared, true) {
            return conn.resume_reading();
        }
        conn.declare_incomplete(true);
        conn.set_timer(Duration::from_secs(60), 0);
    }
}

/// The peer was "too slow" while nobody read.
#[test]
fn a_message_that_is_declared_in_a_pause_is_timed_from_its_end() {
    let mut sim = Simulation::new(0, Faults::none());
    let (_, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(Pausing);
            let rate = MinRate::new(1_000, Duration::from_secs(5));
            let limits = Limits::default().min_receive_rate(Some(rate));
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default().limits(limits))
        })
        .unwrap();
    let peer = sim.peer(addr, Script::new().send("a").read_to_end());
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.end_of(peer), PeerEnd::Open);
    sim.run(Duration::from_secs(10));
    assert_eq!(sim.end_of(peer), PeerEnd::Broken);
}

/// A deadline that was set in a long turn ran from the turn's start.
#[test]
fn deadlines_count_from_when_they_are_set() {
    let wait = 40 * MILLISECOND;
    for works_for in [Duration::ZERO, Duration::from_micros(1_500), 90 * MILLISECOND] {
        let life = life_after_work(works_for, Duration::from_secs(9), Some(wait));
        assert!(life >= wait, "{life:?}, after {works_for:?} of work");
        assert!(life <= wait + 3 * MILLISECOND, "{life:?}");
    }
}
