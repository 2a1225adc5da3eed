//! An answer that is collected.

use super::answer::{Answer, AnswerReader};
use super::error::ClientError;
use crate::base::id::ConnId;
use crate::handler::Context;
use crate::http::Flow;
use crate::http::head::Version;

/// What is called with the answer, or why there is none.
type Then = Box<dyn FnOnce(Result<Answer<'_>, ClientError>, &mut Context<'_>)>;

/// Collects an answer.
pub(super) struct Collect {
    max_bytes: usize,
    /// Of the head, once it is there.
    begun: Option<(ConnId, u16, Version)>,
    fields: Vec<u8>,
    body: Vec<u8>,
    is_too_large: bool,
    then: Then,
}

impl Collect {
    pub(super) fn new(max_bytes: usize, then: Then) -> Self {
        let (fields, body) = (Vec::new(), Vec::new());
        Self { max_bytes, begun: None, fields, body, is_too_large: false, then }
    }
}

impl AnswerReader for Collect {
    fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
        self.begun = Some((answer.conn, answer.status, answer.version));
        self.fields.extend_from_slice(answer.fields);
    }

    fn on_chunk(&mut self, chunk: &[u8], _: &mut Context<'_>) -> Flow {
        self.is_too_large |= self.body.len() + chunk.len() > self.max_bytes;
        if !self.is_too_large {
            self.body.extend_from_slice(chunk);
        }
        Flow::More
    }

    fn on_end(self: Box<Self>, cx: &mut Context<'_>) {
        let Self { max_bytes, begun, fields, body, is_too_large, then } = *self;
        match begun {
            Some((conn, status, version)) if !is_too_large => {
                then(Ok(Answer { conn, status, version, fields: &fields, body: &body }), cx);
            }
            _ => then(Err(ClientError::TooLarge(max_bytes)), cx),
        }
    }

    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>) {
        (self.then)(Err(error), cx);
    }
}
