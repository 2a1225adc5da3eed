//! A reverse proxy: what clients ask of it, it asks of one server behind it.
//!
//! ```text
//! cargo run --features http --example http_hello
//! cargo run --features http --example reverse_proxy -- 127.0.0.1:8000 127.0.0.1:8080
//! curl http://127.0.0.1:8000/hello/ada
//! ```
//! Answers pass through as they come, and whoever reads slowly holds the server back. The body of a
//! request is collected first, up to 16 MiB. Connections are kept on both sides.

use std::env;
use std::io::{self, Write};
use std::time::Duration;

use waterwheel::http::{
    self, Answer, AnswerReader, Call, Client, ClientError, ClientOptions, Flow, Method, ReplyId,
    Request, Response, Route, Router, Server,
};
use waterwheel::pool::PoolOptions;
use waterwheel::{ConnId, Context, HandlerKey, ListenOptions, Reactor};

/// The largest body of a request, in bytes.
const MAX_BODY: u64 = 16 << 20;

/// Bytes that may wait for a client before the server behind is held back: the high mark.
const MAX_QUEUED: usize = 256 << 10;

/// Fields of one connection, which is not the one on the other side (RFC 9110, 7.6.1); and those
/// that each side sets itself.
const NOT_PASSED: &str = "connection keep-alive proxy-connection te trailer transfer-encoding \
    upgrade content-length date expect host x-forwarded-for";

/// Whether a field passes: it is of the message, and `Connection` does not list it.
fn passes(name: &str, lists: impl Fn(&str) -> bool) -> bool {
    !NOT_PASSED.split(' ').any(|own| own.eq_ignore_ascii_case(name)) && !lists(name)
}

/// The path and the query of a target, which may be a whole URI.
fn path_of(target: &str) -> &str {
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

fn forward(client: &mut Client, req: &Request<'_>, res: &mut Response<'_, Client>) {
    let mut call = Call::new(req.method(), path_of(req.target()));
    for (name, value) in req.headers() {
        if passes(name, |name| req.lists("connection", name)) {
            call = call.header(name, value);
        }
    }
    call = call.header("X-Forwarded-For", res.peer_addr().ip().to_string());
    let is_head = req.method() == Method::Head;
    if req.has_body() {
        res.collect(MAX_BODY, move |client, body, res| {
            start(client, call.body(body), is_head, res);
        });
    } else {
        start(client, call, is_head, res);
    }
}

fn start(client: &mut Client, call: Call, is_head: bool, res: &mut Response<'_, Client>) {
    let relay = Relay { id: res.later(), web: res.server(), server: None, is_head };
    client.stream(&mut res.context(), call, relay);
}

/// Takes the answer of the server behind, and gives it.
struct Relay {
    /// The exchange of the client.
    id: ReplyId,
    web: HandlerKey<Server<Client>>,
    /// The connection to the server behind.
    server: Option<ConnId>,
    is_head: bool,
}

impl Relay {
    /// Has the answer gone on with, behind what was posted before.
    fn go_on(&self, cx: &mut Context<'_>, call: impl FnOnce(&mut Response<'_, Client>) + 'static) {
        let (id, server) = (self.id, self.server);
        cx.post(self.web, move |web, cx| {
            if web.answer(cx, id, |_, res| call(res)).is_some() {
                return;
            }
            // The client has gone: nobody wants the rest.
            if let Some(mut conn) = server.and_then(|server| cx.conn(server)) {
                conn.abort();
            }
        });
    }
}

impl AnswerReader for Relay {
    fn on_head(&mut self, answer: &Answer<'_>, cx: &mut Context<'_>) {
        self.server = Some(answer.conn());
        let (status, server, is_head) = (answer.status(), answer.conn(), self.is_head);
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let listed = answer.header("connection").unwrap_or_default().to_ascii_lowercase();
        let is_listed = |name: &str| listed.split(',').any(|one| one.trim() == name);
        let fields: Vec<_> = answer
            .headers()
            .filter(|(name, _)| passes(&name.to_ascii_lowercase(), is_listed))
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect();
        self.go_on(cx, move |res| {
            res.status(status);
            for (name, value) in fields {
                res.header(&name, value);
            }
            res.stream(length);
            if !is_head {
                res.on_drain(move |_, res| {
                    if let Some(mut conn) = res.context().conn(server) {
                        conn.resume_reading();
                    }
                });
            }
        });
    }

    fn on_chunk(&mut self, chunk: &[u8], cx: &mut Context<'_>) -> Flow {
        let chunk = chunk.to_vec();
        self.go_on(cx, move |res| {
            res.write(&chunk);
        });
        let client = cx.conn(self.id.conn());
        let is_full = client.is_some_and(|client| client.pending_bytes() >= MAX_QUEUED);
        if is_full { Flow::Pause } else { Flow::More }
    }

    fn on_end(self: Box<Self>, cx: &mut Context<'_>) {
        self.go_on(cx, |res| res.end());
    }

    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>) {
        log::warn!("{}: {error}", self.id);
        let status = if matches!(error, ClientError::TimedOut(..)) { 504 } else { 502 };
        let client = self.id.conn();
        self.go_on(cx, move |res| {
            if res.is_unanswered() {
                res.status(status).text("the server behind has no answer\n");
            } else if let Some(mut conn) = res.context().conn(client) {
                conn.abort(); // a part must not look whole
            }
        });
    }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let behind = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let mut reactor = Reactor::new()?;
    let pool = PoolOptions::default().max_open(256);
    let options = ClientOptions::default().pool(pool).answer_timeout(Duration::from_secs(30));
    let client = Client::register(&mut reactor, behind, options)?;
    let routes = Router::new().fallback(Route::new().any(forward).max_body_bytes(MAX_BODY));
    let web = reactor.register(Server::new(client, routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen(listen.as_str(), web, options)?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
