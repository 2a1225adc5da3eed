//! The client, against the server and against peers that answer whatever a test wants.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::http::{
    Answer, AnswerReader, Call, Client, ClientError, ClientOptions, Flow, Method, Router,
};
use waterwheel::pool::PoolOptions;
use waterwheel::{ConnId, Context, Reactor, Written};

use crate::routes;
use crate::web::Web;

const PATIENCE: Duration = Duration::from_secs(10);

/// What came of a call: status, a field, body; or the error as a text.
type Outcome = Result<(u16, Option<String>, Vec<u8>), String>;

fn outcome(answer: Result<Answer<'_>, ClientError>) -> Outcome {
    let answer = answer.map_err(|error| error.to_string())?;
    let field = answer.header("x-name").map(str::to_owned);
    Ok((answer.status(), field, answer.body().to_vec()))
}

/// Makes calls one behind the other, and returns what came of them.
fn calls(addr: SocketAddr, options: ClientOptions, calls: Vec<Call>) -> Vec<Outcome> {
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, addr, options).unwrap();
    let (sender, outcomes) = mpsc::channel();
    let mut found = Vec::new();
    for call in calls {
        let sender = sender.clone();
        client.send(&mut reactor.context(), call, move |answer, _| {
            sender.send(outcome(answer)).unwrap();
        });
        found.push(turn_until(&mut reactor, |_| outcomes.try_recv().ok()));
    }
    found
}

/// Runs the loop until there is what is asked for.
#[track_caller]
pub(crate) fn turn_until<T>(
    reactor: &mut Reactor,
    mut find: impl FnMut(&mut Reactor) -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = find(reactor) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it has not come");
        reactor.run_once(Some(Duration::from_millis(10))).unwrap();
    }
}

fn body(outcome: &Outcome) -> &str {
    std::str::from_utf8(&outcome.as_ref().expect("an answer").2).unwrap()
}

#[test]
fn requests_are_answered_over_one_kept_connection() {
    let web = Web::of(routes);
    let made = (0..5).map(|number| Call::get(format!("/param/{number}"))).collect();
    for (number, outcome) in calls(web.addr, ClientOptions::default(), made).iter().enumerate() {
        assert_eq!(body(outcome), number.to_string());
    }
    let made = vec![
        Call::post("/echo").body(b"hello".to_vec()),
        Call::new(Method::Put, "/echo").header("X-A", "b").body(vec![b'x'; 300_000]),
        Call::post("/len"),
        Call::new(Method::Head, "/param/abc"),
        Call::get("/nowhere"),
        Call::get("/host"),
    ];
    let outcomes = calls(web.addr, ClientOptions::default(), made);
    assert_eq!(body(&outcomes[0]), "hello");
    assert_eq!(outcomes[1].as_ref().unwrap().2, vec![b'x'; 300_000]);
    assert_eq!(body(&outcomes[2]), "0");
    assert_eq!(outcomes[3], Ok((200, None, Vec::new())));
    assert_eq!(outcomes[4].as_ref().unwrap().0, 404);
    assert_eq!(body(&outcomes[5]), web.addr.to_string());
}

#[test]
fn a_destination_without_a_host_is_refused_with_what_to_give() {
    let register = |to: &str, options| {
        let mut reactor = Reactor::new().unwrap();
        Client::register(&mut reactor, to, options).unwrap_err()
    };
    let error = register("nonsense", ClientOptions::default());
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("\"nonsense\" says no value of Host"), "{error}");
    assert!(error.to_string().contains("give \"host:port\""), "{error}");
    let options = ClientOptions::default().host(Some("a b".to_owned()));
    let error = register("127.0.0.1:1", options);
    assert!(error.to_string().contains("\"a b\" is no value of Host"), "{error}");
}

#[test]
fn what_cannot_be_sent_is_not() {
    let addr = "127.0.0.1:1".parse().unwrap();
    let made = vec![
        Call::get("no slash"),
        Call::get("/a b"),
        Call::get("/a\r\nX: y"),
        Call::get("/").header("X", "a\r\nY: z"),
        Call::get("/").header("Host", "a"),
        Call::get("/").header("Content-Length", "1"),
    ];
    for outcome in calls(addr, ClientOptions::default(), made) {
        let error = outcome.unwrap_err();
        assert!(error.contains("cannot be sent"), "{error}");
        let is_target = error.contains("the target \"");
        assert_eq!(is_target, !error.contains("the field \""), "{error}");
    }
    let own = calls(addr, ClientOptions::default(), vec![Call::get("/").header("Date", "now")]);
    let error = own[0].as_ref().unwrap_err();
    assert!(!error.contains("server"), "it is the client that sets it: {error}");
    let outcome = calls(addr, ClientOptions::default(), vec![Call::get("/")]);
    assert!(outcome[0].as_ref().unwrap_err().contains("no connection"), "{outcome:?}");
}

/// A server that answers each connection with these bytes when a request has come, and then ends
/// it, or keeps it open.
fn answering(answers: Vec<(Vec<u8>, bool)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for (answer, ends) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            stream.write_all(&answer).unwrap();
            if !ends {
                kept.push(stream);
            }
        }
        thread::sleep(PATIENCE); // what was kept is open for as long as a test lasts
    });
    addr
}

/// A server that answers the requests of each connection with these bytes, one behind the other,
/// and then ends it.
fn answering_each(answers: Vec<Vec<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for answers in answers {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                read_head(&mut stream);
                stream.write_all(&answer).unwrap();
            }
        }
    });
    addr
}

pub(crate) fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut input = Vec::new();
    let mut byte = [0; 1];
    while !input.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            break;
        }
        input.push(byte[0]);
    }
    input
}

/// Or a call could go on for as long as the server likes.
#[test]
fn an_answer_that_is_too_large_fails_before_its_end() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = [head.as_bytes(), b"3\r\nabc\r\n", b"3\r\ndef\r\n"].concat();
    let addr = answering(vec![(endless, false), (b"HTTP/1.1 204 N\r\n\r\n".to_vec(), false)]);
    let options = ClientOptions::default().max_body_bytes(5);
    let outcomes = calls(addr, options, vec![Call::get("/"), Call::get("/")]);
    let error = outcomes[0].as_ref().unwrap_err();
    assert!(error.contains("more than 5 bytes"), "{error}");
    assert_eq!(outcomes[1], Ok((204, None, Vec::new())), "on another connection");
}

#[test]
fn an_answer_ends_where_its_head_says() {
    let with = |head: &str, ends: bool| {
        let addr = answering(vec![(head.as_bytes().to_vec(), ends)]);
        calls(addr, ClientOptions::default(), vec![Call::get("/")]).pop().unwrap()
    };
    let answer = |body: &str| Ok((200, Some("1".to_owned()), body.as_bytes().to_vec()));
    let ok = "HTTP/1.1 200 OK\r\nX-Name: 1\r\n";
    assert_eq!(with(&format!("{ok}Content-Length: 3\r\n\r\nabc"), false), answer("abc"));
    let chunks = "Transfer-Encoding: chunked\r\n\r\n1;a\r\na\r\n2\r\nbc\r\n0\r\nT: u\r\n\r\n";
    assert_eq!(with(&format!("{ok}{chunks}"), false), answer("abc"));
    assert_eq!(with(&format!("{ok}\r\nall of it"), true), answer("all of it"));
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    assert_eq!(with(&format!("{interim}{ok}Content-Length: 1\r\n\r\na"), false), answer("a"));
    assert_eq!(with("HTTP/1.1 204 \r\n\r\n", false), Ok((204, None, Vec::new())));
    let not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(with(not_modified, false), Ok((304, None, Vec::new())));
    // What stands behind an answer belongs to no call.
    assert_eq!(with(&format!("{ok}Content-Length: 1\r\n\r\nabc"), false), answer("a"));
}

#[test]
fn rows_22_to_38_mirrored_an_answer_that_is_unclear_is_an_error() {
    for head in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 3, 3\r\n\r\nabc",
        "Content-Length: 03\r\n\r\nabc",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n\r\n",
        "A: b\nContent-Length: 0\r\n\r\n",
        "A : b\r\nContent-Length: 0\r\n\r\n",
        "A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        "A: b\0\r\nContent-Length: 0\r\n\r\n",
    ] {
        let addr = answering(vec![(format!("HTTP/1.1 200 OK\r\n{head}").into_bytes(), false)]);
        let outcome = calls(addr, ClientOptions::default(), vec![Call::get("/")]);
        let error = outcome[0].as_ref().expect_err(head);
        assert!(error.contains("malformed"), "{head:?}: {error}");
    }
    for answer in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTQ\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let addr = answering(vec![(answer.as_bytes().to_vec(), false)]);
        let outcome = calls(addr, ClientOptions::default(), vec![Call::get("/")]);
        assert!(outcome[0].as_ref().unwrap_err().contains("malformed"), "{answer:?}");
    }
    let alert = b"\x15\x03\x03\x00\x02\x02\x46".to_vec(); // protocol_version
    let outcome =
        calls(answering(vec![(alert, false)]), ClientOptions::default(), vec![Call::get("/")]);
    let error = outcome[0].as_ref().unwrap_err();
    assert!(
        error.ends_with("it is TLS; encrypt the connection with ConnectOptions::tls"),
        "{error}"
    );
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let addr = answering(vec![(endless.into_bytes(), false)]);
    let outcome = calls(addr, ClientOptions::default(), vec![Call::get("/")]);
    assert!(outcome[0].as_ref().unwrap_err().contains("malformed"));
}

#[test]
fn an_answer_that_is_cut_is_no_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nContent-",
    ] {
        let addr = answering(vec![(answer.as_bytes().to_vec(), true)]);
        let outcome = calls(addr, ClientOptions::default(), vec![Call::get("/")]);
        assert!(outcome[0].as_ref().unwrap_err().contains("was cut"), "{outcome:?}");
    }
}

#[test]
fn clocks_and_caps_of_a_call() {
    let short = Duration::from_millis(200);
    let options = ClientOptions::default().answer_timeout(short).body_timeout(short);
    for (answer, wanted) in [
        ("", "answer_timeout"),
        ("HTTP/1.1 200 OK\r\nContent-", "answer_timeout"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "body_timeout"),
    ] {
        let addr = answering(vec![(answer.as_bytes().to_vec(), false)]);
        let outcome = calls(addr, options.clone(), vec![Call::get("/")]);
        assert!(outcome[0].as_ref().unwrap_err().contains(wanted), "{outcome:?}");
    }
    let options = ClientOptions::default().max_body_bytes(3).max_head_bytes(100);
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(200));
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", &long] {
        let addr = answering(vec![(answer.as_bytes().to_vec(), false)]);
        let outcome = calls(addr, options.clone(), vec![Call::get("/")]);
        assert!(outcome[0].as_ref().unwrap_err().contains("more than"), "{outcome:?}");
    }
}

#[test]
fn only_what_does_no_harm_twice_is_sent_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // Each connection answers once, and ends when the second request has come.
    let (sender, heads) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            sender.send(read_head(&mut stream)).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
            sender.send(read_head(&mut stream)).unwrap();
        }
    });
    let made = vec![Call::get("/first"), Call::get("/again"), Call::post("/once")];
    let options = ClientOptions::default().pool(PoolOptions::default().max_open(1));
    let outcomes = calls(addr, options, made);
    assert_eq!((body(&outcomes[0]), body(&outcomes[1])), ("a", "a"));
    assert!(outcomes[2].as_ref().unwrap_err().contains("ended before"), "{outcomes:?}");
    let seen: Vec<_> = heads
        .try_iter()
        .map(|head| String::from_utf8(head).unwrap().split(' ').nth(1).map(str::to_owned))
        .collect();
    let wanted = ["/first", "/again", "/again", "/once"].map(|path| Some(path.to_owned()));
    assert_eq!(seen[..4], wanted);
}

/// Takes a body piece by piece, and pauses after each.
struct Pieces {
    bytes: usize,
    conn: Option<ConnId>,
    paused: Rc<Cell<Option<ConnId>>>,
    done: Rc<Cell<Option<Result<usize, String>>>>,
}

impl AnswerReader for Pieces {
    fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
        assert_eq!((answer.status(), answer.body()), (200, &b""[..]));
        self.conn = Some(answer.conn());
    }

    fn on_chunk(&mut self, chunk: &[u8], _: &mut Context<'_>) -> Flow {
        assert_eq!(self.paused.get(), None, "a piece, while it is paused");
        self.bytes += chunk.len();
        self.paused.set(self.conn);
        Flow::Pause
    }

    fn on_end(self: Box<Self>, _: &mut Context<'_>) {
        self.done.set(Some(Ok(self.bytes)));
    }

    fn on_error(self: Box<Self>, error: ClientError, _: &mut Context<'_>) {
        self.done.set(Some(Err(error.to_string())));
    }
}

#[test]
fn an_answer_that_is_paused_holds_the_server() {
    const TOTAL: usize = 4 << 20;
    let web = Web::of(|| {
        Router::new().get("/length", |_, _, res| res.bytes("x/y", &vec![b'x'; TOTAL])).get(
            "/chunks",
            |_, _, res| {
                res.stream(None);
                let mut left = TOTAL;
                res.on_drain(move |_, res| {
                    while left > 0 {
                        left -= 1_024;
                        if res.write(&[b'x'; 1_024]) != Written::Below {
                            return;
                        }
                    }
                    res.end();
                });
            },
        )
    });
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, web.addr, ClientOptions::default()).unwrap();
    for path in ["/length", "/chunks", "/length"] {
        let (paused, done) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
        let pieces = Pieces { bytes: 0, conn: None, paused: paused.clone(), done: done.clone() };
        client.stream(&mut reactor.context(), Call::get(path), pieces);
        let began = Instant::now();
        let outcome = loop {
            if let Some(outcome) = done.take() {
                break outcome;
            }
            assert!(began.elapsed() < PATIENCE, "no answer");
            reactor.run_once(Some(Duration::from_millis(10))).unwrap();
            if let Some(id) = paused.take() {
                if let Some(mut conn) = reactor.context().conn(id) {
                    conn.resume_reading();
                }
            }
        };
        assert_eq!(outcome, Ok(TOTAL), "{path}");
    }
}

/// A server that has waited long enough may say so when the next request is on its way already.
#[test]
fn a_408_that_meets_a_request_is_the_end_of_an_idle_connection() {
    const LATE: &[u8] = b"HTTP/1.1 408 T\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate";
    let kept =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{body}").into_bytes();
    let addr = answering_each(vec![
        vec![kept("a"), LATE.to_vec()],
        vec![kept("b"), LATE.to_vec()],
        vec![LATE.to_vec()],
    ]);
    let made = vec![Call::get("/"), Call::get("/"), Call::post("/"), Call::get("/")];
    let outcomes = calls(addr, ClientOptions::default(), made);
    assert_eq!((body(&outcomes[0]), body(&outcomes[1])), ("a", "b"));
    // One that may do harm twice is the program's to repeat, and so is one on a new connection.
    for outcome in &outcomes[2..] {
        assert_eq!((outcome.as_ref().unwrap().0, body(outcome)), (408, "late"));
    }
}

/// The application's, as a rule, or that of a body which came too slowly.
#[test]
fn a_408_that_does_not_end_an_idle_connection_is_the_answer() {
    const KEPT: &[u8] = b"HTTP/1.1 408 T\r\nContent-Length: 4\r\n\r\nslow";
    const BEHIND: &[u8] = b"HTTP/1.1 103 E\r\n\r\n\
        HTTP/1.1 408 T\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate";
    let other = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother";
    let first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst";
    let addr = answering_each(vec![
        vec![first.to_vec(), KEPT.to_vec(), BEHIND.to_vec()],
        vec![other.to_vec(); 2],
    ]);
    let made = vec![Call::get("/"), Call::get("/"), Call::get("/")];
    let outcomes = calls(addr, ClientOptions::default(), made);
    let found = outcomes.iter().map(|outcome| (outcome.as_ref().unwrap().0, body(outcome)));
    assert_eq!(found.collect::<Vec<_>>(), [(200, "first"), (408, "slow"), (408, "late")]);
}

/// A server may have waited long enough for a first request, too.
#[test]
fn an_idle_connection_that_ends_as_its_first_request_comes_is_followed_by_another() {
    const LATE: &[u8] = b"HTTP/1.1 408 T\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate";
    for end in [&b""[..], LATE] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for answer in [end, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"] {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&mut stream);
                stream.write_all(answer).unwrap();
            }
        });
        let mut reactor = Reactor::new().unwrap();
        let options = ClientOptions::default().pool(PoolOptions::default().max_open(1).min_idle(1));
        let client = Client::register(&mut reactor, addr, options).unwrap();
        let is_idle = Rc::new(Cell::new(false));
        turn_until(&mut reactor, |reactor| {
            let told = Rc::clone(&is_idle);
            client.stats(&mut reactor.context(), move |stats, _| told.set(stats.idle == 1));
            is_idle.get().then_some(())
        });
        let (told, outcomes) = mpsc::channel();
        client.send(&mut reactor.context(), Call::get("/"), move |answer, _| {
            told.send(outcome(answer)).unwrap();
        });
        let found = turn_until(&mut reactor, |_| outcomes.try_recv().ok());
        assert_eq!(body(&found), "next");
        server.join().unwrap();
    }
}

/// Or each answer from then on would be that to the request before.
#[test]
fn what_comes_between_two_calls_is_an_answer_to_neither() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}");
    let (sender, asked) = mpsc::channel();
    let server = thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        read_head(&mut first);
        first.write_all(answer("good").as_bytes()).unwrap();
        asked.recv_timeout(PATIENCE).unwrap();
        first.write_all(answer("evil").as_bytes()).unwrap();
        let asked = first.read(&mut [0]).is_ok_and(|count| count > 0);
        assert!(!asked, "the connection ends, and nothing is asked on it");
        let (mut second, _) = listener.accept().unwrap();
        read_head(&mut second);
        second.write_all(answer("next").as_bytes()).unwrap();
    });
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, addr, ClientOptions::default()).unwrap();
    for (number, expected) in ["good", "next"].into_iter().enumerate() {
        let (told, outcomes) = mpsc::channel();
        client.send(&mut reactor.context(), Call::get("/"), move |answer, _| {
            told.send(outcome(answer)).unwrap();
        });
        let found = turn_until(&mut reactor, |_| outcomes.try_recv().ok());
        assert_eq!(body(&found), expected);
        if number == 0 {
            sender.send(()).unwrap();
            turn_until(&mut reactor, |reactor| (reactor.stats().connections == 0).then_some(()));
        }
    }
    server.join().unwrap();
}
