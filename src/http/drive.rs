//! An exchange from its head to its end: bodies that come in, answers that come later, and what
//! follows when both are done.

use std::time::{Duration, SystemTime};

use super::body::Flow;
use super::chunk::Found;
use super::cut::{End, LentBody};
use super::exchange::{Exchange, Input, Output, Reader, ReplyId, Rest};
use super::fields::is_framing;
use super::held::close_if_idle_soon;
use super::method::Method;
use super::record::{Record, Saved};
use super::refusal::Refusal;
use super::respond::refusal_text;
use super::response::Response;
use super::server::{Server, is_ended};
use super::shared::Shared;
use super::state::{Phase, State};
use crate::base::close::Deadline;
use crate::handler::{Conn, DeadlineKind};

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes of the input are done with; look at what follows them.
    Used(usize),
    /// So many bytes are done with, and nothing more can be done now.
    Wait(usize),
}

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// More of the body, or of the answer.
    Busy,
    /// The next request of the connection.
    Next,
    /// The end of the connection.
    Close,
    /// Another protocol.
    Upgrade,
}

/// Milliseconds of the loop, as far as they fit.
pub(super) fn ms(now: Duration) -> u32 {
    now.as_millis() as u32
}

/// The function of [`Server::on_gone`](super::Server::on_gone).
pub(super) type OnGone<A> = Box<dyn FnMut(&mut A, ReplyId)>;

/// The function of [`Server::on_finish`](super::Server::on_finish).
pub(super) type OnFinish<A> = Box<dyn FnMut(&mut A, &Record<'_>)>;

/// What the steps of an exchange work with, besides the state of its connection.
pub(super) struct Driver<'a, A> {
    pub(super) app: &'a mut A,
    pub(super) shared: &'a mut Shared<A>,
}

impl<A: 'static> Driver<'_, A> {
    /// Takes more of a body, or lets what follows it wait for the answer.
    pub(super) fn read_body(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> Step {
        let Phase::Busy(exchange) = &mut state.phase else { return Step::Wait(0) };
        exchange.is_last_word = false; // something more was seen
        self.shared.load(exchange);
        let step = match self.take_body(exchange, conn, input) {
            Ok(used) => used,
            Err(refusal) => {
                self.refuse_body(state, conn, refusal);
                return Step::Used(input.len());
            }
        };
        if self.settle(state, conn) { Step::Used(step) } else { Step::Wait(step) }
    }

    /// Takes what the reader of a body wants of it; returns how much that is.
    pub(super) fn take_body(
        &mut self,
        exchange: &mut Exchange<A>,
        conn: &mut Conn<'_>,
        input: &[u8],
    ) -> Result<usize, Refusal> {
        let mut used = 0;
        if exchange.output == Output::Done {
            exchange.reader = Reader::Skip; // an answer ends the receiving
        }
        loop {
            let rest = &input[used..];
            if !exchange.waits_for_body() {
                return Ok(used);
            }
            let (count, piece) = match &mut exchange.input {
                Input::None => return Ok(used),
                Input::Length(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    (count, if count == 0 { Found::Partial } else { Found::Data(&rest[..count]) })
                }
                Input::Chunked(decoder) => decoder.decode(rest)?,
            };
            used += count;
            let is_last = match piece {
                Found::Partial => return Ok(used),
                Found::Data(data) => {
                    exchange.body_bytes += data.len() as u64;
                    let is_last = matches!(exchange.input, Input::Length(0));
                    if is_last {
                        exchange.input = Input::None;
                    }
                    self.take_piece(exchange, conn, data, is_last);
                    is_last
                }
                Found::End(trailers) => {
                    exchange.input = Input::None;
                    self.tell_trailers(exchange, trailers);
                    true
                }
            };
            if is_last {
                self.end_body(exchange, conn);
                return Ok(used);
            }
            if exchange.output == Output::Done && !exchange.can_keep_alive() {
                return Ok(used); // it is closed, whatever follows
            }
        }
    }

    /// Hands a piece of the body to whom it is for.
    fn take_piece(
        &mut self,
        exchange: &mut Exchange<A>,
        conn: &mut Conn<'_>,
        piece: &[u8],
        is_last: bool,
    ) {
        let is_too_large = exchange.body_bytes > exchange.max_body_bytes;
        match std::mem::replace(&mut exchange.reader, Reader::Skip) {
            Reader::Unasked | Reader::Skip => {}
            reader if is_too_large => {
                if let Reader::Body(mut body) = reader {
                    body.on_gone(self.app);
                }
                let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
                if res.is_unanswered() {
                    super::respond::too_large(&mut res);
                } else {
                    conn.abort(); // the answer that has begun cannot be finished
                }
            }
            Reader::Body(body) => {
                let mut lent = LentBody { exchange, body: Some(body) };
                let Some(body) = &mut lent.body else { return };
                let exchange = &mut *lent.exchange;
                let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
                let flow = body.on_chunk(self.app, piece, &mut res);
                if flow == Flow::Pause && !is_last && exchange.output != Output::Done {
                    exchange.is_paused = true;
                    exchange.spare_since = ms(conn.context().now());
                    conn.pause_reading();
                }
            }
            Reader::Collect { bytes, then } if is_last && bytes.is_empty() => {
                let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
                then(self.app, piece, &mut res);
            }
            Reader::Collect { mut bytes, then } => {
                bytes.extend_from_slice(piece);
                exchange.reader = Reader::Collect { bytes, then };
            }
        }
    }

    fn tell_trailers(&mut self, exchange: &mut Exchange<A>, trailers: &[u8]) {
        let Reader::Body(body) = &mut exchange.reader else { return };
        for line in trailers.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let Ok(name) = std::str::from_utf8(&line[..colon]) else { continue };
            if !is_framing(name) {
                body.on_trailer(self.app, name, super::fields::trim(&line[colon + 1..]));
            }
        }
    }

    /// The body is complete.
    pub(super) fn end_body(&mut self, exchange: &mut Exchange<A>, conn: &mut Conn<'_>) {
        let reader = std::mem::replace(&mut exchange.reader, Reader::Skip);
        exchange.is_reading = false;
        let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
        match reader {
            Reader::Body(mut body) => body.on_end(self.app, &mut res),
            Reader::Collect { bytes, then } => then(self.app, &bytes, &mut res),
            Reader::Unasked | Reader::Skip => {}
        }
    }

    /// The body is malformed: whatever comes, the connection ends.
    #[cold]
    pub(super) fn refuse_body(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        refusal: Refusal,
    ) {
        let Phase::Busy(exchange) = &mut state.phase else { return };
        self.tell_gone(exchange);
        match exchange.output {
            Output::Unanswered => {
                let is_head = exchange.method == Method::Head;
                self.refuse(state, conn, refusal, is_head);
            }
            // What was answered is whole, and what follows cannot be understood.
            Output::Done => self.close(state, conn),
            Output::Stream(_) => conn.abort(),
        }
    }

    /// The body comes in too slowly.
    #[cold]
    pub(super) fn give_up_body(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        let refusal = Refusal::new(408, "the body of the request came too slowly");
        self.refuse_body(state, conn, refusal);
    }

    /// The client has ended its side within the body: there is no request to answer.
    #[cold]
    pub(super) fn give_up_request(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        let Phase::Busy(exchange) = &mut state.phase else { return };
        self.tell_gone(exchange);
        if matches!(exchange.output, Output::Stream(_)) {
            conn.abort(); // the answer that has begun will not become whole
        } else {
            self.close(state, conn);
        }
    }

    pub(super) fn tell_gone(&mut self, exchange: &mut Exchange<A>) {
        if let Reader::Body(mut body) = std::mem::replace(&mut exchange.reader, Reader::Skip) {
            body.on_gone(self.app);
        }
    }

    /// Answers what is not answered in any other way, and ends the connection. An answer to HEAD
    /// says how long it would be, and is without it (RFC 9110, 9.3.2).
    #[cold]
    pub(super) fn refuse(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        refusal: Refusal,
        is_head: bool,
    ) {
        let stats = &mut self.shared.stats;
        if refusal.status == 408 {
            stats.timed_out += 1;
        } else {
            stats.refused += 1;
        }
        stats.count(refusal.status);
        log::debug!("{}: {} {}", conn.id(), refusal.status, refusal.why);
        let cx = conn.context();
        let date = self.shared.date.at(cx.now(), || cx.system_time());
        let (head, body) = refusal_text(refusal.status, refusal.why, date);
        let body = if is_head { "" } else { &*body };
        conn.write_vectored(&[head.as_bytes(), body.as_bytes()]);
        if let Phase::Busy(exchange) = &mut state.phase {
            let saved = exchange.saved.as_mut();
            saved.into_iter().for_each(|saved| saved.refused = Some(refusal.status));
            exchange.sent_bytes = body.len() as u64;
        }
        self.close(state, conn);
    }

    /// Ends the connection once what was written has left, and the client has finished.
    pub(super) fn close(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        if let Phase::Busy(exchange) = &mut state.phase {
            let id = conn.id();
            let cx = conn.context();
            let end = End { conn: id, is_sent: true, now: cx.now(), time: cx.system_time() };
            self.tell_end(exchange, &end); // where a panic leaves it
        }
        state.phase = Phase::Ended;
        conn.close();
    }

    /// Tells of an exchange that ends with its connection: whom it leaves without an answer, and
    /// whoever is told of each. Called again after a panic of one of them, it tells the others.
    pub(super) fn tell_end(&mut self, exchange: &mut Exchange<A>, end: &End) {
        let id = ReplyId { conn: end.conn, exchange: exchange.number };
        self.tell_gone(exchange);
        if exchange.output != Output::Done && !std::mem::replace(&mut exchange.is_gone, true) {
            self.shared.stats.gone += 1;
            let is_awaited = exchange.is_late || exchange.output != Output::Unanswered;
            if let (true, Some(on_gone)) = (is_awaited, &mut self.shared.on_gone) {
                on_gone(self.app, id);
            }
        }
        self.tell_finish(exchange, id, end.is_sent, end.now, end.time);
    }

    /// After each call of user code: what the exchange waits for now. Whether it is over, and the
    /// next one may begin.
    pub(super) fn settle(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) -> bool {
        let Phase::Busy(exchange) = &mut state.phase else { return true };
        let after = self.look(exchange, conn);
        self.shared.store(exchange);
        if after == After::Busy {
            let is_stream = matches!(exchange.output, Output::Stream(_));
            if state.is_draining && exchange.is_events && is_stream {
                self.end_events(state, conn); // it has begun since the drain was told
            }
            return !matches!(state.phase, Phase::Busy(_));
        }
        let Phase::Busy(mut exchange) = std::mem::replace(&mut state.phase, Phase::Head) else {
            return true;
        };
        self.conclude(state, conn, &mut exchange, after);
        self.shared.put_back(exchange);
        true
    }

    /// What an exchange waits for.
    #[inline]
    pub(super) fn look(&mut self, exchange: &mut Exchange<A>, conn: &mut Conn<'_>) -> After {
        if exchange.wants_drain {
            self.run_drain(exchange, conn);
        }
        if exchange.lacks_end() {
            // No byte of the body will come that would tell its end.
            self.end_body(exchange, conn);
            self.run_drain(exchange, conn);
        }
        if exchange.output == Output::Unanswered {
            let is_asked = !matches!(exchange.reader, Reader::Unasked | Reader::Skip);
            if exchange.is_late || is_asked {
                return After::Busy;
            }
            self.answer_for_handler(exchange, conn);
        }
        match exchange.output {
            Output::Unanswered | Output::Stream(_) => After::Busy,
            Output::Done if exchange.upgrade.is_some() => After::Upgrade,
            Output::Done if !exchange.can_keep_alive() => After::Close,
            Output::Done if matches!(exchange.input, Input::None) => After::Next,
            Output::Done => {
                if matches!(exchange.reader, Reader::Unasked) || exchange.is_paused {
                    exchange.spare(ms(conn.context().now()));
                }
                if std::mem::take(&mut exchange.is_paused) {
                    conn.resume_reading(); // what is left stands before the next request
                }
                exchange.reader = Reader::Skip;
                After::Busy
            }
        }
    }

    /// An exchange is over.
    #[inline]
    pub(super) fn conclude(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        exchange: &mut Exchange<A>,
        after: After,
    ) {
        let cx = conn.context();
        let now = cx.now();
        if exchange.saved.is_some() {
            self.finish(conn, exchange);
        }
        match after {
            After::Busy => {}
            After::Next => {
                state.phase = Phase::Head;
                state.since = ms(now);
                if state.is_draining {
                    close_if_idle_soon::<A>(conn);
                }
            }
            After::Close => {
                state.phase = Phase::Ended;
                // What came in while the answer was due may go on.
                if exchange.is_last_word && state.held.is_none() {
                    conn.close_without_waiting();
                } else {
                    conn.close();
                }
            }
            After::Upgrade => self.hand_over(state, conn, exchange),
        }
    }

    /// Has the rest of a streamed answer written, as far as there is room.
    pub(super) fn run_drain(&mut self, exchange: &mut Exchange<A>, conn: &mut Conn<'_>) {
        while std::mem::take(&mut exchange.wants_drain) {
            let Some(mut call) = exchange.on_drain.take() else { return };
            if exchange.output == Output::Stream(Rest::Nothing) {
                exchange.output = Output::Done; // nobody will see what it writes
                return;
            }
            let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
            call(self.app, &mut res);
            if matches!(exchange.output, Output::Stream(_)) && exchange.on_drain.is_none() {
                exchange.on_drain = Some(call);
            }
        }
    }

    /// A stream of events says that it lives.
    pub(super) fn beat(&mut self, exchange: &mut Exchange<A>, conn: &mut Conn<'_>) -> Deadline {
        let wait = exchange.heartbeat.unwrap_or(Duration::MAX);
        if let Output::Stream(_) = exchange.output {
            let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
            res.write(b":\n\n");
        }
        Deadline::Keep(wait)
    }

    /// A stream of events ends, whole.
    pub(super) fn end_events(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        let Phase::Busy(exchange) = &mut state.phase else { return };
        let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
        res.end();
        self.settle(state, conn);
    }

    /// A handler has neither answered nor asked for anything.
    #[cold]
    fn answer_for_handler(&mut self, exchange: &mut Exchange<A>, conn: &mut Conn<'_>) {
        self.shared.stats.unanswered += 1;
        let now = conn.context().now();
        let path = exchange.saved.as_ref().map_or(String::new(), |saved| saved.path());
        let method = exchange.method;
        let is_rare = self.shared.may_log_unanswered(now);
        let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
        let (level, more) = match is_rare {
            true => (log::Level::Error, " (one such line a second; all are logged at debug)"),
            false => (log::Level::Debug, ""),
        };
        let id = res.id();
        log::log!(level, "{id}: the handler of {method} {path} has given no answer: 500{more}");
        res.shared.fields.clear();
        res.status(500).text("the server has no answer to this request\n");
    }

    /// The connection goes on with another protocol.
    #[cold]
    fn hand_over(&mut self, state: &mut State<A>, conn: &mut Conn<'_>, exchange: &mut Exchange<A>) {
        let Some(upgraded) = exchange.upgrade.take() else { return };
        conn.set_deadline(DeadlineKind::User, None);
        if std::mem::take(&mut state.is_held) {
            conn.resume_reading(); // from now on it is the other protocol's to pause
        }
        state.phase = Phase::Upgraded(upgraded);
        if let Phase::Upgraded(upgraded) = &mut state.phase {
            upgraded.on_open(self.app, conn);
            if state.is_draining && !is_ended(conn) {
                upgraded.on_shutdown(self.app, conn); // the drain was told to HTTP
            }
        }
    }

    /// Tells of an exchange that is over.
    fn finish(&mut self, conn: &mut Conn<'_>, exchange: &mut Exchange<A>) {
        let id = ReplyId { conn: conn.id(), exchange: exchange.number };
        let cx = conn.context();
        let (now, time) = (cx.now(), cx.system_time());
        self.tell_finish(exchange, id, true, now, time);
    }

    /// Tells of an exchange that is over, if somebody wants to know. `is_sent`: as far as is known,
    /// nothing of what was written is lost.
    pub(super) fn tell_finish(
        &mut self,
        exchange: &mut Exchange<A>,
        id: ReplyId,
        is_sent: bool,
        now: Duration,
        time: SystemTime,
    ) {
        let Some(saved) = exchange.saved.take() else { return };
        // Lent where it is: were it taken out, a panic in it would lose it for all that follow.
        let Some(call) = &mut self.shared.on_finish else { return };
        let (target, user_agent, referer) = Saved::parts(&saved);
        let status = match exchange.output {
            Output::Unanswered => saved.refused.unwrap_or(0),
            Output::Stream(_) | Output::Done => exchange.status,
        };
        let record = Record {
            id,
            peer: saved.peer,
            method: exchange.method,
            target,
            version: exchange.version,
            status,
            is_complete: is_sent && exchange.output == Output::Done,
            received_bytes: exchange.body_bytes,
            sent_bytes: exchange.sent_bytes,
            time,
            duration: now.saturating_sub(saved.began),
            user_agent,
            referer,
        };
        if let (Some(durations), true) = (&mut self.shared.durations, record.is_complete) {
            durations.add(record.duration);
        }
        call(self.app, &record);
    }

    /// Gives an answer that comes later; `None` if the exchange is over.
    pub(super) fn answer<R>(
        &mut self,
        state: &mut State<A>,
        conn: &mut Conn<'_>,
        number: u64,
        call: impl FnOnce(&mut A, &mut Response<'_, A>) -> R,
    ) -> Option<R> {
        let exchange = open_exchange(state, number)?;
        self.shared.load(exchange);
        let mut res = Response { conn: conn.reborrow(), shared: self.shared, exchange };
        let result = call(self.app, &mut res);
        self.settle(state, conn);
        Some(result)
    }
}

/// Gives an answer that comes later from within another exchange, whose handler has the
/// application. What follows from it is done when that has returned.
pub(super) fn answer_other<A: 'static, R>(
    shared: &mut Shared<A>,
    state: &mut State<A>,
    conn: &mut Conn<'_>,
    number: u64,
    call: impl FnOnce(&mut Response<'_, A>) -> R,
) -> Option<R> {
    let exchange = open_exchange(state, number)?;
    let key = conn.handler_key::<Server<A>>();
    let id = ReplyId { conn: conn.id(), exchange: number };
    shared.load(exchange);
    shared.is_above = false;
    let result = call(&mut Response { conn: conn.reborrow(), shared, exchange });
    shared.store(exchange);
    state.is_above |= shared.is_above;
    conn.context().post(key, move |server, cx| server.settle_later(cx, id));
    Some(result)
}

/// The exchange of this number, if it is not over.
fn open_exchange<A>(state: &mut State<A>, number: u64) -> Option<&mut Exchange<A>> {
    match &mut state.phase {
        Phase::Busy(exchange) if exchange.number == number && exchange.output != Output::Done => {
            Some(exchange)
        }
        _ => None,
    }
}

/// Goes on with an exchange that was answered from within another.
pub(super) fn settle_later<A: 'static>(
    mut driver: Driver<'_, A>,
    state: &mut State<A>,
    conn: &mut Conn<'_>,
    number: u64,
) {
    let Phase::Busy(exchange) = &mut state.phase else { return };
    if exchange.number == number {
        driver.shared.load(exchange);
        driver.settle(state, conn);
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::http::fuzzing::LIMITS;
    use crate::http::head::{self, KnownHost, MAX_FIELDS};

    #[test]
    fn an_id_of_four_billion_exchanges_ago_finds_nothing() {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let input = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let parsed = head::parse(input, &mut slots, LIMITS, &mut KnownHost::default());
        let (head, _) = parsed.ok().flatten().expect("a head");
        let (old, new) = (7, 7 + (1 << 32));
        let mut state = State::<()>::new();
        state.phase = Phase::Busy(Box::new(Exchange::new(new, &head, true)));
        assert!(open_exchange(&mut state, old).is_none());
        assert!(open_exchange(&mut state, new).is_some());
    }
}
