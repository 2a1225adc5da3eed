//! Closures of the program that panic: the end that the client sees, and what is told of it.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use waterwheel::http::{
    Answer, AnswerReader, Body, Call, Client as HttpClient, ClientError, ClientOptions, Flow,
    Method, ReplyId, Response, Router, Server,
};
use waterwheel::pool::PoolOptions;
use waterwheel::{Context, OnPanic, Reactor, ReactorOptions};

use crate::client_bodies::{read_until, serve, until};
use crate::web::{Client, Web};

/// Says to a channel what it is told.
struct Told(mpsc::Sender<&'static str>);

impl<A: 'static> Body<A> for Told {
    fn on_chunk(&mut self, _: &mut A, chunk: &[u8], _: &mut Response<'_, A>) -> Flow {
        assert!(!chunk.contains(&b'!'), "on purpose");
        Flow::More
    }

    fn on_end(&mut self, _: &mut A, _: &mut Response<'_, A>) {
        self.0.send("end").unwrap();
        panic!("on purpose");
    }

    fn on_gone(&mut self, _: &mut A) {
        self.0.send("body gone").unwrap();
    }
}

/// What a closure does to an answer before it panics.
fn begin<A: 'static>(how: &str, res: &mut Response<'_, A>) {
    match how {
        "nothing" => {}
        "fields" => drop(res.status(201).header("X-Own", "1")),
        "part" => {
            res.stream(Some(10));
            res.write(b"part");
        }
        "whole" => res.text("whole"),
        _ => unreachable!("{how}"),
    }
    panic!("on purpose");
}

type Waiting = Vec<ReplyId>;
type Records = mpsc::Receiver<(String, u16, bool)>;

/// A server whose routes panic now and later.
fn server() -> (Web, mpsc::Receiver<&'static str>, Records) {
    let (tell, told) = mpsc::channel();
    let (record, records) = mpsc::channel();
    let web = Web::serve(move || {
        let (gone, body) = (tell.clone(), tell);
        let routes = Router::new()
            .get("/now/{how}", |_, req, res| {
                res.later();
                begin(req.param("how"), res);
            })
            .get("/later/{how}", |_, req, res| {
                let (id, web, how) = (res.later(), res.server(), req.param("how").to_owned());
                res.context().post(web, move |server, cx| {
                    server.answer(cx, id, |_, res| begin(&how, res));
                });
            })
            .get("/drain", |_, _, res| {
                res.stream(None);
                res.on_drain(|_, _| panic!("on purpose"));
            })
            .get("/drain/later", |_, _, res| {
                let (id, web) = (res.later(), res.server());
                res.context().post(web, move |server, cx| {
                    server.answer(cx, id, |_, res| {
                        res.stream(None);
                        res.on_drain(|_, _| panic!("on purpose"));
                    });
                });
            })
            .get("/wait", |ids: &mut Waiting, _, res| ids.push(res.later()))
            .get("/count", |ids: &mut Waiting, _, res| res.text(&ids.len().to_string()))
            .get("/wake", |ids: &mut Waiting, _, res| {
                let id = ids.pop().expect("one waits");
                res.answer(id, |res| res.text("awake"));
                res.text("woken");
            })
            .get("/other/{how}", |ids: &mut Waiting, req, res| {
                let id = ids.pop().expect("one waits");
                res.answer(id, |res| begin(req.param("how"), res));
            })
            .post("/body", move |_, _, res| res.receive(Told(body.clone())))
            .get("/", |_, _, res| res.text("here"));
        Server::new(Vec::new(), routes).on_gone(move |_, _| gone.send("gone").unwrap()).on_finish(
            move |_, it| {
                record.send((it.target.to_owned(), it.status, it.is_complete)).unwrap();
            },
        )
    });
    (web, told, records)
}

fn ask(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_panic_in_a_route_is_a_reset_and_is_told() {
    let (web, told, records) = server();
    for how in ["nothing", "fields", "part"] {
        let target = format!("/now/{how}");
        let mut client = web.client();
        client.send(ask(&target));
        client.expect_reset();
        assert_eq!(told.recv_timeout(PATIENCE), Ok("gone"), "{how}");
        let (found, _, is_complete) = records.recv_timeout(PATIENCE).unwrap();
        assert_eq!((found, is_complete), (target, false));
    }
    web.client().get("/").expect(200, "here");
}

/// Whether the answer has begun or not, and in whichever callback.
#[test]
fn a_panic_in_a_later_answer_is_a_reset_and_is_told() {
    let (web, told, records) = server();
    for target in ["/later/nothing", "/later/fields", "/later/part", "/drain", "/drain/later"] {
        let mut client = web.client();
        client.send(ask(target));
        client.expect_reset();
        assert_eq!(told.recv_timeout(PATIENCE), Ok("gone"), "{target}");
        let (found, _, is_complete) = records.recv_timeout(PATIENCE).unwrap();
        assert_eq!((&*found, is_complete), (target, false));
    }
    assert!(told.try_recv().is_err(), "each once");
    web.client().get("/").expect(200, "here");
}

/// Has a request wait on a connection, with more behind it.
fn wait(web: &Web, behind: &str) -> (Client, Client) {
    let (mut first, mut second) = (web.client(), web.client());
    first.send([&ask("/wait"), behind].concat());
    while second.get("/count").text() != "1" {}
    (first, second)
}

/// A request that waits behind another is served outside of its connection's callbacks.
#[test]
fn a_panic_in_a_route_that_has_waited_is_a_reset_and_is_told() {
    let (web, told, records) = server();
    let (mut first, mut second) = wait(&web, &ask("/now/nothing"));
    second.send(ask("/wake"));
    second.answer().expect(200, "woken");
    first.expect_reset();
    assert_eq!(told.recv_timeout(PATIENCE), Ok("gone"));
    let panicked = records.iter().find(|(target, ..)| target == "/now/nothing");
    assert_eq!(panicked, Some(("/now/nothing".to_owned(), 0, false)));
}

#[test]
fn a_panic_in_the_answer_to_another_request_ends_that_too() {
    let (web, _told, _records) = server();
    for how in ["nothing", "part"] {
        let (mut first, mut second) = wait(&web, "");
        second.send(ask(&format!("/other/{how}")));
        second.expect_reset();
        first.expect_reset();
    }
}

#[test]
fn a_body_whose_reader_panics_is_gone_and_one_that_has_ended_is_not() {
    let (web, told, records) = server();
    let head = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";
    for (pieces, expected) in [
        (["a", "!"], "body gone"),
        (["", "!"], "body gone"),
        (["ab", "cd"], "end"),
        (["", "abcd"], "end"),
    ] {
        let mut client = web.client();
        client.send([head, pieces[0]].concat());
        if pieces[0].is_empty() {
            thread::sleep(Duration::from_millis(1)); // with the head or behind it, by chance
        }
        let _ = client.stream.write_all(pieces[1].as_bytes());
        client.expect_reset();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(expected), "{pieces:?}");
        let (_, status, is_complete) = records.recv_timeout(PATIENCE).unwrap();
        assert_eq!((status, is_complete), (0, false), "{pieces:?}");
    }
    assert!(told.try_recv().is_err(), "each once");
}

/// Says that it is gone, and panics then if it is to.
struct Gone(mpsc::Sender<&'static str>, bool);

impl<A: 'static> Body<A> for Gone {
    fn on_chunk(&mut self, _: &mut A, _: &[u8], _: &mut Response<'_, A>) -> Flow {
        Flow::More
    }

    fn on_end(&mut self, _: &mut A, _: &mut Response<'_, A>) {
        unreachable!("the body is cut");
    }

    fn on_gone(&mut self, _: &mut A) {
        self.0.send("body").unwrap();
        assert!(!self.1, "on purpose");
    }
}

/// A server that tells what has ended, and panics where it tells of this.
fn telling(panics: &'static str) -> (Web, mpsc::Receiver<&'static str>) {
    let (tell, told) = mpsc::channel();
    let web = Web::serve(move || {
        let (asked, body, gone) = (tell.clone(), tell.clone(), tell.clone());
        let routes =
            Router::new().get("/", |(), _, res| res.text("here")).post("/", move |(), _, res| {
                res.later();
                res.receive(Gone(body.clone(), panics == "body"));
                asked.send("asked").unwrap();
            });
        let server = Server::new((), routes).on_gone(move |(), _| {
            gone.send("gone").unwrap();
            assert!(panics != "gone", "on purpose");
        });
        server.on_finish(move |(), record| {
            if record.method == Method::Post {
                tell.send("finish").unwrap();
                assert!(panics != "finish", "on purpose");
            }
        })
    });
    (web, told)
}

#[test]
fn a_panic_in_what_is_told_of_an_end_keeps_nothing_from_being_told() {
    for panics in ["body", "gone", "finish", "nowhere"] {
        for end in ["reset", "fin", "malformed", "stop"] {
            let (web, told) = telling(panics);
            let mut client = web.client();
            client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
            match end {
                "reset" => drop(SockRef::from(&client.stream).set_linger(Some(Duration::ZERO))),
                "fin" => client.finish(),
                "malformed" => client.send("x"),
                _ => {}
            }
            let _client = (end != "reset").then_some(client); // else it is dropped
            let web = (end != "stop").then_some(web);
            for expected in ["body", "gone", "finish"] {
                assert_eq!(told.recv_timeout(PATIENCE), Ok(expected), "{panics} {end}");
            }
            if let Some(web) = web {
                web.client().get("/").expect(200, "here");
            }
            assert!(told.try_recv().is_err(), "each once: {panics} {end}");
        }
    }
}

/// Says to a channel how its call has ended.
struct Reader {
    panics: &'static str,
    ends: mpsc::Sender<String>,
}

impl AnswerReader for Reader {
    fn on_head(&mut self, _: &Answer<'_>, _: &mut Context<'_>) {
        assert!(self.panics != "head", "on purpose");
    }

    fn on_chunk(&mut self, _: &[u8], _: &mut Context<'_>) -> Flow {
        assert!(self.panics != "chunk", "on purpose");
        Flow::More
    }

    fn on_end(self: Box<Self>, _: &mut Context<'_>) {
        self.ends.send("end".to_owned()).unwrap();
        assert!(self.panics != "end", "on purpose");
    }

    fn on_error(self: Box<Self>, error: ClientError, _: &mut Context<'_>) {
        self.ends.send(error.to_string()).unwrap();
    }
}

#[test]
fn a_call_is_answered_once_although_its_closures_panic() {
    let addr = serve(|mut stream, _| {
        thread::spawn(move || {
            let head = read_until(&mut stream, b"\r\n\r\n");
            if head.contains("100-continue") {
                stream.write_all(b"HTTP/1.1 100 C\r\n\r\n").unwrap();
            } else if head.starts_with("GET") {
                let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
                stream.write_all(answer.as_bytes()).unwrap();
                stream.write_all(b"0\r\n\r\n").unwrap();
            }
            read_until(&mut stream, b"never");
        });
    });
    let survives = ReactorOptions::default().on_panic(OnPanic::CloseConnection);
    let mut reactor = Reactor::with_options(survives).unwrap();
    let options = ClientOptions::default().pool(PoolOptions::default().max_open(1));
    let client = HttpClient::register(&mut reactor, addr, options).unwrap();
    for panics in ["room", "room after a 100", "head", "chunk", "end", "nowhere"] {
        let (ends, ended) = mpsc::channel();
        let call = match panics {
            "room" => Call::post("/").stream_body(None, |_, _| panic!("on purpose")),
            "room after a 100" => {
                Call::post("/").stream_body(None, |_, _| panic!("on purpose")).expect_continue()
            }
            _ => Call::get("/"),
        };
        client.stream(&mut reactor.context(), call, Reader { panics, ends });
        let end = until(&mut reactor, |_| ended.try_recv().ok());
        match panics {
            "end" | "nowhere" => assert_eq!(end, "end", "{panics}"),
            _ => assert!(end.contains("a callback panicked"), "{panics}: {end}"),
        }
        for _ in 0..3 {
            reactor.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert!(ended.try_recv().is_err(), "{panics}: told twice");
    }
    assert_eq!(reactor.stats().panics, 5);
}
