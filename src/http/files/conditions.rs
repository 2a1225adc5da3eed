//! What a request makes its answer depend on: conditions and a range (RFC 9110, 13 and 14).

use std::ops::Range;
use std::time::SystemTime;

use crate::http::fields::trim;
use crate::http::method::Method;
use crate::http::request::Request;

/// A field that means something only if it is there once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Once<'a> {
    #[default]
    Never,
    Value(&'a [u8]),
    /// More than once: it says nothing.
    Often,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = if *self == Self::Never { Self::Value(value) } else { Self::Often };
    }

    fn value(self) -> Option<&'a str> {
        match self {
            Self::Value(value) => std::str::from_utf8(value).ok(),
            Self::Never | Self::Often => None,
        }
    }
}

/// Which fields there are.
#[derive(Debug, Default)]
pub(super) struct Conditions<'a> {
    has_match: bool,
    has_none_match: bool,
    modified_since: Once<'a>,
    unmodified_since: Once<'a>,
    range: Once<'a>,
    if_range: Once<'a>,
    /// Whether a client says which codings it takes.
    pub(super) has_codings: bool,
    /// Whether any of the others is there.
    is_any: bool,
}

/// What the conditions are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// With its quotes; it is a strong one.
    pub(super) etag: &'a [u8],
    pub(super) modified: SystemTime,
    /// `modified` as it is sent; empty if it is not, and then no field says the same.
    pub(super) last_modified: &'a [u8],
    pub(super) length: u64,
    /// The time of day.
    pub(super) now: SystemTime,
}

impl Facts<'_> {
    /// Whether a field has the date as it is sent, if it is.
    fn is_as_sent(&self, field: Once<'_>) -> bool {
        !self.last_modified.is_empty() && field == Once::Value(self.last_modified)
    }
}

/// What the answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Verdict {
    /// All of it: 200.
    Whole,
    /// A part, not empty: 206.
    Part(Range<u64>),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

impl<'a> Conditions<'a> {
    #[inline]
    pub(super) fn of(req: &Request<'a>) -> Self {
        let mut found = Self::default();
        for (name, value) in req.headers() {
            if matches!(name.len(), 5 | 8 | 13 | 15 | 17 | 19) {
                found.note(name, value);
            }
        }
        found
    }

    fn note(&mut self, name: &str, value: &'a [u8]) {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let is_known = match name.len() {
            5 if is("range") => {
                self.range.add(value);
                true
            }
            8 if is("if-match") => {
                self.has_match = true;
                true
            }
            8 if is("if-range") => {
                self.if_range.add(value);
                true
            }
            13 if is("if-none-match") => {
                self.has_none_match = true;
                true
            }
            15 if is("accept-encoding") => {
                self.has_codings = true;
                false
            }
            17 if is("if-modified-since") => {
                self.modified_since.add(value);
                true
            }
            19 if is("if-unmodified-since") => {
                self.unmodified_since.add(value);
                true
            }
            _ => false,
        };
        self.is_any |= is_known;
    }

    /// What the answer is, by the order of RFC 9110, 13.2.2.
    #[inline]
    pub(super) fn judge<'f>(
        &self,
        req: &Request<'_>,
        facts: impl FnOnce() -> Facts<'f>,
    ) -> Verdict {
        if self.is_any { self.judge_any(req, facts()) } else { Verdict::Whole }
    }

    fn judge_any(&self, req: &Request<'_>, facts: Facts<'_>) -> Verdict {
        if self.has_match {
            if !names(req, "if-match", facts.etag, Compare::Strong) {
                return Verdict::Failed;
            }
        } else if date(self.unmodified_since).is_some_and(|date| is_later(facts.modified, date)) {
            return Verdict::Failed;
        }
        if self.has_none_match {
            if names(req, "if-none-match", facts.etag, Compare::Weak) {
                return Verdict::NotModified;
            }
        } else if self.is_unmodified(&facts) {
            return Verdict::NotModified;
        }
        if req.method() != Method::Get || !self.takes_range(&facts) {
            return Verdict::Whole;
        }
        self.range.value().map_or(Verdict::Whole, |range| judge_range(range, facts.length))
    }

    /// A date in the future is no date that the file had at a time.
    fn is_unmodified(&self, facts: &Facts<'_>) -> bool {
        if facts.is_as_sent(self.modified_since) {
            return true; // nearly all clients send back what they got
        }
        let date = date(self.modified_since).filter(|date| !is_later(*date, facts.now));
        date.is_some_and(|date| !is_later(facts.modified, date))
    }

    /// Whether a range is wanted of what the file is now. Only a strong tag says so, or the date
    /// as it was sent.
    fn takes_range(&self, facts: &Facts<'_>) -> bool {
        match self.if_range {
            Once::Never => true,
            Once::Value(value) => value == facts.etag || facts.is_as_sent(self.if_range),
            Once::Often => false,
        }
    }
}

/// The date of a field; `None` if it is malformed.
fn date(field: Once<'_>) -> Option<SystemTime> {
    httpdate::parse_http_date(field.value()?).ok()
}

/// Whether a time is in a later second than another one.
fn is_later(time: SystemTime, than: SystemTime) -> bool {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
    };
    seconds(time) > seconds(than)
}

/// A single range is taken. Several, and what is malformed or of another unit, are answered whole.
pub(in crate::http) fn judge_range(value: &str, length: u64) -> Verdict {
    let Ok(parsed) = http_range_header::parse_range_header(value) else { return Verdict::Whole };
    if parsed.len() != 1 {
        return Verdict::Whole;
    }
    match parsed.validate(length) {
        Err(_) => Verdict::Unsatisfiable,
        Ok(ranges) => match ranges.first() {
            Some(range) => Verdict::Part(*range.start()..*range.end() + 1),
            None => Verdict::Whole, // the end of nothing
        },
    }
}

/// How tags are compared (RFC 9110, 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// Whether the lists of a field name a tag, or are `*`.
fn names(req: &Request<'_>, field: &str, etag: &[u8], compare: Compare) -> bool {
    let mut fields = req.headers().filter(|(name, _)| name.eq_ignore_ascii_case(field));
    fields.any(|(_, list)| trim(list) == b"*" || has_tag(list, etag, compare))
}

/// Whether a list has a tag. A comma may stand within one, so that the list is walked; what stands
/// behind a malformed member is not looked at.
fn has_tag(mut list: &[u8], etag: &[u8], compare: Compare) -> bool {
    loop {
        list = trim(list);
        while let [b',', rest @ ..] = list {
            list = trim(rest);
        }
        let (is_weak, rest) = match list {
            [b'W', b'/', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let Some(text) = rest.strip_prefix(b"\"") else { return false };
        let Some(end) = text.iter().position(|&byte| byte == b'"') else { return false };
        if rest[..end + 2] == *etag && (compare == Compare::Weak || !is_weak) {
            return true;
        }
        list = trim(&rest[end + 2..]);
        if !list.starts_with(b",") {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_47_a_range_is_one_of_bytes() {
        let part = Verdict::Part;
        for (value, verdict) in [
            ("bytes=0-0", part(0..1)),
            ("BYTES=0-0", part(0..1)),
            ("bytes=5-", part(5..10)),
            ("bytes=-3", part(7..10)),
            ("bytes=-99", part(0..10)),
            ("bytes=0-99999999999999999999999", part(0..10)),
            ("bytes=9-9", part(9..10)),
            ("bytes=10-", Verdict::Unsatisfiable),
            ("bytes=-0", Verdict::Unsatisfiable),
            ("bytes=18446744073709551615-", Verdict::Unsatisfiable),
            ("bytes=0-1,5-6", Verdict::Whole),
            ("bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-", Verdict::Whole),
            ("bytes=5-2", Verdict::Whole),
            ("bytes=", Verdict::Whole),
            ("bytes=-", Verdict::Whole),
            ("bytes=a-b", Verdict::Whole),
            ("bytes=+1-2", Verdict::Whole),
            ("bytes 0-1", Verdict::Whole),
            ("lines=0-1", Verdict::Whole),
            ("", Verdict::Whole),
        ] {
            assert_eq!(judge_range(value, 10), verdict, "{value}");
        }
        assert_eq!(judge_range("bytes=0-", 0), Verdict::Unsatisfiable);
        assert_eq!(judge_range("bytes=-5", 0), Verdict::Whole);
    }

    #[test]
    fn row_48_lists_of_tags() {
        let is = |list: &str, compare| has_tag(list.as_bytes(), b"\"a\"", compare);
        for list in ["\"a\"", " \"b\" , \"a\"", ",,\"a\",", "\"x,\" , \"a\"", "W/\"b\",\"a\""] {
            assert!(is(list, Compare::Strong), "{list}");
        }
        assert!(is("W/\"a\"", Compare::Weak));
        assert!(!is("W/\"a\"", Compare::Strong));
        for list in
            ["", "a", "\"a", "w/\"a\"", "\"A\"", "\"b\" \"a\"", "\"b,\"a\"", "*", "b, \"a\""]
        {
            assert!(!is(list, Compare::Weak), "{list}");
        }
    }
}
