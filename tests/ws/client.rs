//! The client's side, against a server that is a socket.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use waterwheel::ws::{Client, Deflate, Options, Request};
use waterwheel::{ConnectOptions, Limits, Reactor, Reconnect, ws};

use crate::peer::{Connected, Log, Notes, answer_to, connect, plain};
use crate::support::{End, nobody};

/// A client that has shaken hands, with these fields of the answer.
#[track_caller]
fn open(options: Options, fields: &str) -> Connected {
    let mut connected = connect(options);
    let answer = connected.answer(fields);
    connected.server.send(answer.as_bytes());
    connected
}

/// The handshake fails, and the program is told this.
#[track_caller]
fn expect_failed(connected: Connected, text: &str) {
    let Connected { mut rig, server, id, log, .. } = connected;
    rig.end_of(id);
    drop(server);
    let log = log.borrow();
    assert!(log.len() == 1 && log[0].starts_with("failed ") && log[0].contains(text), "{log:?}");
}

#[test]
fn a_request_says_what_the_options_say() {
    let options = Options::default().protocols(["v2", "v1"]).deflate(Some(Deflate::default()));
    let connected = connect(options);
    assert!(connected.request.starts_with("GET /chat?x=1 HTTP/1.1\r\nHost: a.example\r\n"));
    assert_eq!(connected.field("Upgrade"), "websocket");
    assert_eq!(connected.field("Sec-WebSocket-Version"), "13");
    assert_eq!(connected.field("Sec-WebSocket-Protocol"), "v2, v1");
    assert_eq!(connected.field("Origin"), "b");
    let offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 client_max_window_bits";
    assert_eq!(connected.field("Sec-WebSocket-Extensions"), offer);
    let other = connect(Options::default());
    assert_ne!(connected.field("Sec-WebSocket-Key"), other.field("Sec-WebSocket-Key"));
}

#[test]
fn frames_behind_the_head_are_read_with_it() {
    let mut connected = connect(Options::default().protocols(["v1"]));
    let mut bytes = connected.answer("Sec-WebSocket-Protocol: v1\r\n").into_bytes();
    bytes.extend(plain(0x81, b"welcome"));
    connected.server.send(&bytes);
    let (first, _, payload) = connected.frame();
    assert_eq!((first, &payload[..]), (0x81, &b"welcome"[..]));
    assert_eq!(*connected.log.borrow(), ["open v1", "text welcome"]);
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_read() {
    let mut connected = connect(Options::default());
    for byte in connected.answer("").into_bytes() {
        connected.server.send(&[byte]);
        connected.rig.turn();
    }
    connected.until("open", "open");
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";

#[test]
fn interim_answers_before_the_answer_are_skipped() {
    let mut connected = connect(Options::default());
    let answer = connected.answer("");
    connected.server.send(format!("{HINTS}{answer}").as_bytes());
    connected.until("open", "open");
    let mut connected = connect(Options::default());
    let answer = connected.answer("");
    for byte in format!("HTTP/1.1 100 Continue\r\n\r\n{HINTS}{answer}").into_bytes() {
        connected.server.send(&[byte]);
        connected.rig.turn();
    }
    connected.until("open", "open");
    let mut connected = connect(Options::default());
    let answer = connected.answer("");
    connected.server.send(format!("{}{answer}", HINTS.repeat(16)).as_bytes());
    connected.until("open", "open");
}

#[test]
fn interim_answers_that_are_many_long_or_not_in_order_fail_the_connect() {
    for (interim, text) in [
        (HINTS.repeat(17), "interim answers"),
        (HINTS.replace("</a.css>", &"x".repeat(9_000)).repeat(2), "long"),
        (HINTS.replace("Hints\r\n", "Hints\n"), "CRLF"),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "its answer is 403"),
    ] {
        let mut connected = connect(Options::default());
        let answer = connected.answer("");
        connected.server.send(format!("{interim}{answer}").as_bytes());
        expect_failed(connected, text);
    }
}

#[test]
fn an_answer_that_is_not_in_order_fails_the_connect() {
    let good = |connected: &Connected| connected.answer("");
    for (from, to, text) in [
        ("101 Switching", "403 Switching", "403"),
        ("101 Switching", "200 Switching", "200"),
        ("HTTP/1.1", "HTTP/1.0", "HTTP/1.1"),
        ("websocket", "h2c", "Upgrade"),
        ("Connection: Upgrade", "Connection: close", "Connection"),
        ("Accept: ", "Accept: x", "key"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n", "subprotocol"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "extension"),
        ("Protocols\r\n", "Protocols\n", "CRLF"),
    ] {
        let mut connected = connect(Options::default());
        let answer = good(&connected).replacen(from, to, 1);
        connected.server.send(answer.as_bytes());
        expect_failed(connected, text);
    }
}

#[test]
fn a_server_of_tls_is_named_to_a_plain_client() {
    let mut connected = connect(Options::default());
    connected.server.send(b"\x15\x03\x03\x00\x02\x02\x46"); // an alert: protocol_version
    expect_failed(connected, "it is TLS; encrypt the connection with ConnectOptions::tls");
}

#[test]
fn a_server_that_says_nothing_too_much_or_goes_fails_the_connect() {
    let options = Options::default().handshake_timeout(Duration::from_millis(20));
    expect_failed(connect(options), "TimedOut");
    let mut connected = connect(Options::default());
    connected.server.send("x".repeat(16 << 10).as_bytes());
    expect_failed(connected, "long");
    let mut connected = connect(Options::default());
    connected.server.finish();
    expect_failed(connected, "UnexpectedEof");
    let Connected { mut rig, log, .. } = connect(Options::default());
    let state = Request::new("a.example", "/").with_state(());
    let (_socket, addr) = nobody();
    rig.connect(addr, state, &ConnectOptions::default());
    rig.until("the failure", |_| !log.borrow().is_empty());
    assert!(log.borrow()[0].starts_with("failed ConnectionRefused"), "{log:?}");
}

#[test]
fn a_client_waits_for_the_servers_fin() {
    let mut connected = open(Options::default(), "");
    connected.server.send(&plain(0x88, b"\x03\xe9bye"));
    let (first, _, payload) = connected.frame();
    assert_eq!((first, &payload[..]), (0x88, &b"\x03\xe9"[..]));
    connected.rig.expect_quiet();
    assert_eq!(connected.server.try_read(1), Ok(Vec::new()), "no FIN yet");
    connected.server.finish();
    connected.rig.end_of(connected.id);
    assert_eq!(*connected.log.borrow(), ["open", "end 1001 \"bye\" true 0"]);
}

#[test]
fn a_client_ends_by_itself_if_the_server_does_not() {
    let mut connected = open(Options::default().close_timeout(Duration::from_millis(30)), "");
    connected.server.send(&plain(0x88, b""));
    let (first, _, payload) = connected.frame();
    assert_eq!((first, &payload[..]), (0x88, &b""[..]));
    let end = connected.rig.read_to_end(&mut connected.server);
    assert_eq!(end, (Vec::new(), End::Fin));
}

#[test]
fn a_request_that_cannot_be_written_is_not() {
    let Connected { mut rig, log, server: _server, .. } = connect(Options::default());
    let (listener, addr) = crate::support::listener();
    let request = || Request::new("a.example", "/");
    for (number, (request, culprit)) in [
        (Request::new("a.example", "no path"), "target \"no path\""),
        (Request::new("a.example", "ws://a.example/"), "target \"ws://a.example/\""),
        (Request::new("", "/"), "host \"\""),
        (request().header("Bad Name", "x"), "field \"Bad Name\""),
        (request().header("X-Secret", "a\nb"), "field \"X-Secret\""),
        // A second one, or a body, would make another request of it.
        (request().header("Host", "b.example"), "field \"Host\""),
        (request().header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), "field \"sec-web"),
        (request().header("Connection", "close"), "field \"Connection\""),
        (request().header("Content-Length", "5"), "field \"Content-Length\""),
        (request().header("Transfer-Encoding", "chunked"), "field \"Transfer-Encoding\""),
    ]
    .into_iter()
    .enumerate()
    {
        let id = rig.connect(addr, request.with_state(()), &ConnectOptions::default());
        let mut server = rig.accept_at(&listener);
        rig.end_of(id);
        let log = log.borrow();
        assert!(log[number].starts_with("failed InvalidInput"), "{log:?}");
        assert!(log[number].contains(culprit), "{log:?}");
        server.expect_end(End::Reset);
    }
}

#[test]
fn compressed_messages_go_both_ways() {
    let deflate = Deflate::default().keep_context(true).keep_peer_context(true);
    let options = Options::default().deflate(Some(deflate));
    let mut connected = open(options, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    // "Hello", of RFC 7692; the second refers to the first.
    for body in [&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], b"\xf2\x00\x11\x00\x00"] {
        connected.server.send(&plain(0xc1, body));
        let (first, _, payload) = connected.frame();
        assert_eq!((first, &payload[..]), (0x81, &b"Hello"[..]), "too small to compress");
    }
    let long = "no news is good news, ".repeat(5);
    connected.server.send(&plain(0x81, long.as_bytes()));
    let (first, _, once) = connected.frame();
    assert!(first == 0xc1 && once.len() < 40, "{} bytes", once.len());
    connected.server.send(&plain(0x81, long.as_bytes()));
    let (first, _, again) = connected.frame();
    assert!(first == 0xc1 && again.len() < once.len(), "{} bytes", again.len());
}

#[test]
fn stats_count() {
    let mut connected = open(Options::default(), "");
    connected.server.send(&plain(0x81, b"x"));
    connected.frame();
    connected.server.send(&plain(0x83, b"x"));
    connected.frame();
    let service = connected.rig.service;
    let stats = std::rc::Rc::new(std::cell::Cell::new(ws::Stats::default()));
    let told = std::rc::Rc::clone(&stats);
    connected.rig.reactor.context().post(service, move |client, _| {
        told.set(client.inner.stats());
    });
    connected.rig.turn();
    let stats = stats.get();
    assert_eq!((stats.opened, stats.messages_received, stats.messages_sent), (1, 1, 1));
    assert_eq!((stats.protocol_errors, stats.too_big), (1, 0));
}

/// Connects, by a policy of `max_attempts`, to a server that has one answer for each connection.
/// Expects that the program is told this first, once the server has given all its answers.
#[track_caller]
fn expect_answered(answers: &'static [&'static str], max_attempts: Option<u32>, told: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let answer = |status: &&'static str| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let good = answer_to(&String::from_utf8(head).unwrap(), "");
            if *status != "gone" {
                stream.write_all(good.replacen("101", status, 1).as_bytes()).unwrap();
            }
            (*status != "gone").then_some(stream)
        };
        answers.iter().map(answer).collect::<Vec<_>>()
    });
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let notes = Notes { log: Rc::clone(&log) };
    let client = reactor.register(Client::new(notes, Options::default()));
    // The pauses are short, and no connection is up for so long that the count begins anew.
    let policy = Reconnect::default()
        .base_delay(Duration::from_millis(1))
        .max_delay(Duration::from_secs(10))
        .max_attempts(max_attempts);
    let options = ConnectOptions::default().reconnect(Some(policy));
    reactor.connect(addr, client, Request::new("a.example", "/").with_state(()), &options);
    while log.borrow().is_empty() {
        reactor.run_once(None).unwrap();
    }
    let log = log.borrow();
    assert!(log.len() == 1 && log[0].starts_with(told), "{log:?}");
    server.join().unwrap(); // all its answers were wanted
    assert_eq!(reactor.stats().connect_retries, answers.len() as u64 - 1);
}

#[test]
fn a_handshake_that_a_busy_server_refuses_is_tried_again() {
    expect_answered(&["503", "gone", "429", "408", "101"], None, "open");
}

#[test]
fn a_handshake_that_is_refused_for_good_is_not_tried_again() {
    let told = "failed ConnectionRefused the server refused the handshake: its answer is ";
    expect_answered(&["503", "403"], None, &format!("{told}403"));
    expect_answered(&["404"], None, &format!("{told}404"));
    expect_answered(&["503", "502"], Some(2), &format!("{told}502"));
}

/// A client by this policy, connecting to a listener that accepts and says nothing.
fn unanswered(
    options: Options,
    connect: ConnectOptions,
    request: Request,
) -> (Reactor, Log, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let client = reactor.register(Client::new(Notes { log: Rc::clone(&log) }, options));
    let addr = listener.local_addr().unwrap();
    reactor.connect(addr, client, request.with_state(()), &connect);
    (reactor, log, listener)
}

#[test]
fn a_handshake_without_an_answer_does_not_count_as_a_connection_that_has_lasted() {
    let policy = Reconnect::default()
        .base_delay(Duration::from_millis(1))
        .max_delay(Duration::from_millis(2))
        .max_attempts(Some(2));
    // Each connection is up for longer than `max_delay`.
    let options = Options::default().handshake_timeout(Duration::from_millis(20));
    let connect = ConnectOptions::default().reconnect(Some(policy));
    let request = Request::new("a.example", "/");
    let (mut reactor, log, _listener) = unanswered(options, connect, request);
    while log.borrow().is_empty() {
        reactor.run_once(None).unwrap();
        assert!(reactor.stats().connected <= 2, "it tries more often than it may");
    }
    let log = log.borrow();
    assert!(log.len() == 1 && log[0].starts_with("failed TimedOut"), "{log:?}");
    assert_eq!((reactor.stats().connected, reactor.stats().connect_retries), (2, 1));
}

#[test]
fn a_handshake_that_this_sides_limits_end_is_not_tried_again() {
    let policy = Reconnect::default().base_delay(Duration::from_millis(1));
    let limits = Limits::default().max_output_bytes(4_000).high_mark_bytes(4_000);
    let limits = limits.low_mark_bytes(1_000);
    let connect = ConnectOptions::default().reconnect(Some(policy)).limits(limits);
    let request = Request::new("a.example", "/").header("Cookie", &"x".repeat(5_000));
    let (mut reactor, log, _listener) = unanswered(Options::default(), connect, request);
    while log.borrow().is_empty() {
        reactor.run_once(None).unwrap();
    }
    let log = log.borrow();
    assert!(log.len() == 1 && log[0].contains("a buffer cap was exceeded"), "{log:?}");
    assert_eq!((reactor.stats().connected, reactor.stats().connect_retries), (1, 0));
}
