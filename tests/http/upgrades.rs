//! What came in before an upgrade: with its request, or while the 101 was due.

use std::sync::mpsc;
use std::time::Duration;

use waterwheel::http::{ReplyId, Request, Response, Router, Server, Upgraded};
use waterwheel::{Conn, ConnId, Deadline, DeadlineKind, HandlerKey};

use crate::web::{Client, Web};

const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection has become that pauses when it opens and behind each piece. Another connection
/// ends the pauses.
struct Halting;

/// The connections that pause.
type Paused = Vec<ConnId>;

impl Upgraded<Paused> for Halting {
    fn on_open(&mut self, paused: &mut Paused, conn: &mut Conn<'_>) {
        conn.write(b"open ");
        conn.pause_reading();
        paused.push(conn.id());
    }

    fn on_data(&mut self, paused: &mut Paused, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if conn.is_paused() {
            conn.write(b"called in a pause ");
        }
        // A piece is up to two bytes.
        let piece = &input[..input.len().min(2)];
        conn.write(&piece.to_ascii_uppercase());
        conn.pause_reading();
        paused.push(conn.id());
        piece.len()
    }

    fn on_eof(&mut self, _: &mut Paused, conn: &mut Conn<'_>) {
        conn.write(if conn.is_paused() { b"?" } else { b"." });
        conn.close();
    }
}

/// Takes what comes at once.
struct Shout;

impl Upgraded<Paused> for Shout {
    fn on_data(&mut self, _: &mut Paused, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(&input.to_ascii_uppercase());
        usize::MAX // counts as all
    }
}

/// Pauses behind each piece of up to two bytes, and ends the pause itself: within the callback, or
/// by a deadline.
struct Brief {
    by_deadline: bool,
    /// How often it has seen input.
    calls: u8,
}

impl Upgraded<Paused> for Brief {
    fn on_data(&mut self, _: &mut Paused, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        self.calls += 1;
        if input.len() == 1 {
            return 0; // not a whole piece
        }
        conn.write(&input[..2].to_ascii_uppercase());
        conn.pause_reading();
        if self.by_deadline {
            conn.set_deadline(DeadlineKind::User, Some(Duration::from_millis(1)));
        } else {
            conn.resume_reading();
        }
        2
    }

    fn on_deadline(&mut self, _: &mut Paused, conn: &mut Conn<'_>) -> Deadline {
        conn.resume_reading();
        Deadline::Keep(Duration::from_secs(86_400))
    }

    fn on_eof(&mut self, _: &mut Paused, conn: &mut Conn<'_>) {
        conn.write(&[b'0' + self.calls]);
        conn.close();
    }
}

type Ids = mpsc::Receiver<(ReplyId, HandlerKey<Server<Paused>>)>;

fn web() -> (Web, Ids) {
    let (sender, ids) = mpsc::channel();
    let web = Web::serve(move || {
        let later = move |_: &mut Paused, _: &Request<'_>, res: &mut Response<'_, Paused>| {
            sender.send((res.later(), res.server())).unwrap();
        };
        let routes = Router::new()
            .get("/later", later)
            .get("/now", |_, _, res| res.text("now"))
            .get("/shout", |_, _, res| res.upgrade("shout", Shout))
            .get("/halt", |_, _, res| res.upgrade("halt", Halting))
            .get("/resume", |paused: &mut Paused, _, res| {
                let ids = std::mem::take(paused);
                for id in &ids {
                    if let Some(mut conn) = res.context().conn(*id) {
                        conn.resume_reading();
                    }
                }
                res.text(&ids.len().to_string());
            });
        Server::new(Vec::new(), routes)
    });
    (web, ids)
}

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn ask_upgrade(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
}

/// Ends one pause after the other, each when the protocol has made it, and expects what follows.
#[track_caller]
fn expect_pieces(client: &mut Client, waker: &mut Client, early: &str, has_ended: bool) {
    assert_eq!(client.answer().status, 101);
    let told = |client: &mut Client, count| String::from_utf8(client.take(count)).unwrap();
    assert_eq!(told(client, 5), "open ");
    for piece in early.as_bytes().chunks(2) {
        while waker.get("/resume").text() == "0" {}
        assert_eq!(told(client, piece.len()).as_bytes(), piece.to_ascii_uppercase());
    }
    if has_ended {
        while waker.get("/resume").text() == "0" {}
        assert_eq!(client.rest(), ".");
    } else {
        client.send("z");
        while waker.get("/resume").text() == "0" {}
        assert_eq!(told(client, 1), "Z");
    }
}

/// What a client sends early, and whether its end comes before the 101.
const EARLY: [(&str, bool); 6] =
    [("abcde", false), ("abcde", true), ("", true), ("ab", true), ("ab", false), ("", false)];

#[test]
fn what_came_before_a_later_upgrade_waits_for_the_pause_that_another_connection_ends() {
    let (web, ids) = web();
    let mut waker = web.client();
    for (early, has_ended) in EARLY {
        let mut client = web.client();
        client.send([&*ask_upgrade("/later"), early].concat());
        let id = ids.recv_timeout(PATIENCE).unwrap();
        if has_ended {
            client.finish();
        }
        waker.get("/now").expect(200, "now"); // the end has come in
        web.answer(id, |_, res| res.upgrade("halt", Halting));
        expect_pieces(&mut client, &mut waker, early, has_ended);
    }
}

#[test]
fn an_upgrade_behind_a_later_answer_gets_what_came_with_it() {
    let (web, ids) = web();
    let mut waker = web.client();
    for (early, has_ended) in EARLY {
        let mut client = web.client();
        client.send([&*ask("/later"), &*ask_upgrade("/halt"), early].concat());
        let id = ids.recv_timeout(PATIENCE).unwrap();
        if has_ended {
            client.finish();
        }
        waker.get("/now").expect(200, "now");
        web.answer(id, |_, res| res.text("later"));
        client.answer().expect(200, "later");
        expect_pieces(&mut client, &mut waker, early, has_ended);
    }
}

/// As from the loop, which shows what was left once the callback has returned, and replaces no
/// deadline that is set then.
#[test]
fn what_came_before_a_later_upgrade_follows_a_pause_that_the_protocol_ends_itself() {
    let (web, ids) = web();
    let mut other = web.client();
    for (by_deadline, has_ended) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut client = web.client();
        client.send([&*ask_upgrade("/later"), "abcdefg"].concat());
        let id = ids.recv_timeout(PATIENCE).unwrap();
        if has_ended {
            client.finish();
        }
        other.get("/now").expect(200, "now");
        web.answer(id, move |_, res| res.upgrade("brief", Brief { by_deadline, calls: 0 }));
        assert_eq!(client.answer().status, 101);
        assert_eq!(client.take(6), b"ABCDEF", "by a deadline: {by_deadline}");
        client.finish();
        // A part of a piece is shown as it comes, and not at every callback.
        let calls = client.rest();
        assert!(["4", "5"].contains(&&*calls), "{calls} calls, by a deadline: {by_deadline}");
    }
}

/// A callback begins 128 requests, and an upgrade may be the last of them.
#[test]
fn an_upgrade_that_is_the_last_request_of_a_callback_gets_what_came_with_it() {
    let (web, _) = web();
    for before in 125..=130 {
        for (path, wanted) in [("/shout", "ABC"), ("/halt", "open ")] {
            let mut client = web.client();
            client.send([&*ask("/now").repeat(before), &*ask_upgrade(path), "abc"].concat());
            (0..before).for_each(|_| drop(client.answer().expect(200, "now")));
            assert_eq!(client.answer().status, 101);
            assert_eq!(client.take(wanted.len()), wanted.as_bytes(), "behind {before}");
            if path == "/halt" {
                let mut waker = web.client();
                for piece in ["AB", "C"] {
                    while waker.get("/resume").text() == "0" {}
                    assert_eq!(client.take(piece.len()), piece.as_bytes(), "behind {before}");
                }
            }
        }
    }
}
