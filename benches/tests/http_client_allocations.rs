//! What a call of the HTTP client allocates, counted, and what a request that a server passes on to
//! another one does. Here, because counting wants an allocator of its own.

mod counting;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::http::{
    self, Answer, AnswerReader, Call, Client, ClientError, ClientOptions, Flow, ReplyId, Router,
    Server,
};
use waterwheel::{Context, HandlerKey, ListenOptions, Reactor};

use counting::allocated;

const ROUNDS: u64 = 100;

/// A loop with a server behind, and a client of it. What the server allocates is counted with the
/// rest: nothing.
fn behind() -> (Reactor, Client) {
    let routes = Router::new().get("/plaintext", |_, _, res| res.text("Hello, World!"));
    let mut reactor = Reactor::new().unwrap();
    let web = reactor.register(Server::new((), routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen("127.0.0.1:0", web, options).unwrap();
    let client = Client::register(&mut reactor, addr, ClientOptions::default()).unwrap();
    (reactor, client)
}

/// What is allocated while the loop turns until `is_done`.
fn turns(reactor: &mut Reactor, mut is_done: impl FnMut() -> bool) -> u64 {
    let patience = Instant::now() + Duration::from_secs(10);
    let mut counted = 0;
    while !is_done() {
        let before = allocated();
        reactor.run_once(Some(Duration::from_millis(10))).unwrap();
        counted += allocated() - before;
        assert!(Instant::now() < patience, "no answer");
    }
    counted
}

/// Allocations of a call, on average.
fn of_a_call(make: impl Fn() -> Call) -> u64 {
    let (mut reactor, client) = behind();
    let answers = Rc::new(Cell::new(0));
    let mut counted = 0;
    for round in 0..2 * ROUNDS {
        let seen = Rc::clone(&answers);
        let before = allocated();
        client.send(&mut reactor.context(), make(), move |answer, _| {
            assert_eq!(answer.unwrap().body(), b"Hello, World!");
            seen.set(seen.get() + 1);
        });
        let made = allocated() - before + turns(&mut reactor, || answers.get() > round);
        // The first calls connect, and find room.
        counted += if round >= ROUNDS { made } else { 0 };
    }
    counted / ROUNDS
}

/// Gives the answer of a server behind.
struct Relay {
    id: ReplyId,
    web: HandlerKey<Server<Client>>,
}

impl AnswerReader for Relay {
    fn on_chunk(&mut self, _: &[u8], _: &mut Context<'_>) -> Flow {
        panic!("an answer that comes in one packet is whole");
    }

    fn on_end(self: Box<Self>, _: &mut Context<'_>) {}

    fn on_whole(self: Box<Self>, answer: &Answer<'_>, cx: &mut Context<'_>) {
        assert_eq!(answer.content_length(), Some(13));
        let (id, body) = (self.id, answer.body().to_vec());
        cx.post(self.web, move |web, cx| {
            web.answer(cx, id, |_, res| res.body(&body));
        });
    }

    fn on_error(self: Box<Self>, error: ClientError, _: &mut Context<'_>) {
        panic!("{error}");
    }
}

/// Allocations of a request that is passed on, on average.
fn of_a_request_that_is_passed_on() -> u64 {
    let (mut reactor, client) = behind();
    let routes = Router::new().get("/plaintext", |client: &mut Client, req, res| {
        let call = Call::get(req.target());
        let relay = Relay { id: res.later(), web: res.server() };
        client.stream(&mut res.context(), call, relay);
    });
    let web = reactor.register(Server::new(client, routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen("127.0.0.1:0", web, options).unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut answer = Vec::with_capacity(1_000);
    let mut counted = 0;
    for round in 0..2 * ROUNDS {
        stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        answer.clear();
        let mut room = [0; 1_000];
        let made = turns(&mut reactor, || {
            let count = stream.read(&mut room).unwrap_or(0);
            answer.extend_from_slice(&room[..count]);
            answer.ends_with(b"\r\n\r\nHello, World!")
        });
        counted += if round >= ROUNDS { made } else { 0 };
    }
    counted / ROUNDS
}

#[test]
fn a_call_allocates_its_target_itself_and_its_reader() {
    // The target, the call, its reader, and the closure that goes to the pool.
    assert_eq!(of_a_call(|| Call::get("/plaintext")), 4);
    let with_fields = || {
        let call = Call::get("/plaintext").header("Accept", "*/*");
        (0..5).fold(call, |call, _| call.header("X-Some-Field", "with a value of some length"))
    };
    assert_eq!(of_a_call(with_fields), 5, "and its fields");
}

#[test]
fn a_request_that_is_passed_on_allocates_two_times_more() {
    // A call; the body of the answer, and the closure that gives it.
    assert_eq!(of_a_request_that_is_passed_on(), 4 + 2);
}
