//! A handler whose callbacks are closures of the test.

use std::fmt;
use std::io;

use waterwheel::{
    Closed, Conn, ConnectRetry, Context, Deadline, DeadlineKind, Handler, Idle, IdleKind, Peer,
    Timer, TimerHandler,
};

type OnRefuse = Box<dyn FnMut(&Peer) -> Vec<u8>>;
type OnConn = Box<dyn FnMut(&mut Conn<'_>)>;
type OnData = Box<dyn FnMut(&mut Conn<'_>, &[u8]) -> usize>;
type OnIdle = Box<dyn FnMut(&mut Conn<'_>, IdleKind) -> Idle>;
type OnDeadline = Box<dyn FnMut(&mut Conn<'_>) -> Deadline>;
type OnTimer = Box<dyn FnMut(&mut Conn<'_>, Timer)>;
type OnClose = Box<dyn FnMut(u64, &Closed, &mut Context<'_>)>;
type OnConnectRetry = Box<dyn FnMut(&mut Conn<'_>, &ConnectRetry)>;
type OnConnectFailed = Box<dyn FnMut(u64, &io::Error, &mut Context<'_>)>;
type OnHandlerTimer = Box<dyn FnMut(Timer, &mut Context<'_>)>;

/// A handler of closures; those not given do what the defaults of `Handler` do, and data is
/// consumed. The state is a tag: what `connect` was given, and 0 for those accepted.
pub(crate) struct Script {
    accept: Box<dyn FnMut(&Peer) -> bool>,
    refuse: OnRefuse,
    /// What the last call of `refuse` has returned.
    refusal: Vec<u8>,
    open: OnConn,
    data: OnData,
    drain: OnConn,
    eof: OnConn,
    idle: OnIdle,
    deadline: OnDeadline,
    timer: OnTimer,
    shutdown: OnConn,
    close: OnClose,
    connect_retry: OnConnectRetry,
    connect_failed: OnConnectFailed,
    handler_timer: OnHandlerTimer,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            accept: Box::new(|_| true),
            refuse: Box::new(|_| Vec::new()),
            refusal: Vec::new(),
            open: Box::new(|_| {}),
            data: Box::new(|_, input| input.len()),
            drain: Box::new(|_| {}),
            eof: Box::new(|conn| conn.close()),
            idle: Box::new(|_, _| Idle::Close),
            deadline: Box::new(|_| Deadline::Reset),
            timer: Box::new(|_, _| {}),
            shutdown: Box::new(|conn| conn.close()),
            close: Box::new(|_, _, _| {}),
            connect_retry: Box::new(|_, _| {}),
            connect_failed: Box::new(|_, _, _| {}),
            handler_timer: Box::new(|_, _| {}),
        }
    }
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sends back what comes in.
    pub(crate) fn echo() -> Self {
        Self::new().data(|conn, input| {
            conn.write(input);
            input.len()
        })
    }

    pub(crate) fn accept(mut self, run: impl FnMut(&Peer) -> bool + 'static) -> Self {
        self.accept = Box::new(run);
        self
    }

    /// What those are told that `accept` refuses.
    pub(crate) fn refuse(mut self, run: impl FnMut(&Peer) -> Vec<u8> + 'static) -> Self {
        self.refuse = Box::new(run);
        self
    }

    pub(crate) fn open(mut self, run: impl FnMut(&mut Conn<'_>) + 'static) -> Self {
        self.open = Box::new(run);
        self
    }

    pub(crate) fn data(mut self, run: impl FnMut(&mut Conn<'_>, &[u8]) -> usize + 'static) -> Self {
        self.data = Box::new(run);
        self
    }

    pub(crate) fn drain(mut self, run: impl FnMut(&mut Conn<'_>) + 'static) -> Self {
        self.drain = Box::new(run);
        self
    }

    pub(crate) fn eof(mut self, run: impl FnMut(&mut Conn<'_>) + 'static) -> Self {
        self.eof = Box::new(run);
        self
    }

    pub(crate) fn idle(
        mut self,
        run: impl FnMut(&mut Conn<'_>, IdleKind) -> Idle + 'static,
    ) -> Self {
        self.idle = Box::new(run);
        self
    }

    pub(crate) fn deadline(mut self, run: impl FnMut(&mut Conn<'_>) -> Deadline + 'static) -> Self {
        self.deadline = Box::new(run);
        self
    }

    pub(crate) fn timer(mut self, run: impl FnMut(&mut Conn<'_>, Timer) + 'static) -> Self {
        self.timer = Box::new(run);
        self
    }

    pub(crate) fn shutdown(mut self, run: impl FnMut(&mut Conn<'_>) + 'static) -> Self {
        self.shutdown = Box::new(run);
        self
    }

    pub(crate) fn close(
        mut self,
        run: impl FnMut(u64, &Closed, &mut Context<'_>) + 'static,
    ) -> Self {
        self.close = Box::new(run);
        self
    }

    pub(crate) fn connect_retry(
        mut self,
        run: impl FnMut(&mut Conn<'_>, &ConnectRetry) + 'static,
    ) -> Self {
        self.connect_retry = Box::new(run);
        self
    }

    pub(crate) fn connect_failed(
        mut self,
        run: impl FnMut(u64, &io::Error, &mut Context<'_>) + 'static,
    ) -> Self {
        self.connect_failed = Box::new(run);
        self
    }

    pub(crate) fn handler_timer(
        mut self,
        run: impl FnMut(Timer, &mut Context<'_>) + 'static,
    ) -> Self {
        self.handler_timer = Box::new(run);
        self
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Handler for Script {
    type State = u64;

    fn on_accept(&mut self, peer: &Peer) -> Option<u64> {
        (self.accept)(peer).then_some(0)
    }

    fn on_refuse(&mut self, peer: &Peer) -> &[u8] {
        self.refusal = (self.refuse)(peer);
        &self.refusal
    }

    fn on_open(&mut self, _: &mut u64, conn: &mut Conn<'_>) {
        (self.open)(conn);
    }

    fn on_data(&mut self, _: &mut u64, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        (self.data)(conn, input)
    }

    fn on_drain(&mut self, _: &mut u64, conn: &mut Conn<'_>) {
        (self.drain)(conn);
    }

    fn on_eof(&mut self, _: &mut u64, conn: &mut Conn<'_>) {
        (self.eof)(conn);
    }

    fn on_idle(&mut self, _: &mut u64, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        (self.idle)(conn, kind)
    }

    fn on_deadline(&mut self, _: &mut u64, conn: &mut Conn<'_>, _: DeadlineKind) -> Deadline {
        (self.deadline)(conn)
    }

    fn on_timer(&mut self, _: &mut u64, conn: &mut Conn<'_>, timer: Timer) {
        (self.timer)(conn, timer);
    }

    fn on_shutdown(&mut self, _: &mut u64, conn: &mut Conn<'_>) {
        (self.shutdown)(conn);
    }

    fn on_close(&mut self, tag: u64, closed: Closed, cx: &mut Context<'_>) {
        (self.close)(tag, &closed, cx);
    }

    fn on_connect_retry(&mut self, _: &mut u64, conn: &mut Conn<'_>, retry: &ConnectRetry) {
        (self.connect_retry)(conn, retry);
    }

    fn on_connect_failed(&mut self, tag: u64, error: io::Error, cx: &mut Context<'_>) {
        (self.connect_failed)(tag, &error, cx);
    }
}

impl TimerHandler for Script {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        (self.handler_timer)(timer, cx);
    }
}
