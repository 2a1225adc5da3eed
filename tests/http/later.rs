//! Answers that come later.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use waterwheel::http::{Options, ReplyId, Response, Router, Server, Upgraded};
use waterwheel::{Conn, Context, HandlerKey, MinRate, Timer};

use crate::web::Web;

type Waiting = Vec<ReplyId>;
type Ids = mpsc::Receiver<(ReplyId, HandlerKey<Server<Waiting>>)>;

const PATIENCE: Duration = Duration::from_secs(10);

fn web() -> (Web, Ids, mpsc::Receiver<ReplyId>) {
    let (sender, ids) = mpsc::channel();
    let (gone_sender, gone) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new()
            .get("/later", move |_: &mut Waiting, _, res| {
                let id = res.header("X-Early", "1").later();
                sender.send((id, res.server())).unwrap();
            })
            .get("/wait", |waiting: &mut Waiting, _, res| waiting.push(res.later()))
            .get("/wake", |waiting: &mut Waiting, _, res| {
                let mut count = 0;
                for id in std::mem::take(waiting) {
                    count += usize::from(res.answer(id, |res| res.text("woken")).is_some());
                }
                res.header("X-Own", "1").text(&count.to_string());
            })
            .get("/wake/large", |waiting: &mut Waiting, _, res| {
                let large = vec![b'x'; 1 << 20];
                for id in std::mem::take(waiting) {
                    res.answer(id, |res| res.bytes("x/y", &large));
                }
                res.text("large");
            })
            .get("/now", |_, _, res| res.text("now"));
        Server::new(Vec::new(), routes).on_gone(move |_, id| gone_sender.send(id).unwrap())
    });
    (web, ids, gone)
}

#[test]
fn an_answer_comes_from_another_thread() {
    let (web, ids, gone) = web();
    let mut client = web.client();
    // What stands behind waits for it.
    client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\nHost: x\r\n\r\n");
    let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
    let remote = web.remote.clone();
    let (sender, found) = mpsc::channel();
    thread::spawn(move || {
        for _ in 0..2 {
            let sender = sender.clone();
            remote
                .with(key, move |server, cx| {
                    let answer = server.answer(cx, id, |_, res| res.text("later"));
                    sender.send(answer.is_some()).unwrap();
                })
                .unwrap();
        }
    });
    let answer = client.answer().expect(200, "later");
    assert_eq!(answer.field("x-early"), Some("1"));
    client.answer().expect(200, "now");
    // The second answer finds nothing.
    assert_eq!((found.recv_timeout(PATIENCE), found.recv_timeout(PATIENCE)), (Ok(true), Ok(false)));
    drop(client);
    assert!(gone.try_recv().is_err());
}

#[test]
fn an_answer_comes_from_the_handler_of_another_request() {
    let (web, _, _) = web();
    let mut waiting: Vec<_> = (0..5).map(|_| web.client()).collect();
    for client in &mut waiting {
        client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    drop(waiting.pop()); // it waits no more
    let mut waker = web.client();
    let mut woken = 0;
    while woken < 4 {
        let answer = waker.get("/wake");
        assert_eq!(answer.field("x-own"), Some("1"));
        woken += answer.text().parse::<u32>().unwrap();
    }
    for client in &mut waiting {
        let answer = client.answer().expect(200, "woken");
        assert_eq!(answer.field("x-own"), None, "fields of another answer");
        client.answer().expect(200, "now");
        client.expect_alive();
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// A request that is held runs within a call for its connection, and finds the others all the same.
#[test]
fn an_answer_comes_from_the_handler_of_a_request_that_was_held() {
    let (web, ids, _) = web();
    let mut waiting = web.client();
    let mut waker = web.client();
    waiting.send(get("/wait"));
    let mut woken = 0;
    for _ in 0..100 {
        waker.send(get("/now").repeat(128) + &get("/wake")); // more than one callback may begin
        for _ in 0..128 {
            waker.answer().expect(200, "now");
        }
        woken += waker.answer().text().parse::<u32>().unwrap();
        if woken > 0 {
            break;
        }
    }
    assert_eq!(woken, 1, "behind the budget of a callback");
    waiting.answer().expect(200, "woken");

    waiting.send(get("/now") + &get("/wait"));
    waiting.answer().expect(200, "now"); // and what stood in the same read was served with it
    waker.send(get("/later") + &get("/wake"));
    let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
    web.remote
        .with(key, move |server, cx| server.answer(cx, id, |_, res| res.text("later")).unwrap())
        .unwrap();
    waker.answer().expect(200, "later");
    waker.answer().expect(200, "1");
    waiting.answer().expect(200, "woken");
}

#[test]
fn a_client_that_goes_is_told_of_once_and_its_id_is_stale() {
    let (web, ids, gone) = web();
    let mut client = web.client();
    client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(id));
    let (sender, found) = mpsc::channel();
    web.remote
        .with(key, move |server, cx| {
            sender.send(server.answer(cx, id, |_, _| ()).is_some()).unwrap();
        })
        .unwrap();
    assert_eq!(found.recv_timeout(PATIENCE), Ok(false));
    assert!(gone.try_recv().is_err());
}

/// The server itself ends such an exchange: its request does not become whole.
#[test]
fn a_later_answer_to_a_request_that_is_cut_is_told_of_as_gone() {
    let cut = ["Content-Length: 3\r\n\r\na"];
    let malformed = ["Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "nonsense\r\n"];
    let at_once = ["Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nnonsense\r\n"];
    let slow = Some(MinRate::new(1_000, Duration::from_millis(200)));
    for (path, parts, rate, answer) in [
        ("/", &cut[..], None, ""),
        ("/", &malformed[..], None, "HTTP/1.1 400 "),
        ("/", &at_once[..], None, "HTTP/1.1 400 "),
        ("/", &cut[..], slow, "HTTP/1.1 408 "),
        ("/stream", &malformed[..], None, "reset"),
    ] {
        let (sender, ids) = mpsc::channel();
        let (gone_sender, gone) = mpsc::channel();
        let web = Web::serve(move || {
            let collect = |res: &mut Response<'_, ()>| res.collect(10, |(), _, _| ());
            let streams = sender.clone();
            let routes = Router::new()
                .post("/", move |(), _, res| {
                    sender.send((res.later(), res.server())).unwrap();
                    collect(res);
                })
                .post("/stream", move |(), _, res| {
                    collect(res);
                    streams.send((res.stream(None), res.server())).unwrap();
                });
            Server::new((), routes)
                .with_options(Options::default().min_body_rate(rate))
                .on_gone(move |(), id| gone_sender.send(id).unwrap())
        });
        let mut client = web.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{}", parts[0]));
        let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
        parts[1..].iter().for_each(|part| client.send(part));
        if answer == "reset" {
            client.expect_reset();
        } else {
            if answer.is_empty() {
                client.finish();
            }
            let rest = client.rest();
            assert!(rest.starts_with(answer) && rest.is_empty() == answer.is_empty(), "{rest}");
        }
        drop(client);
        assert_eq!(gone.recv_timeout(PATIENCE), Ok(id), "{parts:?}");
        let (sender, found) = mpsc::channel();
        web.remote
            .with(key, move |server, cx| {
                let is_there = server.answer(cx, id, |_, _| ()).is_some();
                sender.send((server.stats().gone, is_there)).unwrap();
            })
            .unwrap();
        assert_eq!(found.recv_timeout(PATIENCE), Ok((1, false)));
        assert!(gone.try_recv().is_err(), "once");
    }
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let (web, ids, gone) = web();
    let mut client = web.client();
    client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\nHost: x\r\n\r\n");
    client.finish();
    let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
    // The end has come in too, before the answer.
    web.client().get("/now").expect(200, "now");
    web.answer((id, key), move |_, res| res.text("later"));
    client.answer().expect(200, "later");
    client.answer().expect(200, "now");
    client.expect_end();
    assert!(gone.try_recv().is_err());
}

#[test]
fn much_that_is_sent_while_an_answer_is_due_waits_in_the_kernel() {
    let (web, ids, _) = web();
    let mut client = web.client();
    let total = 200_000;
    let mut stream = client.stream.try_clone().unwrap();
    client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
    // 8 MiB of requests: more than the connection may keep unconsumed.
    let writer = thread::spawn(move || {
        let requests = "GET /now HTTP/1.1\r\nHost: x\r\n\r\n".repeat(total / 100);
        for _ in 0..100 {
            std::io::Write::write_all(&mut stream, requests.as_bytes()).unwrap();
        }
    });
    assert!(ids.recv_timeout(Duration::from_millis(200)).is_err());
    web.answer((id, key), move |_, res| res.text("later"));
    client.answer().expect(200, "later");
    for _ in 0..total {
        client.answer().expect(200, "now");
    }
    writer.join().unwrap();
}

#[test]
fn a_stream_goes_on_from_another_thread() {
    let (sender, ids) = mpsc::channel();
    let web = Web::serve(move || {
        let routes =
            Router::new().get("/", move |(), _, res: &mut waterwheel::http::Response<'_, ()>| {
                sender.send((res.stream(None), res.server())).unwrap();
            });
        Server::new((), routes)
    });
    let mut client = web.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.head();
    let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
    for number in 0..3 {
        web.answer((id, key), move |(), res| {
            res.write(number.to_string().as_bytes());
        });
        assert_eq!(client.take(6), format!("1\r\n{number}\r\n").as_bytes());
    }
    web.answer((id, key), move |(), res| res.end());
    assert_eq!(client.take(5), b"0\r\n\r\n");
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.head();
}

/// A client that has said that a request is its last may go on writing, and some do. What it sends
/// is dropped; left unread, it would turn the end into a reset, over which the answer can be lost.
#[test]
fn what_a_client_sends_behind_its_last_request_costs_it_no_answer() {
    let (web, ids, _) = web();
    let long = "x".repeat(1 << 20);
    for behind in ["GET /now HTTP/1.1\r\nHost: x\r\n\r\n", "\0no request\r\n\r\n"] {
        let mut client = web.client();
        client.send(format!("GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n{behind}"));
        let id = ids.recv_timeout(PATIENCE).unwrap();
        let mut stream = client.stream.try_clone().unwrap();
        let writer = thread::spawn(move || {
            // The server may have ended the connection before it has taken all.
            for _ in 0..100 {
                let _ = std::io::Write::write_all(&mut stream, &[b'y'; 10_000]);
            }
            let _ = stream.shutdown(std::net::Shutdown::Write);
        });
        let body = long.clone();
        web.answer(id, move |_, res| res.text(&body));
        client.answer().expect(200, &long);
        client.expect_end();
        writer.join().unwrap();
        assert!(ids.try_recv().is_err(), "a request behind the last one was served");
    }
}

/// What is sent only while the answer is due counts as well.
#[test]
fn a_client_that_writes_while_its_last_answer_is_due_is_not_reset() {
    let (web, ids, _) = web();
    let mut client = web.client();
    client.send("GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let id = ids.recv_timeout(PATIENCE).unwrap();
    client.send("GET /now HTTP/1.1\r\nHost: x\r\n\r\n");
    web.client().get("/now").expect(200, "now"); // it has come in
    web.answer(id, move |_, res| res.text("later"));
    client.answer().expect(200, "later");
    web.client().get("/now").expect(200, "now"); // the end has been begun
    for _ in 0..10 {
        client.send("what a reset answers, so that the next write fails");
        web.client().get("/now").expect(200, "now");
    }
    client.finish();
    client.expect_end();
}

/// Takes a byte at a time and stops for a moment behind each.
struct Sips;

impl Upgraded<()> for Sips {
    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(&input[..1].to_ascii_uppercase());
        conn.pause_reading();
        conn.set_timer(Duration::from_millis(1), 0);
        1
    }

    fn on_timer(&mut self, (): &mut (), conn: &mut Conn<'_>, _: Timer) {
        conn.resume_reading();
    }

    fn on_eof(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.write(b".");
        conn.close();
    }
}

/// What a client has sent behind its request, and its end, wait for the 101 as well.
#[test]
fn a_later_upgrade_gets_all_that_came_in_before_it_and_the_end() {
    let (sender, ids) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new().get("/up", move |(), _, res| {
            sender.send((res.later(), res.server())).unwrap();
        });
        Server::new((), routes)
    });
    let head = "GET /up HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: sips\r\n\r\n";
    // More than is read before the answer, and nothing but the end.
    for early in ["abc", "", &"x".repeat(200 << 10)] {
        let mut client = web.client();
        client.send(head);
        let waiting = ids.recv_timeout(PATIENCE).unwrap();
        if early.len() > 3 {
            // One sip would take too long.
            let mut writer = client.stream.try_clone().unwrap();
            let early = early.to_owned();
            let sent = thread::spawn(move || writer.write_all(early.as_bytes()));
            web.client().get("/").expect(404, "there is nothing here\n");
            web.answer(waiting, |(), res| res.upgrade("shout", Shout));
            assert_eq!(client.answer().status, 101);
            let shouted = client.take(200 << 10);
            assert!(shouted.iter().all(|byte| *byte == b'X'));
            sent.join().unwrap().unwrap();
            continue;
        }
        client.send(early);
        client.finish();
        // What these have sent is there before the answer.
        web.client().get("/").expect(404, "there is nothing here\n");
        web.answer(waiting, |(), res| res.upgrade("sips", Sips));
        assert_eq!(client.answer().status, 101);
        assert_eq!(client.rest(), format!("{}.", early.to_uppercase()));
    }
}

/// Sends all back in capitals.
struct Shout;

impl Upgraded<()> for Shout {
    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(&input.to_ascii_uppercase());
        input.len()
    }
}

/// Answers each byte with many, and leaves those for which there is no room.
struct Long;

/// Of the length of an answer, 200 are more than a connection may hold.
const LONG: usize = 100 << 10;

impl Upgraded<()> for Long {
    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let has_room = |conn: &Conn<'_>| conn.is_reading() || !conn.is_above_high_mark();
        let mut used = 0;
        while used < input.len() && has_room(conn) {
            assert!(conn.write(&vec![input[used]; LONG]).is_accepted());
            used += 1;
        }
        used
    }

    fn on_eof(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.write(b".");
        conn.close();
    }
}

/// The end is told behind what waits for room.
#[test]
fn the_end_does_not_overtake_what_came_in_before_an_upgrade_and_waits_for_room() {
    let (sender, ids) = mpsc::channel();
    let web = Web::serve(move || {
        let routes = Router::new().get("/up", move |(), _, res| {
            sender.send((res.later(), res.server())).unwrap();
        });
        Server::new((), routes)
    });
    let mut client = web.client();
    client.send("GET /up HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: long\r\n\r\n");
    let waiting = ids.recv_timeout(PATIENCE).unwrap();
    let early: Vec<u8> = (0..200).collect();
    client.send(&early);
    client.finish();
    // All of it is there before the answer, and so is the end.
    web.client().get("/").expect(404, "there is nothing here\n");
    web.answer(waiting, |(), res| res.upgrade("long", Long));
    assert_eq!(client.answer().status, 101);
    for byte in early {
        assert!(client.take(LONG).iter().all(|found| *found == byte), "{byte}");
    }
    assert_eq!(client.rest(), ".");
}

/// The queue of another connection holds up what this one has asked for besides.
#[test]
fn a_large_answer_to_another_request_keeps_none_of_its_giver_waiting() {
    let (web, _, _) = web();
    let mut waiter = web.client();
    waiter.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut client = web.client();
    client.get("/now").expect(200, "now");
    let ask = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send([ask("/wake/large"), ask("/now")].concat());
    client.answer().expect(200, "large");
    client.answer().expect(200, "now");
    assert_eq!(waiter.answer().body.len(), 1 << 20);
}

/// The answer is more than a connection may hold: its client is reset, and what it has asked
/// besides is asked of nobody.
#[test]
fn behind_an_answer_that_ends_its_connection_no_request_is_served() {
    let (sender, asked) = mpsc::channel();
    let limits = waterwheel::http::limits()
        .high_mark_bytes(1 << 10)
        .low_mark_bytes(0)
        .max_output_bytes(1 << 16);
    let options = waterwheel::ListenOptions::default().limits(limits);
    let web = Web::serve_with(options, move || {
        let second = sender.clone();
        let routes = Router::new()
            .get("/later", move |(), _, res| {
                sender.send(Some((res.later(), res.server()))).unwrap();
            })
            .post("/pay", move |(), _, res| {
                second.send(None).unwrap();
                res.text("paid");
            });
        Server::new((), routes)
    });
    let mut client = web.client();
    client.send(
        "GET /later HTTP/1.1\r\nHost: x\r\n\r\n\
         POST /pay HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    );
    let first = asked.recv_timeout(PATIENCE).unwrap().unwrap();
    web.answer(first, |(), res| res.bytes("x/y", &vec![b'x'; 32 << 20]));
    client.expect_reset();
    drop(web);
    assert!(asked.try_iter().next().is_none(), "a request was served for nobody");
}

/// What stands behind a request that panics is no request of its own: not even where the request
/// was held behind an answer that came later, and only a part of what follows is here.
#[test]
fn what_follows_a_held_request_that_panics_is_not_read_as_a_request() {
    let (sender, ids) = mpsc::channel();
    let (served_sender, served) = mpsc::channel();
    let web = Web::of(move || {
        let routes: Router<()> = Router::new();
        routes
            .get("/later", move |(), _, res| sender.send((res.later(), res.server())).unwrap())
            .get("/panic", |(), _, _| panic!("on purpose"))
            .get("/now", |(), _, res| res.text("now"))
            .get("/smuggled", move |(), _, _| served_sender.send(()).unwrap())
    });
    let mut client = web.client();
    client.send(concat!(
        "GET /later HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n",
    ));
    let (id, key) = ids.recv_timeout(PATIENCE).unwrap();
    let answer = move |server: &mut Server<()>, cx: &mut Context<'_>| {
        server.answer(cx, id, |(), res| res.text("later"));
    };
    web.remote.with(key, answer).unwrap();
    // A reset that has come before is told to the write, and only there.
    if client.stream.write_all(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").is_ok() {
        client.expect_reset();
    }
    web.client().get("/now").expect(200, "now");
    assert!(served.try_recv().is_err());
}
