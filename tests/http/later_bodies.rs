//! Bodies that are asked for in a later closure: of requests that have one, and that have none.

use std::sync::mpsc;

use waterwheel::http::{self, Body, Flow, ReplyId, Response, Route, Router, Server};
use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::{ListenOptions, http::Request};

use crate::web::Web;

/// What the routes share: the exchanges whose bodies `/wake` asks for, and who hears of the ends.
struct App {
    waiting: Vec<ReplyId>,
    ends: mpsc::Sender<()>,
}

/// Answers at the end with what has come.
struct Tell(String);

impl Body<App> for Tell {
    fn on_chunk(&mut self, _: &mut App, chunk: &[u8], _: &mut Response<'_, App>) -> Flow {
        self.0 += std::str::from_utf8(chunk).unwrap();
        Flow::More
    }

    fn on_end(&mut self, app: &mut App, res: &mut Response<'_, App>) {
        app.ends.send(()).unwrap();
        if res.is_unanswered() {
            res.text(&format!("<{}>", self.0));
        } else {
            res.write(format!("<{}>", self.0).as_bytes());
            res.end();
        }
    }
}

fn collect(res: &mut Response<'_, App>) {
    res.collect(100, |app, body, res| {
        app.ends.send(()).unwrap();
        res.text(&format!("<{}>", String::from_utf8_lossy(body)));
    });
}

fn receive(res: &mut Response<'_, App>) {
    res.receive(Tell(String::new()));
}

/// A route that asks in a closure which runs later.
fn posted(ask: fn(&mut Response<'_, App>)) -> Route<App> {
    Route::new().any(move |_: &mut App, _: &Request<'_>, res: &mut Response<'_, App>| {
        let (id, key) = (res.later(), res.server());
        res.context().post(key, move |server, cx| {
            server.answer(cx, id, |_, res| ask(res));
        });
    })
}

/// Asks for the body in each way that there is, but for the route itself.
fn web() -> (Web, mpsc::Receiver<()>) {
    let (ends, ended) = mpsc::channel();
    let options = ListenOptions::default().limits(http::limits());
    let web = Web::serve_in(options, move |reactor| {
        let offload = Offload::new(reactor, OffloadOptions::default()).unwrap();
        let offloaded = Route::new().any(move |_: &mut App, _, res| {
            res.offload(&offload, (), |()| (), |_, _, res| collect(res));
        });
        let drained = Route::new().any(|_: &mut App, _, res| {
            res.later();
            res.on_drain(|_, res| receive(res));
        });
        let wait = Route::new().any(|app: &mut App, _, res| app.waiting.push(res.later()));
        let routes = Router::new()
            .route("/collect", posted(collect))
            .route("/receive", posted(receive))
            .route("/offload", offloaded)
            .route("/drain", drained)
            .route(
                "/stream",
                posted(|res| {
                    receive(res);
                    res.stream(None);
                }),
            )
            .route(
                "/early",
                posted(|res| {
                    receive(res);
                    res.text("early");
                }),
            )
            .route(
                "/early/route",
                Route::new().any(|_, _, res| {
                    collect(res);
                    res.text("early");
                }),
            )
            .route("/wait", wait)
            .get("/wake", |app, _, res| {
                let mut count = 0;
                for id in std::mem::take(&mut app.waiting) {
                    count += usize::from(res.answer(id, receive).is_some());
                }
                res.text(&count.to_string());
            })
            .get("/now", |_, _, res| res.text("now"));
        Server::new(App { waiting: Vec::new(), ends }, routes)
    });
    (web, ended)
}

/// A request of each kind, and what a closure of its body answers.
fn requests(path: &str) -> [(String, &'static str); 6] {
    let ask = |method: &str, rest: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{rest}");
    [
        (ask("GET", "\r\n"), "<>"),
        (ask("POST", "\r\n"), "<>"),
        (ask("POST", "Content-Length: 0\r\n\r\n"), "<>"),
        (ask("POST", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "<>"),
        (ask("POST", "Content-Length: 4\r\n\r\nbody"), "<body>"),
        (ask("POST", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"), "<body>"),
    ]
}

const NOW: &str = "GET /now HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_body_that_is_asked_for_later_ends_also_if_there_is_none() {
    let (web, ended) = web();
    for path in ["/collect", "/receive", "/offload", "/drain", "/stream"] {
        let mut client = web.client();
        for (request, wanted) in requests(path) {
            // What stands behind it is served when it is over.
            client.send([&*request, NOW].concat());
            client.answer().expect(200, wanted);
            client.answer().expect(200, "now");
            assert_eq!(ended.try_iter().count(), 1, "{request}");
        }
    }
}

#[test]
fn a_body_that_another_request_asks_for_ends_also_if_there_is_none() {
    let (web, ended) = web();
    let (mut client, mut waker) = (web.client(), web.client());
    for (request, wanted) in requests("/wait") {
        client.send([&*request, NOW].concat());
        while waker.get("/wake").text() == "0" {}
        client.answer().expect(200, wanted);
        client.answer().expect(200, "now");
        assert_eq!(ended.try_iter().count(), 1, "{request}");
    }
}

/// The client has finished sending before the body is asked for.
#[test]
fn a_body_that_is_asked_for_behind_the_end_of_the_client_ends() {
    let (web, ended) = web();
    for (request, wanted) in requests("/wait") {
        let (mut client, mut waker) = (web.client(), web.client());
        client.send(request);
        client.finish();
        while waker.get("/wake").text() == "0" {}
        client.answer().expect(200, wanted);
        client.expect_end();
        assert_eq!(ended.try_iter().count(), 1);
    }
}

#[test]
fn an_answer_ends_the_receiving_whether_there_is_a_body_or_not() {
    let (web, ended) = web();
    for path in ["/early", "/early/route"] {
        for (request, _) in requests(path) {
            let mut client = web.client();
            client.send(&request);
            client.answer().expect(200, "early");
            client.finish();
            client.expect_end();
            assert_eq!(ended.try_iter().count(), 0, "{request}");
        }
    }
}
