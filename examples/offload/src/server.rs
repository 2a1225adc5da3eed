//! The loop's side: requests in, answers out in their order.

use std::time::Duration;

use waterwheel::offload::{Failed, Offload};
use waterwheel::{Closed, Conn, Context, Handler, HandlerKey, Peer, frame};

use crate::database::{Database, Query};

/// Longest line, in bytes: a peer that sends a longer one is told so and closed.
const MAX_LINE_BYTES: usize = 4_096;

/// Requests of one connection that may be under way. With more it is not read from, so that its
/// peer is held back and others have their turn.
pub(crate) const MAX_UNDER_WAY: u32 = 32;

/// Longest time that `slow` may take.
const MAX_SLOW: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    key: HandlerKey<Self>,
    /// Where the work is done. Requests of one connection run one after the other there, as a
    /// client expects that gets what it has just put; those of other connections run beside them.
    offload: Offload<Database>,
    /// Answers that reached their connection, and those that did not.
    pub(crate) answered: u64,
    pub(crate) too_late: u64,
    /// Requests that one connection had under way at once, at most.
    pub(crate) most_under_way: u32,
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

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        while conn.is_reading() {
            let Some(line) = lines.next() else { break };
            let request = line.map_or(Request::Bad("the line is too long"), parse);
            let is_last = line.is_err() || matches!(request, Request::Quit | Request::Http);
            conn.begin_request();
            self.run(conn, request);
            if is_last {
                conn.close_when_answered(); // nothing is wanted any more
            }
        }
        self.most_under_way = self.most_under_way.max(conn.outstanding_requests());
        lines.consumed()
    }

    /// What has not begun is not wanted any more.
    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        self.offload.cancel_all(closed.id);
    }
}

impl Server {
    pub(crate) fn new(key: HandlerKey<Self>, offload: Offload<Database>) -> Self {
        Self { key, offload, answered: 0, too_late: 0, most_under_way: 0 }
    }

    /// Has a request run and answered in its turn.
    fn run(&self, conn: &mut Conn<'_>, request: Request) {
        let work = move |database: &mut Database| match request {
            Request::Query(query) => database.run(&query),
            // Answered from there too, because those before it come first.
            Request::Quit => "bye".to_owned(),
            Request::Http => "error: this is no web server".to_owned(),
            Request::Bad(why) => format!("error: {why}"),
        };
        let id = conn.id();
        let then =
            move |server: &mut Self, cx: &mut Context<'_>, answer: Result<String, Failed>| {
                let text = answer.unwrap_or_else(|failed| format!("error: {failed}"));
                let Some(mut conn) = cx.conn(id) else { return server.too_late += 1 };
                writeln!(conn, "{text}");
                conn.end_request();
                server.answered += 1;
            };
        if let Err(error) = self.offload.run(id, self.key, work, then) {
            // Answers would not be in their order any more.
            log::error!("{id}: {error}");
            conn.abort();
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
