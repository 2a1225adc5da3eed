//! The head of a request: `httparse` reads it, and a strict pass of our own follows.
//!
//! What `httparse` takes and this room does not: lines that end with LF alone, a target with bytes
//! that must be escaped, lengths and codings that two readers could understand differently.

use std::mem::MaybeUninit;

use super::field_list::FieldList;
use super::fields::{members, trim};
use super::method::Method;
use super::refusal::Refusal;
use super::target::{Target, is_host};

/// Fields that a head may have.
pub(super) const MAX_FIELDS: usize = 100;

/// Empty lines that are skipped before a request: some clients send one behind a body.
const MAX_EMPTY_LINES: usize = 4;

/// The longest method that is called unknown, and not malformed.
const MAX_METHOD_BYTES: usize = 32;

/// Where the fields of a head are parsed to.
pub(super) type FieldSlots<'a> = [MaybeUninit<httparse::Header<'a>>; MAX_FIELDS];

/// The last value of `Host` that was well-formed: the next request is likely to have the same.
#[derive(Debug, Default)]
pub(super) struct KnownHost {
    value: Vec<u8>,
}

impl KnownHost {
    #[inline(always)]
    fn check(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let is_known = !value.is_empty() && value == self.value;
        if is_known { Ok(()) } else { self.check_anew(value) }
    }

    #[inline(never)]
    fn check_anew(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !is_host(value) {
            return Err(Refusal::bad("Host is malformed"));
        }
        self.value.clear();
        self.value.extend_from_slice(value);
        Ok(())
    }
}

/// How large a head may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) head: usize,
    pub(super) target: usize,
}

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// A head, of which every part borrows the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) target: Target<'a>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) fields: FieldList<'a>,
    pub(super) framing: Framing,
    /// Whether the connection may serve another request.
    pub(super) keep_alive: bool,
    /// Whether the client waits for a 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// Whether the body is compressed.
    pub(super) is_encoded: bool,
    /// The protocols that the client would rather speak, if `Connection` names them too.
    pub(super) upgrade: Option<&'a [u8]>,
}

/// What the fields say, as far as the server goes by it.
#[derive(Default)]
struct Facts<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrades: bool,
    upgrade: Option<&'a [u8]>,
    expects_continue: bool,
    expects_other: bool,
    is_encoded: bool,
}

/// Bytes of empty lines before a request; those of a part of one count too.
pub(super) fn skip_empty_lines(input: &[u8]) -> Result<usize, Refusal> {
    let mut at = 0;
    for _ in 0..=MAX_EMPTY_LINES {
        match &input[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [b'\r' | b'\n', _, ..] | [b'\n'] => {
                return Err(Refusal::bad("a line end stands where a request begins"));
            }
            _ => return Ok(at),
        }
    }
    Err(Refusal::bad("too many empty lines before a request"))
}

/// Whether a request that cannot be served asks for the head of an answer only.
#[cold]
pub(super) fn asks_for_head(input: &[u8]) -> bool {
    let skipped = skip_empty_lines(input).unwrap_or(0);
    input[skipped..].starts_with(b"HEAD ")
}

/// Parses a head at the beginning of the input: the head and its length in bytes, or `None` if
/// more of it is still to come.
#[inline(always)]
pub(super) fn parse<'a>(
    input: &'a [u8],
    slots: &'a mut FieldSlots<'a>,
    limits: HeadLimits,
    known_host: &mut KnownHost,
) -> Result<Option<(Head<'a>, usize)>, Refusal> {
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(input, slots) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return check_partial(input, limits).map(|()| None),
        // Which version it is shows when all of it is here.
        Err(httparse::Error::Version) if !input.contains(&b'\n') => {
            return check_partial(input, limits).map(|()| None);
        }
        Err(error) => return Err(explain(error, input)),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(Refusal::bad("the request line is incomplete"));
    };
    if target.len() > limits.target {
        return Err(Refusal::new(414, "the target is too long"));
    }
    if length > limits.head {
        return Err(Refusal::new(431, "the head is too long"));
    }
    if has_bare_lf(input, length, request.headers) {
        return Err(Refusal::bad("a line of the head ends without CR"));
    }
    let Some(method) = Method::from_name(method) else { return Err(unknown_method(method)) };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    if method == Method::Connect {
        return Err(Refusal::new(501, "this server is no proxy"));
    }
    let target = Target::parse(target, method)?;
    let head = check_fields(request.headers, method, version, target, known_host)?;
    Ok(Some((head, length)))
}

/// The end of the head, if it is in the input, of which the first `searched` bytes have no end.
/// Every line that is here ends as it should.
pub(super) fn find_end(input: &[u8], searched: usize) -> Result<Option<usize>, Refusal> {
    let mut at = searched.min(input.len()).saturating_sub(1); // it may have ended within CR LF
    while let Some(found) = input[at..].iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        at += found;
        match (input[at], input.get(at + 1)) {
            (b'\r', Some(b'\n')) => at += 2,
            (b'\r', None) => return Ok(None),
            (b'\r', Some(_)) => return Err(Refusal::bad("a line of the head ends without LF")),
            _ if at > 0 && input[at - 1] == b'\r' => at += 1,
            _ => return Err(Refusal::bad("a line of the head ends without CR")),
        }
        if input[..at].ends_with(b"\r\n\r\n") {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether the part of a head that is here is still within the limits.
#[cold]
pub(super) fn check_partial(input: &[u8], limits: HeadLimits) -> Result<(), Refusal> {
    // The method, the version and the spaces between them stand beside the target.
    let max_line = limits.target.saturating_add(MAX_METHOD_BYTES + 12);
    if input.len() > max_line && !input[..max_line].contains(&b'\n') {
        return Err(Refusal::new(414, "the target is too long"));
    }
    if input.len() > limits.head {
        return Err(Refusal::new(431, "the head is too long"));
    }
    Ok(())
}

/// Whether a line of the head ends with LF alone. Each field begins where the line before it has
/// ended, so that a look behind each beginning is enough.
#[inline(always)]
pub(super) fn has_bare_lf(input: &[u8], length: usize, fields: &[httparse::Header<'_>]) -> bool {
    let begin = input.as_ptr() as usize;
    let is_bare = |field: &httparse::Header<'_>| {
        let at = field.name.as_ptr() as usize - begin;
        !matches!(input.get(at.wrapping_sub(2)), Some(b'\r'))
    };
    fields.iter().any(is_bare) || !input[..length].ends_with(b"\r\n\r\n")
}

#[cold]
fn unknown_method(method: &str) -> Refusal {
    if method.len() > MAX_METHOD_BYTES {
        Refusal::bad("the method is too long")
    } else {
        Refusal::new(501, "the method is not known here")
    }
}

#[cold]
fn explain(error: httparse::Error, input: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, "the head has too many fields"),
        httparse::Error::Version if has_other_version(input) => {
            Refusal::new(505, "this server speaks HTTP/1.1 and HTTP/1.0")
        }
        httparse::Error::Version => Refusal::bad("the version is malformed"),
        httparse::Error::HeaderName => Refusal::bad("the name of a field is malformed"),
        httparse::Error::HeaderValue => Refusal::bad("the value of a field is malformed"),
        httparse::Error::NewLine => Refusal::bad("a line of the head does not end with CR LF"),
        _ => Refusal::bad("the request line is malformed"),
    }
}

/// Whether the request line ends with a version that is well-formed, and not ours.
fn has_other_version(input: &[u8]) -> bool {
    let line = input.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    let is_other = |major: u8, minor: u8| (major, minor) >= (b'1', b'2') && minor.is_ascii_digit();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor]
        if is_other(*major, *minor))
}

#[inline(always)]
fn check_fields<'a>(
    fields: &'a [httparse::Header<'a>],
    method: Method,
    version: Version,
    target: Target<'a>,
    known_host: &mut KnownHost,
) -> Result<Head<'a>, Refusal> {
    let mut facts = Facts::default();
    for field in fields {
        note(field, &mut facts, version)?;
    }
    let framing = match (facts.is_chunked, facts.length) {
        (true, Some(_)) => {
            return Err(Refusal::bad("a request has Content-Length and Transfer-Encoding"));
        }
        (true, None) => Framing::Chunked,
        (false, None | Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
    };
    let host = check_host(facts.host, version, &target, known_host)?;
    let is_11 = version == Version::Http11;
    if is_11 && facts.expects_other && framing != Framing::None {
        return Err(Refusal::new(417, "the expectation is not known here"));
    }
    Ok(Head {
        method,
        version,
        target,
        host,
        fields: FieldList::Parsed(fields),
        framing,
        keep_alive: !facts.close && (is_11 || facts.keep_alive),
        expects_continue: is_11 && facts.expects_continue && framing != Framing::None,
        is_encoded: facts.is_encoded,
        upgrade: if is_11 && facts.upgrades { facts.upgrade } else { None },
    })
}

/// Notes what a field says. The length of the name tells nearly all that do not matter apart.
#[inline(always)]
fn note<'a>(
    field: &httparse::Header<'a>,
    facts: &mut Facts<'a>,
    version: Version,
) -> Result<(), Refusal> {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    match field.name.len() {
        4 if field.name == "Host" || is("host") => note_host(field.value, facts)?,
        6 if is("expect") => {
            let is_continue = field.value.eq_ignore_ascii_case(b"100-continue");
            facts.expects_continue |= is_continue;
            facts.expects_other |= !is_continue;
        }
        7 if is("upgrade") => facts.upgrade = Some(field.value),
        10 if is("connection") => note_connection(field.value, facts),
        14 if is("content-length") => {
            let length = content_length(field.value);
            if length.is_none() || facts.length.is_some() {
                return Err(Refusal::bad("Content-Length is not one decimal number"));
            }
            facts.length = length;
        }
        16 if is("content-encoding") => {
            facts.is_encoded |= !field.value.eq_ignore_ascii_case(b"identity");
        }
        17 if is("transfer-encoding") => {
            if version == Version::Http10 || facts.is_chunked {
                return Err(Refusal::bad("Transfer-Encoding has no place here"));
            }
            check_coding(field.value)?;
            facts.is_chunked = true;
        }
        _ => {}
    }
    Ok(())
}

#[inline]
fn note_host<'a>(value: &'a [u8], facts: &mut Facts<'a>) -> Result<(), Refusal> {
    match facts.host.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::bad("a request has two fields Host")),
    }
}

fn note_connection(value: &[u8], facts: &mut Facts<'_>) {
    // As nearly all clients have it.
    match value {
        b"keep-alive" => return facts.keep_alive = true,
        b"close" => return facts.close = true,
        _ => {}
    }
    for option in members(value) {
        facts.close |= option.eq_ignore_ascii_case(b"close");
        facts.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        facts.upgrades |= option.eq_ignore_ascii_case(b"upgrade");
    }
}

/// A length of digits without sign, list or leading zero, below 10^19.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let is_plain = value.iter().all(u8::is_ascii_digit);
    let is_shortest = value.len() <= 19 && (value == b"0" || !value.starts_with(b"0"));
    if value.is_empty() || !is_plain || !is_shortest {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Whether it is exactly `chunked`. Whatever else two readers could take for it is malformed.
fn check_coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|&byte| byte == b',').map(trim);
    let is_known = |coding: &[u8]| {
        [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress", b"br"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(coding))
    };
    let ends_chunked = codings.next_back().is_some_and(|c| c.eq_ignore_ascii_case(b"chunked"));
    let mut others = codings.peekable();
    if ends_chunked && others.peek().is_some() && others.all(is_known) {
        return Err(Refusal::new(501, "only the transfer coding chunked is known here"));
    }
    Err(Refusal::bad("Transfer-Encoding is not exactly chunked"))
}

#[inline(always)]
fn check_host<'a>(
    host: Option<&'a [u8]>,
    version: Version,
    target: &Target<'a>,
    known_host: &mut KnownHost,
) -> Result<Option<&'a [u8]>, Refusal> {
    let Some(value) = host else {
        if version == Version::Http11 {
            return Err(Refusal::bad("a request of HTTP/1.1 has no Host"));
        }
        return Ok(target.authority.map(str::as_bytes));
    };
    known_host.check(value)?;
    match target.authority {
        Some(authority) if !authority.as_bytes().eq_ignore_ascii_case(value) => {
            Err(Refusal::bad("the target and Host name different hosts"))
        }
        Some(authority) => Ok(Some(authority.as_bytes())),
        None => Ok(Some(value)),
    }
}
