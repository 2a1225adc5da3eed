//! What an HTTP server logs of handlers that do not answer.

use std::time::Duration;

use log::Level;
use waterwheel::ListenOptions;
use waterwheel::http::{Router, Server};
use waterwheel::sim::{Faults, PeerId, Script, Simulation};

use crate::logged::{keep_log, logged};

/// A server that answers nothing, and what clients are told that send this, one a second.
fn told(requests: &[&str]) -> Vec<String> {
    let mut sim = Simulation::new(0, Faults::none());
    sim.allow_unfinished();
    let (_, addr) = sim
        .host("server", |reactor| {
            let routes =
                Router::new().get("/{*path}", |(), _, _| {}).post("/late", |(), _, res| {
                    res.collect(1 << 20, |(), _, _| {});
                });
            let web = reactor.register(Server::new((), routes));
            reactor.listen("0.0.0.0:80", web, ListenOptions::default())
        })
        .unwrap();
    let mut peers: Vec<PeerId> = Vec::new();
    for (second, text) in (0..).zip(requests) {
        let script = Script::new().send(*text).wait(Duration::from_secs(1));
        let script = script.send("body").wait(Duration::from_secs(1)).close();
        peers.push(sim.peer_after(Duration::from_millis(second * 2_500), addr, script));
    }
    sim.run(Duration::from_secs(20));
    let text = |&peer| String::from_utf8(sim.received(peer)).unwrap();
    peers.iter().map(text).collect()
}

#[test]
fn a_request_without_an_answer_is_told_of_by_method_and_path() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "long".repeat(100));
    keep_log();
    let answers = told(&[
        "GET /a%0Ab?password=secret HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n",
        &long,
    ]);
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 500 ")), "{answers:?}");
    let errors = logged(Level::Error);
    assert_eq!(errors.len(), 3, "{errors:?}");
    for (line, (request, place)) in errors.iter().zip([
        ("GET /a%0Ab ", "/1: "),
        ("POST /late ", "/2: "),
        ("GET /longlong", "/3: "),
    ]) {
        assert!(line.contains(request) && line.contains(place), "{line}");
        assert!(!line.contains("secret") && line.len() < 400, "{line}");
    }
}

#[test]
fn one_such_line_a_second_is_an_error() {
    keep_log();
    let request = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    assert_eq!(told(&[&request])[0].matches("HTTP/1.1 500 ").count(), 50);
    assert_eq!(logged(Level::Error).len(), 1);
    let lines =
        logged(Level::Debug).into_iter().filter(|line| line.contains("has given no answer"));
    assert_eq!(lines.count(), 49);
}
