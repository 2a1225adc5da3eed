//! Bodies in pieces, in both directions.

use std::sync::mpsc;
use std::time::Duration;

use waterwheel::http::{Body, Flow, ReplyId, Response, Route, Router, Server};
use waterwheel::{HandlerKey, Limits, ListenOptions, Written, http};

use crate::web::Web;

/// Sends each piece back as it comes.
struct Echo;

impl Body<()> for Echo {
    fn on_chunk(&mut self, _: &mut (), chunk: &[u8], res: &mut Response<'_, ()>) -> Flow {
        if res.is_unanswered() {
            res.stream(None);
        }
        res.write(chunk);
        Flow::More
    }

    fn on_end(&mut self, _: &mut (), res: &mut Response<'_, ()>) {
        if res.is_unanswered() {
            res.stream(None);
        }
        res.end();
    }
}

#[test]
fn a_body_is_answered_while_it_comes() {
    let web = Web::of(|| {
        let echo = Route::new().post(|_, _, res| res.receive(Echo)).max_body_bytes(1 << 30);
        Router::new().route("/echo", echo)
    });
    let mut client = web.client();
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nhello\r\n");
    let head = client.head();
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    assert_eq!(client.take(10), b"5\r\nhello\r\n");
    client.send("3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.take(13), b"3\r\nabc\r\n0\r\n\r\n");
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    client.answer().expect(200, "");
    // To a client of HTTP/1.0 the body ends with the connection.
    let mut old = web.client();
    old.send("POST /echo HTTP/1.0\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello");
    let answer = old.answer_to_head();
    assert_eq!(answer.field("transfer-encoding"), None);
    assert_eq!(answer.field("connection"), Some("close"));
    old.finish();
    assert_eq!(old.rest(), "hello");
}

#[test]
fn a_body_over_the_limit_that_was_not_declared_is_answered_413() {
    let web = Web::of(|| {
        Router::new()
            .post("/collect", |_, _, res| {
                res.collect(10, |_, body, res| res.text(&body.len().to_string()));
            })
            .route("/small", Route::new().post(|_, _, res| res.receive(Echo)).max_body_bytes(10))
    });
    let head =
        |path| format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut client = web.client();
    client.send(head("/collect") + "a\r\n0123456789\r\n");
    client.send("1\r\nx\r\n0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (413, Some("close")));
    client.finish();
    client.expect_end();
    web.client().ask(head("/collect") + "a\r\n0123456789\r\n0\r\n\r\n").expect(200, "10");
    // An answer that has begun is cut, and the cut is no end.
    let mut client = web.client();
    client.send(head("/small") + "a\r\n0123456789\r\n");
    client.head();
    client.send("1\r\nx\r\n");
    client.expect_reset();
}

#[test]
fn what_nobody_asked_for_is_skipped_or_ends_the_connection() {
    let web = Web::of(|| {
        let ignore = Route::new().post(|_, _, res| res.text("no")).max_body_bytes(1 << 30);
        Router::new().route("/", ignore)
    });
    let mut client = web.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n");
    let answer = client.answer().expect(200, "no");
    assert_eq!(answer.field("connection"), None);
    client.send([b'x'; 65_536]);
    client.expect_alive();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n");
    let answer = client.answer().expect(200, "no");
    assert_eq!(answer.field("connection"), Some("close"));
    client.send([b'x'; 65_537]);
    client.finish();
    client.expect_end();
}

/// Pauses after each piece, until the other end of the channel says so.
struct Slow {
    pieces: mpsc::Sender<usize>,
}

impl Body<()> for Slow {
    fn on_chunk(&mut self, _: &mut (), chunk: &[u8], res: &mut Response<'_, ()>) -> Flow {
        self.pieces.send(chunk.len()).unwrap();
        let (id, web) = (res.id(), res.later());
        assert_eq!(id, web);
        Flow::Pause
    }

    fn on_end(&mut self, _: &mut (), res: &mut Response<'_, ()>) {
        res.text("all");
    }
}

#[test]
fn a_body_that_is_paused_holds_the_sender() {
    let (pieces, received) = mpsc::channel();
    let (ids, id) = mpsc::channel();
    let web = Web::serve(move || {
        let slow = Route::new()
            .post(move |(), _, res: &mut Response<'_, ()>| {
                ids.send((res.later(), res.server())).unwrap();
                res.receive(Slow { pieces: pieces.clone() });
            })
            .max_body_bytes(1 << 30);
        Server::new((), Router::new().route("/", slow))
    });
    const TOTAL: usize = 64 << 20;
    let mut client = web.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {TOTAL}\r\n\r\n"));
    let (id, key) = id.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut stream = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        std::io::Write::write_all(&mut stream, &vec![b'x'; TOTAL]).unwrap();
    });
    let mut total = received.recv_timeout(Duration::from_secs(10)).unwrap();
    // Nothing more comes while it is paused: the next is there only after it was asked for.
    assert!(received.recv_timeout(Duration::from_millis(200)).is_err());
    assert!(!writer.is_finished());
    while total < TOTAL {
        let found = web.remote.with(key, move |server, cx| {
            server.answer(cx, id, |_, res| res.resume());
        });
        found.unwrap();
        total += received.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    writer.join().unwrap();
    client.answer().expect(200, "all");
    client.expect_alive();
}

/// Pauses once, and says so.
struct Pauses(mpsc::Sender<()>);

impl Body<()> for Pauses {
    fn on_chunk(&mut self, _: &mut (), _: &[u8], _: &mut Response<'_, ()>) -> Flow {
        self.0.send(()).unwrap();
        Flow::Pause
    }

    fn on_end(&mut self, _: &mut (), res: &mut Response<'_, ()>) {
        res.text("all");
    }
}

/// Nothing has told the server that an answer comes later.
#[test]
fn a_body_that_is_paused_goes_on_by_the_id_of_its_exchange() {
    let (pauses, paused) = mpsc::channel();
    let (ids, id) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new().post("/", move |(), _, res: &mut Response<'_, ()>| {
            ids.send((res.id(), res.server())).unwrap();
            res.receive(Pauses(pauses.clone()));
        });
        Server::new((), routes)
    });
    let mut client = web.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
    let (id, key) = id.recv_timeout(Duration::from_secs(10)).unwrap();
    paused.recv_timeout(Duration::from_secs(10)).unwrap();
    client.send("b");
    let (sender, found) = mpsc::channel();
    let resume = move |server: &mut Server<()>, cx: &mut waterwheel::Context<'_>| {
        sender.send(server.answer(cx, id, |_, res| res.resume()).is_some()).unwrap();
    };
    web.remote.with(key, resume).unwrap();
    assert_eq!(found.recv_timeout(Duration::from_secs(10)), Ok(true));
    client.answer().expect(200, "all");
}

#[test]
fn a_streamed_answer_goes_on_when_there_is_room() {
    let web = Web::of(|| {
        Router::new().get("/count", |_, _, res| {
            res.stream(None);
            let mut next = 0_u32;
            res.on_drain(move |_, res| {
                while next < 1_000_000 {
                    next += 1;
                    if res.write(format!("{next}\n").as_bytes()) != Written::Below {
                        return;
                    }
                }
                res.end();
            });
        })
    });
    let mut client = web.client();
    for _ in 0..2 {
        let answer = client.get("/count");
        let lines = answer.text().lines().enumerate();
        assert_eq!(lines.clone().count(), 1_000_000);
        for (at, line) in lines {
            assert_eq!(line, (at + 1).to_string());
        }
    }
    client.send("HEAD /count HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer_to_head().status, 200);
    client.expect_alive();
}

#[test]
fn a_streamed_answer_with_a_length_has_that_length() {
    let web = Web::of(|| {
        Router::new()
            .get("/exact", |_, _, res| {
                res.stream(Some(4));
                res.write(b"ab");
                assert_eq!(res.write(b"cde"), Written::Closed);
                res.write(b"cd");
                res.end();
            })
            .get("/short", |_, _, res| {
                res.stream(Some(4));
                res.write(b"ab");
                res.end();
            })
    });
    let mut client = web.client();
    let answer = client.get("/exact").expect(200, "abcd");
    assert_eq!(answer.field("transfer-encoding"), None);
    client.expect_alive();
    client.send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n");
    client.expect_reset();
}

#[test]
fn an_answer_over_the_cap_is_a_reset_and_no_part_of_it_looks_whole() {
    let limits: Limits =
        http::limits().high_mark_bytes(1 << 10).low_mark_bytes(1).max_output_bytes(1 << 20);
    let options = ListenOptions::default().limits(limits);
    let web = Web::serve_with(options, || {
        let big = Router::new()
            .get("/big", |_, _, res| res.bytes("x/y", &vec![b'x'; 16 << 20]))
            .get("/", |_, _, res| res.text("here"));
        Server::new((), big)
    });
    let mut client = web.client();
    client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    client.expect_reset();
    web.client().get("/").expect(200, "here");
}

struct Gone(mpsc::Sender<&'static str>);

impl Body<()> for Gone {
    fn on_chunk(&mut self, _: &mut (), _: &[u8], _: &mut Response<'_, ()>) -> Flow {
        self.0.send("chunk").unwrap();
        Flow::More
    }

    fn on_end(&mut self, _: &mut (), res: &mut Response<'_, ()>) {
        self.0.send("end").unwrap();
        res.text("end");
    }

    fn on_gone(&mut self, _: &mut ()) {
        self.0.send("gone").unwrap();
    }
}

#[test]
fn a_body_is_told_once_that_the_rest_will_not_come() {
    let (sender, told) = mpsc::channel();
    let web = Web::of(move || {
        Router::new().post("/", move |_, _, res| res.receive(Gone(sender.clone())))
    });
    let wait = || told.recv_timeout(Duration::from_secs(10)).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    // An end, a malformed chunk, and a reset.
    let mut client = web.client();
    client.send(format!("{head}1\r\nx\r\n"));
    client.finish();
    client.expect_end();
    assert_eq!((wait(), wait()), ("chunk", "gone"));
    assert!(web.tell(format!("{head}1\r\nx\r\nnonsense")).starts_with("HTTP/1.1 400 "));
    assert_eq!((wait(), wait()), ("chunk", "gone"));
    let mut client = web.client();
    client.send(format!("{head}1\r\nx\r\n"));
    assert_eq!(wait(), "chunk");
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(wait(), "gone");
    web.client().ask(format!("{head}0\r\n\r\n")).expect(200, "end");
    assert_eq!(wait(), "end");
    assert!(told.try_recv().is_err());
}

/// Takes one piece, and pauses for ever.
struct Enough(mpsc::Sender<(ReplyId, HandlerKey<Server<()>>)>);

impl Body<()> for Enough {
    fn on_chunk(&mut self, _: &mut (), _: &[u8], res: &mut Response<'_, ()>) -> Flow {
        self.0.send((res.later(), res.server())).unwrap();
        Flow::Pause
    }

    fn on_end(&mut self, _: &mut (), _: &mut Response<'_, ()>) {
        unreachable!("it is answered before");
    }
}

#[test]
fn what_is_left_of_a_paused_body_is_skipped_when_it_is_answered() {
    let (sender, ids) = mpsc::channel();
    let web = Web::of(move || {
        Router::new()
            .post("/", move |(), _, res| res.receive(Enough(sender.clone())))
            .get("/next", |(), _, res| res.text("next"))
    });
    let mut client = web.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
    let ids = ids.recv_timeout(Duration::from_secs(10)).unwrap();
    web.answer(ids, |(), res| res.text("enough"));
    client.answer().expect(200, "enough");
    client.send("world");
    client.get("/next").expect(200, "next");
}
