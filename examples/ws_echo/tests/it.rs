//! The echo as a process, and its client.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use process::Process;
use servers::{expect_clean_end, expect_no_panic_without_a_reader, failure};
use waterwheel::http::{self, Router, Server};
use waterwheel::ws::{CloseCode, Ended, Endpoint, Handler, Message, Options, Socket};
use waterwheel::{Context, ListenOptions, Reactor};

const WS_ECHO: &str = env!("CARGO_BIN_EXE_ws_echo");

#[test]
fn what_the_client_says_comes_back_compressed_or_not() {
    for how in ["no", "shared", "kept"] {
        let (server, addr) = Process::serve(WS_ECHO, &["--deflate", how]);
        let addr = addr.to_string();
        let args = ["--deflate", how, "--connect", &addr, "hello", "and bye"];
        let client = Process::start(WS_ECHO, &args);
        assert_eq!((client.line(), client.line()), ("hello".to_owned(), "and bye".to_owned()));
        assert!(client.line().starts_with("closed with 1000"));
        assert_eq!(client.end().code, Some(0));
        expect_clean_end(server);
    }
}

#[test]
fn it_does_not_panic_without_a_reader() {
    expect_no_panic_without_a_reader(WS_ECHO);
}

/// Says to the client what it has to; expects it to fail with these words.
#[track_caller]
fn expect_failure(addr: SocketAddr, words: &str) {
    let addr = addr.to_string();
    let (code, text) = failure(WS_ECHO, &["--connect", &addr, "hello", "and bye"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&addr) && text.contains(words), "{text}");
}

#[test]
fn a_client_without_an_echo_says_so_and_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let refusing = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        stream // closed behind the client's end
    });
    expect_failure(addr, "404");
    drop(refusing.join());
    expect_failure(addr, "refused"); // nobody listens any more
    let (server, addr) = Process::serve(WS_ECHO, &["--max-message", "4"]);
    expect_failure(addr, "closed with 1009");
    expect_clean_end(server);
}

/// Answers the first message, and closes with 1000 instead of an answer to the second.
struct Tired;

impl Handler for Tired {
    type State = bool;

    fn on_message(&mut self, is_tired: &mut bool, socket: &mut Socket<'_>, message: Message<'_>) {
        if std::mem::replace(is_tired, true) {
            socket.close(CloseCode::NORMAL, "enough");
        } else {
            socket.send(message);
        }
    }

    fn on_close(&mut self, _: bool, _: Ended<'_>, cx: &mut Context<'_>) {
        cx.stop();
    }
}

#[test]
fn a_client_that_gets_no_answer_to_its_last_text_fails() {
    let mut reactor = Reactor::new().unwrap();
    let endpoint = Endpoint::new(Options::default());
    let routes = Router::new().get("/ws", move |_, req, res| {
        endpoint.upgrade(req, res, false);
    });
    let server = reactor.register(Server::new(Tired, routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen("127.0.0.1:0", server, options).unwrap();
    let client = thread::spawn(move || {
        Process::start(WS_ECHO, &["--connect", &addr.to_string(), "hello", "and bye"]).end()
    });
    reactor.run().unwrap();
    let end = client.join().unwrap();
    let errors = format!("ws_echo: {addr}: closed with 1000 enough, texts without an answer: 1\n");
    assert_eq!((end.code, &end.output[..]), (Some(1), &["hello".to_owned()][..]), "{end:?}");
    assert_eq!(end.errors, errors);
}
