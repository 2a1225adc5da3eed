//! A request that is to be sent.

use std::fmt;

use super::upload::{Unsent, Upload};
use crate::handler::{Conn, Context};
use crate::http::fields::{self, Fields, InvalidField};
use crate::http::method::Method;
use crate::http::respond::{MAX_DIGITS, digits};
use crate::stream::Written;

/// What is called when there is room for more of a body.
pub(super) type OnRoom = Box<dyn FnMut(&Upload, &mut Context<'_>)>;

/// What follows the head of a request.
pub(super) enum Body {
    /// Bytes that are known.
    Known(Vec<u8>),
    /// What a closure writes.
    Streamed(Upload, OnRoom),
    /// Nothing, and bytes of another protocol once the server has agreed.
    Upgrade(Upload, OnRoom),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Streamed(upload, _) | Self::Upgrade(upload, _) => upload.fmt(f),
        }
    }
}

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
pub struct Call {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) fields: Fields,
    pub(super) body: Body,
    pub(super) has_body: bool,
    /// Whether the body waits for a 100.
    pub(super) expects_continue: bool,
    /// Whether an answer in the format gzip is decoded.
    pub(super) is_decoded: bool,
    /// Something that cannot be sent, which the call fails with.
    invalid: Option<Box<InvalidField>>,
}

/// What the fields and the body say may be a secret: they are told by their lengths.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("fields", &self.fields)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// A request of a method for a path and a query, which begin with a slash.
    #[must_use]
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        let target = target.into();
        let is_target = target.starts_with('/') || target == "*";
        let is_clean = target
            .bytes()
            .fold(true, |is_clean, byte| is_clean & (byte > b' ') & (byte < 0x7f) & (byte != b'#'));
        let invalid = (!is_target || !is_clean).then(|| {
            let why = "give a path that begins with a slash, with %20 for a space and so on";
            Box::new(InvalidField::target(&target, why))
        });
        let has_body = matches!(method, Method::Post | Method::Put | Method::Patch);
        Self {
            method,
            target,
            fields: Fields::new(),
            body: Body::Known(Vec::new()),
            has_body,
            expects_continue: false,
            is_decoded: false,
            invalid,
        }
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

    /// Adds a header field. If it is malformed, the call fails and nothing is sent.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let refused = match name {
            _ if name.eq_ignore_ascii_case("host") => Some("the client sets it: see ClientOptions"),
            _ if name.eq_ignore_ascii_case("expect") => Some("see Call::expect_continue"),
            _ => None,
        };
        let refused = refused.map(|why| InvalidField::new(name, why));
        match refused.map_or_else(|| fields::check(name, value), Err) {
            Ok(()) => self.fields.push(name, value),
            Err(error) => self.invalid = Some(Box::new(error)),
        }
        self
    }

    /// Adds fields that were checked before, as those of a request that is passed on.
    #[must_use]
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields.append(fields);
        self
    }

    /// Sets the body. With its head it is at most as long as the
    /// [`max_output_bytes`](crate::Limits::max_output_bytes) of the pool's connections allow, 16
    /// MiB by default, or the call fails: what is longer is [streamed](Self::stream_body).
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.leave_upgrade();
        self.body = Body::Known(body.into());
        self.has_body = true;
        self
    }

    /// Sends the body as it is made: the closure is called when the head has been sent, and again
    /// whenever the output has fallen to the low mark of the connection. It writes with
    /// [`Upload::write`] until that returns `Above`, and ends the body with [`Upload::end`]. If
    /// there is nothing to write yet, keep a clone of the [`Upload`] and write later.
    ///
    /// With a length, so many bytes must follow; without one the body is sent in chunks. The
    /// closure is dropped when the call is over, which may be before the end of the body: a server
    /// can answer early. Such a request is never sent a second time.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Written;
    /// use waterwheel::http::Call;
    /// let mut left = 1_000_u32;
    /// let call = Call::post("/numbers").stream_body(None, move |upload, cx| {
    ///     while left > 0 {
    ///         left -= 1;
    ///         if upload.write(cx, format!("{left}\n").as_bytes()) != Written::Below {
    ///             return; // called again when there is room
    ///         }
    ///     }
    ///     upload.end(cx);
    /// });
    /// # let _ = call;
    /// ```
    #[must_use]
    pub fn stream_body(
        mut self,
        length: Option<u64>,
        on_room: impl FnMut(&Upload, &mut Context<'_>) + 'static,
    ) -> Self {
        let unsent = length.map_or(Unsent::Chunks, Unsent::Length);
        self.leave_upgrade();
        self.body = Body::Streamed(Upload::new(unsent), Box::new(on_room));
        self.has_body = true;
        self
    }

    /// Holds the body back until the server asks for it with a 100, gives its answer without it, or
    /// [`continue_timeout`](super::ClientOptions::continue_timeout) has passed. Without a body it
    /// does nothing.
    #[must_use]
    pub fn expect_continue(mut self) -> Self {
        self.expects_continue = true;
        self
    }

    /// Asks the server to go on with another protocol. If it agrees, the answer has the status 101,
    /// and the bytes behind it are handed over like those of a body, by
    /// [`Client::stream`](super::Client::stream); the closure and its [`Upload`] write those of
    /// the other direction. No clock of the client runs from then on. If the server does not agree,
    /// its answer is like any other.
    ///
    /// A call has a body or an upgrade: the last one that is set holds.
    #[must_use]
    pub fn upgrade(
        mut self,
        protocol: &str,
        on_room: impl FnMut(&Upload, &mut Context<'_>) + 'static,
    ) -> Self {
        if let Err(error) = fields::check("Protocol", protocol.as_bytes()) {
            self.invalid = Some(Box::new(error));
            return self;
        }
        self.leave_upgrade();
        self.fields.push("Connection", b"Upgrade");
        self.fields.push("Upgrade", protocol.as_bytes());
        self.body = Body::Upgrade(Upload::new(Unsent::Raw), Box::new(on_room));
        self.has_body = false;
        self
    }

    /// Takes back what an upgrade that does not hold has asked for: a server that agreed would
    /// speak another protocol to a call that has a body.
    fn leave_upgrade(&mut self) {
        if let Body::Upgrade(..) = self.body {
            remove_upgrade(&mut self.fields);
        }
    }

    /// What cannot be sent of it.
    pub(super) fn take_invalid(&mut self) -> Option<InvalidField> {
        self.invalid.take().map(|error| *error)
    }

    /// Whether sending it twice does what sending it once does (RFC 9110, 9.2.2), and it can be
    /// sent twice.
    pub(super) fn is_repeatable(&self) -> bool {
        let is_idempotent = !matches!(self.method, Method::Post | Method::Patch | Method::Connect);
        is_idempotent && matches!(self.body, Body::Known(_))
    }

    /// Whether the body waits for the server's word.
    pub(super) fn waits_for_continue(&self) -> bool {
        let has_bytes = match &self.body {
            Body::Known(bytes) => !bytes.is_empty(),
            Body::Streamed(upload, _) => upload.unsent() != Unsent::Length(0),
            Body::Upgrade(..) => false,
        };
        self.expects_continue && has_bytes
    }

    /// Sends the head, and with it a body that is known and need not wait. `host` is what stands
    /// behind the target. Also whether the body was sent.
    pub(super) fn send_head(&self, host: &str, conn: &mut Conn<'_>) -> (Written, bool) {
        let is_held = self.waits_for_continue();
        let (body, has_body) = match &self.body {
            Body::Known(bytes) if !is_held => (&bytes[..], true),
            _ => (&b""[..], false),
        };
        let (method, target) = (self.method.name().as_bytes(), self.target.as_bytes());
        let (host, fields) = (host.as_bytes(), self.fields.lines());
        if !self.has_body {
            let parts = [method, b" ", target, host, fields, b"\r\n"];
            return (conn.write_vectored(&parts), has_body);
        }
        let mut room = [0; MAX_DIGITS];
        let framing = match &self.body {
            Body::Known(bytes) => length_field(bytes.len() as u64, &mut room),
            Body::Streamed(upload, _) | Body::Upgrade(upload, _) => match upload.unsent() {
                Unsent::Length(length) => length_field(length, &mut room),
                Unsent::Chunks | Unsent::Raw => [&b"Transfer-Encoding: chunked\r\n"[..], b"", b""],
            },
        };
        let [a, b, c] = framing;
        let expect = if is_held { &b"Expect: 100-continue\r\n"[..] } else { b"" };
        let parts = [method, b" ", target, host, a, b, c, expect, fields, b"\r\n", body];
        (conn.write_vectored(&parts), has_body)
    }
}

/// Removes the fields that ask for another protocol: no other call has them.
pub(super) fn remove_upgrade(fields: &mut Fields) {
    let own = ["connection", "upgrade"];
    fields.remove(|name| own.iter().any(|own| own.eq_ignore_ascii_case(name)));
}

/// The field of a length.
fn length_field(length: u64, room: &mut [u8; MAX_DIGITS]) -> [&[u8]; 3] {
    [b"Content-Length: ", digits(length, 10, room), b"\r\n"]
}
