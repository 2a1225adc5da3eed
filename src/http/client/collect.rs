//! An answer that is collected.

use super::answer::{Answer, AnswerReader};
use super::call::Call;
use super::error::ClientError;
use crate::base::id::ConnId;
use crate::handler::Context;
use crate::http::Flow;
use crate::http::field_list::FieldList;
use crate::http::head::Version;

/// Collects an answer, for a closure that gets it, or is told why there is none.
pub(super) struct Collect<F> {
    max_bytes: usize,
    /// Of the head, once it is there.
    begun: Option<Begun>,
    body: Vec<u8>,
    is_too_large: bool,
    /// Whether a body in the format gzip is decoded.
    is_decoded: bool,
    then: F,
}

/// The head of an answer that comes in parts.
struct Begun {
    conn: ConnId,
    status: u16,
    version: Version,
    /// The lines of the fields.
    lines: Vec<u8>,
    length: Option<u64>,
}

impl Begun {
    fn answer<'a>(&'a self, body: &'a [u8]) -> Answer<'a> {
        let Self { conn, status, version, length, .. } = *self;
        let (lines, fields) = (&self.lines[..], FieldList::Lines(&self.lines));
        Answer { conn, status, version, fields, lines, length, body }
    }
}

impl<F> Collect<F>
where
    F: FnOnce(Result<Answer<'_>, ClientError>, &mut Context<'_>) + 'static,
{
    pub(super) fn new(call: &Call, max_bytes: usize, then: F) -> Self {
        Self {
            max_bytes,
            begun: None,
            body: Vec::new(),
            is_too_large: false,
            is_decoded: call.is_decoded,
            then,
        }
    }

    /// Hands an answer over, decoded if that was asked for and it is compressed.
    fn tell(self, answer: Answer<'_>, cx: &mut Context<'_>) {
        if self.is_decoded && !answer.body.is_empty() && super::gunzip::is_gzip(&answer) {
            return match super::gunzip::gunzip(answer.body, self.max_bytes) {
                Ok(body) => (self.then)(Ok(Answer { body: &body, ..answer }), cx),
                Err(error) => (self.then)(Err(error), cx),
            };
        }
        (self.then)(Ok(answer), cx);
    }
}

impl<F> AnswerReader for Collect<F>
where
    F: FnOnce(Result<Answer<'_>, ClientError>, &mut Context<'_>) + 'static,
{
    fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
        let Answer { conn, status, version, length, .. } = *answer;
        let lines = answer.lines.to_vec();
        self.begun = Some(Begun { conn, status, version, lines, length });
    }

    fn on_chunk(&mut self, chunk: &[u8], cx: &mut Context<'_>) -> Flow {
        self.is_too_large |= chunk.len() > self.max_bytes - self.body.len();
        if !self.is_too_large {
            self.body.extend_from_slice(chunk);
        } else if let Some(mut conn) = self.begun.as_ref().and_then(|begun| cx.conn(begun.conn)) {
            conn.abort(); // the rest may have no end
        }
        Flow::More
    }

    fn on_end(mut self: Box<Self>, cx: &mut Context<'_>) {
        match self.begun.take() {
            Some(begun) if !self.is_too_large => {
                let body = std::mem::take(&mut self.body);
                self.tell(begun.answer(&body), cx);
            }
            _ => (self.then)(Err(ClientError::TooLarge(self.max_bytes)), cx),
        }
    }

    fn on_whole(self: Box<Self>, answer: &Answer<'_>, cx: &mut Context<'_>) {
        if answer.body.len() > self.max_bytes {
            return (self.then)(Err(ClientError::TooLarge(self.max_bytes)), cx);
        }
        self.tell(*answer, cx);
    }

    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>) {
        let error = if self.is_too_large { ClientError::TooLarge(self.max_bytes) } else { error };
        (self.then)(Err(error), cx);
    }
}
