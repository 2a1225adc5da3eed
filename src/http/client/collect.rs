//! An answer that is collected.

use super::answer::{Answer, AnswerReader};
use super::call::Call;
use super::error::ClientError;
use crate::base::id::ConnId;
use crate::handler::Context;
use crate::http::Flow;
use crate::http::head::Version;

/// What is called with the answer, or why there is none.
pub(super) type Then = Box<dyn FnOnce(Result<Answer<'_>, ClientError>, &mut Context<'_>)>;

/// Collects an answer.
pub(super) struct Collect {
    max_bytes: usize,
    /// Of the head, once it is there.
    begun: Option<(ConnId, u16, Version)>,
    fields: Vec<u8>,
    body: Vec<u8>,
    is_too_large: bool,
    /// Whether a body in the format gzip is decoded.
    is_decoded: bool,
    then: Then,
}

impl Collect {
    pub(super) fn new(call: &Call, max_bytes: usize, then: Then) -> Self {
        Self {
            max_bytes,
            begun: None,
            fields: Vec::new(),
            body: Vec::new(),
            is_too_large: false,
            is_decoded: call.is_decoded,
            then,
        }
    }

    /// Decodes the body, if that was asked for and it is compressed.
    fn decode(&mut self) -> Result<(), ClientError> {
        let Some((conn, status, version)) = self.begun else { return Ok(()) };
        let answer = Answer { conn, status, version, fields: &self.fields, body: b"" };
        let coding = answer.header("content-encoding").unwrap_or_default();
        let is_gzip = ["gzip", "x-gzip"].iter().any(|name| name.eq_ignore_ascii_case(coding));
        if self.is_decoded && is_gzip && !self.body.is_empty() && !self.is_too_large {
            self.body = super::gunzip::gunzip(&self.body, self.max_bytes)?;
        }
        Ok(())
    }
}

impl AnswerReader for Collect {
    fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
        self.begun = Some((answer.conn, answer.status, answer.version));
        self.fields.extend_from_slice(answer.fields);
    }

    fn on_chunk(&mut self, chunk: &[u8], cx: &mut Context<'_>) -> Flow {
        self.is_too_large |= chunk.len() > self.max_bytes - self.body.len();
        if !self.is_too_large {
            self.body.extend_from_slice(chunk);
        } else if let Some(mut conn) = self.begun.and_then(|(id, ..)| cx.conn(id)) {
            conn.abort(); // the rest may have no end
        }
        Flow::More
    }

    fn on_end(mut self: Box<Self>, cx: &mut Context<'_>) {
        if let Err(error) = self.decode() {
            return (self.then)(Err(error), cx);
        }
        let Self { max_bytes, begun, fields, body, is_too_large, then, .. } = *self;
        match begun {
            Some((conn, status, version)) if !is_too_large => {
                then(Ok(Answer { conn, status, version, fields: &fields, body: &body }), cx);
            }
            _ => then(Err(ClientError::TooLarge(max_bytes)), cx),
        }
    }

    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>) {
        let error = if self.is_too_large { ClientError::TooLarge(self.max_bytes) } else { error };
        (self.then)(Err(error), cx);
    }
}
