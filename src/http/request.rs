//! A request, lent to a handler.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use super::fields::{Fields, members};
use super::head::{Framing, Head, Version};
use super::method::Method;
use super::params::Values;

/// The head of a request: method, path and fields. A `Request` borrows the input, and so cannot
/// outlive the callback: copy what is needed later.
///
/// # Examples
/// ```
/// use waterwheel::http::{Request, Response};
/// fn greet(_: &mut (), req: &Request<'_>, res: &mut Response<'_, ()>) {
///     let name = req.query_value("name").unwrap_or("nobody".into());
///     let language = req.header("accept-language").unwrap_or("en");
///     res.text(&format!("{name}, {language}, {}\n", req.param("id")));
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Request<'a> {
    head: &'a Head<'a>,
    path: &'a str,
    values: &'a Values<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn new(head: &'a Head<'a>, path: &'a str, values: &'a Values<'a>) -> Self {
        Self { head, path, values }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The version of the protocol.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The path that was routed: escapes are decoded once, dot segments removed. A slash that was
    /// escaped is still `%2F`, because it separates nothing. `*` for `OPTIONS *`.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The target as it was sent: path and query, or a whole URI.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.head.target.raw
    }

    /// The part of the target behind the `?`, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.head.target.query
    }

    /// The first value of this name in the query, decoded: `+` is a space. Bytes that are not UTF-8
    /// become replacement characters.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_pairs().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The pairs of the query in their order, decoded as [`query_value`](Self::query_value) does.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let pairs = self.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
    }

    /// The part of the path that matched `{name}` or `{*name}` of the route; empty if the route has
    /// no such parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> &'a str {
        self.values.get(name, self.path)
    }

    /// Host and port that the client asks for, from the target or from the field `Host`.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        // What was checked is ASCII.
        std::str::from_utf8(self.head.host?).ok()
    }

    /// The value of the first header field of this name, if it is UTF-8. Upper and lower case of
    /// the name are the same.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.header_bytes(name)?).ok()
    }

    /// The value of the first header field of this name. Upper and lower case of the name are the
    /// same. Bytes above ASCII may be of any encoding.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.headers();
        headers.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    /// All fields in their order, with names as they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.head.fields.iter()
    }

    /// Copies the fields for which `passes`, called with name and value, returns `true`, to send
    /// them with another message. Some fields are never copied: see [`Fields`].
    pub fn fields(&self, passes: impl FnMut(&str, &[u8]) -> bool) -> Fields {
        Fields::of(self.headers(), passes)
    }

    /// Whether the list in a field has this member; upper and lower case are the same. Several
    /// fields of the same name are one list.
    #[must_use]
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.headers().filter(|(key, _)| key.eq_ignore_ascii_case(name)).any(|(_, value)| {
            members(value).any(|found| found.eq_ignore_ascii_case(member.as_bytes()))
        })
    }

    /// Whether a body follows. It is read only if the handler asks for it, with
    /// [`Response::receive`](super::Response::receive) or
    /// [`Response::collect`](super::Response::collect).
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.head.framing != Framing::None
    }

    /// The length of the body in bytes, if the client has said it. 0 if there is none.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        match self.head.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }

    /// Whether the client asks to switch to this protocol
    /// ([`Response::upgrade`](super::Response::upgrade)).
    #[must_use]
    pub fn wants_upgrade(&self, protocol: &str) -> bool {
        let mut offered = members(self.head.upgrade.unwrap_or_default());
        offered.any(|name| name.eq_ignore_ascii_case(protocol.as_bytes()))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Request");
        text.field("method", &self.method()).field("target", &self.target());
        text.field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Decodes a name or a value of a query.
fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}
