//! Connections that are kept, versions, routes, middleware, records, and ends.

use std::sync::mpsc;
use std::time::Duration;

use log::Level;
use waterwheel::Conn;
use waterwheel::http::{Method, Next, Options, Request, Route, Router, Server, Upgraded};

use crate::logged::{keep_log, logged};
use crate::routes;
use crate::web::Web;

#[test]
fn http_1_0_is_kept_only_if_it_asks() {
    let web = Web::of(routes);
    let mut client = web.client();
    let answer = client.ask("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").expect(200, "root");
    assert_eq!(answer.field("connection"), Some("keep-alive"));
    let answer = client.ask("GET / HTTP/1.0\r\n\r\n").expect(200, "root");
    assert_eq!(answer.field("connection"), Some("close"));
    client.finish();
    client.expect_end();
    let mut client = web.client();
    let answer = client.ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo , CLOSE\r\n\r\n");
    assert_eq!(answer.field("connection"), Some("close"));
}

#[test]
fn head_is_get_without_the_body() {
    let web = Web::of(routes);
    let mut client = web.client();
    client.send("HEAD /param/abc HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = client.answer_to_head();
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("3")));
    client.get("/").expect(200, "root");
}

#[test]
fn routes_go_by_path_and_method() {
    let web = Web::of(|| {
        let inner = Router::new()
            .get("/", |_, _, res| res.text("inner"))
            .get("/a/{b}", |_, req, res| res.text(req.param("b")));
        Router::new()
            .get("/x", |_, _, res| res.text("get"))
            .put("/x", |_, _, res| res.text("put"))
            .route("/any", Route::new().any(|_, req, res| res.text(req.method().name())))
            .nest("/in/", inner)
            .fallback(Route::new().any(|_, req, res| {
                res.status(404).text(&format!("no {}", req.path()));
            }))
    });
    let mut client = web.client();
    client.get("/x").expect(200, "get");
    client.ask("PUT /x HTTP/1.1\r\nHost: x\r\n\r\n").expect(200, "put");
    client.ask("PATCH /any HTTP/1.1\r\nHost: x\r\n\r\n").expect(200, "PATCH");
    client.get("/in/").expect(200, "inner");
    client.get("/in/a/%7Bb").expect(200, "{b");
    client.get("/nowhere?x").expect(404, "no /nowhere");
    let answer = client.ask("POST /x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, PUT, OPTIONS")));
}

#[test]
#[should_panic(expected = "/{b}")]
fn a_route_that_cannot_be_told_from_another_panics_when_it_is_added() {
    let _ = Router::<()>::new().get("/{a}", |_, _, _| {}).get("/{b}", |_, _, _| {});
}

#[test]
fn a_place_in_the_syntax_of_other_routers_is_warned_of() {
    keep_log();
    let _ = Router::<()>::new()
        .get("/user/:id", |_, _, _| {})
        .get("/files/*path", |_, _, _| {})
        .get("/time/12:30", |_, _, _| {})
        .get("/{name}/{*rest}", |_, _, _| {});
    let warnings = logged(Level::Warn);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, path) in warnings.iter().zip(["\"/user/:id\"", "\"/files/*path\""]) {
        assert!(warning.contains(path) && warning.contains("write {name}"), "{warning}");
    }
}

#[test]
fn functions_come_before_handlers_in_order() {
    let web = Web::serve(|| {
        let inner = Router::new()
            .get("/", |seen: &mut Vec<&str>, _, res| res.text(&seen.join(",")))
            .before(|seen: &mut Vec<&str>, _, _| {
                seen.push("inner");
                Next::Go
            });
        let routes = Router::new()
            .before(|seen: &mut Vec<&str>, req, res| {
                seen.clear();
                seen.push("first");
                res.header("X-First", "1");
                if req.header("authorization").is_none() {
                    res.status(401).text("who?");
                    return Next::Done;
                }
                Next::Go
            })
            .nest("/in", inner)
            .before(|seen: &mut Vec<&str>, _, _| {
                seen.push("second");
                Next::Go
            })
            .get("/late", |_: &mut Vec<&str>, _, res| {
                res.collect(10, |_, body, res| {
                    res.header("X-Last", "2").text(&body.len().to_string());
                });
            });
        Server::new(Vec::new(), routes)
    });
    let mut client = web.client();
    client.get("/in/").expect(401, "who?");
    let authorized = "GET /in/ HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\n\r\n";
    client.ask(authorized).expect(200, "first,second,inner");
    let late = "GET /late HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nContent-Length: 2\r\n\r\n";
    client.send(late);
    client.send("hi");
    let answer = client.answer().expect(200, "2");
    // What was set before the body came is still there.
    assert_eq!((answer.field("x-first"), answer.field("x-last")), (Some("1"), Some("2")));
    client.ask(authorized).expect(200, "first,second,inner");
}

/// A path may be of several routers. What comes before the handlers of one, and the limit of their
/// bodies, is not for those of another.
#[test]
fn what_a_nested_router_has_before_its_handlers_is_for_them_alone() {
    let web = Web::of(|| {
        let guarded = Router::new()
            .before(|_, req, res| {
                if req.header("authorization").is_some() {
                    return Next::Go;
                }
                res.status(401).text("who?");
                Next::Done
            })
            .route(
                "/x",
                Route::new()
                    .put(|_, _, res| {
                        res.collect(1_000, |_, body, res| res.text(&body.len().to_string()));
                    })
                    .max_body_bytes(1_000),
            );
        let marked = Router::new()
            .before(|_, _, res| {
                res.header("X-Marked", "1");
                Next::Go
            })
            .delete("/x", |_, _, res| res.text("deleted"))
            .get("/x", |_, _, res| res.text("replaced"));
        Router::new()
            .route("/api/x", Route::new().post(|_, _, res| res.text("posted")).max_body_bytes(4))
            .nest("/api", guarded)
            .nest("/api", marked)
            .get("/api/x", |_, _, res| res.text("open"))
    });
    let mut client = web.client();
    let mut ask =
        |line: &str, rest: &str| client.ask(format!("{line} /api/x HTTP/1.1\r\nHost: x\r\n{rest}"));
    let open = ask("GET", "\r\n").expect(200, "open");
    assert_eq!(open.field("x-marked"), None);
    ask("POST", "\r\n").expect(200, "posted");
    let deleted = ask("DELETE", "\r\n").expect(200, "deleted");
    assert_eq!(deleted.field("x-marked"), Some("1"));
    ask("PUT", "\r\n").expect(401, "who?");
    ask("PUT", "Authorization: a\r\nContent-Length: 5\r\n\r\n12345").expect(200, "5");
    // A method of none meets what comes before all of them.
    ask("PATCH", "\r\n").expect(401, "who?");
    let refused = ask("PATCH", "Authorization: a\r\n\r\n");
    assert_eq!((refused.status, refused.field("x-marked")), (405, Some("1")));
    assert_eq!(refused.field("allow"), Some("GET, HEAD, POST, PUT, DELETE, OPTIONS"));
    assert_eq!(ask("POST", "Content-Length: 5\r\n\r\n").status, 413);
}

#[test]
fn a_handler_without_an_answer_is_answered_for() {
    let web = Web::of(|| Router::new().get("/", |_, _, _| {}).get("/x", |_, _, res| res.text("x")));
    let mut client = web.client();
    assert_eq!(client.get("/").status, 500);
    client.get("/x").expect(200, "x");
}

#[test]
fn a_second_answer_is_dropped() {
    let web = Web::of(|| {
        Router::new().get("/", |_, _, res| {
            res.text("first");
            res.status(500).text("second");
            res.write(b"third");
            res.end();
        })
    });
    let mut client = web.client();
    client.get("/").expect(200, "first");
    client.get("/").expect(200, "first");
}

#[test]
fn a_handler_that_panics_ends_its_connection_only() {
    let web = Web::of(|| {
        Router::new()
            .get("/panic", |_, _, _| panic!("on purpose"))
            .get("/", |_, _, res| res.text("here"))
    });
    let mut other = web.client();
    other.get("/").expect(200, "here");
    let mut client = web.client();
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n");
    client.expect_reset();
    other.get("/").expect(200, "here");
}

#[test]
fn a_connection_serves_so_many_requests() {
    let web = Web::serve(|| {
        Server::new((), routes()).with_options(Options::default().max_requests(Some(2)))
    });
    let mut client = web.client();
    assert_eq!(client.get("/").field("connection"), None);
    assert_eq!(client.get("/").field("connection"), Some("close"));
    client.finish();
    client.expect_end();
}

#[test]
fn records_tell_what_was_asked_and_answered() {
    let (sender, records) = mpsc::channel();
    let web = Web::serve(move || {
        Server::new((), routes()).on_finish(move |(), record| {
            let line = (record.method, record.target.to_owned(), record.status);
            let bytes = (record.received_bytes, record.sent_bytes, record.is_complete);
            sender.send((line, bytes, record.user_agent.map(<[u8]>::to_vec))).unwrap();
        })
    });
    let mut client = web.client();
    client.ask("GET /param/ab?c HTTP/1.1\r\nHost: x\r\nUser-Agent: me\r\n\r\n").expect(200, "ab");
    client.ask("POST /len HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").expect(200, "3");
    client.send("POST /len HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
    client.finish();
    client.expect_end();
    let wait = || records.recv_timeout(Duration::from_secs(10)).unwrap();
    let first = ((Method::Get, "/param/ab?c".to_owned(), 200), (0, 2, true), Some(b"me".to_vec()));
    assert_eq!(wait(), first);
    assert_eq!(wait(), ((Method::Post, "/len".to_owned(), 200), (3, 1, true), None));
    assert_eq!(wait(), ((Method::Post, "/len".to_owned(), 0), (1, 0, false), None));
    // Refused within the body.
    let mut client = web.client();
    client.send("POST /len HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = client.ask("1\r\na\r\nnonsense\r\n");
    assert_eq!(answer.status, 400);
    let length = answer.body.len() as u64;
    assert_eq!(wait(), ((Method::Post, "/len".to_owned(), 400), (1, length, false), None));
    // An answer that was given before the body, to clients that then send no more of it.
    for resets in [false, true] {
        let mut client = web.client();
        let answer = client.ask("POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
        let length = answer.text().len() as u64;
        assert_eq!(answer.status, 404);
        if resets {
            let stream = socket2::SockRef::from(&client.stream);
            stream.set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
        } else {
            client.finish();
            client.expect_end();
        }
        let record = wait();
        assert_eq!(record.0, (Method::Post, "/no".to_owned(), 404));
        assert_eq!((record.1.1, record.1.2), (length, true), "{resets}");
    }
}

#[test]
fn metrics_count_what_was_asked() {
    let web = Web::of(|| routes().get("/metrics", |_, _, res| res.metrics()));
    let mut client = web.client();
    client.get("/").expect(200, "root");
    client.get("/nowhere");
    let answer = client.get("/metrics");
    let kind = answer.field("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.text();
    for line in [
        "waterwheel_http_requests_total 3",
        "waterwheel_http_answers_total{class=\"2xx\"} 1",
        "waterwheel_http_answers_total{class=\"4xx\"} 1",
        "waterwheel_accepted_total 1",
        "waterwheel_connections 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(!text.contains("duration"), "nobody has asked for it: {text}");
}

#[test]
fn metrics_say_how_long_answers_took_if_somebody_is_told_of_each() {
    let web = Web::serve(|| {
        let routes = routes().get("/metrics", |_, _, res| res.metrics());
        Server::new((), routes).on_finish(|_, _| {})
    });
    let mut client = web.client();
    client.get("/").expect(200, "root");
    client.get("/nowhere");
    let answer = client.get("/metrics");
    let text = answer.text();
    for line in [
        "# TYPE waterwheel_http_duration_seconds histogram",
        "waterwheel_http_duration_seconds_bucket{le=\"+Inf\"} 2",
        "waterwheel_http_duration_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

struct Shout;

impl Upgraded<()> for Shout {
    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        conn.write(b"open ");
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(&input.to_ascii_uppercase());
        input.len()
    }
}

fn upgrading() -> Router<()> {
    Router::new().get("/up", |_, req, res| {
        if req.wants_upgrade("shout") {
            res.header("X-Name", "1");
            res.upgrade("shout", Shout);
        } else {
            res.text("plain");
        }
    })
}

#[test]
fn rows_43_and_44_upgrades() {
    let web = Web::of(upgrading);
    let mut client = web.client();
    for request in [
        "GET /up HTTP/1.1\r\nHost: x\r\nUpgrade: shout\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
        "GET /up HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: shout\r\n\r\n",
    ] {
        client.ask(request).expect(200, "plain");
    }
    let upgrade = "GET /up HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: other, Shout\r\n";
    let mut bodied = web.client();
    let answer = bodied.ask(format!("{upgrade}Content-Length: 2\r\n\r\nhi"));
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
    client.send(format!("{upgrade}\r\nat once"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (101, Some("Upgrade")));
    assert_eq!((answer.field("upgrade"), answer.field("x-name")), (Some("shout"), Some("1")));
    assert_eq!(answer.field("content-length"), None);
    client.send(" later");
    client.finish();
    assert_eq!(client.rest(), "open AT ONCE LATER");
}

#[test]
fn a_drain_ends_idle_connections_at_once_and_busy_ones_after_their_answer() {
    let web = Web::of(routes);
    let mut idle = web.client();
    idle.get("/").expect(200, "root");
    let mut upload = web.client();
    upload.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe");
    let mut begun = web.client();
    begun.send("GET /param/x HTTP/1.1\r\nHo");
    // What these have sent is there before the drain begins.
    web.client().get("/").expect(200, "root");
    web.remote.drain(Duration::from_secs(20)).unwrap();
    idle.expect_end();
    upload.send("llo");
    let answer = upload.answer().expect(200, "hello");
    assert_eq!(answer.field("connection"), Some("close"));
    begun.send("st: x\r\n\r\n");
    let answer = begun.answer().expect(200, "x");
    assert_eq!(answer.field("connection"), Some("close"));
    for mut client in [idle, upload, begun] {
        client.finish();
        client.expect_end();
    }
}

#[test]
fn nobody_waits_for_a_client_that_does_not_read() {
    let web = Web::of(|| {
        Router::new()
            .get("/big", |_, _, res| res.bytes("x/y", &vec![b'x'; 1 << 20]))
            .get("/", |_, _, res| res.text("here"))
    });
    let mut greedy = web.client();
    // 64 MiB of answers are asked for, and none is read so far.
    greedy.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64));
    web.client().get("/").expect(200, "here");
    for _ in 0..64 {
        assert_eq!(greedy.answer().body.len(), 1 << 20);
    }
    greedy.expect_alive();
}

/// A path that comes again is not looked up again. Between others of the same route, and beside one
/// without parameters, each still has its own values.
#[test]
fn a_path_that_comes_again_has_its_own_values() {
    let web = Web::of(|| {
        let say = |req: &Request<'_>| format!("{} {}", req.param("who"), req.param("rest"));
        Router::new()
            .get("/user/me", move |_, req, res| res.text(&format!("me{}", say(req))))
            .get("/user/{who}", move |_, req, res| res.text(&say(req)))
            .get("/{who}/files/{*rest}", move |_, req, res| res.text(&say(req)))
    });
    let mut client = web.client();
    let paths = [
        ("/user/1", "1 "),
        ("/user/22", "22 "),
        ("/a/files/b/c", "a b/c"),
        ("/abc/files/d", "abc d"),
        ("/user/%C3%A4", "\u{e4} "),
        ("/user/me", "me "),
    ];
    for round in 0..40 {
        for (path, expected) in paths {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            for _ in 0..1 + round % 3 {
                client.ask(&request).expect(200, expected);
            }
        }
    }
}
