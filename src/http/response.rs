//! The answer to a request, lent to whoever gives it.

use std::fmt;
use std::net::SocketAddr;

use super::body::Body;
use super::drive::ms;
use super::exchange::{Exchange, Input, Output, Reader, ReplyId, Rest};
use super::fields::{self, Fields, InvalidField};
use super::respond::{self, Kind};
use super::server::Server;
use super::shared::Shared;
use super::state::State;
use super::upgrade::Upgraded;
use crate::handler::{Conn, Context};
use crate::stream::Written;

/// The answer to a request: its status and header fields, then its body. A handler gets it, and so
/// does the closure that gives the answer later.
///
/// | the answer | call |
/// |---|---|
/// | is known | [`text`](Self::text), [`html`](Self::html), [`json_bytes`](Self::json_bytes) |
/// | | [`bytes`](Self::bytes), [`body`](Self::body), [`empty`](Self::empty) |
/// | is elsewhere | [`redirect`](Self::redirect) |
/// | depends on the body of the request | [`receive`](Self::receive), [`collect`](Self::collect) |
/// | comes later | [`later`](Self::later), and [`Server::answer`] |
/// | comes in pieces | [`stream`](Self::stream), [`write`](Self::write), [`end`](Self::end) |
/// | is another protocol | [`upgrade`](Self::upgrade) |
///
/// If a handler does none of these, the client gets a 500, and an error is logged.
///
/// The server sets `Date`, `Content-Length`, `Connection` and `Transfer-Encoding` itself; a handler
/// cannot set them.
pub struct Response<'a, A> {
    pub(super) conn: Conn<'a>,
    pub(super) shared: &'a mut Shared<A>,
    pub(super) exchange: &'a mut Exchange<A>,
}

impl<A: 'static> Response<'_, A> {
    /// Sets the status, from 200 to 599. Default 200.
    pub fn status(&mut self, status: u16) -> &mut Self {
        if (200..=599).contains(&status) {
            self.exchange.status = status;
        } else {
            self.fail(format_args!("{status} is no status of an answer: 200 to 599 are"));
        }
        self
    }

    /// Adds a header field. If its name or value is malformed, the answer becomes a 500 without the
    /// field, and an error is logged. So a value can never inject another field.
    pub fn header(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        if let Err(error) = self.try_header(name, value) {
            self.fail(format_args!("{error}"));
        }
        self
    }

    /// Adds a field.
    ///
    /// # Errors
    /// The name is not a token, or the value has a control character, or the server sets the field
    /// itself. The answer is as it was.
    pub fn try_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        let value = value.as_ref();
        fields::check(name, value)?;
        let fields = &mut self.shared.fields;
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            fields.extend_from_slice(part);
        }
        Ok(())
    }

    /// Adds fields that were checked before.
    pub fn fields(&mut self, fields: &Fields) -> &mut Self {
        self.shared.fields.extend_from_slice(fields.lines());
        self
    }

    /// Something was set that cannot be sent: whatever follows, the answer is a 500.
    #[cold]
    pub(super) fn fail(&mut self, why: fmt::Arguments<'_>) {
        log::error!("{}: {why}", self.id());
        self.exchange.is_failed = true;
    }

    /// Ends the connection after this answer, which has the field `Connection: close` then. Call it
    /// before the answer is begun.
    pub fn close_after(&mut self) -> &mut Self {
        self.exchange.keep_alive = false;
        self
    }

    /// Answers with a text of UTF-8.
    pub fn text(&mut self, body: &str) {
        self.send(Kind::Line(respond::TEXT), body.as_bytes());
    }

    /// Answers with a page of HTML.
    pub fn html(&mut self, body: &str) {
        self.send(Kind::Line("Content-Type: text/html; charset=utf-8\r\n"), body.as_bytes());
    }

    /// Answers with JSON that is encoded already, as by `serde_json::to_vec`.
    pub fn json_bytes(&mut self, body: &[u8]) {
        self.send(Kind::Line("Content-Type: application/json\r\n"), body);
    }

    /// Answers with bytes of a media type.
    pub fn bytes(&mut self, media_type: &str, body: &[u8]) {
        if let Err(error) = fields::check("Content-Type", media_type.as_bytes()) {
            self.fail(format_args!("{error}"));
        }
        self.send(Kind::Value(media_type), body);
    }

    /// Answers with bytes. Their type is that of the field `Content-Type`, if it was added.
    pub fn body(&mut self, body: &[u8]) {
        self.send(Kind::None, body);
    }

    /// Answers without a body.
    pub fn empty(&mut self) {
        self.send(Kind::None, b"");
    }

    /// Answers that the client shall go elsewhere: with 303 See Other, unless another status of
    /// redirection was set.
    pub fn redirect(&mut self, location: &str) {
        if !(300..400).contains(&self.exchange.status) {
            self.exchange.status = 303;
        }
        self.header("Location", location).empty();
    }

    #[inline]
    fn send(&mut self, kind: Kind<'_>, body: &[u8]) {
        if self.exchange.output != Output::Unanswered {
            self.refuse_second();
        } else if self.exchange.is_failed {
            respond::fail(self);
        } else {
            respond::send(self, kind, body);
        }
    }

    #[cold]
    pub(super) fn refuse_second(&mut self) {
        log::error!("{}: the answer was given already", self.id());
    }

    /// Whether no answer has been begun so far.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.exchange.output == Output::Unanswered && self.exchange.upgrade.is_none()
    }

    /// The id of the exchange, for records and for [`Server::answer`].
    #[must_use]
    pub fn id(&self) -> ReplyId {
        ReplyId { conn: self.conn.id(), exchange: self.exchange.number }
    }

    /// Declares that the answer comes later, and returns an id for it. Pass the id to
    /// [`Server::answer`] on the loop, which other threads reach by
    /// [`Remote::with`](crate::Remote::with), or to [`answer`](Self::answer) in a route of another
    /// request. Until then this route may still answer by itself, for example with a 503 if its
    /// queue is full.
    ///
    /// The next request of the connection waits until then. If the connection breaks first (a
    /// reset), the id finds nothing any more, and [`Server::on_gone`] is called. A FIN of the
    /// client is not enough for that. It means that the client sends nothing more, but not whether
    /// the client still reads. Most programs send FIN when they are ended while they wait, so their
    /// answers are made, and lost when they are written.
    ///
    /// # Examples
    /// ```
    /// use std::thread;
    /// use waterwheel::{Reactor, http};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let remote = reactor.remote();
    /// let routes = http::Router::new().get("/slow", move |_, _, res| {
    ///     let (id, web, remote) = (res.later(), res.server(), remote.clone());
    ///     thread::spawn(move || {
    ///         let answer = "it took a while\n";
    ///         remote.with(web, move |server, cx| {
    ///             server.answer(cx, id, |_, res| res.text(answer));
    ///         })
    ///     });
    /// });
    /// let web = reactor.register(http::Server::new((), routes));
    /// # let _ = web;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn later(&mut self) -> ReplyId {
        self.exchange.is_late = true;
        self.learn_key();
        self.id()
    }

    /// The key of the server.
    #[must_use]
    pub fn server(&self) -> crate::handler::HandlerKey<Server<A>> {
        self.conn.handler_key()
    }

    pub(super) fn learn_key(&mut self) {
        if self.shared.key.is_none() {
            self.shared.key = Some(self.conn.handler_key());
        }
    }

    /// Gives the answer of another exchange that waits, as [`Server::answer`] does, in a route of
    /// this one. Returns `None` if the other exchange is over, or if the id is that of this one.
    pub fn answer<R>(
        &mut self,
        id: ReplyId,
        call: impl FnOnce(&mut Response<'_, A>) -> R,
    ) -> Option<R> {
        let key = self.shared.key?;
        let shared = &mut *self.shared;
        // The fields of the two answers must not meet, and the queue of the other connection holds
        // up no request of this one.
        let own = std::mem::take(&mut shared.fields);
        let (budget, is_above) = (shared.budget, shared.is_above);
        let result = self.conn.context().with(key, id.conn, |state: &mut State<A>, conn| {
            super::drive::answer_other(shared, state, conn, id.exchange, call)
        });
        self.shared.fields = own;
        (self.shared.budget, self.shared.is_above) = (budget, is_above);
        result?
    }

    /// Asks for the body, which `body` gets piece by piece as it comes in. A client that has sent
    /// `Expect: 100-continue` now gets `100 Continue`. Without a body `on_end` follows at once.
    ///
    /// A body over the limit of the route is answered 413, one that is compressed 415 unless
    /// [`allow_encoded_body`](Self::allow_encoded_body) was called.
    pub fn receive(&mut self, body: impl Body<A>) {
        self.ask_for_body(Reader::Body(Box::new(body)));
    }

    /// Asks for the body, of at most `max_bytes`, and calls `then` when it is complete. A larger
    /// body is answered 413, in the server's own words. The limit of the route holds too: for more
    /// than [`Options::max_body_bytes`](super::Options::max_body_bytes) (1 MiB by default) set
    /// [`Route::max_body_bytes`](super::Route::max_body_bytes). A body that came together with the
    /// head is not copied.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::http::Router;
    /// let routes: Router<()> = Router::new().post("/len", |_, _, res| {
    ///     res.collect(1 << 20, |_, body, res| {
    ///         res.text(&body.len().to_string());
    ///     });
    /// });
    /// # let _ = routes;
    /// ```
    pub fn collect(
        &mut self,
        max_bytes: u64,
        then: impl FnOnce(&mut A, &[u8], &mut Response<'_, A>) + 'static,
    ) {
        self.exchange.max_body_bytes = self.exchange.max_body_bytes.min(max_bytes);
        self.ask_for_body(Reader::Collect { bytes: Vec::new(), then: Box::new(then) });
    }

    fn ask_for_body(&mut self, reader: Reader<A>) {
        if !matches!(self.exchange.reader, Reader::Unasked) || !self.is_unanswered() {
            log::error!("{}: a body is asked for once, and before the answer", self.id());
            return;
        }
        if self.exchange.is_encoded {
            self.status(415).text("the body is compressed, which this server does not take\n");
            return;
        }
        let max = self.exchange.max_body_bytes;
        if matches!(self.exchange.input, Input::Length(length) if length > max) {
            respond::too_large(self);
            return;
        }
        if self.exchange.expects_continue {
            self.exchange.expects_continue = false;
            self.shared.stats.count(100);
            self.conn.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.learn_key(); // a pause is ended by the id, also if the answer does not come later
        self.exchange.spare(ms(self.conn.context().now()));
        self.exchange.reader = reader;
        self.exchange.is_reading = true;
    }

    /// Accepts a compressed body (`Content-Encoding`) and leaves it compressed, for a program that
    /// passes it on. Call it before the body is asked for. Without it a compressed body is answered
    /// 415.
    pub fn allow_encoded_body(&mut self) -> &mut Self {
        self.exchange.is_encoded = false;
        self
    }

    /// Goes on with a body that was paused by [`Flow::Pause`](super::Flow::Pause).
    pub fn resume(&mut self) {
        if std::mem::take(&mut self.exchange.is_paused) {
            self.exchange.spare(ms(self.conn.context().now()));
            self.conn.resume_reading();
        }
    }

    /// Writes the head of an answer whose body follows by [`write`](Self::write) and ends with
    /// [`end`](Self::end), here or later. With a length, so many bytes must follow; without one it
    /// is sent in chunks, and to clients of HTTP/1.0 until the connection closes.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Written;
    /// use waterwheel::http::Router;
    /// let routes: Router<()> = Router::new().get("/count", |_, _, res| {
    ///     let mut next = 0_u32;
    ///     res.status(200).header("Content-Type", "text/plain");
    ///     res.stream(None);
    ///     res.on_drain(move |_, res| {
    ///         while next < 1_000_000 {
    ///             next += 1;
    ///             if res.write(format!("{next}\n").as_bytes()) != Written::Below {
    ///                 return; // called again when there is room
    ///             }
    ///         }
    ///         res.end();
    ///     });
    /// });
    /// # let _ = routes;
    /// ```
    pub fn stream(&mut self, length: Option<u64>) -> ReplyId {
        self.learn_key();
        if self.exchange.output != Output::Unanswered {
            self.refuse_second();
        } else if self.exchange.is_failed {
            respond::fail(self);
        } else {
            respond::begin(self, length);
        }
        self.id()
    }

    /// Writes a piece of a streamed body. See [`Written`] for the marks; `on_drain` follows as for
    /// [`Conn::write`](crate::Conn::write). More than the length that was given is refused, with
    /// `Closed`, and an error is logged.
    pub fn write(&mut self, piece: &[u8]) -> Written {
        respond::write(self, piece)
    }

    /// Sends what was written so far, where the answer is compressed: the compressor holds back
    /// what it is given until it has enough of it (`Gzip::streams`). Elsewhere nothing is held
    /// back. The fewer flushes, the smaller the answer.
    pub fn flush(&mut self) -> Written {
        respond::flush(self)
    }

    /// Ends a streamed body. If its length was given and not reached, the connection ends with a
    /// reset, so that the client does not take the part for the whole.
    pub fn end(&mut self) {
        respond::end(self);
    }

    /// Sets a closure that is called soon, and again whenever the output of a streamed answer has
    /// fallen to the low mark. The closure is dropped when the exchange is over.
    ///
    /// An answer without a body (to HEAD, or with the status 204 or 304) is complete instead: the
    /// closure is not called, and nothing more is to be written or ended.
    pub fn on_drain(&mut self, call: impl FnMut(&mut A, &mut Response<'_, A>) + 'static) {
        self.exchange.on_drain = Some(Box::new(call));
        self.exchange.wants_drain = true;
    }

    /// Answers 101: the connection goes on with another protocol, in the hands of `upgraded`. What
    /// the client has sent behind the head is its first input.
    ///
    /// Ask [`Request::wants_upgrade`](super::Request::wants_upgrade) first. A request with a body
    /// is answered 400 instead.
    pub fn upgrade(&mut self, protocol: &str, upgraded: impl Upgraded<A>) {
        if !self.is_unanswered() {
            self.refuse_second();
            return;
        }
        if !matches!(self.exchange.input, Input::None) {
            self.exchange.keep_alive = false;
            self.status(400).text("a request with a body cannot be upgraded\n");
            return;
        }
        respond::upgrade(self, protocol, Box::new(upgraded));
    }

    /// The client.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.conn.peer_addr()
    }

    /// The connection's TLS, if it has any.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<crate::tls::TlsInfo<'_>> {
        self.conn.tls()
    }

    /// The loop.
    pub fn context(&mut self) -> Context<'_> {
        self.conn.context()
    }
}

impl<A> fmt::Debug for Response<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Response");
        text.field("status", &self.exchange.status).field("output", &self.exchange.output);
        text.finish_non_exhaustive()
    }
}

impl Rest {
    /// How a body of a length is sent to a client.
    pub(super) fn new(length: Option<u64>, is_http_11: bool) -> Self {
        match length {
            Some(length) => Self::Length(length),
            None if is_http_11 => Self::Chunks,
            None => Self::UntilClose,
        }
    }
}
