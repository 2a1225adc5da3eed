//! The clocks of HTTP behind a handler that has held the loop up.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::http::{Options, Router, Server};
use waterwheel::sim::{Faults, HostClock, PeerId, Script, Simulation};
use waterwheel::{ListenOptions, MinRate};

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long a handler works, whatever it does.
const WORK: Duration = Duration::from_millis(300);

/// Longer than anything lasts here.
const LONG: Duration = Duration::from_secs(60);

/// The time of a clock that is tried.
const LIMIT: Duration = Duration::from_millis(200);

struct App(Rc<RefCell<Option<HostClock>>>);

impl App {
    fn work(&self) {
        self.0.borrow().as_ref().expect("it is set").spend(WORK);
    }
}

fn patient() -> Options {
    Options::default()
        .first_byte_timeout(LONG)
        .head_timeout(LONG)
        .keep_alive_timeout(LONG)
        .min_body_rate(None)
}

/// What a peer is told that follows a script.
fn told(options: Options, script: Script) -> String {
    let mut sim = Simulation::new(0, Faults::none());
    sim.allow_unfinished();
    let clock = Rc::new(RefCell::new(None));
    let app = App(Rc::clone(&clock));
    let (host, addr) = sim
        .host("server", |reactor| {
            let routes = Router::new()
                .get("/", |app: &mut App, _, res| {
                    app.work();
                    res.text("done");
                })
                .post("/", |app: &mut App, _, res| {
                    app.work();
                    res.collect(1 << 20, |_, body, res| {
                        res.text(&format!("{} bytes", body.len()));
                    });
                });
            let web = reactor.register(Server::new(app, routes).with_options(options));
            reactor.listen("0.0.0.0:80", web, ListenOptions::default())
        })
        .unwrap();
    *clock.borrow_mut() = Some(sim.clock(host));
    let peer: PeerId = sim.peer(addr, script.read_to_end());
    sim.run(Duration::from_secs(5));
    String::from_utf8(sim.received(peer)).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A second request comes when the client has had its first answer for a while.
fn answers_after(pause: Duration) -> usize {
    let options = patient().first_byte_timeout(LIMIT).keep_alive_timeout(LIMIT);
    let script = Script::new().send(GET).wait(WORK + pause).send(GET);
    told(options, script).matches("done").count()
}

#[test]
fn a_client_that_has_its_answer_has_its_whole_time_for_the_next_request() {
    assert_eq!(answers_after(LIMIT - 20 * MILLISECOND), 2);
    assert_eq!(answers_after(LIMIT + 20 * MILLISECOND), 1);
}

/// A body comes that fast, from the end of the work on, and in that time alone.
fn answer_to_a_body(bytes_per_second: usize) -> String {
    let rate = MinRate::new(1_000, LIMIT);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n";
    let mut script = Script::new().send(head).wait(WORK);
    let piece = vec![b'x'; bytes_per_second / 100];
    for _ in 0..600 / piece.len() {
        script = script.wait(10 * MILLISECOND).send(&piece[..]);
    }
    told(patient().min_body_rate(Some(rate)), script)
}

#[test]
fn a_body_has_its_whole_time_although_it_was_asked_for_late() {
    let answer = answer_to_a_body(1_500);
    assert!(answer.ends_with("600 bytes"), "{answer}");
    let answer = answer_to_a_body(500);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
