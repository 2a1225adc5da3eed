//! Fields that are there more than once. The cases are those of nginx's tests for them, which joins
//! the values of a name for its configuration; here a handler has each in its order with `headers`,
//! and the first with `header`. Where the two differ, the case says why.

use std::sync::mpsc;

use waterwheel::Reactor;
use waterwheel::http::{Call, Client, ClientOptions, Router};

use crate::client::turn_until;
use crate::rows_head::refused;
use crate::web::Web;

fn web() -> Web {
    Web::of(|| {
        let routes = Router::new()
            // What there is of a field: its first value, and all of them.
            .get("/field/{name}", |_, req, res| {
                let name = req.param("name");
                let all = req.headers().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                let all: Vec<_> = all.map(|(_, value)| String::from_utf8_lossy(value)).collect();
                let first = req.header(name).unwrap_or("-");
                res.text(&format!("{first} of {}", all.join("|")));
            })
            .get("/length", |_, req, res| res.text(&format!("{:?}", req.content_length())))
            .get("/host", |_, req, res| res.text(req.host().unwrap_or("-")))
            .get("/many", |_, _, res| {
                for value in ["foo", "bar", "bazz"] {
                    for name in ["Cache-Control", "Link", "Foo", "Set-Cookie"] {
                        res.header(name, value);
                    }
                }
                res.status(204).empty();
            });
        #[cfg(feature = "http-session")]
        let routes = routes.get("/cookies", |_, req, res| {
            let pairs: Vec<_> =
                req.cookies().map(|(name, value)| format!("{name}={value}")).collect();
            res.text(&pairs.join("|"));
        });
        routes
    })
}

#[test]
fn a_handler_sees_each_value_in_its_order() {
    let web = web();
    let mut client = web.client();
    for name in [
        "X-Forwarded-For",
        "Foo",
        "Via",
        "Cookie",
        // What makes no sense twice is for the program to judge: nginx passes the first three on
        // joined, and refuses the rest.
        "User-Agent",
        "Referer",
        "Content-Type",
        "Authorization",
        "Content-Range",
        // An expectation of a request without a body expects nothing.
        "Expect",
    ] {
        let fields = |values: &[&str]| -> String {
            values.iter().map(|value| format!("{name}: {value}\r\n")).collect()
        };
        let path = format!("/field/{}", name.to_lowercase());
        for (values, seen) in [
            (&[][..], "- of "),
            (&["foo"], "foo of foo"),
            (&["foo", "bar"], "foo of foo|bar"),
            (&["foo", "bar", "foo", "bazz"], "foo of foo|bar|foo|bazz"),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n", fields(values));
            client.ask(request).expect(200, seen);
        }
    }
}

#[test]
fn rows_20_to_28_what_routes_or_frames_is_there_once() {
    let web = web();
    for fields in [
        "Host: x\r\nHost: x\r\n",
        "Host: foo\r\nHost: bar\r\n",
        "Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
        "Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: x\r\nTransfer-Encoding: foo\r\nTransfer-Encoding: bar\r\n",
    ] {
        refused(&web, format!("GET /host HTTP/1.1\r\n{fields}\r\n"), 400);
    }
    refused(&web, "GET /host HTTP/1.0\r\nHost: foo\r\nHost: bar\r\n\r\n", 400);
    // nginx has a name of its own for a request of 1.0 that names none.
    web.client().ask("GET /host HTTP/1.0\r\n\r\n").expect(200, "-");
    web.client().ask("GET /host HTTP/1.0\r\nHost: foo\r\n\r\n").expect(200, "foo");
    let length = "GET /length HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    web.client().ask(length).expect(200, "Some(0)");
    // A body that is expected to be asked for, by two words that nobody knows.
    let expects = "Host: x\r\nContent-Length: 1\r\nExpect: foo\r\nExpect: bar\r\n";
    refused(&web, format!("GET /length HTTP/1.1\r\n{expects}\r\n"), 417);
}

#[cfg(feature = "http-session")]
#[test]
fn row_60_cookies_of_several_fields_are_one_list() {
    let web = web();
    let mut client = web.client();
    for (fields, seen) in [
        (&["foo=1", "bar=2", "bazz=3"][..], "foo=1|bar=2|bazz=3"),
        // A comma is a part of the value: `qux` is no cookie.
        (&["foo=1, qux=0; bar=2", "bazz=3"], "foo=1, qux=0|bar=2|bazz=3"),
        (&["foo", "bar", "bazz"], ""),
    ] {
        let fields: String = fields.iter().map(|value| format!("Cookie: {value}\r\n")).collect();
        client.ask(format!("GET /cookies HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).expect(200, seen);
    }
}

#[test]
fn an_answer_has_each_of_its_fields() {
    let web = web();
    let answer = web.client().get("/many");
    assert_eq!(answer.status, 204);
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, web.addr, ClientOptions::default()).unwrap();
    let (sender, receiver) = mpsc::channel();
    client.send(&mut reactor.context(), Call::get("/many"), move |answer, _| {
        let answer = answer.unwrap();
        let fields = answer.headers().map(|(name, value)| (name.to_owned(), value.to_vec()));
        sender.send(fields.collect::<Vec<_>>()).unwrap();
    });
    let seen = turn_until(&mut reactor, |_| receiver.try_recv().ok());
    for name in ["Cache-Control", "Link", "Foo", "Set-Cookie"] {
        let line = |value| format!("{name}: {value}");
        let lines: Vec<_> = answer.head.lines().filter(|line| line.starts_with(name)).collect();
        assert_eq!(lines, [line("foo"), line("bar"), line("bazz")]);
        let values: Vec<_> = seen.iter().filter(|(key, _)| key == name).map(|(_, v)| v).collect();
        assert_eq!(values, [b"foo".as_slice(), b"bar", b"bazz"]);
    }
}
