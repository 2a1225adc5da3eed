//! What came in before a later upgrade is the loop's again, with its pauses, limits and clocks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use waterwheel::http::{self, ReplyId, Request, Response, Router, Server, Upgraded};
use waterwheel::observer::Observer;
use waterwheel::{Closed, Conn, ConnId, Context, HandlerKey, Limits, ListenOptions, TimerId};

use crate::web::{Client, Web};

const PATIENCE: Duration = Duration::from_secs(10);

/// How many turns there were, and how many timers were set.
#[derive(Clone, Default)]
struct Counts {
    turns: Rc<Cell<u64>>,
    timers: Rc<Cell<u64>>,
}

impl Observer for Counts {
    fn on_turn_begin(&mut self, _: Duration) {
        self.turns.set(self.turns.get() + 1);
    }

    fn on_timer_armed(&mut self, _: Option<u32>, _: TimerId, _: Duration) {
        self.timers.set(self.timers.get() + 1);
    }
}

#[derive(Default)]
struct App {
    counts: Counts,
    /// The connections that have left HTTP.
    upgraded: Vec<ConnId>,
    /// What was counted when the pauses were ended last.
    at_resume: RefCell<(u64, u64)>,
}

/// What a connection has become: notes what it is told, for the test and for its client.
struct Log {
    pauses: bool,
    /// How many bytes are a message; of fewer it takes none.
    message: usize,
    told: mpsc::Sender<String>,
}

impl Log {
    fn note(&self, conn: &mut Conn<'_>, text: &str) {
        let text = if conn.is_paused() { format!("in a pause: {text}") } else { text.to_owned() };
        conn.write(format!("{text} ").as_bytes());
        self.told.send(text).unwrap();
    }
}

impl Upgraded<App> for Log {
    fn on_open(&mut self, app: &mut App, conn: &mut Conn<'_>) {
        app.upgraded.push(conn.id());
        if self.pauses {
            conn.pause_reading();
        }
    }

    fn on_data(&mut self, app: &mut App, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let (turns, timers) = *app.at_resume.borrow();
        let since = (app.counts.turns.get() - turns, app.counts.timers.get() - timers);
        if input.len() < self.message {
            return 0;
        }
        let text = String::from_utf8_lossy(input).into_owned();
        match since {
            (0 | 1, 0) => self.note(conn, &format!("{text} at once")),
            _ => self.note(conn, &text),
        }
        input.len()
    }

    fn on_eof(&mut self, _: &mut App, conn: &mut Conn<'_>) {
        self.note(conn, "end");
    }

    fn on_close(self: Box<Self>, _: &mut App, closed: &Closed, _: &mut Context<'_>) {
        self.told.send(format!("closed: {:?}", closed.reason)).unwrap();
    }
}

type Asked = (ReplyId, HandlerKey<Server<App>>);

/// A server of later upgrades, and what tells of them.
struct Rig {
    web: Web,
    asked: mpsc::Receiver<Asked>,
    told: (mpsc::Sender<String>, mpsc::Receiver<String>),
}

impl Rig {
    fn new(limits: Limits) -> Self {
        let (sender, asked) = mpsc::channel();
        let web = Web::serve_in(ListenOptions::default().limits(limits), move |reactor| {
            let counts = Counts::default();
            reactor.observe(counts.clone());
            let later = move |_: &mut App, _: &Request<'_>, res: &mut Response<'_, App>| {
                sender.send((res.later(), res.server())).unwrap();
            };
            let routes = Router::new()
                .get("/later", later)
                .get("/now", |_, _, res| res.text("now"))
                .get("/resume", |app, _, res| {
                    for_each_upgraded(app, res, |conn| {
                        conn.resume_reading();
                    })
                })
                .get("/close", |app, _, res| for_each_upgraded(app, res, |conn| conn.close()));
            Server::new(App { counts, ..App::default() }, routes)
        });
        Self { web, asked, told: mpsc::channel() }
    }

    /// A client that has sent this before its upgrade, and perhaps its end.
    #[track_caller]
    fn upgraded(&self, early: &[u8], has_ended: bool, pauses: bool, message: usize) -> Client {
        let mut client = self.web.client();
        let head = b"GET /later HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        client.send([head, early].concat());
        let asked = self.asked.recv_timeout(PATIENCE).unwrap();
        if has_ended {
            client.finish();
        }
        self.web.client().get("/now").expect(200, "now"); // all of it has come in
        let log = Log { pauses, message, told: self.told.0.clone() };
        self.web.answer(asked, move |_, res| res.upgrade("x", log));
        client
    }

    #[track_caller]
    fn expect_told(&self, text: &str) {
        assert_eq!(self.told.1.recv_timeout(PATIENCE).as_deref(), Ok(text));
    }
}

fn for_each_upgraded(app: &App, res: &mut Response<'_, App>, run: fn(&mut Conn<'_>)) {
    for id in &app.upgraded {
        if let Some(mut conn) = res.context().conn(*id) {
            run(&mut conn);
        }
    }
    *app.at_resume.borrow_mut() = (app.counts.turns.get(), app.counts.timers.get());
    res.text("");
}

#[test]
fn a_pause_that_another_connection_ends_is_over_in_the_same_turn_or_the_next() {
    let rig = Rig::new(http::limits());
    let mut clients = Vec::new();
    for early in ["a", "abc", &"x".repeat(50_000)] {
        let mut waker = rig.web.client();
        waker.get("/now").expect(200, "now");
        let mut client = rig.upgraded(early.as_bytes(), false, true, 1);
        assert_eq!(client.answer().status, 101);
        waker.get("/resume").expect(200, "");
        rig.expect_told(&format!("{early} at once"));
        assert_eq!(client.take(early.len()), early.as_bytes());
        clients.push(client);
    }
}

#[test]
fn the_most_that_may_be_left_is_that_of_the_listener() {
    const MOST: usize = 20_000;
    let rig = Rig::new(http::limits().max_input_bytes(MOST));
    for early in [MOST, MOST + 1] {
        let mut client = rig.upgraded(&vec![b'x'; early], false, false, usize::MAX);
        if early > MOST {
            rig.expect_told("closed: Overflow");
            client.expect_reset();
        } else {
            assert_eq!(client.answer().status, 101);
            client.finish();
            rig.expect_told("end");
            rig.web.client().get("/close").expect(200, "");
            assert_eq!(client.rest(), "end ");
            rig.expect_told("closed: Peer");
        }
    }
}

#[test]
fn a_message_that_does_not_become_whole_has_its_time() {
    let rig = Rig::new(http::limits().message_timeout(Some(Duration::from_millis(50))));
    let mut client = rig.upgraded(b"abc", false, false, 4);
    rig.expect_told("closed: Timeout(Message)");
    client.expect_reset();
    // Nothing is due.
    let mut client = rig.upgraded(b"abcd", false, false, 4);
    assert_eq!(client.answer().status, 101);
    rig.told.1.recv_timeout(PATIENCE).unwrap();
    assert!(rig.told.1.recv_timeout(Duration::from_millis(150)).is_err());
}

#[test]
fn the_end_is_told_once_and_behind_the_rest_and_not_in_a_pause() {
    let rig = Rig::new(http::limits());
    for early in ["abc", "", "ab"] {
        // Of the last one, the rest is a part of a message.
        let message = if early == "ab" { 3 } else { 1 };
        let mut waker = rig.web.client();
        let mut client = rig.upgraded(early.as_bytes(), true, true, message);
        assert_eq!(client.answer().status, 101);
        (0..10).for_each(|_| drop(waker.get("/now").expect(200, "now")));
        assert!(rig.told.1.try_recv().is_err(), "in a pause");
        waker.get("/resume").expect(200, "");
        if early == "abc" {
            rig.expect_told("abc at once");
        }
        rig.expect_told("end");
        // The connection lives on, for what is still to be written.
        (0..10).for_each(|_| drop(waker.get("/resume").expect(200, "")));
        waker.get("/close").expect(200, "");
        let rest = client.rest();
        assert_eq!(rest, if early == "abc" { "abc at once end " } else { "end " });
        rig.expect_told("closed: Peer");
    }
}

/// In spite of the pause, which nothing may end any more.
#[test]
fn behind_a_reset_is_shown_what_was_accepted_before_it() {
    let rig = Rig::new(http::limits());
    for early in ["abc", &"x".repeat(50_000)] {
        let mut client = rig.upgraded(early.as_bytes(), false, true, 1);
        assert_eq!(client.answer().status, 101);
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let told = rig.told.1.recv_timeout(PATIENCE).unwrap();
        assert_eq!(told.trim_end_matches(" at once"), format!("in a pause: {early}"));
        rig.expect_told("closed: Reset");
    }
}
