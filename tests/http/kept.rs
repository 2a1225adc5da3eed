//! How long a connection is kept, and who is told of its end. The cases are those of nginx's tests
//! for keep-alive; where it does otherwise, the case says why.

use std::sync::mpsc;
use std::time::Duration;

use waterwheel::http::{Options, Router, Server};

use crate::routes;
use crate::web::{Answer, Web};

const PATIENCE: Duration = Duration::from_secs(10);

/// What an answer says of the connection. That it is kept is what HTTP/1.1 means anyway, so that
/// nothing says so to such a client; nginx says it each time.
#[track_caller]
fn is_last(answer: &Answer) -> bool {
    assert_eq!(answer.field("keep-alive"), None, "how long is for the server to say, in its end");
    match answer.field("connection") {
        None => false,
        Some("close") => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_of_so_many_requests_is_told_so() {
    for max in [1, 2, 4] {
        let options = Options::default().max_requests(Some(max));
        let web = Web::serve(move || Server::new((), routes()).with_options(options));
        // One behind the other, and at once, with one that is too many.
        for is_pipelined in [false, true] {
            let mut client = web.client();
            let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            if is_pipelined {
                client.send(request.repeat(max as usize + 1));
            }
            for number in 1..=max {
                if !is_pipelined {
                    client.send(request);
                }
                assert_eq!(is_last(&client.answer().expect(200, "root")), number == max);
            }
            client.finish();
            client.expect_end();
        }
    }
}

#[test]
fn all_clients_are_kept_alike() {
    // Browsers that did not bear it, after a POST or at all, are gone for fifteen years; nginx
    // still tells them by their names.
    let web = Web::of(routes);
    for agent in ["", "MSIE 5.0", "MSIE 7.0", "Mac OS X Safari/7534.48.3"] {
        for method in ["GET", "POST"] {
            let mut client = web.client();
            for _ in 0..2 {
                let fields = format!("Host: x\r\nUser-Agent: {agent}\r\n");
                let answer = client.ask(format!("{method} /echo HTTP/1.1\r\n{fields}\r\n"));
                assert!(!is_last(&answer) && answer.status == 200, "{answer:?}");
            }
        }
    }
}

#[test]
fn a_program_says_which_answer_is_the_last() {
    // By the age of the connection or by what else it likes: nginx has a directive for the age.
    let web = Web::of(|| {
        let mut left = 2;
        Router::new().get("/", move |_, _, res| {
            if left == 0 {
                res.close_after();
            }
            left -= 1;
            res.text("root");
        })
    });
    let mut client = web.client();
    let is_last = [0; 3].map(|_| is_last(&client.get("/").expect(200, "root")));
    assert_eq!(is_last, [false, false, true]);
    client.finish();
    client.expect_end();
}

#[test]
fn nobody_waits_for_a_body_that_was_not_asked_for_and_will_not_come() {
    let web = Web::of(routes);
    for sent in ["", "12345"] {
        let mut client = web.client();
        client
            .send(format!("POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{sent}"));
        assert!(!is_last(&client.answer().expect(200, "ignored")));
        client.finish();
        client.expect_end();
    }
}

#[test]
fn a_drain_is_told_with_the_last_answer_that_is_due() {
    let (sender, ids) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new().get("/", |(), _, res| res.text("root")).get(
            "/later",
            move |(), _, res| {
                let id = res.later();
                sender.send((id, res.server())).unwrap();
            },
        );
        Server::new((), routes)
    });
    let mut idle = web.client();
    idle.get("/").expect(200, "root");
    let mut client = web.client();
    let request = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send([request("/"), request("/later")].concat());
    assert!(!is_last(&client.answer_to_head()));
    let due = ids.recv_timeout(PATIENCE).unwrap();
    web.remote.drain(PATIENCE).unwrap();
    idle.expect_end(); // it has begun
    web.answer(due, |(), res| res.text("later"));
    assert!(is_last(&client.answer_to_head()));
    client.finish();
    client.expect_end();
}
