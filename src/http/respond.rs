//! What an answer looks like on the wire.

use super::exchange::{Input, Output, Rest};
use super::head::Version;
use super::method::Method;
use super::response::Response;
use super::status::{is_without_body, reason, status_line};
use super::upgrade::Upgraded;
use crate::stream::Written;

/// The digits of the largest length.
const MAX_DIGITS: usize = 20;

/// The digits of a number, from `base` 10 or 16, in the room.
fn digits(mut number: u64, base: u64, room: &mut [u8; MAX_DIGITS]) -> &[u8] {
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

/// Writes a whole answer.
#[inline]
pub(super) fn send<A: 'static>(res: &mut Response<'_, A>, media_type: &str, body: &[u8]) {
    let exchange = &mut *res.exchange;
    exchange.keep_alive = exchange.can_keep_alive();
    exchange.output = Output::Done;
    let status = exchange.status;
    let is_bodyless = is_without_body(status) || status == 304;
    // 304 has the length that 200 would have, which only an answer with a body knows.
    let is_unknown = status == 304 && body.is_empty();
    let has_length = !is_without_body(status) && !is_unknown;
    let sent = if is_bodyless || exchange.method == Method::Head { &b""[..] } else { body };
    exchange.sent_bytes = sent.len() as u64;
    let mut room = [0; MAX_DIGITS];
    let length = [&b"Content-Length: "[..], digits(body.len() as u64, 10, &mut room), b"\r\n"];
    let kind = [&b"Content-Type: "[..], media_type.as_bytes(), b"\r\n"];
    let none = [&b""[..]; 3];
    let length = if has_length { length } else { none };
    let kind = if media_type.is_empty() { none } else { kind };
    write_head(res, &[kind[0], kind[1], kind[2], length[0], length[1], length[2]], sent);
}

/// Writes the head, with these fields behind those of the handler, and the first part of the body.
#[inline]
fn write_head<A: 'static>(res: &mut Response<'_, A>, own: &[&[u8]; 6], body: &[u8]) {
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
    let [a, b, c, d, e, f] = *own;
    let parts = [line.as_bytes(), date, fields, a, b, c, d, e, f, connection, b"\r\n", body];
    let written = res.conn.write_vectored(&parts);
    res.shared.fields.clear();
    note(res, written);
}

/// A piece that was refused leaves an answer that is cut, which must not look whole.
#[inline]
fn note<A>(res: &mut Response<'_, A>, written: Written) {
    match written {
        Written::Below => {}
        Written::Above => res.shared.is_above = true,
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
    send(res, "text/plain; charset=utf-8", b"the server made an answer that cannot be sent\n");
}

/// The answer to a body over the limit.
#[cold]
pub(super) fn too_large<A: 'static>(res: &mut Response<'_, A>) {
    res.shared.fields.clear();
    res.exchange.status = 413;
    let max = res.exchange.max_body_bytes;
    let text = format!("the body may have at most {max} bytes\n");
    send(res, "text/plain; charset=utf-8", text.as_bytes());
}

/// Writes the head of a streamed answer.
pub(super) fn begin<A: 'static>(res: &mut Response<'_, A>, length: Option<u64>) {
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
    let mut room = [0; MAX_DIGITS];
    let own: [&[u8]; 6] = match rest {
        _ if is_without_body(exchange.status) => [b""; 6],
        Rest::Length(length) => {
            let length = digits(length, 10, &mut room);
            [b"Content-Length: ", length, b"\r\n", b"", b"", b""]
        }
        Rest::Chunks => [b"Transfer-Encoding: chunked\r\n", b"", b"", b"", b"", b""],
        Rest::UntilClose | Rest::Nothing => [b""; 6],
    };
    write_head(res, &own, b"");
}

/// Writes a piece of a streamed body.
pub(super) fn write<A: 'static>(res: &mut Response<'_, A>, piece: &[u8]) -> Written {
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
        res.shared.is_above = true;
    }
    written
}

/// Ends a streamed body.
pub(super) fn end<A: 'static>(res: &mut Response<'_, A>) {
    let Output::Stream(rest) = res.exchange.output else {
        log::error!("{}: there is no streamed answer to end", res.id());
        return;
    };
    res.exchange.output = Output::Done;
    res.exchange.on_drain = None;
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
    let protocol = protocol.as_bytes();
    let own = [b"Connection: Upgrade\r\nUpgrade: ", protocol, b"\r\n", b"", b"", b""];
    res.exchange.keep_alive = true;
    write_head(res, &own, b"");
}

/// The answer to a request that is refused: all of it, for a connection that ends.
#[cold]
pub(super) fn refusal_text(status: u16, why: &str, date: &[u8]) -> Vec<u8> {
    let body = format!("{status} {}: {why}\n", reason(status));
    let mut text = status_line(status).unwrap_or("HTTP/1.1 400 Bad Request\r\n").to_owned();
    text.push_str(&String::from_utf8_lossy(date));
    text.push_str("Content-Type: text/plain; charset=utf-8\r\n");
    text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()));
    text.into_bytes()
}
