//! A request that is to be sent.

use crate::http::fields::{self, InvalidField};
use crate::http::method::Method;

/// A request of a [`Client`](super::Client).
///
/// # Examples
/// ```
/// use waterwheel::http::Call;
/// let call = Call::post("/notes")
///     .header("Content-Type", "application/json")
///     .body(br#"{"text":"hello"}"#.to_vec());
/// # let _ = call;
/// ```
#[derive(Debug)]
pub struct Call {
    pub(super) method: Method,
    target: String,
    /// As they are sent.
    fields: Vec<u8>,
    body: Vec<u8>,
    has_body: bool,
    /// Something that cannot be sent, which the call fails with.
    invalid: Option<InvalidField>,
}

impl Call {
    /// A request of a method for a path and a query, which begin with a slash.
    #[must_use]
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        let target = target.into();
        let is_target = target.starts_with('/') || target == "*";
        let is_clean = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let invalid = (!is_target || !is_clean).then(|| {
            InvalidField::new(&target, "a target is a path that begins with a slash, escaped")
        });
        let has_body = matches!(method, Method::Post | Method::Put | Method::Patch);
        Self { method, target, fields: Vec::new(), body: Vec::new(), has_body, invalid }
    }

    /// GET.
    #[must_use]
    pub fn get(target: impl Into<String>) -> Self {
        Self::new(Method::Get, target)
    }

    /// POST.
    #[must_use]
    pub fn post(target: impl Into<String>) -> Self {
        Self::new(Method::Post, target)
    }

    /// Adds a field. One that cannot be sent fails the call, and nothing is sent.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let refused = name
            .eq_ignore_ascii_case("host")
            .then(|| InvalidField::new(name, "the client sets it: see ClientOptions::host"));
        match refused.map_or_else(|| fields::check(name, value), Err) {
            Ok(()) => {
                for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                    self.fields.extend_from_slice(part);
                }
            }
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.has_body = true;
        self
    }

    /// What cannot be sent of it.
    pub(super) fn take_invalid(&mut self) -> Option<InvalidField> {
        self.invalid.take()
    }

    /// Whether sending it twice does what sending it once does (RFC 9110, 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        !matches!(self.method, Method::Post | Method::Patch | Method::Connect)
    }

    /// The head, as it is sent.
    pub(super) fn head(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.target);
        if self.has_body {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        let mut head = head.into_bytes();
        head.extend_from_slice(&self.fields);
        head.extend_from_slice(b"\r\n");
        head
    }

    pub(super) fn body_bytes(&self) -> &[u8] {
        &self.body
    }
}
