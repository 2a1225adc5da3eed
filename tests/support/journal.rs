//! Every callback, written down in order and held against the grammar.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use waterwheel::{
    Closed, Conn, ConnId, ConnectRetry, Context, Deadline, DeadlineKind, Handler, Idle, IdleKind,
    Peer, Timer, TimerHandler, TimerId,
};

/// A callback, or a note of the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Accept,
    Open,
    /// The bytes that were lent.
    Data(Vec<u8>),
    Drain,
    Eof,
    Idle(IdleKind),
    Deadline,
    Timer(TimerId),
    Shutdown,
    /// The reason in its debug form, and the unsent bytes.
    Close(String, usize),
    /// The tries so far.
    ConnectRetry(u32),
    ConnectFailed(io::ErrorKind, String),
    HandlerTimer,
    Note(&'static str),
}

#[derive(Debug, Default)]
struct Pages {
    calls: Vec<(Option<ConnId>, Call)>,
    violations: Vec<String>,
    opened: usize,
    closed: usize,
    /// The connection whose end was given back by the test, and not told since.
    end_given_back: Option<ConnId>,
}

/// The shared record of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pages: Rc<RefCell<Pages>>,
    /// Whether a callback is running.
    running: Rc<Cell<bool>>,
    /// States that are alive, of connections that opened or not.
    states: Rc<Cell<usize>>,
}

impl Journal {
    /// Holds a handler against the grammar and writes its callbacks down.
    pub(crate) fn watch<H: Handler>(&self, inner: H) -> Watched<H> {
        Watched { inner, journal: self.clone() }
    }

    /// A state for an outgoing connection of a watched handler.
    pub(crate) fn life<S>(&self, state: S) -> Life<S> {
        self.states.set(self.states.get() + 1);
        Life {
            state: Some(state),
            id: None,
            stage: Stage::New,
            rest: Vec::new(),
            states: self.states.clone(),
        }
    }

    pub(crate) fn note(&self, note: &'static str) {
        self.put(None, Call::Note(note));
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        let pages = self.pages.borrow();
        pages.calls.iter().map(|(_, call)| call.clone()).collect()
    }

    /// The calls of one connection, with the notes of the test between them.
    pub(crate) fn calls_of(&self, id: ConnId) -> Vec<Call> {
        let pages = self.pages.borrow();
        let calls = pages.calls.iter();
        calls
            .filter(|(of, call)| *of == Some(id) || matches!(call, Call::Note(_)))
            .map(|(_, call)| call.clone())
            .collect()
    }

    pub(crate) fn count(&self, matching: impl Fn(&Call) -> bool) -> usize {
        let pages = self.pages.borrow();
        pages.calls.iter().filter(|(_, c)| matching(c)).count()
    }

    pub(crate) fn has(&self, call: &Call) -> bool {
        self.count(|found| found == call) > 0
    }

    /// The connections that have opened, in order.
    pub(crate) fn opened(&self) -> Vec<ConnId> {
        let pages = self.pages.borrow();
        let calls = pages.calls.iter();
        calls.filter(|(_, call)| *call == Call::Open).filter_map(|(id, _)| *id).collect()
    }

    pub(crate) fn closes(&self) -> usize {
        self.count(|call| matches!(call, Call::Close(..)))
    }

    /// The last connection that has opened.
    #[track_caller]
    pub(crate) fn last(&self) -> ConnId {
        *self.opened().last().expect("a connection has opened")
    }

    /// How a connection ended: the reason in its debug form, and the unsent bytes.
    pub(crate) fn close_of(&self, id: ConnId) -> Option<(String, usize)> {
        self.calls_of(id).into_iter().find_map(|call| match call {
            Call::Close(reason, unsent) => Some((reason, unsent)),
            _ => None,
        })
    }

    /// All bytes that `on_data` was lent, one call after the other: the stream as it was sent,
    /// if the handler consumes everything.
    pub(crate) fn data_of(&self, id: ConnId) -> Vec<u8> {
        let mut all = Vec::new();
        for call in self.calls_of(id) {
            if let Call::Data(bytes) = call {
                all.extend(bytes);
            }
        }
        all
    }

    /// The test has given back the end of a connection, which may be told again.
    pub(crate) fn note_end_given_back(&self, id: ConnId) {
        self.pages.borrow_mut().end_given_back = Some(id);
    }

    /// States that are alive.
    pub(crate) fn states(&self) -> usize {
        self.states.get()
    }

    /// What broke the grammar so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.pages.borrow().violations.clone()
    }

    /// At the end, when the reactor is gone.
    #[track_caller]
    pub(crate) fn expect_balanced(&self) {
        let pages = self.pages.borrow();
        let calls = &pages.calls;
        assert!(pages.violations.is_empty(), "{:#?}\n{calls:#?}", pages.violations);
        assert_eq!(pages.opened, pages.closed, "on_open, on_close: {calls:#?}");
        assert_eq!(self.states.get(), 0, "a state was lost: {calls:#?}");
    }

    fn put(&self, id: Option<ConnId>, call: Call) {
        self.pages.borrow_mut().calls.push((id, call));
    }

    fn violated(&self, id: Option<ConnId>, rule: &str) {
        let mut pages = self.pages.borrow_mut();
        let text = format!("{id:?}: {rule}, after {} calls", pages.calls.len());
        pages.violations.push(text);
    }

    fn enter(&self, id: Option<ConnId>, call: Call) -> Running {
        if self.running.replace(true) {
            self.violated(id, "callbacks are nested");
        }
        self.put(id, call);
        Running(self.running.clone())
    }
}

/// A callback runs until this is dropped, also if it panics.
struct Running(Rc<Cell<bool>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Open,
    Ended,
}

/// A state, and where its connection is in the grammar.
#[derive(Debug)]
pub(crate) struct Life<S> {
    /// `None` only while it is given back.
    state: Option<S>,
    id: Option<ConnId>,
    stage: Stage,
    /// What the handler has left unconsumed.
    rest: Vec<u8>,
    states: Rc<Cell<usize>>,
}

impl<S> Drop for Life<S> {
    fn drop(&mut self) {
        self.states.set(self.states.get() - 1);
    }
}

impl<S> Life<S> {
    fn state(&mut self) -> &mut S {
        self.state.as_mut().unwrap()
    }
}

/// A handler whose callbacks are written down and held against the grammar.
#[derive(Debug)]
pub(crate) struct Watched<H> {
    pub(crate) inner: H,
    pub(crate) journal: Journal,
}

impl<H: Handler> Watched<H> {
    /// A callback of a connection that must be open.
    fn begin(&self, life: &mut Life<H::State>, conn: &Conn<'_>, call: Call) -> Running {
        let id = Some(conn.id());
        if self.journal.pages.borrow_mut().end_given_back.take_if(|of| Some(*of) == id).is_some() {
            life.stage = Stage::Open;
        }
        if life.stage == Stage::New {
            self.journal.violated(id, "a callback before on_open");
        }
        if life.id != id {
            self.journal.violated(id, "the state of somebody else");
        }
        self.journal.enter(id, call)
    }
}

impl<H: Handler> Handler for Watched<H> {
    type State = Life<H::State>;

    fn on_accept(&mut self, peer: &Peer) -> Option<Self::State> {
        let _running = self.journal.enter(None, Call::Accept);
        let state = self.inner.on_accept(peer)?;
        Some(self.journal.life(state))
    }

    fn on_refuse(&mut self, peer: &Peer) -> &[u8] {
        self.inner.on_refuse(peer)
    }

    fn on_open(&mut self, life: &mut Self::State, conn: &mut Conn<'_>) {
        let id = Some(conn.id());
        if life.stage != Stage::New {
            self.journal.violated(id, "on_open twice");
        }
        (life.stage, life.id) = (Stage::Open, id);
        self.journal.pages.borrow_mut().opened += 1;
        let _running = self.journal.enter(id, Call::Open);
        self.inner.on_open(life.state(), conn);
    }

    fn on_data(&mut self, life: &mut Self::State, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let id = Some(conn.id());
        let _running = self.begin(life, conn, Call::Data(input.to_vec()));
        if life.stage == Stage::Ended {
            self.journal.violated(id, "on_data after on_eof");
        }
        if input.is_empty() {
            self.journal.violated(id, "on_data without data");
        }
        if !input.starts_with(&life.rest) {
            self.journal.violated(id, "the rest did not come first");
        }
        life.rest.clear();
        let consumed = self.inner.on_data(life.state(), conn, input);
        life.rest.extend(&input[consumed.min(input.len())..]);
        consumed
    }

    fn on_drain(&mut self, life: &mut Self::State, conn: &mut Conn<'_>) {
        let _running = self.begin(life, conn, Call::Drain);
        self.inner.on_drain(life.state(), conn);
    }

    fn on_eof(&mut self, life: &mut Self::State, conn: &mut Conn<'_>) {
        let _running = self.begin(life, conn, Call::Eof);
        if life.stage == Stage::Ended {
            self.journal.violated(life.id, "on_eof twice");
        }
        life.stage = Stage::Ended;
        self.inner.on_eof(life.state(), conn);
    }

    fn on_idle(&mut self, life: &mut Self::State, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        let _running = self.begin(life, conn, Call::Idle(kind));
        self.inner.on_idle(life.state(), conn, kind)
    }

    fn on_deadline(
        &mut self,
        life: &mut Self::State,
        conn: &mut Conn<'_>,
        kind: DeadlineKind,
    ) -> Deadline {
        let _running = self.begin(life, conn, Call::Deadline);
        self.inner.on_deadline(life.state(), conn, kind)
    }

    fn on_timer(&mut self, life: &mut Self::State, conn: &mut Conn<'_>, timer: Timer) {
        let _running = self.begin(life, conn, Call::Timer(timer.id));
        self.inner.on_timer(life.state(), conn, timer);
    }

    fn on_shutdown(&mut self, life: &mut Self::State, conn: &mut Conn<'_>) {
        let _running = self.begin(life, conn, Call::Shutdown);
        self.inner.on_shutdown(life.state(), conn);
    }

    fn on_close(&mut self, mut life: Self::State, closed: Closed, cx: &mut Context<'_>) {
        let id = Some(closed.id);
        let call = Call::Close(format!("{:?}", closed.reason), closed.unsent_bytes);
        if life.stage == Stage::New {
            self.journal.violated(id, "on_close without on_open");
        }
        if life.id != id {
            self.journal.violated(id, "the state of somebody else");
        }
        if cx.conn(closed.id).is_some() {
            self.journal.violated(id, "its id still finds it");
        }
        self.journal.pages.borrow_mut().closed += 1;
        let _running = self.journal.enter(id, call);
        let state = life.state.take().unwrap();
        self.inner.on_close(state, closed, cx);
    }

    fn on_connect_retry(
        &mut self,
        life: &mut Self::State,
        conn: &mut Conn<'_>,
        retry: &ConnectRetry,
    ) {
        let id = Some(conn.id());
        if life.stage != Stage::New {
            self.journal.violated(id, "on_connect_retry after on_open");
        }
        let _running = self.journal.enter(id, Call::ConnectRetry(retry.tries));
        self.inner.on_connect_retry(life.state(), conn, retry);
    }

    fn on_connect_failed(&mut self, mut life: Self::State, error: io::Error, cx: &mut Context<'_>) {
        if life.stage != Stage::New {
            self.journal.violated(life.id, "on_connect_failed after on_open");
        }
        let call = Call::ConnectFailed(error.kind(), error.to_string());
        let _running = self.journal.enter(None, call);
        let state = life.state.take().unwrap();
        self.inner.on_connect_failed(state, error, cx);
    }
}

impl<H: TimerHandler> TimerHandler for Watched<H> {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        let _running = self.journal.enter(None, Call::HandlerTimer);
        self.inner.on_handler_timer(timer, cx);
    }
}
