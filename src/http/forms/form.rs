//! Forms that are sent as one text (`application/x-www-form-urlencoded`).

use std::error::Error;
use std::fmt;

use percent_encoding::percent_decode;

use super::multipart::{media_type, refuse};
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::http::response::Response;

/// Pairs of a form. No form of a page has more, and each costs two strings.
const MAX_PAIRS: usize = 1_000;

/// The fields of a form: pairs of a name and a value, in the order of the page.
///
/// # Examples
/// ```
/// use waterwheel::http::Form;
/// let form = Form::parse(b"name=J%C3%BCrgen+K&tag=a&tag=b")?;
/// assert_eq!(form.get("name"), Some("Jürgen K"));
/// assert_eq!(form.get_all("tag").collect::<Vec<_>>(), ["a", "b"]);
/// assert_eq!(form.get("other"), None);
/// # Ok::<(), waterwheel::http::InvalidForm>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Form {
    pairs: Vec<(String, String)>,
}

/// What the fields say may be a password: they are told by their lengths.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_map();
        for (name, value) in &self.pairs {
            text.entry(name, &format_args!("{} bytes", value.len()));
        }
        text.finish()
    }
}

/// A form that cannot be read: see [`Form::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidForm {
    why: &'static str,
}

impl fmt::Display for InvalidForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl Error for InvalidForm {}

impl Form {
    /// Reads a form from the body of a request, or from a query.
    ///
    /// # Errors
    /// - more than 1,000 pairs
    /// - a `%` without two hexadecimal digits behind it
    /// - a name or a value that is not UTF-8 once it is decoded
    pub fn parse(text: &[u8]) -> Result<Self, InvalidForm> {
        let mut pairs = Vec::new();
        for pair in text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(InvalidForm { why: "a form has at most 1,000 pairs" });
            }
            let split = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = match split {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self { pairs })
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// All values of this name, in their order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter_map(move |(key, value)| (key == name).then_some(value))
    }

    /// All pairs, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a pair of a form that was sent in parts.
    pub(super) fn push(&mut self, name: String, value: String) {
        self.pairs.push((name, value));
    }
}

/// Decodes a name or a value: `+` is a space.
fn decode(text: &[u8]) -> Result<String, InvalidForm> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let digits = rest.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(InvalidForm { why: "a form has a % without two hexadecimal digits" });
        }
        rest = &rest[at + 3..];
    }
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let bytes = percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| InvalidForm { why: "a form is not UTF-8" })
}

impl<A: 'static> Response<'_, A> {
    /// Asks for the body, which must be a form of at most `max_bytes`, and calls `then` with its
    /// fields when it is complete.
    ///
    /// | the request | answer |
    /// |---|---|
    /// | is not `application/x-www-form-urlencoded` | 415 |
    /// | is larger | 413 |
    /// | has over 1,000 pairs, a malformed `%`, or is not UTF-8 | 400 |
    ///
    /// For a form with files use [`receive_multipart`](Self::receive_multipart).
    ///
    /// # Examples
    /// ```
    /// use waterwheel::http::Router;
    /// let routes: Router<()> = Router::new().post("/greet", |_, req, res| {
    ///     res.form(req, 4_096, |_, form, res| {
    ///         let name = form.get("name").unwrap_or("nobody");
    ///         res.text(&format!("hello, {name}\n"));
    ///     });
    /// });
    /// # let _ = routes;
    /// ```
    pub fn form(
        &mut self,
        req: &Request<'_>,
        max_bytes: u64,
        then: impl FnOnce(&mut A, &Form, &mut Response<'_, A>) + 'static,
    ) {
        let sent = media_type(req);
        if !sent.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            let why = "the body shall be of the type application/x-www-form-urlencoded";
            return refuse(self, Refusal::new(415, why));
        }
        self.collect(max_bytes, move |app, body, res| match Form::parse(body) {
            Ok(form) => then(app, &form, res),
            Err(error) => refuse(res, Refusal::bad(error.why)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_54_a_form_that_cannot_be_read_is_refused_and_not_mended() {
        for text in ["a=%", "a=%4", "a=%zz", "%=1", "a=%+1", "a=%ff", "%c3=x", "a=%C3%28"] {
            assert!(Form::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Form::parse(b"a=\xff").is_err());
        let many = "a=1&".repeat(MAX_PAIRS);
        assert_eq!(Form::parse(many.as_bytes()).unwrap().pairs().count(), MAX_PAIRS);
        assert!(Form::parse((many + "b").as_bytes()).is_err());
    }

    #[test]
    fn a_form_is_decoded_once() {
        let form = Form::parse(b"&a=%2541&b&=c&d=e=f&+=%2B&&").unwrap();
        let pairs: Vec<_> = form.pairs().collect();
        assert_eq!(pairs, [("a", "%41"), ("b", ""), ("", "c"), ("d", "e=f"), (" ", "+")]);
        assert_eq!(Form::parse(b"").unwrap(), Form::default());
    }
}
