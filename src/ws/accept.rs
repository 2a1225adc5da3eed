//! The handshake on a connection that speaks no other HTTP: read, judged and answered in one call.

use std::net::Ipv6Addr;

use httparse::{EMPTY_HEADER, Request, Status};

use crate::handler::Conn;
use crate::ws::handshake::{has_loose_line, values};
use crate::ws::{Accepted, Endpoint};

/// Largest head of a request, and most fields in it: a browser sends some 20 in 1 KiB.
const MAX_HEAD_BYTES: usize = 8 << 10;
const MAX_FIELDS: usize = 64;

/// What has become of a request for a WebSocket that [`Endpoint::accept`] was given.
#[derive(Debug)]
#[non_exhaustive]
pub enum Handshake {
    /// Its head is not all here: leave the input unconsumed, and ask again with more.
    Incomplete,
    /// It was answered with 101. The number is that of its bytes; what stands behind them is for
    /// the session.
    Accepted(Accepted, usize),
    /// It was answered with an error, and the connection is closed.
    Refused,
}

impl Endpoint {
    /// Reads a request for a WebSocket from the front of a connection's input, and answers it: for
    /// a server without routes, or one whose port has another protocol, too. Give it the first
    /// bytes of the connection. No clock runs for the rest of a head: set one, as
    /// [`Limits::message_timeout`](crate::Limits::message_timeout) or a deadline of the connection.
    ///
    /// | the request | the answer |
    /// |---|---|
    /// | asks for a WebSocket, as RFC 6455 says | 101 |
    /// | has a version of WebSocket that is not 13 | 426 |
    /// | comes from a page of another host than `Host`: scheme and port are ignored | 403 |
    /// | offers none of [`Options::protocols`], if there are any | 400 |
    /// | is no HTTP/1.1, has a body, not one `Host` that is a host, over 64 fields or 8 KiB | 400 |
    /// | has a line that does not end with CRLF | 400 |
    ///
    /// [`Options::protocols`]: crate::ws::Options::protocols
    ///
    /// # Examples
    /// An echo of WebSocket alone:
    /// ```
    /// use waterwheel::ws::{self, Endpoint, Handshake, Message, Session, Socket};
    /// use waterwheel::{Closed, Conn, Context, Handler, Peer};
    ///
    /// struct Echo;
    ///
    /// impl ws::Handler for Echo {
    ///     type State = ();
    ///     fn on_message(&mut self, (): &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
    ///         socket.send(message);
    ///     }
    /// }
    ///
    /// struct Server { endpoint: Endpoint, echo: Echo }
    ///
    /// impl Handler for Server {
    ///     type State = Option<Session<()>>;
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<Self::State> { Some(None) }
    ///
    ///     fn on_data(
    ///         &mut self,
    ///         state: &mut Self::State,
    ///         conn: &mut Conn<'_>,
    ///         input: &[u8],
    ///     ) -> usize {
    ///         if let Some(session) = state {
    ///             return session.on_data(&mut self.echo, conn, input);
    ///         }
    ///         match self.endpoint.accept(conn, input) {
    ///             Handshake::Accepted(accepted, length) => {
    ///                 let session = state.insert(accepted.session(()));
    ///                 session.on_open(&mut self.echo, conn);
    ///                 if !conn.is_reading() {
    ///                     return length; // `on_open` has paused or ended it
    ///                 }
    ///                 length + session.on_data(&mut self.echo, conn, &input[length..])
    ///             }
    ///             _ => 0, // the rest is to come, or the connection is closed
    ///         }
    ///     }
    /// #   fn on_close(&mut self, state: Self::State, closed: Closed, cx: &mut Context<'_>) {
    /// #       if let Some(session) = state {
    /// #           session.on_close(&mut self.echo, &closed, cx);
    /// #       }
    /// #   }
    ///     // and so on: each callback of a connection is passed on to the session
    /// }
    /// ```
    pub fn accept(&self, conn: &mut Conn<'_>, input: &[u8]) -> Handshake {
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = Request::new(&mut fields);
        let refused = match request.parse(input) {
            Ok(Status::Partial) if input.len() < MAX_HEAD_BYTES => return Handshake::Incomplete,
            Ok(Status::Complete(length))
                if length <= MAX_HEAD_BYTES && !has_loose_line(&input[..length]) =>
            {
                match self.judge(&request) {
                    Ok(accepted) => {
                        conn.write(b"HTTP/1.1 101 Switching Protocols\r\n");
                        for (name, value) in accepted.fields() {
                            write!(conn, "{name}: {value}\r\n");
                        }
                        conn.write(b"\r\n");
                        return Handshake::Accepted(accepted, length);
                    }
                    Err(refused) => refused,
                }
            }
            _ => "400 Bad Request",
        };
        write!(conn, "HTTP/1.1 {refused}\r\nSec-WebSocket-Version: 13\r\n");
        conn.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n");
        conn.close();
        Handshake::Refused
    }

    /// Checks a request; why it is refused is a status line.
    fn judge(&self, request: &Request<'_, '_>) -> Result<Accepted, &'static str> {
        let fields: Vec<_> = request.headers.iter().map(|it| (it.name, it.value)).collect();
        let (mut hosts, mut origins) = (values(&fields, "host"), values(&fields, "origin"));
        let has_body = ["content-length", "transfer-encoding"]
            .into_iter()
            .any(|name| values(&fields, name).next().is_some());
        let (Some(own), None) = (hosts.next(), hosts.next()) else { return Err("400 Bad Request") };
        if request.version != Some(1) || has_body || !is_host(own) {
            return Err("400 Bad Request");
        }
        if origins.any(|page| !host(page).eq_ignore_ascii_case(host(own))) {
            return Err("403 Forbidden");
        }
        let method = request.method.unwrap_or_default();
        let accepted = self.check(method, &fields).map_err(|refused| match refused.status {
            426 => "426 Upgrade Required",
            _ => "400 Bad Request",
        })?;
        match accepted.lacks_protocol() {
            true => Err("400 Subprotocol Required"),
            false => Ok(accepted),
        }
    }
}

/// The host of a URI or of an authority, without its port.
fn host(text: &[u8]) -> &[u8] {
    let start = text.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    split_port(&text[start..]).0
}

/// An authority, before the colon of its port and from there.
fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    let colon = authority.iter().rposition(|&byte| byte == b':');
    let port = colon.filter(|&at| authority[at + 1..].iter().all(u8::is_ascii_digit));
    authority.split_at(port.unwrap_or(authority.len()))
}

/// Whether it is a host and perhaps a port, as the HTTP server has it, but without escapes: no
/// user, no path, no list, and no empty label but the root at the end.
fn is_host(text: &[u8]) -> bool {
    let (name, port) = split_port(text);
    let number = std::str::from_utf8(port.get(1..).unwrap_or_default());
    let is_port = number.is_ok_and(|text| text.is_empty() || text.parse::<u16>().is_ok());
    if let [b'[', address @ .., b']'] = name {
        let address = std::str::from_utf8(address);
        return is_port && address.is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_~!$&'()*+;=".contains(byte);
    let mut labels = name.strip_suffix(b".").unwrap_or(name).split(|&byte| byte == b'.');
    is_port && labels.all(|label| !label.is_empty() && label.iter().all(is_part))
}

#[cfg(test)]
mod tests {
    use super::{host, is_host};

    #[test]
    fn a_host_is_found_in_uris_and_authorities() {
        for (text, expected) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("https://a.example", "a.example"),
            ("https://a.example:443", "a.example"),
            ("http://[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("null", "null"),
            ("", ""),
        ] {
            assert_eq!(host(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn hosts_are_as_the_http_server_has_them() {
        for good in
            ["a", "a.b:80", "127.0.0.1", "[::1]", "[::1]:443", "a:", "x_y~z", "a.b.", "a:65535"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "a,b",
            "u@h",
            "a/b",
            "a:x",
            "a:65536",
            "a:1:2",
            "a b",
            "[::1",
            "[x]",
            ":80",
            "[::1]x",
            "a\0",
            "a:+1",
            "[::1]:x",
            "\u{e4}",
            "%",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            ".:80",
            "http://a",
            "http://a:80",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
