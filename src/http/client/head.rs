//! The head of an answer, as strict as that of a request.

use crate::http::field_list::FieldList;
use crate::http::fields::members;
use crate::http::head::{FieldSlots, Version, content_length, find_end, has_bare_lf};
use crate::http::method::Method;

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes; 0 if there is no body.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilEnd,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerHead<'a> {
    pub(super) status: u16,
    pub(super) version: Version,
    /// The lines of the fields, as they were sent.
    pub(super) lines: &'a [u8],
    pub(super) fields: FieldList<'a>,
    /// What `Content-Length` says, which need not be the length of the body.
    pub(super) length: Option<u64>,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
}

/// Parses the head at the beginning of the input: the head and its length, or `None` if more of it
/// is to come. `method` is that of the request.
pub(super) fn parse<'a>(
    input: &'a [u8],
    method: Method,
    slots: &'a mut FieldSlots<'a>,
) -> Result<Option<(AnswerHead<'a>, usize)>, &'static str> {
    let config = httparse::ParserConfig::default();
    let mut answer = httparse::Response::new(&mut []);
    let parsed = config.parse_response_with_uninit_headers(&mut answer, input, slots);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            // Each line that is here must end as it should.
            return find_end(input, 0).map(|_| None).map_err(|refusal| refusal.why);
        }
        Err(httparse::Error::TooManyHeaders) => return Err("its head has too many fields"),
        Err(_) => return Err(malformed(input)),
    };
    let (Some(minor), Some(status)) = (answer.version, answer.code) else {
        return Err("its first line is incomplete");
    };
    if status < 100 {
        // Or it would pass as an interim one.
        return Err("its status is none: the first digit is 0");
    }
    let fields: &[httparse::Header<'_>] = answer.headers;
    if has_bare_lf(input, length, fields) {
        return Err("a line of its head ends without CR");
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let (mut close, mut keep) = (false, false);
    let (mut lengths, mut chunked) = (None, false);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("connection") {
            for option in members(field.value) {
                close |= option.eq_ignore_ascii_case(b"close");
                keep |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("content-length") {
            let length = content_length(field.value);
            if length.is_none() || lengths.is_some() {
                return Err("Content-Length is not one decimal number");
            }
            lengths = length;
        } else if is("transfer-encoding") {
            let is_chunked = field.value.eq_ignore_ascii_case(b"chunked");
            if !is_chunked || chunked || version == Version::Http10 {
                return Err("Transfer-Encoding is not exactly chunked");
            }
            chunked = true;
        }
    }
    let is_bodyless = method == Method::Head || status < 200 || status == 204 || status == 304;
    let framing = match (chunked, lengths) {
        (true, Some(_)) => return Err("it has Content-Length and Transfer-Encoding"),
        _ if is_bodyless => Framing::Length(0),
        (true, None) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilEnd,
    };
    let may_go_on = framing != Framing::UntilEnd && !close;
    let keep_alive = may_go_on && (version == Version::Http11 || keep);
    let begin = fields
        .first()
        .map_or(length - 2, |first| first.name.as_ptr() as usize - input.as_ptr() as usize);
    let lines = &input[begin..length - 2];
    let fields = FieldList::Parsed(fields);
    let head = AnswerHead { status, version, lines, fields, length: lengths, framing, keep_alive };
    Ok(Some((head, length)))
}

/// Why an answer that does not begin as one is none.
fn malformed(input: &[u8]) -> &'static str {
    // A server of TLS answers a plain request with an alert.
    match input {
        [0x15, 3, ..] => "it is TLS; encrypt the connection with ConnectOptions::tls",
        _ => "its head is malformed",
    }
}
