//! Row 56: clients that are slow. Shorter clocks than the defaults, which are the same code.

use std::time::{Duration, Instant};

use waterwheel::http::{self, Body, Flow, Options, Response, Route, Router, Server};
use waterwheel::{ListenOptions, MinRate};

use crate::routes;
use crate::web::{Client, Web};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

fn web(options: Options) -> Web {
    Web::serve(move || Server::new((), routes()).with_options(options))
}

fn patient() -> Options {
    Options::default()
        .first_byte_timeout(LONG)
        .head_timeout(LONG)
        .keep_alive_timeout(LONG)
        .min_body_rate(None)
}

/// That the end comes after the clock, and says this.
#[track_caller]
fn ends(began: Instant, rest: &str, wanted: &str) {
    let passed = began.elapsed();
    assert!(passed >= SHORT && passed < SHORT * 20, "{passed:?}");
    assert!(rest.starts_with(wanted) && rest.is_empty() == wanted.is_empty(), "{rest}");
}

/// That no answer comes for longer than the clock runs.
#[track_caller]
fn expect_nothing(client: &Client) {
    client.stream.set_read_timeout(Some(3 * SHORT)).unwrap();
    assert!(client.stream.peek(&mut [0; 1]).is_err(), "an answer to nothing");
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
}

#[test]
fn row_56_no_first_byte() {
    let web = web(patient().first_byte_timeout(SHORT));
    let began = Instant::now();
    ends(began, &web.client().rest(), "");
    // An empty line is no request.
    let mut client = web.client();
    client.get("/").expect(200, "root");
}

#[test]
fn row_56_a_slow_head_is_answered_408() {
    let web = web(patient().head_timeout(SHORT));
    for is_first in [true, false] {
        let mut client = web.client();
        if !is_first {
            client.get("/").expect(200, "root");
        }
        let began = Instant::now();
        client.send("GET / HTTP/1.1\r\n");
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
        ends(began, &client.rest(), "");
    }
}

#[test]
fn row_56_a_head_that_trickles_has_no_more_time() {
    let web = web(patient().head_timeout(SHORT));
    let mut client = web.client();
    let began = Instant::now();
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut byte = [0; 1];
    client.send("GET / HTTP/1.1\r\nA: ");
    while client.stream.peek(&mut byte).is_err() {
        client.send("a");
        assert!(began.elapsed() < SHORT * 20);
    }
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ends(began, &client.rest(), "HTTP/1.1 408 ");
}

#[test]
fn an_empty_line_behind_a_body_begins_no_request() {
    let web = web(patient().head_timeout(SHORT));
    let mut client = web.client();
    client.ask("POST /len HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi\r\n").expect(200, "2");
    expect_nothing(&client);
    client.get("/").expect(200, "root");
}

#[test]
fn an_empty_line_that_is_cut_begins_no_request() {
    let web = web(patient().head_timeout(SHORT));
    let mut client = web.client();
    for _ in 0..2 {
        client.send("\r");
        expect_nothing(&client);
        client.send("\n");
        client.get("/").expect(200, "root");
    }
    // A request that begins behind it has its time from then on.
    client.send("\r");
    expect_nothing(&client);
    let began = Instant::now();
    client.send("\nGET / HTTP/1.1\r\n");
    ends(began, &client.rest(), "HTTP/1.1 408 ");
}

#[test]
fn a_connection_is_kept_so_long() {
    let web = web(patient().keep_alive_timeout(SHORT));
    let mut client = web.client();
    for _ in 0..2 {
        client.get("/").expect(200, "root");
    }
    let began = Instant::now();
    ends(began, &client.rest(), "");
}

#[test]
fn row_56_a_slow_body_is_answered_408() {
    let web = web(patient().min_body_rate(Some(MinRate::new(1_000, SHORT))));
    let mut client = web.client();
    let began = Instant::now();
    client.send("POST /len HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
    ends(began, &client.rest(), "");
    // One that is fast enough may take longer than the grace.
    let mut client = web.client();
    client.send("POST /len HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n");
    let began = Instant::now();
    let mut sent = 0;
    while sent < 10_000 {
        let due = (began.elapsed().as_millis() as usize * 10).min(10_000);
        client.send(vec![b'x'; due - sent]);
        sent = due;
        std::thread::yield_now();
    }
    client.answer().expect(200, "10000");
}

#[test]
fn an_answer_that_is_due_has_no_clock() {
    let options = Options::default()
        .first_byte_timeout(SHORT)
        .head_timeout(SHORT)
        .keep_alive_timeout(SHORT)
        .min_body_rate(Some(MinRate::new(1_000_000, SHORT)));
    let (sender, ids) = std::sync::mpsc::channel();
    let web = Web::serve(move || {
        let routes = waterwheel::http::Router::new().post(
            "/",
            move |(), _, res: &mut waterwheel::http::Response<'_, ()>| {
                sender.send((res.later(), res.server())).unwrap();
            },
        );
        Server::new((), routes).with_options(options)
    });
    let mut client = web.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    let (id, key) = ids.recv_timeout(Duration::from_secs(10)).unwrap();
    // The body is not asked for: the client owes nothing either.
    let mut byte = [0; 1];
    client.stream.set_read_timeout(Some(4 * SHORT + SHORT / 2)).unwrap();
    assert!(client.stream.peek(&mut byte).is_err());
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let began = Instant::now();
    client.send("cd");
    web.answer((id, key), move |(), res| {
        res.collect(10, |(), body, res| res.text(&String::from_utf8_lossy(body)));
    });
    client.answer().expect(200, "abcd");
    // The next request has its whole time, however late the answer was.
    ends(began, &client.rest(), "");
}

/// More than the buffers of the kernel take, and less than a connection may hold.
const LARGE: usize = 12 << 20;

/// Sends each piece back as it comes, behind a first piece of its own.
struct Echo {
    first: Vec<u8>,
}

impl Body<()> for Echo {
    fn on_chunk(&mut self, (): &mut (), chunk: &[u8], res: &mut Response<'_, ()>) -> Flow {
        if res.is_unanswered() {
            res.stream(None);
            res.write(&self.first);
        }
        res.write(chunk);
        Flow::More
    }

    fn on_end(&mut self, (): &mut (), res: &mut Response<'_, ()>) {
        res.end();
    }
}

/// A server of that, with a minimum rate that a client must keep whose body is read.
fn echoing(grace: Duration) -> Web {
    let limits = ListenOptions::default().limits(http::limits().min_send_rate(None));
    Web::serve_with(limits, move || {
        let echo = |first: usize| {
            let receive = move |(): &mut (), _: &http::Request<'_>, res: &mut Response<'_, ()>| {
                res.receive(Echo { first: vec![b'y'; first] });
            };
            Route::new().post(receive).max_body_bytes(1 << 30)
        };
        let routes = Router::new().route("/", echo(0)).route("/large", echo(LARGE));
        let options = patient().min_body_rate(Some(MinRate::new(1_000, grace)));
        Server::new((), routes).with_options(options)
    })
}

/// The clock of a body passes so often, for clients that begin now.
#[track_caller]
fn pass(web: &Web, times: usize) {
    for _ in 0..times {
        let mut slow = web.client();
        slow.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(slow.answer().status, 408);
    }
}

#[test]
fn a_body_that_is_not_read_above_the_high_mark_has_no_clock() {
    const TOTAL: usize = 32 << 20;
    let web = echoing(SHORT);
    let mut client = web.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {TOTAL}\r\n\r\n"));
    let mut stream = client.stream.try_clone().unwrap();
    let writer =
        std::thread::spawn(move || std::io::Write::write_all(&mut stream, &vec![b'x'; TOTAL]));
    // The client reads nothing meanwhile, and the server reads no more than the kernel takes.
    pass(&web, 4);
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.len()), (200, TOTAL));
    writer.join().unwrap().unwrap();
}

#[test]
fn a_body_has_its_whole_time_once_it_is_read_again() {
    const GRACE: Duration = Duration::from_secs(1); // much more than it takes to read the answer
    // The second server shows when the clock of the first has half passed, for the second time.
    let (web, other) = (echoing(GRACE), echoing(GRACE * 3 / 2));
    let mut client = web.client();
    client.send("POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\na");
    pass(&other, 1);
    let began = Instant::now(); // from now on the output falls to the low mark
    assert!(client.take(LARGE).starts_with(b"HTTP/1.1 200 "));
    client.expect_reset();
    let passed = began.elapsed();
    // The loop counts in milliseconds.
    assert!(passed + Duration::from_millis(2) >= GRACE, "reset after {passed:?}");
}
