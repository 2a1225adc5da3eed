//! What the client sends and gets besides the plain case: bodies that are made as they are sent,
//! a 100 that is waited for, other protocols, compressed answers.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::http::{
    Answer, AnswerReader, Call, Client, ClientError, ClientOptions, Flow, Method, Route, Router,
    Upload,
};
use waterwheel::pool::PoolOptions;
use waterwheel::{ConnectOptions, Context, Limits, OnOverflow, Reactor, Written};

use crate::routes;
use crate::web::Web;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Outcome = Result<(u16, Vec<u8>), String>;

pub(crate) fn outcome(answer: Result<Answer<'_>, ClientError>) -> Outcome {
    answer
        .map(|answer| (answer.status(), answer.body().to_vec()))
        .map_err(|error| error.to_string())
}

/// Runs the loop until there is what is asked for.
#[track_caller]
pub(crate) fn until<T>(
    reactor: &mut Reactor,
    mut found: impl FnMut(&mut Reactor) -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found(reactor) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it has not come");
        reactor.run_once(Some(Duration::from_millis(10))).unwrap();
    }
}

/// A loop with a client.
struct Rig {
    reactor: Reactor,
    client: Client,
}

impl Rig {
    fn new(addr: SocketAddr, options: ClientOptions) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let client = Client::register(&mut reactor, addr, options).unwrap();
        Self { reactor, client }
    }

    #[track_caller]
    fn send(&mut self, call: Call) -> Outcome {
        let (sender, outcomes) = mpsc::channel();
        self.client.send(&mut self.reactor.context(), call, move |answer, _| {
            sender.send(outcome(answer)).unwrap();
        });
        until(&mut self.reactor, |_| outcomes.try_recv().ok())
    }
}

/// A server on a thread that does as the closure says with each connection, one after the other.
pub(crate) fn serve(mut each: impl FnMut(TcpStream, usize) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            each(stream.unwrap(), number);
        }
    });
    addr
}

pub(crate) fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut input = Vec::new();
    let mut byte = [0; 1];
    while !input.ends_with(end) && stream.read(&mut byte).unwrap_or(0) == 1 {
        input.push(byte[0]);
    }
    String::from_utf8(input).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";

/// The same from a server that ends its connection: no call comes upon the end of another one's.
const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";

/// The length of the content of chunks.
fn content_of(mut chunks: &[u8]) -> usize {
    let mut length = 0;
    loop {
        let end = chunks.iter().position(|&byte| byte == b'\r').unwrap();
        let size = std::str::from_utf8(&chunks[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return length;
        }
        length += size;
        assert_eq!(&chunks[end + 2 + size..][..2], b"\r\n");
        chunks = &chunks[end + 4 + size..];
    }
}

/// A 100 is no answer that could be cut.
#[test]
fn a_call_that_is_given_up_after_a_100_is_lost_and_not_cut() {
    let addr = serve(move |mut stream, _| {
        read_until(&mut stream, b"\r\n\r\n");
        stream.write_all(b"HTTP/1.1 100 C\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0]);
    });
    let mut rig = Rig::new(addr, ClientOptions::default());
    let call = Call::post("/").stream_body(None, |upload, cx| upload.abort(cx));
    let error = rig.send(call.expect_continue()).unwrap_err();
    assert!(error.contains("before the answer"), "{error}");
}

/// What was refused of a request would be looked for in the next one on its connection.
#[test]
fn a_request_of_which_a_part_is_refused_ends_its_connection() {
    const MAX: usize = 300 << 10;
    let addr = serve(move |mut stream, _| {
        thread::spawn(move || {
            let head = read_until(&mut stream, b"\r\n\r\n");
            if head.contains("Expect") {
                let _ = stream.write_all(b"HTTP/1.1 100 C\r\n\r\n");
            }
            thread::sleep(PATIENCE); // and reads no more
        });
    });
    let limits = Limits::default().on_overflow(OnOverflow::Refuse);
    let limits = limits.max_output_bytes(MAX).high_mark_bytes(200 << 10);
    let connect = ConnectOptions::default().limits(limits);
    let pool = PoolOptions::default().connect(connect);
    let mut rig = Rig::new(addr, ClientOptions::default().pool(pool));
    let large = || Call::post("/").body(vec![b'x'; 1 << 20]);
    let streamed = Call::post("/").stream_body(None, |upload, cx| {
        while upload.write(cx, &[b'x'; 1_000]) != Written::Full {}
        // A chunk of a byte takes 6; less room is left than the 5 that the end takes.
        let room = |cx: &mut Context<'_>| {
            let conn = upload.conn().and_then(|id| cx.conn(id));
            conn.map_or(0, |conn| MAX - conn.pending_bytes())
        };
        while room(cx) > 5 {
            let piece = if room(cx) == 11 { &b"xx"[..] } else { b"x" };
            upload.write(cx, piece);
        }
        assert!(room(cx) < 5);
        upload.end(cx);
    });
    for call in [large(), large().expect_continue(), streamed] {
        let error = rig.send(call).unwrap_err();
        assert!(error.contains("connection ended"), "{error}");
    }
}

#[test]
fn a_body_is_sent_as_it_is_made_and_held_back_by_a_server_that_does_not_read() {
    const TOTAL: usize = 24 << 20;
    let (go, gone) = mpsc::channel();
    let addr = serve(move |mut stream, _| {
        let head = read_until(&mut stream, b"\r\n\r\n");
        gone.recv_timeout(PATIENCE).unwrap();
        let is_chunked = head.contains("\r\nTransfer-Encoding: chunked\r\n");
        assert_eq!(head.contains(&format!("\r\nContent-Length: {TOTAL}\r\n")), !is_chunked);
        let mut body = Vec::new();
        let mut room = vec![0; 1 << 16];
        while body.len() < TOTAL || is_chunked && !body.ends_with(b"\r\n0\r\n\r\n") {
            let count = stream.read(&mut room).unwrap();
            assert!(count > 0, "the body is cut");
            body.extend_from_slice(&room[..count]);
        }
        assert_eq!(if is_chunked { content_of(&body) } else { body.len() }, TOTAL);
        stream.write_all(LAST).unwrap();
    });
    let mut rig = Rig::new(addr, ClientOptions::default());
    for length in [Some(TOTAL as u64), None] {
        let go = go.clone();
        let mut left = TOTAL;
        let mut stops = 0;
        let call = Call::new(Method::Put, "/").stream_body(length, move |upload, cx| {
            while left > 0 {
                left -= 1_024;
                let written = upload.write(cx, &[b'x'; 1_024]);
                assert!(written.is_accepted(), "{written:?}");
                if written != Written::Below {
                    stops += 1;
                    if stops == 1 {
                        go.send(()).unwrap();
                    }
                    return;
                }
            }
            assert!(stops > 0, "nothing has held the body back");
            upload.end(cx);
            assert!(!upload.is_open());
        });
        assert_eq!(rig.send(call), Ok((200, b"a".to_vec())));
    }
}

#[test]
fn a_body_can_be_written_from_elsewhere_and_ends_with_its_call() {
    let web = Web::of(routes);
    let mut rig = Rig::new(web.addr, ClientOptions::default());
    let kept: Rc<RefCell<Option<Upload>>> = Rc::default();
    let keep = kept.clone();
    let call = Call::post("/echo").stream_body(None, move |upload, _| {
        *keep.borrow_mut() = Some(upload.clone());
    });
    let (sender, outcomes) = mpsc::channel();
    rig.client.send(&mut rig.reactor.context(), call, move |answer, _| {
        sender.send(outcome(answer)).unwrap();
    });
    let upload = until(&mut rig.reactor, |_| kept.borrow_mut().take());
    for piece in [&b"one, "[..], b"", b"two"] {
        assert_eq!(upload.write(&mut rig.reactor.context(), piece), Written::Below);
    }
    upload.end(&mut rig.reactor.context());
    let outcome = until(&mut rig.reactor, |_| outcomes.try_recv().ok());
    assert_eq!(outcome, Ok((200, b"one, two".to_vec())));
    // The next call may have the connection by now.
    assert!(!upload.is_open());
    assert_eq!(upload.write(&mut rig.reactor.context(), b"three"), Written::Closed);
    assert_eq!(rig.send(Call::get("/param/x")), Ok((200, b"x".to_vec())));
}

#[test]
fn a_body_of_another_length_than_was_said_is_no_request() {
    let web = Web::of(routes);
    let mut rig = Rig::new(web.addr, ClientOptions::default());
    let short = Call::post("/len").stream_body(Some(3), |upload, cx| {
        upload.write(cx, b"ab");
        upload.end(cx);
    });
    assert!(rig.send(short).unwrap_err().contains("ended before"));
    let long = Call::post("/len").stream_body(Some(3), |upload, cx| {
        assert_eq!(upload.write(cx, b"abcd"), Written::Closed);
        assert_eq!(upload.write(cx, b"abc"), Written::Below);
        upload.end(cx);
    });
    assert_eq!(rig.send(long), Ok((200, b"3".to_vec())));
    let given_up = Call::post("/len").stream_body(None, |upload, cx| {
        upload.write(cx, b"ab");
        upload.abort(cx);
    });
    assert!(rig.send(given_up).unwrap_err().contains("ended before"));
}

#[test]
fn an_answer_before_the_end_of_the_body_ends_the_connection_and_not_the_answer() {
    let web = Web::of(|| {
        Router::new()
            .route("/", Route::new().any(|_, _, res| res.text("root")).max_body_bytes(10))
            .post("/early", |_, _, res| res.status(403).text("no"))
    });
    let mut rig = Rig::new(web.addr, ClientOptions::default());
    let early = || {
        Call::post("/early").stream_body(None, |upload, cx| {
            upload.write(cx, b"a part, and no end");
        })
    };
    assert_eq!(rig.send(early()), Ok((403, b"no".to_vec())));
    assert_eq!(rig.send(early()), Ok((403, b"no".to_vec())));
    assert_eq!(rig.send(Call::get("/")), Ok((200, b"root".to_vec())));
    let (sender, stats) = mpsc::channel();
    rig.client.stats(&mut rig.reactor.context(), move |stats, _| sender.send(stats).unwrap());
    let stats = until(&mut rig.reactor, |_| stats.try_recv().ok());
    assert_eq!(stats.created, 3, "{stats:?}");
}

#[test]
fn a_body_that_was_begun_is_not_sent_a_second_time() {
    let addr = serve(|mut stream, _| {
        read_until(&mut stream, b"\r\n\r\n");
        stream.write_all(OK).unwrap();
        read_until(&mut stream, b"\r\n\r\n"); // and is dropped without an answer
    });
    let mut rig = Rig::new(addr, ClientOptions::default());
    assert_eq!(rig.send(Call::get("/")), Ok((200, b"a".to_vec())));
    let call = Call::new(Method::Put, "/").stream_body(Some(0), |upload, cx| upload.end(cx));
    assert!(rig.send(call).unwrap_err().contains("ended before"));
}

#[test]
fn a_body_waits_for_the_word_of_the_server() {
    let (sender, seen) = mpsc::channel();
    let addr = serve(move |mut stream, number| {
        let head = read_until(&mut stream, b"\r\n\r\n");
        assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(stream.read(&mut [0; 1]).is_err(), "the body has not waited");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match number {
            0 | 1 => stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap(),
            2 => stream.write_all(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").unwrap(),
            _ => {} // says nothing
        }
        let body = read_until(&mut stream, b"body");
        if number != 2 {
            let _ = stream.write_all(LAST);
        }
        let _ = stream.shutdown(Shutdown::Write);
        sender.send(body).unwrap();
    });
    let rig = |wait| Rig::new(addr, ClientOptions::default().continue_timeout(wait));
    let mut patient = rig(2 * PATIENCE);
    let known = || Call::post("/").body(b"body".to_vec()).expect_continue();
    let streamed = Call::post("/").expect_continue().stream_body(Some(4), |upload, cx| {
        upload.write(cx, b"body");
        upload.end(cx);
    });
    for (call, status, body) in
        [(known(), 200, "body"), (streamed, 200, "body"), (known(), 417, "")]
    {
        assert_eq!(patient.send(call).unwrap().0, status);
        assert_eq!(until(&mut patient.reactor, |_| seen.try_recv().ok()), body);
    }
    // A server that does not know what is expected says nothing.
    let mut rig = rig(Duration::from_millis(300));
    assert_eq!(rig.send(known()).unwrap().0, 200);
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "body");
    let call = Call::get("/").header("Expect", "100-continue");
    assert!(rig.send(call).unwrap_err().contains("cannot be sent"));
}

#[test]
fn without_a_body_nothing_is_expected() {
    let web = Web::of(routes);
    let mut rig = Rig::new(web.addr, ClientOptions::default());
    let calls = [Call::get("/").expect_continue(), Call::post("/len").expect_continue()];
    for (call, body) in calls.into_iter().zip(["root", "0"]) {
        assert_eq!(rig.send(call), Ok((200, body.as_bytes().to_vec())));
    }
}

/// Collects what comes out of a tunnel.
struct Tunnel {
    status: Rc<Cell<u16>>,
    bytes: Rc<RefCell<Vec<u8>>>,
    ended: Rc<Cell<Option<String>>>,
}

impl AnswerReader for Tunnel {
    fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
        self.status.set(answer.status());
    }

    fn on_chunk(&mut self, chunk: &[u8], _: &mut Context<'_>) -> Flow {
        self.bytes.borrow_mut().extend_from_slice(chunk);
        Flow::More
    }

    fn on_end(self: Box<Self>, _: &mut Context<'_>) {
        self.ended.set(Some("end".to_owned()));
    }

    fn on_error(self: Box<Self>, error: ClientError, _: &mut Context<'_>) {
        self.ended.set(Some(error.to_string()));
    }
}

/// Asks for another protocol: the status, what came in it, and how it ended.
fn upgrade(addr: SocketAddr) -> (u16, String, String) {
    let mut rig = Rig::new(addr, ClientOptions::default().body_timeout(Duration::from_millis(50)));
    let (status, bytes, ended) = (Rc::default(), Rc::default(), Rc::default());
    let reader =
        Tunnel { status: Rc::clone(&status), bytes: Rc::clone(&bytes), ended: Rc::clone(&ended) };
    let call = Call::get("/").upgrade("shout", |upload, cx| {
        upload.write(cx, b"hello");
        upload.end(cx);
    });
    rig.client.stream(&mut rig.reactor.context(), call, reader);
    let ended = until(&mut rig.reactor, |_| ended.take());
    let bytes = String::from_utf8(bytes.take()).unwrap();
    (status.get(), bytes, ended)
}

#[test]
fn another_protocol_begins_with_a_101_and_not_before() {
    let answering = |answer: &'static str| {
        serve(move |mut stream, _| {
            let head = read_until(&mut stream, b"\r\n\r\n");
            assert!(head.contains("\r\nConnection: Upgrade\r\nUpgrade: shout\r\n"), "{head}");
            assert!(!head.contains("Content-Length"), "{head}");
            stream.write_all(answer.as_bytes()).unwrap();
            if answer.contains("101 ") {
                let mut said = String::new();
                let _ = stream.read_to_string(&mut said);
                let _ = stream.write_all(said.to_uppercase().as_bytes());
            }
        })
    };
    let addr = answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                          Upgrade: shout\r\n\r\nfirst ",
    );
    assert_eq!(upgrade(addr), (101, "first HELLO".to_owned(), "end".to_owned()));
    let refusal = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
    assert_eq!(upgrade(answering(refusal)), (200, "no".to_owned(), "end".to_owned()));
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\n\r\n",
    ] {
        let (status, _, error) = upgrade(answering(answer));
        assert_eq!((status, error.contains("malformed")), (0, true), "{error}");
    }
}

/// A server that agreed would speak another protocol to a call that has a body.
#[test]
fn of_an_upgrade_and_a_body_the_last_one_holds() {
    let addr = serve(|mut stream, _| {
        let head = read_until(&mut stream, b"\r\n\r\n");
        if head.contains("Content-Length: 2\r\n") {
            stream.read_exact(&mut [0; 2]).unwrap();
        }
        let end = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{head}", head.len());
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{end}").as_bytes()).unwrap();
    });
    let shout = || Call::get("/").header("X-A", "1").upgrade("shout", |_, _| ());
    let streamed = shout().stream_body(Some(2), |upload, cx| {
        upload.write(cx, b"hi");
        upload.end(cx);
    });
    let mut rig = Rig::new(addr, ClientOptions::default());
    let mut sent = |call| String::from_utf8(rig.send(call).unwrap().1).unwrap();
    for head in [sent(shout().body("hi")), sent(streamed)] {
        assert!(head.contains("\r\nX-A: 1\r\n") && !head.contains("Upgrade"), "{head}");
    }
    let head = sent(shout().upgrade("whisper", |_, _| ()));
    assert!(head.contains("\r\nConnection: Upgrade\r\nUpgrade: whisper\r\n"), "{head}");
    assert_eq!(head.matches("Upgrade: ").count(), 1, "{head}");
}

#[test]
fn a_body_that_the_program_makes_slowly_is_no_late_answer() {
    const SHORT: Duration = Duration::from_millis(100);
    let web = Web::of(routes);
    let mut rig = Rig::new(web.addr, ClientOptions::default().answer_timeout(SHORT));
    let kept: Rc<RefCell<Option<Upload>>> = Rc::default();
    let keep = kept.clone();
    let call = Call::post("/echo").stream_body(None, move |upload, _| {
        *keep.borrow_mut() = Some(upload.clone());
    });
    let (sender, outcomes) = mpsc::channel();
    rig.client.send(&mut rig.reactor.context(), call, move |answer, _| {
        sender.send(outcome(answer)).unwrap();
    });
    let upload = until(&mut rig.reactor, |_| kept.borrow_mut().take());
    let began = Instant::now();
    until(&mut rig.reactor, |_| (began.elapsed() > 5 * SHORT).then_some(()));
    upload.write(&mut rig.reactor.context(), b"late");
    upload.end(&mut rig.reactor.context());
    let outcome = until(&mut rig.reactor, |_| outcomes.try_recv().ok());
    assert_eq!(outcome, Ok((200, b"late".to_vec())));
}

#[test]
fn a_request_that_the_server_does_not_take_has_a_clock() {
    let (sender, kept) = mpsc::channel();
    let addr = serve(move |stream, _| sender.send(stream).unwrap());
    let options = ClientOptions::default().answer_timeout(Duration::from_millis(100));
    let mut rig = Rig::new(addr, options);
    let call = Call::post("/")
        .stream_body(None, |upload, cx| while upload.write(cx, &[0; 1_024]) == Written::Below {});
    let error = rig.send(call).unwrap_err();
    assert!(error.contains("taken nothing"), "{error}");
    drop(kept);
}

#[cfg(feature = "http-gzip")]
#[test]
fn a_compressed_answer_is_decoded_if_that_was_asked_for() {
    let web = Web::of(|| {
        let text = "water".repeat(10_000);
        let routes = Router::new().get("/text", move |_, _, res| res.text(&text));
        routes.gzip(waterwheel::http::Gzip::new()).get("/plain", |_, _, res| res.text("plain"))
    });
    let text = "water".repeat(10_000).into_bytes();
    let mut rig = Rig::new(web.addr, ClientOptions::default());
    assert_eq!(rig.send(Call::get("/text").gzip()), Ok((200, text.clone())));
    assert_eq!(rig.send(Call::get("/plain").gzip()), Ok((200, b"plain".to_vec())));
    assert_eq!(rig.send(Call::new(Method::Head, "/text").gzip()), Ok((200, Vec::new())));
    let (status, packed) = rig.send(Call::get("/text").header("Accept-Encoding", "gzip")).unwrap();
    assert_eq!((status, &packed[..2]), (200, &[0x1f, 0x8b][..]), "it was not asked for");
    assert_eq!(rig.send(Call::get("/text")), Ok((200, text)));
    let mut rig = Rig::new(web.addr, ClientOptions::default().max_body_bytes(49_999));
    let error = rig.send(Call::get("/text").gzip()).unwrap_err();
    assert!(error.contains("more than 49999 bytes"), "{error}");
}

/// The fields of such an answer are those of the one with a body.
#[cfg(feature = "http-gzip")]
#[test]
fn an_answer_without_a_body_is_not_decoded() {
    let addr = serve(|mut stream, _| {
        loop {
            let head = read_until(&mut stream, b"\r\n\r\n");
            let Some(status) = head.split(['/', ' ']).nth(2) else { return };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n"
            );
            let answer = answer.replace("204 X\r\n", "204 X\r\nX-A: b\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let mut rig = Rig::new(addr, ClientOptions::default());
    for (method, status) in [(Method::Head, 200), (Method::Get, 304), (Method::Head, 404)] {
        let outcome = rig.send(Call::new(method, format!("/{status}")).gzip());
        assert_eq!(outcome, Ok((status, Vec::new())));
    }
}
