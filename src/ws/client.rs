//! The client's side: a handler of outgoing connections.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::base::close::{CloseReason, Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::{self, Conn, Context, DeadlineKind, Peer};
use crate::stream::Closed;
use crate::ws::handshake::{check_answer, has_loose_line, key_of};
use crate::ws::shared::{Shared, is_token};
use crate::ws::wire::{Agreed, Wire, is_ended};
use crate::ws::{Handler, Options, Session, Stats, deflate};

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Interim answers that may stand before the answer, such as 103.
const MAX_INTERIM: usize = 16;

/// Fields that an answer may have.
const MAX_FIELDS: usize = 100;

/// The request with which a client begins a WebSocket.
///
/// # Examples
/// ```
/// use waterwheel::ws::Request;
/// let request = Request::new("feed.example", "/prices?of=tea");
/// let request = request.header("Origin", "https://a.example");
/// let state = request.with_state(());
/// # let _ = state;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    host: String,
    target: String,
    fields: Vec<(String, String)>,
}

/// What the fields say may be a secret: only their names are told.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("host", &self.host)
            .field("target", &self.target)
            .field("fields", &names)
            .finish()
    }
}

impl Request {
    /// Asks for `target`, a path with an optional query. `host` becomes the field `Host`: the name,
    /// and the port behind a colon unless it is 80, or 443 with TLS.
    #[must_use]
    pub fn new(host: &str, target: &str) -> Self {
        Self { host: host.to_owned(), target: target.to_owned(), fields: Vec::new() }
    }

    /// Adds a header field, such as `Origin`, `Cookie` or `Authorization`. One of the handshake
    /// itself, or of a body, fails the connect: those follow from the host and the options.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The state to connect with: `cx.connect(to, key, request.with_state(state), &options)`.
    #[must_use]
    pub fn with_state<S>(self, state: S) -> ClientState<S> {
        let key = String::new();
        let opening = Opening { request: self, key, state, failure: None };
        ClientState(Phase::Opening(Box::new(opening)))
    }

    /// Whether nothing in it would end a line, or the request. If not: what is wrong, and what to
    /// give.
    fn check(&self) -> Result<(), String> {
        let is_line = |text: &str| text.bytes().all(|byte| byte >= b' ' && byte != 0x7f);
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let Self { host, target, fields } = self;
        if !target.starts_with('/') || !is_word(target) || target.contains('#') {
            let target = shown(target);
            return Err(format!("the target \"{target}\" is no path, such as \"/chat?room=1\""));
        }
        if host.is_empty() || !is_word(host) {
            let host = shown(host);
            return Err(format!("the host \"{host}\" is no name, such as \"example.org:8080\""));
        }
        for (name, value) in fields {
            let why = match () {
                () if !is_token(name) => "its name is not a token of RFC 9110, 5.6.2",
                () if !is_line(value) => "its value has a control character",
                () if is_own(name) => "it follows from the host and the options",
                () => continue,
            };
            return Err(format!("the field \"{}\" cannot be sent: {why}", shown(name)));
        }
        Ok(())
    }

    fn write(&self, key: &str, options: &Options) -> String {
        let Self { host, target, .. } = self;
        let mut text = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        let mut field = |name: &str, value: &str| text += &format!("{name}: {value}\r\n");
        if !options.protocols.is_empty() {
            field("Sec-WebSocket-Protocol", &options.protocols.join(", "));
        }
        if let Some(own) = &options.deflate {
            field("Sec-WebSocket-Extensions", &deflate::offer(own));
        }
        for (name, value) in &self.fields {
            field(name, value);
        }
        text + "\r\n"
    }
}

/// What a connection of a [`Client`] keeps; made with [`Request::with_state`].
pub struct ClientState<S>(Phase<S>);

enum Phase<S> {
    /// The handshake goes on.
    Opening(Box<Opening<S>>),
    Open(Session<S>),
    /// For the moment between the two.
    Between,
}

struct Opening<S> {
    request: Request,
    key: String,
    state: S,
    /// Why it fails.
    failure: Option<Failure>,
}

/// Why a handshake fails.
struct Failure {
    error: io::Error,
    /// Whether another try may succeed.
    is_temporary: bool,
}

impl From<io::Error> for Failure {
    /// A failure that would come again.
    fn from(error: io::Error) -> Self {
        Self { error, is_temporary: false }
    }
}

impl<S> fmt::Debug for ClientState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = matches!(self.0, Phase::Open(_));
        f.debug_struct("ClientState").field("is_open", &is_open).finish_non_exhaustive()
    }
}

/// A handler of outgoing connections that speak WebSocket. For TLS set `ConnectOptions::tls`.
///
/// # Examples
/// ```no_run
/// use waterwheel::ws::{self, Client, Message, Options, Request};
/// use waterwheel::{ConnectOptions, Reactor};
///
/// struct Printer;
///
/// impl ws::Handler for Printer {
///     type State = ();
///
///     fn on_open(&mut self, _: &mut (), socket: &mut ws::Socket<'_>) {
///         socket.send_text("hello");
///     }
///
///     fn on_message(&mut self, _: &mut (), _: &mut ws::Socket<'_>, message: Message<'_>) {
///         println!("{message:?}");
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let client = reactor.register(Client::new(Printer, Options::default()));
/// let state = Request::new("localhost:7000", "/").with_state(());
/// reactor.connect("localhost:7000", client, state, &ConnectOptions::default());
/// reactor.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
/// A client that never gives up, and subscribes again each time. `on_open` is called for each new
/// connection, so what the server forgets is said there. `on_close` asks for the next connection,
/// which comes after a pause by the policy:
/// ```no_run
/// use waterwheel::ws::{self, Client, Ended, Message, Options, Request};
/// use waterwheel::{ConnectOptions, Context, Reactor, Reconnect};
///
/// struct Feed;
///
/// fn request(topic: String) -> ws::ClientState<String> {
///     Request::new("feed.example", "/prices").with_state(topic)
/// }
///
/// impl ws::Handler for Feed {
///     type State = String;
///
///     fn on_open(&mut self, topic: &mut String, socket: &mut ws::Socket<'_>) {
///         socket.send_text(&format!("subscribe {topic}"));
///     }
///
///     fn on_message(&mut self, _: &mut String, _: &mut ws::Socket<'_>, message: Message<'_>) {
///         println!("{message:?}");
///     }
///
///     fn on_close(&mut self, topic: String, ended: Ended<'_>, cx: &mut Context<'_>) {
///         if cx.reconnect(ended.closed, request(topic)).is_err() {
///             cx.stop(); // the reactor stops, or the policy has an end
///         }
///     }
/// }
///
/// let again = Reconnect::default().max_attempts(None);
/// // With the feature `tls`: `.tls(&config, "feed.example")`, and the port 443.
/// let options = ConnectOptions::default().reconnect(Some(again));
/// let mut reactor = Reactor::new()?;
/// let client = reactor.register(Client::new(Feed, Options::default()));
/// reactor.connect("feed.example:80", client, request("tea".to_owned()), &options);
/// reactor.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
/// The policy also covers the handshake. It is tried again if the connection ends before the
/// answer, if the answer takes too long, or if its status is 408, 429 or one of 500 to 599, as it
/// is while a server behind a balancer restarts. Each of these counts as a failed try, however long
/// the connection was up. No callback comes between the tries: `Stats::connect_retries` of the
/// reactor counts them, and the log says at the level `debug` why each has failed. After any other
/// answer, after an end by this side (a close, a limit on memory, a panic), and after the last try,
/// `on_connect_failed` is called.
pub struct Client<A> {
    /// The program's handler.
    pub app: A,
    shared: Rc<Shared>,
}

impl<A: Handler> Client<A> {
    /// A client with these options.
    pub fn new(app: A, options: Options) -> Self {
        Self { app, shared: Rc::new(Shared::new(options)) }
    }

    /// What its WebSockets have done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The head of the answer, once it is whole. Returns its length, with the interim answers.
    fn answered(
        &mut self,
        state: &mut ClientState<A::State>,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> usize {
        let Phase::Opening(opening) = &mut state.0 else { return input.len() };
        match read_answers(input, &opening.key, &self.shared.options) {
            Ok(None) => 0,
            Ok(Some((agreed, end))) => {
                let wire = Wire::new(Rc::clone(&self.shared), agreed, true);
                if let Phase::Opening(opening) = std::mem::replace(&mut state.0, Phase::Between) {
                    state.0 = Phase::Open(Session::new(opening.state, wire));
                }
                end
            }
            Err(failure) => {
                self.shared.count(|stats| stats.refused += 1);
                opening.failure = Some(failure);
                conn.abort();
                input.len()
            }
        }
    }
}

impl<A> fmt::Debug for Client<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Client");
        text.field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl<A: Handler> handler::Handler for Client<A> {
    type State = ClientState<A::State>;

    /// A client accepts no connections.
    fn on_accept(&mut self, _: &Peer) -> Option<Self::State> {
        None
    }

    fn on_open(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        let Phase::Opening(opening) = &mut state.0 else { return };
        let mut random = [0; 16];
        let filled = getrandom::fill(&mut random).map_err(io::Error::other);
        let checked = opening.request.check();
        let checked = checked.map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text));
        if let Err(error) = filled.and(checked) {
            opening.failure = Some(error.into());
            conn.abort();
            return;
        }
        opening.key = key_of(random);
        conn.write(opening.request.write(&opening.key, &self.shared.options).as_bytes());
        conn.set_deadline(DeadlineKind::User, Some(self.shared.options.handshake_timeout));
    }

    fn on_data(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if let Phase::Open(session) = &mut state.0 {
            return session.on_data(&mut self.app, conn, input);
        }
        let head = self.answered(state, conn, input);
        let Phase::Open(session) = &mut state.0 else { return head };
        session.on_open(&mut self.app, conn);
        if conn.is_paused() || is_ended(conn) {
            return head; // the rest comes again when reading goes on
        }
        // What stands behind the head does not come again by itself.
        head + session.on_data(&mut self.app, conn, &input[head..])
    }

    fn on_drain(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        if let Phase::Open(session) = &mut state.0 {
            session.on_drain(&mut self.app, conn);
        }
    }

    fn on_eof(&mut self, _: &mut Self::State, conn: &mut Conn<'_>) {
        conn.close();
    }

    fn on_idle(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        match &mut state.0 {
            Phase::Open(session) => session.on_idle(&mut self.app, conn, kind),
            _ => Idle::Close,
        }
    }

    fn on_deadline(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        _: DeadlineKind,
    ) -> Deadline {
        match &mut state.0 {
            Phase::Open(session) => session.on_deadline(&mut self.app, conn),
            Phase::Opening(opening) => {
                let text = "the server has not answered the handshake";
                let error = io::Error::new(io::ErrorKind::TimedOut, text);
                opening.failure = Some(Failure { error, is_temporary: true });
                Deadline::Reset
            }
            Phase::Between => Deadline::Reset,
        }
    }

    fn on_timer(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, timer: Timer) {
        if let Phase::Open(session) = &mut state.0 {
            session.on_timer(&mut self.app, conn, timer);
        }
    }

    fn on_shutdown(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        match &mut state.0 {
            Phase::Open(session) => session.on_shutdown(&mut self.app, conn),
            _ => conn.close(),
        }
    }

    fn on_close(&mut self, state: Self::State, closed: Closed, cx: &mut Context<'_>) {
        match state.0 {
            Phase::Open(session) => session.on_close(&mut self.app, &closed, cx),
            Phase::Opening(opening) => {
                if let Some((state, error)) = try_again(opening, closed, cx) {
                    self.app.on_connect_failed(state, error, cx);
                }
            }
            Phase::Between => {}
        }
    }

    fn on_connect_failed(&mut self, state: Self::State, error: io::Error, cx: &mut Context<'_>) {
        if let Phase::Opening(opening) = state.0 {
            self.app.on_connect_failed(opening.state, error, cx);
        }
    }
}

/// Whether a field says what the handshake itself says, or that a body follows: a second one would
/// have the server read another request than the one that is meant.
fn is_own(name: &str) -> bool {
    const OWN: [&str; 6] =
        ["host", "upgrade", "connection", "content-length", "transfer-encoding", "expect"];
    let begins = name.get(..14).is_some_and(|start| start.eq_ignore_ascii_case("sec-websocket-"));
    begins || OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// A text for an error: escaped, and not too long for a line of a log.
fn shown(text: &str) -> String {
    text.escape_debug().take(100).collect()
}

/// Connects again after a handshake that has failed, by the policy of the connection. Returns the
/// state and the error if there is no further try.
fn try_again<S: 'static>(
    mut opening: Box<Opening<S>>,
    closed: Closed,
    cx: &mut Context<'_>,
) -> Option<(S, io::Error)> {
    let failure = opening.failure.take();
    // By a call, a limit on memory or a panic: it would come again.
    let is_ours =
        matches!(closed.reason, CloseReason::Local | CloseReason::Overflow | CloseReason::Panic);
    let is_temporary = match &failure {
        Some(failure) => failure.is_temporary,
        None => !is_ours,
    };
    let mut state = ClientState(Phase::Opening(opening));
    if is_temporary {
        let why: &dyn fmt::Display = match &failure {
            Some(failure) => &failure.error,
            None => &closed.reason,
        };
        state = cx.retry_handshake(&closed, state, why).err()?;
    }
    let Phase::Opening(opening) = state.0 else { return None };
    let error = match (failure, closed.reason) {
        (Some(failure), _) => failure.error,
        (None, CloseReason::Io(error)) => error,
        (None, reason) => {
            let text = format!("before the server's answer: {reason}");
            io::Error::new(io::ErrorKind::UnexpectedEof, text)
        }
    };
    Some((opening.state, error))
}

/// Reads the head of the answer behind interim ones (RFC 9110, 15.2). Returns what was agreed, and
/// where that head ends; `None` if it is not all here.
fn read_answers(
    input: &[u8],
    key: &str,
    options: &Options,
) -> Result<Option<(Agreed, usize)>, Failure> {
    let looked_at = &input[..input.len().min(MAX_HEAD)];
    let mut start = 0;
    for _ in 0..=MAX_INTERIM {
        let rest = &looked_at[start..];
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
            // A server of TLS answers a plain request with an alert.
            if input.starts_with(&[0x15, 3]) {
                let text = "it is TLS; encrypt the connection with ConnectOptions::tls";
                return Err(invalid(text).into());
            }
            let is_long = looked_at.len() == MAX_HEAD;
            return if is_long {
                Err(invalid("the head of its answer is long").into())
            } else {
                Ok(None)
            };
        };
        let head = &rest[..end + 4];
        start += head.len();
        if let Some(agreed) = read_answer(head, key, options)? {
            return Ok(Some((agreed, start)));
        }
    }
    Err(invalid("it has sent too many interim answers").into())
}

/// Reads the head of an answer, strictly: of what a line may end with, CRLF alone is taken. `None`:
/// an interim answer.
fn read_answer(head: &[u8], key: &str, options: &Options) -> Result<Option<Agreed>, Failure> {
    if has_loose_line(head) {
        return Err(invalid("its answer has a line that does not end with CRLF").into());
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(invalid("its answer is cut").into()),
        Err(error) => return Err(invalid(&format!("its answer is no HTTP: {error}")).into()),
    }
    let status = answer.code.unwrap_or(0);
    if matches!(status, 100 | 102..=199) {
        return Ok(None);
    }
    if status != 101 {
        let text = format!("the server refused the handshake: its answer is {status}");
        let error = io::Error::new(io::ErrorKind::ConnectionRefused, text);
        let is_temporary = matches!(status, 408 | 429 | 500..=599);
        return Err(Failure { error, is_temporary });
    }
    if answer.version != Some(1) {
        return Err(invalid("its answer is not of HTTP/1.1").into());
    }
    let fields: Vec<_> = answer.headers.iter().map(|field| (field.name, field.value)).collect();
    let agreed = check_answer(&fields, key, options).map_err(invalid)?;
    Ok(Some(agreed))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server speaks no WebSocket: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_would_break_its_head_is_refused() {
        assert_eq!(Request::new("a", "/x?y").header("Origin", "b").check(), Ok(()));
        for request in [
            Request::new("a", "x"),
            Request::new("a", "/x y"),
            Request::new("a", "/x#y"),
            Request::new("a", "/x\r\n"),
            Request::new("", "/"),
            Request::new("a\r\nb", "/"),
            Request::new("a", "/").header("a b", "c"),
            Request::new("a", "/").header("a", "b\r\nc"),
            Request::new("a", "/").header("", "b"),
            Request::new("a", "/").header("host", "b"),
            Request::new("a", "/").header("Sec-WebSocket-Key", "b"),
            Request::new("a", "/").header("Transfer-Encoding", "chunked"),
            Request::new("a", "/").header("Content-Length", "5"),
        ] {
            assert!(request.check().is_err(), "{request:?}");
        }
    }

    #[test]
    fn an_answer_is_read_strictly() {
        let accept = crate::ws::handshake::accept_of(b"k");
        let good = format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let read = |text: &str| {
            let answer = read_answer(text.as_bytes(), "k", &Options::default());
            answer.map_err(|failure| failure.error.kind())
        };
        assert_eq!(read(&good), Ok(Some(Agreed::default())));
        for (from, to) in [
            ("1.1", "1.0"),
            ("X\r\n", "X\n"),
            ("X\r\n", "X\r\r\n"),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Upgrade: websocket", "Upgrade : websocket"),
            ("Connection: Upgrade", "Connection: close"),
            (&accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("HTTP", "HTPP"),
            ("X", "\0"),
        ] {
            let kind = io::ErrorKind::InvalidData;
            assert_eq!(read(&good.replacen(from, to, 1)), Err(kind), "{to:?}");
        }
        let refused = good.replacen("101", "403", 1);
        assert_eq!(read(&refused), Err(io::ErrorKind::ConnectionRefused));
    }
}
