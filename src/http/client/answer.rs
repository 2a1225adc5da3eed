//! What a client gets.

use std::fmt;

use super::error::ClientError;
use crate::base::id::ConnId;
use crate::handler::Context;
use crate::http::Flow;
use crate::http::fields::trim;
use crate::http::head::Version;

/// The answer of a server: its head, and the body if it was collected.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    pub(super) conn: ConnId,
    pub(super) status: u16,
    pub(super) version: Version,
    /// The lines of the fields, as they were sent.
    pub(super) fields: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Fields and body, which may be long and may hold cookies, are told by their lengths.
impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("conn", &self.conn)
            .field("status", &self.status)
            .field("version", &self.version)
            .field("fields", &format_args!("{} bytes", self.fields.len()))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

impl<'a> Answer<'a> {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The version of the protocol.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The connection that it comes in on.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The first field of this name, whatever its case, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let found = self.lines().find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
        std::str::from_utf8(found?.1).ok()
    }

    /// All fields in their order, with names as they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        // A name is a token, which is ASCII.
        self.lines().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// Names and values.
    fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.fields.split(|&byte| byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], trim(&line[colon + 1..])))
        })
    }

    /// The body, if it was collected; empty in [`AnswerReader::on_head`].
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The body as a text. What is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.body)
    }
}

/// Takes an answer as it comes in; see [`Client::stream`](super::Client::stream). The last of the
/// calls is [`on_end`](Self::on_end) or [`on_error`](Self::on_error), exactly one of them.
pub trait AnswerReader: 'static {
    /// The head has come in. Default: nothing.
    fn on_head(&mut self, answer: &Answer<'_>, cx: &mut Context<'_>) {
        let _ = (answer, cx);
    }

    /// A piece of the body, never empty. [`Flow::Pause`] holds the server back:
    /// [`Conn::resume_reading`](crate::Conn::resume_reading) of the answer's
    /// [`conn`](Answer::conn) goes on.
    fn on_chunk(&mut self, chunk: &[u8], cx: &mut Context<'_>) -> Flow;

    /// The answer is complete.
    fn on_end(self: Box<Self>, cx: &mut Context<'_>);

    /// There is no answer, or no more of it.
    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>);
}
