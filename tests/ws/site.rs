//! A server that speaks just enough HTTP to shake hands: one request, one answer.

use waterwheel::ws::{Endpoint, Handler, Session};
use waterwheel::{Closed, Conn, Context, Deadline, DeadlineKind, Idle, IdleKind, Peer, Timer, ws};

/// The server, with the program's handler.
#[derive(Debug)]
pub(crate) struct Site<A> {
    pub(crate) app: A,
    pub(crate) endpoint: Endpoint,
}

impl<A> Site<A> {
    pub(crate) fn new(app: A, options: ws::Options) -> Self {
        Self { app, endpoint: Endpoint::new(options) }
    }
}

/// A connection: `None` before the handshake.
pub(crate) type State<S> = Option<Session<S>>;

impl<A: Handler<State: Default>> Site<A> {
    /// Answers the request; returns the length of its head.
    fn shake(&self, state: &mut State<A::State>, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return 0 };
        let head = std::str::from_utf8(&input[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let method = lines.next().unwrap().split(' ').next().unwrap();
        let pair = |line: &'static str| {
            let (name, value) = line.split_once(':').unwrap();
            (name, value.trim().as_bytes())
        };
        // A test leaks what a server would borrow.
        let fields: Vec<_> = lines.map(|line| pair(line.to_owned().leak())).collect();
        match self.endpoint.check(method, &fields) {
            Err(refused) => {
                write!(conn, "HTTP/1.1 {} X\r\n", refused.status);
                if refused.status == 426 {
                    conn.write(b"Sec-WebSocket-Version: 13\r\n");
                }
                conn.write(b"Connection: close\r\nContent-Length: 0\r\n\r\n");
                conn.close();
            }
            Ok(accepted) => {
                conn.write(b"HTTP/1.1 101 Switching Protocols\r\n");
                for (name, value) in accepted.fields() {
                    write!(conn, "{name}: {value}\r\n");
                }
                conn.write(b"\r\n");
                *state = Some(accepted.session(A::State::default()));
            }
        }
        end + 4
    }
}

impl<A: Handler<State: Default>> waterwheel::Handler for Site<A> {
    type State = State<A::State>;

    fn on_accept(&mut self, _: &Peer) -> Option<Self::State> {
        Some(None)
    }

    fn on_data(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if let Some(session) = state {
            return session.on_data(&mut self.app, conn, input);
        }
        let head = self.shake(state, conn, input);
        let Some(session) = state else { return head };
        session.on_open(&mut self.app, conn);
        head + session.on_data(&mut self.app, conn, &input[head..])
    }

    fn on_drain(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        if let Some(session) = state {
            session.on_drain(&mut self.app, conn);
        }
    }

    fn on_eof(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        match state {
            Some(session) => session.on_eof(&mut self.app, conn),
            None => conn.close(),
        }
    }

    fn on_idle(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        match state {
            Some(session) => session.on_idle(&mut self.app, conn, kind),
            None => Idle::Close,
        }
    }

    fn on_deadline(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        _: DeadlineKind,
    ) -> Deadline {
        match state {
            Some(session) => session.on_deadline(&mut self.app, conn),
            None => Deadline::Reset,
        }
    }

    fn on_timer(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, timer: Timer) {
        if let Some(session) = state {
            session.on_timer(&mut self.app, conn, timer);
        }
    }

    fn on_shutdown(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        match state {
            Some(session) => session.on_shutdown(&mut self.app, conn),
            None => conn.close(),
        }
    }

    fn on_close(&mut self, state: Self::State, closed: Closed, cx: &mut Context<'_>) {
        if let Some(session) = state {
            session.on_close(&mut self.app, &closed, cx);
        }
    }
}
