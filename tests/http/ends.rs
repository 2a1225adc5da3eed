//! What a handler ends, or panics in, while more of the client's input is here already, or is to
//! come.

use std::sync::mpsc;

use waterwheel::http::{Router, Server};

use crate::routes;
use crate::web::Web;

#[test]
fn requests_behind_one_whose_handler_ends_the_connection_are_not_served() {
    let (sender, served) = mpsc::channel();
    let web = Web::of(move || {
        Router::new()
            .get("/end", |_, _, res| {
                let id = res.id().conn();
                if let Some(mut conn) = res.context().conn(id) {
                    conn.abort();
                }
                res.text("nobody sees this");
            })
            .get("/next", move |_, req, res| {
                sender.send(req.target().to_owned()).unwrap();
                res.text("next");
            })
    });
    let mut client = web.client();
    let ask = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send([ask("/end"), ask("/next?same"), ask("/next?same")].concat());
    client.expect_reset();
    web.client().get("/next?other").expect(200, "next");
    assert_eq!(served.try_iter().collect::<Vec<_>>(), ["/next?other"]);
}

/// A log that has failed once is a log of what follows all the same.
#[test]
fn a_panic_in_on_finish_is_the_end_of_its_connection_alone() {
    let (sender, records) = mpsc::channel();
    let web = Web::serve(move || {
        Server::new((), routes()).on_finish(move |(), record| {
            assert!(record.target != "/param/panic", "as the test wants");
            sender.send(record.target.to_owned()).unwrap();
        })
    });
    let mut client = web.client();
    client.send("GET /param/panic HTTP/1.1\r\nHost: x\r\n\r\n");
    client.expect_reset();
    web.client().get("/param/next").expect(200, "next");
    web.client().get("/").expect(200, "root");
    assert_eq!(records.try_iter().next().as_deref(), Some("/param/next"));
}
