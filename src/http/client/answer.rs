//! What a client gets.

use std::fmt;

use super::error::ClientError;
use super::head::AnswerHead;
use crate::base::id::ConnId;
use crate::handler::Context;
use crate::http::Flow;
use crate::http::field_list::FieldList;
use crate::http::fields::Fields;
use crate::http::head::Version;

/// The answer of a server: its head, and the body if it was collected.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    pub(super) conn: ConnId,
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) fields: FieldList<'a>,
    /// Their lines, as they were sent.
    pub(super) lines: &'a [u8],
    /// What `Content-Length` says.
    pub(super) length: Option<u64>,
    pub(super) body: &'a [u8],
}

/// Fields and body, which may be long and may hold cookies, are told by their lengths.
impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("conn", &self.conn)
            .field("status", &self.status)
            .field("version", &self.version)
            .field("fields", &format_args!("{} bytes", self.lines.len()))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

impl<'a> Answer<'a> {
    /// An answer without a body so far.
    pub(super) fn new(conn: ConnId, head: &AnswerHead<'a>) -> Self {
        let AnswerHead { status, version, fields, lines, length, .. } = *head;
        Self { conn, status, version, fields, lines, length, body: b"" }
    }

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

    /// The connection that the answer comes in on.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The value of `Content-Length`, if it is there: the length of the body. An answer to HEAD and
    /// a 304 have no body; for them it is the length that the body of a GET would have.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// The first field of this name, whatever its case, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let found = self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name));
        std::str::from_utf8(found?.1).ok()
    }

    /// All fields in their order, with names as they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields.iter()
    }

    /// The fields that pass, to be sent with another message; see [`Fields`] for those that never
    /// do. `passes` is asked with names and values.
    pub fn fields(&self, passes: impl FnMut(&str, &[u8]) -> bool) -> Fields {
        Fields::of(self.headers(), passes)
    }

    /// The body, if it was collected, and in [`AnswerReader::on_whole`]; empty in
    /// [`AnswerReader::on_head`].
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
/// calls is [`on_end`](Self::on_end), [`on_whole`](Self::on_whole) or [`on_error`](Self::on_error),
/// exactly one of them.
///
/// # Examples
/// Downloads a file. If the connection breaks, another request asks for the rest:
/// ```
/// use std::fs::File;
/// use std::io::{Seek, Write};
/// use waterwheel::Context;
/// use waterwheel::http::{Answer, AnswerReader, Call, Client, ClientError, Flow};
///
/// struct Download {
///     client: Client,
///     file: File,
///     have: u64,
///     tries: u32,
///     is_wanted: bool,
/// }
///
/// impl Download {
///     fn begin(self, cx: &mut Context<'_>) {
///         let mut call = Call::get("/large.iso");
///         if self.have > 0 {
///             call = call.header("Range", format!("bytes={}-", self.have));
///         }
///         self.client.stream(cx, call, self);
///     }
/// }
///
/// impl AnswerReader for Download {
///     fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
///         self.is_wanted = matches!(answer.status(), 200 | 206); // not the text of a 404
///         if answer.status() == 200 {
///             self.have = 0; // the whole file, from its beginning
///             self.is_wanted = self.file.set_len(0).is_ok() && self.file.rewind().is_ok();
///         }
///     }
///
///     fn on_chunk(&mut self, chunk: &[u8], _: &mut Context<'_>) -> Flow {
///         if self.is_wanted {
///             self.is_wanted = self.file.write_all(chunk).is_ok();
///             self.have += chunk.len() as u64; // here a program shows its progress
///         }
///         Flow::More
///     }
///
///     fn on_end(self: Box<Self>, _: &mut Context<'_>) {
///         println!("{} bytes, good: {}", self.have, self.is_wanted);
///     }
///
///     fn on_error(mut self: Box<Self>, error: ClientError, cx: &mut Context<'_>) {
///         eprintln!("at {}: {error}", self.have);
///         self.tries += 1;
///         if self.tries < 5 {
///             self.begin(cx); // may be called from here: the call is over
///         }
///     }
/// }
/// ```
/// The pool bounds how many calls run at once: `PoolOptions::max_open`. The others wait in its
/// queue. To send more calls than `PoolOptions::max_waiters` allows, or calls that may wait longer
/// than `PoolOptions::acquire_timeout`, change these two.
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

    /// The whole answer has come in at once: its head, and its body whose length was known. This is
    /// the only call then. Default: the same calls as for one that comes in parts.
    fn on_whole(mut self: Box<Self>, answer: &Answer<'_>, cx: &mut Context<'_>) {
        self.on_head(&Answer { body: b"", ..*answer }, cx);
        if !answer.body.is_empty() {
            let _ = self.on_chunk(answer.body, cx); // nothing is left to pause
        }
        self.on_end(cx);
    }

    /// There is no answer, or no more of it.
    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>);
}
