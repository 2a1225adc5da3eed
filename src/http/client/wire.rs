//! The connections of a client: what is written to them, and what comes back.

use std::mem::MaybeUninit;

use super::answer::{Answer, AnswerReader};
use super::call::Body;
use super::error::{CallPhase, ClientError};
use super::head::{self, Framing};
use super::job::{Job, Place, Rest, Sent, left_waiting, require};
use super::known::KnownAnswer;
use super::options::ClientOptions;
use crate::base::close::Deadline;
use crate::handler::{Conn, Context, DeadlineKind};
use crate::http::Flow;
use crate::http::chunk::{ChunkDecoder, Found};
use crate::http::fields::members;
use crate::http::head::{FieldSlots, MAX_FIELDS};
use crate::pool::{AcquireError, Lease, PoolClient, PoolHandle};
use crate::stream::Closed;

/// Answers of the class 1xx that may come before one.
const MAX_INTERIM: u8 = 16;

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

/// What stands at the front of the input.
enum Front<'a> {
    /// A part of a head, or nothing.
    Partial,
    /// So many bytes of a head. The body follows, or another head.
    Head(usize),
    /// A whole answer of so many bytes.
    Whole(Answer<'a>, usize),
}

/// The client, as its pool has it.
pub(super) struct Wire {
    /// What stands behind the target of each request: the version and `Host`.
    host: String,
    options: ClientOptions,
    known: KnownAnswer,
}

impl Wire {
    pub(super) fn new(host: &str, options: ClientOptions) -> Self {
        let host = format!(" HTTP/1.1\r\nHost: {host}\r\n");
        Self { host, options, known: KnownAnswer::default() }
    }

    /// Takes what there is of the body of an answer, behind the `used` bytes of its head; how much
    /// that is, and how it has come on.
    fn read_body(
        job: &mut Job,
        conn: &mut Conn<'_>,
        input: &[u8],
        mut used: usize,
    ) -> Result<(usize, Progress), ClientError> {
        loop {
            let rest = &input[used..];
            let (count, piece) = match &mut job.sent.place {
                Place::Head => return Ok((used, Progress::More)),
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
            let flow = job.reader.on_chunk(piece, &mut conn.context());
            // Behind the last byte of a length nothing would come that ends the pause.
            let is_last = matches!(job.sent.place, Place::Body(Rest::Length(0)));
            if flow == Flow::Pause && !is_last {
                return Ok((used, Progress::Pause));
            }
        }
    }

    /// Reads a head, and tells of it unless the whole answer is here.
    fn read_head<'a>(
        &'a mut self,
        job: &mut Job,
        conn: &mut Conn<'_>,
        input: &'a [u8],
        slots: &'a mut FieldSlots<'a>,
    ) -> Result<Front<'a>, ClientError> {
        let method = job.call.method;
        let Self { known, options, .. } = self;
        let max = options.max_head_bytes;
        let (head, length) = if known.begins(input, method) {
            known.head(input)
        } else {
            let parsed = head::parse(input, method, slots).map_err(ClientError::Malformed)?;
            let Some((head, length)) = parsed.filter(|(_, length)| *length <= max) else {
                if input.len() > max {
                    return Err(ClientError::TooLarge(max));
                }
                return Ok(Front::Partial);
            };
            known.learn(&input[..length], &head, method);
            (head, length)
        };
        let answer = Answer::new(conn.id(), &head);
        if head.status == 101 {
            switch(options, job, conn, &answer)?;
            return Ok(Front::Head(length));
        }
        if head.status < 200 {
            job.sent.interim += 1;
            if job.sent.interim > MAX_INTERIM {
                return Err(ClientError::Malformed("an interim answer that was not asked for"));
            }
            if head.status == 100 && job.sent.is_held {
                conn.set_deadline(DeadlineKind::User, Some(options.answer_timeout));
                job.send_body(conn, options);
            }
            return Ok(Front::Head(length));
        }
        let is_408 = head.status == 408 && !head.keep_alive;
        if is_408 && job.sent.interim == 0 && job.may_retry() {
            job.sent.place = Place::TooLate;
            return Ok(Front::Head(length));
        }
        job.sent.is_begun = true;
        job.sent.keep_alive = head.keep_alive;
        job.sent.place = Place::Body(match head.framing {
            Framing::Length(body) => {
                let end = usize::try_from(body).ok().and_then(|body| length.checked_add(body));
                if let Some(body) = end.and_then(|end| input.get(length..end)) {
                    return Ok(Front::Whole(Answer { body, ..answer }, length + body.len()));
                }
                Rest::Length(body)
            }
            Framing::Chunked => Rest::Chunks(ChunkDecoder::new()),
            Framing::UntilEnd => Rest::UntilEnd,
        });
        job.reader.on_head(&answer, &mut conn.context());
        Ok(Front::Head(length))
    }

    /// The call is over: the connection goes back if it can serve another. `tell` tells of the
    /// answer. Only now is the job taken out of the state: a panic of the program's before this
    /// would lose it, and the reader would never be told.
    fn finish(
        state: &mut Option<Box<Job>>,
        conn: &mut Conn<'_>,
        is_clean: bool,
        desk: &mut PoolHandle<Self>,
        tell: impl FnOnce(Box<dyn AnswerReader>, &mut Context<'_>),
    ) {
        let Some(job) = state.take() else { return };
        // What is left of a body would be taken for the next request.
        let is_sent = job.finish_body();
        let Job { lease, reader, sent, .. } = *job;
        conn.set_deadline(DeadlineKind::User, None);
        if !(sent.keep_alive && is_clean && is_sent) {
            conn.close();
        }
        let mut cx = conn.context();
        if let Some(lease) = lease {
            desk.release(lease, &mut cx);
        }
        tell(reader, &mut cx);
    }

    /// The call has failed: what comes next on its connection may be anything.
    fn fail(state: &mut Option<Box<Job>>, error: ClientError, conn: &mut Conn<'_>) {
        let Some(job) = state.take() else { return };
        job.finish_body();
        let Job { lease, reader, .. } = *job;
        if let Some(lease) = lease {
            lease.discard();
        }
        reader.on_error(error, &mut conn.context());
    }
}

/// The server goes on with another protocol.
fn switch(
    options: &ClientOptions,
    job: &mut Job,
    conn: &mut Conn<'_>,
    answer: &Answer<'_>,
) -> Result<(), ClientError> {
    let Body::Upgrade(upload, _) = &job.call.body else {
        return Err(ClientError::Malformed("it changes to a protocol that was not asked for"));
    };
    let names = |name: &str, wanted: &[u8]| {
        let mut fields = answer.headers().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        fields.any(|(_, value)| members(value).any(|one| one.eq_ignore_ascii_case(wanted)))
    };
    if !names("connection", b"upgrade") || answer.header("upgrade").is_none() {
        return Err(ClientError::Malformed("its 101 does not name the protocol"));
    }
    upload.open(conn.id(), options.answer_timeout);
    job.sent.is_begun = true;
    job.sent.place = Place::Body(Rest::Tunnel);
    job.reader.on_head(answer, &mut conn.context());
    job.go_on(conn);
    Ok(())
}

impl PoolClient for Wire {
    type State = Option<Box<Job>>;
    type Ticket = Box<Job>;

    fn on_acquired(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        lease: Lease,
        job: Box<Job>,
        _: &mut PoolHandle<Self>,
    ) {
        let job = state.insert(job); // where a panic of the closure for the body leaves it
        let is_held = job.call.waits_for_continue();
        job.lease = Some(lease);
        job.sent = Sent::new(is_held);
        let options = &self.options;
        let wait = if is_held { options.continue_timeout } else { options.answer_timeout };
        conn.set_deadline(DeadlineKind::User, Some(wait));
        let (written, has_body) = job.call.send_head(&self.host, conn);
        require(conn, written);
        job.sent.pending_seen = left_waiting(conn);
        if !(is_held || has_body) {
            job.send_body(conn, options);
        }
    }

    fn on_drain(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, _: &mut PoolHandle<Self>) {
        if let Some(job) = state {
            job.go_on(conn);
        }
    }

    fn on_data(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        input: &[u8],
        desk: &mut PoolHandle<Self>,
    ) -> usize {
        let Some(job) = state else { return input.len() };
        job.sent.is_answered = true;
        let mut used = 0;
        while let Place::Head = job.sent.place {
            let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
            match self.read_head(job, conn, &input[used..], &mut slots) {
                Ok(Front::Head(length)) => used += length,
                Ok(Front::Whole(answer, length)) => {
                    // A byte behind the answer belongs to nothing that was asked.
                    let is_clean = used + length == input.len();
                    Self::finish(state, conn, is_clean, desk, |reader, cx| {
                        reader.on_whole(&answer, cx);
                    });
                    return input.len();
                }
                Ok(Front::Partial) => {
                    job.sent.is_begun = used < input.len();
                    return used;
                }
                Err(error) => {
                    Self::fail(state, error, conn);
                    return input.len();
                }
            }
        }
        match Self::read_body(job, conn, input, used) {
            Ok((used, Progress::End)) => {
                let is_clean = used == input.len();
                Self::finish(state, conn, is_clean, desk, |reader, cx| reader.on_end(cx));
                return input.len();
            }
            Ok((_, Progress::TooLate)) => {
                // `on_lost` follows, as if the server had ended the connection without a word.
                job.sent.is_answered = false;
                conn.abort();
            }
            Ok((used, progress)) => {
                let has_clock = !matches!(job.sent.place, Place::Body(Rest::Tunnel));
                let wait = Some(self.options.body_timeout).filter(|_| has_clock);
                // Of a pause too: nothing tells when it ends.
                conn.set_deadline(DeadlineKind::User, wait);
                job.sent.was_paused = matches!(progress, Progress::Pause);
                if job.sent.was_paused {
                    conn.pause_reading();
                }
                return used;
            }
            Err(error) => Self::fail(state, error, conn),
        }
        input.len()
    }

    fn on_eof(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        desk: &mut PoolHandle<Self>,
    ) {
        let is_end = state.as_ref().is_some_and(|job| {
            let is_open_ended =
                matches!(job.sent.place, Place::Body(Rest::UntilEnd | Rest::Tunnel));
            is_open_ended && !conn.is_truncated()
        });
        if is_end {
            Self::finish(state, conn, false, desk, |reader, cx| reader.on_end(cx));
        } else {
            conn.close(); // and `on_lost` follows
        }
    }

    fn on_deadline(
        &mut self,
        state: &mut Self::State,
        conn: &mut Conn<'_>,
        _: DeadlineKind,
        _: &mut PoolHandle<Self>,
    ) -> Deadline {
        let Some(job) = state else { return Deadline::Reset };
        let ClientOptions { answer_timeout, body_timeout, .. } = self.options;
        let pending = conn.pending_bytes();
        let is_uploading = job.is_uploading();
        // Also what has left since: the answer has its time from then on.
        let is_sent_on = pending != job.replace_pending(pending);
        let is_paused = conn.is_paused();
        let was_paused = std::mem::replace(&mut job.sent.was_paused, is_paused);
        let (phase, time) = match job.sent.place {
            Place::Head if job.sent.is_held => {
                // Some servers do not know what is expected (RFC 9110, 10.1.1).
                job.send_body(conn, &self.options);
                return Deadline::Keep(answer_timeout);
            }
            // A body that is slow by the program's making is for the program to end.
            _ if is_sent_on || is_uploading && pending == 0 || is_paused || was_paused => {
                let is_body = matches!(job.sent.place, Place::Body(_));
                return Deadline::Keep(if is_body { body_timeout } else { answer_timeout });
            }
            Place::Head if pending > 0 => (CallPhase::Request, answer_timeout),
            Place::Head => (CallPhase::Head, answer_timeout),
            Place::Body(_) | Place::TooLate => (CallPhase::Body, body_timeout),
        };
        Self::fail(state, ClientError::TimedOut(phase, time), conn);
        Deadline::Reset
    }

    fn on_lost(
        &mut self,
        state: Self::State,
        closed: Closed,
        desk: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        let Some(mut job) = state else { return };
        job.finish_body();
        // What is asked while the reactor stops may never be heard of.
        let may_retry = !job.sent.is_answered && job.may_retry() && !cx.is_stopping();
        drop(job.lease.take());
        if may_retry {
            job.is_retry = true;
            cx.post(desk.handler(), |pool, cx| {
                pool.request(job, cx);
            });
            return;
        }
        let is_cut = job.sent.is_begun && !closed.reason.is_failure();
        let error = if is_cut { ClientError::Cut } else { ClientError::Lost(closed.reason) };
        job.reader.on_error(error, cx);
    }

    fn on_refused(
        &mut self,
        job: Box<Job>,
        error: AcquireError,
        _: &mut PoolHandle<Self>,
        cx: &mut Context<'_>,
    ) {
        job.reader.on_error(ClientError::Connect(error), cx);
    }
}
