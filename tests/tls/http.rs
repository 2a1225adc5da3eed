//! HTTP over TLS: the server and the client of the library, and nothing changed for either.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::http::{self, Call, Client, ClientOptions, Route, Router, Server};
use waterwheel::pool::PoolOptions;
use waterwheel::{ConnectOptions, ListenOptions, Reactor};

use crate::{client, server};

#[test]
fn requests_are_answered_under_tls() {
    let mut reactor = Reactor::new().unwrap();
    let routes = Router::new()
        .get("/", |_, _, res| match res.tls() {
            Some(_) => res.text("encrypted"),
            None => res.text("plain"),
        })
        .route(
            "/len",
            Route::new().max_body_bytes(1 << 22).post(|_, _, res| {
                res.collect(1 << 22, |_, body, res| res.text(&body.len().to_string()));
            }),
        );
    let web = reactor.register(Server::new((), routes));
    let options = ListenOptions::default().limits(http::limits()).tls(&server());
    let addr = reactor.listen("127.0.0.1:0", web, options).unwrap();
    let connect = ConnectOptions::default().tls(&client(), "localhost");
    let options = ClientOptions::default()
        .pool(PoolOptions::default().connect(connect))
        .host(Some("localhost".to_owned()));
    let asker = Client::register(&mut reactor, addr, options).unwrap();
    let told = Rc::new(RefCell::new(Vec::new()));
    let calls = [Call::get("/"), Call::post("/len").body(vec![b'x'; 3_000_000]), Call::get("/")];
    for (number, call) in calls.into_iter().enumerate() {
        let sink = Rc::clone(&told);
        asker.send(&mut reactor.context(), call, move |answer, _| {
            sink.borrow_mut().push(answer.expect("an answer").text().into_owned());
        });
        let began = Instant::now();
        while told.borrow().len() <= number {
            reactor.run_once(Some(Duration::from_millis(10))).unwrap();
            assert!(began.elapsed() < Duration::from_secs(10), "no answer");
        }
    }
    assert_eq!(*told.borrow(), ["encrypted", "3000000", "encrypted"]);
    // One handshake: the connection was kept.
    assert_eq!(reactor.stats().accepted, 1);
}
