//! Streams of events.

use std::sync::mpsc;
use std::time::Duration;

use waterwheel::http::{Event, Options, ReplyId, Router, Server};

use crate::web::{Client, Web};

const PATIENCE: Duration = Duration::from_secs(10);

type Pages = Vec<ReplyId>;

fn web(heartbeat: Option<Duration>) -> (Web, mpsc::Receiver<ReplyId>) {
    let (sender, gone) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new()
            .get("/events", move |pages: &mut Pages, req, res| {
                let last = req.header("last-event-id").unwrap_or("none").to_owned();
                pages.push(res.events(heartbeat));
                res.send_event(&Event::new(&last).id("1"));
            })
            .get("/tell/{text}", |pages: &mut Pages, req, res| {
                let event = Event::new(req.param("text")).name("told");
                pages.retain(|id| res.answer(*id, |res| res.send_event(&event)).is_some());
                res.text(&pages.len().to_string());
            });
        Server::new(Vec::new(), routes).on_gone(move |_, id| sender.send(id).unwrap())
    });
    (web, gone)
}

#[track_caller]
fn page(web: &Web, last: &str) -> Client {
    let mut client = web.client();
    client.send(format!("GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {last}\r\n\r\n"));
    let head = client.head();
    assert!(head.contains("Content-Type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-cache\r\n"), "{head}");
    expect(&mut client, &format!("id: 1\ndata: {last}\n\n"));
    client
}

#[track_caller]
fn expect(client: &mut Client, text: &str) {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    assert_eq!(String::from_utf8(client.take(chunk.len())).unwrap(), chunk);
}

#[test]
fn pages_get_what_happens_and_those_that_go_are_noticed() {
    let (web, gone) = web(None);
    let (mut first, mut second) = (page(&web, "0"), page(&web, "7"));
    let mut teller = web.client();
    teller.get("/tell/a").expect(200, "2");
    for page in [&mut first, &mut second] {
        expect(page, "event: told\ndata: a\n\n");
    }
    drop(first);
    gone.recv_timeout(PATIENCE).unwrap();
    teller.get("/tell/b").expect(200, "1");
    expect(&mut second, "event: told\ndata: b\n\n");
    assert!(gone.try_recv().is_err());
}

#[test]
fn a_stream_says_that_it_lives() {
    let (web, _) = web(Some(Duration::from_millis(50)));
    let mut page = page(&web, "0");
    for _ in 0..3 {
        expect(&mut page, ":\n\n");
    }
    web.client().get("/tell/a").expect(200, "1");
}

#[test]
fn a_drain_ends_a_stream_whole() {
    let (web, _) = web(None);
    let mut page = page(&web, "0");
    web.remote.drain(PATIENCE).unwrap();
    assert_eq!(page.take(5), b"0\r\n\r\n");
    page.finish();
    page.expect_end();
}

/// A page may have asked for more meanwhile, or have begun to.
#[test]
fn a_drain_serves_what_stands_behind_a_stream_of_events() {
    let request = "GET /tell/a HTTP/1.1\r\nHost: x\r\n\r\n";
    for sent in [request.len(), 10, 0] {
        let (web, _) = web(None);
        let mut page = page(&web, "0");
        page.send(&request[..sent]);
        web.client().get("/tell/b").expect(200, "1"); // by now that was read
        expect(&mut page, "event: told\ndata: b\n\n");
        web.remote.drain(10 * PATIENCE).unwrap();
        assert_eq!(page.take(5), b"0\r\n\r\n");
        if sent > 0 {
            page.send(&request[sent..]);
            let answer = page.answer().expect(200, "0");
            assert_eq!(answer.field("connection"), Some("close"));
        }
        page.expect_end();
    }
}

/// It begins when the drain was told already.
#[test]
fn a_stream_of_events_that_begins_while_the_reactor_drains_ends_whole() {
    let (web, _) = web(None);
    let mut page = page(&web, "0");
    page.send("GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 7\r\n\r\n");
    web.client().get("/tell/b").expect(200, "1"); // by now that was read
    expect(&mut page, "event: told\ndata: b\n\n");
    web.remote.drain(10 * PATIENCE).unwrap();
    assert_eq!(page.take(5), b"0\r\n\r\n");
    assert!(page.head().contains("Connection: close\r\n"));
    expect(&mut page, "id: 1\ndata: 7\n\n");
    assert_eq!(page.take(5), b"0\r\n\r\n");
    page.expect_end();
}

/// It would never be over, and nothing would show that its client has gone.
#[test]
fn the_answer_to_head_is_over_with_its_head() {
    let (web, _) = web(Some(Duration::from_secs(60)));
    let mut client = web.client();
    client.send("HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.head().contains("Content-Type: text/event-stream\r\n"));
    client.get("/tell/a").expect(200, "0");
}

#[test]
fn behind_a_stream_that_has_ended_a_client_may_be_idle_as_long_as_behind_any_answer() {
    let web = Web::serve(|| {
        let routes = Router::new().get("/short", |_, _, res| {
            res.events(Some(Duration::from_secs(3_600)));
            res.end();
        });
        let options = Options::default().keep_alive_timeout(Duration::from_millis(50));
        Server::new((), routes).with_options(options)
    });
    let mut client = web.client();
    client.send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n");
    client.head();
    assert_eq!(client.take(5), b"0\r\n\r\n");
    client.expect_end();
}

/// The next heartbeat may be further than the client may be idle.
#[test]
fn an_answer_that_is_no_stream_has_no_heartbeat() {
    const LONG: Option<Duration> = Some(Duration::from_secs(3_600));
    let web = Web::serve(|| {
        let routes = Router::new()
            .get("/second", |_, _, res| {
                res.text("first");
                res.events(LONG);
            })
            .get("/failed", |_, _, res| {
                res.header("X", "a\nb").events(LONG);
            });
        let options = Options::default().keep_alive_timeout(Duration::from_millis(50));
        Server::new((), routes).with_options(options)
    });
    for (path, status) in [("/second", 200), ("/failed", 500)] {
        let mut client = web.client();
        assert_eq!(client.get(path).status, status);
        client.expect_end();
    }
}
