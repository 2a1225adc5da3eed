//! Limits after a long turn: each counts from when what it limits began, and not from the start of
//! the turn in which it did.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use log::Level;
use waterwheel::sim::{Faults, HostClock, Script, Simulation};
use waterwheel::{
    Closed, Conn, Context, DeadlineKind, Handler, Limits, ListenOptions, MinRate, Peer,
};

use crate::logged::{keep_log, logged};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What a handler does at the end of its work.
type Act = fn(&mut Conn<'_>) -> usize;

/// Works for a while when it accepts or has data, does something, and notes how long the connection
/// lived from then on.
struct Slow {
    clock: Rc<RefCell<Option<HostClock>>>,
    accepts_for: Duration,
    works_for: Duration,
    act: Act,
    began: Duration,
    life: Rc<Cell<Option<(Duration, String)>>>,
}

impl Slow {
    fn work(&mut self, time: Duration) {
        let clock = self.clock.borrow();
        let clock = clock.as_ref().expect("it is set");
        clock.spend(time);
        self.began = clock.now();
    }
}

impl Handler for Slow {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        self.work(self.accepts_for);
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, _: &[u8]) -> usize {
        self.work(self.works_for);
        (self.act)(conn)
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        let life = self.clock.borrow().as_ref().expect("it is set").now() - self.began;
        self.life.set(Some((life, format!("{:?}", closed.reason))));
    }
}

const LIMIT: Duration = Duration::from_millis(40);

/// How long a connection lived behind work of 90 ms, and how it ended; one limit is of 40 ms.
#[track_caller]
fn expect_whole(limits: Limits, words: &str, act: Act, reason: &str) {
    for work in [Duration::ZERO, Duration::from_micros(1_500), 90 * MILLISECOND] {
        let mut sim = Simulation::new(0, Faults::none());
        sim.allow_unfinished();
        let (clock, life) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(None)));
        let (accepts_for, works_for) =
            if words.is_empty() { (work, Duration::ZERO) } else { (Duration::ZERO, work) };
        let handler = Slow {
            clock: Rc::clone(&clock),
            accepts_for,
            works_for,
            act,
            began: Duration::ZERO,
            life: Rc::clone(&life),
        };
        let options = ListenOptions::default().limits(limits.clone());
        let (host, addr) = sim
            .host("server", |reactor| {
                let service = reactor.register(handler);
                reactor.listen("0.0.0.0:7000", service, options)
            })
            .unwrap();
        *clock.borrow_mut() = Some(sim.clock(host));
        sim.peer(addr, Script::new().send(words).stop_reading().wait(10_000 * MILLISECOND));
        sim.run(Duration::from_secs(5));
        let (life, told) = life.take().expect("it has ended");
        assert_eq!(told, reason);
        assert!(life >= LIMIT, "{life:?} of {LIMIT:?}, after {work:?} of work");
        assert!(life <= LIMIT + 3 * MILLISECOND, "{life:?} of {LIMIT:?}, after {work:?} of work");
    }
}

#[test]
fn the_first_byte_has_its_whole_time() {
    let limits = Limits::default().first_byte_timeout(Some(LIMIT));
    expect_whole(limits, "", |_| 0, "Timeout(FirstByte)");
}

#[test]
fn the_rest_of_a_message_has_its_whole_time() {
    let limits = Limits::default().message_timeout(Some(LIMIT));
    expect_whole(limits, "half of it", |_| 0, "Timeout(Message)");
}

#[test]
fn a_slow_message_has_its_whole_grace() {
    let limits = Limits::default().min_receive_rate(Some(MinRate::new(1_000_000, LIMIT)));
    expect_whole(limits, "half of it", |_| 0, "Timeout(ReceiveRate)");
}

#[test]
fn a_peer_has_its_whole_time_to_finish() {
    let limits = Limits::default().close_timeout(LIMIT);
    let act: Act = |conn| {
        conn.close();
        0
    };
    expect_whole(limits, "the end", act, "Local");
}

#[test]
fn queued_output_has_its_whole_time_to_leave() {
    let limits = Limits::default().close_timeout(LIMIT).max_output_bytes(64 << 20);
    let act: Act = |conn| {
        conn.write(&vec![7; 32 << 20]);
        conn.close();
        0
    };
    expect_whole(limits, "much, please", act, "Timeout(Close)");
}

#[test]
fn slow_output_has_its_whole_grace() {
    let rate = MinRate::new(u32::MAX, LIMIT);
    let limits = Limits::default().min_send_rate(Some(rate)).max_output_bytes(64 << 20);
    let act: Act = |conn| {
        conn.write(&vec![7; 32 << 20]);
        100
    };
    expect_whole(limits, "much, please", act, "Timeout(SendRate)");
}

/// Takes nothing, and long for it.
struct Busy {
    clock: Rc<RefCell<Option<HostClock>>>,
    times: Rc<Cell<u32>>,
    reason: Rc<RefCell<String>>,
}

impl Handler for Busy {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, _: &[u8]) -> usize {
        self.clock.borrow().as_ref().expect("it is set").spend(30 * MILLISECOND);
        self.times.set(self.times.get() + 1);
        0
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        *self.reason.borrow_mut() = format!("{:?}", closed.reason);
    }
}

/// A turn begins at the tick at which the long one before has ended.
#[test]
fn long_turns_one_after_the_other_put_no_limit_off() {
    let rate = MinRate::new(1_000_000, LIMIT);
    for (limits, reason) in [
        (Limits::default().message_timeout(Some(LIMIT)), "Timeout(Message)"),
        (Limits::default().min_receive_rate(Some(rate)), "Timeout(ReceiveRate)"),
    ] {
        let mut sim = Simulation::new(0, Faults::none());
        sim.allow_unfinished();
        let (clock, times) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
        let told = Rc::new(RefCell::new(String::new()));
        let handler =
            Busy { clock: Rc::clone(&clock), times: Rc::clone(&times), reason: Rc::clone(&told) };
        let options = ListenOptions::default().limits(limits);
        let (host, addr) = sim
            .host("server", |reactor| {
                let service = reactor.register(handler);
                reactor.listen("0.0.0.0:7000", service, options)
            })
            .unwrap();
        *clock.borrow_mut() = Some(sim.clock(host));
        let dribble = |script: Script, _| script.send("x").wait(5 * MILLISECOND);
        sim.peer(addr, (0..400).fold(Script::new(), dribble));
        sim.run(Duration::from_secs(5));
        assert_eq!(*told.borrow(), reason);
        assert!(times.get() <= 5, "{} turns of 30 ms, {reason} of {LIMIT:?}", times.get());
    }
}

/// What protocols set: the head of an answer, the rest of it, pongs, Close frames.
#[test]
fn a_deadline_of_the_handler_has_its_whole_time() {
    let act: Act = |conn| {
        conn.set_deadline(DeadlineKind::User, Some(LIMIT));
        100
    };
    expect_whole(Limits::default(), "much, please", act, "Timeout(User)");
}

/// Takes a little time for each connection and leaves its input; with how long each lived since.
struct Many {
    clock: Rc<RefCell<Option<HostClock>>>,
    works_for: Duration,
    lives: Rc<RefCell<Vec<Duration>>>,
}

impl Handler for Many {
    type State = Duration;

    fn on_accept(&mut self, _: &Peer) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn on_data(&mut self, began: &mut Duration, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if input.starts_with(b"turn") {
            return input.len();
        }
        let clock = self.clock.borrow();
        let clock = clock.as_ref().expect("it is set");
        clock.spend(if input == b"block" { 20 * MILLISECOND } else { self.works_for });
        if input == b"much" {
            conn.write(&vec![7; 4 << 20]);
            *began = clock.now();
            return input.len();
        }
        *began = clock.now();
        0
    }

    fn on_close(&mut self, began: Duration, closed: Closed, _: &mut Context<'_>) {
        if format!("{:?}", closed.reason).starts_with("Timeout") {
            let now = self.clock.borrow().as_ref().expect("it is set").now();
            self.lives.borrow_mut().push(now - began);
        }
    }
}

/// So many that they are not stamped anew when their turn ends in the tick after its own.
#[test]
fn a_turn_of_many_that_crosses_a_tick_makes_no_limit_early() {
    let rate = Some(MinRate::new(u32::MAX, LIMIT));
    let limits = || Limits::default().max_output_bytes(64 << 20);
    for (limits, words) in [
        (limits().message_timeout(Some(LIMIT)), "half of it"),
        (limits().min_receive_rate(rate), "half of it"),
        (limits().min_send_rate(rate), "much"),
    ] {
        for micros in (5..60).step_by(5) {
            let mut sim = Simulation::new(0, Faults::none());
            sim.allow_unfinished();
            let (clock, lives) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(Vec::new())));
            let works_for = Duration::from_micros(micros);
            let handler = Many { clock: Rc::clone(&clock), works_for, lives: Rc::clone(&lives) };
            let options = ListenOptions::default().limits(limits.clone());
            let (host, addr) = sim
                .host("server", |reactor| {
                    let service = reactor.register(handler);
                    reactor.listen("0.0.0.0:7000", service, options)
                })
                .unwrap();
            *clock.borrow_mut() = Some(sim.clock(host));
            // All others send while the first one blocks the loop.
            let script = |words: &str, wait| {
                let script = Script::new().wait(wait).send(words);
                script.stop_reading().wait(10_000 * MILLISECOND)
            };
            sim.peer(addr, script("block", 50 * MILLISECOND));
            for _ in 0..30 {
                sim.peer(addr, script(words, 60 * MILLISECOND));
            }
            // The loop turns all the time, and looks at its timers as soon as they are due.
            let often = Script::new().wait(100 * MILLISECOND);
            let turn = |script: Script, _| script.send("turn").wait(MILLISECOND / 20);
            sim.peer(addr, (0..300).fold(often, turn));
            sim.run(Duration::from_secs(5));
            let lives = lives.take();
            assert_eq!(lives.len(), 31 - usize::from(words == "much"), "{micros}");
            for life in lives {
                assert!(life >= LIMIT, "{life:?} of {LIMIT:?}, {micros} µs each, {words}");
                assert!(life <= LIMIT + 4 * MILLISECOND, "{life:?}, {micros} µs each, {words}");
            }
        }
    }
}

/// A callback that blocks is told of without an observer.
#[test]
fn a_slow_turn_is_counted_and_told_of() {
    keep_log();
    let mut sim = Simulation::new(0, Faults::none());
    sim.allow_unfinished();
    let (clock, life) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(None)));
    let handler = Slow {
        clock: Rc::clone(&clock),
        accepts_for: Duration::ZERO,
        works_for: 150 * MILLISECOND,
        act: |_| 100,
        began: Duration::ZERO,
        life,
    };
    let (host, addr) = sim
        .host("server", |reactor| {
            let service = reactor.register(handler);
            reactor.listen("0.0.0.0:7000", service, ListenOptions::default())
        })
        .unwrap();
    *clock.borrow_mut() = Some(sim.clock(host));
    let mut script = Script::new();
    for _ in 0..3 {
        script = script.send("x").wait(400 * MILLISECOND);
    }
    sim.peer(addr, script.wait(400 * MILLISECOND).send("x").wait(400 * MILLISECOND));
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.with(host, |reactor| reactor.stats().slow_turns), 4);
    let lines = logged(Level::Warn);
    assert_eq!(lines.len(), 2, "one in a second: {lines:?}");
    for line in lines {
        assert!(line.starts_with("a turn of the loop took 15"), "{line}");
        assert!(line.contains("Slow") && line.contains("0.1"), "{line}");
    }
}
