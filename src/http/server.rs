//! The server: a handler that anybody could have written.

use std::fmt;
use std::mem::MaybeUninit;

use super::clocks::arm;
use super::cut::{End, Parting, Serving};
use super::drive::{After, Driver, Step, ms, settle_later};
use super::exchange::{Exchange, Input, Output, ReplyId};
use super::head::{self, Head, HeadLimits, MAX_FIELDS};
use super::held::{close_if_idle_soon, is_idle};
use super::known::Known;
use super::options::Options;
use super::record::{Record, Saved};
use super::refusal::Refusal;
use super::respond;
use super::response::Response;
use super::router::{Router, Routes};
use super::shared::Shared;
use super::state::{Phase, State};
use super::stats::HttpStats;
use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::{Conn, Context, DeadlineKind, Handler, Peer, TimerHandler};
use crate::stream::Closed;

/// The function of [`Server::on_timer`].
type OnTimer<A> = Box<dyn FnMut(&mut A, Timer, &mut Context<'_>)>;

/// An HTTP/1.1 server: a [`Handler`] that is registered and passed to `listen` like any other. The
/// closures of its routes share a value of type `A`, which each gets as `&mut A`.
///
/// # Examples
/// ```no_run
/// use waterwheel::{TimerHandler, ListenOptions, Reactor, http};
///
/// let routes = http::Router::new()
///     .get("/", |_, _, res| res.text("hello\n"))
///     .get("/hello/{name}", |visits: &mut u64, req, res| {
///         *visits += 1;
///         res.text(&format!("hello, {}, visitor {visits}\n", req.param("name")));
///     });
/// let mut reactor = Reactor::new()?;
/// let web = reactor.register(http::Server::new(0, routes));
/// reactor.listen("127.0.0.1:8080", web, ListenOptions::default().limits(http::limits()))?;
/// reactor.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Server<A> {
    pub(super) app: A,
    routes: Routes<A>,
    pub(super) shared: Shared<A>,
    on_timer: Option<OnTimer<A>>,
    /// Where paths are decoded.
    room: String,
    /// Taken out while requests are served that borrow from it.
    known: Option<Box<Known>>,
}

impl<A: 'static> Server<A> {
    /// A server of these routes.
    #[must_use]
    pub fn new(app: A, routes: Router<A>) -> Self {
        Self {
            app,
            routes: Routes::new(routes),
            shared: Shared::new(),
            on_timer: None,
            room: String::new(),
            known: None,
        }
    }

    /// Sets limits and times.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.shared.options = options;
        self
    }

    /// Sets a function that is called when a connection ended before its answer was complete, if
    /// the answer was to come later or in pieces. Here the program can cancel work that no client
    /// waits for any more. A client that sends FIN while it waits may still read. So a FIN counts
    /// as the end only in a stream of events: see [`Response::later`]. A request whose body is cut
    /// by FIN, is malformed or comes too slowly gets no answer of the program's: then the call
    /// comes as the server ends the connection.
    #[must_use]
    pub fn on_gone(mut self, call: impl FnMut(&mut A, ReplyId) + 'static) -> Self {
        self.shared.on_gone = Some(Box::new(call));
        self
    }

    /// Sets a function that is called for each timer that is set with the key of the server
    /// ([`Reactor::set_periodic_timer`](crate::Reactor::set_periodic_timer),
    /// [`Context::set_timer`]): for example to remove entries that have expired.
    ///
    /// # Examples
    /// Sessions that are removed when their time is over, and not only when they are used:
    #[cfg_attr(feature = "http-session", doc = "```")]
    #[cfg_attr(not(feature = "http-session"), doc = "```ignore")]
    /// use std::time::Duration;
    /// use waterwheel::Reactor;
    /// use waterwheel::http::{CookieKeys, Router, Server, Sessions, SessionsOptions};
    ///
    /// let sessions = Sessions::<u64>::new(CookieKeys::generate()?, SessionsOptions::default());
    /// let server = Server::new(sessions, Router::new());
    /// let server = server.on_timer(|sessions, _, cx| sessions.expire(cx.now()));
    /// let mut reactor = Reactor::new()?;
    /// let web = reactor.register(server);
    /// reactor.set_periodic_timer(web, Duration::from_secs(1), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn on_timer(mut self, call: impl FnMut(&mut A, Timer, &mut Context<'_>) + 'static) -> Self {
        self.on_timer = Some(Box::new(call));
        self
    }

    /// Sets a function that gets a record of each exchange that is over: for a log, for counts, for
    /// quantiles. From then on [`Response::metrics`] has a histogram of their durations.
    #[must_use]
    pub fn on_finish(mut self, call: impl FnMut(&mut A, &Record<'_>) + 'static) -> Self {
        self.shared.on_finish = Some(Box::new(call));
        self.shared.durations = Some(Box::default());
        self
    }

    /// The value that the routes share.
    pub fn app(&mut self) -> &mut A {
        &mut self.app
    }

    /// What the server has done so far.
    #[must_use]
    pub fn stats(&self) -> HttpStats {
        self.shared.stats
    }

    /// Gives the answer to an exchange that was left open by [`Response::later`], or goes on with a
    /// streamed one. Returns what the closure returns. If the exchange is over, because it was
    /// answered or the client has gone, the closure is not run and the result is `None`. If the
    /// closure panics, the client gets a reset.
    ///
    /// Call it on the loop: in a closure of [`Remote::with`](crate::Remote::with),
    /// [`Context::post`] or an [`Offload`](crate::offload::Offload). [`Response::later`] has an
    /// example.
    pub fn answer<R>(
        &mut self,
        cx: &mut Context<'_>,
        id: ReplyId,
        call: impl FnOnce(&mut A, &mut Response<'_, A>) -> R,
    ) -> Option<R> {
        self.with(cx, id, |server, state, conn| {
            server.shared.begin(conn.context().now());
            let result = server.driver().answer(state, conn, id.exchange, call)?;
            state.is_above |= server.shared.is_above;
            server.go_on_with(state, conn);
            Some(result)
        })?
    }

    pub(super) fn settle_later(&mut self, cx: &mut Context<'_>, id: ReplyId) {
        self.with(cx, id, |server, state, conn| {
            server.shared.begin(conn.context().now());
            settle_later(server.driver(), state, conn, id.exchange);
            state.is_above |= server.shared.is_above;
            server.go_on_with(state, conn);
        });
    }

    /// Goes on with a connection outside of its callbacks.
    pub(super) fn with<R>(
        &mut self,
        cx: &mut Context<'_>,
        id: ReplyId,
        run: impl FnOnce(&mut Self, &mut State<A>, &mut Conn<'_>) -> R,
    ) -> Option<R> {
        let key = self.shared.key?;
        cx.with(key, id.conn, |state: &mut State<A>, conn| run(self, state, conn))
    }

    /// Takes what can be taken from the front of the input; how many bytes that is.
    #[inline]
    pub(super) fn feed(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> usize {
        let mut known = self.known.take().unwrap_or_default();
        let used = self.feed_all(state, conn, input, &mut known);
        self.known = Some(known);
        used
    }

    #[inline(always)]
    fn feed_all(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        input: &[u8],
        known: &mut Known,
    ) -> usize {
        let mut used = 0;
        while used < input.len() {
            if self.shared.budget == 0 {
                return used;
            }
            if used > 0 && is_ended(conn) {
                return input.len();
            }
            let rest = &input[used..];
            let step = match &mut state.phase {
                Phase::Head if state.is_above => {
                    self.shared.note_above(); // reading goes on all the same, if the limits say so
                    return used;
                }
                Phase::Head => self.read_head(state, conn, rest, known),
                Phase::Busy(_) => self.driver().read_body(state, conn, rest),
                Phase::Upgraded(_) => return used, // the loop hands it out
                Phase::Ended => return input.len(),
            };
            match step {
                Step::Used(count) => used += count,
                Step::Wait(count) => return used + count,
            }
        }
        used
    }

    pub(super) fn driver(&mut self) -> Driver<'_, A> {
        Driver { app: &mut self.app, shared: &mut self.shared }
    }

    /// Takes a head from the front of the input, if it is complete, and has it served.
    #[inline]
    fn read_head(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        input: &[u8],
        known: &mut Known,
    ) -> Step {
        match self.try_head(state, conn, input, known) {
            Ok(step) => step,
            Err(refusal) => {
                let is_head = head::asks_for_head(input);
                self.driver().refuse(state, conn, refusal, is_head);
                Step::Used(input.len())
            }
        }
    }

    #[inline]
    fn try_head(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        input: &[u8],
        known: &mut Known,
    ) -> Result<Step, Refusal> {
        let options = &self.shared.options;
        let limits = HeadLimits { head: options.max_head_bytes, target: options.max_target_bytes };
        if state.searched > 0 {
            // Parsing again with each packet would cost a slow client's head many times over.
            if head::find_end(input, state.searched as usize)?.is_none() {
                head::check_partial(input, limits)?;
                state.searched = input.len() as u32;
                return Ok(Step::Wait(0));
            }
        }
        let skipped = match input {
            [b'\r' | b'\n', ..] => head::skip_empty_lines(input)?,
            _ => 0,
        };
        let served = self.serve_first(state, conn, &input[skipped..], limits, known)?;
        if let Some(used) = served {
            return Ok(Step::Used(skipped + used));
        }
        head::find_end(&input[skipped..], 0)?; // each line that is here ends as it should
        // An empty line is no request that has begun, nor is the first half of one.
        if !matches!(input[skipped..], [] | [b'\r']) {
            self.await_head(state, conn, input.len());
        }
        Ok(Step::Wait(0))
    }

    /// Serves the request at the beginning of the input; how much of it that took, or `None` if
    /// more of its head is still to come.
    #[inline]
    fn serve_first(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        input: &[u8],
        limits: HeadLimits,
        known: &mut Known,
    ) -> Result<Option<usize>, Refusal> {
        if let Some((head, length)) = known.find(input, limits) {
            let body = self.serve(state, conn, &head, &input[length..])?;
            return Ok(Some(length + body));
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let known_host = &mut self.shared.known_host;
        let parsed = head::parse(input, &mut slots, limits, known_host)?;
        let Some((head, length)) = parsed else { return Ok(None) };
        known.learn(&input[..length], &head);
        let body = self.serve(state, conn, &head, &input[length..])?;
        Ok(Some(length + body))
    }

    /// A part of a head has come in: from now on it has its time.
    #[cold]
    fn await_head(&mut self, state: &mut State<A>, conn: &mut Conn<'_>, length: usize) {
        if state.searched == 0 {
            state.since = ms(conn.context().now());
            arm(&self.shared.options, conn, self.shared.options.head_timeout);
        }
        state.searched = length as u32;
    }

    /// Serves a request whose head is complete; how much of the input behind it that took.
    #[inline]
    fn serve(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        head: &Head<'_>,
        rest: &[u8],
    ) -> Result<usize, Refusal> {
        state.searched = 0;
        let path = head.target.routed(&mut self.room)?;
        self.shared.stats.requests += 1;
        self.shared.budget -= 1;
        self.shared.fields.clear();
        state.exchanges = state.exchanges.saturating_add(1);
        let mut exchange = Exchange::new(self.shared.stats.requests, head, rest.is_empty());
        let is_last = self.shared.options.max_requests.is_some_and(|max| state.exchanges >= max);
        exchange.keep_alive &= !is_last && !state.is_draining;
        if self.shared.on_finish.is_some() {
            exchange.saved =
                Some(Box::new(Saved::new(head, conn.peer_addr(), conn.context().now())));
        }
        let serving = Serving { phase: &mut state.phase, exchange: &mut exchange };
        let served = &mut *serving.exchange;
        call(&mut self.app, &mut self.routes, &mut self.shared, conn, (head, path), served);
        if served.is_usual_end() && !state.is_draining {
            serving.finish();
            state.since = self.shared.now;
            return Ok(0);
        }
        let mut driver = Driver { app: &mut self.app, shared: &mut self.shared };
        let mut used = 0;
        if !rest.is_empty() && served.waits_for_body() {
            // A body that is here already is taken without a place on the heap.
            used = match driver.take_body(served, conn, rest) {
                Ok(used) => used,
                Err(refusal) => {
                    drop(serving); // it gets its place
                    driver.refuse_body(state, conn, refusal);
                    return Ok(rest.len());
                }
            };
        }
        if served.output == Output::Unanswered && !served.is_late {
            // A handler that does not answer is told of by the path.
            let (peer, now) = (conn.peer_addr(), conn.context().now());
            let saved = || Box::new(Saved::target_only(head, peer, now));
            served.saved.get_or_insert_with(saved);
        }
        let after = driver.look(served, conn);
        serving.finish();
        match after {
            After::Busy => self.await_more(state, conn, exchange),
            after => driver.conclude(state, conn, &mut exchange, after),
        }
        Ok(used)
    }

    /// More of the body is due, or the answer comes later.
    fn await_more(&mut self, state: &mut State<A>, conn: &mut Conn<'_>, exchange: Exchange<A>) {
        let mut exchange = self.shared.place(exchange);
        self.shared.store(&mut exchange);
        state.since = ms(conn.context().now());
        (exchange.spare_since, exchange.spare_ms) = (state.since, 0);
        let is_due = !matches!(exchange.input, Input::None);
        if let (true, Some(rate)) = (is_due, self.shared.options.min_body_rate) {
            arm(&self.shared.options, conn, rate.grace());
        }
        state.phase = Phase::Busy(exchange);
        if state.is_draining {
            self.driver().settle(state, conn); // a stream of events would not end
        }
    }
}

/// Whether the connection has ended meanwhile, by a handler's word or at a limit: nobody would see
/// the answer to what it has sent besides.
pub(super) fn is_ended(conn: &mut Conn<'_>) -> bool {
    let id = conn.id();
    conn.other_conn(id).is_none()
}

/// Finds the handler of a request, and calls it.
#[inline]
fn call<A: 'static>(
    app: &mut A,
    routes: &mut Routes<A>,
    shared: &mut Shared<A>,
    conn: &mut Conn<'_>,
    (head, path): (&Head<'_>, &str),
    exchange: &mut Exchange<A>,
) {
    // Left where it is: to move it would copy the room for the values of parameters.
    let mut found = routes.find(exchange.method, path);
    let found = found.as_mut();
    let route_max = found.as_ref().and_then(|found| found.max_body_bytes());
    let max = route_max.unwrap_or(shared.options.max_body_bytes);
    exchange.max_body_bytes = max;
    let is_too_large = matches!(exchange.input, Input::Length(length) if length > max);
    let mut res = Response { conn: conn.reborrow(), shared, exchange };
    let Some(found) = found else { return respond::without_route(path, &mut res) };
    if is_too_large {
        return respond::too_large(&mut res);
    }
    found.call(app, (head, path), &mut res);
}

impl<A: 'static> Handler for Server<A> {
    type State = State<A>;

    fn on_accept(&mut self, _: &Peer) -> Option<State<A>> {
        Some(State::new())
    }

    fn on_open(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        state.since = ms(conn.context().now());
        arm(&self.shared.options, conn, self.shared.options.first_byte_timeout);
    }

    fn on_data(&mut self, state: &mut State<A>, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if state.held.is_some() {
            self.feed_held(state, conn, input);
            return input.len();
        }
        if let Phase::Upgraded(upgraded) = &mut state.phase {
            return upgraded.on_data(&mut self.app, conn, input);
        }
        self.shared.begin(conn.context().now());
        let used = self.feed(state, conn, input);
        state.is_above |= self.shared.is_above;
        if used < input.len() && self.must_hold(state) {
            state.held = Some(Box::new(input[used..].to_vec()));
            self.keep_held(state, conn);
            return input.len();
        }
        self.end_if_all_is_served(state, conn);
        used
    }

    fn on_drain(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        state.is_above = false;
        match &mut state.phase {
            Phase::Busy(exchange) => {
                let now = conn.context().now();
                self.shared.begin(now);
                state.since = ms(now);
                exchange.rate_anew(ms(now)); // nothing was read above the mark
                exchange.wants_drain = exchange.on_drain.is_some();
                // Else it would keep those of the answer that was made last, of another client.
                self.shared.load(exchange);
                let mut driver = Driver { app: &mut self.app, shared: &mut self.shared };
                driver.settle(state, conn);
                state.is_above = self.shared.is_above;
                self.feed_held(state, conn, b"");
            }
            Phase::Upgraded(upgraded) => upgraded.on_drain(&mut self.app, conn),
            Phase::Head => {
                if state.searched == 0 {
                    state.since = ms(conn.context().now()); // until now the client has read
                }
                self.feed_held(state, conn, b"");
                if state.is_draining {
                    close_if_idle_soon::<A>(conn);
                }
            }
            Phase::Ended => {}
        }
    }

    fn on_eof(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        if let Phase::Upgraded(upgraded) = &mut state.phase {
            return upgraded.on_eof(&mut self.app, conn);
        }
        // What is held was sent before the end.
        state.has_ended = true;
        self.feed_held(state, conn, b"");
    }

    fn on_idle(&mut self, state: &mut State<A>, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        match &mut state.phase {
            Phase::Upgraded(upgraded) => upgraded.on_idle(&mut self.app, conn, kind),
            // The client does not keep anybody waiting.
            Phase::Busy(exchange) if !exchange.waits_for_body() => Idle::Keep,
            _ => Idle::Close,
        }
    }

    fn on_deadline(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        _: DeadlineKind,
    ) -> Deadline {
        match &mut state.phase {
            Phase::Upgraded(upgraded) => return upgraded.on_deadline(&mut self.app, conn),
            Phase::Busy(exchange) if exchange.heartbeat.is_some() => {
                return self.driver().beat(exchange, conn);
            }
            Phase::Busy(_) => return self.check_rate(state, conn),
            Phase::Head | Phase::Ended => {}
        }
        self.check_head(state, conn)
    }

    fn on_timer(&mut self, state: &mut State<A>, conn: &mut Conn<'_>, timer: Timer) {
        if let Phase::Upgraded(upgraded) = &mut state.phase {
            upgraded.on_timer(&mut self.app, conn, timer);
        }
    }

    fn on_shutdown(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        state.is_draining = true;
        let is_idle = is_idle(state, conn);
        match &mut state.phase {
            Phase::Busy(exchange) => {
                if exchange.output == Output::Unanswered {
                    exchange.keep_alive = false; // else the client was told otherwise
                }
                if exchange.is_events {
                    // Nothing else would end it; the page connects again, elsewhere.
                    self.shared.begin(conn.context().now());
                    self.driver().end_events(state, conn);
                    state.is_above |= self.shared.is_above;
                    self.go_on_with(state, conn);
                }
            }
            Phase::Upgraded(upgraded) => upgraded.on_shutdown(&mut self.app, conn),
            Phase::Head if !is_idle => {} // what has begun to come in is served, and is the last
            Phase::Head | Phase::Ended => conn.close(),
        }
    }

    fn on_close(&mut self, mut state: State<A>, closed: Closed, cx: &mut Context<'_>) {
        match std::mem::replace(&mut state.phase, Phase::Ended) {
            Phase::Upgraded(upgraded) => upgraded.on_close(&mut self.app, &closed, cx),
            Phase::Busy(exchange) => {
                // An answer may be whole although the client has not sent all of its body.
                let is_sent = closed.unsent_bytes == 0;
                let end = End { conn: closed.id, is_sent, now: cx.now(), time: cx.system_time() };
                Parting::new(self, cx, exchange, end).tell();
            }
            Phase::Head | Phase::Ended => {}
        }
    }
}

impl<A: 'static> TimerHandler for Server<A> {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        if let Some(on_timer) = &mut self.on_timer {
            on_timer(&mut self.app, timer, cx);
        }
    }
}

impl<A> fmt::Debug for Server<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("stats", &self.shared.stats).finish_non_exhaustive()
    }
}
