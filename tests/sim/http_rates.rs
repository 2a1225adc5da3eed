//! Least rates of the bodies of requests, by the clock and not by a busy machine: only time in
//! which the client owes something counts.

use std::time::Duration;

use waterwheel::http::{self, Body, Flow, Options, ReplyId, Response, Router, Server};
use waterwheel::sim::{Faults, Script, Simulation};
use waterwheel::{HandlerKey, ListenOptions, MinRate};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The request that a timer goes on with.
struct App(Option<(ReplyId, HandlerKey<Server<Self>>)>);

/// Pauses at each piece, for so long.
struct Pauses(Duration);

impl Body<App> for Pauses {
    fn on_chunk(&mut self, app: &mut App, _: &[u8], res: &mut Response<'_, App>) -> Flow {
        wait(app, res, self.0, RESUME);
        Flow::Pause
    }

    fn on_end(&mut self, _: &mut App, res: &mut Response<'_, App>) {
        res.text("whole");
    }
}

const RESUME: u64 = 1;
const ASK: u64 = 2;

fn wait(app: &mut App, res: &mut Response<'_, App>, time: Duration, token: u64) {
    let server = res.server();
    app.0 = Some((res.later(), server));
    res.context().set_timer(server, time, token);
}

/// What a client gets of a server that wants 1,000 bytes a second, with a grace of 1 s.
fn answer(script: Script) -> String {
    let routes = Router::new()
        .post("/long", |_, _, res| res.receive(Pauses(ms(900))))
        .post("/short", |_, _, res| res.receive(Pauses(ms(5))))
        .post("/later", |app, _, res| wait(app, res, ms(900), ASK));
    let options = Options::default().min_body_rate(Some(MinRate::new(1_000, ms(1_000))));
    let mut sim = Simulation::new(0, Faults::none());
    let (_, addr) = sim
        .host("server", |reactor| {
            let server = Server::new(App(None), routes).with_options(options);
            let web = reactor.register(server.on_timer(|app, timer, cx| {
                // The server itself is lent to this call.
                let (id, web) = app.0.take().expect("a request waits");
                cx.post(web, move |server, cx| {
                    server.answer(cx, id, |_, res| match timer.token {
                        RESUME => res.resume(),
                        _ => res.receive(Pauses(ms(1))),
                    });
                });
            }));
            let options = ListenOptions::default().limits(http::limits());
            reactor.listen("0.0.0.0:80", web, options)
        })
        .unwrap();
    let peer = sim.peer(addr, script.finish().read_to_end());
    sim.run(Duration::from_secs(600));
    let received = String::from_utf8(sim.received(peer)).expect("text");
    received[9..12].to_owned()
}

/// The head of a request with a body of 1,000 bytes.
fn post(path: &str) -> Script {
    Script::new().send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"))
}

#[test]
fn the_time_of_a_pause_does_not_count() {
    let script = post("/long").send([b'x'; 100]).wait(ms(1_100)).send([b'x'; 900]);
    assert_eq!(answer(script), "200");
    // What remains of the time does.
    assert_eq!(answer(post("/long").send([b'x'; 100]).wait(ms(2_500)).send([b'x'; 900])), "408");
}

#[test]
fn short_pauses_leave_a_slow_body_slow() {
    assert_eq!(answer(post("/short").dribble(vec![b'x'; 1_000], ms(10))), "408");
    assert_eq!(
        answer(post("/short").dribble(vec![b'x'; 1_000], Duration::from_micros(500))),
        "200"
    );
}

#[test]
fn the_time_before_a_body_is_asked_for_does_not_count() {
    assert_eq!(answer(post("/later").wait(ms(1_100)).send([b'x'; 1_000])), "200");
    assert_eq!(answer(post("/later").wait(ms(2_500)).send([b'x'; 1_000])), "408");
}
