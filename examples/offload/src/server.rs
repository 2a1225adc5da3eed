//! The loop's side: requests in, answers out in their order.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::Duration;

use waterwheel::{Closed, Conn, ConnId, Context, Handler, Idle, IdleKind, Peer, Receive, frame};

use crate::database::Query;
use crate::pool::{Answer, Pool};

/// Longest line, in bytes: a peer that sends a longer one is told so and closed.
const MAX_LINE_BYTES: usize = 4_096;

/// Requests of one connection that may be under way. With more it is not read from, so that its
/// peer is held back and others have their turn in the pool.
const MAX_UNDER_WAY: usize = 32;

/// Longest time that `slow` may take.
const MAX_SLOW: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Server {
    /// Where the work is done. `None` only before it is registered.
    pub(crate) pool: Option<Pool>,
    /// Who is connected.
    clients: HashMap<ConnId, Client>,
    /// Answers that reached their connection, and those that did not.
    pub(crate) answered: u64,
    pub(crate) too_late: u64,
    /// Requests that one connection had under way at once, at most.
    pub(crate) most_under_way: usize,
}

/// One connection's requests. They run one after the other, as a client expects that gets what it
/// has just put; those of other connections run beside them.
#[derive(Default)]
struct Client {
    /// Requests that are not answered, in their order. Only the first may run.
    under_way: VecDeque<Step>,
    /// It is closed once everything is answered.
    is_leaving: bool,
}

/// How far a request has come.
enum Step {
    /// It waits for those before it.
    Query(Query),
    /// It is in the pool.
    Running,
    /// It is answered when those before it are.
    Answer(String),
}

/// What a line asks for.
enum Request {
    Query(Query),
    Quit,
    /// It is HTTP, which a web page may make a browser send here with commands in its body.
    Http,
    /// It is answered at once.
    Bad(&'static str),
}

impl Handler for Server {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        self.clients.insert(conn.id(), Client::default());
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let Some(client) = self.clients.get_mut(&conn.id()) else { return input.len() };
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        while !client.is_leaving {
            if client.under_way.len() >= MAX_UNDER_WAY {
                conn.pause_reading();
                break;
            }
            let Some(line) = lines.next() else { break };
            let request = line.map_or(Request::Bad("the line is too long"), parse);
            client.is_leaving = line.is_err() || matches!(request, Request::Quit | Request::Http);
            client.under_way.push_back(match request {
                Request::Query(query) => Step::Query(query),
                Request::Quit => Step::Answer("bye".to_owned()),
                Request::Http => Step::Answer("error: this is no web server".to_owned()),
                Request::Bad(why) => Step::Answer(format!("error: {why}")),
            });
        }
        self.most_under_way = self.most_under_way.max(client.under_way.len());
        let is_leaving = client.is_leaving;
        client.go_on(conn, self.pool.as_ref());
        // After `quit` nothing is wanted any more.
        if is_leaving { input.len() } else { lines.consumed() }
    }

    /// A peer that waits for an answer is not idle.
    fn on_idle(&mut self, _: &mut (), conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        let client = self.clients.get(&conn.id());
        let waits = client.is_some_and(|client| !client.under_way.is_empty());
        if waits { Idle::Keep } else { Idle::Close }
    }

    /// Answers what was asked before the end.
    fn on_eof(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        self.leave(conn);
    }

    fn on_shutdown(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        self.leave(conn);
    }

    fn on_close(&mut self, _: (), closed: Closed, _: &mut Context<'_>) {
        self.clients.remove(&closed.id);
    }
}

impl Receive<Answer> for Server {
    fn on_message(&mut self, answer: Answer, cx: &mut Context<'_>) {
        let Answer { id, text } = answer;
        let (Some(client), Some(mut conn)) = (self.clients.get_mut(&id), cx.conn(id)) else {
            log::debug!("{id}: an answer comes too late");
            self.too_late += 1;
            return;
        };
        if let Some(first) = client.under_way.front_mut() {
            *first = Step::Answer(text);
            self.answered += 1;
        }
        client.go_on(&mut conn, self.pool.as_ref());
    }
}

impl Server {
    /// Takes no more requests, and closes once all are answered.
    fn leave(&mut self, conn: &mut Conn<'_>) {
        if let Some(client) = self.clients.get_mut(&conn.id()) {
            client.is_leaving = true;
            client.go_on(conn, self.pool.as_ref());
        }
    }
}

impl Client {
    /// Sends the answers whose turn has come, and has the next query run.
    fn go_on(&mut self, conn: &mut Conn<'_>, pool: Option<&Pool>) {
        while let Some(first) = self.under_way.front_mut() {
            match (mem::replace(first, Step::Running), pool) {
                (Step::Answer(text), _) => {
                    self.under_way.pop_front();
                    conn.write(format!("{text}\n").as_bytes());
                }
                (Step::Query(query), Some(pool)) => {
                    pool.run(conn.id(), query);
                    break;
                }
                _ => break,
            }
        }
        if self.is_leaving && self.under_way.is_empty() {
            conn.close();
        } else if self.under_way.len() <= MAX_UNDER_WAY / 2 && conn.is_paused() {
            conn.resume_reading();
        }
    }
}

fn parse(line: &[u8]) -> Request {
    let Ok(line) = std::str::from_utf8(line) else { return Request::Bad("not UTF-8") };
    let (command, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    match (command, rest.split_once(' ')) {
        ("put", Some((key, text))) => {
            Request::Query(Query::Put(key.to_owned(), text.trim().to_owned()))
        }
        ("get", None) if !rest.is_empty() => Request::Query(Query::Get(rest.to_owned())),
        ("slow", None) => match rest.parse().map(Duration::from_millis) {
            Ok(time) if time <= MAX_SLOW => Request::Query(Query::Slow(time)),
            _ => Request::Bad("slow takes 0 to 10000 milliseconds"),
        },
        ("quit", None) if rest.is_empty() => Request::Quit,
        // Each begins so, or has it in the second line.
        (word, _) if ["post", "host:"].contains(&word.to_ascii_lowercase().as_str()) => {
            Request::Http
        }
        _ => Request::Bad("put KEY TEXT, get KEY, slow MS, quit"),
    }
}
