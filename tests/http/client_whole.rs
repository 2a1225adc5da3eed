//! Answers that come in at once, and fields that pass from one message to another.

use std::cell::RefCell;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::http::{
    Answer, AnswerReader, Call, Client, ClientError, ClientOptions, Fields, Flow, Method, Router,
};
use waterwheel::{Context, Reactor};

use crate::client::read_head;
use crate::web::Web;

const PATIENCE: Duration = Duration::from_secs(10);

/// A server of one connection that answers its requests with these bytes, one behind the other.
fn answering(answers: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for answer in answers {
            read_head(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
        }
        read_head(&mut stream); // until the client ends it
    });
    addr
}

type Told = Rc<RefCell<Vec<String>>>;

/// Writes down what a reader is told in parts, by the calls that the default makes too.
struct Parts(Told);

impl AnswerReader for Parts {
    fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
        assert!(answer.body().is_empty());
        self.0.borrow_mut().push(format!("{} {:?}", answer.status(), answer.content_length()));
    }

    fn on_chunk(&mut self, chunk: &[u8], _: &mut Context<'_>) -> Flow {
        self.0.borrow_mut().push(String::from_utf8_lossy(chunk).into_owned());
        Flow::Pause // of the last piece it holds up nothing
    }

    fn on_end(self: Box<Self>, _: &mut Context<'_>) {
        self.0.borrow_mut().push("end".to_owned());
    }

    fn on_error(self: Box<Self>, error: ClientError, _: &mut Context<'_>) {
        self.0.borrow_mut().push(error.to_string());
    }
}

/// The same, and of a whole answer in its own words.
struct Whole(Parts);

impl AnswerReader for Whole {
    fn on_head(&mut self, answer: &Answer<'_>, cx: &mut Context<'_>) {
        self.0.on_head(answer, cx);
    }

    fn on_chunk(&mut self, chunk: &[u8], cx: &mut Context<'_>) -> Flow {
        self.0.on_chunk(chunk, cx);
        Flow::More
    }

    fn on_end(self: Box<Self>, cx: &mut Context<'_>) {
        Box::new(self.0).on_end(cx);
    }

    fn on_whole(self: Box<Self>, answer: &Answer<'_>, _: &mut Context<'_>) {
        let fields: Vec<_> = answer.headers().map(|(name, _)| name).collect();
        let text = format!("whole {} {fields:?} {}", answer.status(), answer.text());
        self.0.0.borrow_mut().push(text);
        self.0.0.borrow_mut().push("end".to_owned());
    }

    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>) {
        Box::new(self.0).on_error(error, cx);
    }
}

fn turn_until(reactor: &mut Reactor, mut is_done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < PATIENCE, "it has not come");
        reactor.run_once(Some(Duration::from_millis(10))).unwrap();
    }
}

#[test]
fn an_answer_that_is_here_whole_is_told_of_in_one_call() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Name: 1\r\n\r\nabc".to_owned();
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let early = format!("HTTP/1.1 103 Early\r\n\r\n{ok}");
    let none = "HTTP/1.1 204 N\r\n\r\n".to_owned();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Name: 1\r\n\r\n".to_owned();
    // The same head again, which is known by now; and once more in answer to HEAD.
    let answers =
        vec![ok.clone(), ok.clone(), ok.clone(), early, chunks.to_owned(), none, head.clone(), ok];
    let addr = answering(answers);
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, addr, ClientOptions::default()).unwrap();
    let mut ask = |method: Method, is_whole: bool| {
        let told = Told::default();
        let (call, parts) = (Call::new(method, "/"), Parts(Rc::clone(&told)));
        match is_whole {
            true => client.stream(&mut reactor.context(), call, Whole(parts)),
            false => client.stream(&mut reactor.context(), call, parts),
        }
        let is_over = || told.borrow().last().is_some_and(|last| last == "end");
        turn_until(&mut reactor, is_over);
        told.take()
    };
    let whole = [r#"whole 200 ["Content-Length", "X-Name"] abc"#, "end"];
    assert_eq!(ask(Method::Get, true), whole);
    assert_eq!(ask(Method::Get, true), whole);
    assert_eq!(ask(Method::Get, false), ["200 Some(3)", "abc", "end"]);
    assert_eq!(ask(Method::Get, true), whole, "behind an interim answer");
    assert_eq!(ask(Method::Get, true), ["200 None", "a", "end"], "its length is not said");
    assert_eq!(ask(Method::Get, true), ["whole 204 [] ", "end"]);
    let without_body = [r#"whole 200 ["Content-Length", "X-Name"] "#, "end"];
    assert_eq!(ask(Method::Head, true), without_body);
    assert_eq!(ask(Method::Get, true), whole, "all of them on one connection");
}

#[test]
fn a_whole_answer_that_is_too_large_is_an_error_and_its_connection_is_kept() {
    let answer =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let addr = answering(vec![answer("123456"), answer("12345")]);
    let mut reactor = Reactor::new().unwrap();
    let options = ClientOptions::default().max_body_bytes(5);
    let client = Client::register(&mut reactor, addr, options).unwrap();
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    for count in 1..=2 {
        let seen = Rc::clone(&outcomes);
        client.send(&mut reactor.context(), Call::get("/"), move |answer, _| {
            let outcome = answer.map(|answer| answer.text().into_owned());
            seen.borrow_mut().push(outcome.map_err(|error| error.to_string()));
        });
        turn_until(&mut reactor, || outcomes.borrow().len() == count);
    }
    let outcomes = outcomes.take();
    let error = outcomes[0].as_ref().unwrap_err();
    assert!(error.contains("more than 5 bytes"), "{error}");
    assert_eq!(outcomes[1], Ok("12345".to_owned()), "on the one connection that is accepted");
}

/// It would be made once more on another connection, if there were a next turn.
#[test]
fn a_call_on_a_reused_connection_is_told_that_the_reactor_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        stream // it says nothing to the second call
    });
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, addr, ClientOptions::default()).unwrap();
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let call = |reactor: &mut Reactor| {
        let seen = Rc::clone(&outcomes);
        client.send(&mut reactor.context(), Call::get("/"), move |answer, _| {
            let outcome = answer.map(|answer| answer.status());
            seen.borrow_mut().push(outcome.map_err(|error| error.to_string()));
        });
    };
    call(&mut reactor);
    turn_until(&mut reactor, || outcomes.borrow().len() == 1);
    let mut stream = server.join().unwrap();
    call(&mut reactor);
    reactor.run_once(Some(Duration::ZERO)).unwrap();
    read_head(&mut stream);
    reactor.context().stop();
    reactor.run().unwrap();
    drop(reactor);
    let outcomes = outcomes.take();
    assert_eq!((outcomes.len(), &outcomes[0]), (2, &Ok(200)), "{outcomes:?}");
    assert!(outcomes[1].is_err(), "{outcomes:?}");
}

#[test]
fn fields_pass_from_one_message_to_another() {
    let web = Web::of(|| {
        let mut own = Fields::new();
        own.add("X-Own", "1").unwrap();
        Router::new().get("/", move |_, req, res| {
            let passing = req.fields(|name, value| name.starts_with("X-") && value != b"no");
            res.fields(&own).fields(&passing).body(b"{}");
        })
    });
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, web.addr, ClientOptions::default()).unwrap();
    let mut fields = Fields::new();
    for (name, value) in [("X-A", "a"), ("Accept", "*/*"), ("X-B", "no"), ("X-C", "")] {
        fields.add(name, value).unwrap();
    }
    let call = Call::get("/").header("X-First", "0").fields(fields.clone()).fields(Fields::new());
    let seen = Rc::new(RefCell::new(None));
    let told = Rc::clone(&seen);
    client.send(&mut reactor.context(), call, move |answer, _| {
        let answer = answer.unwrap();
        let line = |(name, value): (&str, &[u8])| format!("{name}={}", value.escape_ascii());
        let fields: Vec<_> =
            answer.headers().map(line).filter(|one| one.starts_with('X')).collect();
        let kind = answer.header("content-type").map(str::to_owned);
        told.replace(Some((answer.status(), fields.join(" "), kind, answer.text().into_owned())));
    });
    turn_until(&mut reactor, || seen.borrow().is_some());
    let passed = "X-Own=1 X-First=0 X-A=a X-C=".to_owned();
    assert_eq!(seen.take(), Some((200, passed, None, "{}".to_owned())));
}
