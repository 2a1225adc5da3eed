//! Requests that stand behind an answer that comes later, and is more than the client reads.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use waterwheel::http::{self, Options, ReplyId, Router, Server};
use waterwheel::{HandlerKey, ListenOptions, MinRate};

use crate::web::{Client, Web};

type Id = (ReplyId, HandlerKey<Server<()>>);

const PATIENCE: Duration = Duration::from_secs(10);

/// More than the buffers of the kernel take, and less than a connection may hold.
const LARGE: usize = 12 << 20;

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// A server, and the ids of what is asked of it and answered by the test.
fn web() -> (Web, mpsc::Receiver<Id>, mpsc::Receiver<Id>) {
    let (sender, ids) = mpsc::channel();
    let (secret_sender, secret_ids) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new()
            .get("/later", move |(), _, res| {
                sender.send((res.header("X-Own", "1").later(), res.server())).unwrap();
            })
            .get("/secret", move |(), _, res| {
                let id = res.header("Set-Cookie", "session=of-another").later();
                secret_sender.send((id, res.server())).unwrap();
            })
            .get("/now", |(), _, res| res.text("now"));
        Server::new((), routes)
    });
    (web, ids, secret_ids)
}

/// Two requests at once, of which the first has its answer, that is not read so far.
fn slow_client(web: &Web, ids: &mpsc::Receiver<Id>) -> Client {
    let mut client = web.client();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
    client.send([ask("/later"), ask("/later")].concat());
    let first = ids.recv_timeout(PATIENCE).unwrap();
    web.answer(first, |(), res| res.bytes("x/y", &vec![b'x'; LARGE]));
    client
}

/// What one client is told must never reach another, and a cookie least of all.
#[test]
fn an_answer_that_waits_has_its_own_fields_and_no_others() {
    let (web, ids, secret_ids) = web();
    let mut slow = slow_client(&web, &ids);
    let mut other = web.client();
    other.send(ask("/secret"));
    let secret = secret_ids.recv_timeout(PATIENCE).unwrap();
    // The output of the slow client falls to the low mark while the other one waits.
    assert_eq!(slow.answer().body.len(), LARGE);
    let second = ids.recv_timeout(PATIENCE).unwrap();
    web.client().get("/now").expect(200, "now");
    for id in [second, secret] {
        web.answer(id, |(), res| res.text("later"));
    }
    let answer = slow.answer().expect(200, "later");
    assert_eq!((answer.field("x-own"), answer.field("set-cookie")), (Some("1"), None));
    let answer = other.answer().expect(200, "later");
    assert_eq!(answer.field("set-cookie"), Some("session=of-another"));
    assert_eq!(answer.field("x-own"), None);
}

/// Who answers the first request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Giver {
    /// A closure on the loop.
    Post,
    /// The handler of another request.
    Route,
    /// Its own, with a second piece when the client has read the first one.
    Drain,
}

/// The first piece of it: above the high mark with whatever the kernel takes at once.
const FIRST: usize = 6 << 20;

type Waiting = Vec<ReplyId>;

/// Answers as `giver` does, and tells of each request, and of a first piece.
fn answering(giver: Giver, sender: mpsc::Sender<(ReplyId, HandlerKey<Server<Waiting>>)>) -> Web {
    Web::serve(move || {
        let routes = Router::new()
            .get("/large", move |waiting: &mut Waiting, _, res| {
                let request = (res.later(), res.server());
                sender.send(request).unwrap();
                if giver != Giver::Drain {
                    return waiting.push(res.id());
                }
                res.stream(Some(LARGE as u64));
                let mut pieces = [LARGE - FIRST, FIRST].map(|length| vec![b'x'; length]).to_vec();
                let sender = sender.clone();
                res.on_drain(move |_, res| {
                    res.write(&pieces.pop().expect("two calls"));
                    match pieces.is_empty() {
                        true => res.end(),
                        false => sender.send(request).unwrap(),
                    }
                });
            })
            .get("/wake", |waiting: &mut Waiting, _, res| {
                for id in waiting.drain(..) {
                    res.answer(id, |res| res.bytes("x/y", &vec![b'x'; LARGE]));
                }
                res.text("woken");
            })
            .get("/now", |_, _, res| res.text("now"));
        Server::new(Vec::new(), routes)
    })
}

/// A client that reads slowly, and asks for more meanwhile, would else fill the memory.
#[test]
fn no_request_is_begun_before_the_client_has_read_the_answer_to_the_one_before_it() {
    for giver in [Giver::Post, Giver::Route, Giver::Drain] {
        let (sender, begun) = mpsc::channel();
        let web = answering(giver, sender);
        let mut client = web.client();
        socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
        client.send([ask("/large"), ask("/large")].concat());
        let first = begun.recv_timeout(PATIENCE).unwrap();
        match giver {
            Giver::Post => web.answer(first, |_, res| res.bytes("x/y", &vec![b'x'; LARGE])),
            Giver::Route => drop(web.client().get("/wake").expect(200, "woken")),
            Giver::Drain => {
                // While it reads the kernel may take any piece at once, and none is waited for.
                begun.recv_timeout(PATIENCE).unwrap();
                client.head();
                client.take(FIRST);
            }
        }
        // What is to follow at once has followed.
        for _ in 0..3 {
            web.client().get("/now").expect(200, "now");
        }
        assert!(begun.try_recv().is_err(), "{giver:?}: the next one is begun already");

        let _ = match giver {
            Giver::Drain => client.take(LARGE - FIRST),
            _ => client.answer().body,
        };
        let second = begun.recv_timeout(PATIENCE).unwrap();
        if giver != Giver::Drain {
            web.answer(second, |_, res| res.text("second"));
            client.answer().expect(200, "second");
        }
    }
}

const SHORT: Duration = Duration::from_millis(300);

/// A server that keeps connections so long, and answers at once, or by the test.
fn keeping(time: Duration, options: ListenOptions) -> (Web, mpsc::Receiver<Id>) {
    let (sender, ids) = mpsc::channel();
    let web = Web::serve_with(options, move || {
        let routes = Router::new()
            .get("/later", move |(), _, res| {
                sender.send((res.later(), res.server())).unwrap();
            })
            .get("/large", |(), _, res| res.bytes("x/y", &vec![b'x'; LARGE]))
            .get("/now", |(), _, res| res.text("now"));
        Server::new((), routes).with_options(Options::default().keep_alive_timeout(time))
    });
    (web, ids)
}

/// A client that does not read a large answer, and has sent `behind` behind its request.
fn client_before(web: &Web, ids: &mpsc::Receiver<Id>, is_later: bool, behind: &str) -> Client {
    let mut client = web.client();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
    let first = if is_later { "/later" } else { "/large" };
    client.send([&ask(first), behind].concat());
    if is_later {
        let id = ids.recv_timeout(PATIENCE).unwrap();
        web.answer(id, |(), res| res.bytes("x/y", &vec![b'x'; LARGE]));
    }
    let mut byte = [0];
    assert_eq!(client.stream.peek(&mut byte).unwrap(), 1, "the answer has begun");
    client
}

fn http_limits() -> ListenOptions {
    ListenOptions::default().limits(http::limits())
}

#[test]
fn a_client_that_takes_its_time_with_a_large_answer_gets_the_next_one_too() {
    let (web, ids) = keeping(SHORT, http_limits());
    for is_later in [false, true] {
        let mut client = client_before(&web, &ids, is_later, &ask("/now"));
        // Two that are idle from now on, one behind the other, show that its time is over.
        for _ in 0..2 {
            let mut idle = web.client();
            idle.get("/now").expect(200, "now");
            idle.expect_end();
        }
        assert_eq!(client.answer().body.len(), LARGE);
        client.answer().expect(200, "now");
        client.expect_end(); // idle now
    }
}

/// What is sent when the answer has begun is in the kernel alone: nothing is read above the mark.
#[test]
fn a_drain_waits_for_the_request_behind_a_large_answer() {
    for (is_later, is_read) in [(false, true), (false, false), (true, true), (true, false)] {
        for behind in [&*ask("/now"), "", "\r\n"] {
            let (web, ids) = keeping(10 * PATIENCE, http_limits());
            let mut idle = web.client();
            let at_once = if is_read { behind } else { "" };
            let mut client = client_before(&web, &ids, is_later, at_once);
            if !is_read {
                client.send(behind);
            }
            idle.get("/now").expect(200, "now");
            web.remote.drain(10 * PATIENCE).unwrap(); // no client waits so long
            idle.expect_end(); // as all that are idle
            assert_eq!(client.answer().body.len(), LARGE);
            if behind.len() > 2 {
                let answer = client.answer().expect(200, "now");
                assert_eq!(answer.field("connection"), Some("close"));
            }
            client.expect_end();
        }
    }
}

/// Its head has said that the connection stays.
#[test]
fn a_drain_waits_for_the_request_behind_a_stream_that_has_begun() {
    let (sender, ids) = mpsc::channel();
    for behind in [&*ask("/now"), ""] {
        let sender = sender.clone();
        let web = Web::serve(move || {
            let routes = Router::new()
                .get("/stream", move |(), _, res| {
                    sender.send((res.stream(None), res.server())).unwrap();
                })
                .get("/now", |(), _, res| res.text("now"));
            let options = Options::default().keep_alive_timeout(10 * PATIENCE);
            Server::new((), routes).with_options(options)
        });
        let (mut client, mut idle) = (web.client(), web.client());
        client.send([&ask("/stream"), behind].concat());
        let id = ids.recv_timeout(PATIENCE).unwrap();
        assert!(!client.head().contains("Connection: close"));
        idle.get("/now").expect(200, "now");
        web.remote.drain(10 * PATIENCE).unwrap();
        idle.expect_end();
        web.answer(id, |(), res| res.end());
        assert_eq!(client.take(5), b"0\r\n\r\n");
        if !behind.is_empty() {
            let answer = client.answer().expect(200, "now");
            assert_eq!(answer.field("connection"), Some("close"));
        }
        client.expect_end();
    }
}

#[test]
fn a_client_that_reads_nothing_is_not_waited_for_without_end() {
    let rate = Some(MinRate::new(1 << 20, SHORT));
    let limits = http::limits().min_send_rate(rate);
    let (web, ids) = keeping(SHORT, ListenOptions::default().limits(limits));
    for is_later in [false, true] {
        let client = client_before(&web, &ids, is_later, &ask("/now"));
        let began = Instant::now();
        let error = loop {
            if let Some(error) = client.stream.take_error().unwrap() {
                break error;
            }
            assert!(began.elapsed() < PATIENCE, "it is still there");
            std::thread::yield_now();
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// What makes the server look at held requests again while the output is above the high mark.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Again {
    /// A second answer to the first request.
    Answer,
    /// More requests.
    Data,
    /// The end of the client.
    End,
}

/// With an answer more for each look, the connection would be reset at its cap.
#[test]
fn no_look_at_what_is_held_begins_one_more_request_above_the_mark() {
    for again in [Again::Answer, Again::Data, Again::End] {
        let (sender, ids) = mpsc::channel();
        let (large_sender, large) = mpsc::channel();
        let limits = http::limits().pause_at_high_mark(again == Again::Answer);
        let web = Web::serve_with(ListenOptions::default().limits(limits), move || {
            let routes = Router::new()
                .get("/later", move |(), _, res| {
                    sender.send((res.later(), res.server())).unwrap();
                })
                .get("/large", move |(), _, res| {
                    large_sender.send(()).unwrap();
                    res.bytes("x/y", &vec![b'x'; FIRST]);
                })
                .get("/now", |(), _, res| res.text("now"));
            Server::new((), routes)
        });
        let mut client = web.client();
        socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
        client.send([ask("/later"), ask("/large").repeat(6)].concat());
        let first = ids.recv_timeout(PATIENCE).unwrap();
        web.answer(first, |(), res| res.text("small"));
        large.recv_timeout(PATIENCE).unwrap();
        for round in 0..5 {
            match again {
                Again::Answer => web.answer(first, |(), _| panic!("the exchange is over")),
                Again::Data => client.send(ask("/now")),
                Again::End if round == 0 => client.finish(),
                Again::End => {}
            }
            web.client().get("/now").expect(200, "now");
        }
        assert!(large.try_recv().is_err(), "{again:?}: one more is begun");
        client.answer().expect(200, "small");
        for _ in 0..6 {
            assert_eq!(client.answer().body.len(), FIRST, "{again:?}");
        }
        if again == Again::Data {
            (0..5).for_each(|_| drop(client.answer().expect(200, "now")));
        }
    }
}

/// The rest of a body is taken above the high mark, and the request behind it waits.
#[test]
fn the_end_of_a_body_begins_no_request_above_the_mark() {
    let (sender, large) = mpsc::channel();
    let limits = http::limits().pause_at_high_mark(false);
    let web = Web::serve_with(ListenOptions::default().limits(limits), move || {
        let routes = Router::new()
            .post("/large", move |(), _, res| {
                sender.send(()).unwrap();
                res.bytes("x/y", &vec![b'x'; FIRST]); // nobody has asked for the body
            })
            .get("/now", |(), _, res| res.text("now"));
        Server::new((), routes)
    });
    let mut client = web.client();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
    let head = "POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n";
    client.send(head);
    large.recv_timeout(PATIENCE).unwrap();
    client.send(format!("a{head}"));
    web.client().get("/now").expect(200, "now");
    assert!(large.try_recv().is_err(), "one more is begun");
    assert_eq!(client.answer().body.len(), FIRST);
    large.recv_timeout(PATIENCE).unwrap();
    client.send("b");
    assert_eq!(client.answer().body.len(), FIRST);
}

/// Reading goes on above the high mark, and the requests that come wait: one more answer for each
/// packet would have the connection reset at its cap.
#[test]
fn no_packet_begins_one_more_request_above_the_mark() {
    const SMALL: usize = 40_000; // together more than a connection may leave unconsumed
    let (sender, large) = mpsc::channel();
    let limits = http::limits().pause_at_high_mark(false);
    let web = Web::serve_with(ListenOptions::default().limits(limits), move || {
        let routes = Router::new()
            .get("/large", move |(), _, res| {
                sender.send(()).unwrap();
                res.bytes("x/y", &vec![b'x'; FIRST]);
            })
            .get("/now", |(), _, res| res.text("now"));
        Server::new((), routes)
    });
    let mut client = web.client();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
    for round in 0..6 {
        client.send(ask("/large"));
        if round == 0 {
            large.recv_timeout(PATIENCE).unwrap();
        }
        web.client().get("/now").expect(200, "now");
        assert!(large.try_recv().is_err(), "one more is begun");
    }
    let mut stream = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        std::io::Write::write_all(&mut stream, ask("/now").repeat(SMALL).as_bytes()).unwrap();
    });
    for _ in 0..6 {
        assert_eq!(client.answer().body.len(), FIRST);
    }
    (0..SMALL).for_each(|_| drop(client.answer().expect(200, "now")));
    writer.join().unwrap();
}

/// A head that begins while an answer is due, and is longer than what may wait then.
#[test]
fn a_long_head_behind_a_later_answer_is_read_to_its_end() {
    const HEAD: usize = 200 << 10;
    let (sender, ids) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new()
            .get("/later", move |(), _, res| {
                sender.send((res.later(), res.server())).unwrap();
            })
            .get("/long", |(), req, res| {
                res.text(&req.header("x").map_or(0, str::len).to_string());
            })
            .get("/now", |(), _, res| res.text("now"));
        Server::new((), routes).with_options(Options::default().max_head_bytes(HEAD))
    });
    let head = |bytes| format!("GET /long HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(bytes));
    for (early, late) in [(10, 180 << 10), (100 << 10, 80 << 10), (180 << 10, 0)] {
        let mut client = web.client();
        client.send([ask("/later"), head(early)].concat());
        let id = ids.recv_timeout(PATIENCE).unwrap();
        web.client().get("/now").expect(200, "now");
        web.answer(id, |(), res| res.text("later"));
        client.answer().expect(200, "later");
        client.send(["x".repeat(late), "\r\n\r\n".to_owned(), ask("/now")].concat());
        client.answer().expect(200, &(early + late).to_string());
        client.answer().expect(200, "now");
    }
    // One that is too long is refused, however it is cut.
    for early in [10, 100 << 10, 300 << 10] {
        let mut client = web.client();
        let mut writer = client.stream.try_clone().unwrap();
        client.send(ask("/later") + "GET /long HTTP/1.1\r\nHost: x\r\nX: ");
        let id = ids.recv_timeout(PATIENCE).unwrap();
        let sent = std::thread::spawn(move || {
            for bytes in [early, (400 << 10) - early] {
                // The server may have ended it.
                let _ = std::io::Write::write_all(&mut writer, &vec![b'x'; bytes]);
            }
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        web.client().get("/now").expect(200, "now");
        web.answer(id, |(), res| res.text("later"));
        client.answer().expect(200, "later");
        assert_eq!(client.answer().status, 431);
        client.expect_end();
        sent.join().unwrap();
    }
}
