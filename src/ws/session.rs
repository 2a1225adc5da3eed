//! A WebSocket after its handshake: from the callbacks of a connection to those of the program.

use std::fmt;

use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::{Conn, Context};
use crate::stream::Closed;
use crate::ws::assembly::{Assembly, Place};
use crate::ws::code::Fault;
use crate::ws::handler::{Ended, Handler, Kind};
use crate::ws::wire::{Step, Wire};
use crate::ws::{CloseCode, Socket};

/// A WebSocket after its handshake, with the state that the program keeps for it.
///
/// A server that speaks HTTP by itself passes the callbacks of the connection on to the methods of
/// the same names, all but `on_accept`; [`Endpoint::check`](crate::ws::Endpoint::check) shows how.
/// The deadline of the connection is the session's; its timers are the program's.
pub struct Session<S> {
    state: S,
    wire: Wire,
}

impl<S: 'static> Session<S> {
    pub(super) fn new(state: S, wire: Wire) -> Self {
        Self { state, wire }
    }

    fn with<A: Handler<State = S>>(
        &mut self,
        app: &mut A,
        conn: &mut Conn<'_>,
        call: impl FnOnce(&mut A, &mut S, &mut Socket<'_>),
    ) {
        let mut socket = Socket { conn: conn.reborrow(), wire: &mut self.wire };
        call(app, &mut self.state, &mut socket);
    }

    /// The WebSocket, to send on outside of its callbacks: its connection must be the one that the
    /// session is of, as [`Context::with`] lends both.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::ws::Session;
    /// use waterwheel::Conn;
    ///
    /// /// What a connection keeps: the WebSocket that it has become.
    /// struct Client { session: Session<()> }
    ///
    /// fn tell(client: &mut Client, conn: &mut Conn<'_>, news: &[u8]) {
    ///     client.session.socket(conn).send_binary(news);
    /// }
    /// ```
    pub fn socket<'a>(&'a mut self, conn: &'a mut Conn<'_>) -> Socket<'a> {
        Socket { conn: conn.reborrow(), wire: &mut self.wire }
    }

    /// The answer of a server was written, or read by a client.
    pub fn on_open<A: Handler<State = S>>(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        self.wire.open(conn);
        self.with(app, conn, A::on_open);
    }

    /// Bytes came in, behind the handshake. Returns how many are done with.
    pub fn on_data<A: Handler<State = S>>(
        &mut self,
        app: &mut A,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> usize {
        let mut assembly = self.wire.begin_input();
        let mut at = 0;
        while at < input.len() {
            let step = match self.wire.small(input, &mut at, &mut assembly) {
                Some((kind, place)) => Ok(Step::Message(kind, place)),
                None => self.wire.step(conn, input, &mut at, &mut assembly),
            };
            match step {
                Ok(Step::Wait) => break,
                Ok(Step::Message(kind, place)) => {
                    let told = self.tell(app, conn, kind, &place, input, &assembly);
                    if let Err(fault) = told {
                        self.wire.fail(conn, fault);
                        break;
                    }
                    self.wire.end_message(&mut assembly);
                    if self.wire.yields(conn, &assembly, at < input.len()) {
                        break;
                    }
                }
                Ok(Step::Part) => {
                    if let Err(fault) = self.tell_part(app, conn, &mut assembly) {
                        self.wire.fail(conn, fault);
                        break;
                    }
                    if self.wire.yields(conn, &assembly, at < input.len()) {
                        break;
                    }
                }
                Ok(Step::Pong) => {
                    let payload = assembly.control();
                    self.with(app, conn, |app, state, socket| app.on_pong(state, socket, payload));
                    if self.wire.yields(conn, &assembly, at < input.len()) {
                        break;
                    }
                }
                Err(fault) => {
                    self.wire.fail(conn, fault);
                    break;
                }
            }
        }
        self.wire.end_input(conn, assembly);
        if self.wire.is_done() { input.len() } else { at }
    }

    #[inline]
    fn tell<A: Handler<State = S>>(
        &mut self,
        app: &mut A,
        conn: &mut Conn<'_>,
        kind: Kind,
        place: &Place,
        input: &[u8],
        assembly: &Assembly,
    ) -> Result<(), Fault> {
        let message = assembly.message(kind, place, input)?;
        self.wire.shared.count_received();
        self.with(app, conn, |app, state, socket| app.on_message(state, socket, message));
        Ok(())
    }

    fn tell_part<A: Handler<State = S>>(
        &mut self,
        app: &mut A,
        conn: &mut Conn<'_>,
        assembly: &mut Assembly,
    ) -> Result<(), Fault> {
        let Some(kind) = assembly.kind() else { return Ok(()) };
        let Some(part) = assembly.part(kind)? else { return Ok(()) };
        let is_last = part.is_last;
        self.with(app, conn, |app, state, socket| app.on_part(state, socket, part));
        assembly.end_part();
        if is_last {
            self.wire.shared.count_received();
            self.wire.end_message(assembly);
        }
        Ok(())
    }

    /// Output fell to the low mark.
    pub fn on_drain<A: Handler<State = S>>(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        self.wire.note_drain();
        if self.wire.is_open() {
            self.with(app, conn, A::on_drain);
        }
    }

    /// The peer has finished sending.
    pub fn on_eof<A: Handler<State = S>>(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        let _ = app;
        conn.close();
    }

    /// A timer of the connection fired.
    pub fn on_timer<A: Handler<State = S>>(
        &mut self,
        app: &mut A,
        conn: &mut Conn<'_>,
        timer: Timer,
    ) {
        self.with(app, conn, |app, state, socket| app.on_timer(state, socket, timer));
    }

    /// The deadline has passed: of a Close frame's answer, of a pong, or of silence.
    pub fn on_deadline<A: Handler<State = S>>(
        &mut self,
        app: &mut A,
        conn: &mut Conn<'_>,
    ) -> Deadline {
        let _ = app;
        self.wire.deadline(conn)
    }

    /// An idle limit has passed: the peer is told with 1001, and has its time to answer.
    pub fn on_idle<A: Handler<State = S>>(
        &mut self,
        app: &mut A,
        conn: &mut Conn<'_>,
        kind: IdleKind,
    ) -> Idle {
        let _ = (app, kind);
        if !self.wire.is_open() {
            return Idle::Close;
        }
        self.wire.say_close(conn, CloseCode::GOING_AWAY, "idle");
        Idle::Keep
    }

    /// The reactor drains before it stops: the peer is told with 1001.
    pub fn on_shutdown<A: Handler<State = S>>(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        let _ = app;
        self.wire.say_close(conn, CloseCode::GOING_AWAY, "");
    }

    /// The connection has ended.
    pub fn on_close<A: Handler<State = S>>(
        self,
        app: &mut A,
        closed: &Closed,
        cx: &mut Context<'_>,
    ) {
        let Self { state, mut wire } = self;
        wire.end(closed.id);
        let ended = match wire.farewell() {
            Some(said) => {
                Ended { code: said.code, reason: &said.reason, is_clean: said.is_clean, closed }
            }
            None => Ended { code: CloseCode::ABNORMAL, reason: "", is_clean: false, closed },
        };
        app.on_close(state, ended, cx);
    }
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Session");
        text.field("is_open", &self.wire.is_open()).finish_non_exhaustive()
    }
}
