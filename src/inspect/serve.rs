//! The page: an HTTP server of this library, fed by a timer while somebody looks.

use std::fmt::{self, Write};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::guard::{self, Token};
use super::lanes::{Lanes, MAX_ASKED};
use super::recorder::Recorder;
use super::tally::Peaks;
use super::trace::Recording;
use super::view::View;
use crate::base::histogram::Histogram;
use crate::base::id::{Timer, TimerId};
use crate::engine::observer::ObserverKey;
use crate::handler::{Context, HandlerKey, TimerHandler};
use crate::http::{self, Event, Next, ReplyId, Request, Response, Route, Router, Server};
use crate::options::{Destination, ListenOptions};
use crate::reactor::Reactor;
use crate::stream::Written;

/// So many pages may watch at once.
const MAX_VIEWERS: usize = 4;

/// The pages are told so often.
const TICK: Duration = Duration::from_millis(250);

/// A trace is written in pieces of so many records, so that it does not hold the loop.
const PIECE_RECORDS: usize = 512;

/// Between two pieces something else has its turn.
const PIECE_WAIT: Duration = Duration::from_millis(1);

/// So many traces may be under way.
const MAX_TRACES: usize = 2;

/// The token of the timer for traces.
const TRACE_TOKEN: u64 = 1;

/// A trace goes back so far.
const TRACE_WINDOW: Duration = Duration::from_secs(3_600);

const HTML: &str = include_str!("page/index.html");
const CSS: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const LANES: &str = include_str!("page/lanes.js");

/// What a page may load: what this server sends, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Fields of every answer.
const FIELDS: &[(&str, &str)] = &[
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

const NO_TOKEN: &str = "Open the address that the program has printed: it has the token of this \
    page. If you came by a link, load this page again.\n";

/// The page that [`serve`] has attached. `{}` writes its address with the token.
#[derive(Clone, Debug)]
pub struct Page {
    addr: SocketAddr,
    token: Token,
    recorder: ObserverKey<Recorder>,
}

impl Page {
    /// The address that is listened on, with its real port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address to open, with the token. Everyone who has the token can look, so do not write it
    /// to a log.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.addr, self.token)
    }

    /// The key of the recorder.
    #[must_use]
    pub fn recorder(&self) -> ObserverKey<Recorder> {
        self.recorder
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// Installs a [`Recorder`], and serves a page that shows what the loop does, as it does it.
///
/// The reactor that the page shows also serves it, on a loopback address only. The page's own
/// connections are not shown. At most four pages may be open, and while none is open they cost
/// nothing. A page cannot change anything.
///
/// # Examples
/// ```
/// use waterwheel::{TimerHandler, Reactor, inspect};
/// let mut reactor = Reactor::new()?;
/// # let addr = "127.0.0.1:0";
/// # /*
/// println!("{}", inspect::serve(&mut reactor, "127.0.0.1:7100")?);
/// # */
/// # println!("{}", inspect::serve(&mut reactor, addr)?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// - `InvalidInput`: the address does not parse, or is not one of loopback. To look from another
///   machine, forward a port: `ssh -L 7100:127.0.0.1:7100 HOST`.
/// - As for [`Reactor::listen`], and the system's if it has no random numbers.
pub fn serve(reactor: &mut Reactor, addr: impl Into<Destination>) -> io::Result<Page> {
    serve_recorder(reactor, addr, Recorder::new())
}

/// As [`serve`], with a recorder that has other options, or functions for slow callbacks and
/// panics.
///
/// # Errors
/// - As for [`serve`]; then the recorder is not installed.
pub fn serve_recorder(
    reactor: &mut Reactor,
    addr: impl Into<Destination>,
    recorder: Recorder,
) -> io::Result<Page> {
    let addrs = reactor.resolve_now(addr)?;
    if let Some(addr) = addrs.iter().find(|addr| !addr.ip().is_loopback()) {
        let text = format!("{addr} is not of loopback: the page is for this machine only");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let token = Token::new()?;
    let ticker = reactor.register(Ticker { server: None });
    let server = reactor.register(server(token.clone(), ticker));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen(addrs, server, options)?;
    let before = reactor.stats().callback_times;
    let key = reactor.observe(recorder);
    if let Some(recorder) = reactor.observer_mut(key) {
        recorder.ignore(server);
        recorder.ignore(ticker);
    }
    if let Some(ticker) = reactor.handler_mut(ticker) {
        ticker.server = Some(server);
    }
    if let Some(server) = reactor.handler_mut(server) {
        let watch = server.app();
        (watch.recorder, watch.before) = (Some(key), before);
        // Cookies are shared by all ports of an address.
        watch.cookie = format!("waterwheel-{}", addr.port());
    }
    Ok(Page { addr, token, recorder: key })
}

/// What the routes share.
#[derive(Debug)]
struct Watch {
    token: Token,
    /// The name of the cookie.
    cookie: String,
    recorder: Option<ObserverKey<Recorder>>,
    /// Callbacks that were told to other observers, before there was the recorder.
    before: Histogram,
    viewers: Vec<Viewer>,
    traces: Vec<Trace>,
    /// The timer for the next pieces of traces is set.
    is_paced: bool,
    ticker: HandlerKey<Ticker>,
    /// Runs while somebody watches.
    timer: Option<TimerId>,
}

/// A page that watches.
#[derive(Debug)]
struct Viewer {
    id: ReplyId,
    /// Whether the page has not read what it was sent: until then nothing more is sent.
    is_behind: bool,
    /// The connections that it looks at one by one.
    lanes: Lanes,
}

fn server(token: Token, ticker: HandlerKey<Ticker>) -> Server<Watch> {
    let routes = Router::new()
        .before(admit)
        .get("/", |_, _, res| send(res, "text/html; charset=utf-8", HTML))
        .get("/page.css", |_, _, res| send(res, "text/css; charset=utf-8", CSS))
        .get("/page.js", |_, _, res| send(res, "text/javascript; charset=utf-8", SCRIPT))
        .get("/lanes.js", |_, _, res| send(res, "text/javascript; charset=utf-8", LANES))
        .get("/events", begin)
        .get("/trace.json", trace)
        .fallback(Route::new().any(|_, _, res| res.status(404).text("there is nothing here\n")));
    let (cookie, viewers) = (String::new(), Vec::new());
    let traces = Vec::new();
    let (recorder, before, is_paced, timer) = (None, Histogram::default(), false, None);
    let watch = Watch { token, cookie, recorder, before, viewers, traces, is_paced, ticker, timer };
    Server::new(watch, routes).on_gone(|watch, id| {
        watch.viewers.retain(|viewer| viewer.id != id);
        watch.traces.retain(|trace| trace.id != id);
    })
}

/// Lets a request pass that may look; moves the token of the printed address into a cookie.
fn admit(watch: &mut Watch, req: &Request<'_>, res: &mut Response<'_, Watch>) -> Next {
    for (name, value) in FIELDS {
        res.header(name, value);
    }
    if let Err(why) = guard::check(req) {
        res.status(403).text(why);
        return Next::Done;
    }
    let given = req.query_value("token");
    if given.is_some_and(|given| req.path() == "/" && watch.token.is(&given)) {
        let Watch { cookie, token, .. } = watch;
        let cookie = format!("{cookie}={token}; Path=/; HttpOnly; SameSite=Strict");
        res.header("Set-Cookie", cookie).header("Cache-Control", "no-store").redirect("/");
        return Next::Done;
    }
    let kept = guard::cookie(req, &watch.cookie);
    if !kept.is_some_and(|kept| watch.token.is(kept)) {
        res.status(403).text(NO_TOKEN);
        return Next::Done;
    }
    Next::Go
}

fn send(res: &mut Response<'_, Watch>, media_type: &str, text: &str) {
    res.header("Cache-Control", "no-store").bytes(media_type, text.as_bytes());
}

/// A page begins to watch.
fn begin(watch: &mut Watch, req: &Request<'_>, res: &mut Response<'_, Watch>) {
    let Some(lanes) = Lanes::asked_for(req) else {
        res.status(400).text("order is active, oldest or newest; handler is a number\n");
        return;
    };
    if watch.viewers.len() >= MAX_VIEWERS {
        res.status(503).text("four pages watch already: close one of them\n");
        return;
    }
    let id = res.events(None);
    if watch.viewers.is_empty() {
        forget_peaks(watch, &mut res.context()); // of a time in which no page watched
    }
    let mut viewer = Viewer { id, is_behind: false, lanes };
    let view = view(watch, &mut res.context()).unwrap_or_default();
    let view = viewer.complete(view, watch.recorder, &mut res.context(), &mut { MAX_ASKED });
    res.send_event(&Event::new(&view).retry(Duration::from_secs(1)));
    res.on_drain(|watch, res| {
        let id = res.id();
        if let Some(viewer) = watch.viewers.iter_mut().find(|viewer| viewer.id == id) {
            viewer.is_behind = false;
        }
    });
    watch.viewers.push(viewer);
    if watch.timer.is_none() {
        watch.timer = Some(res.context().set_periodic_timer(watch.ticker, TICK, 0));
    }
}

/// The state of the recorder, as the page takes it, but for its lanes.
fn view(watch: &Watch, cx: &mut Context<'_>) -> Option<String> {
    let (state, all) = (cx.loop_state(), cx.stats().callback_times);
    let recorder = cx.observer(watch.recorder?)?;
    recorder.settle();
    let mut callbacks = *all.counts();
    let others = watch.before.counts().iter().zip(recorder.tally.ignored_lengths.counts());
    for (count, (before, ignored)) in callbacks.iter_mut().zip(others) {
        *count -= before + ignored;
    }
    Some(View { recorder, state, callbacks }.to_string())
}

impl Viewer {
    /// The view with the lanes of this page.
    fn complete(
        &mut self,
        mut view: String,
        recorder: Option<ObserverKey<Recorder>>,
        cx: &mut Context<'_>,
        asks: &mut usize,
    ) -> String {
        if let Some(look) = recorder.and_then(|key| self.lanes.look(key, cx, asks)) {
            // A string takes all that is written.
            let _ = write!(view, "{look}");
        }
        view
    }
}

/// Begins to look for peaks anew. A page that is behind misses one.
fn forget_peaks(watch: &Watch, cx: &mut Context<'_>) {
    if let Some(recorder) = watch.recorder.and_then(|key| cx.observer(key)) {
        recorder.tally.peaks = Peaks::default();
    }
}

/// Tells all pages; when there is none any more, the timer ends.
fn tick(server: &mut Server<Watch>, cx: &mut Context<'_>) {
    let watch = server.app();
    if watch.viewers.is_empty() {
        if let Some(timer) = watch.timer.take() {
            cx.cancel_timer(timer);
        }
        return;
    }
    let Some(view) = view(watch, cx) else { return };
    forget_peaks(watch, cx);
    let (recorder, mut asks) = (watch.recorder, MAX_ASKED);
    let in_time = watch.viewers.iter_mut().filter(|viewer| !viewer.is_behind);
    let complete = |it: &mut Viewer| (it.id, it.complete(view.clone(), recorder, cx, &mut asks));
    let views: Vec<(ReplyId, String)> = in_time.map(complete).collect();
    for (id, view) in views {
        let written = server.answer(cx, id, |_, res| res.send_event(&Event::new(&view)));
        let viewers = &mut server.app().viewers;
        match written {
            Some(Written::Below) => {}
            Some(Written::Above | Written::Full) => {
                let behind = viewers.iter_mut().filter(|viewer| viewer.id == id);
                behind.for_each(|viewer| viewer.is_behind = true);
            }
            Some(Written::Closed) | None => viewers.retain(|viewer| viewer.id != id),
        }
    }
}

/// Answers with all that is recorded, in pieces.
fn trace(watch: &mut Watch, _: &Request<'_>, res: &mut Response<'_, Watch>) {
    let Some(key) = watch.recorder else { return };
    if watch.traces.len() >= MAX_TRACES {
        res.status(503).text("two traces are under way already\n");
        return;
    }
    let recording = res.context().observer(key).map(|recorder| recorder.recording(TRACE_WINDOW));
    let Some(recording) = recording else { return };
    res.header("Content-Type", "application/json").header("Cache-Control", "no-store");
    res.header("Content-Disposition", "attachment; filename=\"waterwheel-trace.json\"");
    let id = res.stream(None);
    res.write(Recording::HEAD.as_bytes());
    res.on_drain(|watch, res| {
        let id = res.id();
        if let Some(trace) = watch.traces.iter_mut().find(|trace| trace.id == id) {
            trace.is_behind = false;
            watch.pace(&mut res.context());
        }
    });
    watch.traces.push(Trace { id, recording, next: 0, is_behind: false });
    watch.pace(&mut res.context());
}

/// Writes the next piece of each trace that is under way. A reader that is fast would have the
/// whole of it in one turn, for which everything else would wait.
fn write_traces(server: &mut Server<Watch>, cx: &mut Context<'_>) {
    server.app().is_paced = false;
    let traces = std::mem::take(&mut server.app().traces);
    for mut trace in traces {
        let id = trace.id;
        if trace.is_behind || server.answer(cx, id, |_, res| trace.write_piece(res)) == Some(false)
        {
            server.app().traces.push(trace);
        }
    }
    server.app().pace(cx);
}

impl Watch {
    /// Sets the timer for the next pieces, if there are any to write.
    fn pace(&mut self, cx: &mut Context<'_>) {
        if !self.is_paced && self.traces.iter().any(|trace| !trace.is_behind) {
            self.is_paced = true;
            cx.set_timer(self.ticker, PIECE_WAIT, TRACE_TOKEN);
        }
    }
}

/// A trace that is under way.
#[derive(Debug)]
struct Trace {
    id: ReplyId,
    recording: Recording,
    /// The record that is written next.
    next: usize,
    /// Its reader has not read what it was sent.
    is_behind: bool,
}

impl Trace {
    /// Whether that was the last piece.
    fn write_piece(&mut self, res: &mut Response<'_, Watch>) -> bool {
        let end = self.recording.len().min(self.next + PIECE_RECORDS);
        let mut text = String::new();
        self.recording.write_events(&mut text, self.next..end);
        let written = res.write(text.as_bytes());
        if !written.is_accepted() {
            return true; // it is cut short, and ends with a reset
        }
        self.is_behind = written == Written::Above;
        self.next = end;
        let is_done = end == self.recording.len();
        if is_done {
            res.write(Recording::TAIL.as_bytes());
            res.end();
        }
        is_done
    }
}

/// Has the pages told, by its timer. It serves no connections.
#[derive(Debug)]
struct Ticker {
    server: Option<HandlerKey<Server<Watch>>>,
}

impl TimerHandler for Ticker {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        match (self.server, timer.token) {
            (Some(server), TRACE_TOKEN) => cx.post(server, write_traces),
            (Some(server), _) => cx.post(server, tick),
            (None, _) => {}
        }
    }
}
