//! What an answer looks like on the wire.

use super::exchange::{Input, Output, Rest};
use super::gzip;
use super::head::Version;
use super::method::Method;
use super::response::Response;
use super::shared::Shared;
use super::status::{is_without_body, reason, status_line};
use super::upgrade::Upgraded;
use crate::handler::DeadlineKind;
use crate::stream::Written;

/// What a text is.
pub(super) const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";

/// The digits of the largest length.
pub(super) const MAX_DIGITS: usize = 20;

/// The digits of a number, from `base` 10 or 16, in the room.
pub(super) fn digits(mut number: u64, base: u64, room: &mut [u8; MAX_DIGITS]) -> &[u8] {
    let mut at = MAX_DIGITS;
    loop {
        at -= 1;
        room[at] = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
        if number == 0 {
            return &room[at..];
        }
    }
}

/// The field that says whether the connection goes on, where it must be said.
#[inline]
fn connection_field<A>(res: &Response<'_, A>) -> &'static [u8] {
    match (res.exchange.keep_alive, res.exchange.version) {
        (true, Version::Http11) => b"",
        (true, Version::Http10) => b"Connection: keep-alive\r\n",
        (false, _) => b"Connection: close\r\n",
    }
}

/// The field that says what a body is.
pub(super) enum Kind<'a> {
    /// The whole line.
    Line(&'static str),
    /// The value.
    Value(&'a str),
    /// None: there is no body, or the handler says what it is.
    None,
}

/// `Content-Length` and the end of the head, made from the right.
struct Tail {
    bytes: [u8; TAIL_BYTES],
    begin: usize,
}

const LENGTH: &[u8; 16] = b"Content-Length: ";
const TAIL_BYTES: usize = LENGTH.len() + MAX_DIGITS + 4;

impl Tail {
    #[inline]
    fn new(mut length: usize) -> Self {
        let mut bytes = [0; TAIL_BYTES];
        let mut at = TAIL_BYTES - 4;
        bytes[at..].copy_from_slice(b"\r\n\r\n");
        loop {
            at -= 1;
            bytes[at] = b'0' + (length % 10) as u8;
            length /= 10;
            if length == 0 {
                break;
            }
        }
        at -= LENGTH.len();
        bytes[at..at + LENGTH.len()].copy_from_slice(LENGTH);
        Self { bytes, begin: at }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

/// Writes a whole answer.
#[inline]
pub(super) fn send<A: 'static>(res: &mut Response<'_, A>, kind: Kind<'_>, body: &[u8]) {
    if let Some(offer) = gzip::take_offer(res) {
        return gzip::send(res, &offer, kind, body);
    }
    let exchange = &mut *res.exchange;
    exchange.keep_alive = exchange.can_keep_alive();
    exchange.output = Output::Done;
    let is_usual = exchange.status == 200 && exchange.method != Method::Head;
    let kind = match kind {
        Kind::Line(line) if is_usual => line,
        Kind::None if is_usual => "",
        kind => return send_rare(res, &kind, body),
    };
    exchange.sent_bytes = body.len() as u64;
    res.shared.stats.count(200);
    let connection = connection_field(res);
    let cx = res.conn.context();
    let (now, clock) = (cx.now(), || cx.system_time());
    let Shared { date, usual, fields, .. } = &mut *res.shared;
    if fields.is_empty() {
        if let Some(answer) = usual.make((connection, kind), body, (date, now), clock) {
            let written = res.conn.write(answer);
            return note(res, written);
        }
    }
    let head = date.with_ok(now, clock);
    let tail = Tail::new(body.len());
    let parts = [head, fields, connection, kind.as_bytes(), tail.as_slice(), body];
    let written = res.conn.write_vectored(&parts);
    fields.clear();
    note(res, written);
}

/// Writes a whole answer that has something unusual about it.
fn send_rare<A: 'static>(res: &mut Response<'_, A>, kind: &Kind<'_>, body: &[u8]) {
    let exchange = &mut *res.exchange;
    let status = exchange.status;
    let is_bodyless = is_without_body(status) || status == 304;
    // 304 has the length that 200 would have, which only an answer with a body knows.
    let is_unknown = status == 304 && body.is_empty();
    let has_length = !is_without_body(status) && !is_unknown;
    let sent = if is_bodyless || exchange.method == Method::Head { &b""[..] } else { body };
    exchange.sent_bytes = sent.len() as u64;
    let tail = Tail::new(body.len());
    let tail = if has_length { tail.as_slice() } else { b"\r\n" };
    let kind = match *kind {
        Kind::Line(line) => [line.as_bytes(), b"", b""],
        Kind::Value(value) => [&b"Content-Type: "[..], value.as_bytes(), b"\r\n"],
        Kind::None => [&b""[..]; 3],
    };
    write_head(res, &kind, tail, sent);
}

/// Writes the head, with these fields behind those of the handler, and the first part of the body.
pub(super) fn write_head<A: 'static>(
    res: &mut Response<'_, A>,
    own: &[&[u8]; 3],
    tail: &[u8],
    body: &[u8],
) {
    let connection = connection_field(res);
    let status = res.exchange.status;
    res.shared.stats.count(status);
    let cx = res.conn.context();
    let date = res.shared.date.at(cx.now(), || cx.system_time());
    let custom;
    let line = match status_line(status) {
        Some(line) => line,
        None => {
            custom = format!("HTTP/1.1 {status} \r\n");
            &custom
        }
    };
    let fields = &res.shared.fields;
    let [a, b, c] = *own;
    let parts = [line.as_bytes(), date, fields, connection, a, b, c, tail, body];
    let written = res.conn.write_vectored(&parts);
    res.shared.fields.clear();
    note(res, written);
}

/// A piece that was refused leaves an answer that is cut, which must not look whole.
#[inline]
pub(super) fn note<A>(res: &mut Response<'_, A>, written: Written) {
    match written {
        Written::Below => {}
        Written::Above => res.shared.note_above(),
        Written::Full => res.conn.abort(),
        Written::Closed => {}
    }
}

/// The answer of a handler that has set something which cannot be sent.
#[cold]
pub(super) fn fail<A: 'static>(res: &mut Response<'_, A>) {
    res.exchange.is_failed = false;
    res.exchange.status = 500;
    res.shared.fields.clear();
    send(res, Kind::Line(TEXT), b"the server made an answer that cannot be sent\n");
}

/// The answer to a body over the limit.
#[cold]
pub(super) fn too_large<A: 'static>(res: &mut Response<'_, A>) {
    res.shared.fields.clear();
    res.exchange.status = 413;
    let max = res.exchange.max_body_bytes;
    let text = format!("the body may have at most {max} bytes\n");
    send(res, Kind::Line(TEXT), text.as_bytes());
}

/// Writes the head of a streamed answer.
pub(super) fn begin<A: 'static>(res: &mut Response<'_, A>, length: Option<u64>) {
    let length = gzip::begin(res, length);
    let exchange = &mut *res.exchange;
    let is_http_11 = exchange.version == Version::Http11;
    let rest = Rest::new(length, is_http_11);
    // What is being read will have been read by the end of the answer.
    let can_keep_alive =
        if exchange.is_reading { exchange.keep_alive } else { exchange.can_keep_alive() };
    exchange.keep_alive = can_keep_alive && rest != Rest::UntilClose;
    let is_bodyless = is_without_body(exchange.status) || exchange.status == 304;
    let is_dropped = is_bodyless || exchange.method == Method::Head;
    exchange.output = Output::Stream(if is_dropped { Rest::Nothing } else { rest });
    let has_no_body = is_without_body(exchange.status);
    let none = [&b""[..]; 3];
    match rest {
        Rest::Length(length) if !has_no_body => {
            let mut room = [0; MAX_DIGITS];
            let length = [LENGTH, digits(length, 10, &mut room), b"\r\n"];
            write_head(res, &length, b"\r\n", b"");
        }
        Rest::Chunks if !has_no_body => {
            write_head(res, &none, b"Transfer-Encoding: chunked\r\n\r\n", b"");
        }
        _ => write_head(res, &none, b"\r\n", b""),
    }
}

/// Writes a piece of a streamed body.
pub(super) fn write<A: 'static>(res: &mut Response<'_, A>, piece: &[u8]) -> Written {
    gzip::write(res, piece).unwrap_or_else(|| write_piece(res, piece))
}

/// Sends what a compressor holds back of a streamed body.
pub(super) fn flush<A: 'static>(res: &mut Response<'_, A>) -> Written {
    gzip::flush(res).unwrap_or_else(|| write_piece(res, b""))
}

/// Writes a piece as it is sent.
pub(super) fn write_piece<A: 'static>(res: &mut Response<'_, A>, piece: &[u8]) -> Written {
    let count = piece.len() as u64;
    let Output::Stream(rest) = res.exchange.output else {
        log::error!("{}: a piece of a body has no stream to go to", res.id());
        return Written::Closed;
    };
    let mut room = [0; MAX_DIGITS];
    let written = match rest {
        Rest::Nothing => return Written::Below,
        _ if piece.is_empty() => return Written::Below, // an empty chunk would be the last
        Rest::Length(left) if left < count => {
            log::error!("{}: the body is longer than its Content-Length", res.id());
            return Written::Closed;
        }
        Rest::Length(_) | Rest::UntilClose => res.conn.write(piece),
        Rest::Chunks => {
            let size = digits(count, 16, &mut room);
            res.conn.write_vectored(&[size, b"\r\n", piece, b"\r\n"])
        }
    };
    if written.is_accepted() {
        res.exchange.sent_bytes += count;
        if let Rest::Length(left) = rest {
            res.exchange.output = Output::Stream(Rest::Length(left - count));
        }
    }
    if written == Written::Above {
        res.shared.note_above();
    }
    written
}

/// Ends a streamed body.
pub(super) fn end<A: 'static>(res: &mut Response<'_, A>) {
    let Output::Stream(rest) = res.exchange.output else {
        log::error!("{}: there is no streamed answer to end", res.id());
        return;
    };
    if !gzip::end(res) {
        res.exchange.output = Output::Done;
        res.exchange.keep_alive = false;
        return res.conn.abort();
    }
    res.exchange.output = Output::Done;
    res.exchange.on_drain = None;
    if res.exchange.heartbeat.take().is_some() {
        // The next heartbeat may be further than the client may be idle.
        let wait = res.shared.options.keep_alive_timeout;
        res.conn.set_deadline(DeadlineKind::User, Some(wait));
    }
    match rest {
        Rest::Chunks => {
            let written = res.conn.write(b"0\r\n\r\n");
            note(res, written);
        }
        Rest::Length(left) if left > 0 => {
            log::error!("{}: the body is {left} bytes shorter than its Content-Length", res.id());
            res.exchange.keep_alive = false;
            res.conn.abort();
        }
        Rest::Length(_) | Rest::UntilClose | Rest::Nothing => {}
    }
}

/// Writes a 101.
pub(super) fn upgrade<A: 'static>(
    res: &mut Response<'_, A>,
    protocol: &str,
    upgraded: Box<dyn Upgraded<A>>,
) {
    if let Err(error) = super::fields::check("Protocol", protocol.as_bytes()) {
        log::error!("{}: {error}", res.id());
        return fail(res);
    }
    if res.exchange.is_failed {
        return fail(res);
    }
    debug_assert!(matches!(res.exchange.input, Input::None));
    res.exchange.status = 101;
    res.exchange.output = Output::Done;
    res.exchange.upgrade = Some(upgraded);
    res.shared.stats.upgraded += 1;
    res.exchange.keep_alive = true;
    let own = [&b"Connection: Upgrade\r\nUpgrade: "[..], protocol.as_bytes(), b"\r\n"];
    write_head(res, &own, b"\r\n", b"");
}

/// The answer to a request that is refused, for a connection that ends: its head and its body.
#[cold]
pub(super) fn refusal_text(status: u16, why: &str, date: &[u8]) -> (String, String) {
    let body = format!("{status} {}: {why}\n", reason(status));
    let mut text = status_line(status).unwrap_or("HTTP/1.1 400 Bad Request\r\n").to_owned();
    text.push_str(&String::from_utf8_lossy(date));
    text.push_str("Content-Type: text/plain; charset=utf-8\r\n");
    text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    (text, body)
}

/// The answer where no route leads.
#[cold]
pub(super) fn without_route<A: 'static>(path: &str, res: &mut Response<'_, A>) {
    if path == "*" {
        res.header("Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
        res.status(204).empty();
    } else {
        res.status(404).text("there is nothing here\n");
    }
}
