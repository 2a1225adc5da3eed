//! The page, by a client that says exactly what it says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use waterwheel::inspect::{Page, Recorder, serve, serve_recorder};
use waterwheel::{ListenOptions, Reactor};

use super::json::Json;
use super::rig::{Echo, Rig, STALL};

/// A rig that is shown.
pub(super) fn shown() -> (Rig, Page) {
    let mut reactor = Reactor::new().unwrap();
    let echo = reactor.register(Echo);
    let addr = reactor.listen("127.0.0.1:0", echo, ListenOptions::default()).unwrap();
    let page = serve(&mut reactor, "127.0.0.1:0").unwrap();
    (Rig { reactor, recorder: page.recorder(), echo, addr }, page)
}

fn token(page: &Page) -> String {
    page.url().split_once("token=").expect("it has a token").1.to_owned()
}

/// The fields of a page that may look.
pub(super) fn fields(page: &Page) -> String {
    let port = page.addr().port();
    format!("Host: {}\r\nCookie: a=b; waterwheel-{port}={}\r\n", page.addr(), token(page))
}

/// A client that has sent a request.
pub(super) fn ask(addr: SocketAddr, path: &str, fields: &str) -> TcpStream {
    let mut client = TcpStream::connect(addr).unwrap();
    write!(client, "GET {path} HTTP/1.1\r\n{fields}\r\n").unwrap();
    client.set_nonblocking(true).unwrap();
    client
}

/// What comes back until `done`.
#[track_caller]
fn read_until(rig: &mut Rig, client: &mut TcpStream, done: impl Fn(&str) -> bool) -> String {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    rig.until("the answer", |_| {
        if let Ok(count) = client.read(&mut piece) {
            bytes.extend_from_slice(&piece[..count]);
        }
        done(&String::from_utf8_lossy(&bytes))
    });
    String::from_utf8(bytes).unwrap()
}

/// The whole answer to a request, after which the connection is closed.
#[track_caller]
fn answer(rig: &mut Rig, page: &Page, path: &str, fields: &str) -> String {
    let fields = format!("{fields}Connection: close\r\n");
    let mut client = ask(page.addr(), path, &fields);
    let mut text = String::new();
    rig.until("the answer", |_| match client.read_to_string(&mut text) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    });
    text
}

#[track_caller]
pub(super) fn expect_status(
    rig: &mut Rig,
    page: &Page,
    path: &str,
    fields: &str,
    status: u16,
) -> String {
    let text = answer(rig, page, path, fields);
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {fields}: {text}");
    text
}

/// Waits for a view in which this is so.
#[track_caller]
pub(super) fn view(rig: &mut Rig, stream: &mut TcpStream, is_it: impl Fn(&Json) -> bool) -> Json {
    let last = |text: &str| {
        let (_, line) = text[..text.rfind("\n\n")?].rsplit_once("data: ")?;
        Some(Json::parse(line))
    };
    let text = read_until(rig, stream, |text| last(text).is_some_and(|view| is_it(&view)));
    last(&text).expect("it was there")
}

#[test]
fn the_printed_address_leads_to_the_page_and_the_token_leaves_it() {
    let (mut rig, page) = shown();
    let (host, token) = (format!("Host: {}\r\n", page.addr()), token(&page));
    let text = expect_status(&mut rig, &page, &format!("/?token={token}"), &host, 303);
    assert!(text.contains("\r\nLocation: /\r\n"), "{text}");
    let cookie =
        format!("waterwheel-{}={token}; Path=/; HttpOnly; SameSite=Strict", page.addr().port());
    assert!(text.contains(&format!("\r\nSet-Cookie: {cookie}\r\n")), "{text}");
    let text = expect_status(&mut rig, &page, "/", &fields(&page), 200);
    for field in [
        "Content-Security-Policy: default-src 'none'; ",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
    ] {
        assert!(text.contains(&format!("\r\n{field}")), "{field}: {text}");
    }
    assert!(text.contains("<title>waterwheel"), "{text}");
    for path in ["/page.css", "/page.js", "/lanes.js"] {
        expect_status(&mut rig, &page, path, &fields(&page), 200);
    }
    for text in ["https://", "src=\"//", "@import"] {
        let page = include_str!("../../src/inspect/page/index.html");
        assert!(!page.contains(text), "it loads nothing from elsewhere");
    }
}

#[test]
fn who_has_no_token_or_comes_from_elsewhere_is_refused() {
    let (mut rig, page) = shown();
    let (good, host) = (fields(&page), format!("Host: {}\r\n", page.addr()));
    let port = page.addr().port();
    let other = format!("{host}Cookie: waterwheel-{port}={}\r\n", "0".repeat(32));
    for path in ["/", "/events", "/page.js", "/trace.json", "/nothing"] {
        expect_status(&mut rig, &page, path, &host, 403);
        expect_status(&mut rig, &page, path, &other, 403);
    }
    expect_status(&mut rig, &page, &format!("/?token={}", "0".repeat(32)), &host, 403);
    let query = format!("/events?token={}", token(&page));
    expect_status(&mut rig, &page, &query, &host, 403);
    for name in ["localhost", "evil.example", "10.0.0.1"] {
        let fields = good.replace("127.0.0.1", name);
        expect_status(&mut rig, &page, "/", &fields, 403);
        let first = format!("Host: {name}:{port}\r\n");
        expect_status(&mut rig, &page, &format!("/?token={}", token(&page)), &first, 403);
    }
    for field in [
        "Origin: http://evil.example",
        "Origin: http://127.0.0.1:1",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        expect_status(&mut rig, &page, "/trace.json", &format!("{good}{field}\r\n"), 403);
    }
    let own = format!("{good}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", page.addr());
    expect_status(&mut rig, &page, "/trace.json", &own, 200);
    expect_status(&mut rig, &page, "/nothing", &good, 404);
}

#[test]
fn only_loopback_is_listened_on() {
    let mut reactor = Reactor::new().unwrap();
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7100"] {
        let error = serve(&mut reactor, addr).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
    let (one, two) = (serve(&mut reactor, "127.0.0.1:0"), serve(&mut reactor, "127.0.0.1:0"));
    assert_ne!(token(&one.unwrap()), token(&two.unwrap()));
}

#[test]
fn the_stream_has_the_numbers_of_the_reactor_and_nothing_of_the_page() {
    let (mut rig, page) = shown();
    let mut stream = ask(page.addr(), "/events", &fields(&page));
    let mut client = rig.client();
    for _ in 0..100 {
        rig.echo(&mut client, b"hello");
    }
    let is_it = |view: &Json| view.at(&["read"]).whole() == 500;
    let seen = view(&mut rig, &mut stream, is_it);
    let number = |name| seen.at(&[name]).whole();
    assert_eq!([number("written"), number("connections"), number("opened")], [500, 1, 1]);
    let conn = seen.at(&["conns"]).list()[0].list();
    assert_eq!([conn[2].whole(), conn[4].whole(), conn[5].whole()], [0, 500, 500]);
    let handlers = seen.at(&["handlers"]).list();
    assert_eq!(handlers[0].list()[0], Json::Text("http::inspect::rig::Echo".to_owned()));
    assert_eq!(handlers[1..], [Json::Null, Json::Null], "those of the page are left out");
    assert_eq!(handlers[0].list()[1].whole(), number("callbacks"));
    let sum = |name| seen.at(&[name]).list().iter().map(Json::whole).sum::<u64>();
    assert_eq!([sum("callback_hist"), sum("turn_hist")], [number("callbacks"), number("turns")]);
    let timers = seen.at(&["loop", "timers"]).whole();
    assert!(timers >= 1, "the timer of the page is in the wheel: {timers}");
    let slots = seen.at(&["loop", "wheel"]).list().iter();
    let entries: u64 = slots.map(|slot| slot.list()[2].whole()).sum();
    assert!(entries >= timers, "{entries} entries, {timers} timers");
    let spans = seen.at(&["spans"]).list();
    let callbacks = spans.iter().filter(|span| span.list()[2].whole() == 2);
    let names: Vec<_> = callbacks.map(|span| span.list()[3].clone()).collect();
    let name = Json::Text("http::inspect::rig::Echo on_data".to_owned());
    assert!(names.contains(&name), "{names:?}");
    assert!(number("turns") < rig.reactor.stats().turns, "its own turns are left out too");
}

#[cfg(feature = "proxy-protocol")]
mod refused {
    use waterwheel::proxy_protocol::ProxyProtocol;
    use waterwheel::{Conn, Handler, Peer};

    use super::super::rig::PATIENCE;
    use super::*;

    /// Accepts nobody.
    struct Closed;

    impl Handler for Closed {
        type State = ();

        fn on_accept(&mut self, _: &Peer) -> Option<()> {
            None
        }

        fn on_refuse(&mut self, _: &Peer) -> &[u8] {
            b"closed"
        }

        fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, _: &[u8]) -> usize {
            unreachable!("nobody is accepted")
        }
    }

    #[test]
    fn who_is_refused_before_the_accept_is_no_connection() {
        let (mut rig, page) = shown();
        let proxies = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap();
        let options = ListenOptions::default().proxy_protocol(Some(proxies));
        let closed = rig.reactor.register(Closed);
        let addr = rig.reactor.listen("127.0.0.1:0", closed, options).unwrap();
        let mut stream = ask(page.addr(), "/events", &fields(&page));
        // No header; a header and no more; a header of which the end is missing.
        let inputs = ["hello\r\n", "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", "PROXY TCP4 192."];
        for (refused, input) in (1..).zip(inputs) {
            let mut client = TcpStream::connect(addr).unwrap();
            client.write_all(input.as_bytes()).unwrap();
            drop(client);
            rig.until("refused", |rig| rig.reactor.stats().refused == refused);
        }
        let bytes = inputs.iter().map(|input| input.len() as u64).sum();
        let seen = view(&mut rig, &mut stream, |view| view.at(&["read"]).whole() == bytes);
        let number = |name| seen.at(&[name]).whole();
        assert_eq!([number("written"), number("connections")], [6, 0]);
        for list in [seen.at(&["conns"]), seen.at(&["lanes", "shown"])] {
            assert!(list.list().is_empty(), "{list:?}");
        }
        let trace = rig.recorder().recording(PATIENCE).to_trace();
        let is_of = |line: &&str| ["\"read\"", "\"written\""].iter().any(|it| line.contains(it));
        let moved: Vec<_> = trace.lines().filter(is_of).collect();
        assert_eq!(moved.len(), 4, "three reads, and the words to one: {moved:?}");
        assert!(!moved.iter().any(|line| line.contains("conn")), "{moved:?}");
    }
}

/// Is told of callbacks before there is a recorder.
struct Other;

impl waterwheel::observer::Observer for Other {}

#[test]
fn callbacks_are_those_since_the_recorder_came_and_of_those_that_are_shown() {
    let mut reactor = Reactor::new().unwrap();
    reactor.observe(Other);
    let (echo, quiet) = (reactor.register(Echo), reactor.register(Echo));
    let [addr, hidden] = [echo, quiet]
        .map(|key| reactor.listen("127.0.0.1:0", key, ListenOptions::default()).unwrap());
    // No page yet, so that no recorder knows of these.
    let client = TcpStream::connect(addr).unwrap();
    while reactor.stats().accepted < 1 {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
    }
    let page = serve(&mut reactor, "127.0.0.1:0").unwrap();
    let mut rig = Rig { reactor, recorder: page.recorder(), echo, addr };
    rig.recorder().ignore(quiet);
    drop(client);
    let mut stream = ask(page.addr(), "/events", &fields(&page));
    let mut ignored = TcpStream::connect(hidden).unwrap();
    rig.until("accepted", |rig| rig.reactor.stats().accepted >= 3);
    let mut client = rig.client();
    for _ in 0..5 {
        rig.echo(&mut ignored, b"unseen");
        rig.echo(&mut client, b"hello");
    }
    // Of the first one its end and its close; of the second one its accept, its open and five.
    let is_it = |view: &Json| view.at(&["read"]).whole() == 25;
    let seen = view(&mut rig, &mut stream, is_it);
    assert_eq!(seen.at(&["callbacks"]).whole(), 9);
    let bars = seen.at(&["callback_hist"]).list().iter().map(Json::whole).sum::<u64>();
    assert_eq!(bars, 9);
    assert_eq!(seen.at(&["handlers"]).list()[0].list()[1].whole(), 9);
}

#[test]
fn a_stall_is_on_the_page_within_a_second() {
    let (mut rig, page) = shown();
    let mut client = rig.client();
    rig.echo(&mut client, b"stall before a page watches");
    let mut stream = ask(page.addr(), "/events", &fields(&page));
    let text = read_until(&mut rig, &mut stream, |text| text.contains("\n\n"));
    let (_, first) = text.split_once("data: ").expect("a view");
    let first = Json::parse(first.lines().next().unwrap());
    assert_eq!(first.at(&["peak_turn_ns"]).whole(), 0, "peaks are of the time that is watched");
    rig.echo(&mut client, b"stall");
    let begun = rig.reactor.context().now();
    let is_it = |view: &Json| {
        let warnings = view.at(&["warnings"]).list();
        warnings.iter().any(|it| it.at(&["count"]).whole() >= 2)
    };
    let seen = view(&mut rig, &mut stream, is_it);
    assert!(rig.reactor.context().now() - begun < Duration::from_secs(1));
    assert!(seen.at(&["peak_turn_ns"]).whole() as u128 >= STALL.as_nanos(), "the longest turn");
    let warning = &seen.at(&["warnings"]).list()[0];
    assert_eq!(*warning.at(&["kind"]), Json::Text("loop held".to_owned()));
}

#[test]
fn four_may_watch_and_nothing_is_done_when_none_does() {
    let (mut rig, page) = shown();
    let mut streams: Vec<_> = (0..4).map(|_| ask(page.addr(), "/events", &fields(&page))).collect();
    for stream in &mut streams {
        view(&mut rig, stream, |_| true);
    }
    expect_status(&mut rig, &page, "/events", &fields(&page), 503);
    streams.truncate(3);
    rig.until("a place", |rig| rig.reactor.stats().connections == 3);
    let mut fourth = ask(page.addr(), "/events", &fields(&page));
    view(&mut rig, &mut fourth, |_| true);
    drop((streams, fourth));
    rig.until("all are gone", |rig| rig.reactor.stats().connections == 0);
    // The tick that finds nobody is the last one.
    rig.until("the last tick", |rig| rig.reactor.context().loop_state().timers == 0);
    let fired = rig.reactor.stats().timers_fired;
    let until = rig.reactor.context().now() + Duration::from_millis(600);
    rig.until("time has passed", |rig| rig.reactor.context().now() > until);
    assert_eq!(rig.reactor.stats().timers_fired, fired);
}

#[test]
fn a_trace_comes_whole_also_when_it_is_long() {
    let mut reactor = Reactor::new().unwrap();
    let echo = reactor.register(Echo);
    let addr = reactor.listen("127.0.0.1:0", echo, ListenOptions::default()).unwrap();
    let page = serve_recorder(&mut reactor, "127.0.0.1:0", Recorder::new()).unwrap();
    let mut rig = Rig { reactor, recorder: page.recorder(), echo, addr };
    let mut client = rig.client();
    for _ in 0..2_000 {
        rig.echo(&mut client, b"hello");
    }
    let text = expect_status(&mut rig, &page, "/trace.json", &fields(&page), 200);
    let (_, mut rest) = text.split_once("\r\n\r\n").expect("a body");
    let (mut body, mut pieces) = (String::new(), 0);
    while let Some((length, behind)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        body.push_str(&behind[..length]);
        rest = &behind[length + 2..];
        pieces += 1;
    }
    let events = Json::parse(&body);
    assert!(events.at(&["traceEvents"]).list().len() > 8_000);
    assert!(pieces > 8, "it came in {pieces} pieces, between which others had their turn");
}
