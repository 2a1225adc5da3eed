//! Answers that are compressed as they are made; `stream` has those in pieces.

mod stream;

use std::rc::Rc;

use flate2::{Compress, Compression, FlushCompress, Status};

use self::stream::Packer;
pub(super) use self::stream::{begin, end, flush, write};
use super::fields::{members, trim};
use super::request::Request;
use super::respond::{self, Kind};
use super::response::Response;
use super::router::{Next, Router};
use super::status::is_without_body;

/// What is compressed by default: text that is not compressed already.
const TYPES: [&str; 7] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/javascript",
    "application/javascript",
    "application/json",
    "image/svg+xml",
];

/// The base two logarithm of the window: the largest.
const WINDOW_BITS: u8 = 15;

/// More than a stream adds to a body that cannot be compressed, in bytes: its header and end, and
/// five for each block of 16 KiB or less.
const OVERHEAD_BYTES: usize = 64;

/// Room that is kept for what the next answer becomes, in bytes: that of one of the default size.
const KEPT_BYTES: usize = 256 << 10;

/// Compresses answers of a router with gzip as they are made, for clients that accept it: text
/// whose whole body is known, and with [`streams`](Self::streams) answers in pieces, too.
///
/// Do not mix a secret with text that a client chooses in such an answer, because its length
/// reveals how similar they are (BREACH). So this is for the routers that ask for it, by
/// [`Router::gzip`].
///
/// Streams of events are never compressed, so that no event is held back; nor are a 206, an answer
/// with `Content-Encoding` or `Cache-Control: no-transform`, and what would not become smaller. All
/// that may be compressed say `Vary: Accept-Encoding`, and so does each 304, whose type is not
/// known. A strong tag becomes a weak one, that of a 304 if the client asks by a weak one. HEAD has
/// the fields of GET. Files have their copies made once instead: see `Files`.
///
/// # Examples
/// ```
/// use waterwheel::http::{Gzip, Router};
/// let api: Router<()> = Router::new()
///     .get("/list", |_, _, res| res.json_bytes(b"[]"))
///     .gzip(Gzip::new().min_bytes(2_000));
/// let routes = Router::new().nest("/api", api);
/// # let _ = routes;
/// ```
#[derive(Clone, Debug)]
pub struct Gzip {
    level: u32,
    min_bytes: usize,
    max_bytes: usize,
    types: Vec<String>,
    streams: bool,
}

impl Default for Gzip {
    fn default() -> Self {
        Self::new()
    }
}

impl Gzip {
    /// The fastest level, for text, pages, scripts, JSON and drawings, of 1 KiB to 256 KiB.
    #[must_use]
    pub fn new() -> Self {
        let types = TYPES.map(str::to_owned).to_vec();
        Self { level: 1, min_bytes: 1 << 10, max_bytes: 256 << 10, types, streams: false }
    }

    /// From 1, the fastest, to 9, the smallest. Default 1.
    ///
    /// # Panics
    /// If it is another number.
    #[must_use]
    pub fn level(mut self, level: u32) -> Self {
        assert!((1..=9).contains(&level), "the level is from 1 to 9, not {level}");
        self.level = level;
        self
    }

    /// The smallest body that is compressed, in bytes. Default 1 KiB: less fits a packet anyway.
    #[must_use]
    pub fn min_bytes(mut self, bytes: usize) -> Self {
        self.min_bytes = bytes;
        self
    }

    /// The largest body that is compressed, in bytes. Default 256 KiB: that takes about a
    /// millisecond, in which the loop serves no other connection.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Media types that are compressed, without parameters, instead of the default ones.
    #[must_use]
    pub fn types(mut self, types: &[&str]) -> Self {
        self.types = types.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Whether answers in pieces ([`Response::stream`]) are compressed too, of any length from
    /// [`min_bytes`](Self::min_bytes) on, or of none that was given. Default no.
    ///
    /// The compressor holds back what it is given until it has enough of it: [`Response::flush`]
    /// sends that. It takes about 300 KiB for as long as the answer lasts. Streams of events are
    /// not compressed whatever their types.
    #[must_use]
    pub fn streams(mut self, are_compressed: bool) -> Self {
        self.streams = are_compressed;
        self
    }

    /// Whether an answer of this type and length is one of those that are compressed.
    fn takes(&self, media_type: &str, length: usize) -> bool {
        (self.min_bytes..=self.max_bytes).contains(&length) && self.takes_type(media_type)
    }

    fn takes_type(&self, media_type: &str) -> bool {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        self.types.iter().any(|name| name.eq_ignore_ascii_case(essence))
    }
}

/// Whether and how an answer is compressed.
pub(super) enum Plan {
    /// An answer that may be.
    Offer(Offer),
    /// An answer that is being sent in pieces, through this.
    Packs(Box<Packer>),
}

/// What a client is offered.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    rules: Rc<Gzip>,
    /// Whether the client takes gzip.
    is_accepted: bool,
    /// Whether the client asks by a weak tag whether the answer is another one by now.
    is_by_weak_tag: bool,
}

impl Offer {
    /// Has an answer without the body, a 304, say what that with the body has said, as far as its
    /// type is not known (RFC 9110, 15.4.5).
    fn confirm(&self, fields: &mut Vec<u8>) {
        if is_fixed(fields) {
            return;
        }
        add_vary(fields);
        // Who has a weak tag has it from an answer that was compressed, or from the handler itself.
        if self.is_accepted && self.is_by_weak_tag {
            weaken_tag(fields);
        }
    }
}

impl<A: 'static> Router<A> {
    /// Has the answers of this router and of those nested in it compressed, as far as [`Gzip`]
    /// says. A function of [`before`](Self::before) that was added earlier answers without it.
    ///
    /// # Examples
    /// See [`Gzip`].
    #[must_use]
    pub fn gzip(self, gzip: Gzip) -> Self {
        let rules = Rc::new(gzip);
        self.before(move |_, req, res| {
            let (is_accepted, is_by_weak_tag) = (accepts_gzip(req), asks_by_weak_tag(req));
            let offer = Offer { rules: Rc::clone(&rules), is_accepted, is_by_weak_tag };
            res.exchange.gzip = Some(Plan::Offer(offer));
            Next::Go
        })
    }
}

/// Whether gzip is named with a quality above 0, or everything is.
fn accepts_gzip(req: &Request<'_>) -> bool {
    let mut by_star = None;
    for (name, value) in req.headers() {
        if !name.eq_ignore_ascii_case("accept-encoding") {
            continue;
        }
        for member in members(value) {
            let (coding, quality) = match member.iter().position(|&byte| byte == b';') {
                Some(at) => (trim(&member[..at]), trim(&member[at + 1..])),
                None => (member, &b"q=1"[..]),
            };
            let is_wanted =
                matches!(quality, [b'q' | b'Q', b'=', value @ ..] if is_above_zero(value));
            if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
                return is_wanted;
            }
            if coding == b"*" {
                by_star = Some(is_wanted);
            }
        }
    }
    by_star.unwrap_or(false)
}

/// Whether `If-None-Match` has a weak tag.
fn asks_by_weak_tag(req: &Request<'_>) -> bool {
    let mut tags = req.headers().filter(|(name, _)| name.eq_ignore_ascii_case("if-none-match"));
    tags.any(|(_, value)| value.windows(3).any(|three| three == b"W/\""))
}

/// Whether it is a quality, and not 0 (RFC 9110, 12.4.2).
fn is_above_zero(value: &[u8]) -> bool {
    let digits = match value {
        [b'0' | b'1'] => &[],
        [b'0' | b'1', b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return false,
    };
    let is_one = value.starts_with(b"1");
    let has_digits = digits.iter().any(|&digit| digit != b'0');
    digits.iter().all(u8::is_ascii_digit) && is_one != has_digits
}

/// What the client of an answer that is whole is offered.
#[inline]
pub(super) fn take_offer<A: 'static>(res: &mut Response<'_, A>) -> Option<Offer> {
    match res.exchange.gzip.take()? {
        Plan::Offer(offer) => Some(offer),
        Plan::Packs(_) => None,
    }
}

/// Sends an answer for which compression was asked.
#[cold]
pub(super) fn send<A: 'static>(
    res: &mut Response<'_, A>,
    offer: &Offer,
    kind: Kind<'_>,
    body: &[u8],
) {
    let fields = &mut res.shared.fields;
    let media_type = match &kind {
        Kind::Line(line) => line.trim_start_matches("Content-Type: ").trim_end(),
        Kind::Value(value) => value,
        Kind::None => type_of(fields).unwrap_or_default(),
    };
    let status = res.exchange.status;
    let is_taken = may_pack(status) && offer.rules.takes(media_type, body.len());
    if status == 304 {
        offer.confirm(fields);
    }
    if !is_taken || is_fixed(fields) {
        return respond::send(res, kind, body);
    }
    add_vary(fields);
    let mut compressor = std::mem::take(&mut res.shared.compressor);
    let level = offer.rules.level;
    let packed = if offer.is_accepted { compressor.pack(body, level) } else { None };
    if packed.is_some() {
        weaken_tag(&mut res.shared.fields);
        res.shared.fields.extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    respond::send(res, kind, packed.unwrap_or(body));
    let packed = std::mem::take(&mut compressor.packed);
    compressor.keep(packed);
    res.shared.compressor = compressor;
}

/// The fields that a handler has set: names and values.
fn lines(fields: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((&line[..colon], trim(line[colon + 1..].strip_suffix(b"\r")?)))
    })
}

/// The media type that a handler has set as a field.
fn type_of(fields: &[u8]) -> Option<&str> {
    let (_, value) = lines(fields).find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"))?;
    std::str::from_utf8(value).ok()
}

/// Whether an answer of this status has a body, and all of it.
fn may_pack(status: u16) -> bool {
    !is_without_body(status) && !matches!(status, 206 | 304)
}

/// Whether the body has to stay as it is.
fn is_fixed(fields: &[u8]) -> bool {
    lines(fields).any(|(name, value)| {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let is_kept = |member: &[u8]| member.eq_ignore_ascii_case(b"no-transform");
        is(b"content-encoding")
            || is(b"content-range")
            || is(b"cache-control") && members(value).any(is_kept)
    })
}

/// Says that the answer depends on what the client takes, unless that is said.
fn add_vary(fields: &mut Vec<u8>) {
    let is_said = lines(fields).any(|(name, value)| {
        let says =
            |member: &[u8]| member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding");
        name.eq_ignore_ascii_case(b"vary") && members(value).any(says)
    });
    if !is_said {
        fields.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
}

/// A strong tag is for the bytes as they are sent, which are not those that the handler knew.
fn weaken_tag(fields: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(length) = fields[at..].iter().position(|&byte| byte == b'\n') {
        let line = &fields[at..at + length];
        if line.len() > 5 && line[..5].eq_ignore_ascii_case(b"etag:") {
            let value = line[5..].iter().position(|&byte| !matches!(byte, b' ' | b'\t'));
            let value = at + 5 + value.unwrap_or(0);
            if fields[value] == b'"' {
                fields.splice(value..value, *b"W/");
            }
            return;
        }
        at += length + 1;
    }
}

/// A compressor that is used again, with room for what it makes; about 300 KiB once it was used.
#[derive(Default)]
pub(super) struct Compressor {
    /// With the level that it has.
    compress: Option<(u32, Compress)>,
    packed: Vec<u8>,
}

impl Compressor {
    /// The body in the format gzip; `None` if that is not smaller.
    fn pack(&mut self, body: &[u8], level: u32) -> Option<&[u8]> {
        if !matches!(&self.compress, Some((known, _)) if *known == level) {
            let compress = Compress::new_gzip(Compression::new(level), WINDOW_BITS);
            self.compress = Some((level, compress));
        }
        let (_, compress) = self.compress.as_mut()?;
        compress.reset();
        self.packed.clear();
        self.packed.reserve(body.len() + OVERHEAD_BYTES);
        let status = compress.compress_vec(body, &mut self.packed, FlushCompress::Finish);
        let is_whole = matches!(status, Ok(Status::StreamEnd));
        (is_whole && self.packed.len() < body.len()).then_some(&self.packed)
    }

    /// Keeps room for the next answer, and not all that a large one took.
    fn keep(&mut self, mut packed: Vec<u8>) {
        packed.clear();
        packed.shrink_to(KEPT_BYTES);
        self.packed = packed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quality_of_zero_is_a_refusal() {
        for value in ["1", "1.0", "1.000", "0.1", "0.001", "0.5"] {
            assert!(is_above_zero(value.as_bytes()), "{value}");
        }
        for value in ["0", "0.", "0.000", "1.1", "2", "", "0.0001", "x", "0.x", "-1"] {
            assert!(!is_above_zero(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn what_a_large_answer_took_is_given_back() {
        let mut compressor = Compressor::default();
        let packed = Vec::with_capacity(16 << 20);
        compressor.keep(packed);
        assert!(compressor.packed.capacity() <= KEPT_BYTES);
    }

    #[test]
    fn a_strong_tag_is_weakened() {
        let weak = |text: &str| {
            let mut fields = text.as_bytes().to_vec();
            weaken_tag(&mut fields);
            String::from_utf8(fields).unwrap()
        };
        assert_eq!(weak("A: b\r\nETag: \"x\"\r\nC: d\r\n"), "A: b\r\nETag: W/\"x\"\r\nC: d\r\n");
        assert_eq!(weak("etag: W/\"x\"\r\n"), "etag: W/\"x\"\r\n");
        assert_eq!(weak(""), "");
    }
}
