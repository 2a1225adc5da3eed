//! The connections of a client: what is written to them, and what comes back.

use super::answer::{Answer, AnswerReader};
use super::call::{Body, Call};
use super::error::{CallPhase, ClientError};
use super::head::{self, Framing};
use super::options::ClientOptions;
use crate::base::close::Deadline;
use crate::handler::{Conn, Context, DeadlineKind};
use crate::http::Flow;
use crate::http::chunk::{ChunkDecoder, Found};
use crate::http::fields::members;
use crate::pool::{AcquireError, Lease, PoolClient, PoolHandle};
use crate::stream::{Closed, Written};

/// Answers of the class 1xx that may come before one.
const MAX_INTERIM: u8 = 16;

/// A call that waits for its connection.
pub(super) struct Pending {
    pub(super) call: Call,
    pub(super) reader: Box<dyn AnswerReader>,
    /// Whether it was sent already, on a connection that had ended.
    pub(super) is_retry: bool,
}

/// What of a body is still to come.
enum Rest {
    Length(u64),
    Chunks(ChunkDecoder),
    UntilEnd,
    /// Another protocol.
    Tunnel,
}

/// Where an answer is.
enum Place {
    /// Nothing, or a part of its head.
    Head,
    /// In its body.
    Body(Rest),
    /// None will come: the server was ending the connection, which it took for idle, when the
    /// request was sent.
    TooLate,
}

/// A call that was sent.
pub(super) struct Running {
    lease: Lease,
    pending: Pending,
    place: Place,
    /// Whether a byte of the answer has come in.
    is_answered: bool,
    /// Whether one has come that is not of an interim answer, which nothing is cut of.
    is_begun: bool,
    /// Answers of the class 1xx so far.
    interim: u8,
    keep_alive: bool,
    /// Whether the body waits for a 100.
    is_held: bool,
    /// Bytes that waited to be sent when the clock was looked at.
    pending_seen: usize,
    /// The program has paused reading since the clock was set.
    was_paused: bool,
}

impl Running {
    /// Whether the call may be made once more, on another connection, if this one brings no answer.
    fn may_retry(&self) -> bool {
        let Self { lease, pending, .. } = self;
        lease.is_reused() && !pending.is_retry && pending.call.is_repeatable()
    }

    /// Sends the body, or begins to.
    fn send_body(&mut self, conn: &mut Conn<'_>, options: &ClientOptions) {
        self.is_held = false;
        match &mut self.pending.call.body {
            Body::Known(bytes) => {
                let written = conn.write(bytes);
                require(conn, written);
            }
            Body::Streamed(upload, on_room) => {
                upload.open(conn.id(), options.answer_timeout);
                on_room(upload, &mut conn.context());
            }
            Body::Upgrade(..) => {}
        }
    }

    /// There is room for more of the body.
    fn go_on(&mut self, conn: &mut Conn<'_>) {
        match &mut self.pending.call.body {
            Body::Streamed(upload, on_room) | Body::Upgrade(upload, on_room)
                if upload.is_open() =>
            {
                on_room(upload, &mut conn.context());
            }
            _ => {}
        }
    }

    /// Nothing more of the body is written. Whether it was sent whole.
    fn finish_body(&self) -> bool {
        match &self.pending.call.body {
            Body::Known(_) => !self.is_held,
            Body::Streamed(upload, _) => upload.finish() && !self.is_held,
            Body::Upgrade(upload, _) => {
                upload.finish();
                true
            }
        }
    }

    /// Whether the body is still being written.
    fn is_uploading(&self) -> bool {
        matches!(&self.pending.call.body, Body::Streamed(upload, _) if upload.is_open())
    }
}

/// What is refused of a request ends the connection, and the call with it: the server would take
/// what comes next for it.
pub(super) fn require(conn: &mut Conn<'_>, written: Written) {
    if !written.is_accepted() && conn.is_writable() {
        conn.abort();
    }
}

/// How an answer has come on.
enum Progress {
    /// More of it is to come.
    More,
    /// Reading pauses.
    Pause,
    /// The answer is complete.
    End,
    /// None will come, and another connection may bring one.
    TooLate,
}

/// The client, as its pool has it.
pub(super) struct Wire {
    host: String,
    pub(super) options: ClientOptions,
}

impl Wire {
    pub(super) fn new(host: String, options: ClientOptions) -> Self {
        Self { host, options }
    }

    /// A call that cannot be sent fails; another is returned.
    pub(super) fn check(&self, mut pending: Pending, cx: &mut Context<'_>) -> Option<Pending> {
        match pending.call.take_invalid() {
            Some(error) => {
                pending.reader.on_error(ClientError::Invalid(error), cx);
                None
            }
            None => Some(pending),
        }
    }

    /// Takes what there is of an answer; how much that is, and how it has come on.
    fn read(
        &self,
        running: &mut Running,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> Result<(usize, Progress), ClientError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let (count, piece) = match &mut running.place {
                Place::Head => match self.read_head(running, conn, rest)? {
                    Some(count) => {
                        used += count;
                        continue;
                    }
                    None => {
                        running.is_begun = !rest.is_empty();
                        return Ok((used, Progress::More));
                    }
                },
                Place::TooLate => return Ok((used, Progress::TooLate)),
                Place::Body(Rest::Length(0)) => return Ok((used, Progress::End)),
                Place::Body(Rest::Length(left)) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    (count, &rest[..count])
                }
                Place::Body(Rest::UntilEnd | Rest::Tunnel) => (rest.len(), rest),
                Place::Body(Rest::Chunks(decoder)) => {
                    let decoded = decoder.decode(rest);
                    match decoded.map_err(|refusal| ClientError::Malformed(refusal.why))? {
                        (count, Found::Data(data)) => (count, data),
                        (count, Found::End(_)) => return Ok((used + count, Progress::End)),
                        (count, Found::Partial) => return Ok((used + count, Progress::More)),
                    }
                }
            };
            used += count;
            if piece.is_empty() {
                return Ok((used, Progress::More));
            }
            let flow = running.pending.reader.on_chunk(piece, &mut conn.context());
            // Behind the last byte of a length nothing would come that ends the pause.
            let is_last = matches!(running.place, Place::Body(Rest::Length(0)));
            if flow == Flow::Pause && !is_last {
                return Ok((used, Progress::Pause));
            }
        }
    }

    /// Reads a head; its length, or `None` if it is not complete.
    fn read_head(
        &self,
        running: &mut Running,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> Result<Option<usize>, ClientError> {
        let method = running.pending.call.method;
        let parsed = head::parse(input, method).map_err(ClientError::Malformed)?;
        let max = self.options.max_head_bytes;
        let Some((head, length)) = parsed.filter(|(_, length)| *length <= max) else {
            if input.len() > max {
                return Err(ClientError::TooLarge(max));
            }
            return Ok(None);
        };
        let (status, version, fields) = (head.status, head.version, head.fields);
        let answer = Answer { conn: conn.id(), status, version, fields, body: b"" };
        if status == 101 {
            self.switch(running, conn, &answer)?;
            return Ok(Some(length));
        }
        if status < 200 {
            running.interim += 1;
            if running.interim > MAX_INTERIM {
                return Err(ClientError::Malformed("an interim answer that was not asked for"));
            }
            if status == 100 && running.is_held {
                conn.set_deadline(DeadlineKind::User, Some(self.options.answer_timeout));
                running.send_body(conn, &self.options);
            }
            return Ok(Some(length));
        }
        if status == 408 && !head.keep_alive && running.interim == 0 && running.may_retry() {
            running.place = Place::TooLate;
            return Ok(Some(length));
        }
        running.is_begun = true;
        running.keep_alive = head.keep_alive;
        running.place = Place::Body(match head.framing {
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunks(ChunkDecoder::new()),
            Framing::UntilEnd => Rest::UntilEnd,
        });
        running.pending.reader.on_head(&answer, &mut conn.context());
        Ok(Some(length))
    }

    /// The server goes on with another protocol.
    fn switch(
        &self,
        running: &mut Running,
        conn: &mut Conn<'_>,
        answer: &Answer<'_>,
    ) -> Result<(), ClientError> {
        let Body::Upgrade(upload, _) = &running.pending.call.body else {
            return Err(ClientError::Malformed("it changes to a protocol that was not asked for"));
        };
        let names = |name: &str, wanted: &[u8]| {
            let mut fields = answer.headers().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            fields.any(|(_, value)| members(value).any(|one| one.eq_ignore_ascii_case(wanted)))
        };
        if !names("connection", b"upgrade") || answer.header("upgrade").is_none() {
            return Err(ClientError::Malformed("its 101 does not name the protocol"));
        }
        upload.open(conn.id(), self.options.answer_timeout);
        running.is_begun = true;
        running.place = Place::Body(Rest::Tunnel);
        running.pending.reader.on_head(answer, &mut conn.context());
        running.go_on(conn);
        Ok(())
    }

    /// The call is over: the connection goes back if it can serve another.
    fn finish(running: Running, conn: &mut Conn<'_>, is_clean: bool) {
        // What is left of a body would be taken for the next request.
        let is_sent = running.finish_body();
        let Running { lease, pending, keep_alive, .. } = running;
        conn.set_deadline(DeadlineKind::User, None);
        if !(keep_alive && is_clean && is_sent) {
            conn.close();
        }
        drop(lease);
        pending.reader.on_end(&mut conn.context());
    }

    /// The call has failed: what comes next on its connection may be anything.
    fn fail(running: Running, error: ClientError, conn: &mut Conn<'_>) {
        running.finish_body();
        running.lease.discard();
        running.pending.reader.on_error(error, &mut conn.context());
    }
}

impl PoolClient for Wire {
    type State = Option<Box<Running>>;
    type Ticket = Pending;

    fn on_acquired(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        lease: Lease,
        pending: Pending,
        _: &mut PoolHandle<Self>,
    ) {
        let head = pending.call.head(&self.host);
        let is_held = pending.call.waits_for_continue();
        let mut running = Running {
            lease,
            pending,
            place: Place::Head,
            is_answered: false,
            is_begun: false,
            interim: 0,
            keep_alive: false,
            is_held,
            pending_seen: 0,
            was_paused: false,
        };
        let options = &self.options;
        let wait = if is_held { options.continue_timeout } else { options.answer_timeout };
        conn.set_deadline(DeadlineKind::User, Some(wait));
        match &running.pending.call.body {
            Body::Known(bytes) if !is_held => {
                let written = conn.write_vectored(&[&head, bytes]);
                require(conn, written);
            }
            _ => {
                let written = conn.write(&head);
                require(conn, written);
                if !is_held {
                    running.send_body(conn, options);
                }
            }
        }
        *state = Some(Box::new(running));
    }

    fn on_drain(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, _: &mut PoolHandle<Self>) {
        if let Some(running) = state {
            running.go_on(conn);
        }
    }

    fn on_data(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        input: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        let Some(mut running) = state.take() else { return input.len() };
        running.is_answered = true;
        match self.read(&mut running, conn, input) {
            Ok((used, Progress::End)) => {
                // A byte behind the answer belongs to nothing that was asked.
                Self::finish(*running, conn, used == input.len());
                return input.len();
            }
            Ok((_, Progress::TooLate)) => {
                // `on_lost` follows, as if the server had ended the connection without a word.
                running.is_answered = false;
                *state = Some(running);
                conn.abort();
            }
            Ok((used, progress)) => {
                if let Place::Body(rest) = &running.place {
                    let wait = Some(self.options.body_timeout);
                    let has_clock = !matches!(rest, Rest::Tunnel);
                    // Of a pause too: nothing tells when it ends.
                    conn.set_deadline(DeadlineKind::User, wait.filter(|_| has_clock));
                    running.was_paused = matches!(progress, Progress::Pause);
                    if running.was_paused {
                        conn.pause_reading();
                    }
                }
                *state = Some(running);
                return used;
            }
            Err(error) => Self::fail(*running, error, conn),
        }
        input.len()
    }

    fn on_eof(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, _: &mut PoolHandle<Self>) {
        let is_end = state.as_ref().is_some_and(|running| {
            let is_open_ended = matches!(running.place, Place::Body(Rest::UntilEnd | Rest::Tunnel));
            is_open_ended && !conn.is_truncated()
        });
        match state.take_if(|_| is_end) {
            Some(running) => Self::finish(*running, conn, false),
            None => conn.close(), // and `on_lost` follows
        }
    }

    fn on_deadline(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        _: DeadlineKind,
        _: &mut PoolHandle<Self>,
    ) -> Deadline {
        let Some(mut running) = state.take() else { return Deadline::Reset };
        let ClientOptions { answer_timeout, body_timeout, .. } = self.options;
        let pending = conn.pending_bytes();
        let is_sending = pending > 0 || running.is_uploading();
        let is_sent_on = pending == 0 || pending != running.pending_seen;
        let is_paused = conn.is_paused();
        let was_paused = std::mem::replace(&mut running.was_paused, is_paused);
        let (phase, time) = match running.place {
            Place::Head if running.is_held => {
                // Some servers do not know what is expected (RFC 9110, 10.1.1).
                running.send_body(conn, &self.options);
                *state = Some(running);
                return Deadline::Keep(answer_timeout);
            }
            // A body that is slow by the program's making is for the program to end.
            _ if is_sending && is_sent_on || is_paused || was_paused => {
                running.pending_seen = pending;
                let is_body = matches!(running.place, Place::Body(_));
                *state = Some(running);
                return Deadline::Keep(if is_body { body_timeout } else { answer_timeout });
            }
            Place::Head if is_sending => (CallPhase::Request, answer_timeout),
            Place::Head => (CallPhase::Head, answer_timeout),
            Place::Body(_) | Place::TooLate => (CallPhase::Body, body_timeout),
        };
        Self::fail(*running, ClientError::TimedOut(phase, time), conn);
        Deadline::Reset
    }

    fn on_lost(
        &mut self,
        state: Self::State,
        closed: Closed,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        let Some(running) = state else { return };
        running.finish_body();
        let may_retry = !running.is_answered && running.may_retry();
        let Running { lease, mut pending, is_begun, .. } = *running;
        drop(lease);
        if may_retry {
            pending.is_retry = true;
            cx.post(desk.handler(), |pool, cx| {
                pool.request(pending, cx);
            });
            return;
        }
        let is_cut = is_begun && !closed.reason.is_failure();
        let error = if is_cut { ClientError::Cut } else { ClientError::Lost(closed.reason) };
        pending.reader.on_error(error, cx);
    }

    fn on_refused(
        &mut self,
        pending: Pending,
        error: AcquireError,
        _: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        pending.reader.on_error(ClientError::Connect(error), cx);
    }
}
